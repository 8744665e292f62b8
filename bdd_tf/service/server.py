"""The HTTP server: uvicorn, with time limits where it has none, bound to a socket of our own."""

from __future__ import annotations

import asyncio
import ctypes
import errno
import logging
import signal
import socket
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import h11
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from bdd_tf.errors import BddError, UsageError
from bdd_tf.service.limits import Limits

_HEAD_BYTES = 16 * 1024
# glibc's mallopt: larger blocks go back to the system when they are freed.
_M_MMAP_THRESHOLD, _LARGE_BLOCK = -3, 4 << 20


def bind(host: str, port: int) -> socket.socket:
    """A listening socket.

    Args:
        host: A name or address of this machine.
        port: 0 for any free one.

    Raises:
        UsageError: If there is no such address here.
        BddError: If the port is taken, or not ours to take.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except (OSError, UnicodeError):
        raise UsageError(
            f"--host is {host!r}, which is no address or name of this machine; 127.0.0.1 is this machine alone, "
            "0.0.0.0 is every network it is in."
        ) from None
    listening = socket.socket(family, kind, protocol)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(address)
        listening.listen(256)
    except OSError as error:
        listening.close()
        if error.errno == errno.EADDRINUSE:
            raise BddError(
                f"port {port} of {host} is in use; --port N takes another one, --port 0 any that is free."
            ) from None
        if error.errno == errno.EACCES:
            raise BddError(f"port {port} needs root; give a port from 1024 on with --port.") from None
        if error.errno == errno.EADDRNOTAVAIL:
            raise UsageError(f"--host is {host!r}, which is no address of this machine.") from None
        raise BddError(f"{host}:{port} cannot be listened on: {error.strerror or error}") from None
    return listening


def run(app: object, listening: socket.socket, limits: Limits) -> None:
    """Serve until Ctrl-C or SIGTERM, then finish what is under way.

    Args:
        app: An ASGI application.
        listening: From `bind`; closed at the end.
        limits: Numbers and times of connections.
    """
    # Strangers' files and requests make these write warnings; what matters becomes an answer.
    warnings.filterwarnings("ignore", module=r"PIL\.")
    for noisy in ("python_multipart", "PIL"):
        logging.getLogger(noisy).setLevel(logging.CRITICAL)

    # Without this glibc learns from the first huge image to keep such memory: 500 MB after one of 100 megapixels.
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).mallopt(_M_MMAP_THRESHOLD, _LARGE_BLOCK)

    class Protocol(TimedProtocol):
        allowed = limits

    config = uvicorn.Config(
        app,  # type: ignore[arg-type]
        http=Protocol,
        loop="asyncio",
        ws="none",
        lifespan="off",
        log_config=None,
        log_level="error",
        access_log=False,
        proxy_headers=False,
        server_header=False,
        h11_max_incomplete_event_size=_HEAD_BYTES,
        timeout_keep_alive=int(limits.pause_seconds),
        timeout_graceful_shutdown=int(limits.shutdown_seconds),
    )
    _Server(config).run([listening])


class _Server(uvicorn.Server):
    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """As uvicorn's, but without raising the signal once more at the end: stopping when told to is no failure."""
        signals = (signal.SIGINT, signal.SIGTERM)
        before = {number: signal.signal(number, self.handle_exit) for number in signals}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


class TimedProtocol(H11Protocol):
    """uvicorn's protocol on one connection, with limits for what it would wait for without end."""

    allowed = Limits()
    _head: asyncio.TimerHandle | None = None
    _stall: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Start the clock for the first request's head."""
        super().connection_made(transport)
        if len(self.connections) > self.allowed.connections:
            transport.abort()
        self._head = self.loop.call_later(self.allowed.header_seconds, transport.abort)

    def data_received(self, data: bytes) -> None:
        """Stop the clock when a head is complete; from the first byte of the next one it runs again."""
        super().data_received(data)
        if self.conn.their_state is not h11.IDLE:
            self._head = _cancelled(self._head)
        elif self._head is None:
            self._head = self.loop.call_later(self.allowed.header_seconds, self.transport.abort)

    def pause_writing(self) -> None:
        """A client that does not read its answer is given up."""
        super().pause_writing()
        self._stall = self.loop.call_later(self.allowed.pause_seconds, self.transport.abort)

    def resume_writing(self) -> None:
        """It reads."""
        super().resume_writing()
        self._stall = _cancelled(self._stall)

    def on_response_complete(self) -> None:
        """A closed connection whose last bytes nobody takes would stay for ever."""
        if self.transport.is_closing():
            self.loop.call_later(self.allowed.pause_seconds, self.transport.abort)
        super().on_response_complete()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop the clocks."""
        self._head, self._stall = _cancelled(self._head), _cancelled(self._stall)
        super().connection_lost(exc)


def _cancelled(timer: asyncio.TimerHandle | None) -> asyncio.TimerHandle | None:
    if timer is not None:
        timer.cancel()
    return None
