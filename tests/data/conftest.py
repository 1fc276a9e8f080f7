"""Small real image files to build folders from."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image


@pytest.fixture
def photo(tmp_path: Path) -> Callable[..., Path]:
    """Write an image below tmp_path; every path has pixels of its own, the same in every run."""

    def write(path: str, size: tuple[int, int] = (12, 12), file_format: str | None = None) -> Path:
        pixels = np.random.default_rng(list(path.encode())).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
        file = tmp_path / path
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(file, file_format)
        return file

    return write


@pytest.fixture
def two_people(photo) -> None:
    """Ana and Bo below tmp_path/faces, three images each."""
    for name in ("Ana", "Bo"):
        for k in range(3):
            photo(f"faces/{name}/{k}.png")
