"""Generated files, one for each kind of metadata and container, and the evidence that each must give."""

from __future__ import annotations

import hashlib
import struct
import zlib
from collections.abc import Callable
from typing import NamedTuple

from PIL import Image

from tests.edge.evidence.containers import (
    C2PA_UUID,
    EXTENSION_NAME,
    XMP_NAME,
    box,
    c2pa_store,
    chunk,
    compressed_chunk,
    encoded,
    exif_segment,
    gif,
    heif,
    iim,
    international_chunk,
    jpeg,
    jumbf_segments,
    jxl,
    photoshop_segment,
    picture,
    png,
    resource,
    segment,
    sub_blocks,
    text_chunk,
    tiff,
    webp,
    xmp,
)

AI = "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"
COMPOSITE = "http://cv.iptc.org/newscodes/digitalsourcetype/compositeWithTrainedAlgorithmicMedia"
CAPTURE = "http://cv.iptc.org/newscodes/digitalsourcetype/digitalCapture"
PARAMETERS = "a cat on a roof\nNegative prompt: blurry\nSteps: 20, Sampler: Euler a, CFG scale: 7, Seed: 1"
GRAPH = '{"3": {"class_type": "KSampler", "inputs": {"seed": 1}}}'
SOFTWARE, DESCRIPTION, MAKE, MODEL = 0x0131, 0x010E, 0x010F, 0x0110
EXIF, COMMENT, NOTE, XP_COMMENT = 0x8769, 0x9286, 0x927C, 0x9C9C
PROPERTY = f"<Iptc4xmpExt:DigitalSourceType>{AI}</Iptc4xmpExt:DigitalSourceType>"
HISTORY = (
    "<xmpMM:History><rdf:Seq><rdf:li><stEvt:softwareAgent>Adobe Photoshop 25.1</stEvt:softwareAgent></rdf:li>"
    "</rdf:Seq></xmpMM:History>"
)
STORE = c2pa_store("Test Camera App", CAPTURE)


class Case(NamedTuple):
    """A file, and the kind, part of the words, place and strength of the evidence that it must give."""

    make: Callable[[], bytes]
    kind: str
    says: str
    where: str
    strength: str = "unverified"


def _xmp_segment(content: bytes) -> bytes:
    return segment(0xE1, XMP_NAME + content)


def _extended() -> bytes:
    whole = xmp(f"<dc:x>{'x' * 100_000}</dc:x>{PROPERTY}")
    guid = hashlib.md5(whole).hexdigest().upper().encode()
    parts = [
        segment(0xE1, EXTENSION_NAME + guid + struct.pack(">II", len(whole), at) + whole[at : at + 65_000])
        for at in range(0, len(whole), 65_000)
    ]
    # In any order.
    return jpeg(_xmp_segment(xmp(attributes=f'xmpNote:HasExtendedXMP="{guid.decode()}"')), *parts[::-1])


def _thumbnail(image: Image.Image, form: str = "JPEG") -> bytes:
    small = encoded(form, image.resize((60, 40), Image.Resampling.BILINEAR))
    return jpeg(exif_segment(tiff({MAKE: "Make"}, thumbnail=small)))


def _exif(**options: object) -> bytes:
    """An EXIF block by Pillow, as `Image.save` takes it."""
    exif = Image.Exif()
    exif[SOFTWARE] = "ComfyUI 0.3"
    return exif.tobytes()


def _xmp_gif(content: bytes) -> bytes:
    trailer = b"\1" + bytes(range(255, -1, -1)) + b"\0"
    return b"\x21\xff\x0bXMP DataXMP" + content + trailer


def _exif_item(block: bytes) -> bytes:
    return b"\0\0\0\0" + block


SMALL = tiff({SOFTWARE: "Adobe Lightroom 7.0"})

