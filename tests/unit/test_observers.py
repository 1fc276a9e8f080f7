"""Several observers at once; one that fails stops neither the study nor the others."""

from __future__ import annotations

import json

import pytest

from facesim.cli.study import observers
from facesim.runs.directory import Run
from facesim.runs.events import event_of
from facesim.spec.job import make_job
from facesim.study.observers import EndRun, JsonLines, Observer, Together
from facesim.util.errors import FacesimError


class Listening(Observer):
    def __init__(self):
        self.heard = []

    def noticed(self, text):
        self.heard.append(text)


class Failing(Observer):
    def __init__(self, error):
        self.error, self.asked = error, 0

    def noticed(self, text):
        self.asked += 1
        raise self.error


def test_everybody_is_told_and_whoever_fails_is_told_nothing_more():
    first, last, failing = Listening(), Listening(), Failing(ValueError("no such tracker"))
    together = Together([first, failing, last])

    together.noticed("one")
    together.noticed("two")

    message = "Failing failed and is told nothing more: ValueError: no such tracker"
    assert first.heard == last.heard == ["one", message, "two"]
    assert failing.asked == 1


def test_an_output_that_has_gone_is_no_news():
    listening, gone = Listening(), Failing(BrokenPipeError())

    Together([gone, listening]).noticed("one")

    assert listening.heard == ["one"]


def test_an_observer_that_ends_the_run_has_not_failed_and_all_are_told_first():
    ending, last = Failing(EndRun()), Listening()
    together = Together([ending, last])

    for text in ("one", "two"):
        with pytest.raises(EndRun):
            together.noticed(text)

    assert last.heard == ["one", "two"] and ending.asked == 2


def test_all_may_fail():
    Together([Failing(ValueError()), Failing(KeyError())]).noticed("one")


def test_an_interrupt_is_no_failure_of_an_observer():
    with pytest.raises(KeyboardInterrupt):
        Together([Failing(KeyboardInterrupt())]).noticed("one")


def test_what_happens_is_written_as_it_happens(tmp_path):
    lines = JsonLines(tmp_path / "study.jsonl")

    lines.preparing("decoding", 3, 9)
    lines.noticed("careful")

    first, second = map(json.loads, (tmp_path / "study.jsonl").read_text().splitlines())
    assert first == {"time_unix_s": first["time_unix_s"], "what": "preparing", "phase": "decoding", "done": 3, "due": 9}
    assert (second["what"], second["text"]) == ("noticed", "careful")


def test_a_file_that_cannot_be_written_any_more_is_told(tmp_path):
    folder, listening = tmp_path / "folder", Listening()
    folder.mkdir()
    together = Together([JsonLines(folder / "study.jsonl"), listening])
    (folder / "study.jsonl").unlink()
    folder.rmdir()

    for text in ("one", "two"):
        together.noticed(text)

    first, why, last = listening.heard
    assert (first, last) == ("one", "two")
    assert f"cannot write {folder / 'study.jsonl'}: No such file" in why


def test_a_file_that_cannot_be_written_is_told_before_anything_starts(tmp_path):
    with pytest.raises(FacesimError, match="cannot write .*nowhere"):
        JsonLines(tmp_path / "nowhere" / "study.jsonl")


def test_where_output_is_for_machines_what_a_user_should_know_is_on_standard_error(tmp_path, capsys):
    run = Run.create(tmp_path / "one", make_job())
    (observer,) = observers(as_json=True)

    observer.preparing("decoding", 9, 9)
    observer.noticed("this can cost [2, 4] dollars")
    observer.started(run, 1, 2)
    observer.happened(event_of({"time_unix_s": 1.0, "event": "out_of_reach", "what": "create", "why": "sign in again"}))
    observer.happened(event_of({"time_unix_s": 1.0, "event": "submitted"}))
    observer.tick()

    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.splitlines() == [
        "notice: this can cost [2, 4] dollars",
        "[1/2] single, seed 0: the job is not made yet, it is tried again: sign in again",
    ]
