"""From each kind of source to a prepared folder, and what is refused on the way."""

import errno
import hashlib
import os
import shutil
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pytest
from PIL import Image

from facesim.data import BadFile, PreparedData, RenderSpec, describe, opening, prepare
from facesim.data.prepare import too_many_unreadable
from facesim.util.errors import InputError
from tests.data.exif import HEIC

REPOSITORY = Path(__file__).parents[2]
ORL = REPOSITORY.parent / "shared/data/orl/orl_faces.npz"
SPEC = RenderSpec(identities=3, images=4, difficulty=0.2)


@pytest.fixture
def ready(tmp_path):
    """prepare() with a cache of its own and small images."""

    def run(source, **options) -> PreparedData:
        return prepare(str(source), **{"image_size": 16, "cache_dir": tmp_path / "cache", **options})

    return run


def one_image(ready, tmp_path, image: Image.Image, name="a.png", channels=3, **save_options) -> np.ndarray:
    """What becomes of one image file: (16, 16, channels)."""
    for path in ("one/Ana", "one/Bo"):
        (tmp_path / path).mkdir(parents=True, exist_ok=True)
        for k in range(2):
            image.save(tmp_path / path / f"{k}{name}", **save_options)
    return ready(tmp_path / "one", channels=channels).images[0]


def list_files(root: Path) -> None:
    """Write list.csv, of the files in root/faces."""
    files = sorted(root.glob("faces/*/*"))
    (root / "list.csv").write_text("\n".join(["path,label", *(f"{file},{file.parent.name}" for file in files)]))


class TestAFolder:
    @pytest.mark.parametrize(
        "change",
        {
            "another file": lambda root: shutil.copy(root / "Ana/0.png", root / "Ana/9.png"),
            "a file less": lambda root: (root / "Ana/0.png").unlink(),
            "another name": lambda root: (root / "Bo").rename(root / "Cy"),
            "other content": lambda root: shutil.copy(root / "Bo/0.png", root / "Ana/0.png"),
            "another person": lambda root: (root / "Bo/0.png").rename(root / "Ana/b.png"),
        }.items(),
        ids=lambda change: change[0],
    )
    def test_is_found_at_once_until_something_in_it_changes(self, ready, tmp_path, two_people, change):
        root = tmp_path / "faces"
        before = ready(root)
        assert ready(root).directory == before.directory and len(list((tmp_path / "cache/folders").iterdir())) == 1

        change[1](root)

        after = ready(root)
        assert after.directory != before.directory
        assert after.sha256 == prepare(str(root), image_size=16, cache_dir=tmp_path / "fresh").sha256
        assert ready(root).directory == after.directory

    @pytest.mark.parametrize("source", ["faces", "list.csv"])
    def test_is_prepared_again_when_files_of_one_size_and_age_change_places(self, ready, photo, tmp_path, source):
        ana, _, bo, _ = files = [photo(f"faces/{name}/{number}.bmp") for name in ("Ana", "Bo") for number in (0, 1)]
        for file in files:
            os.utime(file, (0, 0))
        list_files(tmp_path)
        before = ready(tmp_path / source).images[:]

        ana.rename(tmp_path / "kept")
        bo.rename(ana)
        (tmp_path / "kept").rename(bo)

        assert np.array_equal(ready(tmp_path / source).images, before[[2, 1, 0, 3]])

    def test_is_prepared_again_where_only_the_note_of_it_is_left(self, ready, tmp_path, two_people):
        before = ready(tmp_path / "faces")
        shutil.rmtree(before.directory)

        assert ready(tmp_path / "faces").sha256 == before.sha256

    def test_holds_what_a_training_task_reads(self, ready, tmp_path, two_people):
        data = ready(tmp_path / "faces")

        raw = np.fromfile(data.directory / "images.u8", np.uint8)
        assert raw.size == 6 * 16 * 16 * 3
        assert np.array_equal(raw.reshape(6, 16, 16, 3), data.images)
        assert data.labels.dtype == np.int32 and data.labels.tolist() == [0, 0, 0, 1, 1, 1]
        assert (data.name, data.names, data.groups, data.bad_files) == ("faces", ("Ana", "Bo"), (None, None), ())
        assert data.sha256 == hashlib.sha256(raw.tobytes() + data.labels.tobytes()).hexdigest()
        data.verify()

    def test_keeps_no_path_of_the_machine(self, ready, tmp_path, two_people):
        data = ready(tmp_path / "faces")

        assert str(tmp_path) not in (data.directory / "dataset.json").read_text()

    def test_images_are_read_only(self, ready, tmp_path, two_people):
        with pytest.raises(ValueError, match="read-only"):
            ready(tmp_path / "faces").images[0] = 0

    def test_groups_are_kept_an_identity(self, ready, photo, tmp_path):
        for folder in ("11_sets_Hispanics/1_name_Ana", "18_sets_ Caucasians/2_name_Bo"):
            for k in range(2):
                photo(f"tree/{folder}/{k}.png")

        assert ready(tmp_path / "tree").groups == ("Hispanics", "Caucasians")

    def test_min_images_leaves_people_out(self, ready, photo, tmp_path, two_people):
        photo("faces/Al/1.png")

        data = ready(tmp_path / "faces", min_images=2)

        assert data.names == ("Ana", "Bo") and data.labels.tolist() == [0, 0, 0, 1, 1, 1]

    def test_progress_counts_the_images(self, ready, tmp_path, two_people):
        seen = []

        ready(tmp_path / "faces", progress=lambda *event: seen.append(event))

        assert seen == [("decoding", done, 6) for done in range(1, 7)]


