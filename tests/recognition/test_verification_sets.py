"""InsightFace's verification sets: read as what they hold, whatever wrote the pickle, and never as code."""

from __future__ import annotations

import pickle

import numpy as np
import pytest

from facesim.recognition.verification_set import read_verification_set
from facesim.util.errors import InputError

IMAGES = [bytes([number, 200, 0]) for number in range(80)]
SAME = [number // 2 % 2 == 0 for number in range(40)]


@pytest.fixture
def written(tmp_path):
    def write(content, protocol: int = 2):
        (tmp_path / "lfw.bin").write_bytes(content if isinstance(content, bytes) else pickle.dumps(content, protocol))
        return tmp_path / "lfw.bin"

    return write


#: The same lists as Python 2 wrote them, whose texts are bytes.
OF_PYTHON_2 = (
    b"\x80\x02](" + b"".join(b"U\x03" + image for image in IMAGES) + b"e]("
    + b"".join(b"\x88" if same else b"\x89" for same in SAME) + b"e\x86."
)  # fmt: skip


@pytest.mark.parametrize("content", [OF_PYTHON_2, *(pickle.dumps((IMAGES, SAME), protocol) for protocol in range(6))])
def test_images_and_pairs_are_read_in_ten_folds(written, content):
    images, pairs = read_verification_set(written(content))

    assert images == IMAGES
    assert (pairs.first[3], pairs.second[3]) == (6, 7)
    assert pairs.same.tolist() == SAME
    assert np.bincount(pairs.fold).tolist() == [4] * 10 and np.all(np.diff(pairs.fold) >= 0)


class Harmful:
    def __init__(self, function, *arguments):
        self.does = function, arguments

    def __reduce__(self):
        return self.does


def test_code_in_it_is_never_run(written, tmp_path):
    import os

    for function, arguments in ((os.mkdir, (str(tmp_path / "was-here"),)), (eval, ("1/0",)), (np.array, ([1],))):
        with pytest.raises(InputError, match="holds a Python object, .* which is never loaded"):
            read_verification_set(written(([Harmful(function, *arguments)], [True])))
    assert not (tmp_path / "was-here").exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "cannot be read: Ran out of input"),
        (b"no pickle", "cannot be read"),
        (pickle.dumps((IMAGES, SAME))[:-20], "cannot be read"),
        ([IMAGES], "does not hold two lists"),
        ((IMAGES, [3] * 40), "does not hold images as bytes and truth values"),
        ((["text"] * 80, SAME), "does not hold images as bytes"),
        ((IMAGES[1:], SAME), "79 images and 40 pairs"),
        ((IMAGES, [True] * 40), "40 pairs, 40 of them of the same person"),
        ((IMAGES[:8], SAME[:4]), "4 pairs"),
    ],
)
def test_what_is_none_is_refused(written, content, message):
    with pytest.raises(InputError, match=message):
        read_verification_set(written(content))
