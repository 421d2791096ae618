"""A stand-in for the Hugging Face Hub on loopback: one user's repositories, kept in memory.

It speaks as much of the Hub's HTTP as `huggingface_hub` asks for when a model is made, committed
to and downloaded: https://huggingface.co/docs/hub/api.
"""

import base64
import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any


class HubServer(ThreadingHTTPServer):
    """Repositories by name, each a dictionary of files; and what was asked for."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.repositories: dict[str, dict[str, bytes]] = {}
        self.requests: list[str] = []
        self.tokens: set[str | None] = set()

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: HubServer

    def log_message(self, format: str, *arguments: Any) -> None:
        pass

    def _note(self) -> list[str]:
        self.server.requests.append(f"{self.command} {self.path}")
        self.server.tokens.add(self.headers.get("Authorization"))
        return self.path.split("?")[0].strip("/").split("/")

    def do_GET(self) -> None:
        match self._note():
            case [owner, name, "resolve", revision, file]:
                repository = self.server.repositories.get(f"{owner}/{name}")
                if repository is None:
                    self._answer(404, b"", **{"X-Error-Code": "RepoNotFound"})
                elif file not in repository:
                    self._answer(404, b"", **{"X-Error-Code": "EntryNotFound"})
                else:
                    content = repository[file]
                    etag = hashlib.sha256(content).hexdigest()
                    commit = "c" * 40 if revision == "main" else revision
                    self._answer(200, content, **{"ETag": f'"{etag}"', "X-Repo-Commit": commit})
            case _:
                self._answer(404, b"{}")

    do_HEAD = do_GET  # noqa: N815

    def do_POST(self) -> None:
        path = self._note()
        body = self._read_body()
        match path:
            case ["api", "repos", "create"]:
                name = f"{body[0]['organization']}/{body[0]['name']}"
                self.server.repositories.setdefault(name, {})
                self._answer_json({"url": f"{self.server.address}/{name}", "name": name})
            case ["api", "validate-yaml"]:
                self._answer_json({"errors": [], "warnings": []})
            case ["api", "models", _, _, "preupload", _]:
                files = [
                    {"path": file["path"], "uploadMode": "regular", "shouldIgnore": False}
                    for file in body[0]["files"]
                ]
                self._answer_json({"files": files})
            case ["api", "models", owner, name, "commit", _]:
                for line in body:
                    if line["key"] == "file":
                        content = base64.b64decode(line["value"]["content"])
                        self.server.repositories[f"{owner}/{name}"][line["value"]["path"]] = content
                url = f"{self.server.address}/{owner}/{name}/commit/{'c' * 40}"
                self._answer_json({"success": True, "commitOid": "c" * 40, "commitUrl": url})
            case _:
                self._answer(404, b"{}")

    def _read_body(self) -> list[Any]:
        """Returns the JSON documents of a request, one per line."""
        length = int(self.headers.get("Content-Length") or 0)
        content = self.rfile.read(length) if length else self._read_chunks()
        return [json.loads(line) for line in content.splitlines() if line]

    def _read_chunks(self) -> bytes:
        content = b""
        while size := int(self.rfile.readline(), 16):
            content += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return content

    def _answer_json(self, content: Any) -> None:
        self._answer(200, json.dumps(content).encode(), **{"Content-Type": "application/json"})

    def _answer(self, status: int, content: bytes, **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)


@contextmanager
def serving_hub() -> Iterator[HubServer]:
    """A Hub that answers for as long as the block lasts."""
    with HubServer() as server:
        thread = Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()
