"""A network to start from: made of rendered people, gone on with where it was left, and worth it."""

from __future__ import annotations

import hashlib

import pytest

import facesim
from facesim.data.rendering import RenderSpec, render_folder
from facesim.study.observers import EndRun, Observer
from facesim.study.pretraining import Plan, Pretraining, pretrain
from facesim.util.errors import InputError


@pytest.mark.parametrize(
    ("name", "message"), [("start.h5", "one that ends in .keras"), ("there.keras", "exists already")]
)
def test_a_name_that_cannot_be_taken_is_refused_before_anything_is_made(tmp_path, name, message):
    (tmp_path / "there.keras").write_text("mine")

    with pytest.raises(InputError, match=message):
        pretrain(tmp_path / name, 1, [])

    assert [path.name for path in tmp_path.iterdir()] == ["there.keras"]


def test_what_was_begun_with_another_network_does_not_go_on(tmp_path):
    begun(tmp_path, Plan(identities=30, model="compact-cnn", image_size=96))

    with pytest.raises(InputError, match="was begun with --model compact-cnn --image-size 96"):
        pretrain(tmp_path / "start.keras", 1, [])


class Ends(Observer):
    """Ends what goes on with the first that a user should know."""

    def noticed(self, text):
        self.text = text
        raise EndRun


def test_what_was_begun_with_other_minutes_goes_on_by_those_and_says_so(tmp_path):
    net = {"model": "resnet-small", "image_size": 32}
    begun(tmp_path, Plan(identities=30, minutes=5, **net))
    ends = Ends()

    with pytest.raises(EndRun):
        pretrain(tmp_path / "start.keras", 60, [ends], **net)

    assert "was begun with --minutes 5, by which it goes on: remove it to begin anew with --minutes 60" in ends.text


def begun(folder, plan: Plan) -> None:
    (folder / "start.keras.parts").mkdir()
    plan.write(folder / "start.keras.parts" / "plan.json")


@pytest.mark.slow
@pytest.mark.exhaustive
def test_rendered_people_teach_what_one_image_of_each_person_does_not(tmp_path):
    """As decided before an interruption: so the machine's speed decides nothing here. Both have the residual half of
    the network alone, and twenty updates.
    """
    net = {"model": "resnet-small", "image_size": 32}
    plan, start, others = Plan(identities=150, epochs=8, **net), tmp_path / "start.keras", tmp_path / "others"
    begun(tmp_path, plan)
    render_folder(RenderSpec(20, 5, 32, difficulty=0.3, seed=5), others)

    record = pretrain(start, 1, [], **net)
    few = {"recipe": "wild", "data": str(others), "held_out": 0.8, "epochs": 10, "evaluate_every": 10, **net}
    runs = [
        facesim.run(pretrained=pretrained, output=tmp_path / "runs", observers=[], **few)
        for pretrained in (None, str(start))
    ]

    assert sorted(path.name for path in tmp_path.glob("start*")) == ["start.keras", "start.keras.json"]
    assert record == Pretraining.read(tmp_path / "start.keras.json") and record.plan == plan
    assert record.sha256 == hashlib.sha256(start.read_bytes()).hexdigest()
    assert record.examples_seen == 8 * 150 * 10
    from_nothing, pretrained = (run.held_out_accuracy for run in runs)
    assert pretrained > from_nothing + 0.1
