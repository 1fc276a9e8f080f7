"""Training with TensorFlow: the step, optimiser, input and evaluation that its strategies share, one module a strategy.

The one part of `facesim.training` that imports a framework.
"""
