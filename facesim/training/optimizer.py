"""Adam for several workers at once: each update counted exactly, and applied as one kernel a variable, where the
variable is.

Keras 3's own Adam computes an update from some ten reads and writes of each variable, and counts updates with
`assign(self + 1)`. With asynchronous workers the first moves every moment over the network several times and lets
updates tear each other; the second loses counts, and with them the bias correction and any learning-rate schedule.
"""

import keras
import tensorflow as tf


class FusedAdam(keras.optimizers.Adam):
    """`keras.optimizers.Adam` (Kingma and Ba, 2015) with atomic updates. `iterations` is the parameters' version."""

    def apply(self, grads, trainable_variables=None):
        """Apply one gradient a variable and return the update's number, int64 (), from 0.

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
        for gradient, variable in zip(self._clip_gradients(grads), variables):
            index = self._get_variable_index(variable)
            tf.raw_ops.ResourceApplyAdam(
                var=variable.value.handle,
                m=self._momentums[index].value.handle,
                v=self._velocities[index].value.handle,
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
