"""A thumbnail is compared with its image."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from bdd_tf.edge.evidence.thumbnails import shows_another
from tests.edge.evidence.containers import encoded, picture

IMAGE = picture(600, 400)


def _small(image: Image.Image, size: tuple[int, int] = (160, 107), quality: int = 60) -> bytes:
    return encoded("JPEG", image.resize(size, Image.Resampling.LANCZOS), quality=quality)


@pytest.mark.parametrize("turns", range(4))
def test_a_thumbnail_of_the_image(turns: int):
    """Also when the image was turned upright and the thumbnail was not."""
    upright = IMAGE.rotate(90 * turns, expand=True)
    assert shows_another(_small(IMAGE), upright) is False
    assert shows_another(_small(IMAGE), np.asarray(upright)) is False


def test_brightness_and_bars_make_no_difference():
    brighter = Image.fromarray((np.asarray(IMAGE) * 0.6 + 90).astype(np.uint8))
    assert shows_another(_small(IMAGE), brighter) is False
    padded = Image.new("RGB", (160, 120))
    padded.paste(IMAGE.resize((160, 107)), (0, 6))
    assert shows_another(encoded("JPEG", padded), IMAGE) is False


def test_another_picture_and_another_part():
    assert shows_another(_small(picture(600, 400, 2)), IMAGE) is True
    assert shows_another(_small(IMAGE), IMAGE.crop((0, 0, 300, 200))) is True
    assert shows_another(_small(IMAGE), IMAGE.crop((0, 0, 300, 400))) is True


def test_what_cannot_be_told():
    assert shows_another(b"\xff\xd8 damaged", IMAGE) is None
    assert shows_another(_small(IMAGE)[:200], IMAGE) is None
    assert shows_another(_small(Image.new("RGB", (600, 400), "grey")), IMAGE) is None
    assert shows_another(_small(IMAGE), Image.new("RGB", (600, 400), "grey")) is None
    assert shows_another(_small(IMAGE, (12, 8)), IMAGE) is None
