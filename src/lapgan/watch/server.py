"""The server of the page: read-only, and reachable from this machine alone by default."""

import ipaddress
import os
import socket
from collections.abc import Callable
from functools import partial
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib import resources
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from lapgan.errors import LapganError
from lapgan.files import encode_json
from lapgan.run_folder import RunFolder
from lapgan.runs import summarize_run
from lapgan.watch.history import describe_run

__all__ = ["make_server", "serve"]

_PAGE = {
    "/": ("index.html", "text/html; charset=utf-8"),
    "/watch.js": ("watch.js", "text/javascript; charset=utf-8"),
    "/watch.css": ("watch.css", "text/css; charset=utf-8"),
}
_HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
        "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    # On Windows this would let another program take the port.
    allow_reuse_address = os.name == "posix"


class _Server6(_Server):
    address_family = socket.AF_INET6


class _Handler(BaseHTTPRequestHandler):
    """Answers requests about one run.

    Args:
        run: the run folder.
        names: the names under which the server may be called; None for any.
    """

    timeout = 30

    def __init__(self, *arguments: Any, run: Path, names: frozenset[str] | None) -> None:
        self.run, self.names = run, names
        super().__init__(*arguments)

    def do_GET(self) -> None:
        """Answers with a page, the run's figures, or a sheet."""
        # A page of another site whose name leads here could read the run otherwise.
        if self.names is not None and self._called_name() not in self.names:
            self._send(HTTPStatus.FORBIDDEN, "text/plain", b"This page is served by another name.")
            return
        path = unquote(urlsplit(self.path).path)
        try:
            content = self._find(path)
        except LapganError as error:
            self._send(HTTPStatus.SERVICE_UNAVAILABLE, "text/plain; charset=utf-8",
                       str(error).encode())  # fmt: skip
            return
        if content is None:
            self._send(HTTPStatus.NOT_FOUND, "text/plain", b"There is no such page.")
        else:
            self._send(HTTPStatus.OK, *content)

    do_HEAD = do_GET  # noqa: N815 (the name that http.server calls)

    def log_message(self, format: str, *arguments: Any) -> None:
        """Keeps requests out of the terminal."""

    def _find(self, path: str) -> tuple[str, bytes] | None:
        """Returns the type and the bytes of what a path names; None for nothing."""
        if path in _PAGE:
            name, kind = _PAGE[path]
            return kind, (resources.files("lapgan.watch") / "static" / name).read_bytes()
        if path == "/run.json":
            return "application/json", encode_json(describe_run(self.run)).encode()
        match path.split("/"):
            case ["", "sheets", part, name]:
                return self._find_sheet(part, name)
        return None

    def _find_sheet(self, part: str, name: str) -> tuple[str, bytes] | None:
        """Looks a sheet up among those of the run, so that no other file can be named."""
        if part not in [own.name for own in summarize_run(self.run).parts]:
            return None
        for sheet in RunFolder(self.run).part(part).sheets:
            if sheet.name == name:
                return "image/png", sheet.read_bytes()
        return None

    def _called_name(self) -> str:
        return urlsplit(f"//{self.headers.get('Host', '')}").hostname or ""

    def _send(self, status: HTTPStatus, kind: str, content: bytes) -> None:
        self.send_response(status)
        for name, value in _HEADERS.items():
            self.send_header(name, value)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)


def make_server(run: Path, host: str = "127.0.0.1", port: int = 0) -> ThreadingHTTPServer:
    """Makes the server of a run's page; it listens, and answers once `serve_forever` is called.

    Args:
        run: the run folder.
        host: the address to listen on.
        port: 0 lets the system choose.

    Raises:
        LapganError: the folder is not a run's, or the address cannot be listened on.
    """
    summarize_run(run)
    names = frozenset({"127.0.0.1", "::1", "localhost", host}) if _is_loopback(host) else None
    handler = partial(_Handler, run=run, names=names)
    try:
        return (_Server6 if ":" in host else _Server)((host, port), handler)
    except OSError as error:
        raise LapganError(
            f"{host}:{port}: cannot listen there ({error.strerror or error}). Choose another "
            "--port, or 0 for any that is free."
        ) from error


def serve(run: Path, host: str, port: int, announce: Callable[[str], None]) -> None:
    """Serves a run's page until the process is interrupted.

    Args:
        run: the run folder.
        host: the address to listen on.
        port: 0 lets the system choose.
        announce: called with the page's address when it can be opened.

    Raises:
        LapganError: see `make_server`.
    """
    with make_server(run, host, port) as server:
        shown = f"[{host}]" if ":" in host else host
        announce(f"http://{shown}:{server.server_address[1]}/")
        server.serve_forever()


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
