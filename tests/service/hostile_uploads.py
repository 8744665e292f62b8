"""52 uploads that mean no good, each with the statuses that are right for it.

They are raw requests, since half of them are nothing that an HTTP library would send.
"""

from __future__ import annotations

import io
import itertools
import random
import socket
import struct
import time
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from PIL import Image

from tests.edge.images.scan_bomb import scan_bomb
from tests.service.serving import form, read_answer

#: The connection may also simply end: where no request was ever understood, or its sender has gone.
CLOSED = None


@dataclass(frozen=True)
class Upload:
    """One of them.

    Attributes:
        name: For people.
        expected: Statuses that are right.
        pieces: What is sent, piece by piece; a number is a pause in seconds.
        heavy: Whether it takes more than a moment, or much memory.
        hang_up: Whether the client ends its half of the connection behind the last piece.
    """

    name: str
    expected: tuple[int | None, ...]
    pieces: Callable[[], Iterator[bytes | float]]
    heavy: bool = False
    hang_up: bool = False


def send(upload: Upload, port: int, seconds: float = 60) -> int | None:
    """Send it to a server of this machine.

    Returns:
        The answer's status; None if the connection ended without one.
    """
    # Large ones take seconds to make: a server would hang up on a connection that says nothing meanwhile.
    pieces = iter(upload.pieces())
    first = next(pieces)
    with socket.create_connection(("127.0.0.1", port), timeout=seconds) as connection:
        try:
            for piece in itertools.chain([first], pieces):
                if isinstance(piece, bytes):
                    connection.sendall(piece)
                else:
                    time.sleep(piece)
            if upload.hang_up:
                connection.shutdown(socket.SHUT_WR)
        except (BrokenPipeError, ConnectionResetError):
            pass  # The server may refuse before it has read everything; its answer is there all the same.
        return read_answer(connection)[0]


def head(length: object = None, kind: str = "image/png", *more: str) -> bytes:
    """A request's head; ``length`` None: chunked."""
    framing = "Transfer-Encoding: chunked" if length is None else f"Content-Length: {length}"
    lines = ["POST /api/detect HTTP/1.1", "Host: 127.0.0.1", f"Content-Type: {kind}", framing, *more]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


def png(
    width: int, height: int, bits: int = 8, colour: int = 2, data: bytes = b"", extra: bytes = b""
) -> bytes:
    """A PNG file with this header and these compressed pixels."""
    header = struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + extra + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def chunk(kind: bytes, content: bytes) -> bytes:
    """A PNG chunk."""
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def deflated_zeros(count: int) -> bytes:
    """``count`` zero bytes, compressed."""
    packer = zlib.compressobj(9)
    block = bytes(1 << 20)
    parts = [packer.compress(block) for _ in range(count >> 20)]
    return b"".join([*parts, packer.compress(bytes(count & ((1 << 20) - 1))), packer.flush()])


def saved(format_: str, **options: object) -> bytes:
    """A real image file."""
    file = io.BytesIO()
    y, x = np.mgrid[0:200, 0:300]
    pixels = np.stack([x % 256, y, (x * y) % 256], -1).astype(np.uint8)
    Image.fromarray(pixels).save(file, format_, **options)
    return file.getvalue()


