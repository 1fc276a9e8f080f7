"""Faces cut out alike: the geometry, by a detector of coloured dots, and a real face, by the real detector."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw

from facesim.data.alignment import TEMPLATE, align_folder, count_faces, cut, find_faces, in_lines, similarity
from facesim.data.detectors import Face, detector_called
from facesim.util.errors import InputError
from tests.conftest import facesim, facesim_here

COLOURS = [(255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 0), (255, 0, 255)]


def dots(picture: np.ndarray) -> list[Face]:
    """A detector of one face, made of a dot of each of `COLOURS` on grey; any cyan is a second, smaller one."""

    def centre(colour: tuple[int, ...]) -> np.ndarray | None:
        places = np.argwhere(np.abs(picture.astype(int) - colour).sum(axis=2) < 150)
        return places[:, ::-1].mean(axis=0) if len(places) else None

    landmarks = [centre(colour) for colour in COLOURS]
    if any(one is None for one in landmarks):
        return []
    first = Face(np.array(landmarks), 100.0)
    return [first] if centre((0, 255, 255)) is None else [Face(first.landmarks + 5, 50.0), first]


def face(size: tuple[int, int], turn: complex, shift: complex) -> Image.Image:
    """A picture with the template's points, turned, scaled and shifted."""
    picture = Image.new("RGB", size, (128, 128, 128))
    pencil, radius = ImageDraw.Draw(picture), 3 * abs(turn)
    for (x, y), colour in zip(TEMPLATE, COLOURS):
        at = turn * complex(x, y) + shift
        pencil.ellipse((at.real - radius, at.imag - radius, at.real + radius, at.imag + radius), colour)
    return picture


@pytest.mark.parametrize(("turn", "shift"), [(1, 0), (2.5 + 1j, 90 - 30j), (0.4 - 0.1j, 30 + 40j), (9j, 1100 + 10j)])
def test_the_similarity_is_the_one_that_was_undone(turn, shift):
    there = turn * (TEMPLATE @ (1, 1j)) + shift

    scale, moved = similarity(np.stack([there.real, there.imag], axis=1), TEMPLATE)

    assert scale == pytest.approx(1 / turn) and moved == pytest.approx(-shift / turn)


@pytest.mark.parametrize(
    ("size", "turn", "shift"),
    [((120, 120), 1, 4 + 4j), ((900, 700), 4 + 1.5j, 250 + 20j), ((1800, 1700), 9j, 1300 + 200j), ((90, 90), 0.6, 10)],
)
@pytest.mark.parametrize("out", [112, 224])
def test_landmarks_come_to_lie_on_the_template(size, turn, shift, out):
    picture = face(size, turn, shift)
    (detection,) = find_faces(picture, dots)

    (again,) = dots(np.asarray(cut(picture, detection.landmarks, out)))

    assert np.abs(again.landmarks - TEMPLATE * out / 112).max() < 1.5 * out / 112


@pytest.fixture
def people(tmp_path) -> Path:
    for name in ("Ana/1.png", "Ana/2.png", "Bo/1.png"):
        (tmp_path / "people" / name).parent.mkdir(parents=True, exist_ok=True)
        face((200, 200), 1.2 + 0.3j, 30 + 10j).save(tmp_path / "people" / name)
    two = face((200, 200), 1.2, 30)
    two.putpixel((199, 199), (0, 255, 255))
    two.save(tmp_path / "people/Ana/two.png")
    Image.new("RGB", (90, 90)).save(tmp_path / "people/Bo/none.jpg")
    (tmp_path / "people/Bo/damaged.png").write_bytes(b"\x89PNG\r\n")
    return tmp_path / "people"


def test_a_folder_is_aligned_and_nothing_is_left_out_without_a_word(people, tmp_path):
    aligned = align_folder(people, tmp_path / "out", dots, 64)

    written = sorted(file.relative_to(tmp_path / "out").as_posix() for file in (tmp_path / "out").rglob("*.png"))
    assert written == ["Ana/1.png.png", "Ana/2.png.png", "Ana/two.png.png", "Bo/1.png.png"]
    assert Image.open(tmp_path / "out/Bo/1.png.png").size == (64, 64)
    assert (aligned.written, aligned.several, aligned.without) == (4, ("Ana/two.png",), ("Bo/none.jpg",))
    assert [bad.path for bad in aligned.unreadable] == ["Bo/damaged.png"]
    assert in_lines(aligned)[1:3] == ["several faces, of which the largest is taken: 1", "  Ana/two.png"]


def test_faces_are_counted_without_writing_anything(people):
    faces = count_faces(people, dots)

    assert (faces.one, faces.several, faces.without) == (3, ("Ana/two.png",), ("Bo/none.jpg",))
    assert [bad.path for bad in faces.unreadable] == ["Bo/damaged.png"]


def test_faces_of_the_images_that_a_list_names_are_counted(people, tmp_path):
    other = (people / "Ana/two.png").rename(tmp_path / "other.png")
    (people / "metadata.csv").write_text(f"file_name,label\nAna/1.png,Bo\n{other},Ana\n")

    faces = count_faces(people, dots)

    assert (faces.one, faces.several, faces.without) == (1, (str(other),), ())


@pytest.mark.parametrize(("out", "message"), [("people/out", "lies in"), ("people", "already exists")])
def test_a_folder_that_cannot_be_written_to(people, tmp_path, out, message):
    with pytest.raises(InputError, match=message):
        align_folder(people, tmp_path / out, dots)


