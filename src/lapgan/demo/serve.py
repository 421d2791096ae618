"""A small server for the demo, with the headers that let a browser use several threads."""

from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from lapgan.errors import LapganError

__all__ = ["make_server", "serve_site"]


class _Handler(SimpleHTTPRequestHandler):
    # What the system says of these suffixes differs from machine to machine.
    extensions_map = SimpleHTTPRequestHandler.extensions_map | {
        ".css": "text/css",
        ".gz": "application/octet-stream",
        ".js": "text/javascript",
        ".mjs": "text/javascript",
        ".onnx": "application/octet-stream",
    }

    def end_headers(self) -> None:
        """Adds the headers without which WebAssembly has one thread."""
        self.send_header("Cross-Origin-Opener-Policy", "same-origin")
        self.send_header("Cross-Origin-Embedder-Policy", "require-corp")
        self.send_header("Cache-Control", "no-cache")
        super().end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        """Says nothing about requests."""


def make_server(folder: Path, port: int, host: str = "127.0.0.1") -> ThreadingHTTPServer:
    """Makes a server of a folder; `serve_forever` runs it.

    Args:
        folder: what `write_site` wrote.
        port: 0 lets the system choose.
        host: address to listen on.

    Raises:
        LapganError: the port cannot be used.
    """
    try:
        return ThreadingHTTPServer((host, port), partial(_Handler, directory=str(folder)))
    except OSError as error:
        raise LapganError(
            f"--port {port}: cannot be listened on ({error.strerror}). Choose another, or 0."
        ) from error


def serve_site(folder: Path, port: int) -> None:
    """Serves the demo on this machine until it is interrupted."""
    with make_server(folder, port) as server:
        print(f"http://127.0.0.1:{server.server_address[1]}/   (Ctrl-C ends it)", flush=True)
        server.serve_forever()
