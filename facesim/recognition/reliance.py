"""How far a saved model's answers can be relied on: by what `facesim evaluate` found of it, on which images, and when.

A threshold is of the model and of the images that it was chosen on. So an answer names where its threshold is from and
how often it errs there, and there is none where the model was not found to tell people apart.

A threshold is the best one, or one for a false accept rate that is asked for: of pairs of images, or of looks into a
gallery for somebody who is not in it.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from facesim.recognition.calibration import check_told
from facesim.recognition.groups import MIN_PEOPLE
from facesim.util.errors import InputError
from facesim.util.words import count_text

if TYPE_CHECKING:
    from facesim.runs.directory import Run
    from facesim.runs.evaluations import Calibration, Evaluation, OperatingPoint

#: A model whose AUC may, by its 95 % interval, be no more than this tells little more than a coin, which has 0.5.
LEAST_AUC = 0.6

#: Whether an evaluation's people were trained on, and from the last on how far its error rates hold for others.
_UNSEEN_FIRST = (True, None, False)


class Reliance(NamedTuple):
    """What an evaluation says of a model's answers, as far as it is on record; rates are shares, 0-1.

    `seen` says whether its people were trained on, `same_model` whether the model is still the one that was evaluated.
    `false_accept_rate` and `false_reject_rate` are those of thresholds that were chosen on other people.
    """

    data: str
    evaluated_unix_s: float | None
    people: int | None
    seen: bool | None
    same_model: bool | None
    threshold: float
    genuine_pairs: int
    impostor_pairs: int
    false_accept_rate: float | None
    false_reject_rate: float | None
    auc: float
    auc_low: float
    auc_high: float
    rank_1: float | None
    probes: int | None
    gallery_identities: int | None
    calibration: Calibration | None
    open_set: Calibration | None

    @property
    def cannot_tell(self) -> str | None:
        """Why the model's answers say nothing, in words; None if they were found to say something."""
        if self.same_model is False:
            return f"the model is not the one any more that was evaluated on {self.data}"
        if self.auc_low <= LEAST_AUC:
            return (
                f"on {self.data} this model was not found to tell people apart: AUC {self.auc:.2f}, 95 % interval "
                f"{self.auc_low:.2f} to {self.auc_high:.2f}, where a coin has 0.5"
            )
        return None

    @property
    def cannot_identify(self) -> str | None:
        """The same of answers who of a gallery somebody is."""
        if self.rank_1 is not None and self.probes and self.gallery_identities:
            from scipy.stats import binomtest

            low = binomtest(round(self.rank_1 * self.probes), self.probes).proportion_ci(method="wilson").low
            if self.same_model is not False and low <= 1 / self.gallery_identities:
                return (
                    f"on {self.data} this model named the right one of {count_text(self.gallery_identities, 'person')} "
                    f"for {self.rank_1:.0%} of {count_text(self.probes, 'image')}, which is not shown to be more than "
                    "chance"
                )
        return self.cannot_tell

    @property
    def right(self) -> str | None:
        """How often the first of the people that it names is the right one, in words; None if that is not known: what
        an earlier model named says nothing of this one.
        """
        if self.rank_1 is None or self.same_model is False:
            return None
        return (
            f"on {self.data} the first name was right for {self.rank_1:.1%} of {count_text(self.probes, 'image')} of "
            f"{count_text(self.gallery_identities, 'person')}; of a larger gallery it is right less often"
        )

    @property
    def origin(self) -> str:
        """Where the threshold is from and how often it errs, in words."""
        people = "" if self.people is None else f" of {count_text(self.people, 'person')}"
        sentence = (
            f"threshold {self.threshold:.3f}, the best on {self.data}{people}, evaluated {_when(self.evaluated_unix_s)}"
            f" on {count_text(self.genuine_pairs, 'pair')} of the same and {self.impostor_pairs:,} of different people"
        )
        if self.false_accept_rate is None or self.false_reject_rate is None:
            return f"{sentence}; AUC {self.auc:.2f}, its error rates are not on record"
        return (
            f"{sentence}: it took {self.false_accept_rate:.1%} of different people for the same one, and "
            f"{self.false_reject_rate:.1%} of the same for different ones; AUC {self.auc:.2f} ({self.auc_low:.2f} to "
            f"{self.auc_high:.2f})"
        )

    @property
    def cautions(self) -> tuple[str, ...]:
        """Why it may err more often than that, in words."""
        reasons = []
        if self.seen:
            reasons.append(
                "the model was trained on these people: it distinguishes others less well than its error rates say"
            )
        elif self.seen is None:
            reasons.append(
                "it is not known whether the model was trained on these people: then it distinguishes others less well"
            )
        if self.people is not None and self.people < MIN_PEOPLE:
            reasons.append(
                f"{count_text(self.people, 'person is', 'people are')} few: with others the error rates may be quite "
                "different"
            )
        if self.same_model is None:
            reasons.append("it is not on record whether the model has changed since")
        return tuple(reasons)

    def point(self, far: float, run: Run, *, strangers: bool) -> OperatingPoint:
        """The threshold for a false accept rate: of strangers who are looked for in a gallery, or else of pairs.

        Raises:
            InputError: none is kept, and the message says how to get one, or why there is none.
        """
        calibration, trials = (
            (self.open_set, "images of strangers") if strangers else (self.calibration, "impostor pairs")
        )
        if calibration is None:
            raise InputError(
                f"the evaluation on {self.data} has no threshold for a false accept rate of {trials}: run facesim "
                f"evaluate {run.directory} DATA, with images of people",
                field="far",
                value=far,
            )
        check_told(far, calibration, f"{trials} of {self.data}")
        point = next((point for point in calibration.points if math.isclose(point.far, far)), None)
        if point is None:
            kept = ", ".join(f"{point.far:g}" for point in calibration.points)
            raise InputError(
                f"no threshold is kept for a false accept rate of {far:g}, but for {kept or 'none'}: run facesim "
                f"evaluate on {self.data} again with --far {far:g}",
                field="far",
                value=far,
            )
        return point

    def origin_of(self, point: OperatingPoint, *, strangers: bool) -> str:
        """Where the threshold for a false accept rate is from, and how sure that rate is, in words."""
        calibration = self.open_set if strangers else self.calibration
        assert calibration is not None
        people = "" if calibration.people is None else f" of {count_text(calibration.people, 'person')}"
        trials, passing = ("pairs of different people", "pairs of the same person")
        if strangers:
            trials = f"looks for a stranger among {count_text(self.gallery_identities, 'person')}"
            passing = "images of people in the gallery, under their right name"
        return (
            f"threshold {point.threshold:.3f} for a false accept rate of {point.far:g}: it took "
            f"{100 * point.false_accept_rate:.2g} % (95 % interval {100 * point.far_low:.2g} to "
            f"{100 * point.far_high:.2g} %) of "
            f"{calibration.impostor_trials:,} {trials} on {self.data}{people}, evaluated "
            f"{_when(self.evaluated_unix_s)}; it lets {point.true_accept_rate:.1%} of {calibration.genuine_trials:,} "
            f"{passing} pass"
        )

    def to_json(self) -> dict[str, Any]:
        calibrations = {name: getattr(self, name) for name in ("calibration", "open_set")}
        return {**self._asdict(), **{name: one and one.model_dump() for name, one in calibrations.items()}}