class TestDecoding:
    def test_exif_orientation_is_applied(self, ready, tmp_path):
        image = Image.new("RGB", (32, 32), "black")
        image.paste("white", (0, 0, 32, 16))  # white above; orientation 6 says: turn it clockwise to see it upright
        exif = Image.Exif()
        exif[0x0112] = 6

        pixels = one_image(ready, tmp_path, image, "a.jpg", exif=exif)

        assert pixels[:, 12:].mean() > 240 and pixels[:, :4].mean() < 15

    @pytest.mark.parametrize(("size", "black"), [((40, 20), np.s_[:3]), ((20, 40), np.s_[:, :3])])
    def test_the_aspect_ratio_is_kept_on_black(self, ready, tmp_path, size, black):
        pixels = one_image(ready, tmp_path, Image.new("RGB", size, "white"))

        assert pixels[black].max() == 0
        assert pixels[8].max() == pixels[:, 8].max() == 255
        assert np.isclose(np.mean(pixels == 255), 0.5, atol=0.05)

    def test_transparency_shows_white(self, ready, tmp_path):
        pixels = one_image(ready, tmp_path, Image.new("RGBA", (20, 20), (255, 0, 0, 0)))

        assert pixels.min() == 255

    def test_palettes_become_colours(self, ready, tmp_path):
        image = Image.new("RGB", (20, 20), (200, 100, 50)).quantize(8)

        assert np.abs(one_image(ready, tmp_path, image).astype(int) - (200, 100, 50)).max() <= 2

    @pytest.mark.parametrize("name", ["a.png", "a.tif"])
    def test_16_bits_become_8(self, ready, tmp_path, name):
        image = Image.fromarray(np.full((20, 20), 32896, np.uint16))

        assert np.unique(one_image(ready, tmp_path, image, name)).tolist() == [128]

    def test_16_bit_pgm(self, ready, tmp_path):
        for name in ("Ana", "Bo"):
            (tmp_path / "faces" / name).mkdir(parents=True)
            for k in range(2):
                content = b"P5 20 20 65535\n" + np.full(400, 32896, ">u2").tobytes()
                (tmp_path / f"faces/{name}/{k}.pgm").write_bytes(content)

        assert np.unique(ready(tmp_path / "faces").images).tolist() == [128]

    def test_cmyk(self, ready, tmp_path):
        pixels = one_image(ready, tmp_path, Image.new("CMYK", (20, 20), (0, 255, 255, 0)), "a.jpg")

        assert pixels[8, 8, 0] > 200 and pixels[8, 8, 1:].max() < 60

    def test_grey_becomes_colour_and_colour_becomes_grey(self, ready, tmp_path):
        grey, red = Image.new("L", (20, 20), 77), Image.new("RGB", (20, 20), (255, 0, 0))

        assert one_image(ready, tmp_path, grey).tolist() == [[[77] * 3] * 16] * 16
        assert one_image(ready, tmp_path, red, channels=1).tolist() == [[[76]] * 16] * 16

    def test_large_jpegs_are_scaled_as_well_as_small_ones(self, ready, tmp_path):
        x, y = np.meshgrid(np.linspace(0, 255, 1024), np.linspace(0, 255, 1024))
        image = Image.fromarray(np.stack([x, y, 255 - x], axis=2).astype(np.uint8))

        pixels = one_image(ready, tmp_path, image, "a.jpg", quality=95)

        expected = np.asarray(image.resize((16, 16), Image.Resampling.LANCZOS)).astype(int)
        assert np.abs(pixels - expected).max() < 6


