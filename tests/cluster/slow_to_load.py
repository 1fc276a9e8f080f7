"""A module that takes its time to be loaded, as TensorFlow does: longer than a node needs for anything else, also on a
busy machine.
"""

import time

time.sleep(10.0)
