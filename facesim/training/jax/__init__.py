"""Training with JAX, for which Keras builds the networks: the compiled step, evaluation and sums that its strategies
share, one module a strategy.
"""
