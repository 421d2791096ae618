"""The pages of the person who runs the study: progress, pause, export; behind a secret."""

import hashlib
import hmac
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any
from urllib.parse import parse_qs

from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from lapgan.study.export import rows_to_csv, rows_to_json_lines
from lapgan.study.guards import RateLimits, read_body
from lapgan.study.stimuli import Study
from lapgan.study.store import Store

__all__ = ["admin_routes"]

_COOKIE = "lapgan_study_admin"
_FORM_LIMIT = 1024

Endpoint = Callable[[Request], Awaitable[Response]]
Page = Callable[..., Response]


def admin_routes(
    study: Study, store: Store, limits: RateLimits, page: Page, secret: str
) -> Sequence[Route]:
    """The routes below /admin; all but the login demand the secret, as a cookie or a bearer."""
    session = hashlib.sha256(f"lapgan study admin {secret}".encode()).hexdigest()

    def guarded(endpoint: Endpoint) -> Endpoint:
        async def guard(request: Request) -> Response:
            if not _is_admin(request, secret, session):
                if request.method == "GET" and "authorization" not in request.headers:
                    return page("login.html", 401, wrong=False)
                limits.check("logins", _address(request))
                raise HTTPException(401, "The admin secret is needed.")
            return await endpoint(request)

        return guard

    async def login(request: Request) -> Response:
        limits.check("logins", _address(request))
        form = parse_qs((await read_body(request, _FORM_LIMIT)).decode("utf-8", "replace"))
        if not _same(form.get("secret", [""])[0].strip(), secret):
            return page("login.html", 401, wrong=True)
        response = RedirectResponse("/admin/", 303)
        response.set_cookie(
            _COOKIE,
            session,
            path="/admin",
            httponly=True,
            samesite="strict",
            secure=request.url.scheme == "https",
        )
        return response

    async def overview(request: Request) -> Response:
        raters = await run_in_threadpool(store.progress)
        paused = await run_in_threadpool(store.is_paused)
        return page(
            "admin.html", raters=raters[::-1], totals=_totals(raters), paused=paused, study=study
        )

    async def pause(request: Request) -> Response:
        form = parse_qs((await read_body(request, _FORM_LIMIT)).decode("utf-8", "replace"))
        wanted = form.get("paused", [""])[0]
        if wanted not in ("0", "1"):
            raise HTTPException(422, "paused: expected 0 or 1")
        await run_in_threadpool(store.set_paused, wanted == "1")
        return RedirectResponse("/admin/", 303)

    async def export(request: Request) -> Response:
        rows = await run_in_threadpool(store.rows)
        if request.path_params["kind"] == "csv":
            return _download(rows_to_csv(rows), "text/csv", "answers.csv")
        return _download(rows_to_json_lines(rows), "application/jsonl", "answers.jsonl")

    return [
        Route("/", guarded(overview)),
        Route("/login", login, methods=["POST"]),
        Route("/pause", guarded(pause), methods=["POST"]),
        Route("/answers.{kind:str}", guarded(_known_kind(export))),
    ]


def _known_kind(endpoint: Endpoint) -> Endpoint:
    async def known(request: Request) -> Response:
        if request.path_params["kind"] not in ("csv", "jsonl"):
            raise HTTPException(404)
        return await endpoint(request)

    return known


def _is_admin(request: Request, secret: str, session: str) -> bool:
    scheme, _, given = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer":
        return _same(given, secret)
    return _same(request.cookies.get(_COOKIE, ""), session)


def _same(given: str, wanted: str) -> bool:
    return hmac.compare_digest(given.encode("utf-8", "replace"), wanted.encode())


def _address(request: Request) -> str:
    return request.client.host if request.client else "unknown"


def _totals(raters: Sequence[Mapping[str, Any]]) -> dict[str, int]:
    return {
        "raters": len(raters),
        "finished": sum(rater["finished_at"] is not None for rater in raters),
        "answers": sum(rater["done"] for rater in raters),
    }


def _download(text: str, kind: str, name: str) -> Response:
    headers = {"Content-Disposition": f'attachment; filename="{name}"'}
    return Response(text, media_type=kind, headers=headers)
