"""Small tensors that cross the network together: a message costs both its ends more than to copy a few of them.

Those of one dtype that go the same way are joined where they are, and cut again where they are needed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext

import tensorflow as tf

from facesim.training.placement import is_packed


def pack(tensors: Sequence[tf.Tensor], specs: Sequence[tf.TensorSpec | None]) -> list[tf.Tensor]:
    """What is sent of `tensors`: small ones of a dtype as one. Whose spec is None goes alone."""
    sent = []
    for places in _messages(specs):
        some = [tensors[place] for place in places]
        sent.append(some[0] if len(some) == 1 else tf.concat([tf.reshape(each, [-1]) for each in some], axis=0))
    return sent


def unpack(sent: Sequence[tf.Tensor], specs: Sequence[tf.TensorSpec | None]) -> list[tf.Tensor]:
    """The tensors that `pack` was given, by the same `specs`, in their order."""
    tensors: dict[int, tf.Tensor] = {}
    for message, places in zip(sent, _messages(specs), strict=True):
        if len(places) == 1:
            tensors[places[0]] = message
            continue
        shapes = [specs[place].shape for place in places]
        parts = tf.split(message, [shape.num_elements() for shape in shapes])
        tensors |= {place: tf.reshape(part, shape) for place, part, shape in zip(places, parts, shapes, strict=True)}
    return [tensors[place] for place in range(len(specs))]


def sent_to(devices: Sequence[str], tensors: Sequence[tf.Tensor]) -> list[tf.Tensor]:
    """Tensors that are here, each on its device."""
    return _moved(devices, tensors, lambda _: nullcontext(), tf.device)


def fetched_from(devices: Sequence[str], tensors: Sequence[tf.Tensor]) -> list[tf.Tensor]:
    """Tensors that are on their devices, here."""
    return _moved(devices, tensors, tf.device, lambda _: nullcontext())


def _moved(
    devices: Sequence[str],
    tensors: Sequence[tf.Tensor],
    sender: Callable[[str], AbstractContextManager[object]],
    receiver: Callable[[str], AbstractContextManager[object]],
) -> list[tf.Tensor]:
    moved = dict[int, tf.Tensor]()
    for device in dict.fromkeys(devices):
        places = [place for place, each in enumerate(devices) if each == device]
        specs = [tf.TensorSpec(tensors[place].shape, tensors[place].dtype) for place in places]
        with sender(device):
            sent = pack([tensors[place] for place in places], specs)
        with receiver(device):
            moved |= zip(places, unpack(sent, specs), strict=True)
    return [moved[place] for place in range(len(tensors))]


def _messages(specs: Sequence[tf.TensorSpec | None]) -> list[list[int]]:
    """The places of all tensors, those of each message together."""
    messages: dict[tuple[tf.DType | None, int], list[int]] = {}
    for place, spec in enumerate(specs):
        known = spec is not None and spec.shape.is_fully_defined()
        packed = known and is_packed(spec.shape.num_elements() * spec.dtype.size)
        messages.setdefault((spec.dtype, -1) if packed else (None, place), []).append(place)
    return [*messages.values()]
