"""How replicas train. What is here knows no framework: what passes between it and a framework are NumPy arrays.

protocols           what a framework provides: replicas, an evaluator, the input
task                a training task from its arguments to its end; context: its job, its data, where it records
loop                epochs of updates, evaluations between, the outcome last
batches             which examples make up which update
order               in which order asynchronous workers made updates
train_state         how far a training has come
checkpoints         files to continue from; checkpoint_manager: when they are written, and what from
outcome             what a task found and counted
placement, ring     which server holds which piece of a parameter; sums over processes, in a ring
tensorflow/         the framework that comes with facesim: one module a strategy

`facesim.spec.strategies` names the strategies without importing a framework.
"""
