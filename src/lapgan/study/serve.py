"""Runs the application under uvicorn and tells people where it is."""

import gc
import socket
import sys
from collections.abc import Mapping

import segno
import uvicorn

from lapgan.errors import LapganError
from lapgan.study.app import build_app
from lapgan.study.guards import RateLimits
from lapgan.study.stimuli import Study
from lapgan.study.store import Store

__all__ = ["lan_address", "serve"]


def serve(
    study: Study,
    *,
    database: str | None,
    host: str,
    port: int,
    public_url: str | None,
    trusted_proxy: str | None,
    admin_secret: str,
    rates: Mapping[str, str],
) -> None:
    """Serves a study until it is interrupted.

    Args:
        study: the frozen study.
        database: SQLAlchemy URL; None for SQLite in the study's folder.
        host: address to listen on; `0.0.0.0` for every network of this machine.
        port: 0 lets the system choose.
        public_url: what raters type when a proxy stands in front.
        trusted_proxy: address whose X-Forwarded-For and -Proto headers are believed.
        admin_secret: opens the admin pages.
        rates: limits that replace the defaults (see `guards.DEFAULT_RATES`).

    Raises:
        LapganError: the port is taken, the database cannot be used, or a rate is no rate.
    """
    _check_rates(rates)
    store = Store(study, database)
    listener = _listen(host, port)
    app = build_app(study, store, admin_secret, rates)
    config = uvicorn.Config(
        app,
        access_log=False,
        log_level="warning",
        server_header=False,
        proxy_headers=trusted_proxy is not None,
        forwarded_allow_ips=trusted_proxy or "",
        timeout_keep_alive=30,
        limit_concurrency=2000,
        timeout_graceful_shutdown=5,
    )
    _announce(listener.getsockname()[1], host, public_url, admin_secret)
    gc.freeze()  # what is loaded by now stays: walking through it would halt all raters for 60 ms
    try:
        uvicorn.Server(config).run(sockets=[listener])
    finally:
        store.close()


def lan_address() -> str | None:
    """This machine's address on its network; None without one. Nothing is sent."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # reserved for documentation: never reached
        except OSError:
            return None
        return str(probe.getsockname()[0])


def _check_rates(rates: Mapping[str, str]) -> None:
    try:
        RateLimits(rates)
    except ValueError as error:
        raise LapganError(f"--rate: {error}. Expected e.g. joins=600/minute.") from error


def _listen(host: str, port: int) -> socket.socket:
    try:
        return socket.create_server((host, port), backlog=1024)
    except OSError as error:
        raise LapganError(
            f"{host}:{port}: cannot listen there ({error.strerror}). Choose another --port."
        ) from error


def _announce(port: int, host: str, public_url: str | None, secret: str) -> None:
    local = f"http://127.0.0.1:{port}/"
    lan = lan_address() if host in ("0.0.0.0", "") else None
    shared = public_url or (f"http://{lan}:{port}/" if lan else None)
    print(f"On this machine   {local}")
    if shared:
        print(f"For raters        {shared}")
    print(f"Admin             {local}admin/   secret: {secret}")
    if shared:
        segno.make(shared, micro=False).terminal(out=sys.stdout, compact=True)
    print("Ctrl-C stops the server; every answer is stored as it comes.", flush=True)
