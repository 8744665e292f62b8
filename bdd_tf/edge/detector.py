"""The detector: load a .tflite file of this package and score images with it."""

from __future__ import annotations

import itertools
import math
import os
import threading
import warnings
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from bdd_tf.edge.checks import choice, number_within, whole_number
from bdd_tf.edge.engines import DEFAULT_ENGINE, Engine, create_engine
from bdd_tf.edge.images.crops import Cropper, Views
from bdd_tf.edge.images.decode import ImageSource, open_image
from bdd_tf.edge.images.errors import ImageError
from bdd_tf.edge.images.opening import is_file_object
from bdd_tf.edge.images.out_of_distribution import Deviation, OutOfDistributionWarning, TrainingStatistics
from bdd_tf.edge.images.resize import ResizeRule
from bdd_tf.edge.images.rules import Rule, rule_of
from bdd_tf.edge.images.views import ViewRule, size_of
from bdd_tf.edge.labels import LABELS, DecisionRule, band_of
from bdd_tf.edge.model_identity import ModelIdentity
from bdd_tf.edge.runtime import MAX_THREADS
from bdd_tf.edge.shipped_model import FOLDER, model_path, no_such_model
from bdd_tf.edge.tflite.file import TfliteModel
from bdd_tf.edge.tflite.metadata import read_metadata
from bdd_tf.edge.view_scores import BATCH, score_views
from bdd_tf.errors import BddError, UsageError
from bdd_tf.files import exists