class TestBadFiles:
    def damage(self, tmp_path: Path, count: int) -> None:
        for k in range(count):
            (tmp_path / f"faces/Ana/bad{k}.jpg").write_bytes(b"not an image")

    def test_a_few_are_named_and_skipped(self, ready, tmp_path, two_people):
        self.damage(tmp_path, 1)

        data = ready(tmp_path / "faces", max_bad_files=0.2)

        assert len(data.labels) == 6
        assert [(bad.path, bad.reason) for bad in data.bad_files] == [
            ("Ana/bad0.jpg", "not an image that Pillow can read")
        ]

    @pytest.mark.parametrize("source", ["faces", "list.csv"])
    @pytest.mark.parametrize("failure", [OSError(errno.EIO, "Input/output error"), MemoryError()], ids=type)
    def test_what_the_system_failed_to_read_is_tried_again(
        self, ready, tmp_path, two_people, monkeypatch, failure, source
    ):
        list_files(tmp_path)
        opens = opening.open_regular

        def fails(path: Path) -> BinaryIO:
            if path.match("Ana/0.png"):
                raise failure
            return opens(path)

        with monkeypatch.context() as patch:
            patch.setattr(opening, "open_regular", fails)
            lacking = [ready(tmp_path / source, max_bad_files=0.2) for _ in range(2)]
        whole = ready(tmp_path / source, max_bad_files=0.2)

        assert [len(data.bad_files) for data in (*lacking, whole)] == [1, 1, 0]
        assert lacking[0].directory == lacking[1].directory != whole.directory
        assert len(lacking[0].images) + 1 == len(whole.images)
        assert ready(tmp_path / source, max_bad_files=0.2).directory == whole.directory

    def test_heic_is_read_once_its_package_is_there(self, ready, tmp_path, two_people, monkeypatch):
        pytest.importorskip("pi_heif")
        (tmp_path / "faces/Ana/phone.heic").write_bytes(HEIC)
        with monkeypatch.context() as patch:
            patch.setitem(sys.modules, "pi_heif", None)
            patch.delitem(Image.OPEN, "HEIF", raising=False)
            (lacking,) = ready(tmp_path / "faces", max_bad_files=0.2).bad_files

        assert "not installed" in lacking.reason
        assert ready(tmp_path / "faces", max_bad_files=0.2).bad_files == ()

    def test_too_many_are_an_error_that_names_some(self, ready, tmp_path, two_people):
        self.damage(tmp_path, 4)

        with pytest.raises(InputError, match=r"4 of 10 files cannot be read .*Ana/bad0.jpg: not an image.*at most 20%"):
            ready(tmp_path / "faces", max_bad_files=0.2)

        assert list((tmp_path / "cache").iterdir()) == []

    def test_how_many_may_be_bad_is_heeded_also_of_what_was_prepared_where_more_were_allowed(
        self, ready, tmp_path, two_people
    ):
        self.damage(tmp_path, 4)
        data = ready(tmp_path / "faces", max_bad_files=1)

        with pytest.raises(InputError, match=r"4 of 10 files .*at most 39% .*allow them with --max-bad-files 0\.4\."):
            ready(tmp_path / "faces", max_bad_files=0.39)

        assert ready(tmp_path / "faces", max_bad_files=0.4).directory == data.directory

    def test_the_share_that_is_said_to_allow_bad_files_does(self):
        for files in range(1, 120):
            for count in range(1, files + 1):
                bad_files = [BadFile("a.png", "empty file")] * count
                said = too_many_unreadable(bad_files, files - count, 0.0)

                enough = float(said.rsplit(" ", 1)[1])
                assert too_many_unreadable(bad_files, files - count, enough) is None
                assert enough < count / files + 0.01

    def test_an_identity_must_keep_two_images(self, ready, tmp_path, two_people):
        for k in range(2):
            (tmp_path / f"faces/Bo/{k}.png").write_bytes(b"")

        with pytest.raises(
            InputError, match=r"1 of 2 identities has fewer than 2 usable images \(Bo\).*--min-images 2"
        ):
            ready(tmp_path / "faces", max_bad_files=0.5)
        with pytest.raises(InputError, match=r"usable images \(Bo\).*, or move these people's away"):
            ready(tmp_path / "faces", max_bad_files=0.5, min_images=2)

    def test_nothing_but_bad_files(self, ready, tmp_path, two_people):
        for path in (tmp_path / "faces").rglob("*.png"):
            path.write_bytes(b"")

        with pytest.raises(InputError, match="2 of 2 identities have fewer than 2 usable images"):
            ready(tmp_path / "faces", max_bad_files=1)

    @pytest.mark.parametrize(
        ("name", "content", "reason"),
        [
            ("a.png", b"", "empty file"),
            ("a.heic", b"\0\0\0\x18ftypheic", "HEIC, and (damaged|facesim-cluster.heic. is not installed)"),
            ("a.pgm", b"P5 20000 20000 255\n", "DecompressionBomb|pixels are more than|exceeds limit"),
            ("a.pgm", b"P5 10000 10000 255\n", "pixels are more than"),
            ("a.pgm", b"P5 20 20 255\nshort", "OSError|ValueError"),
        ],
    )
    @pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
    @pytest.mark.usefixtures("two_people")
    def test_why_a_file_is_bad(self, ready, tmp_path, name, content, reason):  # noqa: PLR0917  a table's columns
        (tmp_path / "faces/Ana" / name).write_bytes(content)

        with pytest.raises(InputError, match=reason):
            ready(tmp_path / "faces", max_bad_files=0)

    def test_a_truncated_photograph(self, ready, photo, tmp_path, two_people):
        file = photo("faces/Ana/cut.jpg", size=(300, 300))
        file.write_bytes(file.read_bytes()[:5000])

        with pytest.raises(InputError, match="cut.jpg: .*truncated"):
            ready(tmp_path / "faces", max_bad_files=0)


