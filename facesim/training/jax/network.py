"""A job's network and optimiser on JAX, and the compiled functions that every strategy is made of."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import keras
import numpy as np

from facesim.training.context import Context
from facesim.training.keras import network
from facesim.training.keras.network import penalty
from facesim.training.keras.objective import loss_for
from facesim.training.keras.optimizer import decays

Arrays = list[jax.Array]

#: Examples that a GPU evaluates at a time: a multiple of these.
_EVALUATED = 256


class State(NamedTuple):
    """What an update changes: parameters, what else the network keeps, the moments, and how many updates there were."""

    parameters: Arrays
    others: Arrays
    momentums: Arrays
    velocities: Arrays
    updates: jax.Array


class JaxReplicas(network.KerasReplicas):
    """A network of this process, as `facesim.training.protocols.Replicas` has it but for `train`.

    Compiled functions pass `state` on; Keras' variables get its values when somebody asks for them.
    """

    def __init__(self, context: Context):
        model, optimizer = network.build(context, keras.optimizers.Adam)
        super().__init__(context, model, optimizer)
        self._images = context.data.images
        if context.experiment.cache == "memory":
            self._images = np.asarray(self._images).copy()
        self._labels = context.data.labels
        self._loss = loss_for(context.experiment)
        devices = model.trainable_variables[0].value.devices()  # one of those that there may be here
        self.devices = [str(device) for device in devices if device.platform != "cpu"]
        self._changing = (
            model.trainable_variables,
            model.non_trainable_variables,
            optimizer._momentums,
            optimizer._velocities,
            [optimizer.iterations],
        )
        self.take_state()

    def take_state(self) -> None:
        """Take the state that Keras' variables have."""
        *lists, (updates,) = ([jnp.array(each.value) for each in some] for some in self._changing)
        self.state, self._is_kept = State(*lists, updates), True

    def set_state(self, state: State) -> None:
        self.state, self._is_kept = state, False

    def compiled(self, update: Callable[..., tuple[State, jax.Array]]) -> Callable[..., tuple[State, jax.Array]]:
        """A function from a state to the next, compiled. On GPUs it overwrites the state that it is given, for memory;
        on CPUs XLA would first copy parameters that the backward pass still reads: 8 % of the CPU time of a step.
        """
        return jax.jit(update, donate_argnums=0 if self.devices else ())

    def some(self, indices: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The images and labels of some examples."""
        return self._images[indices], self._labels[indices]

    def forward(
        self, parameters: Arrays, others: Arrays, images: jax.Array, labels: jax.Array
    ) -> tuple[jax.Array, jax.Array, Arrays]:
        """The losses (n,) of some examples in training, whether the network told them right (n,), and what else of the
        network changed. To be compiled.
        """
        logits, others = self.model.stateless_call(parameters, others, images, training=True)
        return self._loss(labels, logits), logits.argmax(axis=1) == labels, others

    def gradients(
        self, state: State, images: jax.Array, labels: jax.Array, share: jax.Array | float = 1.0
    ) -> tuple[Arrays, Arrays, jax.Array]:
        """The gradient of the mean loss over some examples, and of what regularizers add to it, times `share`, the part
        of the update's examples that they stand for; what else of the network changed; and what was found, float32
        (3,): the sum of the losses, correct ones, examples, which with a share of 0 are not counted. To be compiled.
        """

        def loss_of(parameters: Arrays) -> tuple[jax.Array, tuple[jax.Array, jax.Array, Arrays]]:
            losses, *more = self.forward(parameters, state.others, images, labels)
            return (losses.mean() + penalty(self.model, parameters)) * share, (losses, *more)

        gradients, (losses, correct, others) = jax.grad(loss_of, has_aux=True)(state.parameters)
        sums = jnp.stack([losses.sum(), correct.sum(dtype=jnp.float32), jnp.float32(len(labels))])
        return gradients, others, jnp.where(jnp.asarray(share) > 0, sums, 0.0)

    def applied(self, state: State, others: Arrays, gradients: Arrays) -> State:
        """The state after an update by Keras' Adam, with decay of what `decays`. To be compiled."""
        adam = self.optimizer
        schedule = adam._learning_rate
        is_scheduled = isinstance(schedule, keras.optimizers.schedules.LearningRateSchedule)
        rate = schedule(state.updates) if is_scheduled else jnp.float32(float(schedule.value))
        if adam.global_clipnorm:
            norm = jnp.sqrt(sum(jnp.sum(jnp.square(each)) for each in gradients))
            gradients = [each * jnp.minimum(1.0, adam.global_clipnorm / norm) for each in gradients]
        number = state.updates.astype(jnp.float32) + 1
        # Rounded to float32 once, so that in moments and corrections it is the same number.
        beta_1, beta_2 = jnp.float32(adam.beta_1), jnp.float32(adam.beta_2)
        step = rate * jnp.sqrt(1 - beta_2**number) / (1 - beta_1**number)
        momentums = [m + (g - m) * (1 - beta_1) for m, g in zip(state.momentums, gradients, strict=True)]
        velocities = [v + (jnp.square(g) - v) * (1 - beta_2) for v, g in zip(state.velocities, gradients, strict=True)]
        parameters = []
        for variable, p, m, v in zip(
            self.model.trainable_variables, state.parameters, momentums, velocities, strict=True
        ):
            kept = p - rate * adam.weight_decay * p if adam.weight_decay and decays(variable) else p
            parameters.append(kept - step * m / (jnp.sqrt(v) + adam.epsilon))
        return State(parameters, others, momentums, velocities, state.updates + 1)

    def variables(self) -> list[np.ndarray]:
        self.current_model()
        return super().variables()

    def assign(self, values: list[np.ndarray]) -> None:
        super().assign(values)
        self.take_state()

    def copies(self) -> Iterator[list[np.ndarray]]:
        self.current_model()
        return super().copies()

    def current_model(self) -> keras.Model:
        if not self._is_kept:
            for variables, values in zip(self._changing, [*self.state[:-1], [self.state.updates]], strict=True):
                for variable, value in zip(variables, values, strict=True):
                    variable.assign(np.asarray(value))  # a copy: what is passed on is overwritten
            self._is_kept = True
        return self.model

    def logits_function(self, model: keras.Model, mirror: bool) -> Callable[[np.ndarray], np.ndarray]:
        @jax.jit
        def forward(parameters: Arrays, others: Arrays, images: jax.Array) -> Any:
            def logits(some: jax.Array) -> jax.Array:
                return model.stateless_call(parameters, others, some, training=False)[0]

            return (logits(images) + logits(images[:, :, ::-1])) / 2 if mirror else logits(images)

        def logits_of(images: np.ndarray) -> np.ndarray:
            count = len(images)
            if self.devices and (odd := -count % _EVALUATED):  # to compile for another size takes a GPU seconds
                images = np.concatenate([images, np.zeros((odd, *images.shape[1:]), images.dtype)])
            return np.asarray(forward(self.state.parameters, self.state.others, images), np.float32)[:count]

        return logits_of
