"""Recipes: named settings of an experiment. Whatever is also given by name wins over the recipe."""

from typing import Any, NamedTuple

from facesim.util.registry import Registry


class Recipe(NamedTuple):
    """`settings` are fields of `facesim.spec.experiment.Experiment`; what is missing there is the field's default."""

    summary: str
    settings: dict[str, Any]


_MODERN: dict[str, Any] = {
    "model": "resnet-small",
    "head": "arcface",
    "margin": 0.2,
    "margin_scale": 30.0,
    "image_size": 96,
    "epochs": 150,
    "batch": 16,
    "learning_rate": 1e-3,
    "schedule": "cosine",
    "warmup": 0.05,
    "weight_decay": 0.05,
    "clip_norm": 5.0,
    "augment": True,
    "mirror_test": True,
    "evaluate_every": 10,
}

RECIPES: Registry[Recipe] = Registry(
    "recipe",
    "facesim.recipes",
    {
        "paper": Recipe("as the paper trained: Adam at 0.0001, 50 epochs, images as they are", {}),
        "modern": Recipe(
            "a small residual network, ArcFace, augmentation, AdamW with warm-up and cosine decay, mirrored testing",
            _MODERN,
        ),
        "wild": Recipe(
            "few photographs, as they are taken in the wild: texture-resnet for light, pose and background that vary; "
            "with --pretrained FILE it starts from what `facesim pretrain FILE` made, without it from nothing",
            {**_MODERN, "model": "texture-resnet", "epochs": 60},
        ),
    },
)