@pytest.mark.parametrize(
    ("paths", "message"),
    [
        (["Ana/1.png", "Ana/2.png"], r"holds 1 identity \(Ana\)"),
        (["Ana/1.png", "Ana/2.png", "Bo/1.png"], r"fewer than 2 usable images \(Bo\)"),
    ],
)
def test_too_few_people_or_images(ready, photo, tmp_path, paths, message):
    for path in paths:
        photo(f"faces/{path}")

    with pytest.raises(InputError, match=message):
        ready(tmp_path / "faces")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"image_size": 4}, "image_size is 4"),
        ({"image_size": 20.5}, "image_size is 20.5"),
        ({"channels": 4}, "channels is 4"),
        ({"max_bad_files": 1.5}, "max_bad_files is 1.5"),
        ({"min_images": 1}, "min_images is 1"),
        ({"min_images": 9}, "holds 0 identities after 2 with too few images were left out"),
    ],
)
def test_options_that_cannot_be_used(ready, tmp_path, two_people, options, message):
    with pytest.raises(InputError, match=message):
        ready(tmp_path / "faces", **options)


class TestCsv:
    def test_paths_and_labels(self, ready, tmp_path, two_people):
        rows = [f"faces/{name}/{k}.png,{name} X." for name in ("Bo", "Ana") for k in range(3)]
        (tmp_path / "list.csv").write_text("\n".join(["path,label", *rows]))

        data = ready(tmp_path / "list.csv")

        assert (data.name, data.names) == ("list", ("Ana X.", "Bo X."))
        assert np.array_equal(data.images, ready(tmp_path / "faces").images)

    def test_a_listed_file_that_is_missing_is_a_bad_file(self, ready, tmp_path, two_people):
        rows = [f"faces/{name}/{k}.png,{name}" for name in ("Bo", "Ana") for k in range(4)]
        (tmp_path / "list.csv").write_text("\n".join(["path,label", *rows]))

        with pytest.raises(InputError, match="2 of 8 .*faces/Ana/3.png: no such file"):
            ready(tmp_path / "list.csv")

    def test_two_lists_of_the_same_files_are_called_as_they_are(self, ready, tmp_path, two_people):
        list_files(tmp_path)
        shutil.copy(tmp_path / "list.csv", tmp_path / "saved again.csv")

        assert [ready(tmp_path / name).name for name in ("list.csv", "saved again.csv")] == ["list", "saved again"]

    def test_images_are_told_apart_by_their_folders_also_from_beside_the_list(
        self, ready, tmp_path, two_people, monkeypatch
    ):
        list_files(tmp_path)
        monkeypatch.chdir(tmp_path)

        assert ready("list.csv").origins[::3] == ["faces/Ana/0.png", "faces/Bo/0.png"]


