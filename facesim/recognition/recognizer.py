"""What a run's model is used for: embedding, verification, identification, sorting, evaluation, export."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from facesim.data.decode import shows_nothing
from facesim.data.layouts import some
from facesim.data.sources import DATASETS, place_of
from facesim.models.exporters import EXPORTERS
from facesim.preflight.inputs import Inputs, data_notices, prepare_data
from facesim.preflight.lineage import is_as_trained
from facesim.recognition.groups import with_groups
from facesim.recognition.photographs import Gallery, image_files, warn
from facesim.recognition.protocols import similarities
from facesim.recognition.reliance import Basis, Reliance, basis, mark
from facesim.recognition.seen import seen_in_training
from facesim.recognition.sorting import Sorting, sort_photos
from facesim.recognition.verification_set import SUFFIX as VERIFICATION_SUFFIX
from facesim.runs.evaluations import Evaluation
from facesim.runs.states import RunState
from facesim.spec.data import DataSpec
from facesim.spec.own_model import OwnModel
from facesim.util.disk import writing_to
from facesim.util.errors import FacesimError, InputError, doing
from facesim.util.files import check_new, check_outside, open_regular, why_unread
from facesim.util.folders import local_path
from facesim.util.registry import loaded
from facesim.util.unused import printable
from facesim.util.words import count_text

if TYPE_CHECKING:
    from facesim.data.prepared import PreparedData
    from facesim.recognition.embedding import Embedder
    from facesim.runs.directory import Run
    from facesim.spec.job import Job


@dataclass(frozen=True)
class Verified:
    """Whether two images show the same person.

    similarity: the cosine of their embeddings. same: None where there is no answer; `verdict` says it in words.
    threshold: the similarity from which on it is one person. cannot_tell: why the model's answers say nothing.
    notes: where the threshold is from, and how far to rely on the answer. evaluation: what that is by.
    """

    similarity: float
    threshold: float | None
    same: bool | None
    verdict: str
    cannot_tell: str | None
    evaluation: Reliance | None
    notes: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        content = {**asdict(self), "evaluation": self.evaluation and self.evaluation.to_json()}
        del content["verdict"]
        return content


@dataclass(frozen=True)
class Identified:
    """Whom one image shows, of a gallery.

    closest: the three most similar people with their similarities, the first the most. threshold: the similarity from
    which on it is the closest one; `chosen` says whether it, or its false accept rate, was asked for. like_enough:
    whether the closest passes it; None where that is not known. cannot_tell: why the model's answers say nothing.
    """

    probe: str
    closest: tuple[tuple[str, float], ...]
    threshold: float | None
    chosen: bool
    like_enough: bool | None
    cannot_tell: str | None
    evaluation: Reliance | None
    notes: tuple[str, ...]

    @property
    def identity(self) -> str | None:
        """The closest of the gallery's people; None, nobody of the gallery, if that one does not pass a threshold that
        was asked for.
        """
        return None if self.chosen and self.like_enough is False else self.closest[0][0]

    def to_json(self) -> dict[str, Any]:
        return {
            **asdict(self),
            "identity": self.identity,
            "closest": [{"identity": name, "similarity": similarity} for name, similarity in self.closest],
            "evaluation": self.evaluation and self.evaluation.to_json(),
        }


@dataclass(frozen=True)
class Exported:
    """A model that was written: where, the images that it takes (height, width, channels), the dimensions of its
    embeddings, and the people's names in the order of its logits.
    """

    path: Path
    image_shape: tuple[int, int, int]
    dimensions: int
    names: tuple[str, ...]


class Recognizer:
    """The model of a run, to use. It is loaded when it is first needed.

    Args:
        run: the run that trained it.
        notice: is called with what of the given images is not used; left out, it becomes a `NoticeWarning`.
        before_loading: called once, before TensorFlow is imported.

    Raises:
        InputError: the run has no model.
    """

    def __init__(
        self, run: Run, notice: Callable[[str], None] = warn, before_loading: Callable[[], None] = lambda: None
    ):
        try:
            open_regular(run.model_file).close()
        except (OSError, ValueError) as error:
            why = "it does not exist" if isinstance(error, FileNotFoundError) else why_unread(error)
            raise InputError(
                f"{run.model_file} is not a model that facesim can load: {why}; name one that a completed run saved"
            ) from None
        self._run, self._notice, self._before_loading = run, notice, before_loading

    def __repr__(self) -> str:
        return f"<facesim.Recognizer of {self._run.id}>"

    @cached_property
    def _embedder(self) -> Embedder:
        self._before_loading()
        from facesim.recognition.embedding import Embedder

        return Embedder(self._run)

    def embed(self, images: Path | str | Iterable[Path | str] | np.ndarray) -> np.ndarray:
        """Unit embeddings, float32 (n, dimensions), of image files or folders of them, in order; or of images, uint8
        (n, height, width, channels), of the size that the model takes.

        Raises:
            InputError: a file is missing or is no image.
        """
        if not isinstance(images, np.ndarray):
            files = image_files(images, self._notice)
            return self._embedder.embed(self._read(files))
        size, channels = self._embedder.experiment.image_size, self._embedder.experiment.channels
        taken = f"uint8 (n, {size}, {size}, {channels})"
        if images.ndim != 4 or images.shape[1:] != (size, size, channels) or images.dtype != np.uint8:
            message = f"the images are {images.dtype} {images.shape}; this model takes {taken}"
            raise InputError(message, field="images", value=images.shape, allowed=taken)
        if not len(images):
            raise InputError(f"there are no images; this model takes {taken}", field="images", value=images.shape)
        return self._embedder.embed(images)

    def verify(
        self, first: Path | str, second: Path | str, threshold: float | None = None, far: float | None = None
    ) -> Verified:
        """Whether two image files show the same person.

        By `threshold`, or by that for the false accept rate `far`, or else by the best one: of the newest evaluation on
        people whom the model was not trained on, or else of whom that is not known, or else of any. Without `threshold`
        there is no answer where the model was not found to tell people apart.

        Raises:
            InputError: a file is missing or is no image, or there is no threshold for `far`.
        """
        by = basis(self._run, threshold, far)
        images = self._read([local_path(first), local_path(second)])
        one, other = self._embedder.embed(images)
        similarity = float(one @ other)
        same = None if by.threshold is None or (by.cannot_tell and threshold is None) else similarity >= by.threshold
        if threshold is not None:
            verdict = f"{_answer(similarity >= threshold)}, if the threshold that was given is right"
        elif same is None:
            unknown = "for an answer give a threshold or evaluate the model"
            verdict = f"cannot tell: {by.cannot_tell}" if by.cannot_tell else unknown
        else:
            verdict = _answer(same)
        notes = by.notes
        if np.array_equal(*images):
            notes = ("it is one image, twice: any model finds it the same person's", *notes)
        return Verified(similarity, by.threshold, same, verdict, by.cannot_tell, by.evaluation, notes)

    def identify(
        self,
        gallery: Gallery | Path | str,
        probes: Path | str | Iterable[Path | str],
        threshold: float | None = None,
        far: float | None = None,
    ) -> list[Identified]:
        """Who of the gallery, a folder for each person, each of the probes shows: image files, or folders of them.

        With `threshold`, or with that for `far`, it may be nobody of the gallery: `far` is the rate at which strangers
        are taken for somebody of it.

        Raises:
            InputError: the gallery or a file cannot be used, or there is no threshold for `far`.
        """
        known = gallery if isinstance(gallery, Gallery) else Gallery.read(gallery, self._notice)
        by = self._basis_of(known, threshold, far)
        files = image_files(probes, self._notice)
        similar_to = self._compared_with(known, files)
        scores_of_probes = similar_to(self._embedder.embed(self._read(files)))
        answers = by.threshold is not None and (threshold is not None or not by.cannot_tell)
        return [
            Identified(
                probe=printable(str(file)),
                closest=tuple((known.names[at], float(scores[at])) for at in np.argsort(-scores)[:3]),
                threshold=by.threshold,
                chosen=by.chosen,
                like_enough=bool(scores.max() >= by.threshold) if answers else None,
                cannot_tell=by.cannot_tell,
                evaluation=by.evaluation,
                notes=by.notes,
            )
            for file, scores in zip(files, scores_of_probes, strict=True)
        ]

    def sort(
        self,
        gallery: Gallery | Path | str,
        photos: Path | str | Iterable[Path | str],
        output: Path | str | None,
        threshold: float | None = None,
        far: float | None = None,
        links: bool = False,
    ) -> Sorting:
        """Sort photographs, files or folders of them, by whom of the gallery they show (`facesim.recognition.sorting`).

        Args:
            output: the folder that is made for it, of copies, or of `links`; None makes none.
            threshold, far: as for `identify`; one of them is needed.

        Raises:
            InputError: something of this cannot be used, the model was not found to tell people apart, or `output` is
                there already.
        """
        if threshold is None and far is None:
            raise InputError("sorting needs a false accept rate or a threshold; give one of them", field="far")
        known = gallery if isinstance(gallery, Gallery) else Gallery.read(gallery, self._notice, least=1)
        by = self._basis_of(known, threshold, far)
        if by.cannot_tell and threshold is None:
            raise InputError(f"photographs cannot be sorted: {by.cannot_tell}; with a threshold they are nevertheless")
        given = [photos] if isinstance(photos, (str, Path)) else list(photos)
        output = None if output is None else local_path(output)
        if output is not None:
            check_new(output)
            for source in given if isinstance(gallery, Gallery) else [*given, gallery]:
                check_outside(output, local_path(source))
        by_place: dict[str, Path] = {}  # one photograph may be named twice, or be in a folder that is named, too
        for file in image_files(given, self._notice):
            by_place.setdefault(os.path.realpath(file), file)
        files = list(by_place.values())
        similar_to = self._compared_with(known, files)
        embeddings, unread = self._embedder.embed_readable(files)
        readable = [file for file in files if file not in unread]
        sorting = sort_photos(known.names, readable, embeddings, similar_to(embeddings), by, unread)
        if output is not None:
            sorting.write(output, links)
        return sorting

    def _read(self, files: list[Path]) -> np.ndarray:
        images = self._embedder.read(files)
        if flat := [printable(str(file)) for file, image in zip(files, images, strict=True) if shows_nothing(image)]:
            of = f"of {count_text(len(files), 'image')}"
            one, more = "is of one colour, or nearly, and shows nobody", "are of one colour, or nearly, and show nobody"
            self._notice(f"{count_text(len(flat), f'{of} {one}', f'{of} {more}')} ({some(flat, 3)})")
        return images

    def _basis_of(self, gallery: Gallery, threshold: float | None, far: float | None) -> Basis:
        by = basis(self._run, threshold, far, gallery=len(gallery.names))
        right = by.evaluation and by.evaluation.right
        return by._replace(notes=(right, *by.notes)) if right else by

    def _compared_with(self, gallery: Gallery, files: Sequence[Path]) -> Callable[[np.ndarray], np.ndarray]:
        """What gives the similarity of embeddings, (n, dimensions), to each person of the gallery, (n, people); `files`
        are those of the images that they are of.
        """
        of_gallery = {os.path.realpath(example.path) for example in gallery.examples}
        if same := [file for file in files if os.path.realpath(file) in of_gallery]:
            self._notice(
                f"{len(same):,} of {count_text(len(files), 'image')} {'is' if len(same) == 1 else 'are'} the gallery's "
                f"own ({printable(str(same[0]))}): any model finds such, which says nothing about others"
            )
        number = {name: place for place, name in enumerate(gallery.names)}
        labels = np.array([number[example.identity] for example in gallery.examples])
        paths = [example.path for example in gallery.examples]
        people, unread = self._embedder.embed_readable(paths)
        labels = labels[[path not in unread for path in paths]]
        if unread:
            shown = [f"{printable(str(path))}: {reason}" for path, reason in unread.items()]
            if lost := [name for name, place in number.items() if place not in labels]:
                raise InputError(
                    f"no image of {some(lost)} in the gallery can be used ({some(shown, 3)}), so they would never be "
                    f"found. Repair the images, or leave these people out",
                    field="gallery",
                )
            self._notice(
                f"of the gallery cannot be used and is left out: {len(unread):,} of {count_text(len(paths), 'image')} "
                f"({some(shown, 3)})"
            )
        return lambda embeddings: similarities(people, labels, embeddings)

    def evaluate(
        self,
        data: str | Path | None = None,
        *,
        pairs: Path | str | None = None,
        fars: Sequence[float] | None = None,
        groups: Path | str | None = None,
        image_feature: str | None = None,
        label_feature: str | None = None,
        max_bad_files: float | None = None,
    ) -> dict[str, Any]:
        """How well the model recognises: closed set, identification, verification, and by group of people; kept in the
        run's `evaluation.json`, too, or `notice` is called with why it is not.

        Args:
            data: a data set of other people, as `data` of a job, or a verification set of InsightFace's (.bin); left
                out, the run's own held-out images.
            pairs: a list of pairs (`facesim.recognition.pair_lists`); `data` is then the folder of the images that it
                names.
            fars: false accept rates at which to tell the true accept rate.
            groups: a CSV of label,group, for error rates by group; left out, the data's own groups.
            image_feature, label_feature: what other people's data calls them, as of a job; left out, the usual names,
                whatever the run's own data calls them.
            max_bad_files: the share of its files, 0-1, that may be unreadable, as of a job.

        Raises:
            InputError: something of this cannot be used.
        """
        if pairs and not data:
            raise InputError(f"pairs {pairs} needs DATA, the folder of the images that it names", field="pairs")
        if pairs and groups:
            raise InputError(f"groups {groups} does not go with pairs, whose people it does not know", field="groups")
        embedder, job = self._embedder, self._run.job()
        from facesim.recognition.assess import assess_others, assess_own, assess_pairs, assess_verification_set

        seen = partial(seen_in_training, self._run, notice=self._notice)
        reading = {"image_feature": image_feature, "label_feature": label_feature, "max_bad_files": max_bad_files}
        if pairs and data:
            _refuse(reading, "a list of pairs")
            results = assess_pairs(embedder, local_path(pairs), local_path(data), fars, seen)
        elif data and Path(data).suffix.lower() == VERIFICATION_SUFFIX:
            _refuse({"groups": groups}, f"{data}, whose people are not known")
            _refuse(reading, f"{data}, a verification set")
            results = assess_verification_set(embedder, local_path(data), fars, seen)
        elif data is None or str(data) == job.experiment.data:
            _refuse(reading, "the run's own data, which is read as the run read it")
            own = self._prepared(job, groups)
            if not (as_trained := is_as_trained(self._run, own)):
                self._notice(
                    f"{own.name} has changed since the model was trained: what is held out now may have been trained on"
                )
            results = assess_own(embedder, own, fars, as_trained=as_trained)
        else:
            others = _of_others(job, str(data), reading)
            strangers = self._prepared(others, groups)
            for notice in data_notices([others], [Inputs(strangers)]):
                self._notice(notice)
            results = assess_others(embedder, strangers, place_of(str(data)), fars, seen)
        evaluation = Evaluation.model_validate(mark(self._run, results))
        try:
            with writing_to(self._run.directory, "make room there"):
                self._run.keep_evaluation(evaluation)
        except FacesimError as error:  # the results are returned nevertheless
            self._notice(f"the evaluation is not kept: {error}")
        return evaluation.model_dump(mode="json", exclude_none=True)

    def export(self, output: Path | str, format: str = "keras") -> Exported:
        """Write the model for use without facesim: images in, embedding, logits and probabilities out.

        The names of the people, in the order of the logits, are written with it; numbers where they are not known any
        more. `notice` is called with that, and with what is wrong with the run.

        Raises:
            InputError: there is no such format, or `output` cannot be written.
        """
        try:
            exporter = EXPORTERS[EXPORTERS.check(format)]
        except ValueError as error:
            message = f"format {format!r} is not allowed: {error}"
            raise InputError(message, field="format", value=format, allowed=list(EXPORTERS)) from None
        output = local_path(output)
        exporter.check(output)
        exporter.check_installed()
        embedder = self._embedder
        self._notice_how_it_ended()
        from facesim.models.export import loads_alone, portable

        names = self._names(embedder.identities)
        try:
            model = portable(embedder.model, embedder.experiment.model, embedder.experiment.mirror_test)
        except ValueError as error:  # layers, or their parameters, are others
            raise InputError(
                f"{self._run.model_file} is not a {embedder.experiment.model} as this facesim builds it: "
                f"{str(error).splitlines()[0]}; name the run that saved it"
            ) from None
        with doing(f"write {output}", "name another place"), writing_to(output.parent):
            loaded(exporter.write)(model, names, output)
        if (own_model := OwnModel.find(embedder.experiment.model)) and format == "keras" and not loads_alone(output):
            self._notice(
                f"{output} has layers or functions of {own_model.path} in it: to load it, give Keras these as "
                f"custom_objects, or import that file if it registers them, or write another format, which needs none"
            )
        return Exported(output, tuple(model.input_shape[1:]), model.outputs[0].shape[-1], names)

    def _prepared(self, job: Job, groups: Path | str | None) -> PreparedData:
        data = prepare_data(job, lambda *_: None)
        if not groups:
            return data
        data = with_groups(data, local_path(groups))
        if without := [name for name, group in zip(data.names, data.groups) if group is None]:
            self._notice(
                f"{groups} has no group of {len(without):,} of the {count_text(len(data.names), 'person')} "
                f"({some(without)})"
            )
        return data

    def _names(self, identities: int) -> tuple[str, ...]:
        try:
            data = prepare_data(self._run.job(), lambda *_: None)
            if is_as_trained(self._run, data) and len(data.names) == identities:
                return data.names
            why = f"{data.name} is not what it was when the model was trained, so it is not known who is who"
        except InputError as error:
            why = str(error)
        self._notice(f"people have numbers in place of names: {why}")
        return tuple(str(number) for number in range(identities))

    def _notice_how_it_ended(self) -> None:
        """Say what the one who gets the model alone cannot see."""
        result = self._run.result()
        if result is None:
            self._notice(f"{self._run.id} has no result: whether its training came to its end is not known")
        elif result.state is not RunState.COMPLETED:
            self._notice(f"{self._run.id} ended as {result.state}: its training may not have come to its end")
        if result and result.sync_audit.verdict == "apart":
            self._notice(f"the replicas of {self._run.id} trained apart: this is the model of one of them")


def _answer(same: bool) -> str:
    return "the same person" if same else "different people"


def _refuse(given: Mapping[str, Any], what: str) -> None:
    """Raise InputError if one of these options was given, which have no meaning with `what`."""
    for name, value in given.items():
        if value is not None:
            raise InputError(f"{name} {value} does not go with {what}; leave it out", field=name, value=str(value))


def _of_others(job: Job, data: str, reading: Mapping[str, Any]) -> Job:
    """A job as this one with other people's data: how the run's own data is read and split says nothing of that."""
    # Of a single image there is nothing to compare with; built-in data sets know themselves whom they leave out.
    least = None if data in DATASETS else 2
    given = {name: value for name, value in reading.items() if value is not None}
    others = DataSpec.of({"data": data, "split": "random", "min_images": least, **given})
    read = others.model_dump(exclude={"image_size", "channels", "seed"})  # by which the network was trained
    experiment = job.experiment.model_copy(update={**read, "cache": "memory"})
    return job.model_copy(update={"experiment": experiment})
