"""The numbers that make a rendered image: a person's traits, and the circumstances of one photograph."""

from __future__ import annotations

import numpy as np

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
    "strand_x": (24.0, 8.0),
    "strand_y": (4.0, 8.0),
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
    "yaw": 0.42,
    "pitch": 0.22,
    "roll": 0.18,
    "log_scale": 0.10,
    "shift_x": 0.09,
    "shift_y": 0.08,
    "light_x": 0.90,
    "light_y": 0.60,
    "ambient": 0.25,
    "warmth": 0.12,
    "smile": 0.13,
    "mouth_open": 0.09,
    "eyes_open": 0.55,
    "gaze": 0.06,
    "brows_up": 0.05,
    "hair_change": 0.07,
    "hair_length_change": 0.30,
    "beard_change": 0.45,
    "glasses_off": 1.0,
    "tan": 0.05,
    "log_exposure": 0.28,
    "contrast": 0.22,
    "log_gamma": 0.22,
    "blur": 0.010,
    "noise": 0.006,
    "occluder": 1.0,
    "occluder_x": 1.0,
    "occluder_y": 1.0,
    "occluder_angle": 1.6,
}

#: Coloured waves that a background has.
BACKGROUND_WAVES = 4


def draw_traits(seed: int, identity: int, spread: float) -> dict[str, float]:
    """A person's traits by name; `spread` is how much people differ from each other, 1 as usual."""
    z = np.random.default_rng([seed, 0, identity]).standard_normal(len(_TRAITS)).clip(-2, 2)
    return {name: mean + sd * spread * z_i for (name, (mean, sd)), z_i in zip(_TRAITS.items(), z, strict=True)}


def draw_circumstances(difficulty: float, stream: np.random.Generator) -> dict[str, float]:
    """A photograph's circumstances by name; `difficulty`, 0..1, is how far they deviate from a passport photograph."""
    u = stream.uniform(-1, 1, len(_CIRCUMSTANCES))
    shot = {name: most * difficulty * u_i for (name, most), u_i in zip(_CIRCUMSTANCES.items(), u, strict=True)}
    shot["blur"] = 0.006 + abs(shot["blur"])
    shot["noise"] = 0.003 + abs(shot["noise"])
    # What either happens or not: (u + 1) / 2 is uniform in 0..1, so the chance grows with difficulty.
    chance = dict(zip(_CIRCUMSTANCES, (u + 1) / 2, strict=True))
    shot["occluder"] = float(chance["occluder"] < 0.20 * difficulty)
    shot["glasses_off"] = float(chance["glasses_off"] < 0.35 * difficulty)
    for name, low, high in (("wall", 0.1, 0.9), ("clothes", 0.05, 0.8), ("cover", 0.05, 0.8)):
        for channel, value in zip("rgb", stream.uniform(low, high, 3), strict=True):
            shot[f"{name}_{channel}"] = value
    for wave in range(BACKGROUND_WAVES):
        for number, value in zip(("fx", "fy", "phase", "r", "g", "b"), stream.uniform(-1, 1, 6), strict=True):
            shot[f"wave_{wave}_{number}"] = value
    return shot
