import pytest

from facesim.spec.job import Job, changed_job, make_job
from facesim.spec.recipes import RECIPES
from facesim.util.errors import InputError


def test_options_go_where_they_belong_and_the_rest_is_default():
    job = make_job(strategy="ps-async", epochs=3, workers=4)

    assert (job.strategy.name, job.experiment.epochs, job.shape.workers) == ("ps-async", 3, 4)
    assert (job.experiment.batch, job.experiment.model, job.shape.ps) == (32, "paper-cnn", 1)


def test_a_job_survives_being_written_and_read():
    job = make_job(strategy="ps-async", data="lfw", learning_rate=0.01, threads=2)

    assert Job.model_validate_json(job.model_dump_json()) == job


def test_a_folder_for_checkpoints_is_the_same_from_wherever_a_run_continues(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    assert make_job(checkpoint_dir="kept").recovery.checkpoint_dir == str(tmp_path / "kept")
    assert make_job(checkpoint_dir="").recovery.checkpoint_dir is None


def test_a_home_folder_is_one_in_every_path_of_a_job(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "capacity.csv").write_text("0,add,a\n")
    (tmp_path / "lifetimes.csv").write_text("hours\n2\n")
    (tmp_path / "net.py").write_text("def build(context):\n    ...\n")
    (tmp_path / "faults.toml").write_text('[[fault]]\nkind = "kill"\nat_step = 5\n')

    job = make_job(
        checkpoint_dir="~/kept", pretrained="~/start.keras", spot_trace="~/capacity.csv", model="~/net.py:build",
        faults="~/faults.toml",
    )  # fmt: skip

    assert job.recovery.checkpoint_dir == str(tmp_path / "kept")
    assert job.experiment.pretrained == str(tmp_path / "start.keras")
    assert job.experiment.model.startswith(f"{tmp_path / 'net.py'}:build@")
    assert job.spot.trace == str(tmp_path / "capacity.csv")
    assert make_job(spot_lifetimes="~/lifetimes.csv").spot.lifetimes == str(tmp_path / "lifetimes.csv")
    assert [fault.kind for fault in job.faults] == ["kill"]


def test_none_means_the_default():
    assert make_job(epochs=None) == make_job()


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("epochs", 0, "--epochs 0 is not allowed: greater than or equal to 1"),
        ("batch", -1, "--batch -1 is not allowed"),
        ("held_out", 1.0, "--held-out 1.0 is not allowed: less than 1"),
        ("learning_rate", "fast", "--learning-rate 'fast' is not allowed"),
        ("learning_rate", float("nan"), "--learning-rate nan is not allowed"),
        ("model", "paper", "must be one of paper-cnn, plain-cnn, compact-cnn"),
        ("strategy", "ps-sink", "--strategy 'ps-sink' is not allowed: must be one of single, "),
        ("backup_workers", 2, "--backup-workers 2 means nothing to --strategy single: it is an option of ps-sync"),
        ("bucket", "mine", "--bucket 'mine' means nothing to --backend local: it is an option of sagemaker"),
        (
            "backend",
            "sagemakr",
            "--backend 'sagemakr' is not allowed: must be one of local, docker, sagemaker, kubernetes; did you",
        ),
        ("workers", 0, "--workers 0 is not allowed"),
        ("spot", "no", "--spot 'no' is not allowed: true or false"),
        ("spot", {"rate": 1.0}, "--spot {'rate': 1.0} is not allowed: true or false"),
        ("ps", 1000, "--ps 1000 is not allowed: less than or equal to 64"),
        ("image_size", 8, "--image-size 8 is not allowed"),
        ("instance_type", "ml.m5.2xlage", "did you mean ml.m5.2xlarge?"),
        ("head", "arcfase", "did you mean arcface?"),
        (
            "recipe",
            "moderne",
            "--recipe 'moderne' is not allowed: must be one of paper, modern, wild; did you mean modern?",
        ),
    ],
)
def test_a_value_that_is_not_allowed_is_named_with_what_is(option, value, message):
    with pytest.raises(InputError) as error:
        make_job(**{option: value})

    assert message in str(error.value)