def uploads() -> list[Upload]:
    """All of them; what takes long to make is made when it is sent."""
    noise = random.Random(1).randbytes
    good = saved("PNG")
    found = []

    def add(name: str, expected: object, *pieces: bytes | float, **more: bool) -> None:
        expected = expected if isinstance(expected, tuple) else (expected,)
        found.append(Upload(name, expected, lambda: iter(pieces), **more))

    def image(name: str, expected: object, content: bytes, kind: str = "image/png") -> None:
        add(name, expected, head(len(content), kind) + content)

    def large(name: str, expected: tuple[int, ...], make: Callable[[], bytes]) -> None:
        def pieces() -> Iterator[bytes]:
            content = make()
            yield head(len(content)) + content

        found.append(Upload(name, expected, pieces, heavy=True))

    def multipart(name: str, expected: object, body: bytes, kind: str) -> None:
        add(name, expected, head(len(body), kind) + body)

    # Bombs.
    image("PNG header of 65535x65535", 422, png(65535, 65535))
    large(
        "PNG of 900 megapixels that is really there",
        (422,),
        lambda: png(30_000, 30_000, 1, 0, deflated_zeros(112_530_000)),
    )
    large(
        "PNG of 100 megapixels, one bit each",
        (200,),
        lambda: png(10_000, 10_000, 1, 0, deflated_zeros(12_510_000)),
    )
    large(
        "PNG of 100 megapixels with alpha",
        (200,),
        lambda: png(10_000, 10_000, 8, 6, deflated_zeros(400_010_000)),
    )
    image("PNG, 1 pixel wide and 200000 high", 422, png(1, 200_000, 8, 0, deflated_zeros(400_000)))
    text = chunk(b"zTXt", b"a\0\0" + deflated_zeros(1 << 26))
    image("PNG with a text of 64 MB, compressed", (200, 422), good[:33] + text + good[33:])
    frame = b"\0\0\0\0\xff\xff\xff\xff\0"
    image(
        "GIF of 65535x65535",
        422,
        b"GIF89a" + frame[4:8] + b"\x80\0\0" + bytes(6) + b"," + frame + b"\2\2L\1\0;",
    )
    header = struct.pack("<IHHIIiiHHIIiiII", 54, 0, 0, 54, 40, 30000, 30000, 1, 24, 0, 0, 0, 0, 0, 0)
    image("BMP header of 30000x30000", 422, b"BM" + header)
    tags = struct.pack("<HHHIIHHII", 2, 256, 4, 1, 60000, 257, 4, 1, 60000)
    image("TIFF header of 60000x60000", 422, b"II*\0\x08\0\0\0" + tags + bytes(4))
    lossless = b"VP8L\x11\0\0\0/\xff\xff\xff\x0f" + bytes(12)
    image("WebP header of 16384x16384", 422, b"RIFF\x1e\0\0\0WEBP" + lossless)
    lying = scan_bomb(64, 64, 1).replace(struct.pack(">HH", 64, 64), b"\xff\xff\xff\xff")
    image("JPEG with 65535x65535 in its header", 422, lying)
    image("JPEG of 100 megapixels in 50000 scans", 422, scan_bomb(10_000, 10_000, 50_000))
    # Damaged and none at all.
    for kind, options in {
        "PNG": {},
        "JPEG": {"quality": 90},
        "WEBP": {},
        "GIF": {},
        "TIFF": {},
        "AVIF": {},
    }.items():
        content = saved(kind, **options)
        image(f"{kind} truncated", 422, content[: len(content) // 2], f"image/{kind.lower()}")
    image("PNG with a wrong checksum", 422, good[:60] + b"\0\0\0\0" + good[64:])
    image("PNG signature and noise", 422, good[:8] + noise(10_000))
    image("JPEG signature and noise", 422, b"\xff\xd8\xff\xe0" + noise(100_000))
    image("null bytes", 422, bytes(100_000))
    image("JPEG, then null bytes", (200, 422), saved("JPEG")[:700] + bytes(100_000))
    image("text", 422, b"hello\n" * 100, "image/jpeg")
    image("SVG", 422, b"<svg xmlns='http://www.w3.org/2000/svg' onload='alert(1)'/>", "image/svg+xml")
    image("EPS, which runs programs", 422, b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n")
    image("empty", 400, b"")
    # Wrong types.
    for kind in (
        "application/json",
        "text/plain",
        "application/x-www-form-urlencoded",
        "multipart/mixed; boundary=a",
    ):
        image(f"sent as {kind}", 415, good, kind)
    image("sent as \xff\xfe", 415, good, "\xff\xfe;=;")
    add("sent gzipped, as it says", 415, head(len(good), "image/png", "Content-Encoding: gzip") + good)
    add("a null byte in the Content-Type", (400, CLOSED), head(1, "image/\0") + b"x")
    # Forms.
    file = ('name="image"; filename="a.png"', good)
    for name, expected, (body, headers) in [
        ("form without a file", 400, form(('name="image"', good))),
        ("form with 101 files", 400, form(*[file] * 101)),
        ("form that breaks off", 400, form(file, end=False)),
        ("form of 20000 parts", 400, form(*[('name="a"', b"")] * 20_000)),
        ("form whose file is empty", 400, form(('name="image"; filename="a"', b""))),
        (
            "form whose file is named ../../etc/passwd\\0",
            422,
            form(('name="image"; filename="../../etc/passwd\0"', b"x")),
        ),
        ("form with another boundary than it says", 400, (form(file)[0], form(boundary="other")[1])),
        (
            "form with a part's head of 1 MB",
            400,
            form(('name="image"; filename="' + "a" * 1_000_000 + '"', good)),
        ),
    ]:
        multipart(name, expected, body, headers["Content-Type"])
    multipart("form without a boundary", 400, b"--\r\n\r\n", "multipart/form-data")
    multipart("form with a boundary of 5000", 400, b"x", f"multipart/form-data; boundary={'a' * 5000}")
    # Framing.
    add("1 GB declared", 413, head(1 << 30) + good)
    add("two lengths", (400, CLOSED), head(5, "image/png", "Content-Length: 6") + b"123456")
    add("a negative length", (400, CLOSED), head(-1) + good)
    add("a chunk of no size", (400, CLOSED), head() + b"zz\r\n" + good)
    add("less than declared, then gone", CLOSED, head(len(good) + 1) + good, hang_up=True)
    found.append(Upload("1 GB in chunks", (413,), _endless, heavy=True))
    add("a head without end", (400, 431, CLOSED), head()[:-2] + b"X-Long: " + b"a" * 200_000)
    slow = [piece for byte in good[:30] for piece in (1.0, bytes([byte]))]
    add("a byte a second", 408, head(len(good)), *slow, heavy=True)
    assert len(found) == 52
    return found


def _endless() -> Iterator[bytes]:
    yield head()
    block = b"100000\r\n" + bytes(1 << 20) + b"\r\n"
    for _ in range(1024):
        yield block
    yield b"0\r\n\r\n"
