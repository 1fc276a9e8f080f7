"""A rendered face, painted from its numbers: surface, features, shading, background, camera.

In all functions `t` are the people's traits and `c` the circumstances of their photographs, of
`facesim.data.rendering.draws`, each number as float32 (batch, 1, 1).
"""

from __future__ import annotations

from dataclasses import dataclass
from types import SimpleNamespace

import numpy as np

from facesim.data.rendering.draws import BACKGROUND_WAVES

_LIGHT_SKIN, _DARK_SKIN = (0.95, 0.78, 0.68), (0.34, 0.21, 0.15)
_BLACK_HAIR, _BROWN_HAIR, _BLOND_HAIR = (0.07, 0.055, 0.05), (0.30, 0.19, 0.12), (0.80, 0.64, 0.40)
_RED_HAIR, _GREY_HAIR = (0.55, 0.24, 0.10), (0.72, 0.71, 0.70)
_BROWN_IRIS, _GREEN_IRIS, _BLUE_IRIS = (0.20, 0.11, 0.06), (0.38, 0.42, 0.25), (0.35, 0.52, 0.70)


def photograph(t: SimpleNamespace, c: SimpleNamespace, size: int, difficulty: float) -> np.ndarray:
    """Images float32 (batch, 3, size, size), within 0..1, of the people `t` under the circumstances `c`."""
    at = _Surface.seen(t, c, size)
    colour = _colours(t, c)

    canvas = _background(c, size, difficulty)
    _paint_behind_the_head(canvas, at, t, c, colour)

    face = np.empty_like(canvas)
    face[:] = colour.skin
    _paint_skin(face, at, t, c)
    _paint_beard(face, at, t, c, colour)
    _paint_mouth(face, at, t, c, colour)
    _paint_eyes(face, at, t, c, colour)
    _paint_nostrils(face, at, t, colour)
    hair = _paint_hair(face, at, t, c, colour)
    _paint_glasses(face, at, t, c)
    _shade(face, at, t, c, hair)
    _paint(canvas, at.head, face)

    _paint_occluder(canvas, at, c)
    return _expose(canvas, c)


@dataclass(frozen=True)
class _Surface:
    """Where each pixel lies. Planes float32 (batch, size, size), or broadcastable to that.

    x, y: in the photograph, relative to the head, upright and at its scale. sx, sy: the same with the head's outline as
    the unit circle; head: how much of the pixel the head covers, 0..1. fx, fy, fz: in the face's own coordinates; ax,
    side: |fx| and its sign. nose_x, nose_y: around the tip of the nose, which stands out and so moves against the face
    when the head turns. eye_x, eye_y: around the nearer eye, +x away from the nose. mouth_y: above the line between
    the lips. edge: pixels in a head radius, about.
    """

    edge: float
    x: np.ndarray
    y: np.ndarray
    sx: np.ndarray
    sy: np.ndarray
    head: np.ndarray
    fx: np.ndarray
    fy: np.ndarray
    fz: np.ndarray
    ax: np.ndarray
    side: np.ndarray
    nose_x: np.ndarray
    nose_y: np.ndarray
    eye_x: np.ndarray
    eye_y: np.ndarray
    mouth_y: np.ndarray

    @classmethod
    def seen(cls, t: SimpleNamespace, c: SimpleNamespace, size: int) -> _Surface:
        image_x, image_y = _grid(size)
        right, up = image_x - c.shift_x, image_y - c.shift_y - 0.06
        zoom, cos, sin = np.exp(-c.log_scale), np.cos(c.roll), np.sin(c.roll)
        x, y = (right * cos + up * sin) * zoom, (up * cos - right * sin) * zoom

        jaw = 1 - t.jaw_taper * np.clip(-y / t.head_height, 0, 1.1) ** 2
        sx, sy = x / (t.head_width * jaw), y / t.head_height
        radius = np.sqrt(sx**2 + sy**2)
        fx, fy, fz = _turned(c, sx, sy, np.sqrt(np.clip(1 - radius**2, 0, 1)))
        edge = size / 3.2
        ax, eye_x = np.abs(fx), np.abs(fx) - t.eye_spacing
        return cls(
            edge=edge,
            x=x,
            y=y,
            sx=sx,
            sy=sy,
            head=_covered((1 - radius) * 0.9, edge),
            fx=fx,
            fy=fy,
            fz=fz,
            ax=ax,
            side=np.sign(fx),
            nose_x=fx - np.sin(c.yaw) * 0.10,
            nose_y=fy - (t.eye_y - t.nose_length + np.sin(c.pitch) * 0.10),
            eye_x=eye_x,
            eye_y=fy - t.eye_y - t.eye_tilt * eye_x,
            mouth_y=fy - t.mouth_y - c.smile * (ax / t.mouth_width) ** 2,
        )

    def inside(self, distance: np.ndarray) -> np.ndarray:
        """Coverage 0..1 of a shape given the distance from its edge in head radii, positive inside."""
        return _covered(distance, self.edge)


