"""What is prepared from arrays, rendered faces and scikit-learn's data sets, and what is no source."""

import shutil
import tarfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from facesim.data import PreparedData, prepare, render, render_folder
from facesim.spec.data import DataSpec
from facesim.util.errors import InputError
from tests.data.test_prepare import ORL, REPOSITORY, SPEC


@pytest.fixture
def ready(tmp_path):
    """prepare() with a cache of its own and small images."""

    def run(source, **options) -> PreparedData:
        return prepare(str(source), **{"image_size": 16, "cache_dir": tmp_path / "cache", **options})

    return run


class TestNpz:
    IMAGES = np.arange(6 * 20 * 10, dtype=np.uint32).astype(np.uint8).reshape(6, 20, 10)
    LABELS = np.array([5, 5, 2, 2, 2, 5], np.int16)

    def write(self, tmp_path: Path, **arrays) -> Path:
        path = tmp_path / "npz/faces.npz"
        path.parent.mkdir(exist_ok=True)
        np.savez(path, **arrays)
        return path

    def test_labels_become_consecutive(self, ready, tmp_path):
        data = ready(self.write(tmp_path, images=self.IMAGES, labels=self.LABELS))

        assert data.labels.tolist() == [1, 1, 0, 0, 0, 1]
        assert data.names == ("2", "5")
        assert data.images.shape == (6, 16, 16, 3)

    def test_names_follow_their_labels(self, ready, tmp_path):
        names = np.array(["a", "b", "Cy", "d", "e", "Flo"])

        assert ready(self.write(tmp_path, images=self.IMAGES, labels=self.LABELS, names=names)).names == ("Cy", "Flo")

    def test_images_of_the_right_size_are_taken_as_they_are(self, ready, tmp_path):
        images = np.random.default_rng(0).integers(0, 256, (6, 16, 16, 3), dtype=np.uint8)

        assert np.array_equal(ready(self.write(tmp_path, images=images, labels=self.LABELS)).images, images)

    def test_a_folder_that_holds_just_this_file(self, ready, tmp_path):
        folder = self.write(tmp_path, images=self.IMAGES, labels=self.LABELS).parent
        (folder / "SOURCE.md").write_text("where it is from")

        assert ready(folder).name == "faces"

    def test_a_folder_that_holds_two_is_unclear(self, ready, tmp_path):
        folder = self.write(tmp_path, images=self.IMAGES, labels=self.LABELS).parent
        shutil.copy(folder / "faces.npz", folder / "more.npz")

        with pytest.raises(InputError, match=r"2 data sets \(faces.npz, more.npz\)"):
            ready(folder)

    @pytest.mark.parametrize(
        ("arrays", "message"),
        [
            ({"images": IMAGES}, "has no labels; it holds images"),
            ({"pictures": IMAGES}, "has no images and no labels"),
            ({"images": IMAGES[0], "labels": LABELS}, r"images is uint8 \(20, 10\)"),
            ({"images": np.zeros((6, 2, 8, 8), np.uint8), "labels": LABELS}, r"images is uint8 \(6, 2, 8, 8\)"),
            ({"images": IMAGES[:0], "labels": LABELS[:0]}, "images is empty"),
            ({"images": IMAGES, "labels": LABELS[:5]}, r"labels is int16 \(5,\)"),
            ({"images": IMAGES, "labels": LABELS / 2}, "labels is float64"),
            ({"images": IMAGES, "labels": LABELS, "names": np.array(["a", "b"])}, "labels run from 2 to 5"),
            ({"images": IMAGES, "labels": LABELS, "names": np.arange(9)}, "names must be texts"),
            ({"images": IMAGES, "labels": np.array([0] * 6, object)}, "cannot be read as .npz"),
        ],
    )
    def test_what_cannot_be_used(self, ready, tmp_path, arrays, message):
        with pytest.raises(InputError, match=message):
            ready(self.write(tmp_path, **arrays))

    def test_a_damaged_archive(self, ready, tmp_path):
        path = self.write(tmp_path, images=self.IMAGES, labels=self.LABELS)
        path.write_bytes(path.read_bytes()[:300])

        with pytest.raises(InputError, match="cannot be read as .npz"):
            ready(path)

    @pytest.mark.skipif(not ORL.is_file(), reason=f"the ORL faces are not at {ORL.relative_to(REPOSITORY.parent)}")
    def test_orl(self, ready):
        data = ready(ORL.parent, image_size=64, channels=1)

        assert data.images.shape == (400, 64, 64, 1)
        assert data.names[:3] == ("s1", "s2", "s3") and len(data.names) == 40
        assert np.bincount(data.labels).tolist() == [10] * 40
        assert data.images[:, :, :4].max() == 0  # 92 x 112: black left and right


