"""What stands before every request: who may ask, and how the connection ends when more was sent than is read."""

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
    """The names by which the service may be addressed.

    A page of a stranger whose name suddenly resolves to 127.0.0.1 ("DNS rebinding") would else talk to this service
    as if it came from here; its requests carry the stranger's name in Host.

    Args:
        bound: The address the service is bound to, as the user gave it.
        allowed: Further names.
    """

    def __init__(self, bound: str, allowed: tuple[str, ...] = ()) -> None:
        self._names = {_plain(name) for name in (*_LOOPBACK, bound, *allowed)}
        # Bound to all addresses, it does not know which one is meant. Addresses are no names that could be rebound.
        self._any_address = bound in _WILDCARDS

    def allow(self, host: str) -> bool:
        """Whether a request with this Host header (or authority of an Origin) may pass."""
        match = _HOST.fullmatch(host)
        if match is None:
            return False
        name = _plain(match.group(1))
        return name in self._names or (self._any_address and _is_address(name))


def is_loopback(address: str) -> bool:
    """Whether only this machine reaches an address."""
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
    """ASGI middleware around the application.

    Args:
        app: What answers.
        hosts: Names by which it may be addressed.
        linger_seconds: How long the rest of a body that nobody wants is read.
    """

    def __init__(self, app: ASGIApp, hosts: Hosts, linger_seconds: float) -> None:
        self._app = app
        self._hosts = hosts
        self._linger_seconds = linger_seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            return
        headers = Headers(scope=scope)
        # Whether the client has sent all it has to send.
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
                # The answer is out, whole; the connection ends when the sender has had a chance to read it.
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
            # The server ends and has waited long enough.
            if not started:
                await _error(503, "The service is ending.")(scope, receive, send)

    def _refusal(self, scope: Scope, headers: Headers) -> ASGIApp | None:
        hosts = headers.getlist("host")
        if len(hosts) != 1 or not self._hosts.allow(hosts[0]):
            return _error(
                400,
                f"This service is not known by the name {', '.join(hosts)[:80]!r}; "
                "--allow-host NAME adds a name, if the request is yours.",
            )
        origin = headers.get("origin")
        # Pages from elsewhere may not have images scored here, even where they cannot read the answer.
        if origin is not None and scope["method"] not in ("GET", "HEAD"):
            scheme, _, authority = origin.partition("://")
            if scheme not in ("http", "https") or authority.lower() != hosts[0].lower():
                return _error(
                    403, f"The request comes from a page of {origin[:80]!r}, not from this service's."
                )
        return None


def _error(status: int, sentence: str) -> JSONResponse:
    return JSONResponse({"error": sentence}, status)
