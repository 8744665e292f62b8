"""Image files for the tests: good ones, and ones that cannot be read."""

from pathlib import Path

import numpy as np
from PIL import Image


def write_images(folder: Path, count: int, seed: int = 0) -> list[Path]:
    """JPEGs of 32 x 32 pixels, smooth with some noise, so that scores differ."""
    random = np.random.default_rng(seed)
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for i in range(count):
        ramp = np.linspace(0, 255, 32)[:, None, None] * random.uniform(0.2, 1, 3)
        noise = random.normal(0, random.uniform(0, 60), (32, 32, 3))
        path = folder / f"{i:04}.jpg"
        Image.fromarray(np.clip(ramp + noise, 0, 255).astype(np.uint8)).save(path, quality=90)
        paths.append(path)
    return paths


def write_broken(folder: Path) -> dict[str, bytes]:
    """Files that are no readable images, with the suffix of one; returns content by name."""
    good = write_images(folder / "good", 1)[0].read_bytes()
    (folder / "good" / "0000.jpg").unlink()
    (folder / "good").rmdir()
    broken = {
        "empty.jpg": b"",
        "text.png": b"no image",
        "half.jpg": good[: len(good) // 2],
        "tail.jpg": good[99:],
    }
    broken["video.jpg"] = b"\0\0\0\x18ftypisom" + bytes(64)
    for name, content in broken.items():
        (folder / name).write_bytes(content)
    return broken
