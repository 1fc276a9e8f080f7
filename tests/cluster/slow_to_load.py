"""A module that takes its time to be loaded, as TensorFlow does."""

import time

time.sleep(0.5)
