"""Rendered faces: people who do not exist, so that facesim works without a download and without anyone's biometrics.

A head is an ellipsoid seen from the front (2.5-D). For every pixel the renderer undoes shift, roll and scale of the
photograph, takes the ellipsoid's point under the pixel, turns it by yaw and pitch into the face's own coordinates
and paints the features there: +x to the image's right, +y up, +z out of the face, the head's surface being the unit
sphere. Lambert shading with a bump map follows, then background, blur, noise and exposure. All of it is NumPy on
batches of images, one array operation for all pixels of all images in a batch.

Two kinds of numbers make an image. Traits belong to an identity (`_TRAITS`); circumstances belong to one photograph
(`_CIRCUMSTANCES`) and grow with `difficulty`. Both are drawn from streams of their own, keyed by (seed, identity) and
(seed, identity, image): the same seed gives the same people at any difficulty, size and number of images.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import numpy as np

from facesim.errors import InputError

RENDERER_VERSION = 1
"""Raised whenever the same `RenderSpec` no longer gives the same pixels, so that prepared copies are made afresh."""

Progress = Callable[[str, int, int], None]
"""Called with the phase, how many images are done and how many are due."""

_BATCH_PIXELS = 32 * 64 * 64  # keeps the dozens of float32 planes of a batch inside a core's cache

# name: (mean, standard deviation between people at spread 1); lengths in head radii, colours in 0..1
_TRAITS = {
    "head_width": (0.53, 0.034),
    "head_height": (0.70, 0.03),
    "jaw_taper": (0.24, 0.10),
    "melanin": (0.34, 0.26),
    "redness": (0.0, 0.035),
    "cheek_red": (0.05, 0.04),
    "eye_spacing": (0.39, 0.04),
    "eye_y": (0.06, 0.04),
    "eye_width": (0.19, 0.022),
    "eye_height": (0.085, 0.020),
    "eye_tilt": (0.04, 0.11),
    "iris_light": (0.35, 0.30),
    "iris_blue": (0.35, 0.35),
    "eye_bags": (0.10, 0.09),
    "socket_depth": (0.08, 0.045),
    "brow_gap": (0.20, 0.035),
    "brow_thickness": (0.042, 0.017),
    "brow_arch": (1.1, 0.8),
    "brow_tilt": (-0.05, 0.16),
    "brow_density": (0.75, 0.22),
    "nose_length": (0.40, 0.05),
    "nose_width": (0.125, 0.027),
    "nose_height": (0.17, 0.045),
    "nose_bridge": (0.075, 0.02),
    "mouth_y": (-0.56, 0.032),
    "mouth_width": (0.30, 0.045),
    "lip_upper": (0.045, 0.017),
    "lip_lower": (0.065, 0.021),
    "lip_red": (0.30, 0.17),
    "chin": (0.05, 0.04),
    "cheekbones": (0.05, 0.045),
    "folds": (0.12, 0.12),
    "wrinkles": (0.03, 0.07),
    "freckles": (-0.05, 0.13),
    "hairline": (0.66, 0.10),
    "hair_sides": (0.50, 0.22),
    "hair_volume": (0.09, 0.06),
    "hair_length": (0.25, 0.75),
    "hair_wave": (0.04, 0.04),
    "hair_part": (0.0, 0.35),
    "hair_light": (0.30, 0.30),
    "hair_red": (0.0, 0.30),
    "hair_grey": (-0.10, 0.35),
    "beard": (-0.15, 0.50),
    "moustache": (-0.15, 0.50),
    "glasses": (-0.70, 1.00),
    "glasses_size": (0.25, 0.035),
    "glasses_square": (3.0, 1.2),
    "ear_size": (0.17, 0.03),
    "mole_1_x": (0.0, 0.30),
    "mole_1_y": (-0.35, 0.25),
    "mole_1": (-0.10, 0.60),
    "mole_2_x": (0.0, 0.35),
    "mole_2_y": (0.10, 0.35),
    "mole_2": (-0.30, 0.60),
}

# name: the largest deviation at difficulty 1; angles in radians, lengths as a share of half the image's width
_CIRCUMSTANCES = {
    "yaw": 0.60,
    "pitch": 0.28,
    "roll": 0.20,
    "log_scale": 0.10,
    "shift_x": 0.09,
    "shift_y": 0.08,
    "light_x": 1.00,
    "light_y": 0.70,
    "ambient": 0.25,
    "warmth": 0.12,
    "smile": 0.13,
    "mouth_open": 0.11,
    "eyes_open": 0.55,
    "gaze": 0.06,
    "brows_up": 0.05,
    "hair_change": 0.07,
    "hair_length_change": 0.30,
    "beard_change": 0.45,
    "glasses_change": 1.0,
    "tan": 0.05,
    "log_exposure": 0.28,
    "contrast": 0.22,
    "log_gamma": 0.22,
    "blur": 0.015,
    "noise": 0.018,
    "occluder": 1.0,
    "occluder_x": 1.0,
    "occluder_y": 1.0,
    "occluder_angle": 1.6,
}
_BACKGROUND_WAVES = 4

_LIGHT_SKIN, _DARK_SKIN = (0.95, 0.78, 0.68), (0.34, 0.21, 0.15)
_BLACK_HAIR, _BROWN_HAIR, _BLOND_HAIR = (0.07, 0.055, 0.05), (0.30, 0.19, 0.12), (0.80, 0.64, 0.40)
_RED_HAIR, _GREY_HAIR = (0.55, 0.24, 0.10), (0.72, 0.71, 0.70)
_BROWN_IRIS, _GREEN_IRIS, _BLUE_IRIS = (0.20, 0.11, 0.06), (0.38, 0.42, 0.25), (0.35, 0.52, 0.70)


@dataclass(frozen=True)
class RenderSpec:
    """What to render: how many people, how many images of each, and how hard they are to tell apart.

    size: height and width in pixels. difficulty: 0 passport photographs .. 1 anything goes; near 0.65 recognition is
    about as hard as on photographs from the web. spread: how much people differ from each other, 1 as usual.
    Raises InputError for a value outside its range.
    """

    identities: int = 29
    images: int = 15
    size: int = 64
    difficulty: float = 0.65
    spread: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        ranges = {
            "identities": (2, 100_000),
            "images": (2, 10_000),
            "size": (16, 1024),
            "difficulty": (0, 1),
            "spread": (0.1, 2),
            "seed": (0, 2**32 - 1),
        }
        for field, (lowest, highest) in ranges.items():
            value = getattr(self, field)
            if not lowest <= value <= highest:
                raise InputError(f"rendered faces: {field} is {value}; it must lie in {lowest}..{highest}.")
            if field not in ("difficulty", "spread") and value != int(value):
                raise InputError(f"rendered faces: {field} is {value}; it must be a whole number.")

    @property
    def count(self) -> int:
        """How many images in all."""
        return self.identities * self.images

    @property
    def names(self) -> tuple[str, ...]:
        """person-001, person-002, ... in label order."""
        return tuple(f"person-{i + 1:03d}" for i in range(self.identities))

    @property
    def labels(self) -> np.ndarray:
        """(count,) int32, ascending: all images of the first identity, then of the second, ..."""
        return np.repeat(np.arange(self.identities, dtype=np.int32), self.images)


def render(spec: RenderSpec, progress: Progress | None = None) -> tuple[np.ndarray, np.ndarray, tuple[str, ...]]:
    """Render all images of `spec`.

    Returns images uint8 (count, size, size, 3), labels int32 (count,) and names, one an identity, in label order.
    """
    return np.concatenate(list(render_batches(spec, progress))), spec.labels, spec.names


def render_folder(spec: RenderSpec, out: Path, progress: Progress | None = None) -> None:
    """Write all images of `spec` as `out/person-001/0001.png`, ..., the layout that most tools read.

    Raises InputError if `out` exists and is not an empty folder.
    """
    from PIL import Image

    out = Path(out)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise InputError(f"{out} already exists and is not an empty folder. Name a new folder.")
    pictures = (picture for batch in render_batches(spec, progress) for picture in batch)
    for name in spec.names:
        folder = out / name
        folder.mkdir(parents=True)
        for k in range(spec.images):
            Image.fromarray(next(pictures)).save(folder / f"{k + 1:04d}.png")


def render_batches(spec: RenderSpec, progress: Progress | None = None) -> Iterator[np.ndarray]:
    """The images of `spec` in label order, a batch at a time: uint8 (batch, size, size, 3). Uses all cores."""
    identity_of = spec.labels
    batch = max(1, _BATCH_PIXELS // spec.size**2)
    starts = range(0, spec.count, batch)
    workers = os.cpu_count() or 1
    done = 0
    with ThreadPoolExecutor(workers) as pool:
        # A window of batches at a time, so that memory does not grow with the number of images.
        for first in range(0, len(starts), workers):
            window = starts[first : first + workers]
            for images in pool.map(lambda s: _render_batch(spec, identity_of, range(s, min(s + batch, spec.count))), window):
                done += len(images)
                if progress:
                    progress("rendering", done, spec.count)
                yield images


def _render_batch(spec: RenderSpec, identity_of: np.ndarray, indices: range) -> np.ndarray:
    streams = [np.random.default_rng([spec.seed, 1, int(identity_of[i]), i % spec.images]) for i in indices]
    people = {i: _draw_traits(spec, i) for i in {int(identity_of[i]) for i in indices}}
    person = _columns([people[int(identity_of[i])] for i in indices])
    shot = _columns([_draw_circumstances(spec.difficulty, stream) for stream in streams])
    linear = _photograph(person, shot, spec)
    # Noise is drawn last: it alone depends on the size, so an image shows the same scene at every size.
    for image, stream, level in zip(linear, streams, shot.noise.ravel(), strict=True):
        image += level * stream.standard_normal(image.shape, dtype=np.float32)
    np.clip(linear, 0, 1, out=linear)
    return np.ascontiguousarray((linear * 255 + 0.5).astype(np.uint8).transpose(0, 2, 3, 1))


def _draw_traits(spec: RenderSpec, identity: int) -> dict[str, float]:
    z = np.random.default_rng([spec.seed, 0, identity]).standard_normal(len(_TRAITS)).clip(-2, 2)
    return {name: mean + sd * spec.spread * z_i for (name, (mean, sd)), z_i in zip(_TRAITS.items(), z, strict=True)}


def _draw_circumstances(difficulty: float, stream: np.random.Generator) -> dict[str, float]:
    u = stream.uniform(-1, 1, len(_CIRCUMSTANCES))
    shot = {name: most * difficulty * u_i for (name, most), u_i in zip(_CIRCUMSTANCES.items(), u, strict=True)}
    shot["blur"] = 0.006 + abs(shot["blur"])
    shot["noise"] = 0.006 + abs(shot["noise"])
    # What either happens or not: (u + 1) / 2 is uniform in 0..1, so the chance grows with difficulty.
    chance = dict(zip(_CIRCUMSTANCES, (u + 1) / 2, strict=True))
    shot["occluder"] = float(chance["occluder"] < 0.25 * difficulty)
    shot["glasses_change"] = float(chance["glasses_change"] < 0.35 * difficulty)
    for name, low, high in (("wall", 0.1, 0.9), ("clothes", 0.05, 0.8), ("cover", 0.05, 0.8)):
        for channel, value in zip("rgb", stream.uniform(low, high, 3), strict=True):
            shot[f"{name}_{channel}"] = value
    for wave in range(_BACKGROUND_WAVES):
        for number, value in zip(("fx", "fy", "phase", "r", "g", "b"), stream.uniform(-1, 1, 6), strict=True):
            shot[f"wave_{wave}_{number}"] = value
    return shot


def _columns(rows: list[dict[str, float]]) -> SimpleNamespace:
    """One (batch, 1, 1) float32 array a name, ready to broadcast against (batch, size, size) planes."""
    return SimpleNamespace(
        **{name: np.array([row[name] for row in rows], np.float32).reshape(-1, 1, 1) for name in rows[0]}
    )


def _photograph(t: SimpleNamespace, c: SimpleNamespace, spec: RenderSpec) -> np.ndarray:
    """Images float32 (batch, 3, size, size), about 0..1, of the people `t` under the circumstances `c`."""
    size, h = spec.size, np.float32(spec.difficulty)
    sharp = np.float32(size / 3.2)  # edges are about one pixel wide

    def inside(signed_distance: np.ndarray) -> np.ndarray:
        """Coverage 0..1 of a shape given its signed distance in head radii, positive inside."""
        return np.clip(signed_distance * sharp + np.float32(0.5), 0, 1)

    def blob(dx: np.ndarray, dy: np.ndarray, width, height) -> np.ndarray:
        return np.exp(-((dx / width) ** 2) - (dy / height) ** 2)

    # The image plane: undo shift, roll and scale.
    grid = (np.arange(size, dtype=np.float32) + np.float32(0.5)) * np.float32(2 / size) - 1
    image_x, image_y = grid[None, None, :], -grid[None, :, None]
    dx, dy = image_x - c.shift_x, image_y - c.shift_y - np.float32(0.06)
    zoom, cos, sin = np.exp(-c.log_scale), np.cos(c.roll), np.sin(c.roll)
    x, y = (dx * cos + dy * sin) * zoom, (dy * cos - dx * sin) * zoom

    # The head's outline and its visible surface as points of the unit sphere.
    down = np.clip(-y / t.head_height, 0, 1.1)
    sx, sy = x / (t.head_width * (1 - t.jaw_taper * down**2)), y / t.head_height
    radius = np.sqrt(sx**2 + sy**2)
    sz = np.sqrt(np.clip(1 - radius**2, 0, 1))
    head = inside((1 - radius) * np.float32(0.9))

    # The same points in the face's own coordinates: undo yaw, then pitch.
    cos_yaw, sin_yaw, cos_pitch, sin_pitch = np.cos(c.yaw), np.sin(c.yaw), np.cos(c.pitch), np.sin(c.pitch)
    fx, across = sx * cos_yaw - sz * sin_yaw, sx * sin_yaw + sz * cos_yaw
    fy, fz = sy * cos_pitch - across * sin_pitch, sy * sin_pitch + across * cos_pitch
    ax, side = np.abs(fx), np.sign(fx)
    front = np.clip(fz * 5, 0, 1)

    # Colours.
    melanin = np.clip(t.melanin + c.tan, 0, 1)
    skin = _mix(_rgb(_LIGHT_SKIN), _rgb(_DARK_SKIN), melanin) + _rgb((1, -0.4, -0.4)) * (t.redness + c.tan * 0.3)[:, None]
    light_hair = np.clip(t.hair_light, 0, 1)
    hair_colour = _mix(_rgb(_BLACK_HAIR), _rgb(_BROWN_HAIR), np.clip(light_hair * 2, 0, 1))
    hair_colour = _mix(hair_colour, _rgb(_BLOND_HAIR), np.clip(light_hair * 2 - 1, 0, 1))
    hair_colour = _mix(hair_colour, _rgb(_RED_HAIR), np.clip(t.hair_red, 0, 0.8))
    hair_colour = _mix(hair_colour, _rgb(_GREY_HAIR), np.clip(t.hair_grey, 0, 0.9))
    brow_colour = hair_colour * np.float32(0.6)
    iris_colour = _mix(_rgb(_GREEN_IRIS), _rgb(_BLUE_IRIS), np.clip(t.iris_blue * 1.5, 0, 1))
    iris_colour = _mix(iris_colour, _rgb(_BROWN_IRIS), np.clip(1 - t.iris_light - (0.5 - melanin) * 0.6, 0, 1))
    lip_colour = _mix(skin * np.float32(0.86), _rgb((0.72, 0.20, 0.22)), np.clip(t.lip_red, 0, 0.75))

    # Behind the head: wall, hair, neck, shoulders, ears.
    canvas = np.empty((len(x), 3, size, size), np.float32)
    plain = _rgb((0.78, 0.80, 0.83))
    canvas[:] = plain + (_rgb_of(c, "wall") - plain) * h
    for wave in range(_BACKGROUND_WAVES):
        number = {name: getattr(c, f"wave_{wave}_{name}") for name in ("fx", "fy", "phase")}
        ripple = np.sin(image_x * number["fx"] * 7 + image_y * number["fy"] * 7 + number["phase"] * np.float32(np.pi))
        canvas += (ripple * np.float32(0.13) * h)[:, None] * _rgb_of(c, f"wave_{wave}")
    strands = np.float32(0.09) * np.sin(fx * 23 + fy * 5 + t.hair_part * 9) + np.float32(0.06) * np.sin(ax * 41 - fy * 9)
    hair_shade = hair_colour * (1 + strands)[:, None] * np.float32(0.92)
    length = np.clip(t.hair_length + c.hair_length_change * np.clip(t.hair_length, 0.1, 1), 0, 1.5)
    volume = 1 + np.clip(t.hair_volume + c.hair_change * np.float32(0.4), 0.01, 0.3)
    bottom = np.float32(0.25) - length * np.float32(1.25)
    shell_radius = np.sqrt((x / (t.head_width * volume)) ** 2 + (np.maximum(sy, 0) / volume) ** 2)
    shell = inside((1 - shell_radius) * np.float32(0.9)) * inside((sy - bottom) * np.float32(0.6))
    _paint(canvas, shell, hair_shade * np.float32(0.75))
    neck = inside((t.head_width * np.float32(0.52) - np.abs(x)) * np.float32(1.6)) * inside(-sy - np.float32(0.3))
    _paint(canvas, neck, skin * np.float32(0.72))
    shoulders = inside((1 - np.sqrt((x / np.float32(1.02)) ** 2 + ((y + np.float32(1.50)) / np.float32(0.74)) ** 2)) * 1)
    _paint(canvas, shoulders, _rgb_of(c, "clothes"))
    ear_x = np.abs(sx + c.yaw * np.float32(0.25)) - np.float32(0.98)
    ears = inside((1 - np.sqrt((ear_x / (t.ear_size * np.float32(0.6))) ** 2 + (sy / t.ear_size) ** 2)) * t.ear_size)
    _paint(canvas, ears * (1 - head), skin * np.float32(0.82))

    # The skin and what lies in it.
    face = np.empty_like(canvas)
    face[:] = skin
    cheeks = blob(ax - np.float32(0.42), fy + np.float32(0.25), np.float32(0.22), np.float32(0.17))
    face += _rgb((0.6, -0.7, -0.6)) * (cheeks * np.clip(t.cheek_red, 0, 1))[:, None]
    speckle = np.sin(fx * 61 + t.mole_1_x * 40) * np.sin(fy * 53 + t.mole_2_x * 40)
    dark = np.clip(t.freckles, 0, 1) * np.clip(speckle, 0, 1) * blob(fx, fy + np.float32(0.1), np.float32(0.6), np.float32(0.3))
    eye_dx = ax - t.eye_spacing
    eye_dy = fy - t.eye_y - t.eye_tilt * eye_dx
    dark += np.clip(t.eye_bags, 0, 1) * blob(eye_dx, eye_dy + np.float32(0.13), t.eye_width, np.float32(0.06))
    crease = ax - (np.float32(0.17) - (fy + np.float32(0.2)) * np.float32(0.42))
    nasolabial = blob(crease, fy + np.float32(0.38), np.float32(0.035), np.float32(0.16))
    dark += np.clip(t.folds + c.smile * np.float32(0.6), 0, 1) * nasolabial
    forehead = np.clip(np.sin((fy - fx**2 * np.float32(0.2)) * 48), 0, 1)
    dark += np.clip(t.wrinkles, 0, 1) * forehead * blob(fx, fy - np.float32(0.45), np.float32(0.5), np.float32(0.14))
    for mole in ("mole_1", "mole_2"):
        at_x, at_y, strength = (getattr(t, name) for name in (f"{mole}_x", f"{mole}_y", mole))
        dark += np.clip(strength, 0, 0.7) * blob(fx - at_x, fy - at_y, np.float32(0.035), np.float32(0.03))
    face *= (1 - np.clip(dark, 0, 0.8))[:, None]

    # Beard and moustache; hair on skin is sparse, so it is mixed in by density.
    mouth_dx, smile_y = fx, c.smile * (ax / t.mouth_width) ** 2
    mouth_dy = fy - t.mouth_y - smile_y
    jaw = inside((-fy - np.float32(0.42) + ax**2 * np.float32(0.55)) * np.float32(0.35)) * inside((fz + 0.1) * np.float32(0.5))
    beard = np.clip(t.beard + c.beard_change * np.clip(t.beard + np.float32(0.4), 0, 1), 0, 0.85)
    _paint(face, jaw * beard, brow_colour)
    lip_space = blob(fx, fy - t.mouth_y - np.float32(0.12), np.float32(0.22), np.float32(0.055))
    moustache = np.clip(t.moustache + c.beard_change * np.clip(t.moustache + np.float32(0.4), 0, 1), 0, 0.9)
    _paint(face, lip_space * moustache, brow_colour)

    # The mouth: lips around a line that opens.
    gape = np.clip(c.mouth_open, 0, 1) + np.float32(0.006)
    arch = np.clip(1 - (mouth_dx / (t.mouth_width + c.smile * np.float32(0.25))) ** 2, 0, 1)
    upper = (np.clip(t.lip_upper, 0.01, 1) + gape) * arch * (1 - np.float32(0.35) * blob(fx, 0, np.float32(0.06), 1))
    lower = (np.clip(t.lip_lower, 0.015, 1) + gape) * np.sqrt(arch)
    _paint(face, inside(np.where(mouth_dy > 0, upper - mouth_dy, lower + mouth_dy)) * (arch > 0), lip_colour)
    gap = gape * arch - np.abs(mouth_dy)
    _paint(face, inside(gap) * (arch > 0), _rgb((0.22, 0.07, 0.07)))
    _paint(face, inside(np.minimum(gap - np.float32(0.02), mouth_dy + np.float32(0.01))), _rgb((0.93, 0.91, 0.86)))

    # Eyes and brows, both at once in |x|.
    opened = np.clip(1 + np.minimum(c.eyes_open, 0.25), 0.12, 1.3)
    lid = t.eye_height * opened * np.clip(1 - (eye_dx / t.eye_width) ** 2, 0, 1)
    eye = inside(lid - np.abs(eye_dy)) * (np.abs(eye_dx) < t.eye_width)
    _paint(face, eye, _rgb((0.93, 0.92, 0.90)))
    gaze_x = (eye_dx * side - c.gaze) ** 2
    iris_radius = np.sqrt(gaze_x * np.float32(0.62) + eye_dy**2)  # heads are taller than wide: circles in the image
    _paint(face, eye * inside(np.float32(0.078) - iris_radius), iris_colour)
    _paint(face, eye * inside(np.float32(0.034) - iris_radius), _rgb((0.03, 0.03, 0.03)))
    lash = inside(np.float32(0.018) - np.abs(eye_dy - lid)) * (np.abs(eye_dx) < t.eye_width * np.float32(1.05))
    _paint(face, lash * np.float32(0.75), _rgb((0.10, 0.07, 0.06)))
    brow_dx = ax - t.eye_spacing
    brow_line = t.eye_y + t.brow_gap + c.brows_up + t.brow_tilt * brow_dx - t.brow_arch * brow_dx**2
    brow_end = np.clip((np.float32(0.24) - np.abs(brow_dx)) * 9, 0, 1)
    brow = inside(np.clip(t.brow_thickness, 0.012, 1) * brow_end - np.abs(fy - brow_line)) * brow_end
    _paint(face, brow * np.clip(t.brow_density, 0.1, 1), brow_colour)

    # Nostrils; the tip of the nose stands out, so it moves against the face when the head turns.
    nose_x = fx - sin_yaw * np.float32(0.10)
    tip_y = t.eye_y - t.nose_length + sin_pitch * np.float32(0.10)
    nostrils = blob(np.abs(nose_x) - t.nose_width * np.float32(0.55), fy - tip_y + np.float32(0.035), t.nose_width * np.float32(0.38), np.float32(0.028))
    _paint(face, nostrils * np.float32(0.65), skin * np.float32(0.25))

    # Bumps: each adds the gradient of a Gaussian hill to the sphere's normal.
    nx, ny, nz = fx.copy(), fy.copy(), fz
    hills = (
        (nose_x, None, fy - (tip_y + t.nose_length * np.float32(0.45)), t.nose_bridge, t.nose_length * np.float32(0.5), t.nose_height * np.float32(0.45)),
        (nose_x, None, fy - tip_y, t.nose_width, np.float32(0.10), t.nose_height * np.float32(0.55)),
        (ax - np.float32(0.48), side, fy + np.float32(0.16), np.float32(0.2), np.float32(0.14), t.cheekbones),
        (eye_dx, side, fy - t.eye_y - np.float32(0.02), np.float32(0.24), np.float32(0.15), -t.socket_depth),
        (fx, None, fy + np.float32(0.84), np.float32(0.2), np.float32(0.11), t.chin),
        (fx, None, mouth_dy, t.mouth_width, np.float32(0.11), np.float32(0.025)),
    )
    for hill_dx, mirror, hill_dy, width, height, amplitude in hills:
        hill = amplitude * blob(hill_dx, hill_dy, width, height) * 2
        slope_x = hill * hill_dx / width**2
        nx += slope_x if mirror is None else slope_x * mirror
        ny += hill * hill_dy / height**2

    # Hair on the head, above the hairline and on the sides and the back.
    line = t.hairline + c.hair_change - t.hair_sides * np.abs(fx - t.hair_part * np.float32(0.4)) ** 3
    line = line + np.clip(t.hair_wave, 0, 1) * np.sin(fx * 13 + t.hair_part * 20)
    scalp = inside((fy - line) * np.float32(0.8))
    back = inside((np.float32(0.12) + np.clip(length - np.float32(0.4), 0, 0.25) - fz) * np.float32(0.6))
    back = back * inside((fy - bottom) * np.float32(0.6))
    hair = np.maximum(scalp, back)
    _paint(face, hair, hair_shade)

    # Glasses: two rings and a bridge in face coordinates.
    glasses = np.clip((t.glasses - np.float32(0.1)) * 6, 0, 1) * (1 - c.glasses_change)
    power = np.clip(t.glasses_square, 2, 6)
    across_lens, down_lens = np.abs(eye_dx) / t.glasses_size, np.abs(fy - t.eye_y + np.float32(0.02)) / (t.glasses_size * np.float32(0.72))
    lens = (across_lens**power + down_lens**power + np.float32(1e-6)) ** (1 / power)
    rim = inside(np.float32(0.022) - np.abs(1 - lens) * t.glasses_size)
    bridge = inside(np.float32(0.02) - np.abs(fy - t.eye_y)) * (ax < t.eye_spacing - t.glasses_size)
    temple = inside(np.float32(0.02) - np.abs(fy - t.eye_y)) * (ax > t.eye_spacing + t.glasses_size)
    _paint(face, np.maximum(np.maximum(rim, bridge), temple) * glasses * front, _rgb((0.08, 0.07, 0.07)))

    # Lambert's law with ambient light; the light turns with the head's inverse rotation into face coordinates.
    light = np.stack(np.broadcast_arrays(c.light_x, c.light_y + np.float32(0.35), np.float32(1)))
    light = light / np.sqrt((light**2).sum(0))
    lx, l_across = light[0] * cos_yaw - light[2] * sin_yaw, light[0] * sin_yaw + light[2] * cos_yaw
    ly, lz = light[1] * cos_pitch - l_across * sin_pitch, light[1] * sin_pitch + l_across * cos_pitch
    norm = np.sqrt(nx**2 + ny**2 + nz**2) + np.float32(1e-6)
    lambert = np.clip((nx * lx + ny * ly + nz * lz) / norm, 0, 1)
    ambient = np.clip(np.float32(0.50) + c.ambient, 0.15, 0.9)
    gloss = np.float32(0.10) * lambert**14 * (1 - hair)
    face *= (ambient + (np.float32(1.08) - ambient) * lambert)[:, None]
    face += gloss[:, None]
    _paint(canvas, head, face)

    # Something in front of the face: a bar across it, such as a hand, a scarf or a microphone.
    turn_cos, turn_sin = np.cos(c.occluder_angle), np.sin(c.occluder_angle)
    along = (x - c.occluder_x * np.float32(0.5)) * turn_cos + (y - c.occluder_y * np.float32(0.5)) * turn_sin
    cover = inside((np.float32(0.16) - np.abs(along)) * np.float32(1.6)) * c.occluder
    _paint(canvas, cover, _rgb_of(c, "cover"))

    # The camera: colour temperature, blur, exposure, contrast, gamma.
    canvas *= 1 + _rgb((1, 0.1, -1)) * c.warmth[:, None]
    pixel = np.arange(size, dtype=np.float32)
    kernel = np.exp(-0.5 * ((pixel[:, None] - pixel[None, :]) / (c.blur * np.float32(size / 2))) ** 2)
    kernel = (kernel / kernel.sum(2, keepdims=True))[:, None]
    canvas = kernel @ canvas @ kernel.transpose(0, 1, 3, 2)
    canvas = np.float32(0.5) + (canvas * np.exp(c.log_exposure)[:, None] - np.float32(0.5)) * (1 + c.contrast)[:, None]
    return np.clip(canvas, 1e-4, 1) ** np.exp(c.log_gamma)[:, None]


def _rgb(colour: tuple[float, float, float]) -> np.ndarray:
    return np.array(colour, np.float32).reshape(1, 3, 1, 1)


def _rgb_of(numbers: SimpleNamespace, name: str) -> np.ndarray:
    return np.stack([getattr(numbers, f"{name}_{channel}") for channel in "rgb"], axis=1)


def _mix(colour: np.ndarray, other: np.ndarray, share: np.ndarray) -> np.ndarray:
    return colour + (other - colour) * share[:, None]


def _paint(canvas: np.ndarray, coverage: np.ndarray, colour: np.ndarray) -> None:
    """Lay `colour`, broadcastable to (batch, 3, size, size), over the canvas where coverage (batch, size, size) is 1."""
    canvas += (colour - canvas) * coverage[:, None]