class TestRendered:
    def test_rendered_at_the_size_asked_for(self, ready):
        data = ready("rendered", render=SPEC)

        assert np.array_equal(data.images, render(replace(SPEC, size=16))[0])
        assert (data.name, data.names[0]) == ("rendered", "person-001")

    def test_grey(self, ready):
        assert ready("rendered", render=SPEC, channels=1).images.shape == (12, 16, 16, 1)

    def test_the_paper_s_size_is_the_default(self, ready):
        assert ready("rendered", image_size=16).images.shape == (29 * 15, 16, 16, 3)


class TestScikitLearn:
    """The data sets as scikit-learn leaves them after a download, with other faces in them."""

    @pytest.fixture(autouse=True)
    def sklearn_home(self, tmp_path, monkeypatch) -> Path:
        pytest.importorskip("sklearn")
        monkeypatch.setenv("SCIKIT_LEARN_DATA", str(tmp_path / "sklearn"))
        for name in ("http_proxy", "https_proxy"):
            monkeypatch.setenv(name, "http://127.0.0.1:9")  # nothing listens there: a machine without a network
        return tmp_path / "sklearn"

    def test_lfw(self, ready, photo):
        for name, count in (("Ana_Li", 15), ("Bo_Ek", 16), ("Cy_Oz", 14)):
            for k in range(1, count + 1):
                photo(f"sklearn/lfw_home/lfw_funneled/{name}/{name}_{k:04d}.jpg", size=(250, 250))
        self.lists_that_are_part_of_the_download("sklearn/lfw_home", photo)

        data = ready("lfw", image_size=64)

        assert data.names == ("Ana Li", "Bo Ek")
        assert sorted(np.bincount(data.labels)) == [15, 16]
        assert data.images.shape == (31, 64, 64, 3)
        assert ready("lfw", image_size=64, min_images=14).names == ("Ana Li", "Bo Ek", "Cy Oz")

    def lists_that_are_part_of_the_download(self, folder, photo):
        home = photo(f"{folder}/unused.png").parent
        for name in ("pairsDevTrain.txt", "pairsDevTest.txt", "pairs.txt"):
            (home / name).write_text("")

    def test_olivetti(self, ready, sklearn_home):
        import joblib

        sklearn_home.mkdir()
        faces = np.random.default_rng(0).random((400, 64, 64), dtype=np.float32)
        columns_first = faces.transpose(0, 2, 1).reshape(400, 4096)
        joblib.dump(columns_first, sklearn_home / "olivetti_py3.pkz", compress=6)

        data = ready("olivetti", image_size=64, channels=1)

        assert data.images.shape == (400, 64, 64, 1) and len(data.names) == 40
        assert np.abs(data.images[..., 0] / 255 - faces).max() < 1 / 255

    @pytest.mark.parametrize("damage", [lambda c: c[:5000], lambda c: b"junk" * 99, lambda c: b"", lambda c: c[:-9]])
    def test_a_damaged_olivetti_is_told_with_what_to_delete(self, ready, sklearn_home, damage):
        import joblib

        sklearn_home.mkdir()
        path = sklearn_home / "olivetti_py3.pkz"
        joblib.dump(np.random.default_rng(0).random((400, 4096), dtype=np.float32), path, compress=6)
        path.write_bytes(damage(path.read_bytes()))

        with pytest.raises(InputError, match=f"'olivetti', as it lies in .* is damaged: .*Delete {path} and run"):
            ready("olivetti")

    @pytest.mark.filterwarnings("ignore:invalid value")
    def test_an_olivetti_of_other_things_is_told(self, ready, sklearn_home):
        import joblib

        sklearn_home.mkdir()
        for content in (np.full((400, 4096), np.nan, np.float32), np.zeros((3, 5)), {"no": "faces"}):
            joblib.dump(content, sklearn_home / "olivetti_py3.pkz", compress=6)
            with pytest.raises(InputError, match="'olivetti', as it lies in .*, is damaged"):
                ready("olivetti")

    @pytest.mark.parametrize("content", [b"", b"junk" * 999, "cut"])
    def test_a_damaged_lfw_archive_is_told_also_the_second_time(self, ready, photo, sklearn_home, content):
        self.lists_that_are_part_of_the_download("sklearn/lfw_home", photo)
        archive = sklearn_home / "lfw_home/lfw-funneled.tgz"
        with tarfile.open(archive, "w:gz") as tar:
            for k in range(20):
                tar.add(photo(f"one/{k}.png", size=(64, 64)), f"lfw_funneled/Ana_Li/Ana_Li_{k:04d}.png")
        archive.write_bytes(archive.read_bytes()[:99_000] if content == "cut" else content)

        for _ in range(2):
            with pytest.raises(InputError, match=f"'lfw'.* (is damaged|not unpacked to its end).*Delete .*{archive}"):
                ready("lfw")

    def test_a_damaged_photograph_of_lfw_is_told(self, ready, photo, sklearn_home):
        for k in range(1, 17):
            photo(f"sklearn/lfw_home/lfw_funneled/Ana_Li/Ana_Li_{k:04d}.jpg", size=(250, 250)).write_bytes(b"junk")
        self.lists_that_are_part_of_the_download("sklearn/lfw_home", photo)

        with pytest.raises(InputError, match="'lfw', as it lies in .* is damaged: .*Delete .*lfw_funneled and run"):
            ready("lfw")

    def test_lfw_without_anybody_who_has_so_many_images(self, ready, photo, sklearn_home):
        photo("sklearn/lfw_home/lfw_funneled/Ana_Li/Ana_Li_0001.jpg", size=(250, 250))
        self.lists_that_are_part_of_the_download("sklearn/lfw_home", photo)

        with pytest.raises(InputError, match="lfw has nobody with so many images .*Lower --min-images"):
            ready("lfw")

    @pytest.mark.filterwarnings("ignore:Retry downloading")
    def test_without_a_network_the_message_says_what_to_do(self, ready, sklearn_home):
        with pytest.raises(InputError, match="'olivetti' could not be fetched: .*SCIKIT_LEARN_DATA"):
            ready("olivetti")


