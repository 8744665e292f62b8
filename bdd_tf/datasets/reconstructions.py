"""Writes the folder of reconstructed photographs: fakes by our own decoders, and resampled photographs beside them.

Each reconstruction is encoded with its photograph's own quantization tables and subsampling and keeps its row of the
manifest but for label, source and family: content, codec and size are equal in both classes. Resampled photographs
stay REAL: softness alone is no sign of a fake.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import io
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from bdd_tf.console import say
from bdd_tf.datasets import codecs
from bdd_tf.datasets.folds import REAL_HELD_OUT
from bdd_tf.datasets.photos import COLUMNS, MANIFEST, OWN_DECODERS, Photo, read_files, read_manifest
from bdd_tf.edge.labels import FAKE, LABELS, REAL
from bdd_tf.errors import UsageError, one_of
from bdd_tf.files import write_atomically

#: Side of the crops that are reconstructed; others are left out.
SIDE = 144
#: Resampling chains for REAL: name -> (factor, filter down, filter up).
CHAINS = {
    "resampled-bicubic": (0.5, "bicubic", "bicubic"),
    "resampled-lanczos": (0.67, "lanczos", "lanczos"),
    "resampled-linear": (0.75, "cv-area", "cv-linear"),
    "resampled-upscaled": (1.5, "cv-cubic", "bilinear"),
}


def encode_like(image: NDArray[np.uint8], original: bytes) -> bytes:
    """A JPEG of the image with the quantization tables and chroma subsampling of another JPEG.

    Args:
        image: uint8 [H, W, 3].
        original: The other file.

    Returns:
        The file. For an original that is no JPEG, or has unusual sampling: quality 92, 4:2:0.
    """
    from PIL import JpegImagePlugin

    options: dict = {"quality": 92, "subsampling": 2}
    with Image.open(io.BytesIO(original)) as file:
        if isinstance(file, JpegImagePlugin.JpegImageFile) and file.mode == "RGB":
            sampling = JpegImagePlugin.get_sampling(file)
            if sampling in (0, 1, 2):
                options = {"qtables": file.quantization, "subsampling": sampling}
    with io.BytesIO() as out:
        Image.fromarray(image).save(out, "JPEG", **options)
        return out.getvalue()


def resample(image: NDArray[np.uint8], chain: str) -> NDArray[np.uint8]:
    """Down (or up) and back again, by one of :data:`CHAINS`; uint8 [H, W, 3] of the same size."""
    factor, there, back = CHAINS[chain]
    height, width = image.shape[:2]
    small = codecs.resize(image, round(width * factor), round(height * factor), there)
    return codecs.resize(small, width, height, back)


def chosen_reals(photos: Sequence[Photo], leave_out: tuple[str, ...] = REAL_HELD_OUT) -> list[Photo]:
    """The training photographs that may be reconstructed: real, not of a source that is held out everywhere."""
    return [
        photo
        for photo in photos
        if photo.label == REAL and photo.split == "train" and photo.source not in leave_out
    ]


class Writer:
    """Writes images, and the manifest of all images so far whenever it is told to.

    Args:
        folder: Where to; it must be empty or absent.
    """

    def __init__(self, folder: Path):
        if folder.exists() and any(folder.iterdir()):
            raise UsageError(f"{folder} is not empty; give a new folder for the reconstructions.")
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._rows: list[Photo] = []

    def add(self, photo: Photo, original: bytes, image: NDArray[np.uint8], source: str, label: int) -> None:
        """Write one image and remember its row."""
        name = hashlib.sha256(f"{source}|{photo.path}".encode()).hexdigest()[:16]
        path = f"{LABELS[label]}/{source}/{name}.jpg"
        file = self._folder / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(encode_like(image, original))
        self._rows.append(replace(photo, path=path, label=label, source=source, family=OWN_DECODERS))

    def save(self) -> int:
        """Write the manifest of what is there, so that a run that is stopped leaves a usable folder; returns its rows."""
        with io.StringIO(newline="") as text:
            table = csv.writer(text, lineterminator="\n")
            table.writerow(COLUMNS)
            for row in self._rows:
                values = {name: getattr(row, name) for name in COLUMNS}
                values |= {"label": LABELS[row.label], "kind": f"{row.kind}0", "scale": f"{row.scale:.4f}"}
                table.writerow([values[name] for name in COLUMNS])
            write_atomically(self._folder / MANIFEST, text.getvalue().encode())
        return len(self._rows)


def write(
    data_dir: str | Path, output: str | Path, *, updates: int = 500, images: int = 800, resampled: int = 400,
    names: Sequence[str] = (), seed: int = 0,
) -> dict[str, float]:  # fmt: skip
    """Train all decoders on real training crops and write their reconstructions.

    Args:
        data_dir: The data set ``photos``.
        output: A new folder.
        updates: Optimizer steps of each decoder.
        images: Photographs that each decoder reconstructs, drawn for each.
        resampled: Photographs per resampling chain.
        names: Decoders to use; none given: all.
        seed: Of choice and training.

    Returns:
        Mean PSNR in dB by decoder.

    Raises:
        UsageError: For an unknown decoder, a folder in use, or too few photographs.
    """
    from bdd_tf.datasets import decoders

    known = {spec.name: spec for spec in decoders.SPECS}
    for name in names:
        if name not in known:
            raise one_of("decoder", name, tuple(known))
    specs = [known[name] for name in names or known]
    photos = chosen_reals(read_manifest(data_dir))
    contents = read_files(data_dir, photos)
    pixels = [codecs.decode(content, photo.path) for photo, content in zip(photos, contents, strict=True)]
    square = [i for i, image in enumerate(pixels) if image.shape == (SIDE, SIDE, 3)]
    if len(square) < 100:
        raise UsageError(
            f"{data_dir} holds {len(square)} real training crops of {SIDE} px; at least 100 are needed."
        )
    crops = np.stack([pixels[i] for i in square])
    writer, fidelity = Writer(Path(output)), {}
    for number, chain in enumerate(CHAINS):
        for row in np.random.default_rng([seed, number, 61]).permutation(len(square))[:resampled]:
            i = square[row]
            writer.add(photos[i], contents[i], resample(crops[row], chain), chain, REAL)
    for number, spec in enumerate(specs):
        start = time.process_time()
        model = decoders.train(spec, crops, updates, seed=seed + number)
        rows = np.random.default_rng([seed, number, 59]).permutation(len(square))[:images]
        made = decoders.reconstruct(model, crops[rows])
        fidelity[spec.name] = float(decoders.psnr(crops[rows], made).mean())
        for row, image in zip(rows, made, strict=True):
            i = square[row]
            writer.add(photos[i], contents[i], image, spec.name, FAKE)
        total = writer.save()
        say(
            f"{spec.name}: PSNR {fidelity[spec.name]:.1f} dB, {decoders.seconds(start)}, {total} images so far"
        )
    return fidelity


def main(argv: list[str] | None = None) -> int:
    """`python -m bdd_tf.datasets.reconstructions`."""
    parser = argparse.ArgumentParser(description=(write.__doc__ or "").splitlines()[0], allow_abbrev=False)
    parser.add_argument("--data-dir", required=True, help="folder of the data set photos")
    parser.add_argument("--output", required=True, help="new folder for the reconstructions")
    parser.add_argument("--updates", type=int, default=500, help="optimizer steps per decoder (500)")
    parser.add_argument("--images", type=int, default=800, help="photographs per decoder (800)")
    parser.add_argument("--decoder", action="append", default=[], help="only this one; may be repeated")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args(argv)
    write(
        args.data_dir,
        args.output,
        updates=args.updates,
        images=args.images,
        names=args.decoder,
        seed=args.seed,
    )
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