CASES: dict[str, Case] = {
    "jpeg exif software": Case(
        lambda: jpeg(exif_segment(SMALL)), "editor", "Lightroom 7.0", "JPEG EXIF Software"
    ),
    "jpeg exif little endian": Case(
        lambda: jpeg(exif_segment(tiff({SOFTWARE: "HDR+ 1.0.5"}, order="<"))),
        "software",
        "HDR+",
        "JPEG EXIF Software",
    ),
    "jpeg exif camera": Case(
        lambda: jpeg(exif_segment(tiff({MAKE: "Canon", MODEL: "EOS R5"}))),
        "camera",
        '"Canon EOS R5"',
        "JPEG EXIF",
    ),
    "jpeg exif description": Case(
        lambda: jpeg(exif_segment(tiff({DESCRIPTION: "Harbour at dawn"}))),
        "description",
        "Harbour",
        "ImageDescription",
    ),
    "jpeg exif comment": Case(
        lambda: jpeg(exif_segment(tiff({EXIF: {COMMENT: b"ASCII\0\0\0my holiday"}}))),
        "comment",
        "holiday",
        "UserComment",
    ),
    "jpeg exif parameters, utf-16": Case(
        lambda: jpeg(exif_segment(tiff({EXIF: {COMMENT: b"UNICODE\0" + PARAMETERS.encode("utf-16-be")}}))),
        "generator",
        "a cat on a roof",
        "UserComment",
    ),
    "jpeg exif parameters, other byte order": Case(
        lambda: jpeg(exif_segment(tiff({EXIF: {COMMENT: b"UNICODE\0" + PARAMETERS.encode("utf-16-le")}}))),
        "generator",
        "a cat on a roof",
        "UserComment",
    ),
    "jpeg exif xp comment": Case(
        lambda: jpeg(exif_segment(tiff({XP_COMMENT: "Prüfbild".encode("utf-16-le")}))),
        "comment",
        "Prüfbild",
        "XPComment",
    ),
    "jpeg exif maker note": Case(
        lambda: jpeg(exif_segment(tiff({EXIF: {NOTE: b"Nikon\0" * 300}}))),
        "maker_note",
        "1,800 bytes",
        "MakerNote",
    ),
    "jpeg thumbnail of the image": Case(
        lambda: _thumbnail(picture()), "thumbnail", "which shows the image", "JPEG EXIF", "neutral"
    ),
    "jpeg thumbnail of another image": Case(
        lambda: _thumbnail(picture(seed=2)), "thumbnail", "another picture", "JPEG EXIF", "hint"
    ),
    "jpeg xmp source type": Case(
        lambda: jpeg(_xmp_segment(xmp(PROPERTY))),
        "digital_source_type",
        "trainedAlgorithmicMedia",
        "JPEG XMP",
    ),
    "jpeg xmp source type, attribute": Case(
        lambda: jpeg(_xmp_segment(xmp(attributes=f'Iptc4xmpExt:DigitalSourceType="{COMPOSITE}"'))),
        "digital_source_type",
        "compositeWithTrainedAlgorithmicMedia",
        "JPEG XMP",
    ),
    "jpeg xmp source type, resource": Case(
        lambda: jpeg(_xmp_segment(xmp(f'<Iptc4xmpExt:DigitalSourceType rdf:resource="{CAPTURE}"/>'))),
        "digital_source_type",
        "captured by a digital camera",
        "JPEG XMP",
    ),
    "jpeg extended xmp": Case(_extended, "digital_source_type", "trained model", "JPEG extended XMP"),
    "jpeg xmp creator tool": Case(
        lambda: jpeg(_xmp_segment(xmp("<xmp:CreatorTool>GIMP 2.10</xmp:CreatorTool>"))),
        "editor",
        "GIMP 2.10",
        "CreatorTool",
    ),
    "jpeg xmp history": Case(
        lambda: jpeg(_xmp_segment(xmp(HISTORY))), "editor", "Adobe Photoshop 25.1", "stEvt:softwareAgent"
    ),
    "jpeg xmp ai system": Case(
        lambda: jpeg(_xmp_segment(xmp(attributes="Iptc4xmpExt:AISystemUsed='Model &amp; Co 3'"))),
        "generator",
        '"Model & Co 3"',
        "AISystemUsed",
    ),
    "jpeg xmp credit": Case(
        lambda: jpeg(_xmp_segment(xmp(attributes='photoshop:Credit="Made with Google AI"'))),
        "generator",
        "Google AI",
        "Credit",
    ),
    "jpeg xmp description": Case(
        lambda: jpeg(
            _xmp_segment(
                xmp(
                    '<dc:description><rdf:Alt><rdf:li xml:lang="x">Old town</rdf:li></rdf:Alt></dc:description>'
                )
            )
        ),
        "description",
        '"Old town"',
        "dc:description",
    ),
    "jpeg xmp remote manifest": Case(
        lambda: jpeg(_xmp_segment(xmp(attributes='dcterms:provenance="https://example.com/m.c2pa"'))),
        "c2pa_remote",
        "not fetched",
        "dcterms:provenance",
    ),
    "jpeg iim source type": Case(
        lambda: jpeg(photoshop_segment(resource(0x0404, iim(40, AI.encode())))),
        "digital_source_type",
        "trainedAlgorithmicMedia",
        "JPEG APP13 IPTC 2:40",
    ),
    "jpeg iim program": Case(
        lambda: jpeg(photoshop_segment(resource(0x0404, iim(65, b"Photo Mechanic") + iim(120, b"A goal")))),
        "editor",
        "Photo Mechanic",
        "IPTC 2:65",
    ),
    "jpeg iim credit": Case(
        lambda: jpeg(photoshop_segment(resource(0x0404, iim(110, b"Made with Google AI")))),
        "generator",
        "Google AI",
        "IPTC 2:110",
    ),
    "jpeg iim caption": Case(
        lambda: jpeg(photoshop_segment(resource(0x0404, iim(120, b"A goal")))),
        "description",
        "A goal",
        "IPTC 2:120",
    ),
    "jpeg photoshop resources": Case(
        lambda: jpeg(photoshop_segment(resource(0x03ED, bytes(16)), resource(0x0406, bytes(7)))),
        "editor",
        "Adobe Photoshop",
        "JPEG APP13",
    ),
    "jpeg photoshop thumbnail": Case(
        lambda: jpeg(
            photoshop_segment(resource(0x040C, bytes(28) + encoded("JPEG", picture(seed=3).resize((60, 40)))))
        ),
        "thumbnail",
        "another picture",
        "APP13 thumbnail",
        "hint",
    ),
    "jpeg export for the web": Case(
        lambda: jpeg(segment(0xEC, b"Ducky\0\1\0\4\0\0\0<\0\0")), "editor", "Photoshop", "JPEG APP12"
    ),
    "jpeg comment": Case(
        lambda: jpeg(segment(0xFE, b"by Midjourney")), "generator", "Midjourney", "JPEG comment"
    ),
    "jpeg comment by pillow": Case(
        lambda: encoded("JPEG", comment=b"CREATOR: gd-jpeg v1.0"), "comment", "gd-jpeg", "JPEG comment"
    ),
    "jpeg c2pa": Case(
        lambda: jpeg(*jumbf_segments(STORE)), "c2pa", 'by "Test Camera App"', "JPEG APP11", "manifest"
    ),
    "jpeg c2pa in several segments": Case(
        lambda: jpeg(*jumbf_segments(c2pa_store("Big", AI, padding=200_000))),
        "digital_source_type",
        "trained model",
        "JPEG APP11 actions",
        "manifest",
    ),
    "jpeg tables of libjpeg": Case(
        lambda: encoded("JPEG", quality=83), "jpeg_tables", "quality 83", "quantization tables", "neutral"
    ),
    "jpeg tables of photoshop": Case(
        lambda: encoded("JPEG", quality="web_high"),
        "jpeg_tables",
        "Adobe Photoshop",
        "quantization tables",
        "hint",
    ),
    "jpeg trailing bytes": Case(
        lambda: encoded("JPEG") + bytes(1234), "trailing_bytes", "1,234 bytes", "JPEG", "neutral"
    ),
    "jpeg trailing jpeg": Case(
        lambda: encoded("JPEG", progressive=True) + encoded("JPEG"),
        "trailing_bytes",
        "like a JPEG",
        "JPEG",
        "neutral",
    ),
    "png parameters": Case(
        lambda: png(text_chunk("parameters", PARAMETERS)),
        "generator",
        "a cat on a roof",
        'PNG tEXt "parameters"',
    ),
    "png prompt, compressed": Case(
        lambda: png(compressed_chunk("prompt", GRAPH)), "generator", "KSampler", 'PNG zTXt "prompt"'
    ),
    "png workflow, international": Case(
        lambda: png(international_chunk("workflow", GRAPH, zlib.compress(GRAPH.encode()))),
        "generator",
        "KSampler",
        'PNG iTXt "workflow"',
    ),
    "png software": Case(
        lambda: png(text_chunk("Software", "NovelAI")), "generator", "NovelAI", 'PNG tEXt "Software"'
    ),
    "png editor": Case(
        lambda: png(text_chunk("Software", "Adobe ImageReady, Photoshop")),
        "editor",
        "Photoshop",
        'PNG tEXt "Software"',
    ),
    "png comment": Case(
        lambda: png(text_chunk("Comment", "Created with GIMP")), "comment", "GIMP", 'PNG tEXt "Comment"'
    ),
    "png comment with parameters": Case(
        lambda: png(text_chunk("Comment", '{"prompt": "a cat", "steps": 28, "sampler": "k", "seed": 1}')),
        "generator",
        "parameters",
        'PNG tEXt "Comment"',
    ),
    "png xmp": Case(
        lambda: png(international_chunk("XML:com.adobe.xmp", xmp(PROPERTY).decode())),
        "digital_source_type",
        "trained model",
        "PNG iTXt XMP",
    ),
    "png exif": Case(lambda: encoded("PNG", exif=_exif()), "generator", "ComfyUI", "PNG eXIf Software"),
    "png c2pa": Case(lambda: png(chunk(b"caBX", STORE)), "c2pa", "Test Camera App", "PNG caBX", "manifest"),
    "png trailing bytes": Case(
        lambda: encoded("PNG") + b"PK\3\4more", "trailing_bytes", "ZIP", "PNG", "neutral"
    ),
    "webp exif": Case(lambda: webp((b"EXIF", SMALL)), "editor", "Lightroom", "WebP EXIF Software"),
    "webp exif by pillow": Case(
        lambda: encoded("WEBP", exif=_exif()), "generator", "ComfyUI", "WebP EXIF Software"
    ),
    "webp xmp": Case(
        lambda: webp((b"XMP ", xmp(PROPERTY))), "digital_source_type", "trained model", "WebP XMP"
    ),
    "webp c2pa": Case(lambda: webp((b"C2PA", STORE)), "c2pa", "Test Camera App", "WebP C2PA", "manifest"),
    "webp trailing bytes": Case(lambda: webp() + b"12", "trailing_bytes", "2 bytes", "WebP", "neutral"),
    "avif exif": Case(lambda: encoded("AVIF", exif=_exif()), "generator", "ComfyUI", "AVIF EXIF Software"),
    "avif xmp": Case(
        lambda: encoded("AVIF", xmp=xmp(PROPERTY)), "digital_source_type", "trained model", "AVIF XMP"
    ),
    "heic exif": Case(
        lambda: heif([(b"Exif", b"\0\0\0\6Exif\0\0" + SMALL)]), "editor", "Lightroom", "HEIF EXIF Software"
    ),
    "heic exif in idat": Case(
        lambda: heif([(b"Exif", _exif_item(SMALL))], in_idat=True),
        "editor",
        "Lightroom",
        "HEIF EXIF Software",
    ),
    "heic xmp in extents": Case(
        lambda: heif([(b"Exif", _exif_item(SMALL)), (b"mime", xmp(PROPERTY))], extents=3),
        "digital_source_type",
        "trained model",
        "HEIF XMP",
    ),
    "heic xmp": Case(
        lambda: heif([(b"Exif", _exif_item(SMALL)), (b"mime", xmp(PROPERTY))]),
        "digital_source_type",
        "trained model",
        "HEIF XMP",
    ),
    "heic c2pa": Case(
        lambda: heif([], box(b"uuid", C2PA_UUID + bytes(4) + b"manifest\0" + bytes(8) + STORE)),
        "c2pa",
        "Test Camera App",
        "HEIF uuid box",
        "manifest",
    ),
    "jpeg xl exif": Case(
        lambda: jxl(box(b"Exif", _exif_item(SMALL))), "editor", "Lightroom", "JPEG XL EXIF Software"
    ),
    "jpeg xl xmp": Case(
        lambda: jxl(box(b"xml ", xmp(PROPERTY))), "digital_source_type", "trained", "JPEG XL XMP"
    ),
    "jpeg xl c2pa": Case(lambda: jxl(STORE), "c2pa", "Test Camera App", "JPEG XL jumb box", "manifest"),
    "gif comment": Case(
        lambda: gif(b"\x21\xfe" + sub_blocks(b"x" * 300 + b" DALL-E")), "generator", "xxx", "GIF comment"
    ),
    "gif xmp": Case(lambda: gif(_xmp_gif(xmp(PROPERTY))), "digital_source_type", "trained model", "GIF XMP"),
    "gif c2pa": Case(
        lambda: gif(b"\x21\xff\x0bC2PA_GIF\1\0\0" + sub_blocks(STORE)),
        "c2pa",
        "Test Camera App",
        "GIF C2PA",
        "manifest",
    ),
    "gif trailing bytes": Case(lambda: encoded("GIF") + b"\1", "trailing_bytes", "1 byte ", "GIF", "neutral"),
    "tiff software": Case(
        lambda: encoded("TIFF", tiffinfo={SOFTWARE: "darktable 4.6"}), "editor", "darktable", "TIFF Software"
    ),
    "tiff xmp": Case(
        lambda: encoded("TIFF", tiffinfo={0x02BC: xmp(PROPERTY)}),
        "digital_source_type",
        "trained model",
        "TIFF XMP",
    ),
    "tiff iptc": Case(
        lambda: tiff({0x83BB: iim(120, b"A goal")}), "description", "A goal", "TIFF IPTC 2:120"
    ),
    "tiff c2pa": Case(lambda: tiff({0xCD41: STORE}), "c2pa", "Test Camera App", "TIFF C2PA", "manifest"),
}
