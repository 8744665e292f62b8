"""Each kind of metadata is found in each container, and nothing else is."""

from __future__ import annotations

import zlib

import pytest

from bdd_tf.edge.evidence import Evidence, find_evidence
from tests.edge.evidence.cases import CASES, Case
from tests.edge.evidence.containers import (
    encoded,
    exif_segment,
    international_chunk,
    jpeg,
    png,
    text_chunk,
    tiff,
    xmp,
)

STRENGTHS = ("verified", "broken", "unverified", "hint", "neutral")


def test_there_are_enough_cases():
    assert len(CASES) >= 40


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_evidence_of_each_kind_and_container(case: Case):
    found = find_evidence(case.make())
    match = [e for e in found if e.kind == case.kind and case.says in e.says and case.where in e.where]
    assert len(match) == 1, found
    if case.strength != "manifest":
        assert match[0].strength == case.strength
    else:  # unsigned: unverified here, and with c2pa-python one that cannot be read
        assert match[0].strength in ("unverified", "broken")
    for item in found:
        assert item.strength in STRENGTHS
        assert item.says.isprintable()
        assert item.where.isprintable()


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_nothing_is_found_that_is_not_there(case: Case):
    """Only the case's own kind, what comes with it, and the tables of Pillow's JPEG files."""
    beside = {
        "jpeg iim program": {"description"},
        "heic xmp": {"editor"},
        "heic xmp in extents": {"editor"},
        "jpeg thumbnail of the image": {"camera"},
        "jpeg thumbnail of another image": {"camera"},
    }
    content = case.make()
    allowed = {case.kind, *beside.get(next(name for name in CASES if CASES[name] is case), set())}
    if case.kind in ("c2pa", "digital_source_type"):
        allowed |= {"c2pa", "digital_source_type"}
    if content[:2] == b"\xff\xd8":
        allowed.add("jpeg_tables")
    assert {item.kind for item in find_evidence(content)} <= allowed


def test_a_path_and_its_content_give_the_same(tmp_path):
    for name in ("jpeg c2pa", "png parameters", "jpeg thumbnail of another image"):
        path = tmp_path / "file"
        content = CASES[name].make()
        path.write_bytes(content)
        assert (
            find_evidence(path)
            == find_evidence(str(path))
            == find_evidence(content)
            == find_evidence(bytearray(content))
        )


def test_as_dict_has_the_four_keys():
    item = Evidence("software", "says", "where", "unverified")
    assert item.as_dict() == {"kind": "software", "says": "says", "where": "where", "strength": "unverified"}


@pytest.mark.parametrize("level", range(10))
@pytest.mark.parametrize("strategy", [zlib.Z_DEFAULT_STRATEGY, zlib.Z_FIXED, zlib.Z_HUFFMAN_ONLY, zlib.Z_RLE])
def test_compressed_text_is_inflated_as_zlib_deflated_it(level: int, strategy: int):
    """The property stands at the end, behind text of several blocks and distances."""
    filler = "".join(f"<dc:x>{i * i} {'ab' * (i % 40)}</dc:x>" for i in range(3000))
    text = xmp(f"{filler}<xmp:CreatorTool>GIMP {level}{strategy}</xmp:CreatorTool>")
    packer = zlib.compressobj(level, zlib.DEFLATED, 15, 8, strategy)
    packed = packer.compress(text) + packer.flush()
    (item,) = find_evidence(png(international_chunk("XML:com.adobe.xmp", "", packed)))
    assert item.says.endswith(f'"GIMP {level}{strategy}"')


def test_text_is_cleaned():
    """Control characters, bytes that are no UTF-8 and characters that turn the direction of writing."""
    block = tiff(
        {0x0131: b"Dark\x1b[31m\xe9 \xe2\x80\xae table\n\n4".decode("latin-1").encode("latin-1") + b"\0"}
    )
    (item,) = (e for e in find_evidence(jpeg(exif_segment(block))) if e.kind != "jpeg_tables")
    assert item.says.endswith('"Dark [31mé table 4"')
    (item,) = find_evidence(png(text_chunk("Comment", "x" * 5000)))
    assert item.says == f'text: "{"x" * 160}…"'


def test_words_of_a_name_are_whole():
    """`gimp` is no part of another word."""
    (item,) = find_evidence(png(text_chunk("Software", "gimpel 3 by Ungrokable")))
    assert item.kind == "software"


def test_other_formats_give_nothing():
    for content in (b"", b"\0", b"BM" + bytes(100), encoded("BMP"), b"text" * 100):
        assert find_evidence(content) == ()


def test_a_missing_file_is_an_error(tmp_path):
    from bdd_tf.edge.images.errors import ImageError

    with pytest.raises(ImageError, match="no such file"):
        find_evidence(tmp_path / "missing.jpg")
