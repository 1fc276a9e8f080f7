"""The sync audit's verdicts, from the evidence of runs that went well and of runs that fool people."""

import pandas

from facesim.runs.audit import audit
from facesim.runs.events import Event, TaskEnded, TaskStarted
from facesim.spec.job import make_job
from facesim.study.result import _measured_by_worker, _total, _with_counters_added_up

MODEL_BYTES = 1_000


def outcome(steps: dict[int, int], *, updates=None, last=None, due=None, digests=("a",), every: int | None = 1) -> dict:
    total = sum(steps.values())
    updates = total if updates is None else updates
    return {
        "stopped": False,
        "parameters_sha256": list(digests),
        "counted": {
            "examples_due": 32 * total if due is None else due,
            "examples_by_worker": {str(worker): 32 * count for worker, count in steps.items()},
            "steps_by_worker": {str(worker): count for worker, count in steps.items()},
            "updates": updates,
            "last_version": updates if last is None else last,
            "steps_per_exchange": every,
            "exchange_bytes": MODEL_BYTES if every else 0,
        },
    }


def verdict(outcomes, steps, *, models: float = 1.0, over_wire: bool = True, workers: int = 2, replaced=0) -> str:
    received = {worker: count * MODEL_BYTES * models for worker, count in steps.items()}
    return audit(outcomes, workers, received, over_wire=over_wire, replaced=replaced)["verdict"]


def test_a_gap_in_the_versions_is_excused_only_by_a_worker_that_died():
    gap = outcome({0: 60, 1: 40}, updates=100, last=101)

    assert verdict([gap], {0: 60, 1: 40}) == "apart"
    assert verdict([gap], {0: 60, 1: 40}, replaced=1) == "together"
    assert verdict([outcome({0: 60, 1: 40}, updates=100, last=99)], {0: 60, 1: 40}, replaced=1) == "apart"


def test_a_worker_that_came_later_is_judged_by_the_steps_since_then():
    three = outcome({0: 500, 1: 480, 2: 20})
    three["counted"]["steps_since_resized"] = {"0": 20, "1": 20, "2": 20}
    idle = outcome({0: 500, 1: 480, 2: 1})
    idle["counted"]["steps_since_resized"] = {"0": 30, "1": 30, "2": 1}

    assert verdict([three], {0: 500, 1: 480, 2: 20}, workers=3) == "together"
    assert verdict([idle], {0: 500, 1: 480, 2: 1}, workers=3) == "apart"


def test_fewer_steps_than_workers_tell_nothing_of_those_that_had_none():
    assert verdict([outcome({0: 1, 1: 1, 2: 0, 3: 0}, updates=2, last=2)], {0: 1, 1: 1}, workers=4) == "unknown"
    assert verdict([outcome({0: 5, 1: 4, 2: 1}, updates=10, last=10)], {0: 5, 1: 4, 2: 1}, workers=3) == "together"


def test_a_backup_worker_may_always_be_late():
    late, received = [outcome({0: 60, 1: 40, 2: 0})], {worker: 60.0 * MODEL_BYTES for worker in range(3)}

    assert audit(late, 3, received, over_wire=True, spare=1)["verdict"] == "together"
    assert audit(late, 3, received, over_wire=True)["verdict"] == "apart"
    two_late = [outcome({0: 100, 1: 0, 2: 0})]
    assert audit(two_late, 3, received, over_wire=True, spare=1)["verdict"] == "apart"


def test_a_worker_that_is_there_no_more_need_not_have_received_anything():
    two = outcome({0: 500, 1: 480, 2: 400})
    two["counted"]["steps_since_resized"] = {"0": 30, "1": 30}

    assert verdict([two], {0: 500, 1: 480}, workers=2) == "together"
    assert verdict([two], {0: 500}, workers=2) == "unknown"


def test_workers_of_parameter_servers_are_together():
    assert verdict([outcome({0: 60, 1: 40})], {0: 60, 1: 40}) == "together"


