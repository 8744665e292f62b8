"""What `bdd detect --explain` does: options in, a picture and JSON values per image out."""

from __future__ import annotations

import argparse
import hashlib
import itertools
import os
import sys
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from bdd_tf.edge.crops import Box, Score
from bdd_tf.edge.detector import Detector
from bdd_tf.edge.explanation import REFERENCE_IMAGES, create_explainer
from bdd_tf.edge.files import complete_file
from bdd_tf.edge.images import EXPLANATION_SUFFIX, ImageError, find_images, load_image
from bdd_tf.edge.labels import verdict
from bdd_tf.edge.reading import Loaded
from bdd_tf.edge.records import visible
from bdd_tf.errors import BddError, UsageError

EXPLAIN_LIMIT = 100
"""Images that are explained unless asked otherwise: each costs two hundred inferences."""

# Of a file name, in bytes: file systems take 255, and the name under which it is written is longer.
_LONGEST_NAME = 255 - len(EXPLANATION_SUFFIX) - 20


@dataclass(frozen=True)
class Request:
    """The options that concern explanations; checked.

    Attributes:
        folder: Where pictures go; None: beside the images.
        by: Name of the explainer; None: what there is.
        limit: Images that are explained; None: all.
        reference: Images, or a folder of them, for `bdd_tf.edge.explanation.ablate`.
    """

    folder: Path | None = None
    by: str | None = None
    limit: int | None = EXPLAIN_LIMIT
    reference: Path | None = None

    @classmethod
    def of(cls, args: argparse.Namespace) -> Request | None:
        """Check options that are wrong by themselves, before anything is opened.

        Returns:
            None where no explanation was asked for.

        Raises:
            UsageError: If one is out of range or belongs to something that was not asked for.
        """
        if args.explain is None:
            for option in ("explain_by", "explain_limit", "explain_reference"):
                if getattr(args, option) is not None:
                    raise UsageError(f"--{option.replace('_', '-')} belongs to --explain.")
            return None
        if args.camera is not None:
            raise UsageError("--explain is for images, not for a camera.")
        limit = EXPLAIN_LIMIT if args.explain_limit is None else args.explain_limit
        if limit < 0:
            raise UsageError(f"--explain-limit is {limit}; it must be at least 0 (0: all).")
        reference = None if args.explain_reference is None else Path(args.explain_reference)
        if reference is not None and not reference.exists():
            raise UsageError(f"--explain-reference is {str(reference)!r}, which does not exist.")
        if args.explain_by == "grad-cam" and args.run is None:
            raise UsageError("--explain-by grad-cam needs a run's Keras weights: give --run NAME.")
        return cls(Path(args.explain) if args.explain else None, args.explain_by, limit or None, reference)


