"""How replicas train: one module a strategy, and what all of them share (step, optimiser, batches, loop, evaluation).

`facesim.spec.strategies` names the strategies without importing a framework.
"""
