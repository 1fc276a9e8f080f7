"""Loads TensorFlow and Keras without what Keras would wrap, accept or draw with if it is there: a fifth of the time.

A node loads this first. Who needs one of those packages imports it as ever.
"""

import sys

from facesim.models.framework import load_keras

_NOT_NEEDED = {"sklearn", "pandas", "matplotlib"} - sys.modules.keys()

for _name in _NOT_NEEDED:
    sys.modules[_name] = None  # type: ignore[assignment]  what Python takes for "there is none"
try:
    load_keras()  # before TensorFlow, which imports Keras, too
    import tensorflow  # noqa: F401
finally:
    for _name in _NOT_NEEDED:
        del sys.modules[_name]
