"""An AWS endpoint that answers word for word what a test says: the services that speak JSON, each by its operation."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from typing import Any

from tests.support.serving import serving

#: By operation: from the request to the answer; an error is a tuple of its HTTP status and body.
Answers = dict[str, Callable[[dict[str, Any]], Any]]


@contextmanager
def answering(answers: Answers) -> Iterator[str]:
    """The endpoint's URL."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            operation = self.headers["X-Amz-Target"].rpartition(".")[2]
            request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            answer = answers[operation](request)
            status, body = answer if isinstance(answer, tuple) else (200, answer)
            content = (body if isinstance(body, str) else json.dumps(body)).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: Any) -> None:
            pass

    with serving(Handler) as address:
        yield address
