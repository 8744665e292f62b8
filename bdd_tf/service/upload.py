"""Uploads: read into memory, never onto a disk, with every limit checked while they arrive."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import anyio
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.datastructures import Headers
from starlette.types import Receive

from bdd_tf.service.limits import Limits, Refusal, Share
from bdd_tf.service.work import ClientGone

# Boundaries and heads of parts around the file.
_FORM_OVERHEAD = 64 * 1024
_MAX_PARTS = 16
_HINT = "send one image as the body, or as a file in a form: curl -F image=@photo.jpg"


class _Body(Protocol):
    def write(self, data: bytes) -> None: ...

    def file(self) -> bytearray: ...


async def read_upload(headers: Headers, receive: Receive, limits: Limits, share: Share) -> bytearray:
    """The image file that a request carries, as its body or inside a form.

    Args:
        headers: Of the request.
        receive: ASGI's.
        limits: Sizes and times.
        share: Where the bytes are accounted for.

    Returns:
        The file's bytes, at least one.

    Raises:
        Refusal: 400, 408, 413, 415 or 503.
        ClientGone: If the client closed the connection.
    """
    body = _body(headers)
    most = limits.upload_bytes + (_FORM_OVERHEAD if isinstance(body, _Form) else 0)
    declared = headers.get("content-length", "0")
    if declared.isdecimal() and int(declared) > most:
        raise _too_large(limits)
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
                # Lengths that are declared may be a lie, and chunked bodies declare none.
                received += len(data)
                if received > most:
                    raise _too_large(limits)
                share.take(len(data))
                body.write(data)
    except TimeoutError:
        raise Refusal(
            408,
            f"The upload came too slowly: it may take {limits.upload_seconds:g} seconds, "
            f"and pause for {limits.pause_seconds:g}.",
        ) from None
    file = body.file()
    if len(file) > limits.upload_bytes:
        raise _too_large(limits)
    if not file:
        raise Refusal(400, f"The upload is empty (0 bytes); {_HINT}.")
    return file


def _too_large(limits: Limits) -> Refusal:
    return Refusal(413, f"The file is larger than {limits.upload_bytes / 2**20:g} MiB, which is the limit.")


def _body(headers: Headers) -> _Body:
    if headers.get("content-encoding", "identity").lower() != "identity":
        raise Refusal(415, "The body is compressed (Content-Encoding); send the image file as it is.")
    given = headers.get("content-type", "")
    try:
        kind, options = parse_options_header(given)
    except (ValueError, UnicodeError):
        kind, options = b"?", {}
    if kind == b"multipart/form-data":
        return _Form(options.get(b"boundary", b""))
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

    def file(self) -> bytearray:
        return self._bytes


class _Form:
    """A form with one file in it, by whatever name; other fields are skipped."""

    def __init__(self, boundary: bytes) -> None:
        if not boundary:
            raise Refusal(400, "The form's Content-Type names no boundary.")
        self._file = bytearray()
        self._files = self._parts = 0
        self._in_file = self._ended = False
        self._name, self._value = bytearray(), bytearray()
        callbacks: dict[str, Callable[..., None]] = {
            "on_part_begin": self._begin_part,
            "on_header_begin": self._begin_header,
            "on_header_field": lambda data, start, end: self._name.extend(data[start:end]),
            "on_header_value": lambda data, start, end: self._value.extend(data[start:end]),
            "on_header_end": self._end_header,
            "on_part_data": self._data,
            "on_end": self._end,
        }
        try:
            self._parser = MultipartParser(boundary, callbacks)  # type: ignore[arg-type]
        except (FormParserError, UnicodeError) as error:
            raise _damaged(error) from None

    def write(self, data: bytes) -> None:
        try:
            self._parser.write(data)
        except FormParserError as error:
            raise _damaged(error) from None

    def file(self) -> bytearray:
        if not self._ended:
            raise Refusal(400, "The form breaks off before its last boundary.")
        if self._files != 1:
            raise Refusal(400, f"The form holds no file; {_HINT}.")
        return self._file

    def _begin_part(self) -> None:
        self._parts += 1
        self._in_file = False
        if self._parts > _MAX_PARTS:
            raise Refusal(400, f"The form has more than {_MAX_PARTS} parts; {_HINT}.")

    def _begin_header(self) -> None:
        self._name.clear()
        self._value.clear()

    def _end_header(self) -> None:
        if self._name.lower() != b"content-disposition":
            return
        try:
            _, options = parse_options_header(bytes(self._value))
        except (ValueError, UnicodeError):
            options = {}
        if b"filename" in options:
            self._in_file = True
            self._files += 1
            if self._files > 1:
                raise Refusal(400, "The form holds several files; send one image per request.")

    def _data(self, data: bytes, start: int, end: int) -> None:
        if self._in_file:
            self._file += data[start:end]

    def _end(self) -> None:
        self._ended = True


def _damaged(error: Exception) -> Refusal:
    return Refusal(400, f"The form is damaged ({str(error)[:120].rstrip('.')}).")
