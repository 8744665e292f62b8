"""The `sample` data set, generated locally: crops of photographs, and crops reconstructed by a small auto-encoder.

REAL images are crops of photographs in scikit-image's wheel. FAKE images are other crops of the same photographs, after an
auto-encoder that upsamples with transposed convolutions as generators do. The code is the first principal component of each
colour's 4 x 4 patches at stride 2. A transposed convolution, fitted by least squares, reconstructs the coarse image; a second
one, with overlapping unsmoothed kernels, adds random detail in place of the lost one. The mean and the gradient energy of a
crop are preserved, its contrast nearly; the detectable trace is a lattice in the finest detail.
"""

from __future__ import annotations

import hashlib
import shutil
import tempfile
from importlib import util
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from bdd_tf.datasets.index import Record
from bdd_tf.edge.images.decode import read_image
from bdd_tf.edge.labels import LABELS
from bdd_tf.errors import BddError

VERSION = 3
SIZE = 32
#: Photographs by split. motorcycle_left and motorcycle_right show one scene and belong to the same split.
PHOTOGRAPHS = {
    "train": ("astronaut.png", "coffee.png", "retina.jpg", "moon.png", "brick.png", "hubble_deep_field.jpg",
              "motorcycle_left.png", "motorcycle_right.png"),
    "validation": ("rocket.jpg", "gravel.png"),
    "test": ("chelsea.png", "camera.png", "grass.png"),
}  # fmt: skip
_DIGEST = "images.sha256"
IMAGES = {"train": 2400, "validation": 400, "test": 600}

_PATCH, _CODE = 4, 1
#: Kernel of the second decoder, which generates detail; one axis.
_KERNEL = np.array([-0.5, 1.0, -0.5], np.float32)
#: Minimum strength of the generated detail, for crops whose gradients the first decoder preserves.
_LEAST = 0.3


def photographs_of(split: str) -> dict[str, np.ndarray]:
    """Load the photographs of a split, uint8 [H, W, 3] by name."""
    found = util.find_spec("skimage")
    if found is None or not found.submodule_search_locations:
        raise BddError(
            "the sample data set is cut from scikit-image's photographs: pip install 'bdd_tf[train]'."
        )
    folder = Path(found.submodule_search_locations[0]) / "data"
    return {name: read_image(folder / name) for name in PHOTOGRAPHS[split]}


def crops_of(
    photographs: dict[str, np.ndarray],
    count: int,
    rng: np.random.Generator,
    size: int = SIZE,
    scales: tuple[int, int] = (2, 5),
) -> np.ndarray:
    """Crop the photographs at random scales and positions, equally often.

    Args:
        photographs: uint8 [H, W, 3] by name.
        count: Number of crops.
        rng: Random generator.
        size: Side of a scaled crop in pixels, even.
        scales: Smallest and largest reduction; the largest is lowered for small photographs.

    Returns:
        uint8 [count, size, size, 3].
    """
    images = list(photographs.values())
    crops = np.empty((count, size, size, 3), np.uint8)
    for i in range(count):
        image = images[i % len(images)]
        side = int(rng.integers(scales[0] * size, min(scales[1] * size, min(image.shape[:2]) + 1)))
        y, x = (int(rng.integers(0, length - side + 1)) for length in image.shape[:2])
        crop = Image.fromarray(image[y : y + side, x : x + side])
        pixels = np.asarray(crop.resize((size, size), Image.Resampling.BILINEAR))
        crops[i] = pixels[:, ::-1] if rng.random() < 0.5 else pixels
    return crops


def _planes(x: np.ndarray) -> np.ndarray:
    """Colours [n, S, S, 3] as grey images [3 n, S, S]."""
    return np.moveaxis(x, 3, 1).reshape(-1, *x.shape[1:3])


def _patches(planes: np.ndarray) -> np.ndarray:
    """Patches at stride 2 of padded planes [n, S, S]: [n, S / 2 + 1, S / 2 + 1, 16]."""
    padded = np.pad(planes, ((0, 0), (2, 2), (2, 2)), mode="reflect")
    view: Any = np.lib.stride_tricks.sliding_window_view  # its stub allows one axis only
    windows = view(padded, (_PATCH, _PATCH), axis=(1, 2))[:, ::2, ::2]
    return windows.reshape(*windows.shape[:3], -1)


def _neighbours(code: np.ndarray) -> np.ndarray:
    """The four codes that contribute to a 2 x 2 block of the output, and a 1: [n, S / 2, S / 2, 4 * codes + 1]."""
    end = code.shape[1] - 1
    around = [code[:, dy : dy + end, dx : dx + end] for dy in (0, 1) for dx in (0, 1)]
    return np.concatenate([*around, np.ones_like(code[:, :end, :end, :1])], axis=-1)


def _blocks(planes: np.ndarray) -> np.ndarray:
    """[n, S, S] as 2 x 2 blocks [n, S / 2, S / 2, 4]."""
    n, s = planes.shape[0], planes.shape[1] // 2
    return planes.reshape(n, s, 2, s, 2).transpose(0, 1, 3, 2, 4).reshape(n, s, s, 4)


def _unblocked(blocks: np.ndarray) -> np.ndarray:
    n, s = blocks.shape[:2]
    return blocks.reshape(n, s, s, 2, 2).transpose(0, 1, 3, 2, 4).reshape(n, 2 * s, 2 * s)