class TestCache:
    def test_the_second_time_nothing_is_done(self, ready, tmp_path, two_people):
        first = ready(tmp_path / "faces")
        written = (first.directory / "images.u8").stat().st_mtime_ns

        again = ready(tmp_path / "faces", progress=lambda *event: pytest.fail(f"did {event}"))

        assert again.directory == first.directory
        assert (again.directory / "images.u8").stat().st_mtime_ns == written

    def test_a_changed_file_makes_a_new_one(self, ready, photo, tmp_path, two_people):
        first = ready(tmp_path / "faces")
        shutil.copyfile(photo("other.png"), tmp_path / "faces/Ana/0.png")

        second = ready(tmp_path / "faces")

        assert second.directory != first.directory and second.sha256 != first.sha256

    @pytest.mark.parametrize("options", [{"image_size": 20}, {"channels": 1}, {"min_images": 3}])
    def test_other_options_make_a_new_one(self, ready, tmp_path, two_people, options):
        assert ready(tmp_path / "faces", **options).directory != ready(tmp_path / "faces").directory

    def test_other_rendered_faces_make_a_new_one(self, ready):
        assert ready("rendered", render=SPEC).sha256 != ready("rendered", render=replace(SPEC, seed=1)).sha256

    @pytest.mark.parametrize("lost", ["dataset.json", "images.u8", "labels.npy"])
    def test_a_half_written_folder_is_made_again(self, ready, tmp_path, two_people, lost):
        first = ready(tmp_path / "faces")
        (first.directory / lost).unlink()

        again = ready(tmp_path / "faces")

        assert again.directory == first.directory and again.sha256 == first.sha256
        again.verify()
        assert [path.name for path in (tmp_path / "cache").iterdir() if path.name != "folders"] == [
            first.directory.name
        ]

    def test_a_killed_preparation_leaves_no_folder_by_that_name(self, tmp_path):
        script = (
            "import os\n"
            "from pathlib import Path\n"
            "from facesim.data import prepare\n"
            "prepare('rendered', image_size=32, cache_dir=Path(os.environ['CACHE']), progress=lambda *_: os._exit(9))\n"
        )
        environment = {**os.environ, "CACHE": str(tmp_path / "cache"), "PYTHONPATH": str(REPOSITORY)}

        killed = subprocess.run([sys.executable, "-c", script], env=environment, timeout=60, check=False)

        assert killed.returncode == 9
        assert [path.name[0] for path in (tmp_path / "cache").iterdir()] == ["."]

    def test_what_was_left_is_removed_when_it_is_old(self, ready, tmp_path):
        old, young = (tmp_path / f"cache/.{24 * number}.{32 * number}" for number in "12")
        for path in (old, young):
            path.mkdir(parents=True)
        os.utime(old, (time.time() - 2 * 24 * 3600,) * 2)

        ready("rendered", render=SPEC)

        assert young.exists() and not old.exists()

    def test_many_at_once_agree(self, ready, tmp_path, two_people):
        with ThreadPoolExecutor(4) as pool:
            results = list(pool.map(lambda _: ready(tmp_path / "faces"), range(8)))

        assert len({(data.directory, data.sha256) for data in results}) == 1
        assert {path.name for path in (tmp_path / "cache").iterdir()} == {results[0].directory.name, "folders"}


