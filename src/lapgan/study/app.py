"""The web application: consent, the sitting's page, its two API calls, the images.

The rater's token is in the fragment of the address and in a header, so it is never logged. Whether
an image is real never leaves the server before its answer is stored.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from importlib import resources
from typing import Any

from pydantic import ValidationError
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, RedirectResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from lapgan.study.admin import admin_routes
from lapgan.study.answers import Answer, Screen
from lapgan.study.guards import (
    Endpoint,
    RateLimits,
    SafeHeaders,
    client_address,
    read_body,
    read_form,
)
from lapgan.study.pages import render_page, slot
from lapgan.study.standing import RefusedError
from lapgan.study.stimuli import Study
from lapgan.study.store import Store
from lapgan.study.texts import Texts

__all__ = ["build_app"]

_STATIC = str(resources.files("lapgan.study") / "static")
_BODY_LIMIT = 4096
_PARAMETER_LENGTH = 200
_STATUS = {"unknown-rater": 401, "unknown-trial": 404, "out-of-order": 409, "impossible-time": 422}


@dataclass(frozen=True)
class _Site:
    study: Study
    store: Store
    limits: RateLimits
    images: frozenset[str]
    max_raters: int
    texts: Texts

    def page(self, name: str, status: int = 200, **values: Any) -> HTMLResponse:
        """Returns a template as a response, in the study's language."""
        texts = {"lang": self.texts.language, "say": self.texts.html}
        return self.admin_page(name, status, **texts, **values)

    def message(
        self, section: str, status: int = 200, text: str = "text", back: str = ""
    ) -> HTMLResponse:
        """Returns a page with the heading and one text of a section."""
        return self.page(
            "message.html",
            status,
            heading=self.texts.plain(f"{section}.heading"),
            text=self.texts.plain(f"{section}.{text}"),
            back=back,
            back_label=self.texts.plain("problem.start"),
        )

    def admin_page(self, name: str, status: int = 200, **values: Any) -> HTMLResponse:
        """Returns a template as a response, in English."""
        return HTMLResponse(render_page(name, title=self.study.design.title, **values), status)

    def origin_of(self, values: Mapping[str, str]) -> dict[str, str]:
        """Returns those parameters of a rater's address that the study keeps."""
        names = self.study.design.recruiting.parameters
        kept = {name: values.get(name, "")[:_PARAMETER_LENGTH] for name in names}
        return {name: value for name, value in kept.items() if value and value.isprintable()}


def build_app(
    study: Study,
    store: Store,
    admin_secret: str,
    rates: Mapping[str, str] | None = None,
    max_raters: int = 1000,
) -> Starlette:
    """Builds the application that serves one study.

    Args:
        study: the frozen study.
        store: stores its answers.
        admin_secret: gives access to the pages below /admin.
        rates: limits that replace those of `guards.DEFAULT_RATES`.
        max_raters: number of raters at which nobody can join anymore.
    """
    names = frozenset(item.name for item in study.manifest.stimuli)
    limits = RateLimits(rates or {})
    site = _Site(study, store, limits, names, max_raters, study.texts())
    admin = admin_routes(study, store, limits, site.admin_page, admin_secret)
    routes = [
        Route("/", _show_home(site)),
        Route("/join", _join(site), methods=["POST"]),
        Route("/declined", _show_declined(site)),
        Route("/sitting", _show_sitting(site)),
        Route("/api/sitting", _send_sitting(site)),
        Route("/api/answers", _store_answer(site), methods=["POST"]),
        Route("/api/screen", _store_screen(site), methods=["POST"]),
        Route("/api/withdraw", _withdraw(site), methods=["POST"]),
        Route("/stimuli/{name}.png", _send_stimulus(site)),
        Mount("/admin", routes=admin),
        Mount("/static", GZipMiddleware(StaticFiles(directory=_STATIC))),
    ]
    handlers = {HTTPException: _show_problem(site), Exception: _report_failure(site)}
    return Starlette(
        routes=routes, middleware=[Middleware(SafeHeaders)], exception_handlers=handlers
    )


def _show_home(site: _Site) -> Endpoint:
    async def home(request: Request) -> Response:
        origin = site.origin_of(request.query_params)
        paragraphs = _split_paragraphs(site.study.consent)
        return site.page("home.html", paragraphs=paragraphs, origin=origin)

    return home


def _join(site: _Site) -> Endpoint:
    async def join(request: Request) -> Response:
        site.limits.check("joins", client_address(request))
        if await run_in_threadpool(site.store.is_paused):
            return site.message("paused", 503, "before")
        if len(await run_in_threadpool(site.store.progress)) >= site.max_raters:
            return site.message("full", 503)
        origin = site.origin_of(await read_form(request, _BODY_LIMIT))
        token = await asyncio.wrap_future(site.store.join(origin=origin))
        return RedirectResponse(f"/sitting#{token}", 303)

    return join


