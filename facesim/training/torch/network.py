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


class TorchReplicas(network.KerasReplicas):
    """A network of this process, as `facesim.training.protocols.Replicas` has it but for `train`."""

    def __init__(self, context: Context):
        model, optimizer = network.build(context, keras.optimizers.Adam)
        super().__init__(context, model, optimizer)
        self.adam = FusedAdam(optimizer, model.trainable_variables)
        device = model.trainable_variables[0].value.device
        self.devices = [] if device.type == "cpu" else [str(device)]
        self._images = context.data.images
        if context.experiment.cache == "memory":
            self._images = np.asarray(self._images).copy()
        self._labels = context.data.labels.astype(np.int64)
        self._loss = loss_for(context.experiment)

    def forward(self, network: Callable[..., torch.Tensor], indices: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
        """The losses (n,) of some examples in training, and whether the network told them right (n,)."""
        device = self.model.trainable_variables[0].value.device
        images, labels = (torch.from_numpy(some[indices]).to(device) for some in (self._images, self._labels))
        logits = network(images, training=True)
        return self._loss(labels, logits), logits.detach().argmax(dim=1) == labels

    def backward(self, network: Callable[..., torch.Tensor], indices: np.ndarray, share: float = 1.0) -> torch.Tensor:
        """Leave in the parameters the gradient of the mean loss over some examples, and of what regularizers add to it,
        times `share`: the part of the update's examples that they stand for. What was found, float64 (3,): the sum of
        the losses, correct ones, examples, which with a share of 0 are not counted.
        """
        self.adam.forget()
        losses, correct = self.forward(network, indices)
        ((losses.mean() + penalty(self.model)) * share).backward()
        counted = float(share > 0)
        sums = torch.stack([losses.detach().sum(dtype=torch.float64), correct.sum(dtype=torch.float64)])
        return counted * torch.cat([sums, sums.new_tensor([len(indices)])])

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
