"""A container engine that says what it has, and does nothing."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from http.server import BaseHTTPRequestHandler
from typing import Any

import pytest

from tests.support.serving import serving


class _Engine(BaseHTTPRequestHandler):
    """Answers as Docker's API does; what it has is `about`, and without that it fails."""

    def __init__(self, about: Mapping[str, Any], *arguments: Any):
        self._about = about
        super().__init__(*arguments)

    def do_GET(self) -> None:
        asked = self.path.rpartition("/")[2]
        answers = {"version": {"ApiVersion": "1.43"}, "info": self._about or {"message": "it fails"}}
        content = b"OK" if asked == "_ping" else json.dumps(answers[asked]).encode()
        self.send_response(200 if asked != "info" or self._about else 500)
        self.send_header("Content-Type", "text/plain" if asked == "_ping" else "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: Any) -> None:
        pass


@contextmanager
def engine(about: Mapping[str, Any]) -> Iterator[None]:
    """Within it, a container engine that has `about`, NCPU and MemTotal, is the one that this process uses."""
    with serving(partial(_Engine, about)) as address, pytest.MonkeyPatch.context() as patch:
        patch.setenv("DOCKER_HOST", address.replace("http:", "tcp:"))
        yield