class TestSourcesThatAreNone:
    def test_no_such_thing(self, ready, tmp_path):
        with pytest.raises(InputError, match=r"no data source .*olivety.* Give rendered, olivetti, lfw, or"):
            ready(tmp_path / "olivety")

    def test_an_empty_name_is_not_the_current_folder(self, ready, tmp_path, two_people, monkeypatch):
        monkeypatch.chdir(tmp_path / "faces")
        assert ready(".").name == "faces"

        with pytest.raises(InputError, match="no data source ''"):
            ready("")

    def test_another_kind_of_file(self, ready, photo):
        with pytest.raises(InputError, match="neither a folder nor a .npz, .csv, .zip, .tar, .rec, .tfrecord or"):
            ready(photo("1.png"))

    def test_a_cache_that_cannot_be_written(self, ready, tmp_path):
        (tmp_path / "cache").write_text("a file")

        with pytest.raises(InputError, match="cannot write to"):
            ready("rendered", render=SPEC)


def test_rendered_people_are_tested_on_as_far_as_they_are_trained_on(ready, tmp_path):
    render_folder(replace(SPEC, identities=SPEC.identities - 1), tmp_path / "faces")

    data = ready(tmp_path / "faces", test="rendered", render=SPEC)

    _, held_out = data.split(DataSpec())
    pictures, labels, _ = render(replace(SPEC, size=16))
    assert len(held_out) == (SPEC.identities - 1) * SPEC.images
    np.testing.assert_array_equal(data.images[held_out], pictures[labels < SPEC.identities - 1])
