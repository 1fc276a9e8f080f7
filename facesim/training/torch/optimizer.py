"""Keras' Adam, computed by PyTorch's fused kernel: one pass over each parameter in place of some ten."""

from __future__ import annotations

import math

import keras
import torch

from facesim.training.keras.optimizer import decays


class FusedAdam:
    """Updates parameters, and the moments of a Keras optimiser, where they are: what Keras keeps is always up to date.

    `optimizer` is built for `variables`. It holds rate, schedule, decay and the bound of the gradient's norm.
    """

    def __init__(self, optimizer: keras.optimizers.Adam, variables: list[keras.Variable]):
        self._keras = optimizer
        self._parameters = [variable.value for variable in variables]
        self._known: tuple[int, float] | None = None
        schedule = optimizer._learning_rate
        self._schedule = schedule if isinstance(schedule, keras.optimizers.schedules.LearningRateSchedule) else None
        groups: dict[bool, list[torch.nn.Parameter]] = {True: [], False: []}
        for variable in variables:
            groups[decays(variable)].append(variable.value)
        self._adam = torch.optim.AdamW(
            [
                {"params": some, "weight_decay": (optimizer.weight_decay or 0.0) if decay else 0.0}
                for decay, some in groups.items()
            ],
            lr=0.0,
            betas=(optimizer.beta_1, optimizer.beta_2),
            fused=True,
        )
        moments = zip(optimizer._momentums, optimizer._velocities, strict=True)
        for parameter, (momentum, velocity) in zip(self._parameters, moments, strict=True):
            self._adam.state[parameter] = {
                "step": torch.zeros((), device=parameter.device),
                "exp_avg": momentum.value.data,
                "exp_avg_sq": velocity.value.data,
            }

    @property
    def updates(self) -> int:
        """How many there were."""
        return self._counted()[0]

    def _counted(self) -> tuple[int, float]:
        """How many updates there were, and the rate that the optimiser holds. To ask a GPU is to wait for it: they are
        asked for once.
        """
        if self._known is None:
            rate = 0.0 if self._schedule else float(self._keras._learning_rate)
            self._known = int(self._keras.iterations.value), rate
        return self._known

    def changed(self) -> None:
        """The optimiser's variables have been given other values."""
        self._known = None

    def forget(self) -> None:
        """Forget the gradients of the last update."""
        self._adam.zero_grad(set_to_none=True)

    def apply(self) -> None:
        """Apply the gradients that the parameters have.

        PyTorch adds epsilon to the corrected root of the second moment, Keras to the root before that (Kingma and Ba,
        2015, end of section 2): it is divided by the correction here.
        """
        number, held = self._counted()
        rate = held
        if self._schedule:
            with keras.device("cpu"):  # a few numbers
                rate = float(self._schedule(number))
        if self._keras.global_clipnorm:
            self._clip()
        for group in self._adam.param_groups:
            group["lr"] = rate
            group["eps"] = self._keras.epsilon / math.sqrt(1 - self._keras.beta_2 ** (number + 1))
        torch._foreach_zero_(self._steps)
        torch._foreach_add_(self._steps, number)
        self._adam.step()
        with torch.no_grad():
            self._keras.iterations.value.add_(1)
        self._known = number + 1, held

    @property
    def _steps(self) -> list[torch.Tensor]:
        return [self._adam.state[parameter]["step"] for parameter in self._parameters]

    def _clip(self) -> None:
        """As `keras.ops` has it: the whole gradient, scaled down to the bound where its norm is larger."""
        gradients = [parameter.grad for parameter in self._parameters if parameter.grad is not None]
        norm = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(gradients)))
        torch._foreach_mul_(gradients, torch.clamp(self._keras.global_clipnorm / norm, max=1.0))