class Explaining:
    """Explains scored images, up to a limit, and writes their pictures.

    Args:
        request: The options.
        detector: What scored.
        threshold: In [0, 1].
        run: The run's folder, if the model is a run's.

    Raises:
        UsageError: If the folder cannot be made, or the reference holds no readable image.
        BddError: If the model cannot be explained.
    """

    def __init__(
        self, request: Request, detector: Detector, threshold: float, run: Path | None = None
    ) -> None:
        self._request, self._detector, self._threshold = request, detector, threshold
        if request.folder is not None:
            try:
                request.folder.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise UsageError(
                    f"--explain: the folder {request.folder} cannot be made: {error.strerror or error}."
                ) from None
        self._by = request.by or _usual(run)
        reference = None if request.reference is None else _reference(request.reference, detector)
        self._explainer = create_explainer(self._by, detector, run=run, reference=reference)
        self._names: dict[Path, Path] = {}  # pictures, and the images they belong to
        self._explained = self._left = 0

    def __call__(self, item: Loaded, score: Score) -> tuple[dict[str, Any] | None, str | None]:
        """Explain an image, or of several views the one that looks most fake, and write its picture.

        Args:
            item: As read, with its size.
            score: What it was given.

        Returns:
            JSON values, None once the limit is reached; and why the picture could not be written, or None.

        Raises:
            BddError: If the model fails.
        """
        if self._request.limit is not None and self._explained >= self._request.limit:
            self._left += 1
            return None, None
        from bdd_tf.edge import heat_map

        if item.views is None or item.size is None:
            raise ValueError("an image without views or size cannot be explained")
        self._explained += 1
        seen = item.views.images[score.view]
        found = self._explainer(seen)
        values: dict[str, Any] = {
            "picture": None,
            "box": list(self._in_image(found.box, score.box, item.size)),
            **found.to_dict(),
        }
        path = self._picture_path(item.path)
        said = verdict(score.probability, self._threshold)
        title = item.path.name if score.views == 1 else f"{item.path.name}, the worst of {score.views} parts"
        picture = heat_map.draw(seen, found, said, title, score.probability)
        try:
            with complete_file(path) as partial:
                partial.write_bytes(heat_map.png(picture))
        except BddError as error:
            return (
                values,
                f"no picture of its explanation: {str(error).rstrip('.')} (--explain FOLDER writes elsewhere)",
            )
        return {**values, "picture": str(path)}, None

    def summary(self) -> str:
        """What was done, for people."""
        where = "beside them" if self._request.folder is None else f"in {self._request.folder}"
        text = f"{self._explained} explained by {self._by}, *{EXPLANATION_SUFFIX} {where}"
        return text + (f"; {self._left} more were not (--explain-limit 0: all)" if self._left else "")

    def _in_image(self, box: Box, view: Box | None, size: tuple[int, int]) -> Box:
        """A box of what the network saw in pixels of the image, at least one wide and inside it."""
        part = view or Box(*self._detector.resize.box(*size))
        side = self._detector.resize.size
        across, down = part.width / side, part.height / side
        left, top = part.left + int(box.left * across), part.top + int(box.top * down)
        left, top = min(left, size[0] - 1), min(top, size[1] - 1)
        width = max(1, min(round(box.width * across), size[0] - left))
        return Box(left, top, width, max(1, min(round(box.height * down), size[1] - top)))

    def _picture_path(self, image: Path) -> Path:
        folder = image.parent if self._request.folder is None else self._request.folder
        own = Path(os.path.abspath(image))  # noqa: PTH100 (a link is an image of its own, not what it points to)
        name = _short(image.name)
        for number in itertools.count(1):
            path = folder / f"{name}{'' if number == 1 else f'-{number}'}{EXPLANATION_SUFFIX}"
            if self._names.setdefault(path, own) == own:
                return path
        raise AssertionError  # counting has no end


def _short(name: str) -> str:
    """A name that leaves room for the suffix; of a longer one its beginning and a hash."""
    raw = os.fsencode(name)
    if len(raw) <= _LONGEST_NAME:
        return name
    return os.fsdecode(raw[: _LONGEST_NAME - 9]) + "-" + hashlib.sha256(raw).hexdigest()[:8]


def _usual(run: Path | None) -> str:
    """Grad-CAM where a run has weights and TensorFlow is there, else occlusion."""
    if run is None or not ((run / "config.yaml").is_file() and (run / "model.weights.h5").is_file()):
        return "occlusion"
    if find_spec("tensorflow") is None or find_spec("larq") is None:
        print("bdd: TensorFlow is not installed; explaining by occlusion", file=sys.stderr)
        return "occlusion"
    return "grad-cam"


def _reference(path: Path, detector: Detector) -> np.ndarray:
    """Readable images below a path, uint8 [R, S, S, 3], evenly spread, at most `REFERENCE_IMAGES`."""
    files = list(find_images([path]))
    step = max(1, len(files) // REFERENCE_IMAGES)
    images: list[np.ndarray] = []
    for file in files[::step][:REFERENCE_IMAGES]:
        try:
            images.append(load_image(file, detector.resize))
        except ImageError as error:
            print(visible(f"bdd: --explain-reference: {file}: {error}"), file=sys.stderr)
    if not images:
        raise UsageError(f"--explain-reference: no readable image in {path}.")
    return np.stack(images)
