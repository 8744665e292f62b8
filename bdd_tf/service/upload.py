"""Read uploads into memory, never to disk, and enforce all limits while they arrive."""

from __future__ import annotations

from typing import Protocol

import anyio
from python_multipart.multipart import parse_options_header
from starlette.datastructures import Headers
from starlette.types import Receive

from bdd_tf.service.form import HINT, PREAMBLE_BYTES, Form, Upload
from bdd_tf.service.limits import MIB, Limits, Refusal, Share
from bdd_tf.service.workers import ClientGone

# Maximum size of the boundaries and part headers around the files.
_FORM_OVERHEAD = PREAMBLE_BYTES + 64 * 1024


class _Body(Protocol):
    """A request body that is being received."""

    def write(self, data: bytes) -> None: ...

    def files(self) -> list[Upload]: ...


async def read_uploads(headers: Headers, receive: Receive, limits: Limits, share: Share) -> list[Upload]:
    """Receive the image files of a request: one sent as the body, or one or more inside a form.

    Args:
        headers: Request headers.
        receive: ASGI's receive function.
        limits: Limits on size and time.
        share: Accounts for the memory.

    Returns:
        The files, in the order of the form; at least one. Of several, `problem_of` tells which cannot be scored; a
        single one can.

    Raises:
        Refusal: 400 (no file, too many, damaged form), 408 (too slow), 413 (too large), 415 (unsupported type) or 503
            (out of buffer memory).
        ClientGone: If the client closed the connection.
    """
    body = _body(headers, limits, share)
    is_form = isinstance(body, Form)
    most = limits.request_bytes + _FORM_OVERHEAD if is_form else limits.upload_bytes
    declared = headers.get("content-length", "0")
    if declared.isdecimal() and int(declared) > most:
        raise _too_large(limits, is_form)
    received, more = 0, True
    try:
        with anyio.fail_after(limits.upload_seconds):
            while more:
                with anyio.fail_after(limits.pause_seconds):
                    message = await receive()
                if message["type"] == "http.disconnect":
                    raise ClientGone
                data: bytes = message.get("body", b"")
                more = message.get("more_body", False)
                # The declared length may be wrong, and chunked bodies have none.
                received += len(data)
                if received > most:
                    raise _too_large(limits, is_form)
                share.take(len(data))
                body.write(data)
    except TimeoutError:
        raise Refusal(
            408,
            f"The upload was too slow: the limit is {limits.upload_seconds:g} seconds, with pauses of at most "
            f"{limits.pause_seconds:g} seconds.",
        ) from None
    files = body.files()
    if sum(file.size for file in files) > limits.request_bytes:
        raise _too_large(limits, is_form)
    if len(files) == 1 and (problem := problem_of(files[0], limits)):
        raise problem
    return files


def problem_of(file: Upload, limits: Limits) -> Refusal | None:
    """Return why a received file cannot be scored: 413 (too large) or 400 (empty); None if it can."""
    if file.too_large:
        return _too_large(limits)
    return None if file.content else Refusal(400, f"The upload is empty (0 bytes); {HINT}.")


def _too_large(limits: Limits, together: bool = False) -> Refusal:
    if together:
        return Refusal(
            413,
            f"The request is larger than {limits.request_bytes / MIB:g} MiB, which is the limit for all its files "
            f"together (for each: {limits.upload_bytes / MIB:g} MiB).",
        )
    return Refusal(413, f"The file is larger than {limits.upload_bytes / MIB:g} MiB, which is the limit.")


def _body(headers: Headers, limits: Limits, share: Share) -> _Body:
    if headers.get("content-encoding", "identity").lower() != "identity":
        raise Refusal(415, "The body is compressed (Content-Encoding); send the image file without it.")
    given = headers.get("content-type", "")
    try:
        kind, options = parse_options_header(given)
    except (ValueError, UnicodeError):
        kind, options = b"?", {}
    if kind == b"multipart/form-data":
        return Form(options.get(b"boundary", b""), limits, share)
    if kind in (b"", b"application/octet-stream") or kind.startswith(b"image/"):
        return _Raw()
    raise Refusal(
        415,
        f"The Content-Type is {given[:80]!r}; possible: image/* or application/octet-stream for an image as the "
        "body, multipart/form-data for a form.",
    )


class _Raw:
    def __init__(self) -> None:
        self._bytes = bytearray()

    def write(self, data: bytes) -> None:
        self._bytes += data

    def files(self) -> list[Upload]:
        return [Upload(None, self._bytes, len(self._bytes))]
