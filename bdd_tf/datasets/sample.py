"""The `sample` data set, made on the spot: crops of photographs, and the same crops through a small decoder.

REAL are crops of photographs that lie in scikit-image's wheel. FAKE are further crops, passed through an
auto-encoder whose decoder is a transposed convolution with overlapping kernels, as in the generators whose
spectra this project looks at: principal components of 8 x 8 patches at stride 4 as code, the finer part of the
code drawn at random as a generator makes up detail, and a least-squares decoder that lays the patches over
each other. The mean, contrast and energy of a crop survive; the lattice of the decoder stays in the spectrum.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from importlib import util
from pathlib import Path

import numpy as np
from PIL import Image

from bdd_tf.edge.images import read_image
from bdd_tf.errors import BddError

VERSION = 1
SIZE = 32
#: Photographs by split. motorcycle_left and motorcycle_right are one scene and stay together.
PHOTOGRAPHS = {
    "train": ("astronaut.png", "coffee.png", "retina.jpg", "moon.png", "brick.png", "hubble_deep_field.jpg",
              "motorcycle_left.png", "motorcycle_right.png"),
    "validation": ("rocket.jpg", "gravel.png"),
    "test": ("chelsea.png", "camera.png", "grass.png"),
}  # fmt: skip
IMAGES = {"train": 2400, "validation": 400, "test": 600}

_PATCH, _STRIDE = 8, 4
_KEPT, _CODE = 14, 96


def _photographs(split: str) -> dict[str, np.ndarray]:
    found = util.find_spec("skimage")
    if found is None:
        raise BddError("the sample data set is cut from scikit-image's photographs: pip install 'bdd_tf[train]'.")
    folder = Path(found.submodule_search_locations[0]) / "data"
    return {name: read_image(folder / name) for name in PHOTOGRAPHS[split]}


def _crops(photographs: dict[str, np.ndarray], count: int, rng: np.random.Generator) -> np.ndarray:
    """Crops [count, SIZE, SIZE, 3] uint8 of varied scale, spread evenly over the photographs."""
    images = list(photographs.values())
    crops = np.empty((count, SIZE, SIZE, 3), np.uint8)
    for i in range(count):
        image = images[i % len(images)]
        side = int(rng.integers(SIZE, 4 * SIZE))
        y, x = (int(rng.integers(0, size - side + 1)) for size in image.shape[:2])
        crop = Image.fromarray(image[y : y + side, x : x + side])
        crop = np.asarray(crop.resize((SIZE, SIZE), Image.Resampling.BILINEAR))
        crops[i] = crop[:, ::-1] if rng.random() < 0.5 else crop
    return crops


def _patches(crops: np.ndarray) -> np.ndarray:
    """All 8 x 8 patches at stride 4 of padded crops: [n, 9, 9, 192] in [0, 1]."""
    padded = np.pad(crops / 255.0, ((0, 0), (_STRIDE, _STRIDE), (_STRIDE, _STRIDE), (0, 0)), mode="reflect")
    windows = np.lib.stride_tricks.sliding_window_view(padded, (_PATCH, _PATCH), axis=(1, 2))
    windows = windows[:, ::_STRIDE, ::_STRIDE]
    return windows.reshape(*windows.shape[:3], -1)


class AutoEncoder:
    """Principal components as encoder, a transposed convolution fitted by least squares as decoder.

    Args:
        crops: [n, SIZE, SIZE, 3] uint8 to fit on.
    """

    def __init__(self, crops: np.ndarray):
        patches = _patches(crops)
        flat = patches.reshape(-1, patches.shape[-1])
        self.mean = flat.mean(0)
        _, vectors = np.linalg.eigh(np.cov(flat - self.mean, rowvar=False))
        self.basis = vectors[:, ::-1][:, :_CODE]
        code = self._encode(crops)
        self.spread = code[..., _KEPT:].std(axis=(0, 1, 2))
        # Each 4 x 4 block of the output lies under four overlapping kernels: fit all four at once.
        inputs, blocks = self._neighbours(code), self._blocks(crops)
        gram = inputs.T @ inputs + 1e-3 * np.eye(inputs.shape[1])
        self.kernel = np.linalg.solve(gram, inputs.T @ blocks)

    def _encode(self, crops: np.ndarray) -> np.ndarray:
        return (_patches(crops) - self.mean) @ self.basis

    @staticmethod
    def _neighbours(code: np.ndarray) -> np.ndarray:
        around = [code[:, dy : dy + 8, dx : dx + 8] for dy in (0, 1) for dx in (0, 1)]
        flat = np.concatenate(around, axis=-1).reshape(-1, 4 * code.shape[-1])
        return np.concatenate([flat, np.ones((len(flat), 1))], axis=1)

    @staticmethod
    def _blocks(crops: np.ndarray) -> np.ndarray:
        n = len(crops)
        blocks = (crops / 255.0).reshape(n, 8, 4, 8, 4, 3).transpose(0, 1, 3, 2, 4, 5)
        return blocks.reshape(n * 64, 48)

    def generate(self, crops: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Re-create crops [n, SIZE, SIZE, 3] uint8: coarse structure kept, fine structure made up."""
        code = self._encode(crops)
        # Made-up detail is as strong as the crop's own: the energy of a crop gives nothing away.
        own = np.sqrt((code[..., _KEPT:] ** 2).mean(axis=(1, 2), keepdims=True))
        code[..., _KEPT:] = rng.normal(size=code[..., _KEPT:].shape) * own
        n = len(crops)
        out = (self._neighbours(code) @ self.kernel).reshape(n, 8, 8, 4, 4, 3).transpose(0, 1, 3, 2, 4, 5)
        return np.clip(np.rint(out.reshape(n, SIZE, SIZE, 3) * 255), 0, 255).astype(np.uint8)


def make(cache: Path) -> Path:
    """Make the data set, or find it made.

    Args:
        cache: Folder below which it is kept.

    Returns:
        A folder of ``{train,validation,test}/{REAL,FAKE}/*.png``, the same on every machine.

    Raises:
        BddError: If scikit-image is not installed.
    """
    target = cache / f"sample-v{VERSION}"
    expected = sum(IMAGES.values())
    if target.is_dir():
        if sum(1 for _ in target.glob("*/*/*.png")) == expected:
            return target
        shutil.rmtree(target)
    cache.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(dir=cache, prefix=".sample-"))
    try:
        fitted = None
        for number, split in enumerate(IMAGES):
            rng = np.random.default_rng([VERSION, number])
            photographs = _photographs(split)
            half = IMAGES[split] // 2
            real, base = _crops(photographs, half, rng), _crops(photographs, half, rng)
            fitted = fitted or AutoEncoder(real)
            for label, crops in (("REAL", real), ("FAKE", fitted.generate(base, rng))):
                folder = partial / split / label
                folder.mkdir(parents=True)
                names = [Path(n).stem for n in photographs]
                for i, crop in enumerate(crops):
                    Image.fromarray(crop).save(folder / f"{names[i % len(names)]}-{i:04d}.png", compress_level=1)
        os.replace(partial, target)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return target
