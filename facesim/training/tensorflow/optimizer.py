"""Adam for several workers at once: each update counted exactly, and applied as one kernel a variable, where the
variable is.

Keras 3's own Adam computes an update from some ten reads and writes of each variable, and counts updates with
`assign(self + 1)`. With asynchronous workers the first moves every moment over the network several times and lets
updates tear each other; the second loses counts, and with them the bias correction and any learning-rate schedule.
"""

import keras
import tensorflow as tf

from facesim.training.keras.optimizer import decays
from facesim.training.tensorflow.partition import pieces


class FusedAdam(keras.optimizers.Adam):
    """`keras.optimizers.Adam` (Kingma and Ba, 2015) with atomic updates. `iterations` is the parameters' version.

    `weight_decay` is decoupled from the gradient (AdamW, Loshchilov and Hutter, 2019), and for kernels only: biases,
    normalisation and slopes have no reason to be near zero.
    """

    def apply(self, grads, trainable_variables=None):
        """Apply one gradient a variable, or a piece of one, and return the update's number, int64 (), from 0.

        A gradient of less precision than its variable is widened where the variable is, unless its norm is asked for.

        The number is taken from `iterations` by an atomic fetch-and-add, so concurrent updates have distinct ones,
        without gaps. The bias correction and the schedule use it.
        """
        variables = self._trainable_variables if trainable_variables is None else trainable_variables
        with tf.control_dependencies(grads):  # a gradient's number is its place in the order of application
            number = tf.raw_ops.ResourceCountUpTo(resource=self.iterations.value.handle, limit=tf.int64.max, T=tf.int64)
        schedule = self._learning_rate
        rate = schedule(number) if isinstance(schedule, keras.optimizers.schedules.LearningRateSchedule) else schedule
        rate = tf.convert_to_tensor(rate)
        power = tf.cast(number + 1, tf.float32)
        beta1_power, beta2_power = tf.pow(self.beta_1, power), tf.pow(self.beta_2, power)
        decaying = [bool(self.weight_decay) and decays(variable) for variable in variables for _ in pieces([variable])]
        indices = [self._get_variable_index(variable) for variable in variables]
        momentums = pieces(self._momentums[index] for index in indices)
        velocities = pieces(self._velocities[index] for index in indices)
        if self.global_clipnorm:
            grads = [tf.cast(gradient, tf.float32) for gradient in grads]
        gradients = self._clip_gradients(grads)
        for gradient, piece, momentum, velocity, decay in zip(
            gradients, pieces(variables), momentums, velocities, decaying, strict=True
        ):
            if decay:
                _shrink(piece, rate * self.weight_decay)
            tf.raw_ops.ResourceApplyAdam(
                var=piece.handle,
                m=momentum.handle,
                v=velocity.handle,
                beta1_power=beta1_power,
                beta2_power=beta2_power,
                lr=rate,
                beta1=self.beta_1,
                beta2=self.beta_2,
                epsilon=self.epsilon,
                grad=_widened(gradient, piece),
                use_locking=True,
            )
        return number


def _widened(gradient: tf.Tensor, variable: tf.Variable) -> tf.Tensor:
    """A gradient as its variable's dtype, on the device that holds it."""
    if gradient.dtype == variable.dtype:
        return gradient
    with tf.device(variable.device):
        return tf.cast(gradient, variable.dtype)


def _shrink(variable: tf.Variable, share: tf.Tensor) -> None:
    """Take `share` () of a variable away from it, on the device that holds it: only the share is sent there."""
    with tf.device(variable.device):
        value = tf.raw_ops.ReadVariableOp(resource=variable.handle, dtype=variable.dtype)
        tf.raw_ops.AssignSubVariableOp(resource=variable.handle, value=share * value)
