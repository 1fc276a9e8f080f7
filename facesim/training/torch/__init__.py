"""Training with PyTorch, for which Keras builds the networks: the step, optimiser and evaluation that its strategies
share, one module a strategy.
"""
