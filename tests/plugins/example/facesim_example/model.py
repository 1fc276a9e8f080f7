"""A network. Keras is imported only where the network is built."""

from facesim.models import Model

TINY_CNN = Model("facesim_example.layers:features", "2 convolutions, for trying things out", lambda image_size: 32)