def test_a_folder_whose_list_says_whom_its_images_show_is_refused(people, tmp_path):
    (people / "metadata.csv").write_text("file_name,label\nAna/0.png,Bo\n")

    with pytest.raises(InputError, match="has a metadata.csv that says whom its images show"):
        align_folder(people, tmp_path / "out", dots)


def test_a_detector_that_there_is_not():
    with pytest.raises(InputError, match="--detector mtcn is not allowed.*mtcnn"):
        detector_called("mtcn")


#: Where `onnx_file`'s detector finds a face in every picture, and the box about it.
FOUND, BOX = np.float32(TEMPLATE + 60), np.float32((70, 80, 170, 180))


@pytest.mark.parametrize("place", [(60.0, 60.0), (60.0, 170.0)])
def test_landmarks_in_one_place_are_no_face(people, tmp_path, place):
    """They could not be turned and scaled."""
    faces = [Face(FOUND, 100.0), Face(np.tile(place, (5, 1)), 900.0)]

    assert align_folder(people, tmp_path / "out", lambda _: faces).several == ()
    aligned = align_folder(people, tmp_path / "none", lambda _: faces[1:])

    assert aligned.written == 0 and len(aligned.without) > 0


@pytest.fixture
def onnx_file(tmp_path):
    """A detector in a file, which gives what it is told to whatever the picture."""
    onnx = pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")

    def write(pixels="UINT8", **outputs: np.ndarray) -> Path:
        picture = onnx.helper.make_tensor_value_info(
            "picture", getattr(onnx.TensorProto, pixels), [1, "height", "width", 3]
        )
        nodes, values = [], []
        for name, value in outputs.items():
            tensor = onnx.numpy_helper.from_array(value)
            nodes.append(onnx.helper.make_node("Constant", [], [name], value=tensor))
            values.append(onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, value.shape))
        model = onnx.helper.make_model(
            onnx.helper.make_graph(nodes, "detector", [picture], values),
            opset_imports=[onnx.helper.make_opsetid("", 17)],
            ir_version=8,
        )
        onnx.save(model, tmp_path / "found.onnx")
        return tmp_path / "found.onnx"

    return write


@pytest.mark.parametrize("pixels", ["UINT8", "FLOAT"])
def test_a_detector_in_an_onnx_file(onnx_file, people, tmp_path, pixels):
    file = onnx_file(pixels, landmarks=FOUND[None], boxes=BOX[None])

    command = facesim_here("data", "align", people, tmp_path / "out", "--detector", file)
    shown = facesim_here("data", "describe", people, "--image-size", 32, "--detector", file)

    assert command.code == 0 and "faces written: 5" in command.output, command.errors
    margin = 50  # of a picture of 200 pixels, around which the detector is given a margin
    expected = cut(Image.open(people / "Ana/1.png"), FOUND - margin)
    made = np.asarray(Image.open(tmp_path / "out/Ana/1.png.png"), int)
    assert np.abs(made - np.asarray(expected)).max() <= 1
    assert "one in 5 images, several in 0, none in 0" in shown.output, shown.errors


@pytest.mark.parametrize(
    ("pixels", "outputs", "message"),
    [
        ("UINT8", {"boxes": BOX[None]}, r"takes picture tensor\(uint8\) .* and gives boxes. A detector takes"),
        ("INT64", {"landmarks": FOUND[None], "boxes": BOX[None]}, r"takes picture tensor\(int64\)"),
        (
            "UINT8",
            {"landmarks": FOUND[None], "boxes": BOX[None, :3]},
            r"gives landmarks \(1, 5, 2\) and boxes \(1, 3\)",
        ),
        (
            "UINT8",
            {"landmarks": FOUND[None] / 200, "boxes": BOX[None]},
            "gives landmarks from 0 to 1, as shares of the",
        ),
        ("UINT8", {"landmarks": FOUND[None] * np.nan, "boxes": BOX[None]}, "gives numbers that are not finite"),
    ],
)
def test_a_network_that_is_no_detector(onnx_file, pixels, outputs, message):
    with pytest.raises(InputError, match=message):
        detector_called(str(onnx_file(pixels, **outputs)))


def test_files_that_are_no_network(onnx_file, tmp_path):
    (tmp_path / "text.onnx").write_text("no network")

    with pytest.raises(InputError, match="is no ONNX file that can be run"):
        detector_called(str(tmp_path / "text.onnx"))
    with pytest.raises(InputError, match="Name a file that you may read"):
        detector_called(str(tmp_path / "none.onnx"))


@pytest.mark.slow
def test_a_real_face(tmp_path):
    """Of scikit-image's photograph of Eileen Collins, also turned: its landmarks lie on the template afterwards."""
    pytest.importorskip("mtcnn")
    from skimage.data import astronaut

    photograph = Image.fromarray(astronaut())
    for name, picture in {
        "1.png": photograph,
        "2.png": photograph.rotate(20),
        "3.jpg": photograph.crop((150, 0, 300, 220)),
    }.items():
        (tmp_path / "in/Eileen").mkdir(parents=True, exist_ok=True)
        picture.save(tmp_path / "in/Eileen" / name)

    command = facesim("data", "align", tmp_path / "in", tmp_path / "out", "--json")

    assert command.code == 0, command.errors
    facts = json.loads(command.output)
    assert (facts["written"], facts["without"]) == (3, [])
    detector = detector_called("mtcnn")
    for file in (tmp_path / "out").rglob("*.png"):
        assert np.abs(find_faces(Image.open(file), detector)[0].landmarks - TEMPLATE).max() < 6