class TestLoad:
    @pytest.fixture
    def data(self, ready) -> PreparedData:
        return ready("rendered", render=SPEC)

    def test_gives_what_prepare_gave(self, data):
        loaded = PreparedData.load(data.directory)

        assert np.array_equal(loaded.images, data.images) and np.array_equal(loaded.labels, data.labels)
        assert (loaded.names, loaded.image_shape, loaded.sha256) == (data.names, data.image_shape, data.sha256)

    def test_missing(self, tmp_path):
        with pytest.raises(InputError, match="no usable prepared data set"):
            PreparedData.load(tmp_path / "nowhere")

    def test_cut_short(self, data):
        os.truncate(data.directory / "images.u8", 100)

        with pytest.raises(InputError, match="images.u8 has 100 bytes instead of 9216"):
            PreparedData.load(data.directory)

    @pytest.mark.parametrize("text", ["", "[]", "{}", '{"format_version": 99}', '{"format_version": 1}'])
    def test_another_dataset_json(self, data, text):
        (data.directory / "dataset.json").write_text(text)

        with pytest.raises(InputError, match="no usable prepared data set"):
            PreparedData.load(data.directory)

    @pytest.mark.parametrize("labels", [np.zeros(12, np.int64), np.zeros(12, np.int32), np.zeros(5, np.int32)])
    def test_other_labels(self, data, labels):
        np.save(data.directory / "labels.npy", labels)

        with pytest.raises(InputError, match="no usable prepared data set"):
            PreparedData.load(data.directory)

    def test_verify_finds_a_changed_pixel(self, data):
        data.verify()
        with (data.directory / "images.u8").open("r+b") as file:
            file.write(bytes([255 - data.images[0, 0, 0, 0]]))

        with pytest.raises(InputError, match="checksum"):
            PreparedData.load(data.directory).verify()


class TestDescribe:
    def test_counts(self, ready, photo, tmp_path):
        for path in ("11_sets_H/1_name_Ana/1.png", "11_sets_H/1_name_Ana/2.png", "11_sets_H/2_name_Bo/1.png"):
            photo(f"tree/{path}")
        for k in range(3):
            shutil.copy(photo("tree/18_sets_C/3_name_Cy/0.png"), tmp_path / f"tree/18_sets_C/3_name_Cy/copy{k}.png")
        photo("tree/11_sets_H/2_name_Bo/2.png")
        (tmp_path / "tree/11_sets_H/2_name_Bo/3.png").write_bytes(b"")

        seen = describe(ready(tmp_path / "tree", max_bad_files=0.2))

        assert (seen.identities, seen.images, seen.image_shape) == (3, 8, (16, 16, 3))
        assert (seen.images_per_identity_min, seen.images_per_identity_max) == (2, 4)
        assert seen.images_per_identity_median == 2
        assert seen.identities_of_group == {"H": 2, "C": 1}
        assert seen.duplicate_images == 3
        assert [bad.path for bad in seen.bad_files] == ["11_sets_H/2_name_Bo/3.png"]


def test_importing_the_package_loads_no_heavy_library():
    script = "import sys, facesim.data; print({'tensorflow', 'PIL', 'sklearn', 'scipy'} & sys.modules.keys())"

    seen = subprocess.check_output([sys.executable, "-c", script], cwd=REPOSITORY, text=True, timeout=60)

    assert seen.strip() == "set()"


def test_images_that_show_nothing_are_told(ready, tmp_path, two_people):
    """Of 16 bits a pixel of which the lowest are used, and of one colour: they look black, and are still counted."""
    for name, pixels in (("deep", np.arange(144, dtype=np.uint16)), ("grey", np.full(144, 90, np.uint8))):
        Image.fromarray(pixels.reshape(12, 12)).save(tmp_path / f"faces/Ana/{name}.png")

    data = ready(tmp_path / "faces")

    assert len(data.labels) == 8
    assert data.notes[0].startswith(
        "2 images are of one colour, or nearly, and show nobody (Ana/deep.png, Ana/grey.png)"
    )