def _turned(c: SimpleNamespace, x: np.ndarray, y: np.ndarray, z: np.ndarray) -> tuple[np.ndarray, ...]:
    """From the camera's directions to the face's own: undo yaw, then pitch."""
    across, z = x * np.cos(c.yaw) - z * np.sin(c.yaw), x * np.sin(c.yaw) + z * np.cos(c.yaw)
    return across, y * np.cos(c.pitch) - z * np.sin(c.pitch), y * np.sin(c.pitch) + z * np.cos(c.pitch)


def _colours(t: SimpleNamespace, c: SimpleNamespace) -> SimpleNamespace:
    """(batch, 3, 1, 1) each."""
    melanin = np.clip(t.melanin + c.tan, 0, 1)
    skin = _mix(_rgb(_LIGHT_SKIN), _rgb(_DARK_SKIN), melanin)
    skin = skin + _rgb((1, -0.4, -0.4)) * (t.redness + c.tan * 0.3)[:, None]
    light = np.clip(t.hair_light, 0, 1)
    hair = _mix(_rgb(_BLACK_HAIR), _rgb(_BROWN_HAIR), np.clip(light * 2, 0, 1))
    hair = _mix(hair, _rgb(_BLOND_HAIR), np.clip(light * 2 - 1, 0, 1))
    hair = _mix(hair, _rgb(_RED_HAIR), np.clip(t.hair_red, 0, 0.8))
    hair = _mix(hair, _rgb(_GREY_HAIR), np.clip(t.hair_grey, 0, 0.9))
    iris = _mix(_rgb(_GREEN_IRIS), _rgb(_BLUE_IRIS), np.clip(t.iris_blue * 1.5, 0, 1))
    iris = _mix(iris, _rgb(_BROWN_IRIS), np.clip(1 - t.iris_light - (0.5 - melanin) * 0.6, 0, 1))
    lip = _mix(skin * 0.86, _rgb((0.72, 0.20, 0.22)), np.clip(t.lip_red, 0, 0.75))
    return SimpleNamespace(skin=skin, hair=hair, brow=hair * 0.6, iris=iris, lip=lip)


def _background(c: SimpleNamespace, size: int, difficulty: float) -> np.ndarray:
    """A plain wall that turns into coloured waves with difficulty: float32 (batch, 3, size, size)."""
    canvas = np.empty((len(c.yaw), 3, size, size), np.float32)
    plain = _rgb((0.78, 0.80, 0.83))
    canvas[:] = plain + (_rgb_of(c, "wall") - plain) * difficulty
    image_x, image_y = _grid(size)
    for wave in range(BACKGROUND_WAVES):
        along_x, along_y, phase = (getattr(c, f"wave_{wave}_{number}") for number in ("fx", "fy", "phase"))
        ripple = np.sin(7 * (image_x * along_x + image_y * along_y) + phase * np.pi)
        canvas += (ripple * (0.13 * difficulty))[:, None] * _rgb_of(c, f"wave_{wave}")
    return canvas


def _hair_length(t: SimpleNamespace, c: SimpleNamespace) -> np.ndarray:
    """0 short .. 1.5 beyond the shoulders."""
    return np.clip(t.hair_length + c.hair_length_change * np.clip(t.hair_length, 0.1, 1), 0, 1.5)


def _hair_bottom(t: SimpleNamespace, c: SimpleNamespace) -> np.ndarray:
    """How far down the hair falls, in head radii from the middle of the head."""
    return 0.25 - 1.25 * _hair_length(t, c)


def _hair_texture(at: _Surface, t: SimpleNamespace, colour: SimpleNamespace) -> np.ndarray:
    strands = 0.10 * np.sin(at.fx * t.strand_x + at.fy * t.strand_y) + 0.06 * np.sin(at.ax * 41 - at.fy * 9)
    return colour.hair * (0.92 + 0.92 * strands)[:, None]