def test_a_worker_that_died_may_have_taken_with_it_what_it_was_handed_and_no_more():
    def verdict_of(last: int, replaced: int, at_a_time: int) -> str:
        outcomes, received = [outcome({0: 60, 1: 40}, last=last)], {0: 60.0 * MODEL_BYTES, 1: 40.0 * MODEL_BYTES}
        judgement = audit(outcomes, 2, received, over_wire=True, replaced=replaced, steps_at_a_time=at_a_time)
        return judgement["verdict"]

    assert verdict_of(104, 1, 4) == "together"
    assert verdict_of(105, 1, 4) == "apart"
    assert verdict_of(102, 1, 1) == "apart"


def test_peers_that_summed_gradients_are_together():
    both = outcome({0: 50, 1: 50}, updates=50)

    assert verdict([both, both], {0: 50, 1: 50}) == "together"


def test_peers_that_ended_with_other_parameters_are_apart():
    one, other = (outcome({0: 50, 1: 50}, updates=50, digests=digest) for digest in ("a", "b"))

    assert verdict([one, other], {0: 50, 1: 50}) == "apart"


def test_replicas_that_never_exchanged_anything_are_apart_even_with_equal_parameters():
    # From the same seed two hosts that ignore each other compute the same thing: the paper's mistake at its most
    # deceiving.
    alone = [outcome({worker: 100}, due=100 * 32, every=None) for worker in (0, 1)]

    assert verdict(alone, {0: 0, 1: 0}) == "apart"


def test_each_worker_doing_all_of_the_work_is_not_together():
    steps = {0: 100, 1: 100}

    assert verdict([outcome(steps, due=100 * 32)], steps) == "apart"


def test_a_worker_that_silently_stopped_contributing_does_not_pass():
    assert verdict([outcome({0: 99, 1: 1})], {0: 99, 1: 1}) == "apart"


def test_a_worker_that_never_contributed_does_not_pass():
    assert verdict([outcome({0: 100})], {0: 100}) == "apart"


def test_lost_updates_do_not_pass():
    assert verdict([outcome({0: 50, 1: 50}, updates=83, last=100)], {0: 50, 1: 50}) == "apart"


def test_examples_that_are_missing_do_not_pass():
    assert verdict([outcome({0: 50, 1: 50}, due=9_999)], {0: 50, 1: 50}) == "apart"


def test_parameters_that_never_crossed_the_wire_do_not_pass():
    assert verdict([outcome({0: 50, 1: 50})], {0: 50, 1: 50}, models=0.01) == "unknown"


def test_evidence_that_disagrees_with_itself_is_no_verdict_and_says_so():
    received = {0: 50.0 * MODEL_BYTES, 1: 2.0 * MODEL_BYTES}

    judgement = audit([outcome({0: 50, 1: 50})], 2, received, over_wire=True, measured={0: 1.0, 1: 1.0})

    assert judgement["verdict"] == "unknown"
    assert "one of them is wrong" in judgement["evidence"][-1]


def test_bytes_of_a_part_of_the_training_prove_nothing_against_it():
    received = {0: 50.0 * MODEL_BYTES, 1: 2.0 * MODEL_BYTES}

    judgement = audit([outcome({0: 50, 1: 50})], 2, received, over_wire=True, measured={0: 1.0, 1: 0.04})

    assert judgement["verdict"] == "unknown"
    assert "Bytes were measured for a part of the training only: 1: 4%." in judgement["evidence"]


def test_bytes_of_a_part_of_the_training_that_suffice_are_proof():
    received = {0: 50.0 * MODEL_BYTES, 1: 40.0 * MODEL_BYTES}

    assert audit([outcome({0: 50, 1: 50})], 2, received, over_wire=True, measured={1: 0.5})["verdict"] == "together"


def test_a_worker_whose_bytes_nobody_measured_is_no_evidence_of_anything():
    judgement = audit([outcome({0: 50, 1: 50})], 2, {0: 50.0 * MODEL_BYTES}, over_wire=True)

    assert judgement["verdict"] == "unknown"
    assert "Bytes on the wire of worker 1 were not measured." in judgement["evidence"]


def test_counts_that_a_peer_did_not_leave_are_no_evidence_that_it_trained_apart():
    mine = outcome({0: 50}, updates=50, due=100 * 32)

    judgement = audit([mine], 2, {0: 50.0 * MODEL_BYTES}, over_wire=True, outcomes_due=2)

    assert judgement["verdict"] == "unknown"
    assert "Only 1 of 2 training tasks left their counts." in judgement["evidence"]
    assert "missing" in judgement["evidence"][-1]


