"""A server that answers as Hugging Face's hub does for one data set, as far as `datasets` asks."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from tests.support.serving import serving

COMMIT = "c0ffee" * 6 + "beef"


@contextmanager
def hub(name: str, folder: Path) -> Iterator[str]:
    """The address of a hub with the data set `name`, whose files are those of `folder`."""

    def entry(path: Path) -> dict[str, Any]:
        content = path.read_bytes() if path.is_file() else b""
        kind = "file" if path.is_file() else "directory"
        digest = hashlib.sha1(content).hexdigest()
        return {"type": kind, "oid": digest, "size": len(content), "path": path.relative_to(folder).as_posix()}

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: Any) -> None:
            pass

        def answer(self, content: Any, status: int = 200, **headers: str) -> None:
            body = content if isinstance(content, bytes) else json.dumps(content).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            for key, value in headers.items():
                self.send_header(key.replace("_", "-"), value)
            self.end_headers()
            self.wfile.write(b"" if self.command == "HEAD" else body)

        def do_POST(self) -> None:
            asked = parse_qs(self.rfile.read(int(self.headers["Content-Length"])).decode())
            paths = [folder / path for path in asked["paths"]]
            self.answer([entry(path) for path in paths if path.exists() and path != folder])

        def do_GET(self) -> None:
            path, query = urlsplit(self.path).path, parse_qs(urlsplit(self.path).query)
            if path.startswith(f"/api/datasets/{name}/tree/{COMMIT}"):
                below = folder / path.partition(COMMIT)[2].strip("/")
                entries = below.rglob("*") if query.get("recursive") == ["true"] else below.glob("*")
                self.answer([entry(one) for one in sorted(entries)])
            elif path.startswith(f"/api/datasets/{name}"):
                files = [{"rfilename": entry(one)["path"]} for one in sorted(folder.rglob("*")) if one.is_file()]
                self.answer({"id": name, "sha": COMMIT, "siblings": files, "tags": [], "downloads": 0, "likes": 0})
            elif (file := folder / path.partition("/resolve/")[2].partition("/")[2]).is_file():
                self.answer(file.read_bytes(), ETag=f'"{entry(file)["oid"]}"', X_Repo_Commit=COMMIT)
            else:
                self.answer({"error": "Entry not found"}, 404, X_Error_Code="EntryNotFound")

        do_HEAD = do_GET

    with serving(Handler) as address:
        yield address