def _paint_behind_the_head(canvas: np.ndarray, at: _Surface, t, c, colour) -> None:
    """Hair that falls behind the head, then neck, clothes and ears."""
    volume = 1 + np.clip(t.hair_volume + c.hair_change * 0.4, 0.01, 0.3)
    radius = np.sqrt((at.x / (t.head_width * volume)) ** 2 + (np.maximum(at.sy, 0) / volume) ** 2)
    hair = at.inside((1 - radius) * 0.9) * at.inside((at.sy - _hair_bottom(t, c)) * 0.6)
    _paint(canvas, hair, _hair_texture(at, t, colour) * 0.75)
    neck = at.inside((t.head_width * 0.52 - np.abs(at.x)) * 1.6) * at.inside(-at.sy - 0.3)
    _paint(canvas, neck, colour.skin * 0.72)
    shoulders = at.inside(1 - np.sqrt((at.x / 1.02) ** 2 + ((at.y + 1.50) / 0.74) ** 2))
    _paint(canvas, shoulders, _rgb_of(c, "clothes"))
    ear_x = np.abs(at.sx + c.yaw * 0.25) - 0.98
    ears = at.inside((1 - np.sqrt((ear_x / (t.ear_size * 0.6)) ** 2 + (at.sy / t.ear_size) ** 2)) * t.ear_size)
    _paint(canvas, ears * (1 - at.head), colour.skin * 0.82)


def _paint_skin(face: np.ndarray, at: _Surface, t: SimpleNamespace, c: SimpleNamespace) -> None:
    """Red cheeks, then whatever darkens skin: freckles, bags under the eyes, folds, wrinkles, moles."""
    cheeks = _blob(at.ax - 0.42, at.fy + 0.25, 0.22, 0.17)
    face += _rgb((0.6, -0.7, -0.6)) * (cheeks * np.clip(t.cheek_red, 0, 1))[:, None]
    freckles = np.clip(np.sin(at.fx * 61 + t.mole_1_x * 40) * np.sin(at.fy * 53 + t.mole_2_x * 40), 0, 1)
    dark = np.clip(t.freckles, 0, 1) * freckles * _blob(at.fx, at.fy + 0.1, 0.6, 0.3)
    dark += np.clip(t.eye_bags, 0, 1) * _blob(at.eye_x, at.eye_y + 0.13, t.eye_width, 0.06)
    nasolabial = _blob(at.ax - 0.17 + (at.fy + 0.2) * 0.42, at.fy + 0.38, 0.035, 0.16)
    dark += np.clip(t.folds + c.smile * 0.6, 0, 1) * nasolabial
    furrows = np.clip(np.sin((at.fy - at.fx**2 * 0.2) * 48), 0, 1)
    dark += np.clip(t.wrinkles, 0, 1) * furrows * _blob(at.fx, at.fy - 0.45, 0.5, 0.14)
    dark += np.clip(t.mole_1, 0, 0.7) * _blob(at.fx - t.mole_1_x, at.fy - t.mole_1_y, 0.035, 0.03)
    dark += np.clip(t.mole_2, 0, 0.7) * _blob(at.fx - t.mole_2_x, at.fy - t.mole_2_y, 0.035, 0.03)
    face *= (1 - np.clip(dark, 0, 0.8))[:, None]


def _paint_beard(face: np.ndarray, at: _Surface, t, c, colour) -> None:
    """Hair on skin is sparse, so it covers by its density. Who grows none at all does not change either."""
    jaw = at.inside((at.ax**2 * 0.55 - at.fy - 0.42) * 0.35) * at.inside((at.fz + 0.1) * 0.5)
    beard = np.clip(t.beard + c.beard_change * np.clip(t.beard + 0.4, 0, 1), 0, 0.85)
    _paint(face, jaw * beard, colour.brow)
    upper_lip = _blob(at.fx, at.fy - t.mouth_y - 0.12, 0.22, 0.055)
    moustache = np.clip(t.moustache + c.beard_change * np.clip(t.moustache + 0.4, 0, 1), 0, 0.9)
    _paint(face, upper_lip * moustache, colour.brow)


def _paint_mouth(face: np.ndarray, at: _Surface, t, c, colour) -> None:
    """Lips around a line that opens, and teeth behind it."""
    gape = np.clip(c.mouth_open, 0, 1) + 0.006
    arch = np.clip(1 - (at.fx / (t.mouth_width + c.smile * 0.25)) ** 2, 0, 1)
    within = arch > 0
    upper = (np.clip(t.lip_upper, 0.01, 1) + gape) * arch * (1 - 0.35 * _blob(at.fx, 0, 0.06, 1))
    lower = (np.clip(t.lip_lower, 0.015, 1) + gape) * np.sqrt(arch)
    lips = at.inside(np.where(at.mouth_y > 0, upper - at.mouth_y, lower + at.mouth_y))
    _paint(face, lips * within, colour.lip)
    opening = gape * arch - np.abs(at.mouth_y)
    _paint(face, at.inside(opening) * within, _rgb((0.22, 0.07, 0.07)))
    _paint(face, at.inside(np.minimum(opening - 0.02, at.mouth_y + 0.01)), _rgb((0.93, 0.91, 0.86)))