class Basis(NamedTuple):
    """What an answer stands on.

    threshold: the similarity from which on it is one person; None where there is none. chosen: whether the threshold,
    or its false accept rate, was asked for. cannot_tell: why the model's answers say nothing. notes: where the
    threshold is from, and how far to rely on the answer.
    """

    threshold: float | None
    chosen: bool
    cannot_tell: str | None
    evaluation: Reliance | None
    notes: tuple[str, ...]


def basis(run: Run, threshold: float | None, far: float | None, *, gallery: int | None = None) -> Basis:
    """On what an answer stands: the given threshold, that for a false accept rate, or else the best of the evaluation.

    gallery: among how many people somebody is looked for who may be none of them; None of a pair of images.

    Raises:
        InputError: both are given, or there is no threshold for `far`.
    """
    if threshold is not None and far is not None:
        raise InputError(
            f"a threshold ({threshold:g}) and a false accept rate ({far:g}) cannot both be given: one follows from the "
            f"other; leave one out",
            field="far",
            value=far,
        )
    strangers = gallery is not None
    evaluation = reliance(run, identifying=strangers)
    if threshold is not None:
        why_not = evaluation and evaluation.cannot_tell
        notes = ["how often the given threshold errs is not known", *([why_not] if why_not else [])]
        return Basis(threshold, True, why_not, evaluation, tuple(notes))
    if evaluation is None:
        missing, remedy = f"{run.directory} was not evaluated", f"run facesim evaluate {run.directory} DATA"
        if run.evaluations():
            missing = f"{run.directory} was evaluated on people of whom there are too few images for a threshold"
        if far is not None:
            raise InputError(
                f"{missing}, so no threshold is known for a false accept rate of {far:g}: {remedy} --far {far:g}",
                field="far",
                value=far,
            )
        return Basis(None, False, None, None, (f"{missing}: {remedy}",))
    why_not = evaluation.cannot_identify if strangers else evaluation.cannot_tell
    if far is None:
        notes = [evaluation.origin, *evaluation.cautions]
        return Basis(evaluation.threshold, False, why_not, evaluation, tuple(notes))
    point = evaluation.point(far, run, strangers=strangers)
    notes = [evaluation.origin_of(point, strangers=strangers), *evaluation.cautions]
    evaluated = evaluation.gallery_identities
    if gallery is not None and evaluated and gallery > evaluated:
        notes.append(
            f"of a larger gallery, such as yours of {count_text(gallery, 'person')}, more strangers pass: about "
            f"{1 - (1 - far) ** (gallery / evaluated):.1%} if people are alike there"
        )
    return Basis(point.threshold, True, why_not, evaluation, tuple(notes))