class Detector:
    """Scores images with a .tflite file written by `bdd convert`.

    Instances are thread-safe and work as context managers, which free the runtime on exit.

    Args:
        model: Path of the file; None for the model bundled with the package.
        engine: One of `bdd_tf.edge.engines.engine_names`; None for ``"auto"``: this package's own runtime
            (``"native"``), or LiteRT with this package's delegate (``"litert"``) for files that it does not cover.
        num_threads: Number of threads per inference, 1 to 64.

    Attributes:
        threshold: Decision threshold in [0, 1], chosen on validation images, or for photo models on real images of cameras
            that training never saw: scores from it upwards are FAKE.
        unsure: Band of scores that are not decided, ``(low, high)``; None if the file has none.
        decide: The file's rule for verdicts: threshold and band (`bdd_tf.edge.labels.DecisionRule`).
        thresholds: Further thresholds by false positive rate: at each, at most that fraction of the real validation
            images is labelled FAKE. Empty if the file has none; see `threshold_for`.
        labels: ``("REAL", "FAKE")``.
        metadata: Metadata of the file: a dict with ``backbone``, ``channels``, ``resolution`` and so on.
        rule: The rule stored in the file, which turns an image into network inputs: a `ResizeRule`, or a
            `bdd_tf.edge.images.views.ViewRule` for native crops.
        views: The rule if it is one for native crops, else None.
        resize: The resize transform stored in the file; with native crops, that of images of a crop's size.
        model: The file; its graph is parsed when it is looked at.
        trained_on: Statistics of the training images; None if the file has none.
        engine_name: Name of the engine in use: ``"native"``, ``"litert"`` and so on, never ``"auto"``.
        num_threads: As given.

    Raises:
        UsageError: If the file or engine does not exist, or an argument is of another type or out of range.
        BddError: If the file is not a .tflite file, is damaged, has no metadata, or cannot be run.

    Example:
        >>> with Detector("model.tflite") as detector:  # doctest: +SKIP
        ...     detector.predict(["a.jpg", "b.png"])
        array([0.02, 0.97], dtype=float32)
    """

    def __init__(
        self, model: str | Path | None = None, *, engine: str | None = None, num_threads: int = 1
    ) -> None:
        num_threads = whole_number("num_threads", num_threads, 1, MAX_THREADS)
        if model is not None and not isinstance(model, (str, os.PathLike)):
            raise UsageError(f"model is {model!r}; it must be the path of a .tflite file.")
        self._lock, self._process = threading.Lock(), os.getpid()
        self._engine: Engine | None = None
        path = model_path(model)
        content = read_model(path)
        try:
            self.model = TfliteModel(content)
            self.metadata: dict[str, Any] = read_metadata(self.model)
            self.rule: Rule = rule_of(self.metadata)
            self.views: ViewRule | None = None
            if isinstance(self.rule, ViewRule):
                self.views, self.resize = self.rule, ResizeRule.native(self.rule.size)
            else:
                self.resize = self.rule
            self.threshold = _threshold(self.metadata.get("threshold"))
            self.thresholds = _thresholds(self.metadata)
            self.unsure = band_of(self.metadata)
            self.decide = DecisionRule(self.threshold, self.unsure)
            self.labels = _labels(self.metadata)
            self.trained_on = TrainingStatistics.from_metadata(self.metadata)
            _check_signature(self.model, self.resize)
            self._engine = create_engine(self.model, engine or DEFAULT_ENGINE, num_threads)
        except UsageError:
            raise
        except BddError as error:
            raise BddError(f"{path}: {error}") from error
        self._path = path
        self._cropper = self.cropper()
        self.engine_name = self._engine.name
        self.num_threads = num_threads

    def predict(
        self,
        images: ImageSource | Iterable[ImageSource],
        *,
        channel_order: str = "rgb",
        errors: str = "raise",
    ) -> NDArray[np.float32]:
        """Score images by the rule stored in the file: each resized to the network's input, or cut into native crops.

        Of native crops, the scores of an image are combined (`bdd_tf.edge.images.views.ViewRule.combine`), and only the
        crops become arrays.

        Args:
            images: One image or several. An image is a path, a Pillow image, the content of an image file, an open binary
                file (``open(path, "rb")``, `io.BytesIO`; read from its beginning as Pillow does, and left open), or an
                RGB array uint8 [H, W, 3]. Several images are an iterable of these (read batch by batch) or an array
                [N, H, W, 3].
            channel_order: Order of the channels of arrays: ``"rgb"``, or ``"bgr"`` for arrays from OpenCV. Nothing in an
                array tells them apart, and the scores differ. Other kinds of images know their order.
            errors: ``"raise"``, or ``"return"`` to score the other images if some cannot be read.

        Returns:
            float32 array [N] of fake probabilities in [0, 1], in input order; N is 1 for a single image. With
            ``errors="return"``, NaN for each image that could not be read; the reasons are in a `UserWarning`.

        Warns:
            OutOfDistributionWarning: If an image lies outside the training statistics; `note` gives the reason for
                each image. ``warnings.simplefilter("ignore", OutOfDistributionWarning)`` silences the warning.

        Raises:
            ImageError: If an image cannot be read, with ``errors="raise"``; the message names it.
            UsageError: If an argument is of a type that is not listed above.
            BddError: If the runtime fails, or the detector is closed.
        """
        bgr = choice("channel_order", channel_order, ("rgb", "bgr")) == "bgr"
        problems: list[str] | None = [] if choice("errors", errors, ("raise", "return")) == "return" else None
        several = _one_by_one(images)
        scores: list[float] = []
        deviates = False
        while part := [
            self._try(image[..., ::-1] if bgr and isinstance(image, np.ndarray) else image, problems)
            for image in itertools.islice(several, BATCH)
        ]:
            good = [loaded for loaded in part if loaded is not None]
            found = iter(score_views(self, [views for views, _ in good], self._cropper))
            scores += [math.nan if loaded is None else next(found).probability for loaded in part]
            deviates = deviates or any(deviation for _, deviation in good)
        if problems:
            more = f" and {len(problems) - 10} more" if len(problems) > 10 else ""
            warnings.warn(
                f"{len(problems)} images could not be read: {'; '.join(problems[:10])}{more}", stacklevel=2
            )
        if deviates and self.trained_on:
            # The text is always the same, so that Python's default filter shows it once.
            warnings.warn(
                f"scored an image that is out of distribution (trained on {self.trained_on.describe()}): its score "
                "is unreliable. Detector.note(image) returns the reason for an image, or None.",
                OutOfDistributionWarning,
                stacklevel=2,
            )
        return np.array(scores, np.float32)

    def _own_lock(self) -> threading.Lock:
        if self._process != os.getpid():  # after os.fork: a thread of the parent may hold its lock
            self._lock, self._process = threading.Lock(), os.getpid()
        return self._lock

    def prepare(self) -> None:
        """Set up what the engine would set up at the first batch; optional, for a first score without that delay."""
        prepare = getattr(self._engine, "prepare", None)
        if prepare is not None:
            with self._own_lock():
                prepare()

    def predict_batch(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Score images or crops that already have the network's input size; `predict` without loading and cutting.

        Args:
            images: uint8 [N, S, S, 3], RGB, with S = ``resize.size`` and N at least 1.

        Returns:
            float32 array [N] of fake probabilities in [0, 1].

        Raises:
            UsageError: If the array has another shape or type.
            BddError: If the runtime fails, an output is outside [0, 1], or the detector is closed.
        """
        shape = (self.resize.size, self.resize.size, 3)
        array = isinstance(images, np.ndarray)
        if not array or images.dtype != np.uint8 or images.shape[1:] != shape or len(images) == 0:
            given = f"{images.dtype} of shape {list(images.shape)}" if array else f"a {type(images).__name__}"
            raise UsageError(
                f"a batch for this model must be uint8 [N, {', '.join(map(str, shape))}] with N at least 1; "
                f"this one is {given}."
            )
        with self._own_lock():
            if self._engine is None:
                raise BddError("this detector is closed; create a new one.")
            scores = self._engine.run(images)
        if scores.shape != (len(images),) or not ((scores >= 0) & (scores <= 1)).all():
            raise BddError("the model's output is not one probability in [0, 1] per image; convert it again.")
        return scores

    @cached_property
    def identity(self) -> ModelIdentity:
        """Name, version and SHA-256 of the model file as it was read; computed when it is asked for."""
        return ModelIdentity.of(self._path, self.model.content, self.metadata)

    @property
    def card(self) -> Path | None:
        """Path of the model card of a bundled model; None for other files."""
        return self._path.with_suffix(".md") if self._path.resolve().parent == FOLDER else None

    def cropper(self, how: str | None = None, max_tiles: int | None = None) -> Cropper:
        """Return a cropper for this model's rule and threshold.

        Args:
            how: One of `bdd_tf.edge.images.crops.CROPS`; None for the rule itself.
            max_tiles: Maximum number of tiles; None for the default.

        Raises:
            UsageError: If a value is unknown or out of range.
            BddError: If ``how`` is ``faces`` and OpenCV is not installed.
        """
        return Cropper(self.rule, how, max_tiles, self.threshold)

    def note(self, image: ImageSource) -> str | None:
        """Check whether an image is out of distribution (see `bdd_tf.edge.images.out_of_distribution`).

        Args:
            image: A single image, as for `predict`.

        Returns:
            The deviation from the training images, in a few words; None if there is none. Of a file without training
            statistics, only native crops are checked, for padding and for places without texture.

        Raises:
            ImageError: If the image cannot be read.
            UsageError: If the argument is of an unsupported type.
        """
        deviation = self._load(image)[1]
        return None if deviation is None else deviation.note

    def verdicts(
        self, scores: NDArray[np.floating[Any]], notes: Sequence[str | None] | None = None
    ) -> list[str]:
        """Apply the model's rule to scores in [0, 1].

        Args:
            scores: As `predict` returns them.
            notes: What `note` says of each image; None: nothing. An image with a note is ``"UNSURE"`` if the file has a
                band.

        Returns:
            ``"REAL"`` or ``"FAKE"`` for each; ``"UNSURE"`` only if the file has a band (`unsure`).

        Raises:
            UsageError: If a score is not in [0, 1], such as the NaN of an image that could not be read, or there is
                another number of notes.
        """
        if notes is not None and len(notes) != len(scores):
            raise UsageError(
                f"there are {len(notes)} notes for {len(scores)} scores; give one for each, or none."
            )
        deviates = [False] * len(scores) if notes is None else [note is not None for note in notes]
        return [
            self.decide(number_within("a score", score, 0, 1), deviates=unusual)
            for score, unusual in zip(scores, deviates, strict=True)
        ]

    def threshold_for(self, false_alarms: float) -> float:
        """Return the threshold for a given false positive rate on the validation split.

        Args:
            false_alarms: False positive rate, one of the keys of ``thresholds``, e.g. 0.01.

        Returns:
            The threshold, in [0, 1].

        Raises:
            UsageError: If the file has no threshold for this rate; the message lists the available rates.
        """
        false_alarms = number_within("false_alarms", false_alarms, 0, 1)
        if false_alarms in self.thresholds:
            return self.thresholds[false_alarms]
        known = ", ".join(f"{rate:g}" for rate in self.thresholds)
        raise UsageError(
            f"this model has no threshold for a false positive rate of {false_alarms:g}; "
            + (f"possible: {known}." if known else "it has none at all, so give --threshold instead.")
        )

    def close(self) -> None:
        """Free the runtime; scoring raises `BddError` afterwards. Closing twice is allowed."""
        with self._lock:
            self._engine = None

    def __enter__(self) -> Detector:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _try(self, image: ImageSource, problems: list[str] | None) -> tuple[Views, Deviation | None] | None:
        """`_load`; adds the reason to ``problems``, if that is a list, and returns None if the image cannot be read."""
        try:
            return self._load(image)
        except ImageError as error:
            if problems is None:
                raise
            problems.append(str(error))
            return None

    def _load(self, source: ImageSource) -> tuple[Views, Deviation | None]:
        try:
            image = open_image(source)
            views = self._cropper(image)
            return views, self._cropper.check(views, size_of(image), self.trained_on)
        except ImageError as error:
            name = source if isinstance(source, (str, os.PathLike)) else getattr(source, "name", None)
            raise ImageError(
                f"{name}: {error}" if isinstance(name, (str, os.PathLike)) else str(error)
            ) from None


def _one_by_one(images: ImageSource | Iterable[ImageSource]) -> Iterator[ImageSource]:
    if isinstance(images, (str, os.PathLike, bytes, bytearray, memoryview, Image.Image)):
        return iter((images,))
    if is_file_object(images):  # an iterable as well, of lines
        return iter((images,))
    if isinstance(images, np.ndarray):
        return iter(images if images.ndim == 4 else (images,))
    # Other types are passed on: load_image raises the error that lists the supported types.
    return iter(images if isinstance(images, Iterable) else (images,))


def read_model(path: Path) -> bytes:
    """Return the content of a model file.

    Raises:
        UsageError: If there is no such file, or it is a folder.
        BddError: If it cannot be read.
    """
    try:
        if not exists(path):
            raise no_such_model(path)
        if not path.is_file():
            raise UsageError(f"not a .tflite file: {path}")
        return path.read_bytes()
    except (OSError, ValueError) as error:
        raise BddError(
            f"the model {path} cannot be read: {getattr(error, 'strerror', None) or error}"
        ) from None


def _threshold(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= 1:
        raise BddError(f"its metadata is damaged: the threshold is {value!r}, not a number in [0, 1].")
    return float(value)


def _thresholds(metadata: dict[str, Any]) -> dict[float, float]:
    given = metadata.get("thresholds", {})
    if not isinstance(given, dict):
        raise BddError("its metadata is damaged: thresholds is not a mapping.")
    found = {}
    for text, value in given.items():
        try:
            rate = float(text)
        except ValueError:
            rate = math.nan
        if not 0 < rate < 1:
            raise BddError(f"its metadata is damaged: {text[:40]!r} is not a false positive rate in (0, 1).")
        found[rate] = _threshold(value)
    return dict(sorted(found.items()))


def _labels(metadata: dict[str, Any]) -> tuple[str, str]:
    labels = metadata.get("labels")
    if labels != list(LABELS):
        raise BddError(f"its metadata is damaged: the labels are {labels!r}, not {list(LABELS)!r}.")
    return LABELS


def _check_signature(model: TfliteModel, rule: ResizeRule) -> None:
    """Refuse a model whose input or output has another type or shape than a detector's, before loading it."""
    inputs, outputs = model.inputs, model.outputs
    expected = (1, rule.size, rule.size, 3)
    if len(inputs) != 1 or inputs[0].dtype != "uint8" or inputs[0].shape != expected:
        given = ", ".join(f"{tensor.dtype} {list(tensor.shape)}" for tensor in inputs) or "nothing"
        raise BddError(f"a detector takes one uint8 input {list(expected)}; this model takes {given}.")
    if len(outputs) != 1 or outputs[0].dtype != "float32" or math.prod(outputs[0].shape) != 1:
        given = ", ".join(f"{tensor.dtype} {list(tensor.shape)}" for tensor in outputs) or "nothing"
        raise BddError(f"a detector yields one float32 output [1, 1]; this model yields {given}.")