def test_a_strategy_that_exchanges_nothing_is_apart_whatever_is_missing():
    alone = outcome({0: 100}, due=100 * 32, every=None)

    assert audit([alone], 2, {}, over_wire=True, outcomes_due=2)["verdict"] == "apart"


def test_replicas_on_one_host_need_no_wire():
    steps = {0: 50, 1: 50}

    assert verdict([outcome(steps, updates=50, digests="aa")], {}, over_wire=False) == "together"
    assert verdict([outcome(steps, updates=50, digests="ab")], {}, over_wire=False) == "apart"


def test_averaging_now_and_then_is_measured_against_the_averagings():
    both = outcome({0: 80, 1: 80}, updates=80, every=8)

    assert verdict([both, both], {0: 80, 1: 80}, models=1 / 8) == "together"


def test_without_bytes_the_verdict_is_open():
    assert audit([outcome({0: 50, 1: 50})], 2, {}, over_wire=True)["verdict"] == "unknown"


def test_a_run_that_left_nothing_is_unknown():
    assert audit([], 2, {}, over_wire=True)["verdict"] == "unknown"


def test_one_replica_has_nothing_to_be_together_with():
    assert verdict([outcome({0: 100})], {}, workers=1) == "single"


def sampled(worker: int, *moments: float) -> pandas.DataFrame:
    """Samples of a worker's connections."""
    row = {"source": "sockets", "role": "worker", "task_index": worker, "name": "net_received_bytes", "value": 1.0}
    return pandas.DataFrame([{**row, "time_unix_s": moment} for moment in moments])


def test_what_was_counted_before_a_monitor_was_started_again_is_not_lost():
    """It is when a worker comes back: of connections that were closed by then the new one does not know."""
    begun = [TaskStarted(task=task, time_unix_s=0) for task in ("ps-0", "worker-0", "monitor-0")]
    again = [TaskStarted(task=task, time_unix_s=20) for task in ("worker-0", "monitor-0")]
    moments = {"time_unix_s": [10.0, 15.0, 25.0, 30.0], "task_index": 0}
    received = {**moments, "source": "sockets", "role": "ps", "name": "net_received_bytes", "value": [10, 20, 12, 22]}
    of_worker = {**received, "role": "worker", "value": [1, 2, 1, 2]}
    errors = {**moments, "source": "nvml", "role": "host", "name": "collector_errors", "value": [1, 2, 1, 2]}
    samples = pandas.concat(map(pandas.DataFrame, (received, of_worker, errors)), ignore_index=True)

    samples = _with_counters_added_up(samples, begun + again)
    totals = [_total(samples, name) for name in ("net_received_bytes", "collector_errors", "cpu_s")]

    assert [total.to_dict() for total in totals] == [
        {("sockets", "ps", 0): 30, ("sockets", "worker", 0): 4},
        {("nvml", "host", 0): 4},
        {},
    ]


def life(task: str, begin_s: float, end_s: float) -> list[Event]:
    return [TaskStarted(task=task, time_unix_s=begin_s), TaskEnded(task=task, time_unix_s=end_s)]


def test_a_process_that_ended_before_its_bytes_were_read_was_not_measured():
    job = make_job(strategy="ps-async")
    first, second = life("worker-0", 100, 104), life("worker-0", 105, 109)
    other = life("worker-1", 100, 109)
    events = sorted([*first, *second, *other], key=lambda event: event.time_unix_s)
    samples = pandas.concat([sampled(0, 106, 107, 108, 109), sampled(1, 101, 102, 104, 108, 109)])

    assert _measured_by_worker(job, samples, events) == {0: 0.5, 1: 1.0}


def test_a_gap_between_samples_was_not_measured():
    judgement = _measured_by_worker(
        make_job(strategy="ps-async"),
        sampled(0, 1, 2, 99, 100),
        [TaskStarted(task="worker-0", time_unix_s=0), *life("x-0", 1, 100)],
    )

    assert judgement == {0: 0.03}