def mark(run: Run, results: dict[str, Any]) -> dict[str, Any]:
    """What an evaluation found, with when it was and of which model."""
    return {**results, "evaluated_unix_s": time.time(), "model_sha256": run.model_sha256()}


def reliance(run: Run, *, identifying: bool = False) -> Reliance | None:
    """By the newest evaluation on people whom the model was not trained on; if there is none, by the newest on people
    of whom that is not known, or else by the newest at all. None where no evaluation verified pairs of images. What was
    found of an earlier model is only told where there is nothing else.

    For `identifying`, those with a gallery come before others, such as those on pairs that a file names.
    """
    present, earlier = run.evaluations_by_model()
    evaluation = _best(present, identifying) or _best(earlier, identifying)
    if evaluation is None or evaluation.verification is None:
        return None
    verification, identification = evaluation.verification, evaluation.identification or {}
    low, high = (verification.get("auc_low"), verification.get("auc_high"))
    if low is None or high is None:
        low, high = hanley_mcneil(verification["auc"], verification["genuine_pairs"], verification["impostor_pairs"])
    return Reliance(
        data=evaluation.title,
        evaluated_unix_s=evaluation.get("evaluated_unix_s"),
        people=evaluation.get("people"),
        seen=evaluation.get("identities_seen_in_training"),
        same_model=None if evaluation.model_sha256 is None else evaluation in present,
        threshold=verification["threshold"],
        genuine_pairs=verification["genuine_pairs"],
        impostor_pairs=verification["impostor_pairs"],
        false_accept_rate=verification.get("false_accept_rate"),
        false_reject_rate=verification.get("false_reject_rate"),
        auc=verification["auc"],
        auc_low=low,
        auc_high=high,
        rank_1=identification.get("rank_1"),
        probes=identification.get("probes"),
        gallery_identities=identification.get("gallery_identities"),
        calibration=verification.calibration,
        open_set=identification.get("open_set"),
    )


def _best(evaluations: Sequence[Evaluation], identifying: bool) -> Evaluation | None:
    """The one to rely on of the evaluations of one model, as `reliance` says."""
    return max(
        (one for one in reversed(evaluations) if one.verification),
        key=lambda one: (
            _UNSEEN_FIRST.index(one.identities_seen_in_training),
            identifying and one.identification is not None,
        ),
        default=None,
    )


def hanley_mcneil(auc: float, genuine: int, impostor: int) -> tuple[float, float]:
    """The 95 % interval of an AUC of so many pairs, as if they were independent (Hanley and McNeil, 1982)."""
    q1, q2 = auc / (2 - auc), 2 * auc**2 / (1 + auc)
    variance = (auc * (1 - auc) + (genuine - 1) * (q1 - auc**2) + (impostor - 1) * (q2 - auc**2)) / (genuine * impostor)
    half = 1.96 * max(0.0, variance) ** 0.5
    return max(0.0, auc - half), min(1.0, auc + half)


def _when(unix_s: float | None) -> str:
    if unix_s is None:
        return "at an unknown time"
    return time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(unix_s))
