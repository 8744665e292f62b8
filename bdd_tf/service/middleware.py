"""Checks before each request: allowed hosts and origins. Also closes connections whose upload was refused."""

from __future__ import annotations

import asyncio
import ipaddress
import re

import anyio
from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

_HOST = re.compile(r"(\[[0-9a-f:.]+\]|[^\[\]:@/?#\s]+)(?::\d{1,5})?", re.ASCII | re.IGNORECASE)
_LOOPBACK = ("localhost", "127.0.0.1", "::1")
_WILDCARDS = ("0.0.0.0", "::")

_HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}


class Hosts:
    """Host names under which the service accepts requests.

    This prevents DNS rebinding: a malicious web page whose domain is changed to resolve to 127.0.0.1 could otherwise
    send requests to this service as same-origin. Its requests still carry the malicious domain in the Host header.

    Args:
        bound: Address that the service is bound to, as given by the user.
        allowed: Additional names.
    """

    def __init__(self, bound: str, allowed: tuple[str, ...] = ()) -> None:
        self._names = {_plain(name) for name in (*_LOOPBACK, bound, *allowed)}
        # Bound to all interfaces, the service accepts any IP address as Host: addresses cannot be rebound.
        self._any_address = bound in _WILDCARDS

    def allow(self, host: str) -> bool:
        """Return whether a Host header (``name`` or ``name:port``) is allowed."""
        match = _HOST.fullmatch(host)
        if match is None:
            return False
        name = _plain(match.group(1))
        return name in self._names or (self._any_address and _is_address(name))


def is_loopback(address: str) -> bool:
    """Return whether an address can be reached only from this machine."""
    return _plain(address) == "localhost" or (
        _is_address(address) and ipaddress.ip_address(_plain(address)).is_loopback
    )


def _plain(name: str) -> str:
    return name.lower().strip("[]").rstrip(".")


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(_plain(name))
    except ValueError:
        return False
    return True


class Guard:
    """ASGI middleware that checks host and origin, adds security headers, and drains refused uploads.

    Args:
        app: The application.
        hosts: Allowed host names.
        linger_seconds: Maximum time for draining the rest of a refused upload.
    """

    def __init__(self, app: ASGIApp, hosts: Hosts, linger_seconds: float) -> None:
        self._app = app
        self._hosts = hosts
        self._linger_seconds = linger_seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] != "http":
            return
        headers = Headers(scope=scope)
        # True once the client has sent its whole request.
        complete = headers.get("content-length", "0") == "0" and "transfer-encoding" not in headers

        async def watched_receive() -> Message:
            nonlocal complete
            message = await receive()
            complete = complete or message["type"] == "http.disconnect" or not message.get("more_body", False)
            return message

        started = False

        async def guarded_send(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                answer = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    answer.setdefault(name, value)
                if not complete:
                    answer["Connection"] = "close"
            elif not complete and not message.get("more_body", False):
                # The answer is complete. Drain the upload before closing the connection, so that the client can read it.
                await send({**message, "more_body": True})
                with anyio.move_on_after(self._linger_seconds):
                    while not complete:
                        await watched_receive()
                message = {"type": "http.response.body", "body": b"", "more_body": False}
            await send(message)

        app = self._refusal(scope, headers) or self._app
        try:
            await app(scope, watched_receive, guarded_send)
        except asyncio.CancelledError:
            # The server is shutting down, and the grace period is over.
            if not started:
                await _error(503, "The service is shutting down.")(scope, receive, send)

    def _refusal(self, scope: Scope, headers: Headers) -> ASGIApp | None:
        hosts = headers.getlist("host")
        if len(hosts) != 1 or not self._hosts.allow(hosts[0]):
            return _error(
                400,
                f"The host name {', '.join(hosts)[:80]!r} is not allowed; "
                "to allow a name, start the service with --allow-host NAME.",
            )
        origin = headers.get("origin")
        # Pages of other origins must not cause any work here, even though they could not read the answer.
        if origin is not None and scope["method"] not in ("GET", "HEAD"):
            scheme, _, authority = origin.partition("://")
            if scheme not in ("http", "https") or authority.lower() != hosts[0].lower():
                return _error(
                    403,
                    f"The request comes from a page of {origin[:80]!r}; only this service's own page may send it.",
                )
        return None


def _error(status: int, sentence: str) -> JSONResponse:
    return JSONResponse({"error": sentence}, status)
