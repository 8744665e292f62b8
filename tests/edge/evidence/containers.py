"""Image files with blocks of metadata, put together byte by byte or by Pillow."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Iterable

import numpy as np
from PIL import Image

XMP_NAME = b"http://ns.adobe.com/xap/1.0/\0"
EXTENSION_NAME = b"http://ns.adobe.com/xmp/extension/\0"
C2PA_UUID = bytes.fromhex("d8fec3d61b0e483c92975828877ec481")


def picture(width: int = 96, height: int = 64, seed: int = 1) -> Image.Image:
    """A picture with structure at every scale."""
    random = np.random.default_rng(seed)
    coarse = Image.fromarray(random.integers(0, 255, (6, 8, 3), np.uint8))
    fine = random.integers(-20, 20, (height, width, 3))
    pixels = np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC)).astype(int) + fine
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))


def encoded(form: str, image: Image.Image | None = None, **options: object) -> bytes:
    """A file by Pillow, without metadata unless ``options`` give some."""
    file = io.BytesIO()
    (image or picture()).save(file, form, **options)
    return file.getvalue()


def segment(marker: int, content: bytes) -> bytes:
    return bytes((0xFF, marker)) + (len(content) + 2).to_bytes(2, "big") + content


def jpeg(*segments: bytes, file: bytes | None = None) -> bytes:
    """A JPEG file with segments behind the first marker."""
    plain = file or encoded("JPEG")
    return plain[:2] + b"".join(segments) + plain[2:]


def jumbf_segments(store: bytes, instance: int = 1, part: int = 60_000) -> list[bytes]:
    """A JUMBF box in as many APP11 segments as it needs."""
    header, content = store[:8], store[8:]
    parts = [content[at : at + part] for at in range(0, len(content), part)]
    return [
        segment(0xEB, b"JP" + struct.pack(">HI", instance, number + 1) + header + piece)
        for number, piece in enumerate(parts)
    ]


def chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png(*chunks: bytes) -> bytes:
    """A PNG file with chunks behind IHDR."""
    plain = encoded("PNG")
    return plain[:33] + b"".join(chunks) + plain[33:]


def text_chunk(keyword: str, text: str) -> bytes:
    return chunk(b"tEXt", keyword.encode() + b"\0" + text.encode("latin-1"))


def compressed_chunk(keyword: str, text: str, packed: bytes | None = None) -> bytes:
    packed = zlib.compress(text.encode()) if packed is None else packed
    return chunk(b"zTXt", keyword.encode() + b"\0\0" + packed)


def international_chunk(keyword: str, text: str, packed: bytes | None = None) -> bytes:
    flag = b"\0\0" if packed is None else b"\1\0"
    return chunk(b"iTXt", keyword.encode() + b"\0" + flag + b"en\0\0" + (packed or text.encode()))


def webp(*chunks: tuple[bytes, bytes]) -> bytes:
    """A WebP file with chunks behind the pixels."""
    parts = [encoded("WEBP", lossless=True)[12:]]
    parts += [
        kind + struct.pack("<I", len(content)) + content + b"\0" * (len(content) % 2)
        for kind, content in chunks
    ]
    body = b"".join(parts)
    return b"RIFF" + struct.pack("<I", len(body) + 4) + b"WEBP" + body


def box(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content) + 8) + kind + content


def heif(
    items: Iterable[tuple[bytes, bytes]] = (), *boxes: bytes, in_idat: bool = False, extents: int = 1
) -> bytes:
    """The boxes of a HEIC file without pixels: items are kind (``Exif`` or ``mime``) and content, in so many extents."""
    items = list(items)
    head = box(b"ftyp", b"heic\0\0\0\0mif1heic") + b"".join(boxes)
    entries = b""
    for number, (kind, _) in enumerate(items, 1):
        name = b"\0" + (b"application/rdf+xml\0" if kind == b"mime" else b"")
        entries += box(b"infe", b"\2\0\0\0" + struct.pack(">HH", number, 0) + kind + name)
    iinf = box(b"iinf", b"\0\0\0\0" + struct.pack(">H", len(items)) + entries)

    def iloc(start: int) -> bytes:
        at, places = start, b""
        for number, (_, content) in enumerate(items, 1):
            places += struct.pack(">HHHH", number, int(in_idat), 0, extents)
            for part in np.array_split(np.frombuffer(content, np.uint8), extents):
                places += struct.pack(">II", at, len(part))
                at += len(part)
        return box(b"iloc", b"\1\0\0\0\x44\0" + struct.pack(">H", len(items)) + places)

    data = b"".join(content for _, content in items)
    idat = box(b"idat", data) if in_idat else b""
    size = len(box(b"meta", b"\0\0\0\0" + iinf + iloc(0) + idat))
    start = 0 if in_idat else len(head) + size + 8
    return (
        head + box(b"meta", b"\0\0\0\0" + iinf + iloc(start) + idat) + box(b"mdat", b"" if in_idat else data)
    )


def jxl(*boxes: bytes) -> bytes:
    """The boxes of a JPEG XL file without pixels."""
    signature = box(b"JXL ", b"\r\n\x87\n")
    return signature + box(b"ftyp", b"jxl \0\0\0\0jxl ") + b"".join(boxes) + box(b"jxlc", b"\xff\x0a")


def gif(*blocks: bytes) -> bytes:
    """A GIF file with blocks behind the color table."""
    plain = encoded("GIF")
    start = 13 + 3 * (2 << (plain[10] & 7))
    return plain[:start] + b"".join(blocks) + plain[start:]


def sub_blocks(content: bytes) -> bytes:
    parts = [content[at : at + 255] for at in range(0, len(content), 255)]
    return b"".join(bytes((len(part),)) + part for part in parts) + b"\0"


def tiff(
    tags: dict[int, bytes | str | dict[int, bytes | str]], *, thumbnail: bytes = b"", order: str = ">"
) -> bytes:
    """A TIFF structure: texts (type 2) and bytes (type 7) by tag; a directory as a dict."""
    out = bytearray((b"MM" if order == ">" else b"II") + struct.pack(order + "HI", 42, 8))

    def write(entries: dict[int, bytes | str | dict[int, bytes | str] | int], following: bool) -> None:
        at = len(out)
        out.extend(bytes(2 + 12 * len(entries) + 4))
        out[at : at + 2] = struct.pack(order + "H", len(entries))
        for number, (tag, value) in enumerate(sorted(entries.items())):
            place = at + 2 + 12 * number
            if isinstance(value, dict):
                packed = struct.pack(order + "HHII", tag, 4, 1, len(out))
                write(value, False)
            elif isinstance(value, int):
                packed = struct.pack(order + "HHII", tag, 4, 1, value)
            else:
                content = value.encode() + b"\0" if isinstance(value, str) else value
                packed = struct.pack(order + "HHI", tag, 2 if isinstance(value, str) else 7, len(content))
                if len(content) <= 4:
                    packed += content.ljust(4, b"\0")
                else:
                    packed += struct.pack(order + "I", len(out))
                    out.extend(content)
            out[place : place + 12] = packed
        if following:
            out[at + 2 + 12 * len(entries) : at + 6 + 12 * len(entries)] = struct.pack(order + "I", len(out))

    write(dict(tags), bool(thumbnail))
    if thumbnail:
        second = len(out)
        at = second + 2 + 24 + 4
        out.extend(struct.pack(order + "H", 2))
        out.extend(struct.pack(order + "HHII", 0x0201, 4, 1, at))
        out.extend(struct.pack(order + "HHII", 0x0202, 4, 1, len(thumbnail)))
        out.extend(bytes(4) + thumbnail)
    return bytes(out)


def exif_segment(tiff_block: bytes) -> bytes:
    return segment(0xE1, b"Exif\0\0" + tiff_block)


def xmp(properties: str = "", attributes: str = "") -> bytes:
    """A packet with elements and attributes of one description."""
    return (
        '<?xpacket begin="" id="W5M0MpCehiHzreSzNTczkc9d"?><x:xmpmeta xmlns:x="adobe:ns:meta/">'
        '<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
        f'<rdf:Description rdf:about="" {attributes}>{properties}</rdf:Description></rdf:RDF></x:xmpmeta>'
        '<?xpacket end="w"?>'
    ).encode()


def resource(number: int, content: bytes) -> bytes:
    """A Photoshop image resource."""
    return b"8BIM" + struct.pack(">HHI", number, 0, len(content)) + content + b"\0" * (len(content) % 2)


def photoshop_segment(*resources: bytes) -> bytes:
    return segment(0xED, b"Photoshop 3.0\0" + b"".join(resources))


def iim(number: int, text: bytes) -> bytes:
    return b"\x1c\2" + bytes((number,)) + struct.pack(">H", len(text)) + text


def cbor(value: object) -> bytes:
    """Maps, lists, texts and numbers in CBOR."""

    def head(major: int, number: int) -> bytes:
        if number < 24:
            return bytes((major << 5 | number,))
        return bytes((major << 5 | 25,)) + struct.pack(">H", number)

    if isinstance(value, dict):
        return head(5, len(value)) + b"".join(cbor(key) + cbor(item) for key, item in value.items())
    if isinstance(value, list):
        return head(4, len(value)) + b"".join(map(cbor, value))
    if isinstance(value, str):
        return head(3, len(value.encode())) + value.encode()
    assert isinstance(value, int)
    return head(0, value)


def jumbf(label: str, *children: bytes) -> bytes:
    """A super box."""
    return box(b"jumb", box(b"jumd", bytes(16) + b"\3" + label.encode() + b"\0") + b"".join(children))


def c2pa_store(
    generator: str = "Test 1.0", source_type: str = "", padding: int = 0, manifests: int = 1
) -> bytes:
    """A store of manifests without signatures; the last one has the claim."""
    actions = {"actions": [{"action": "c2pa.created", "digitalSourceType": source_type}]}
    claim = {"claim_generator": "old/1", "claim_generator_info": [{"name": generator}]}
    last = jumbf(
        "urn:uuid:2",
        jumbf(
            "c2pa.assertions",
            jumbf("c2pa.thumbnail.claim", box(b"bidb", bytes(padding))),
            jumbf("c2pa.actions.v2", box(b"cbor", cbor(actions))),
        ),
        jumbf("c2pa.claim.v2", box(b"cbor", cbor(claim))),
    )
    return jumbf("c2pa", *[jumbf("urn:uuid:1")] * (manifests - 1), last)
