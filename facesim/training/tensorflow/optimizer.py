"""Optimisers for several workers at once: each update counted exactly, and applied as one kernel a variable, where the
variable is.

Keras 3's own optimisers compute an update from several reads and writes of each variable, and count updates with
`assign(self + 1)`. With asynchronous workers the first moves every moment over the network several times and lets
updates tear each other; the second loses counts, and with them the bias correction and any learning-rate schedule.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import keras
import tensorflow as tf

from facesim.spec.experiment import Experiment
from facesim.training.keras.optimizer import decays
from facesim.training.tensorflow.gradients import values_of
from facesim.training.tensorflow.partition import pieces

#: Updates a variable, or a piece of one, and what is kept beside it, by a gradient of the variable's dtype.
Update = Callable[[tf.Variable, Sequence[tf.Variable], tf.Tensor], None]


class Fused(keras.optimizers.Optimizer):
    """An optimiser of Keras with atomic updates. `iterations` is the parameters' version.

    `weight_decay` is decoupled from the gradient (AdamW, Loshchilov and Hutter, 2019), and for kernels only: biases,
    normalisation and slopes have no reason to be near zero.
    """

    def apply(self, grads, trainable_variables=None):
        """Apply one gradient a variable, or a piece of one, and return the update's number, int64 (), from 0.

        A gradient of less precision than its variable is widened where the variable is, unless its norm is asked for.
        Of a gradient of some rows, `tf.IndexedSlices`, only these rows change, and what is kept beside them, decay
        included: with Adam that is its lazy form. What is shared by all rows, as the bias correction, counts every
        update.

        The number is taken from `iterations` by an atomic fetch-and-add, so concurrent updates have distinct ones,
        without gaps. The bias correction and the schedule use it. It is taken when all gradients have arrived where
        their variables are, and they are applied at once: so it is an update's place in the order of application
        however long gradients are under way, and it need not cross the network before they are applied.
        """
        variables = self._trainable_variables if trainable_variables is None else trainable_variables
        decaying = [bool(self.weight_decay) and decays(variable) for variable in variables for _ in pieces([variable])]
        indices = [self._get_variable_index(variable) for variable in variables]
        moments = [pieces(kept[index] for index in indices) for kept in self.moments()]
        rows = [gradient.indices if isinstance(gradient, tf.IndexedSlices) else None for gradient in grads]
        grads = [values_of(gradient) for gradient in grads]
        if self.global_clipnorm:
            grads = [tf.cast(gradient, tf.float32) for gradient in grads]
        held = pieces(variables)
        gradients = [_at(piece, gradient) for gradient, piece in zip(self._clip_gradients(grads), held, strict=True)]
        with tf.control_dependencies(_by_device(held, gradients)):
            number = tf.raw_ops.ResourceCountUpTo(resource=self.iterations.value.handle, limit=tf.int64.max, T=tf.int64)
        updates: dict[str, tuple[tf.Tensor, tf.Tensor, Update]] = {}  # a number is all that each device is sent
        for gradient, of_rows, piece, decay, *kept in zip(gradients, rows, held, decaying, *moments, strict=True):
            if piece.device not in updates:
                with tf.device(piece.device):
                    here = tf.identity(number)
                    rate = self._rate(here)
                    power = tf.cast(here + 1, tf.float32)
                    updates[piece.device] = rate, power, self.updating(rate, power)
            rate, power, update = updates[piece.device]
            if of_rows is not None:
                self._update_rows(piece, kept, gradient, of_rows, rate, power, decay)
                continue
            if decay:
                _shrink(piece, rate * self.weight_decay)
            update(piece, kept, gradient)
        return number

    def _update_rows(
        self,
        piece: tf.Variable,
        moments: Sequence[tf.Variable],
        gradient: tf.Tensor,
        rows: tf.Tensor,
        rate: tf.Tensor,
        power: tf.Tensor,
        decay: bool,
    ) -> None:
        """Update some rows of a variable, or of a piece of one, where it is. TensorFlow has no one kernel for it: each
        row is changed by an atomic addition, so nothing is lost; how much is from the moments as they are read now.
        """
        with tf.device(piece.device), tf.control_dependencies([gradient, rate]):
            kept = [_rows_now(moment, rows) for moment in moments]
            step, *changes = self.row_changes(rate, power, kept, gradient)
            if decay:
                step -= rate * self.weight_decay * _rows_now(piece, rows)
            for variable, change in zip([piece, *moments], [step, *changes], strict=True):
                tf.raw_ops.ResourceScatterNdAdd(
                    ref=variable.handle, indices=rows[:, tf.newaxis], updates=change, use_locking=True
                )

    def _rate(self, number: tf.Tensor) -> tf.Tensor:
        """The learning rate () of an update."""
        schedule = self._learning_rate
        rate = schedule(number) if isinstance(schedule, keras.optimizers.schedules.LearningRateSchedule) else schedule
        return tf.convert_to_tensor(rate)

    def moments(self) -> list[list[keras.Variable]]:
        """What is kept of each variable beside its value: lists in the variables' order."""
        raise NotImplementedError

    def updating(self, rate: tf.Tensor, power: tf.Tensor) -> Update:
        """What updates one variable. `rate` () is the learning rate, `power` () the number of the update, from 1."""
        raise NotImplementedError

    def row_changes(
        self, rate: tf.Tensor, power: tf.Tensor, kept: Sequence[tf.Tensor], gradient: tf.Tensor
    ) -> list[tf.Tensor]:
        """What the same update adds to rows (k, any) of a variable, and to each of their moments, which are `kept`."""
        raise NotImplementedError


