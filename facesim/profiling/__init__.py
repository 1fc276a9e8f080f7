"""What was measured of an experiment on this machine, with the code that trains: the profile that is forecast from.

`profile` reads top to bottom: what is measured, in which processes, and what becomes of it. The other modules are what
these processes run (`computing`, `serving`, `parts`, `summing`), how they are started (`stages`) and the arithmetic
(`fits`), which needs no TensorFlow.
"""
