"""facesim: the same face-recognition training on one machine and on a cluster, measured and compared honestly."""

__version__ = "0.1.0"
