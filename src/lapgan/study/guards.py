"""Checks of every request: security headers, and limits of size and rate."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from urllib.parse import parse_qs

from limits import RateLimitItem, parse
from limits.storage import MemoryStorage
from limits.strategies import SlidingWindowCounterRateLimiter
from starlette.datastructures import MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

__all__ = [
    "DEFAULT_RATES",
    "Endpoint",
    "RateLimits",
    "SafeHeaders",
    "client_address",
    "read_body",
    "read_form",
]

Endpoint = Callable[[Request], Awaitable[Response]]

BODY_SECONDS = 10.0

_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
        "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=()",
    "X-Robots-Tag": "noindex",
}

# Requests allowed per rater (answers) or per network address (all others).
DEFAULT_RATES: Mapping[str, str] = {
    "answers": "30/second",
    "strangers": "60/minute",
    "joins": "300/minute",
    "logins": "10/minute",
}


class SafeHeaders:
    """Adds the security headers to every response, and forbids caching where none is set.

    Args:
        app: the application.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes the request on and adds the headers to the response."""

        async def send_safely(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers[name] = value
                # The package's own files may be kept, but are asked for again by their ETag.
                static = scope["path"].startswith("/static/")
                headers.setdefault("Cache-Control", "no-cache" if static else "no-store")
            await send(message)

        await self._app(scope, receive, send_safely)


class RateLimits:
    """Counts requests in memory, by kind and by sender.

    Args:
        rates: limits such as `30/second` by kind; other kinds keep their default.
    """

    def __init__(self, rates: Mapping[str, str]) -> None:
        self._limiter = SlidingWindowCounterRateLimiter(MemoryStorage())
        self._rates: dict[str, RateLimitItem] = {
            kind: parse(rate) for kind, rate in {**DEFAULT_RATES, **rates}.items()
        }

    def check(self, kind: str, sender: str) -> None:
        """Counts one request.

        Raises:
            HTTPException: 429, there were too many requests.
        """
        if not self._limiter.hit(self._rates[kind], kind, sender):
            item = self._rates[kind]
            raise HTTPException(
                429,
                "Too many requests. Wait a moment and try again.",
                {"Retry-After": str(item.get_expiry())},
            )


def client_address(request: Request) -> str:
    """Returns the network address that a request comes from."""
    return request.client.host if request.client else "unknown"


async def read_body(request: Request, limit: int) -> bytes:
    """Returns the body of a request.

    Raises:
        HTTPException: 413, it is longer than `limit` bytes; 400, it ended too soon; 408, it took
            more than `BODY_SECONDS`.
    """
    body = b""
    try:
        async with asyncio.timeout(BODY_SECONDS):
            async for chunk in request.stream():
                body += chunk
                if len(body) > limit:
                    raise HTTPException(413, f"At most {limit} bytes are accepted.")
    except ClientDisconnect as error:
        raise HTTPException(400, "The request ended too soon.") from error
    except TimeoutError as error:
        raise HTTPException(408, "The request came too slowly.", {"Connection": "close"}) from error
    return body


async def read_form(request: Request, limit: int) -> dict[str, str]:
    """Returns the fields of a posted form, the first of each name; see `read_body`."""
    text = (await read_body(request, limit)).decode("utf-8", "replace")
    return {name: values[0] for name, values in parse_qs(text).items()}
