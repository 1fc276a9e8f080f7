"""What every part keeps to, whoever made it: built-in ones here, those of plugins in `test_plugins`."""

from __future__ import annotations

import importlib.util
import json
import os
import sys
from pathlib import Path

import numpy as np
import pytest

from facesim.backends.base import Backend
from facesim.baselines import BASELINES
from facesim.data import DATASETS, prepare
from facesim.data.splits import stratified_split
from facesim.metrics.collectors import COLLECTORS, make_collectors, ranks
from facesim.metrics.schema import METRICS
from facesim.models import HEADS, MODELS
from facesim.models.exporters import EXPORTERS
from facesim.preflight.inputs import Inputs
from facesim.spec.backends import BACKENDS
from facesim.spec.job import Job, flat, make_job, options
from facesim.spec.shape import Shape
from facesim.spec.strategies import STRATEGIES
from facesim.util.errors import InputError
from facesim.util.registry import loaded

#: Of these a fetcher needs the network.
DOWNLOADED = {"olivetti", "lfw"}


def is_there(place) -> bool:
    """Whether a function is given, or named by a module that can be found."""
    return callable(place) or importlib.util.find_spec(place.split(":")[0]) is not None


@pytest.mark.parametrize("name", [name for name, _ in STRATEGIES.available()])
def test_a_strategy_says_what_it_is_without_a_framework(name):
    before = set(sys.modules)
    strategy = STRATEGIES[name]()

    tasks = strategy.tasks(Shape(workers=3, ps=2))
    assert tasks["chief"] == 1 and all(count >= 0 for count in tasks.values())
    assert strategy.replicas(Shape(workers=3)) >= 1
    assert strategy.summary and strategy.trainers and all(map(is_there, strategy.trainers.values()))
    assert set(strategy.options) <= set(options())
    assert "tensorflow" not in set(sys.modules) - before


@pytest.mark.parametrize("name", [name for name, _ in STRATEGIES.available()])
def test_a_job_with_any_strategy_goes_through_json_and_flat_options(name):
    job = make_job(strategy=name)

    assert Job.model_validate_json(job.model_dump_json()) == job
    assert make_job(**flat(job)) == job


@pytest.mark.parametrize("name", [name for name, _ in BACKENDS.available()])
def test_a_backend_says_what_it_can_do_and_what_runs_jobs_there(name):
    spec = BACKENDS[name]()

    assert spec.summary
    assert spec.measurement in ("emulated", "measured")
    assert spec.measurement == "measured" or not spec.costs_money
    backend: Backend = spec.open()
    assert isinstance(backend, Backend)
    for verb in ("check", "estimate", "render", "submit", "attach", "status", "logs", "cancel", "jobs"):
        assert callable(getattr(backend, verb)), verb
    if not spec.costs_money:
        assert backend.estimate([], None) is None
    assert set(type(spec).model_fields) - {"name"} <= set(options())


@pytest.mark.parametrize("name", [name for name, kind in BACKENDS.available() if not kind.own_hosts])
def test_a_backend_renders_a_request_as_json_and_starts_nothing(name, tmp_path, faces):
    data = prepare(str(faces), image_size=32, cache_dir=tmp_path / "cache")
    job = make_job(backend=name, strategy="single", image_size=32)

    request = json.loads(job.backend.open().render(job, tmp_path / "run", Inputs(data)).to_json())

    assert str(tmp_path / "run") in json.dumps(request)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("name", [name for name, _ in MODELS.available()])
def test_a_network_says_its_size_without_a_framework(name):
    model = MODELS[name]

    assert model.summary and is_there(model.features)
    assert model.dimensions(64) > 0


@pytest.mark.parametrize("name", [name for name, _ in HEADS.available()])
def test_a_margin_is_of_cosines(name):
    head = HEADS[name]

    assert head.summary
    assert head.margin is None or (head.cosine and is_there(head.margin))
    assert head.cosine or not head.sampled


@pytest.mark.parametrize("name", [name for name, _ in DATASETS.available() if name not in DOWNLOADED])
def test_a_data_set_is_made_once_and_is_the_same_again(name, tmp_path):
    data, again, elsewhere = (
        prepare(name, image_size=32, cache_dir=tmp_path / folder) for folder in ("one", "one", "other")
    )

    assert again.directory == data.directory
    assert elsewhere.sha256 == data.sha256
    assert data.images.shape == (len(data.labels), 32, 32, 3)
    assert set(data.labels) == set(range(len(data.names)))
    train, test = stratified_split(data.labels, 0.2, 0)
    assert len(train) and len(test)


@pytest.mark.parametrize("name", [name for name, _ in COLLECTORS.available()])
def test_a_collector_has_its_name_as_its_source_and_reads_what_the_schema_knows(name):
    for collector in make_collectors({"chief-0": os.getpid()}, [name]):
        assert collector.source == name
        for role, index, values in collector.collect():
            assert role in ("host", "chief") and index == 0
            assert values.keys() <= METRICS.keys()


def test_no_two_sources_have_the_same_rank():
    assert sorted(ranks().values()) == list(range(len(ranks())))


@pytest.mark.parametrize("name", [name for name, _ in EXPORTERS.available()])
def test_an_export_format_refuses_what_is_there_already(name, tmp_path):
    exporter = EXPORTERS[name]
    there = Path(tmp_path / f"model{exporter.suffix}")

    exporter.check(there)
    there.touch()

    assert exporter.summary and is_there(exporter.write)
    with pytest.raises(InputError, match="already exists"):
        exporter.check(there)


@pytest.mark.parametrize("name", [name for name, _ in BASELINES.available()])
def test_a_baseline_names_people_that_it_was_shown(name):
    random = np.random.default_rng(0)
    labels = np.repeat(np.arange(3, dtype=np.int32), 6)
    images = (labels[:, None, None] / 3 + random.uniform(0, 0.2, (18, 32, 32))).astype(np.float32)

    predictions = loaded(BASELINES[name].function)(images, labels, images[::6], 0)

    assert len(predictions) == 3
    assert set(predictions) <= set(labels)
