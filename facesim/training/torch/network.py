"""A job's network and optimiser on PyTorch, and the step that every strategy shares."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import torch

from facesim.training.context import Context
from facesim.training.keras import network
from facesim.training.keras.network import penalty
from facesim.training.keras.objective import loss_for
from facesim.training.torch.optimizer import FusedAdam

#: Of a GPU's free memory, what images may take there.
_SHARE = 0.25


class TorchReplicas(network.KerasReplicas):
    """A network of this process, as `facesim.training.protocols.Replicas` has it but for `train`."""

    def __init__(self, context: Context):
        model, optimizer = network.build(context, keras.optimizers.Adam)
        super().__init__(context, model, optimizer)
        self.adam = FusedAdam(optimizer, model.trainable_variables)
        self._device = model.trainable_variables[0].value.device
        self.devices = [] if self._device.type == "cpu" else [str(self._device)]
        self._images, self._labels = context.data.images, context.data.labels.astype(np.int64)
        self._held: tuple[torch.Tensor, torch.Tensor] | None = None
        if context.experiment.cache == "memory":
            if self._device.type == "cuda" and self._images.nbytes < _SHARE * torch.cuda.mem_get_info(self._device)[0]:
                images, labels = (torch.from_numpy(np.array(each)) for each in (self._images, self._labels))
                self._held = images.to(self._device), labels.to(self._device)
            else:
                self._images = np.asarray(self._images).copy()
        self._loss = loss_for(context.experiment)
        self._seed = context.seed, context.replica

    def forward(self, network: Callable[..., torch.Tensor], indices: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
        """The losses (n,) of some examples in training, and whether the network told them right (n,)."""
        images, labels = self._some(indices)
        logits = network(images, training=True)
        return self._loss(labels, logits), logits.detach().argmax(dim=1) == labels

    def _some(self, indices: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
        """The images, uint8 (n, height, width, channels), and the labels, int64 (n,), of some examples."""
        if self._held is None:
            images, labels = (torch.from_numpy(each[indices]) for each in (self._images, self._labels))
            return images.to(self._device), labels.to(self._device)
        rows = torch.from_numpy(indices).to(self._device)
        images, labels = self._held
        return images[rows], labels[rows]

    def backward(self, network: Callable[..., torch.Tensor], indices: np.ndarray, share: float = 1.0) -> torch.Tensor:
        """Leave in the parameters the gradient of the mean loss over some examples, and of what regularizers add to it,
        times `share`: the part of the update's examples that they stand for. What was found, float64 (3,): the sum of
        the losses, correct ones, examples, which with a share of 0 are not counted.
        """
        self.adam.forget()
        # Keras leaves dropout to PyTorch's own generator, and no state of a layer says what that draws: left alone, the
        # same on every worker, and after a resume what it drew at the start.
        torch.manual_seed(int(np.random.SeedSequence([*self._seed, self.adam.updates]).generate_state(1, np.uint64)[0]))
        losses, correct = self.forward(network, indices)
        ((losses.mean() + penalty(self.model)) * share).backward()
        counted = float(share > 0)
        sums = torch.stack([losses.detach().sum(dtype=torch.float64), correct.sum(dtype=torch.float64)])
        return counted * torch.cat([sums, sums.new_tensor([len(indices)])])

    def assign(self, values: list[np.ndarray]) -> None:
        super().assign(values)
        self.adam.changed()

    def value_of(self, variable: keras.Variable) -> np.ndarray:
        return np.array(variable.value.detach().cpu())

    def logits_function(self, model: keras.Model, mirror: bool) -> Callable[[np.ndarray], np.ndarray]:
        @torch.no_grad()
        def logits_of(images: np.ndarray) -> np.ndarray:
            pixels: Any = torch.from_numpy(images).to(model.trainable_variables[0].value.device)
            logits = model(pixels, training=False)
            if mirror:
                logits = (logits + model(pixels.flip(2), training=False)) / 2
            return logits.float().cpu().numpy()

        return logits_of
