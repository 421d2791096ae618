"""Runs the web application under uvicorn and prints its addresses."""

import asyncio
import gc
import signal
import socket
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field

import segno
import uvicorn
from starlette.applications import Starlette
from uvicorn.protocols.http.h11_impl import H11Protocol

from lapgan.errors import LapganError
from lapgan.study.app import build_app
from lapgan.study.guards import RateLimits
from lapgan.study.stimuli import Study
from lapgan.study.store import Store

_SHORTEST_SECRET = 10
_HEADER_SECONDS = 10.0

__all__ = ["ServerConfig", "find_lan_address", "serve"]


@dataclass(frozen=True)
class ServerConfig:
    """How a study is served.

    Args:
        admin_secret: gives access to the admin pages.
        host: address to listen on; `0.0.0.0` for all networks of this machine.
        port: 0 lets the system choose.
        public_url: the address for raters if a proxy is in front.
        trusted_proxy: address whose X-Forwarded-For and -Proto headers are trusted.
        rates: limits that replace the defaults (see `guards.DEFAULT_RATES`).
        max_raters: number of raters at which nobody can join anymore.
        secret_is_new: whether the secret was drawn for this start and is therefore printed.
    """

    admin_secret: str = field(repr=False)
    host: str = "0.0.0.0"
    port: int = 8000
    public_url: str | None = None
    trusted_proxy: str | None = None
    rates: Mapping[str, str] = field(default_factory=dict)
    max_raters: int = 1000
    secret_is_new: bool = False


def serve(study: Study, database: str | None, config: ServerConfig) -> None:
    """Serves a study until it is interrupted or terminated; the store is closed then.

    Args:
        study: the frozen study.
        database: SQLAlchemy URL; None for SQLite in the study's folder.
        config: how to serve it.

    Raises:
        LapganError: the port is in use, the database cannot be used or written, the secret is too
            short, or a rate is invalid.
    """
    _check_rates(config.rates)
    _check_secret(config.admin_secret)
    store = Store(study, database)
    # uvicorn raises the signal that ended it once more; by default that would end the process
    # before the store is closed.
    signal.signal(signal.SIGTERM, _exit_quietly)
    try:
        store.check_writable()
        listener = _listen(config.host, config.port)
        app = build_app(study, store, config.admin_secret, config.rates, config.max_raters)
        _announce(config, listener.getsockname()[1])
        gc.freeze()  # collecting what is loaded by now would halt all raters for 60 ms
        _make_server(app, config.trusted_proxy).run(sockets=[listener])
    finally:
        store.close()


class ImpatientProtocol(H11Protocol):
    """HTTP/1.1 that closes a connection whose request has no end of its headers in time.

    uvicorn limits idle connections only; bodies have a limit of their own in `read_body`.
    """

    _deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Waits for the first request."""
        super().connection_made(transport)
        self._wait()

    def data_received(self, data: bytes) -> None:
        """Passes data on; between two requests, the next one's headers have a deadline."""
        super().data_received(data)
        if self.cycle is not None and not self.cycle.response_complete:
            self._stop()
        elif self._deadline is None:
            self._wait()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forgets the deadline."""
        self._stop()
        super().connection_lost(exc)

    def _wait(self) -> None:
        self._deadline = self.loop.call_later(_HEADER_SECONDS, self.transport.close)

    def _stop(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None


def find_lan_address() -> str | None:
    """Returns this machine's address on its network, or None. Nothing is sent."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # reserved for documentation: never reached
        except OSError:
            return None
        return str(probe.getsockname()[0])


def _exit_quietly(_number: int, _frame: object) -> None:
    raise SystemExit(0)


def _check_secret(secret: str) -> None:
    if len(secret) < _SHORTEST_SECRET:
        raise LapganError(
            f"--admin-secret: {len(secret)} characters, expected at least {_SHORTEST_SECRET}. "
            "Choose a longer one, or none: a new one is then drawn and printed."
        )


def _check_rates(rates: Mapping[str, str]) -> None:
    try:
        RateLimits(rates)
    except ValueError as error:
        raise LapganError(f"--rate: {error}. Expected e.g. joins=600/minute.") from error


def _listen(host: str, port: int) -> socket.socket:
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        return socket.create_server((host, port), family=family, backlog=1024)
    except OSError as error:
        raise LapganError(
            f"{host}:{port}: cannot listen there ({error.strerror}). Choose another --port."
        ) from error


def _make_server(app: Starlette, trusted_proxy: str | None) -> uvicorn.Server:
    return uvicorn.Server(
        uvicorn.Config(
            app,
            http=ImpatientProtocol,
            access_log=False,
            log_level="warning",
            server_header=False,
            proxy_headers=trusted_proxy is not None,
            forwarded_allow_ips=trusted_proxy or "",
            timeout_keep_alive=30,
            limit_concurrency=2000,
            timeout_graceful_shutdown=5,
        )
    )


def _announce(config: ServerConfig, port: int) -> None:
    everywhere = config.host in ("0.0.0.0", "::", "")
    host = "127.0.0.1" if everywhere else config.host
    local = f"http://[{host}]:{port}/" if ":" in host else f"http://{host}:{port}/"
    lan = find_lan_address() if everywhere else None
    shared = config.public_url or (f"http://{lan}:{port}/" if lan else None)
    print(f"On this machine   {local}")
    if shared:
        print(f"For raters        {shared}")
    # A secret of the user's own is not printed: the output may be kept in a log.
    secret = config.admin_secret if config.secret_is_new else "the one that you gave"
    print(f"Admin             {local}admin/   secret: {secret}")
    if shared:
        segno.make(shared, micro=False).terminal(out=sys.stdout, compact=True)
    print("Ctrl-C stops the server; every answer is stored as it arrives.", flush=True)