class FusedAdam(Fused, keras.optimizers.Adam):
    """`keras.optimizers.Adam` (Kingma and Ba, 2015)."""

    def moments(self):
        return [self._momentums, self._velocities]

    def updating(self, rate, power):
        beta1_power, beta2_power = tf.pow(self.beta_1, power), tf.pow(self.beta_2, power)

        def update(piece: tf.Variable, moments: Sequence[tf.Variable], gradient: tf.Tensor) -> None:
            momentum, velocity = moments
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

        return update

    def row_changes(self, rate, power, kept, gradient):
        momentum, velocity = kept
        to_momentum = (1 - self.beta_1) * (gradient - momentum)
        to_velocity = (1 - self.beta_2) * (tf.square(gradient) - velocity)
        step = rate * tf.sqrt(1 - tf.pow(self.beta_2, power)) / (1 - tf.pow(self.beta_1, power))
        change = step * (momentum + to_momentum) / (tf.sqrt(velocity + to_velocity) + self.epsilon)
        return [-change, to_momentum, to_velocity]


class FusedSgd(Fused, keras.optimizers.SGD):
    """`keras.optimizers.SGD`, with momentum (Sutskever et al., 2013) or without."""

    def moments(self):
        return [self.momentums] if self.momentum else []

    def updating(self, rate, power):
        def update(piece: tf.Variable, moments: Sequence[tf.Variable], gradient: tf.Tensor) -> None:
            if not moments:
                tf.raw_ops.ResourceApplyGradientDescent(var=piece.handle, alpha=rate, delta=gradient, use_locking=True)
                return
            tf.raw_ops.ResourceApplyKerasMomentum(
                var=piece.handle,
                accum=moments[0].handle,
                lr=rate,
                grad=gradient,
                momentum=float(self.momentum),
                use_nesterov=self.nesterov,
                use_locking=True,
            )

        return update

    def row_changes(self, rate, power, kept, gradient):
        if not kept:
            return [-rate * gradient]
        accumulated = self.momentum * kept[0] - rate * gradient
        change = self.momentum * accumulated - rate * gradient if self.nesterov else accumulated
        return [change, accumulated - kept[0]]


class FusedLion(Fused, keras.optimizers.Lion):
    """`keras.optimizers.Lion` (Chen et al., 2023).

    There is no one kernel for it. The variable and its momentum are each updated by one that is atomic; the step's sign
    is of the momentum as it was read, which with asynchronous workers may be as old as a gradient may be.
    """

    def moments(self):
        return [self._momentums]

    def updating(self, rate, power):
        def update(piece: tf.Variable, moments: Sequence[tf.Variable], gradient: tf.Tensor) -> None:
            (momentum,) = moments
            with tf.device(piece.device):
                kept = tf.raw_ops.ReadVariableOp(resource=momentum.handle, dtype=momentum.dtype)
                step = rate * tf.sign(self.beta_1 * kept + (1 - self.beta_1) * gradient)
                with tf.control_dependencies([step]):
                    tf.raw_ops.AssignSubVariableOp(resource=piece.handle, value=step)
                    # Momentum's kernel at the rate 0 is this: momentum = beta_2 * momentum + (1 - beta_2) * gradient.
                    tf.raw_ops.ResourceApplyMomentum(
                        var=piece.handle,
                        accum=momentum.handle,
                        lr=tf.zeros_like(rate),
                        grad=(1 - self.beta_2) * gradient,
                        momentum=self.beta_2,
                        use_locking=True,
                    )

        return update

    def row_changes(self, rate, power, kept, gradient):
        (momentum,) = kept
        change = rate * tf.sign(self.beta_1 * momentum + (1 - self.beta_1) * gradient)
        return [-change, (1 - self.beta_2) * (gradient - momentum)]


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
    for device, device_gradients in devices.items():
        with tf.device(device), tf.control_dependencies(device_gradients):
            arrived.append(tf.no_op())
    return [each for each in arrived if each is not None]  # outside of a graph everything has happened


def _rows_now(variable: tf.Variable, rows: tf.Tensor) -> tf.Tensor:
    return tf.raw_ops.ResourceGather(resource=variable.handle, indices=rows, dtype=variable.dtype)


def _shrink(variable: tf.Variable, share: tf.Tensor) -> None:
    """Take `share` () of a variable away from it, on the device that holds it: only the share is sent there."""
    with tf.device(variable.device):
        with tf.control_dependencies([share]):  # what it is now, not what it was when the step began
            value = tf.raw_ops.ReadVariableOp(resource=variable.handle, dtype=variable.dtype)
        tf.raw_ops.AssignSubVariableOp(resource=variable.handle, value=share * value)


def optimizer_of(experiment: Experiment) -> Callable[..., Fused]:
    """The optimiser that an experiment names, to be made at a rate and a schedule."""
    kinds: dict[str, Callable[..., Fused]] = {
        "adam": FusedAdam,
        "sgd": partial(FusedSgd, momentum=experiment.momentum),
        "lion": FusedLion,
    }
    return kinds[experiment.optimizer]