def _paint_eyes(face: np.ndarray, at: _Surface, t, c, colour) -> None:
    """Eyes, lashes and brows, left and right at once."""
    opened = np.clip(1 + np.minimum(c.eyes_open, 0.25), 0.12, 1.3)
    lid = t.eye_height * opened * np.clip(1 - (at.eye_x / t.eye_width) ** 2, 0, 1)
    eye = at.inside(lid - np.abs(at.eye_y)) * (np.abs(at.eye_x) < t.eye_width)
    _paint(face, eye, _rgb((0.93, 0.92, 0.90)))
    # Heads are taller than wide: the factor makes the iris round in the photograph.
    iris_radius = np.sqrt(0.62 * (at.eye_x * at.side - c.gaze) ** 2 + at.eye_y**2)
    _paint(face, eye * at.inside(0.078 - iris_radius), colour.iris)
    _paint(face, eye * at.inside(0.034 - iris_radius), _rgb((0.03, 0.03, 0.03)))
    lash = at.inside(0.018 - np.abs(at.eye_y - lid)) * (np.abs(at.eye_x) < t.eye_width * 1.05)
    _paint(face, lash * 0.75, _rgb((0.10, 0.07, 0.06)))

    line = t.eye_y + t.brow_gap + c.brows_up + t.brow_tilt * at.eye_x - t.brow_arch * at.eye_x**2
    taper = np.clip((0.24 - np.abs(at.eye_x)) * 9, 0, 1)
    brow = at.inside(np.clip(t.brow_thickness, 0.012, 1) * taper - np.abs(at.fy - line)) * taper
    _paint(face, brow * np.clip(t.brow_density, 0.1, 1), colour.brow)


def _paint_nostrils(face: np.ndarray, at: _Surface, t, colour) -> None:
    nostrils = _blob(np.abs(at.nose_x) - t.nose_width * 0.55, at.nose_y + 0.035, t.nose_width * 0.38, 0.028)
    _paint(face, nostrils * 0.65, colour.skin * 0.25)


def _paint_hair(face: np.ndarray, at: _Surface, t, c, colour) -> np.ndarray:
    """Hair above the hairline, on the sides and on the back of the head. Returns its coverage."""
    line = t.hairline + c.hair_change - t.hair_sides * np.abs(at.fx - t.hair_part * 0.4) ** 3
    line = line + np.clip(t.hair_wave, 0, 1) * np.sin(at.fx * 13 + t.hair_part * 20)
    top = at.inside((at.fy - line) * 0.8)
    forward = 0.12 + np.clip(_hair_length(t, c) - 0.4, 0, 0.25)
    back = at.inside((forward - at.fz) * 0.6) * at.inside((at.fy - _hair_bottom(t, c)) * 0.6)
    hair = np.maximum(top, back)
    _paint(face, hair, _hair_texture(at, t, colour))
    return hair


def _paint_glasses(face: np.ndarray, at: _Surface, t: SimpleNamespace, c: SimpleNamespace) -> None:
    """Two rims, from round to square, a bridge and the temples; people sometimes take their glasses off."""
    worn = np.clip((t.glasses - 0.1) * 6, 0, 1) * (1 - c.glasses_off)
    power = np.clip(t.glasses_square, 2, 6)
    lens_x, lens_y = np.abs(at.eye_x) / t.glasses_size, np.abs(at.fy - t.eye_y + 0.02) / (t.glasses_size * 0.72)
    lens = (lens_x**power + lens_y**power + 1e-6) ** (1 / power)
    rims = at.inside(0.022 - np.abs(1 - lens) * t.glasses_size)
    between = (at.ax < t.eye_spacing - t.glasses_size) | (at.ax > t.eye_spacing + t.glasses_size)
    bar = at.inside(0.02 - np.abs(at.fy - t.eye_y)) * between
    _paint(face, np.maximum(rims, bar) * worn * np.clip(at.fz * 5, 0, 1), _rgb((0.08, 0.07, 0.07)))


