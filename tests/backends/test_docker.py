"""What a run in containers makes of its request, before there is any container."""

from __future__ import annotations

from types import SimpleNamespace

from facesim.backends.docker import BACKEND as DOCKER
from facesim.backends.docker import FolderStore, places_of
from facesim.runs.directory import Run
from facesim.spec.job import make_job


def test_checkpoints_are_kept_in_the_folder_that_the_user_named(tmp_path):
    data, left = tmp_path / "prepared", tmp_path / "left"
    for folder in (data, left):
        folder.mkdir()
        (folder / "dataset.json").write_text("{}")
    job = make_job(backend="docker", checkpoint_dir=str(tmp_path / "kept"))
    run = Run.create(tmp_path / "one", job)
    request = DOCKER.render(job, run.directory, SimpleNamespace(folders={"data": data}))
    uri = request.request["CheckpointConfig"]["S3Uri"]
    store = FolderStore(tmp_path / "store", places_of(run, request))

    store.upload(left, uri)

    assert [path.name for path in (tmp_path / "kept" / "one").iterdir()] == ["dataset.json"]
    assert store.folder(uri) == run.checkpoint_directory(job)
    assert not run.checkpoints.exists()
