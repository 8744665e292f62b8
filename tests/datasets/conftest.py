"""Tiny trees of images for the data set tests."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image


def write_image(path: Path, seed: int, size: tuple[int, int] = (32, 32)) -> Path:
    """A random image, different for every seed; lossless unless the name ends in .jpg."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return path


@pytest.fixture
def cache(tmp_path):
    return tmp_path / "cache"


@pytest.fixture
def image():
    return write_image


@pytest.fixture
def split_tree(tmp_path):
    """train and test, REAL and FAKE: 40 and 6 images each, as a folder data set."""
    root = tmp_path / "tree"
    for s, (split, number) in enumerate((("train", 40), ("test", 6))):
        for c, word in enumerate(("REAL", "FAKE")):
            for i in range(number):
                write_image(root / split / word / f"{i}.png", 10_000 * s + 1_000 * c + i)
    return root


@pytest.fixture
def flat_tree(tmp_path):
    """REAL and FAKE without splits, 100 small images each."""
    root = tmp_path / "flat"
    for c, word in enumerate(("REAL", "FAKE")):
        for i in range(100):
            write_image(root / word / f"{i}.png", 1_000 * c + i, (8, 8))
    return root
