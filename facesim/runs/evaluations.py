"""`evaluation.json` of a run: how well its model recognises. It is read and written as `facesim.runs.records` are."""

from __future__ import annotations

from pathlib import Path, PurePath

from pydantic import ConfigDict, PositiveInt, model_validator

from facesim.runs.record import REMEDY, Moment, Record, read_json, validated
from facesim.runs.records import SCHEMA_VERSION, Amount, Count, Finite, Rate
from facesim.util.errors import InputError
from facesim.util.files import write_json
from facesim.util.words import count_text

#: The subject of an evaluation on the run's own held-out images, of which each has one.
OWN = "the run's own images"

#: Why a curve cannot be drawn.
_NOT_KEPT = "an earlier facesim did not keep what it is drawn from; evaluate again"


class Part(Record):
    """What a report shows of an evaluation, each by the newest that has it."""

    @property
    def why_not_shown(self) -> str | None:
        """Why a report cannot show it, as a clause; None where it can."""
        return None


class ClosedSet(Record):
    """How many held-out images of the people that it was trained on a model names rightly."""

    examples: Count
    accuracy: Rate
    balanced_accuracy: Rate


class OperatingPoint(Record):
    """A threshold for a false accept rate, `far`; that rate as it was measured, with its 95 % interval."""

    far: Rate
    threshold: Finite
    false_accept_rate: Rate
    far_low: Rate
    far_high: Rate
    true_accept_rate: Rate


class Calibration(Record):
    """Thresholds by false accept rate, and the trials (pairs of images, or looks into a gallery) that they are from.

    With fewer errors than ten a rate is not told: `lowest_far`.
    """

    people: Count | None = None
    genuine_trials: Count
    impostor_trials: Count
    lowest_far: Amount
    points: list[OperatingPoint]


class Identification(Part):
    """Finding a probe's person in a gallery: `cmc[k - 1]` is the share of probes found among the first k. `open_set`:
    of probes who may be nobody of the gallery.
    """

    gallery_identities: Count
    gallery_images: Count | None = None
    probes: Count
    rank_1: Rate
    cmc: list[Rate] = []
    open_set: Calibration | None = None

    @property
    def why_not_shown(self) -> str | None:
        """Why it has no CMC."""
        return None if self.cmc else _NOT_KEPT


class Roc(Record):
    """True accept rates against false ones."""

    far: list[Rate]
    tar: list[Rate]

    @model_validator(mode="after")
    def _are_points(self) -> Roc:
        if len(self.far) != len(self.tar):
            raise ValueError(f"{len(self.far)} false accept rates have {len(self.tar)} true ones")
        return self


class Verification(Part):
    """Telling whether two images show one person. `threshold` is a cosine; `tar_at_far` is by the false accept rate as
    it is written; `lowest_far` is that of the `roc`. Fields are those of `facesim.recognition.protocols.Verification`.
    """

    accuracy: Rate
    accuracy_se: Amount | None = None
    folds: Count | None = None
    auc: Rate
    auc_low: Rate | None = None
    auc_high: Rate | None = None
    eer: Rate | None = None
    threshold: Finite
    genuine_pairs: PositiveInt
    impostor_pairs: PositiveInt
    false_accept_rate: Rate | None = None
    false_reject_rate: Rate | None = None
    lowest_far: Amount | None = None
    tar_at_far: dict[str, Rate | None] = {}
    calibration: Calibration | None = None
    roc: Roc | None = None

    @property
    def why_not_shown(self) -> str | None:
        """Why it has no ROC."""
        if self.roc is None or self.eer is None or self.lowest_far is None:
            return _NOT_KEPT
        if self.lowest_far >= 1:
            pairs = count_text(self.impostor_pairs, "pair of different people is", "pairs of different people are")
            return f"{pairs} too few for any false accept rate"
        return None


class GroupErrors(Record):
    """Errors on one group of people, with the bounds of the rate's 95 % interval."""

    group: str
    people: Count
    trials: Count
    errors: Count
    rate: Rate
    low: Rate
    high: Rate


class Groups(Part):
    """Error rates by group of people, for each kind of error, and what not to conclude from them."""

    rates: dict[str, tuple[GroupErrors, ...]]
    threshold: Finite | None = None
    warning: str | None = None


class Evaluation(Record):
    """How well a model, of `model_sha256`, recognises the people of one data set. Whether these were trained on is None
    where that is not known. `left_out` has the names of protocols that the data does not allow, with why.

    `source` is where the data, and a list of pairs, lie, or what a data set is called; None of the run's own data, and
    of what an earlier facesim evaluated. `tested` says which of the run's own images were tested on, as
    `DataSpec.tested_in_words` does; None of other data.
    """

    model_config = ConfigDict(extra="allow")

    schema_version: int = SCHEMA_VERSION
    data: str
    pairs: str | None = None
    source: tuple[str, ...] | None = None
    tested: str | None = None
    people: Count | None = None
    identities_seen_in_training: bool | None = None
    closed_set: ClosedSet | None = None
    identification: Identification | None = None
    verification: Verification | None = None
    left_out: dict[str, str] | None = None
    groups: Groups | None = None
    evaluated_unix_s: Moment | None = None
    model_sha256: str | None = None

    @property
    def of_own_data(self) -> bool:
        """Whether it is of the run's own data: an earlier facesim wrote a closed set of that, and not `tested`."""
        return self.tested is not None or self.closed_set is not None

    @property
    def subject(self) -> str:
        """What it is of, by which an earlier one of the same is known. What an earlier facesim evaluated is known by
        its name.
        """
        if self.of_own_data:
            return OWN
        if self.source is not None:
            return ", ".join(self.source)
        return self.data if self.pairs is None else f"{self.data}, {self.pairs}"

    def shows(self, part: str) -> bool:
        """Whether it has a part, such as `verification`, and a report can show it."""
        found = self.get(part)
        return found is not None and found.why_not_shown is None

    def replaces(self, other: Evaluation) -> bool:
        """Whether it is of the same as an earlier one. Where that one does not say where its data lies, as an earlier
        facesim left it, what the data is called has to do.
        """
        if not self.of_own_data and not other.of_own_data and other.source is None:
            return (self.data, self.pairs) == (other.data, other.pairs)
        return self.subject == other.subject

    @property
    def title(self) -> str:
        """What the data is called, and of several lists of pairs of one folder's images which; not where it lies."""
        if self.pairs is None:
            return self.data
        name = PurePath(self.data).name
        if name in ("", "..") and self.source:  # `.` was given
            name = PurePath(self.source[0]).name
        return ", ".join(dict.fromkeys(part for part in (name, self.pairs) if part))


def read_evaluations(path: Path) -> dict[str, Evaluation]:
    """What `evaluation.json` holds: evaluations by the data that they are of, the newest last.

    Raises:
        InputError: it cannot be read, or is not what facesim writes.
    """
    content = read_json(path)
    if not isinstance(content, dict):
        raise InputError(f"{path} is not what facesim writes: it holds no evaluations by data; {REMEDY}")
    return {name: validated(Evaluation, path, evaluation) for name, evaluation in content.items()}


def write_evaluations(path: Path, evaluations: dict[str, Evaluation]) -> None:
    """Write `evaluation.json` whole or not at all."""
    content = {name: evaluation.model_dump(mode="json", exclude_none=True) for name, evaluation in evaluations.items()}
    write_json(path, content)
