"""The detector: one .tflite file, the images it is shown, the scores it gives."""

from __future__ import annotations

import itertools
import math
import os
import threading
import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from bdd_tf.edge.engines import DEFAULT_ENGINE, Engine, create_engine
from bdd_tf.edge.familiarity import Strangeness, TrainedOn, UnfamiliarImageWarning
from bdd_tf.edge.images import ImageError, ImageSource, ResizeRule, load_sized
from bdd_tf.edge.labels import LABELS, verdict
from bdd_tf.edge.shipped import shipped_model
from bdd_tf.edge.tflite_file import METADATA_FORMAT, TfliteModel, parse_tflite, read_metadata
from bdd_tf.errors import BddError, UsageError

BATCH = 8
"""Images that go through the network together."""


class Detector:
    """Scores images with a .tflite file that `bdd convert` wrote.

    May be shared between threads, and used in a ``with`` statement, which frees the runtime at its end.

    Args:
        model: Path of the file; None for the model shipped in the package.
        engine: One of `bdd_tf.edge.engines.engine_names`; None for LiteRT with our delegate.
        num_threads: Threads that one inference may use, at least 1.

    Attributes:
        threshold: Score in [0, 1] from which on an image is called fake, as validated for this model.
        thresholds: Others by rate of false alarms: from there on at most that share of real images was called fake
            in validation. Empty where the file has none; `threshold_for` looks them up.
        labels: ``("REAL", "FAKE")``.
        metadata: The file's metadata: a dict with ``backbone``, ``channels``, ``resolution`` and so on.
        resize: The file's resize rule.
        model: The parsed file.
        trained_on: What the training images were like; None if the file does not tell.
        engine_name: Name of the engine in use.
        num_threads: As given.

    Raises:
        UsageError: If there is no such file or engine, or ``num_threads`` is less than 1.
        BddError: If the file is no .tflite file, damaged, without metadata, or cannot be run.

    Example:
        >>> with Detector("model.tflite") as detector:  # doctest: +SKIP
        ...     detector.predict(["a.jpg", "b.png"])
        array([0.02, 0.97], dtype=float32)
    """

    def __init__(
        self, model: str | Path | None = None, *, engine: str | None = None, num_threads: int = 1
    ) -> None:
        if num_threads < 1:
            raise UsageError(f"num_threads is {num_threads}; it must be at least 1.")
        self._lock = threading.Lock()
        self._engine: Engine | None = None
        path = shipped_model() if model is None else Path(model)
        content = _read_model(path)
        try:
            self.model: TfliteModel = parse_tflite(content)
            self.metadata: dict[str, Any] = read_metadata(self.model)
            self.resize = _resize_rule(self.metadata)
            self.threshold = _threshold(self.metadata.get("threshold"))
            self.thresholds = _thresholds(self.metadata)
            self.labels = _labels(self.metadata)
            self.trained_on = TrainedOn.from_metadata(self.metadata)
            _check_signature(self.model, self.resize)
            self._engine = create_engine(self.model, engine or DEFAULT_ENGINE, num_threads)
        except UsageError:
            raise
        except BddError as error:
            raise BddError(f"{path}: {error}") from error
        self.engine_name = self._engine.name
        self.num_threads = num_threads

    def predict(self, images: ImageSource | Iterable[ImageSource]) -> NDArray[np.float32]:
        """Score images, brought to the network's size by the file's own rule.

        Args:
            images: A path, a PIL image, the bytes of an image file, a uint8 array [H, W, 3], or several of
                these: a list, an iterator (read batch by batch), an array [N, H, W, 3].

        Returns:
            float32 array [N] of fake probabilities in [0, 1], in the order given; N is 1 for a single image.

        Warns:
            UnfamiliarImageWarning: If an image is unlike those that the model was trained on; `note` tells which is.
                ``warnings.simplefilter("ignore", UnfamiliarImageWarning)`` silences it.

        Raises:
            ImageError: If an image cannot be read; the text names it. No scores are returned then.
            UsageError: If something is no image at all.
            BddError: If the runtime fails, or the detector is closed.
        """
        several = _one_by_one(images)
        scores, strange = [], False
        while part := [self._load(image) for image in itertools.islice(several, BATCH)]:
            scores.append(self.predict_batch(np.stack([image for image, _ in part])))
            strange = strange or any(strangeness for _, strangeness in part)
        if strange and self.trained_on:
            # The same words every time, so that Python's own filter shows them once.
            warnings.warn(
                f"scored an image unlike those that the model was trained on ({self.trained_on.describe()}): its "
                "score says little. Detector.note(image) tells which image is, and why.",
                UnfamiliarImageWarning,
                stacklevel=2,
            )
        return np.concatenate(scores) if scores else np.empty(0, np.float32)

    def predict_batch(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Score images that already have the network's size; the part of `predict` after reading.

        Args:
            images: uint8 [N, S, S, 3] with S = ``resize.size``, N at least 1.

        Returns:
            float32 array [N] of fake probabilities in [0, 1].

        Raises:
            UsageError: If the array has another shape or type.
            BddError: If the runtime fails, its output is no probability, or the detector is closed.
        """
        shape = (self.resize.size, self.resize.size, 3)
        array = isinstance(images, np.ndarray)
        if not array or images.dtype != np.uint8 or images.shape[1:] != shape or len(images) == 0:
            given = f"{images.dtype} of shape {list(images.shape)}" if array else f"a {type(images).__name__}"
            raise UsageError(
                f"a batch for this model must be uint8 [N, {', '.join(map(str, shape))}] with N at least 1; "
                f"this one is {given}."
            )
        with self._lock:
            if self._engine is None:
                raise BddError("this detector is closed; make a new one.")
            scores = self._engine.run(images)
        if scores.shape != (len(images),) or not ((scores >= 0) & (scores <= 1)).all():
            raise BddError("the model's output is not one probability in [0, 1] per image; convert it again.")
        return scores

    def note(self, image: ImageSource) -> str | None:
        """What sets one image apart from those that the model was trained on (`bdd_tf.edge.familiarity`).

        Args:
            image: As for `predict`, a single one.

        Returns:
            A few words; None if nothing does, or the file does not tell what it was trained on.

        Raises:
            ImageError: If it cannot be read.
            UsageError: If it is no image at all.
        """
        strangeness = self._load(image)[1]
        return None if strangeness is None else strangeness.note

    def verdicts(self, scores: NDArray[np.floating[Any]]) -> list[str]:
        """``"REAL"`` or ``"FAKE"`` for each score, by the model's threshold."""
        return [verdict(float(score), self.threshold) for score in scores]

    def threshold_for(self, false_alarms: float) -> float:
        """The threshold at which at most a given share of the real validation images was called fake.

        Args:
            false_alarms: One of the rates in ``thresholds``, e.g. 0.01.

        Returns:
            In [0, 1].

        Raises:
            UsageError: If the file has none for this rate; lists those it has.
        """
        if false_alarms in self.thresholds:
            return self.thresholds[false_alarms]
        known = ", ".join(f"{rate:g}" for rate in self.thresholds)
        raise UsageError(
            f"this model has no threshold for a false alarm rate of {false_alarms:g}; "
            + (f"possible: {known}." if known else "it has none for any, so give --threshold instead.")
        )

    def close(self) -> None:
        """Free the runtime; scoring raises from here on. Closing twice is fine."""
        with self._lock:
            self._engine = None

    def __enter__(self) -> Detector:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _load(self, image: ImageSource) -> tuple[NDArray[np.uint8], Strangeness | None]:
        try:
            seen, size = load_sized(image, self.resize)
            return seen, None if self.trained_on is None else self.trained_on.strangeness(*size, seen)
        except ImageError as error:
            name = f"{image}: " if isinstance(image, (str, os.PathLike)) else ""
            raise ImageError(f"{name}{error}") from None


def _one_by_one(images: ImageSource | Iterable[ImageSource]) -> Iterator[ImageSource]:
    if isinstance(images, (str, os.PathLike, bytes, bytearray, memoryview, Image.Image)):
        return iter((images,))
    if isinstance(images, np.ndarray):
        return iter(images if images.ndim == 4 else (images,))
    # What is nothing of the kind is left for load_image, which says what it may be.
    return iter(images if isinstance(images, Iterable) else (images,))


def _read_model(path: Path) -> bytes:
    try:
        if not path.exists():
            raise UsageError(f"no such model: {path}")
        if not path.is_file():
            raise UsageError(f"the model must be a .tflite file, and this is none: {path}")
        return path.read_bytes()
    except (OSError, ValueError) as error:
        raise BddError(
            f"the model {path} cannot be read: {getattr(error, 'strerror', None) or error}"
        ) from None


def _resize_rule(metadata: dict[str, Any]) -> ResizeRule:
    # First of all, because a file of a later layout may differ in everything else.
    layout = metadata.get("format")
    if isinstance(layout, bool) or not isinstance(layout, int) or not 1 <= layout <= METADATA_FORMAT:
        raise BddError(
            f"its metadata has format {layout!r}, and this version of bdd_tf reads {METADATA_FORMAT}; "
            "upgrade bdd_tf, or convert the network again."
        )
    try:
        return ResizeRule.from_dict(metadata.get("resize"))
    except UsageError as error:
        raise BddError(f"its metadata is damaged: {error}") from None


def _threshold(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= 1:
        raise BddError(f"its metadata is damaged: the threshold is {value!r}, not a number in [0, 1].")
    return float(value)


def _thresholds(metadata: dict[str, Any]) -> dict[float, float]:
    given = metadata.get("thresholds", {})
    if not isinstance(given, dict):
        raise BddError("its metadata is damaged: thresholds is no mapping.")
    found = {}
    for text, value in given.items():
        try:
            rate = float(text)
        except ValueError:
            rate = math.nan
        if not 0 < rate < 1:
            raise BddError(f"its metadata is damaged: {text[:40]!r} is no rate of false alarms in (0, 1).")
        found[rate] = _threshold(value)
    return dict(sorted(found.items()))


def _labels(metadata: dict[str, Any]) -> tuple[str, str]:
    labels = metadata.get("labels")
    if labels != list(LABELS):
        raise BddError(f"its metadata is damaged: the labels are {labels!r}, not {list(LABELS)!r}.")
    return LABELS


def _check_signature(model: TfliteModel, rule: ResizeRule) -> None:
    """Refuse files whose input or output is not what DESIGN promises, before a runtime sees them."""
    inputs, outputs = model.inputs, model.outputs
    expected = (1, rule.size, rule.size, 3)
    if len(inputs) != 1 or inputs[0].dtype != "uint8" or inputs[0].shape != expected:
        given = ", ".join(f"{tensor.dtype} {list(tensor.shape)}" for tensor in inputs) or "nothing"
        raise BddError(f"a detector takes one uint8 input {list(expected)}; this model takes {given}.")
    if len(outputs) != 1 or outputs[0].dtype != "float32" or math.prod(outputs[0].shape) != 1:
        given = ", ".join(f"{tensor.dtype} {list(tensor.shape)}" for tensor in outputs) or "nothing"
        raise BddError(f"a detector yields one float32 output [1, 1]; this model yields {given}.")
