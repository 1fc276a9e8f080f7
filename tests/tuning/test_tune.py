"""A search over real runs: stopped, continued, within its budget, and blind to the held-out images."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import facesim
from facesim.data.identity import identity_of
from facesim.data.splits import split_of, stratified_split
from facesim.preflight.inputs import prepare_data
from facesim.study.observers import EndRun, Observer
from tests.conftest import facesim_here, parse

pytest.importorskip("optuna", reason="the extra tune is not installed")
pytest.importorskip("tensorboard", reason="the extra tensorboard is not installed")

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator  # noqa: E402

OPTIONS = {"model": "compact-cnn", "image_size": 32, "batch": 8, "epochs": 4, "sampling_s": 0.2, "held_out": 0.3}


class StopsTheSecond(Observer):
    """Does what Ctrl-C does, while the second trial trains."""

    def __init__(self) -> None:
        self.begun, self.noticed_texts = 0, []

    def noticed(self, text: str) -> None:
        self.noticed_texts.append(text)

    def started(self, run, position: int, jobs: int) -> None:
        self.begun += 1

    def happened(self, event) -> None:
        if self.begun == 2 and event.event == "state" and event["state"] == "Training":
            raise EndRun


@pytest.mark.usefixtures("loaded")
def test_a_search_goes_on_where_it_was_stopped_and_never_sees_the_held_out_images(faces: Path, tmp_path: Path):
    output = tmp_path / "tune"
    options = {**OPTIONS, "data": str(faces), "validation": 0.25, "output": output}
    space = {"learning_rate": "1e-3..1e-2"}

    first = facesim.tune(space, trials=2, observers=[StopsTheSecond()], **options)
    assert [trial.state for trial in first.findings.trials] == ["complete", "running"]

    arguments = [f"--{name.replace('_', '-')}={value}" for name, value in options.items()]
    arguments += ["--search=learning-rate=1e-3..1e-2", "--trials=2", "--track=tensorboard", "--json"]
    report = parse(facesim_here("tune", *arguments))
    assert [trial["state"] for trial in report["trials"]] == ["complete", "complete"]
    assert report["trials"][1]["run"] == str(output / Path(report["trials"][1]["run"]).name)
    assert Path(report["report"]).read_text().count("<svg") >= 2
    tracked = EventAccumulator(str(output / "tensorboard" / Path(report["trials"][1]["run"]).name)).Reload()
    assert len(tracked.Scalars("training/held_out_accuracy")) >= OPTIONS["epochs"]
    (end,) = tracked.Scalars("result/held_out_accuracy")
    assert end.value == pytest.approx(report["trials"][1]["validation_accuracy"])

    listening = StopsTheSecond()
    spent = facesim.tune(space, trials=3, budget_s=1.0, observers=[listening], **options)
    assert len(spent.findings.trials) == 2 and listening.begun == 0
    assert "the budget has no room for another trial" in listening.noticed_texts[-1]

    run = facesim.load(report["trials"][0]["run"])
    spec = run.job.experiment.data_spec
    data = prepare_data(run.job, lambda *_: None)
    trained, validated = split_of(data.labels, spec)
    _, held_out = stratified_split(data.labels, spec.held_out, spec.seed)
    assert run.result.data.tested_sha256 == identity_of(data, validated) != identity_of(data, held_out)
    assert run.result.data.training_examples == len(trained)

    # The proof: with other held-out images, of noise, the same trial finds the same.
    other = Path(shutil.copytree(faces, tmp_path / "other"))
    files = sorted(path for path in other.rglob("*.*") if path.is_file())
    noise = np.random.default_rng(0)
    for index in held_out:
        file = files[index]
        Image.fromarray(noise.integers(0, 255, (32, 32, 3), np.uint8)).save(file)
    again = facesim.run(
        **{**OPTIONS, "data": str(other), "validation": 0.25, **report["trials"][0]["params"]},
        output=tmp_path / "again", observers=[],
    )  # fmt: skip
    assert again.result.data.content_sha256 != run.result.data.content_sha256
    assert again.result.data.tested_sha256 == run.result.data.tested_sha256
    assert again.result.held_out_loss == pytest.approx(run.result.held_out_loss, rel=1e-3)