def _shade(face: np.ndarray, at: _Surface, t: SimpleNamespace, c: SimpleNamespace, hair: np.ndarray) -> None:
    """Lambert's law with ambient light and a little gloss; hills on the sphere tilt its normals by their slopes."""
    normal_x, normal_y = at.fx.copy(), at.fy.copy()
    mirrored, bridge = at.side, t.nose_length * 0.5
    for hill_x, sign, hill_y, width, height, amplitude in (
        (at.nose_x, 1, at.nose_y - bridge * 0.9, t.nose_bridge, bridge, t.nose_height * 0.45),
        (at.nose_x, 1, at.nose_y, t.nose_width, 0.10, t.nose_height * 0.55),
        (at.ax - 0.48, mirrored, at.fy + 0.16, 0.2, 0.14, t.cheekbones),
        (at.eye_x, mirrored, at.fy - t.eye_y - 0.02, 0.24, 0.15, -t.socket_depth),
        (at.fx, 1, at.fy + 0.84, 0.2, 0.11, t.chin),
        (at.fx, 1, at.mouth_y, t.mouth_width, 0.11, 0.025),
    ):
        hill = 2 * amplitude * _blob(hill_x, hill_y, width, height)
        normal_x += hill * hill_x / width**2 * sign
        normal_y += hill * hill_y / height**2
    norm = np.sqrt(normal_x**2 + normal_y**2 + at.fz**2) + 1e-6

    light = np.stack([c.light_x, c.light_y + 0.35, np.ones_like(c.light_x)])
    light_x, light_y, light_z = _turned(c, *(light / np.sqrt((light**2).sum(0))))
    lambert = np.clip((normal_x * light_x + normal_y * light_y + at.fz * light_z) / norm, 0, 1)
    ambient = np.clip(0.50 + c.ambient, 0.15, 0.9)
    face *= (ambient + (1.08 - ambient) * lambert)[:, None]
    face += (0.10 * lambert**14 * (1 - hair))[:, None]


def _paint_occluder(canvas: np.ndarray, at: _Surface, c: SimpleNamespace) -> None:
    """A bar in front of the face, as a hand, a scarf or a microphone would be."""
    off_x, off_y = at.x - c.occluder_x * 0.5, at.y - c.occluder_y * 0.5
    distance = np.abs(off_x * np.cos(c.occluder_angle) + off_y * np.sin(c.occluder_angle))
    _paint(canvas, at.inside((0.16 - distance) * 1.6) * c.occluder, _rgb_of(c, "cover"))


def _expose(canvas: np.ndarray, c: SimpleNamespace) -> np.ndarray:
    """The camera: colour temperature, blur, exposure, contrast, gamma."""
    canvas *= 1 + _rgb((1, 0.1, -1)) * c.warmth[:, None]
    size = canvas.shape[-1]
    pixel = np.arange(size, dtype=np.float32)
    # A Gaussian blur as a matrix from both sides; its rows sum to 1, so nothing leaks in over the image's border.
    kernel = np.exp(-0.5 * ((pixel[:, None] - pixel[None, :]) / (c.blur * (size / 2))) ** 2)
    kernel = (kernel / kernel.sum(2, keepdims=True))[:, None]
    canvas = kernel @ canvas @ kernel.transpose(0, 1, 3, 2)
    canvas = 0.5 + (canvas * np.exp(c.log_exposure)[:, None] - 0.5) * (1 + c.contrast)[:, None]
    return np.clip(canvas, 1e-4, 1) ** np.exp(c.log_gamma)[:, None]


def _grid(size: int) -> tuple[np.ndarray, np.ndarray]:
    """x and y of the pixels' centres, -1..1, +y up: (1, 1, size) and (1, size, 1)."""
    centres = (np.arange(size, dtype=np.float32) + 0.5) * (2 / size) - 1
    return centres[None, None, :], -centres[None, :, None]


def _covered(distance: np.ndarray, edge: float) -> np.ndarray:
    return np.clip(distance * edge + 0.5, 0, 1)


def _blob(x: np.ndarray, y: np.ndarray, width, height) -> np.ndarray:
    """A Gaussian hill of height 1 at x = y = 0."""
    return np.exp(-((x / width) ** 2) - (y / height) ** 2)


def _rgb(colour: tuple[float, float, float]) -> np.ndarray:
    return np.array(colour, np.float32).reshape(1, 3, 1, 1)


def _rgb_of(numbers: SimpleNamespace, name: str) -> np.ndarray:
    return np.stack([getattr(numbers, f"{name}_{channel}") for channel in "rgb"], axis=1)


def _mix(colour: np.ndarray, other: np.ndarray, share: np.ndarray) -> np.ndarray:
    return colour + (other - colour) * share[:, None]


def _paint(canvas: np.ndarray, coverage: np.ndarray, colour: np.ndarray) -> None:
    """Lay `colour` over the canvas (batch, 3, size, size) as far as coverage (batch, size, size) says, 0..1."""
    canvas += (colour - canvas) * coverage[:, None]
