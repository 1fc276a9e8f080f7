"""Formats in which a trained network leaves facesim. `EXPORTERS` names them without importing Keras.

Another package adds one by an entry point of `facesim.exporters`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from facesim.util.errors import InputError
from facesim.util.files import check_new
from facesim.util.registry import Registry

#: Writes a model, of `facesim.models.export.portable`, and the identities' names, in the order of its logits, to a path
#: where there is nothing yet.
Write = Callable[[Any, Sequence[str], Path], None]


@dataclass(frozen=True)
class Exporter:
    """A format: one line for listings, how a file's name ends (empty where a folder is written), and what writes it,
    given itself or by where it is (`module:function`). It needs `packages`, which `extra` of facesim's brings. `beside`
    is how another file ends that is written with it.
    """

    summary: str
    suffix: str
    write: str | Write
    packages: tuple[str, ...] = ()
    extra: str | None = None
    beside: str | None = None

    def check_installed(self) -> None:
        """Look whether what it needs is installed; imports nothing.

        Raises:
            InputError: it is not.
        """
        if missing := [package for package in self.packages if find_spec(package) is None]:
            raise InputError(
                f"{', '.join(missing)} is not installed, which this format needs: python3 -m pip install "
                f"'facesim-cluster[{self.extra}]'"
            )

    def check(self, output: Path) -> None:
        """Look whether it can write to `output`.

        Raises:
            InputError: the name ends otherwise, there is something already, or its folder is missing.
        """
        if self.suffix and output.suffix != self.suffix:
            raise InputError(
                f"{output} must end in {self.suffix} in this format; formats are {', '.join(EXPORTERS)}",
                field="output",
                value=str(output),
                allowed=f"a name that ends in {self.suffix}",
            )
        check_new(output)
        if self.beside:
            check_new(output.with_suffix(self.beside))


EXPORTERS: Registry[Exporter] = Registry(
    "export format",
    "facesim.exporters",
    {
        "keras": Exporter(
            "one file for Keras", ".keras", "facesim.models.export:write_keras", beside=".identities.json"
        ),
        "savedmodel": Exporter("a folder for TensorFlow and its servers", "", "facesim.models.export:write_savedmodel"),
        "onnx": Exporter(
            "one file for ONNX Runtime and others",
            ".onnx",
            "facesim.models.runtimes:write_onnx",
            ("onnx", "tf2onnx"),
            "onnx",
        ),
        "litert": Exporter(
            "one file for LiteRT, on phones and small devices", ".tflite", "facesim.models.runtimes:write_litert"
        ),
        "litert-int8": Exporter(
            "the same with kernels in int8: a quarter of the size",
            ".tflite",
            "facesim.models.runtimes:write_litert_int8",
        ),
    },
)
