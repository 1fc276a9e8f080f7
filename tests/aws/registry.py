"""A container registry, as far as an engine needs one to push to: the OCI distribution specification's uploads."""

from __future__ import annotations

import base64
import hashlib
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit


class Registry(ThreadingHTTPServer):
    """Takes images of whoever signs in as `user` with `password`; keeps manifests by NAME:TAG, and digests of blobs."""

    daemon_threads = True

    def __init__(self, user: str, password: str):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.wanted = "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()
        self.manifests: dict[str, bytes] = {}
        self.blobs: set[str] = set()

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.server_address[1]}"


class _Handler(BaseHTTPRequestHandler):
    server: Registry
    protocol_version = "HTTP/1.1"

    def _answer(self, code: int, **headers: str) -> None:
        self.send_response(code)
        self.send_header("Docker-Distribution-API-Version", "registry/2.0")
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        if "Content_Length" not in headers:
            self.send_header("Content-Length", "0")
        self.end_headers()

    def _content(self) -> bytes:
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        content = b""
        while size := int(self.rfile.readline(), 16):
            content += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return content

    def _handle(self) -> None:
        content = self._content()
        if self.headers.get("Authorization") != self.server.wanted:
            return self._answer(401, WWW_Authenticate='Basic realm="registry"')
        address = urlsplit(self.path)
        match = re.fullmatch(r"/v2/(?:(.+)/(manifests|blobs)/(.+))?", address.path)
        if not match or not match[1]:
            return self._answer(200)
        name, kind, what = match.groups()
        if kind == "manifests" and self.command == "PUT":
            self.server.manifests[f"{name}:{what}"] = content
            digest = hashlib.sha256(content).hexdigest()
            return self._answer(201, Docker_Content_Digest=f"sha256:{digest}")
        if what.startswith("uploads"):
            known = parse_qs(address.query).get("digest")
            if self.command == "PUT" and known:
                self.server.blobs.add(known[0])
                return self._answer(201, Docker_Content_Digest=known[0])
            return self._answer(
                202,
                Location=f"/v2/{name}/blobs/uploads/1",
                Range=f"0-{max(0, len(content) - 1)}",
                Docker_Upload_UUID="1",
            )
        return self._answer(200 if what in self.server.blobs else 404)

    do_GET = do_HEAD = do_PUT = do_POST = do_PATCH = _handle

    def log_message(self, format: str, *args: object) -> None:
        pass


@contextmanager
def registry(user: str, password: str) -> Iterator[Registry]:
    server = Registry(user, password)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
