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
        without gaps. The bias correction and the schedule use it. It is taken when all gradients have arrived where
        their variables are, and they are applied at once: so it is an update's place in the order of application
        however long gradients are under way, and it need not cross the network before they are applied.
        """
        variables = self._trainable_variables if trainable_variables is None else trainable_variables
        decaying = [bool(self.weight_decay) and decays(variable) for variable in variables for _ in pieces([variable])]
        indices = [self._get_variable_index(variable) for variable in variables]
        momentums = pieces(self._momentums[index] for index in indices)
        velocities = pieces(self._velocities[index] for index in indices)
        if self.global_clipnorm:
            grads = [tf.cast(gradient, tf.float32) for gradient in grads]
        held = pieces(variables)
        gradients = [_at(piece, gradient) for gradient, piece in zip(self._clip_gradients(grads), held, strict=True)]
        with tf.control_dependencies(_by_device(held, gradients)):
            number = tf.raw_ops.ResourceCountUpTo(resource=self.iterations.value.handle, limit=tf.int64.max, T=tf.int64)
        rates: dict[str, tuple[tf.Tensor, tf.Tensor, tf.Tensor]] = {}  # a number is all that each device is sent
        for gradient, piece, momentum, velocity, decay in zip(
            gradients, held, momentums, velocities, decaying, strict=True
        ):
            if piece.device not in rates:
                with tf.device(piece.device):
                    rates[piece.device] = self._rates(tf.identity(number))
            rate, beta1_power, beta2_power = rates[piece.device]
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
                grad=gradient,
                use_locking=True,
            )
        return number

    def _rates(self, number: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        """The learning rate of an update, and the powers of both betas."""
        schedule = self._learning_rate
        rate = schedule(number) if isinstance(schedule, keras.optimizers.schedules.LearningRateSchedule) else schedule
        power = tf.cast(number + 1, tf.float32)
        return tf.convert_to_tensor(rate), tf.pow(self.beta_1, power), tf.pow(self.beta_2, power)


def _at(variable: tf.Variable, gradient: tf.Tensor) -> tf.Tensor:
    """A gradient as its variable's dtype, on the device that holds it."""
    with tf.device(variable.device):
        return tf.identity(tf.cast(gradient, variable.dtype))


def _by_device(variables: list[tf.Variable], gradients: list[tf.Tensor]) -> list[tf.Operation]:
    """What is done on each device when all gradients of variables there have arrived: a message for each, not for each
    gradient.
    """
    devices: dict[str, list[tf.Tensor]] = {}
    for variable, gradient in zip(variables, gradients, strict=True):
        devices.setdefault(variable.device, []).append(gradient)
    arrived = []
    for device, own in devices.items():
        with tf.device(device), tf.control_dependencies(own):
            arrived.append(tf.no_op())
    return [each for each in arrived if each is not None]  # outside of a graph everything has happened


def _shrink(variable: tf.Variable, share: tf.Tensor) -> None:
    """Take `share` () of a variable away from it, on the device that holds it: only the share is sent there."""
    with tf.device(variable.device):
        with tf.control_dependencies([share]):  # what it is now, not what it was when the step began
            value = tf.raw_ops.ReadVariableOp(resource=variable.handle, dtype=variable.dtype)
        tf.raw_ops.AssignSubVariableOp(resource=variable.handle, value=share * value)
