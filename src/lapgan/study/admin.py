"""The admin pages: progress, pause and export, behind a secret."""

import hmac
import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from lapgan.study.export import raters_to_csv, rows_to_csv, rows_to_json_lines
from lapgan.study.guards import Endpoint, RateLimits, client_address, read_form
from lapgan.study.stimuli import Study
from lapgan.study.store import Store

__all__ = ["admin_routes"]

_COOKIE = "lapgan_study_admin"
_FORM_LIMIT = 1024
_SESSION_SECONDS = 12 * 3600

Page = Callable[..., Response]


@dataclass(frozen=True)
class _Admin:
    study: Study
    store: Store
    limits: RateLimits
    page: Page
    secret: str
    # The time at which each session ends, by the value of its cookie.
    sessions: dict[str, float] = field(default_factory=dict)

    def open_session(self) -> str:
        """Returns the random value of a new session's cookie."""
        now = time.monotonic()
        for cookie in [cookie for cookie, end in self.sessions.items() if end < now]:
            del self.sessions[cookie]
        cookie = secrets.token_urlsafe(32)
        self.sessions[cookie] = now + _SESSION_SECONDS
        return cookie

    def admits(self, request: Request) -> bool:
        """Returns whether a request carries the secret, as a bearer token or by cookie."""
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer":
            return _equal(token, self.secret)
        return self.sessions.get(request.cookies.get(_COOKIE, ""), 0.0) > time.monotonic()


def admin_routes(
    study: Study, store: Store, limits: RateLimits, page: Page, secret: str
) -> Sequence[Route]:
    """Returns the routes below /admin; all but the login require the secret.

    Args:
        study: the frozen study.
        store: its answers.
        limits: of logins.
        page: renders a template.
        secret: accepted as a bearer token or, after a login, by cookie.
    """
    admin = _Admin(study, store, limits, page, secret)
    return [
        Route("/", _require_secret(admin, _show_overview(admin))),
        Route("/login", _log_in(admin), methods=["POST"]),
        Route("/logout", _require_secret(admin, _log_out(admin)), methods=["POST"]),
        Route("/remove", _require_secret(admin, _remove(admin)), methods=["POST"]),
        Route("/pause", _require_secret(admin, _pause(admin)), methods=["POST"]),
        Route("/answers.{kind:str}", _require_secret(admin, _export(admin))),
        Route("/raters.csv", _require_secret(admin, _export_raters(admin))),
    ]


def _require_secret(admin: _Admin, endpoint: Endpoint) -> Endpoint:
    async def guard(request: Request) -> Response:
        if admin.admits(request):
            _check_origin(request)
            return await endpoint(request)
        if request.method == "GET" and "authorization" not in request.headers:
            return admin.page("login.html", 401, wrong=False)
        admin.limits.check("logins", client_address(request))
        raise HTTPException(401, "The admin secret is needed.")

    return guard


def _log_in(admin: _Admin) -> Endpoint:
    async def login(request: Request) -> Response:
        admin.limits.check("logins", client_address(request))
        if not _equal((await _read_field(request, "secret")).strip(), admin.secret):
            return admin.page("login.html", 401, wrong=True)
        response = RedirectResponse("/admin/", 303)
        response.set_cookie(
            _COOKIE,
            admin.open_session(),
            max_age=_SESSION_SECONDS,
            path="/admin",
            httponly=True,
            samesite="strict",
            secure=request.url.scheme == "https",
        )
        return response

    return login


def _log_out(admin: _Admin) -> Endpoint:
    async def logout(request: Request) -> Response:
        admin.sessions.pop(request.cookies.get(_COOKIE, ""), None)
        response = RedirectResponse("/admin/", 303)
        response.delete_cookie(_COOKIE, path="/admin")
        return response

    return logout


def _remove(admin: _Admin) -> Endpoint:
    async def remove(request: Request) -> Response:
        code = await _read_field(request, "code")
        if not await run_in_threadpool(admin.store.remove, [code]):
            raise HTTPException(404, "There is no such rater.")
        return RedirectResponse("/admin/", 303)

    return remove


def _show_overview(admin: _Admin) -> Endpoint:
    async def overview(request: Request) -> Response:
        raters = await run_in_threadpool(admin.store.progress)
        paused = await run_in_threadpool(admin.store.is_paused)
        totals = _sum_progress(raters)
        return admin.page("admin.html", raters=raters[::-1], totals=totals, paused=paused)

    return overview


def _pause(admin: _Admin) -> Endpoint:
    async def pause(request: Request) -> Response:
        paused = await _read_field(request, "paused")
        if paused not in ("0", "1"):
            raise HTTPException(422, "paused: expected 0 or 1")
        await run_in_threadpool(admin.store.set_paused, paused == "1")
        return RedirectResponse("/admin/", 303)

    return pause


def _export(admin: _Admin) -> Endpoint:
    formats = {
        "csv": (rows_to_csv, "text/csv"),
        "jsonl": (rows_to_json_lines, "application/jsonl"),
    }

    async def export(request: Request) -> Response:
        kind = request.path_params["kind"]
        if kind not in formats:
            raise HTTPException(404)
        write, media_type = formats[kind]
        text = write(await run_in_threadpool(admin.store.rows))
        headers = {"Content-Disposition": f'attachment; filename="answers.{kind}"'}
        return Response(text, media_type=media_type, headers=headers)

    return export


def _export_raters(admin: _Admin) -> Endpoint:
    async def export(request: Request) -> Response:
        rows = await run_in_threadpool(admin.store.rows)
        raters = await run_in_threadpool(admin.store.progress)
        headers = {"Content-Disposition": 'attachment; filename="raters.csv"'}
        text = raters_to_csv(admin.study.design, rows, raters)
        return Response(text, media_type="text/csv", headers=headers)

    return export


def _check_origin(request: Request) -> None:
    """Refuses changes that a page of another host or port asks for."""
    origin = request.headers.get("origin")
    if request.method == "POST" and origin and urlsplit(origin).netloc != request.url.netloc:
        raise HTTPException(403, "This comes from another page.")


async def _read_field(request: Request, name: str) -> str:
    """Returns one field of a posted form; empty if it is missing."""
    return (await read_form(request, _FORM_LIMIT)).get(name, "")


def _equal(text: str, secret: str) -> bool:
    """Compares in constant time."""
    return hmac.compare_digest(text.encode("utf-8", "replace"), secret.encode())


def _sum_progress(raters: Sequence[Mapping[str, Any]]) -> dict[str, int]:
    return {
        "raters": len(raters),
        "finished": sum(rater["finished_at"] is not None for rater in raters),
        "answers": sum(rater["done"] for rater in raters),
    }
