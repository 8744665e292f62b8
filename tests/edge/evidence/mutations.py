"""Damaged files: mutated cases, and files that are made to be expensive."""

from __future__ import annotations

import random
import struct
import zlib
from collections.abc import Iterator

from tests.edge.evidence.cases import CASES, PARAMETERS
from tests.edge.evidence.containers import (
    box,
    c2pa_store,
    cbor,
    chunk,
    compressed_chunk,
    encoded,
    exif_segment,
    heif,
    iim,
    international_chunk,
    jpeg,
    jumbf,
    jumbf_segments,
    photoshop_segment,
    png,
    segment,
    sub_blocks,
    tiff,
    webp,
)

CLAIM = 100 << 20
"""Bytes that a length field claims: 100 MiB."""


def mutated(count: int, seed: int = 1) -> Iterator[tuple[str, bytes]]:
    """Cases with bytes and words replaced, parts repeated, moved or cut off."""
    numbers = random.Random(seed)
    files = {name: case.make() for name, case in CASES.items()}
    for number in range(count):
        name = numbers.choice(list(files))
        content = bytearray(files[name])
        for _ in range(numbers.randint(1, 8)):
            at = numbers.randrange(min(len(content), 2000))
            kind = numbers.randrange(5)
            if kind == 0:
                content[at] = numbers.randrange(256)
            elif kind == 1:  # a length of 100 MB, the largest one, or an odd one
                value = numbers.choice((CLAIM, 0xFFFFFFFF, 0x7FFFFFFF, 0, 1))
                content[at : at + 4] = value.to_bytes(4, numbers.choice(("big", "little")))
            elif kind == 2:
                end = at + numbers.randrange(1, 200)
                content[at:at] = content[at:end]
            elif kind == 3:
                content[at : at + 2] = struct.pack(">H", numbers.randrange(65536))
            elif numbers.random() < 0.3 and len(content) > 100:
                del content[numbers.randrange(50, len(content)) :]
        yield f"{number}: {name}", bytes(content)


def _loop() -> bytes:
    """A TIFF file whose directories point to themselves."""
    block = bytearray(tiff({0x8769: {0x9286: b"ASCII\0\0\0x"}}))
    block[18:22] = struct.pack(">I", 8)  # the EXIF directory is the first one
    block[22:26] = struct.pack(">I", 8)  # and so is the next one
    return bytes(block)


def expensive() -> dict[str, bytes]:
    """Files with false lengths, loops, or very many or very large parts."""
    bomb = zlib.compress(bytes(CLAIM))
    deep_cbor = b"\x81" * 100_000
    nested = b""
    for _ in range(2000):
        nested = box(b"jumb", nested)
    entries = struct.pack(">HHII", 0x9286, 7, 60_000, 100) * 4000
    many_entries = b"MM\0\x2a" + struct.pack(">IH", 8, 4000) + entries + b"ASCII\0\0\0" + b"Steps: 1" * 8000
    claim = struct.pack(">I", CLAIM)
    directory = b"".join(struct.pack(">I", 8) + b"free" for _ in range(200_000))
    return {
        "png chunk claims 100 MB": encoded("PNG")[:33] + claim + b"tEXtComment\0x",
        "png bomb": png(compressed_chunk("Comment", "", bomb)),
        "png bombs": png(*[compressed_chunk("Comment", "", bomb)] * 40),
        "png bomb of xmp": png(*[international_chunk("XML:com.adobe.xmp", "", bomb)] * 40),
        "png many comments": png(*[chunk(b"tEXt", b"Comment\0" + PARAMETERS.encode()[:20])] * 200_000),
        "png many empty chunks": png(chunk(b"tEXt", b"")) + chunk(b"tEXt", b"") * 500_000,
        "jpeg many exif": jpeg(*[exif_segment(tiff({0x0131: "x"}))] * 100_000),
        "jpeg many comments": jpeg(*[segment(0xFE, b"a comment %d" % i) for i in range(200_000)]),
        "jpeg many stores": jpeg(*jumbf_segments(c2pa_store(), part=20) * 2000),
        "jpeg only markers": b"\xff\xd8\xff\xe0" + b"\xff" * 20_000_000,
        "jpeg only stuffing": encoded("JPEG")[:-2] + b"\xff\0" * 10_000_000,
        "jpeg extended xmp far away": jpeg(
            segment(0xE1, b"http://ns.adobe.com/xmp/extension/\0" + b"A" * 32 + claim + claim + b"x" * 100)
        ),
        "jpeg app11 claims 100 MB": jpeg(segment(0xEB, b"JP\0\1\0\0\0\1" + claim + b"jumb" + b"x" * 100)),
        "jpeg many iim": jpeg(
            *[photoshop_segment(b"8BIM\4\4\0\0\0\0\xf0\0" + iim(120, b"x") * 10_240)] * 300
        ),
        "exif loop": jpeg(exif_segment(_loop())),
        "tiff loop": _loop(),
        "tiff many entries": many_entries,
        "tiff entry claims 100 MB": tiff({0x0131: "x" * 9}).replace(struct.pack(">I", 10), claim),
        "xmp without an end": jpeg(segment(0xE1, b"http://ns.adobe.com/xap/1.0/\0" + b"<a b='" * 10_000)),
        "xmp of 30 MB": webp((b"XMP ", b"<x:a><!-- " * 3_000_000)),
        "xmp many properties": webp((b"XMP ", b'<a dc:description="x"/>' * 1_000_000)),
        "webp chunk claims 100 MB": webp()[:12] + b"XMP " + struct.pack("<I", CLAIM) + b"<x>",
        "webp many chunks": webp(*[(b"EXIF", b"")] * 500_000),
        "heif box of size 0 within": heif([(b"Exif", b"\0\0\0\0")], bytes(8)),
        "heif box claims 100 MB": heif()[:24] + claim + b"meta",
        "heif many boxes": box(b"ftyp", b"heic\0\0\0\0") + directory,
        "heif many items": heif([(b"Exif", b"\0\0\0\0" + tiff({0x0131: "x"}))] * 3000),
        "heif many extents": heif([(b"Exif", b"\0\0\0\0" + tiff({0x0131: "x" * 4000}))] * 16, extents=4000),
        "heif long extents": heif([(b"mime", b"<x:a>" * 1_000_000)] * 16, extents=200),
        "gif many comments": b"GIF89a" + bytes(7) + (b"\x21\xfe" + sub_blocks(b"x" * 300)) * 60_000,
        "gif endless image": b"GIF89a" + bytes(7) + b"\x2c" + bytes(9) + b"\2" + b"\1x" * 5_000_000,
        "c2pa nested boxes": webp((b"C2PA", nested)),
        "c2pa nested cbor": webp((b"C2PA", _store_with(deep_cbor))),
        "c2pa wide cbor": webp(
            (b"C2PA", _store_with(b"\x9b\xff\xff\xff\xff\xff\xff\xff\xff" + cbor("x") * 1_000_000))
        ),
        "c2pa empty maps": webp((b"C2PA", _store_with(b"\x9a\xff\xff\xff\xff" + b"\xa0" * 10_000_000))),
        "c2pa many manifests": webp((b"C2PA", jumbf("c2pa", *[jumbf("urn:1")] * 100_000))),
    }


def _store_with(claim: bytes) -> bytes:
    return jumbf("c2pa", jumbf("urn:uuid:1", jumbf("c2pa.claim", box(b"cbor", claim))))