def test_backup_workers_are_fewer_than_workers():
    with pytest.raises(InputError, match="--backup-workers 2 must be fewer than --workers 2"):
        make_job(strategy="ps-sync", backup_workers=2)


def test_every_wrong_value_is_told_at_once():
    with pytest.raises(InputError, match="--epochs.*--workers"):
        make_job(epochs=0, workers=0)


def test_an_unknown_option_is_told_with_the_closest():
    with pytest.raises(InputError, match="unknown option --epoch; did you mean --epochs?"):
        make_job(epoch=1)


def test_a_cluster_is_billed_for_a_host_a_worker():
    assert make_job(strategy="ps-async", workers=3).hosts == 3
    assert make_job(strategy="single", workers=3).hosts == 1


def test_without_scaling_an_update_is_the_same_for_every_strategy():
    for strategy in ("single", "ps-async", "ps-sync", "allreduce", "local-sgd", "mirrored", "independent"):
        job = make_job(strategy=strategy, workers=4, batch=32, learning_rate=0.001)

        assert (job.update_batch, job.learning_rate) == (32, 0.001)


@pytest.mark.parametrize(
    ("strategy", "rule", "batch", "rate"),
    [
        ("allreduce", "linear", 128, 0.004),
        ("allreduce", "sqrt", 128, 0.002),
        ("ps-sync", "linear", 128, 0.004),
        ("ps-async", "linear", 32, 0.001),  # one worker's gradient makes an update
        ("single", "sqrt", 32, 0.001),
    ],
)
def test_scaling_follows_the_number_of_workers_that_make_an_update(strategy, rule, batch, rate):
    job = make_job(strategy=strategy, workers=4, batch=32, learning_rate=0.001, scale_lr=rule)

    assert job.update_batch == batch
    assert job.learning_rate == pytest.approx(rate)


def test_a_backup_worker_s_gradient_is_not_part_of_an_update():
    job = make_job(strategy="ps-sync", workers=5, backup_workers=1, batch=32, scale_lr="linear")

    assert job.update_batch == 4 * 32


def test_a_recipe_gives_defaults_and_options_win():
    experiment = make_job(recipe="modern", epochs=3, augment=False).experiment

    assert (experiment.model, experiment.head, experiment.schedule) == ("resnet-small", "arcface", "cosine")
    assert (experiment.epochs, experiment.augment) == (3, False)
    assert Job.model_validate_json(make_job(recipe="modern", epochs=3).model_dump_json()).experiment.epochs == 3


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_recipe_sets_what_there_is_to_allowed_values(recipe):
    settings = RECIPES[recipe].settings

    assert make_job(recipe=recipe).experiment.model_dump().items() >= settings.items()


def test_a_job_that_is_changed_keeps_its_capacity_unless_that_is_changed():
    spot, on_demand = make_job(spot_rate=3, spot_wait_s=9, max_run=60), make_job()

    assert changed_job(spot, {}) == spot
    assert changed_job(on_demand, {}) == on_demand
    assert changed_job(spot, {"max_run": 120}).max_run_s == 120
    assert changed_job(spot, {"spot": False}).spot is None
    assert changed_job(on_demand, {"spot_rate": 2.0}).spot.rate == 2


def test_a_run_whose_updates_grow_with_its_workers_keeps_their_number():
    scaled = make_job(strategy="allreduce", workers=2, scale_lr="linear")
    served = make_job(strategy="ps-sync", workers=3, backup_workers=1, scale_lr="sqrt")

    with pytest.raises(InputError, match=r"--scale-lr linear an update by 2 workers is of 64 examples, and one by 4"):
        changed_job(scaled, {"workers": 4})
    with pytest.raises(InputError, match="an update by 2 workers"):
        changed_job(served, {"backup_workers": 0})

    assert changed_job(served, {"workers": 4, "backup_workers": 2}).shape.workers == 4
    plain = make_job(strategy="allreduce", workers=2)
    assert changed_job(plain, {"workers": 4}).shape.workers == 4
