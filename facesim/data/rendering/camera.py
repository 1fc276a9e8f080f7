"""What becomes of a picture that is taken by the way and kept small: uneven light, colours that are off, low
resolution, grain, JPEG.
"""

from __future__ import annotations

import io

import numpy as np

_WORST_JPEG, _BEST_JPEG = 25, 95


def taken(image: np.ndarray, amount: float, stream: np.random.Generator) -> np.ndarray:
    """An image, uint8 (height, width, 3), as such a camera has it. `amount`, 0..1, is how far it may go; at 0 only JPEG
    at its best is left of it.
    """
    from PIL import Image

    height, width = image.shape[:2]
    angle = np.pi * stream.uniform(-1, 1)
    light, exposure, gamma, *colours = amount * stream.uniform(-1, 1, 6)
    loss, grain, compression = amount * stream.uniform(0, 1, 3)

    across, down = np.linspace(-1, 1, width)[None, :], np.linspace(-1, 1, height)[:, None]
    gain = np.exp(0.35 * exposure + 0.7 * light * (across * np.cos(angle) + down * np.sin(angle)))
    linear = image / 255 * gain[..., None] * np.exp(0.15 * np.array(colours))
    seen = np.clip(linear, 0, 1) ** np.exp(0.35 * gamma)

    kept = 1 - 0.6 * loss
    small = (max(8, round(width * kept)), max(8, round(height * kept)))
    picture = Image.fromarray((seen * 255 + 0.5).astype(np.uint8)).resize(small, Image.Resampling.BILINEAR)
    grainy = np.asarray(picture) + 14 * grain * stream.standard_normal((small[1], small[0], 3))

    file = io.BytesIO()
    quality = round(_BEST_JPEG - (_BEST_JPEG - _WORST_JPEG) * compression)
    Image.fromarray(np.clip(grainy + 0.5, 0, 255).astype(np.uint8)).save(file, "JPEG", quality=quality)
    return np.asarray(Image.open(file).resize((width, height), Image.Resampling.BILINEAR))
