"""A report on a hostile image, for the tests of the page and of its looks."""

import numpy as np
from PIL import Image
from PIL.PngImagePlugin import PngInfo

NAME = "<script>alert(1)<\u2044script>\"'&amp;.png"
TEXT = '"><img src=https://example.invalid/x.png onerror=alert(2)> Steps: 20, Sampler: Euler a, Seed: 42'


def write_hostile(folder, seed=3):
    """An image whose name and metadata hold markup."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:130, 0:170]
    pixels = (np.stack([x, y, 255 - x], -1) + rng.normal(0, 6, (130, 170, 3))).clip(0, 255).astype(np.uint8)
    info = PngInfo()
    info.add_text("parameters", TEXT)
    info.add_text("Software", "<b>paint</b>")
    path = folder / NAME
    Image.fromarray(pixels).save(path, pnginfo=info)
    return path
