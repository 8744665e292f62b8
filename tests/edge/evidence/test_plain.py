"""Nothing is invented: images without metadata have no evidence but the tables that really compressed them."""

from __future__ import annotations

import random

from PIL import Image, features

from bdd_tf.edge.evidence import find_evidence
from tests.edge.evidence.containers import encoded, picture

IMAGES = 500


def _options(form: str, numbers: random.Random) -> dict[str, object]:
    quality = numbers.randint(1, 100)
    if form == "JPEG":
        return {
            "quality": quality,
            "progressive": numbers.random() < 0.3,
            "optimize": numbers.random() < 0.3,
            "subsampling": numbers.randrange(3),
            "dpi": (numbers.randint(50, 300),) * 2,
        }
    if form == "WEBP":
        return {"quality": quality, "lossless": numbers.random() < 0.3}
    if form == "AVIF":
        return {"quality": quality, "speed": 10}
    if form == "TIFF":
        return {"compression": numbers.choice((None, "tiff_lzw", "tiff_adobe_deflate"))}
    return {}


def test_plain_images_have_no_evidence():
    numbers = random.Random(1)
    forms = [
        "JPEG",
        "JPEG",
        "PNG",
        "WEBP",
        "TIFF",
        "GIF",
        "BMP",
        *(["AVIF"] if features.check("avif") else []),
    ]
    seen = set()
    for number in range(IMAGES):
        form = numbers.choice(forms)
        image = picture(numbers.randint(1, 200), numbers.randint(1, 200), number)
        mode = numbers.choice(("RGB", "L", "RGB", "CMYK" if form in ("JPEG", "TIFF") else "RGB"))
        image = image.convert(mode)
        if form in ("PNG", "WEBP") and numbers.random() < 0.3:
            image.putalpha(128)
        options = _options(form, numbers)
        if form == "GIF" and numbers.random() < 0.5:
            options = {"save_all": True, "append_images": [picture(8, 8, number)]}
        found = find_evidence(encoded(form, image, **options))
        seen.add((form, image.mode))
        if form != "JPEG":
            assert found == (), (form, options)
            continue
        # Low qualities have equal tables, and are named by the highest of them.
        (item,) = found
        assert item.kind == "jpeg_tables"
        assert item.strength == "neutral"
        assert f"quality {options['quality']}," in item.says, (options, item)
    assert len(seen) >= 12


def test_unknown_tables_are_not_named():
    """Tables of no library that is known here, as those of a camera."""
    tables = [[5 + (7 * i) % 90 for i in range(64)] for _ in range(2)]
    assert find_evidence(encoded("JPEG", qtables=tables)) == ()


def test_black_and_one_pixel_images():
    for form in ("JPEG", "PNG", "WEBP", "GIF", "TIFF"):
        for size in ((1, 1), (300, 1), (64, 64)):
            found = find_evidence(encoded(form, Image.new("RGB", size)))
            assert {item.kind for item in found} <= {"jpeg_tables"}