def _transposed_convolution(code: np.ndarray) -> np.ndarray:
    """Upsample [n, S / 2, S / 2] with the detail kernel at stride 2: [n, S, S]."""
    n, s = code.shape[:2]
    out = np.zeros((n, 2 * s + 2, 2 * s + 2), np.float32)
    for dy, a in enumerate(_KERNEL):
        for dx, b in enumerate(_KERNEL):
            out[:, dy : dy + 2 * s : 2, dx : dx + 2 * s : 2] += (a * b) * code
    return out[:, 1:-1, 1:-1]


def _gradient(x: np.ndarray) -> np.ndarray:
    """Mean absolute difference of neighbours per crop, [n]."""
    return np.abs(np.diff(x, axis=1)).mean((1, 2, 3)) + np.abs(np.diff(x, axis=2)).mean((1, 2, 3))


class AutoEncoder:
    """Principal components as encoder, a transposed convolution fitted by least squares as decoder.

    Args:
        crops: [n, S, S, 3] uint8 to fit on, S even.
    """

    def __init__(self, crops: np.ndarray):
        planes = _planes(crops[::2].astype(np.float32) / 255)
        flat = _patches(planes).reshape(-1, _PATCH**2)
        self.mean = flat.mean(0)
        basis = np.linalg.eigh(np.cov(flat - self.mean, rowvar=False))[1][:, ::-1]
        self.basis = basis[:, :_CODE].astype(np.float32)
        inputs = _neighbours(self._encode(planes)).reshape(-1, 4 * _CODE + 1)
        gram = inputs.T @ inputs + 1e-3 * np.eye(4 * _CODE + 1)
        self.kernel = np.linalg.solve(gram, inputs.T @ _blocks(planes).reshape(-1, 4)).astype(np.float32)

    def _encode(self, planes: np.ndarray) -> np.ndarray:
        return (_patches(planes) - self.mean) @ self.basis

    def generate(self, crops: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Reconstruct crops [n, S, S, 3] uint8 from their codes, with generated detail."""
        x = crops.astype(np.float32) / 255
        planes = _unblocked(_neighbours(self._encode(_planes(x))) @ self.kernel)
        coarse = np.moveaxis(planes.reshape(-1, 3, *x.shape[1:3]), 1, 3)
        # Detail is generated where it was lost. Bisection finds the strength that restores the crop's gradient energy.
        lost = np.abs(_blocks((x - coarse).mean(3))).mean(-1)
        code = rng.normal(size=lost.shape).astype(np.float32) * (
            lost + 0.5 * lost.mean((1, 2), keepdims=True)
        )
        detail = _transposed_convolution(code)[..., None]
        goal, low, high = _gradient(x), np.zeros(len(x)), np.full(len(x), 4.0)
        for _ in range(12):
            centre = (low + high) / 2
            short = _gradient(coarse + centre[:, None, None, None].astype(np.float32) * detail) < goal
            low, high = np.where(short, centre, low), np.where(short, high, centre)
        out = coarse + np.maximum(low, _LEAST)[:, None, None, None].astype(np.float32) * detail
        return np.clip(np.rint(out * 255), 0, 255).astype(np.uint8)


def _digest(folder: Path) -> str:
    """Hash the names and contents of all images."""
    digest = hashlib.sha256()
    for file in sorted(folder.glob("*/*/*.png")):
        digest.update(f"{file.relative_to(folder).as_posix()}|".encode() + file.read_bytes())
    return digest.hexdigest()


def _intact(folder: Path) -> bool:
    try:
        return (folder / _DIGEST).read_text() == _digest(folder)
    except (OSError, ValueError):
        return False


def make(cache: Path) -> Path:
    """Generate the data set, unless the cache contains it.

    Args:
        cache: Folder of the cache.

    Returns:
        A folder of ``{train,validation,test}/{REAL,FAKE}/*.png``, reproducible on one machine.

    Raises:
        BddError: If scikit-image is not installed, or the cache cannot be written.
    """
    target = cache / f"sample-v{VERSION}"
    if _intact(target):
        return target
    partial = None
    try:
        cache.mkdir(parents=True, exist_ok=True)
        partial = Path(tempfile.mkdtemp(dir=cache, prefix=".sample-"))
        _write(partial)
        (partial / _DIGEST).write_text(_digest(partial))
        shutil.rmtree(target, ignore_errors=True)
        partial.replace(target)
    except OSError as error:
        if not _intact(target):  # no other process has written it in the meantime
            raise BddError(f"the sample data set cannot be written to {cache}: {error}.") from error
    finally:
        if partial:
            shutil.rmtree(partial, ignore_errors=True)
    return target


def scan(folder: Path) -> list[Record]:
    """List the images of the generated folder."""
    return [
        Record(file, f"{split}/{word}/{file.name}", label, split)
        for split in IMAGES
        for label, word in enumerate(LABELS)
        for file in sorted((folder / split / word).glob("*.png"))
    ]


def _write(root: Path) -> None:
    model = None
    for number, split in enumerate(IMAGES):
        rng = np.random.default_rng([VERSION, number])
        photographs = photographs_of(split)
        names = [Path(n).stem for n in photographs]
        half = IMAGES[split] // 2
        real, base = crops_of(photographs, half, rng), crops_of(photographs, half, rng)
        model = model or AutoEncoder(real)
        for word, crops in zip(LABELS, (real, model.generate(base, rng)), strict=True):
            for i, crop in enumerate(crops):
                file = root / split / word / f"{names[i % len(names)]}-{i:04d}.png"
                file.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(crop).save(file, compress_level=1)
