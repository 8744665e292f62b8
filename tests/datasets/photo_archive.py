"""A small archive in the layout of the data set `photos`, for tests: what users do not have, tests make."""

import csv
import io
from pathlib import Path

import numpy as np
from PIL import Image

from bdd_tf.datasets.photos import COLUMNS

REALS = ("camera-a", "camera-b", "camera-c")
FAKES = {"gan-1": "gan", "gan-2": "gan", "diffusion-1": "diffusion", "diffusion-2": "diffusion"}


def picture(rng, side=144):
    """Smooth shapes with some noise: JPEG finds something to do in them."""
    small = rng.integers(0, 256, (9, 9, 3), dtype=np.uint8)
    image = np.asarray(Image.fromarray(small).resize((side, side), Image.Resampling.BICUBIC)).astype(
        np.float32
    )
    return np.clip(image + rng.normal(0, 12, image.shape), 0, 255).astype(np.uint8)


def jpeg(image, quality, subsampling=2):
    with io.BytesIO() as file:
        Image.fromarray(image).save(file, "JPEG", quality=quality, subsampling=subsampling)
        return file.getvalue()


def write(
    folder: Path,
    per_source=24,
    seed=0,
    side=144,
    fake_quality=(75, 97),
    fake_sides=(192, 900),
    shared_content=True,
):
    """Write images and manifest.csv; both classes alike unless told otherwise.

    Contents: each source has its own, but for `prompt-0`, which all generators share.
    """
    rng, rows = np.random.default_rng(seed), []
    for source in (*REALS, *FAKES):
        fake = source in FAKES
        quality_range = fake_quality if fake else (75, 97)
        sides = fake_sides if fake else (192, 900)
        for i in range(per_source):
            split = "validation" if i % 6 == 5 else "train"
            kind = ("native", "scaled")[i % 2]
            short = round(float(np.exp(rng.uniform(*np.log(sides)))))
            quality = int(rng.integers(quality_range[0], quality_range[1] + 1))
            label = "FAKE" if fake else "REAL"
            path = f"{split}/{label}/{source}/{i:03}.jpg"
            file = folder / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(jpeg(picture(rng, side), quality))
            shared = fake and shared_content and i == 0
            content = "prompt-0" if shared else f"{source}:{i}"
            rows.append(dict(zip(COLUMNS, (path, label, split, source, FAKES.get(source, ""), content, f"{kind}0", 1.0,
                                           short, short + 50, "JPEG", quality, "t", f"{source}-{i}"), strict=True)))  # fmt: skip
    save(folder, rows)
    return rows


def save(folder, rows, columns=COLUMNS, name="manifest.csv"):
    with (folder / name).open("w", newline="") as file:
        table = csv.DictWriter(file, columns)
        table.writeheader()
        table.writerows(rows)
