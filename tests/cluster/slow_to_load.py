"""A module that takes its time to be loaded, as TensorFlow does: longer than a node needs for anything else, also on a
busy machine. In many steps, as that: a signal that comes just before a call into the system is heeded after it.
"""

import time

for _ in range(200):
    time.sleep(0.05)
