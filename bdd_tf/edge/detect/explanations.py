"""`bdd detect --explain`: explain scored images, write a heat map and JSON values for each."""

from __future__ import annotations

import hashlib
import itertools
import os
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bdd_tf.edge.detect.explain_options import ExplainOptions
from bdd_tf.edge.detect.loader import Loaded
from bdd_tf.edge.detector import Detector
from bdd_tf.edge.explain.channels import REFERENCE_IMAGES
from bdd_tf.edge.explain.explainers import create_explainer
from bdd_tf.edge.explain.places import json_values
from bdd_tf.edge.images.crops import Score
from bdd_tf.edge.images.decode import open_image
from bdd_tf.edge.images.errors import ImageError
from bdd_tf.edge.images.find import EXPLANATION_SUFFIX, find_images
from bdd_tf.edge.text import visible
from bdd_tf.errors import BddError, UsageError
from bdd_tf.files import complete_file

# Maximum length of a file name without the suffix, in bytes. File systems allow 255; the margin is for the temporary
# name, which is longer than the final one.
_LONGEST_NAME = 255 - len(EXPLANATION_SUFFIX) - 20


class ExplanationWriter:
    """Explains scored images, up to a limit, and writes their heat maps.

    Args:
        options: The options.
        detector: The detector that scored the images.
        run: Run folder of the model, if it belongs to a run.

    Raises:
        UsageError: If the output folder cannot be created, or the reference contains no readable image.
        BddError: If the model cannot be explained.
    """

    def __init__(self, options: ExplainOptions, detector: Detector, run: Path | None = None) -> None:
        self._options, self._detector = options, detector
        if options.folder is not None:
            try:
                options.folder.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise UsageError(
                    f"--explain: the folder {options.folder} cannot be created: {error.strerror or error}."
                ) from None
        self._by = options.by or _default_explainer(run)
        reference = None if options.reference is None else _load_reference(options.reference, detector)
        try:
            self._explainer = create_explainer(self._by, detector, run=run, reference=reference)
        except BddError as error:
            if options.by or self._by == "occlusion":
                raise
            # For example a run of a plug-in: its file works without it, and so does occlusion.
            print(f"bdd: {self._by} cannot load the run; explaining by occlusion: {error}", file=sys.stderr)
            self._by = "occlusion"
            self._explainer = create_explainer(self._by, detector, reference=reference)
        self._images: dict[Path, Path] = {}  # image of each heat map
        self._explained = self._left_out = 0

    def __call__(self, item: Loaded, score: Score, label: str) -> tuple[dict[str, Any] | None, str | None]:
        """Explain an image and write its heat map; of several views, explain the most suspicious one.

        Args:
            item: The image, with its size.
            score: Score of the image.
            label: Verdict on it, for the heat map.

        Returns:
            The explanation as JSON values, or None once the limit is reached; and the reason why the heat map could
            not be written, or None.

        Raises:
            BddError: If the model fails.
        """
        if self._options.limit is not None and self._explained >= self._options.limit:
            self._left_out += 1
            return None, None
        from bdd_tf.edge.explain import heat_map

        if item.views is None or item.size is None:
            raise ValueError("an image without views or size cannot be explained")
        self._explained += 1
        seen = item.views.images[score.view]
        found = self._explainer(seen)
        rule = self._detector.resize
        values = json_values(found, item.views, score, item.size, rule)
        path = self._heat_map_path(item.path)
        title = item.path.name if score.views == 1 else f"{item.path.name}, the worst of {score.views} parts"
        picture = heat_map.draw(
            seen,
            found,
            label,
            title,
            score.probability,
            None if item.deviation is None else item.deviation.note,
            None
            if item.preview is None
            else heat_map.photo_of(item.preview, found, item.views, score.view, item.size, rule),
        )
        try:
            with complete_file(path, follow=False) as partial:
                partial.write_bytes(heat_map.png(picture))
        except BddError as error:
            return (
                values,
                f"no heat map was written: {str(error).rstrip('.')} (--explain FOLDER selects another folder)",
            )
        return {**values, "picture": str(path)}, None

    def summary(self) -> str:
        """Return one line about the explanations written."""
        where = "next to the images" if self._options.folder is None else f"in {self._options.folder}"
        text = f"{self._explained} explained by {self._by}: *{EXPLANATION_SUFFIX} {where}"
        return text + (f"; {self._left_out} more were not (--explain-limit 0: all)" if self._left_out else "")

    def _heat_map_path(self, image: Path) -> Path:
        """Return a path that no other image of this run uses."""
        folder = image.parent if self._options.folder is None else self._options.folder
        own = Path(os.path.abspath(image))  # noqa: PTH100 (resolve() would merge a symbolic link with its target)
        name = _short(image.name)
        for number in itertools.count(1):
            path = folder / f"{name}{'' if number == 1 else f'-{number}'}{EXPLANATION_SUFFIX}"
            if self._images.setdefault(path, own) == own:
                return path
        raise AssertionError  # count() is infinite


def _short(name: str) -> str:
    """Return a name that leaves room for the suffix; longer names are truncated and made unique by a hash."""
    raw = os.fsencode(name)
    if len(raw) <= _LONGEST_NAME:
        return name
    return os.fsdecode(raw[: _LONGEST_NAME - 9]) + "-" + hashlib.sha256(raw).hexdigest()[:8]


def _default_explainer(run: Path | None) -> str:
    """Return Grad-CAM if there is a run with weights and TensorFlow is installed, else occlusion."""
    if run is None or not ((run / "config.yaml").is_file() and (run / "model.weights.h5").is_file()):
        return "occlusion"
    if find_spec("tensorflow") is None or find_spec("larq") is None:
        print("bdd: TensorFlow is not installed; explaining by occlusion", file=sys.stderr)
        return "occlusion"
    return "grad-cam"


def _load_reference(path: Path, detector: Detector) -> NDArray[np.uint8]:
    """Load at most `REFERENCE_IMAGES` images, evenly spread over all found below a path: uint8 [R, S, S, 3]."""
    files = list(find_images([path]))
    step = max(1, len(files) // REFERENCE_IMAGES)
    images: list[NDArray[np.uint8]] = []
    cropper = detector.cropper()
    for file in files[::step][:REFERENCE_IMAGES]:
        try:
            images.append(cropper(open_image(file)).images[0])
        except ImageError as error:
            print(visible(f"bdd: --explain-reference: {file}: {error}"), file=sys.stderr)
    if not images:
        raise UsageError(f"--explain-reference: no readable image in {path}.")
    return np.stack(images)
