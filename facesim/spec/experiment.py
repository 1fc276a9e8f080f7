"""What is trained: data, model, optimiser settings, budget and seed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, model_validator

from facesim.spec.base import Frozen, LocalPath
from facesim.spec.data import DataSpec
from facesim.spec.frameworks import TENSORFLOW
from facesim.spec.options import NameIn, option
from facesim.spec.own_model import NameOrFile
from facesim.spec.recipes import RECIPES
from facesim.spec.remote import remote
from facesim.spec.subset import Subset
from facesim.util.errors import InputError

Precision = Literal["float32", "bfloat16", "float16"]


def _subset(text: str) -> str | None:
    """A subset in its one spelling; None where it is everything."""
    try:
        subset = Subset.parse(text)
    except InputError as error:
        raise ValueError(str(error)) from None
    return None if subset == (None, None) else str(subset)


def _readable(data: str) -> str:
    remote(data)
    return data


class Experiment(Frozen):
    """What is trained: data, model, optimiser settings, budget and seed.

    `batch` is the number of examples in one update of the parameters, whatever the strategy: a comparison at the same
    `batch` and `epochs` compares the same number of updates from the same number of examples. With `scale_lr` it is
    what each worker computes at a time: see `Job.update_batch`.

    `subset` (`identities=20,images=5`) uses a part of the data, chosen by `seed` before anything is held out.

    A data set's own split (`facesim.data.parts`) is kept unless `split` is "random", and so is the one that `test`
    makes; then neither `held_out` nor `seed` has a say in what is tested.

    `recipe` gives the defaults of the fields that are left out, where it has one. `margin` is that of a margin head: a
    cosine for cosface, radians for arcface. `warmup` is the share of all updates in which a cosine schedule rises;
    `weight_decay` is decoupled from the gradient, which makes
    Adam AdamW; `clip_norm` bounds the norm of the whole gradient.
    """

    recipe: Annotated[str, NameIn("facesim.spec.recipes:RECIPES")] = option(
        "paper", "defaults of model, head, optimiser and more (facesim recipes)", "Model", common=True
    )
    data: Annotated[str, AfterValidator(_readable)] = option(
        "rendered",
        "rendered, olivetti, lfw, or a folder, .zip, .npz, .csv, .rec or .tfrecord; with --backend sagemaker also "
        "s3://BUCKET/FOLDER, efs://FILE-SYSTEM/FOLDER, fsx://...",
        "Data",
        common=True,
        metavar="DATA",
        commas=True,
    )
    test: str | None = option(
        None, "test on the images of this data set; all of --data is then trained on", "Data", metavar="DATA"
    )
    split: Literal["own", "random"] = option(
        "own", "own: the data's own split, if it has one (folders train and test, a column split); random: none", "Data"
    )
    test_part: Literal["test", "val"] = option(
        "test", "part of the data's own split to test on: val to choose settings with, test to report", "Data"
    )
    subset: Annotated[str, AfterValidator(_subset)] | None = option(
        None,
        "identities=N,images=M, or one of them: a part of the data, chosen by the seed, each larger one containing the "
        "smaller; repeatable, for a learning curve",
        "Data",
        common=True,
        shown="all",
        commas=True,
    )
    model: Annotated[str, NameOrFile("facesim.models:MODELS")] = option(
        "paper-cnn", "network (facesim models), or a file and a function in it: net.py:build", "Model", common=True
    )
    head: Annotated[str, NameIn("facesim.models:HEADS")] = option(
        "softmax", "from features to logits", "Model", common=True
    )
    pretrained: LocalPath | None = option(
        None,
        "start from the network of this run, or .keras file, all but its head",
        "Model",
        metavar="RUN",
        commas=True,
    )
    margin: float = option(0.2, "margin of the head: a cosine for cosface, radians for arcface", "Model", ge=0, le=1)
    margin_scale: float = option(30.0, "what cosines are multiplied with", "Model", gt=0)
    sample_rate: float = option(
        0.1,
        "share of the identities that each update is made of with --head partial-fc",
        "Model",
        gt=0,
        le=1,
        frameworks=(TENSORFLOW,),
    )
    label_smoothing: float = option(
        0.0, "share of the truth that is spread over all identities", "Training", ge=0, lt=1
    )
    image_size: int = option(64, "height and width in pixels", "Data", common=True, ge=32, le=512)
    channels: Literal[1, 3] = option(3, "1 for grey images, 3 for colour", "Data")
    held_out: float = option(0.2, "share of each identity's images kept for testing", "Data", common=True, gt=0, lt=1)
    validation: float = option(
        0.0, "share of the training images to test on in place of the held-out ones, to choose settings by", "Data",
        ge=0, lt=1,
    )  # fmt: skip
    max_bad_files: float = option(0.05, "share of files that may be unreadable", "Data", ge=0, le=1)
    min_images: int | None = option(None, "leave out identities with fewer images", "Data", shown="none; lfw: 15", ge=2)
    image_feature: str | None = option(
        None,
        "what files of many images call the image: a feature, a column, a suffix in a tar",
        "Data",
        shown="the usual names",
        commas=True,
    )
    label_feature: str | None = option(
        None, "what files of many images call the identity", "Data", shown="the usual names", commas=True
    )
    epochs: int = option(50, "times that every training example is seen", "Training", common=True, ge=1)
    batch: int = option(32, "examples in one update", "Training", common=True, ge=1)
    optimizer: Literal["adam", "sgd", "lion"] = option(
        "adam", "how gradients change the parameters; each has learning rates of its own", "Training", common=True
    )
    momentum: float = option(
        0.9,
        "momentum of --optimizer sgd; 0 is plain gradient descent",
        "Training",
        ge=0,
        lt=1,
        frameworks=(TENSORFLOW,),
    )
    learning_rate: float = option(1e-4, "learning rate of the optimiser", "Training", common=True, gt=0)
    schedule: Literal["constant", "cosine"] = option("constant", "how the learning rate changes", "Training")
    warmup: float = option(0.05, "share of updates in which a cosine rate rises", "Training", ge=0, lt=1)
    weight_decay: float = option(0.0, "weight decay, decoupled; makes Adam AdamW", "Training", ge=0, lt=1)
    clip_norm: float | None = option(None, "bound of the norm of the whole gradient", "Training", gt=0)
    augment: bool = option(False, "alter training images at random", "Training")
    mirror_test: bool = option(False, "test on each image and its mirror image, averaged", "Training")
    scale_lr: Literal["none", "linear", "sqrt"] = option(
        "none", "scale the rate with the workers of an update; --batch is then each worker's", "Training"
    )
    warmup_epochs: int = option(5, "epochs until a scaled rate is reached", "Training", ge=0)
    precision: Precision = option(
        "float32",
        "type of the computation; float16, with TensorFlow only, is for GPUs without bfloat16 (V100, T4) and slow on "
        "processors",
        "Training",
    )
    cache: Literal["memory", "disk", "none"] = option(
        "memory", "where decoded images are kept; none: image files are decoded as they are read", "Data"
    )
    evaluate_every: int = option(1, "epochs between evaluations", "Training", ge=1)
    seed: int = option(0, "seed of the split, the parameters and the order of examples", "Training", ge=0)

    @property
    def data_spec(self) -> DataSpec:
        """What decides which images are trained on and tested."""
        return DataSpec.of(self.model_dump())

    @model_validator(mode="before")
    @classmethod
    def _with_recipe(cls, given: dict[str, Any]) -> dict[str, Any]:
        name = given.get("recipe", "paper")
        recipe = RECIPES[name] if isinstance(name, str) and name in RECIPES else None
        return {**recipe.settings, **given} if recipe else given

    @model_validator(mode="after")
    def _keeps_a_subset(self) -> Experiment:
        if self.subset and self.cache == "none":
            raise ValueError("--subset keeps the images that it chooses: use --cache disk or memory with it, not none")
        return self


def with_defaults(recorded: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of an experiment that was run; an option that there was not yet has the default, by which it was."""
    return {name: field.default for name, field in Experiment.model_fields.items()} | dict(recorded)
