"""Files that are none to read, and links, in a folder of images: told, and never waited for."""

from __future__ import annotations

import os
import socket
from collections import Counter
from pathlib import Path

import pytest

from facesim.data import prepare
from facesim.data.decode import read_image
from facesim.data.walk import list_images
from facesim.util.errors import InputError
from facesim.util.files import NotAFile, open_regular
from tests.data.test_walk import TWO_PEOPLE, names, reasons


@pytest.fixture
def faces(tmp_path, two_people) -> Path:
    return tmp_path / "faces"


class TestWhatIsNoRegularFile:
    """A pipe named like an image would make whatever opens it wait for ever; the tests' own time limit would tell."""

    pytestmark = pytest.mark.timeout(20)

    @pytest.fixture
    def special(self, faces, tmp_path):
        os.mkfifo(faces / "Ana/fifo.png")
        os.mkfifo(faces / "Ana/fifo")
        with socket.socket(socket.AF_UNIX) as listening:
            # The path of a socket is short: it is bound beside and moved.
            here = os.getcwd()
            os.chdir(faces / "Bo")
            try:
                listening.bind("socket.png")
            finally:
                os.chdir(here)
            (faces / "Bo/device.png").symlink_to("/dev/zero")
            (faces / "Bo/linked.png").symlink_to("../Ana/fifo.png")
            yield faces

    def test_it_is_told_and_not_opened(self, special):
        assert names(special) == TWO_PEOPLE
        assert reasons(special) == {
            "a named pipe (FIFO), not a file": (2, ("Ana/fifo", "Ana/fifo.png")),
            "a socket, not a file": (1, ("Bo/socket.png",)),
            "a link out of the folder, which is not followed": (1, ("Bo/device.png",)),
            "a link to a named pipe (FIFO), not a file": (1, ("Bo/linked.png",)),
        }

    @pytest.mark.parametrize(
        ("name", "kind"),
        [("Ana/fifo.png", "named pipe"), ("Bo/socket.png", "socket"), ("Bo/device.png", "device"), ("Ana", "folder")],
    )
    def test_nothing_opens_it(self, special, name, kind):
        with pytest.raises(NotAFile, match=kind):
            open_regular(special / name)
        with pytest.raises(InputError, match=kind):
            read_image(special / name, 16, 3)

    def test_not_even_as_a_source(self, special, tmp_path):
        with pytest.raises(InputError, match="named pipe"):
            prepare(str(special / "Ana/fifo.png"), cache_dir=tmp_path / "cache")

    def test_nor_where_a_table_lists_it(self, special, tmp_path):
        listed = [
            f"faces/{name},{name[:2]}" for name in (*TWO_PEOPLE, "Ana/fifo.png", "Bo/device.png", "Bo/socket.png")
        ]
        (tmp_path / "faces.csv").write_text("\n".join(["path,label", *listed]))

        data = prepare(str(tmp_path / "faces.csv"), image_size=8, max_bad_files=0.5, cache_dir=tmp_path / "cache")

        assert Counter(bad.reason for bad in data.bad_files) == {
            "a named pipe (FIFO), not a file": 1,
            "a device, not a file": 1,
            "a socket, not a file": 1,
        }

    def test_nor_do_the_commands_that_use_a_model(self, special, tmp_path):
        from facesim.recognition.groups import with_groups
        from facesim.recognition.pairs import find_lfw_images, read_lfw_pairs
        from facesim.recognition.photographs import image_files

        assert image_files((special, special / "Ana/0.png")) == [*list_images(special), special / "Ana/0.png"]
        with pytest.raises(InputError, match="named pipe"):
            read_lfw_pairs(special / "Ana/fifo")
        with pytest.raises(InputError, match="named pipe"):
            with_groups(prepare(str(special), image_size=8, cache_dir=tmp_path / "cache"), special / "Ana/fifo")
        (special / "Ana/Ana_0001.jpg").symlink_to("Ana_0001.jpg")
        os.mkfifo(special / "Ana/Ana_0002.jpg")
        (tmp_path / "pairs.txt").write_text("1\nAna\t1\t2\nAna\t1\tBo\t1\n")
        with pytest.raises(InputError, match="lacks 3 of the 3 images"):
            find_lfw_images(read_lfw_pairs(tmp_path / "pairs.txt"), special)


class TestLinks:
    def test_a_file_with_several_names_is_one_image(self, faces):
        (faces / "Ana/again.png").symlink_to("0.png")
        (faces / "Bo/a-link.png").symlink_to("../Ana/1.png")
        os.link(faces / "Ana/2.png", faces / "Bo/hard.png")

        assert names(faces) == TWO_PEOPLE
        assert reasons(faces)["another name (a link) of a file that is there already"] == (
            3,
            ("Bo/hard.png", "Ana/again.png", "Bo/a-link.png"),
        )

    def test_a_file_that_has_only_links_is_found_by_the_first(self, faces, photo):
        photo("faces/.annex/abc", file_format="PNG")
        (faces / "Ana/3.png").symlink_to("../.annex/abc")
        (faces / "Bo/3.png").symlink_to("../.annex/abc")

        assert names(faces) == sorted([*TWO_PEOPLE, "Ana/3.png"])

    def test_loops_are_told(self, faces):
        (faces / "Ana/a.png").symlink_to("b.png")
        (faces / "Ana/b.png").symlink_to("a.png")
        (faces / "Ana/self.png").symlink_to("self.png")
        (faces / "Ana/all").symlink_to("..")
        (faces / "Cy").symlink_to("Cy")

        assert names(faces) == TWO_PEOPLE
        assert reasons(faces) == {"a loop of links": (5, ("Cy", "Ana/a.png", "Ana/all", "Ana/b.png", "Ana/self.png"))}

    def test_a_link_to_a_folder_is_told(self, faces):
        (faces / "Cy").symlink_to("Ana")

        assert names(faces) == TWO_PEOPLE
        assert reasons(faces) == {"a link to a folder, which is not followed": (1, ("Cy",))}

    def test_a_link_to_nothing_is_an_image_that_cannot_be_read(self, faces, tmp_path):
        (faces / "Ana/gone.png").symlink_to("nothing.png")

        data = prepare(str(faces), image_size=8, max_bad_files=0.5, cache_dir=tmp_path / "cache")

        assert [(bad.path, bad.reason) for bad in data.bad_files] == [("Ana/gone.png", "a link to no file")]

    def test_the_folder_itself_may_be_a_link_but_no_loop(self, faces, tmp_path):
        (tmp_path / "linked").symlink_to("faces")
        (tmp_path / "loop").symlink_to("loop")

        assert names(tmp_path / "linked") == TWO_PEOPLE
        with pytest.raises(InputError, match="a loop of links"):
            prepare(str(tmp_path / "loop"), cache_dir=tmp_path / "cache")
