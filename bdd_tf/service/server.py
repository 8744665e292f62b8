"""The HTTP server: uvicorn with additional time limits, on a socket bound in advance."""

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
# Parameter of glibc's mallopt: larger blocks are returned to the system when they are freed.
_M_MMAP_THRESHOLD, _LARGE_BLOCK = -3, 4 << 20


def bind(host: str, port: int) -> socket.socket:
    """Return a listening socket.

    Args:
        host: Name or address of this machine.
        port: Port number; 0 for any free port.

    Raises:
        UsageError: If this machine has no such address.
        BddError: If the port is in use, or needs privileges.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except (OSError, UnicodeError):
        raise UsageError(
            f"--host is {host!r}, which is not an address or name of this machine; use 127.0.0.1 for this machine alone, "
            "or 0.0.0.0 for all its networks."
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
                f"port {port} of {host} is in use; select another one with --port N, or any free one with --port 0."
            ) from None
        if error.errno == errno.EACCES:
            raise BddError(
                f"port {port} needs root privileges; give a port of at least 1024 with --port."
            ) from None
        if error.errno == errno.EADDRNOTAVAIL:
            raise UsageError(f"--host is {host!r}, which is not an address of this machine.") from None
        raise BddError(f"cannot listen on {host}:{port}: {error.strerror or error}") from None
    return listening


def run(app: object, listening: socket.socket, limits: Limits) -> None:
    """Serve until Ctrl-C or SIGTERM, then finish the requests in progress.

    Args:
        app: An ASGI application.
        listening: Socket from `bind`; closed at the end.
        limits: Number of connections, and time limits.
    """
    # Untrusted files and requests would flood the log with warnings; errors are reported in the response.
    warnings.filterwarnings("ignore", module=r"PIL\.")
    for noisy in ("python_multipart", "PIL"):
        logging.getLogger(noisy).setLevel(logging.CRITICAL)

    # Otherwise glibc raises its threshold after the first huge image and keeps that memory: 500 MB for 100 megapixels.
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
        """Like uvicorn's method, but does not raise the signal again at the end: a requested stop is not a failure."""
        signals = (signal.SIGINT, signal.SIGTERM)
        before = {number: signal.signal(number, self.handle_exit) for number in signals}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


class TimedProtocol(H11Protocol):
    """uvicorn's HTTP protocol for one connection, with time limits where uvicorn would wait forever."""

    allowed = Limits()
    _head: asyncio.TimerHandle | None = None
    _stall: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Start the timer for the head of the first request."""
        super().connection_made(transport)
        if len(self.connections) > self.allowed.connections:
            transport.abort()
        self._head = self.loop.call_later(self.allowed.header_seconds, transport.abort)

    def data_received(self, data: bytes) -> None:
        """Stop the timer when a head is complete; restart it at the first byte of the next one."""
        super().data_received(data)
        if self.conn.their_state is not h11.IDLE:
            self._head = _cancelled(self._head)
        elif self._head is None:
            self._head = self.loop.call_later(self.allowed.header_seconds, self.transport.abort)

    def pause_writing(self) -> None:
        """Start the timer that aborts the connection of a client that does not read its answer."""
        super().pause_writing()
        self._stall = self.loop.call_later(self.allowed.pause_seconds, self.transport.abort)

    def resume_writing(self) -> None:
        """Stop that timer."""
        super().resume_writing()
        self._stall = _cancelled(self._stall)

    def on_response_complete(self) -> None:
        """Abort a closing connection if the client does not receive the last bytes; it would stay open forever."""
        if self.transport.is_closing():
            self.loop.call_later(self.allowed.pause_seconds, self.transport.abort)
        super().on_response_complete()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop all timers."""
        self._head, self._stall = _cancelled(self._head), _cancelled(self._stall)
        super().connection_lost(exc)


def _cancelled(timer: asyncio.TimerHandle | None) -> asyncio.TimerHandle | None:
    if timer is not None:
        timer.cancel()
    return None
