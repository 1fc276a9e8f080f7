"""The sync audit's verdicts, from the evidence of runs that went well and of runs that fool people."""

from facesim.audit import audit

MODEL_BYTES = 1_000


def outcome(
    updates_by_worker: dict[int, int], *, versions: int | None = None, last: int | None = None, due: int | None = None
) -> dict:
    updates = sum(updates_by_worker.values())
    return {
        "stopped": False,
        "parameter_bytes": MODEL_BYTES,
        "counted": {
            "examples": 32 * updates,
            "examples_due": 32 * updates if due is None else due,
            "updates": updates,
            "distinct_versions": updates if versions is None else versions,
            "last_version": updates if last is None else last,
            "updates_by_worker": updates_by_worker,
        },
    }


def received(updates_by_worker: dict[int, int], models: float = 1.0) -> dict[int, float]:
    return {worker: updates * MODEL_BYTES * models for worker, updates in updates_by_worker.items()}


def test_workers_that_share_parameters_are_together():
    updates = {0: 60, 1: 40}

    assert audit(outcome(updates), 2, received(updates))["verdict"] == "together"


def test_replicas_that_count_for_themselves_are_apart():
    # Each of two replicas made versions 1 to 50 of parameters of its own: the paper's mistake.
    updates = {0: 50, 1: 50}

    result = audit(outcome(updates, versions=50, last=50), 2, received(updates))

    assert result["verdict"] == "apart"
    assert any("updates were lost or made apart" in sentence for sentence in result["evidence"])


def test_a_worker_that_silently_stopped_contributing_does_not_pass():
    updates = {0: 99, 1: 1}

    assert audit(outcome(updates), 2, received(updates))["verdict"] == "apart"


def test_a_worker_that_never_contributed_does_not_pass():
    assert audit(outcome({0: 100}), 2, received({0: 100}))["verdict"] == "apart"


def test_lost_updates_do_not_pass():
    updates = {0: 50, 1: 50}

    assert audit(outcome(updates, last=83), 2, received(updates))["verdict"] == "apart"


def test_examples_that_are_missing_do_not_pass():
    updates = {0: 50, 1: 50}

    assert audit(outcome(updates, due=9_999), 2, received(updates))["verdict"] == "apart"


def test_parameters_that_never_crossed_the_wire_do_not_pass():
    updates = {0: 50, 1: 50}

    assert audit(outcome(updates), 2, received(updates, models=0.01))["verdict"] == "apart"


def test_without_bytes_the_verdict_is_open():
    assert audit(outcome({0: 50, 1: 50}), 2, {})["verdict"] == "unknown"


def test_a_run_that_left_nothing_is_unknown():
    assert audit(None, 2, {})["verdict"] == "unknown"


def test_one_replica_has_nothing_to_be_together_with():
    assert audit(outcome({0: 100}), 1, {})["verdict"] == "single"