def _show_declined(site: _Site) -> Endpoint:
    async def declined(request: Request) -> Response:
        return site.message("declined", back="/")

    return declined


def _show_sitting(site: _Site) -> Endpoint:
    async def sitting_page(request: Request) -> Response:
        design = site.study.design
        height, width = (size * site.study.manifest.zoom for size in site.study.manifest.image_size)
        return site.page(
            "sitting.html",
            design=design,
            recruiting=design.recruiting,
            live={**site.texts.section("live"), **site.texts.section("words")},
            slot=slot,
            examples=site.study.examples(),
            height=height,
            width=width,
            zoom=site.study.manifest.zoom,
        )

    return sitting_page


def _send_sitting(site: _Site) -> Endpoint:
    async def sitting(request: Request) -> Response:
        token = _read_token(site, request)
        with _translate_refusals(site, request):
            return JSONResponse(asdict(await run_in_threadpool(site.store.sitting, token)))

    return sitting


def _store_answer(site: _Site) -> Endpoint:
    async def answers(request: Request) -> Response:
        token = _read_token(site, request)
        try:
            answer = Answer.model_validate_json(await read_body(request, _BODY_LIMIT))
        except ValidationError as error:
            where = ".".join(str(part) for part in error.errors()[0]["loc"])
            raise HTTPException(422, f"{where or 'body'}: {error.errors()[0]['msg']}") from error
        with _translate_refusals(site, request):
            receipt = await asyncio.wrap_future(site.store.answer(token, answer))
        return JSONResponse(asdict(receipt))

    return answers


def _store_screen(site: _Site) -> Endpoint:
    async def screen(request: Request) -> Response:
        token = _read_token(site, request)
        try:
            sent = Screen.model_validate_json(await read_body(request, _BODY_LIMIT))
        except ValidationError as error:
            raise HTTPException(422, error.errors()[0]["msg"]) from error
        with _translate_refusals(site, request):
            await run_in_threadpool(site.store.describe, token, sent)
        return JSONResponse({"stored": True})

    return screen


def _withdraw(site: _Site) -> Endpoint:
    async def withdraw(request: Request) -> Response:
        token = _read_token(site, request)
        with _translate_refusals(site, request):
            code = (await run_in_threadpool(site.store.sitting, token)).code
        await run_in_threadpool(site.store.remove, [code])
        return JSONResponse({"removed": code})

    return withdraw


def _send_stimulus(site: _Site) -> Endpoint:
    async def stimulus(request: Request) -> Response:
        name = request.path_params["name"]
        if name not in site.images:
            raise HTTPException(404)
        content = await run_in_threadpool(site.study.path_of(name).read_bytes)
        caching = {"Cache-Control": "private, max-age=86400, immutable"}
        return Response(content, media_type="image/png", headers=caching)

    return stimulus


def _show_problem(site: _Site) -> Callable[[Request, Any], Awaitable[Response]]:
    async def problem(request: Request, error: HTTPException) -> Response:
        if request.url.path.startswith("/api/"):
            return JSONResponse({"error": error.detail}, error.status_code, error.headers)
        if request.url.path.startswith("/admin"):
            values = {"heading": "Sorry", "text": error.detail, "back": "/admin/"}
            values["back_label"] = "Back to the overview"
            page = site.admin_page("message.html", error.status_code, **values)
        else:
            text = {404: "missing", 429: "busy"}.get(error.status_code, "other")
            page = site.message("problem", error.status_code, text, "/")
        page.headers.update(error.headers or {})
        return page

    return problem


def _report_failure(site: _Site) -> Callable[[Request, Any], Awaitable[Response]]:
    async def failure(request: Request, error: Exception) -> Response:
        if request.url.path.startswith("/api/"):
            return JSONResponse({"error": site.texts.plain("problem.failed")}, 500)
        return site.message("problem", 500, "failed", "/")

    return failure


@contextmanager
def _translate_refusals(site: _Site, request: Request) -> Iterator[None]:
    """Turns the store's refusals into HTTP errors, and counts requests with unknown tokens."""
    try:
        yield
    except RefusedError as error:
        if error.reason == "unknown-rater":
            site.limits.check("strangers", client_address(request))
        raise HTTPException(_STATUS[error.reason], error.reason) from error


def _read_token(site: _Site, request: Request) -> str:
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not 20 <= len(token) <= 64:
        site.limits.check("strangers", client_address(request))
        raise HTTPException(401, "unknown-rater")
    site.limits.check("answers", token)
    return token


def _split_paragraphs(text: str) -> list[tuple[bool, list[str]]]:
    """Returns the paragraphs of a plain text, each with whether it is a list (of `- ` lines)."""
    parts = [part.strip().splitlines() for part in text.split("\n\n") if part.strip()]
    return [
        (True, [line.removeprefix("- ") for line in lines])
        if lines[0].startswith("- ")
        else (False, [" ".join(lines)])
        for lines in parts
    ]
