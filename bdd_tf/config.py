"""The experiment: a frozen dataclass of all settings that determine a training run, stored as YAML. No TensorFlow."""

from __future__ import annotations

import dataclasses
import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bdd_tf.datasets.augment import check_names as check_augmentations
from bdd_tf.datasets.class_names import Classes, Location
from bdd_tf.edge.images.resize import ResizeRule
from bdd_tf.edge.images.views import ViewRule
from bdd_tf.errors import BddError, UsageError, one_of
from bdd_tf.files import write_atomically
from bdd_tf.models import registry
from bdd_tf.models.channel_names import check_stem, check_variant, parse_channels
from bdd_tf.models.normalisation import check_normalisation

RESIZE_RULES = ("native", "reference", "views")
#: The data set that is trained on native crops, degraded anew in each epoch (:mod:`bdd_tf.datasets.photo_batches`).
PHOTOS = "photos"
SCHEDULES = ("cosine", "linear", "constant")
GRADIENTS = ("int8", "float32", "keras")
#: How the names of binary backbones begin.
_BINARY = ("bnext", "quicknet")

#: Types of the fields whose default is None.
_OPTIONAL: dict[str, type] = {
    "data_dir": str,
    "stem_stride": int,
    "init": str,
    "schedule_epochs": int,
    "own_decoders": str,
    "normalisation": str,
}
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?", re.IGNORECASE)


@dataclass(frozen=True)
class Experiment:
    """All settings that determine a training run.

    Attributes:
        dataset: Name of a data set (``bdd data list``).
        data_dir: Folder, archive or CSV that holds it; None: the data set's own source.
        backbone: A key of :data:`bdd_tf.models.registry.BACKBONES`.
        channels: Names from :data:`bdd_tf.models.channel_names.CHANNELS`, ``rgb`` among them; kept in that order.
        variant: Channel formulas, ``paper`` or ``stable`` (:mod:`bdd_tf.models.channels`).
        resolution: Side of the square input in pixels; a multiple of the backbone's strides.
        stem_stride: Stride of the stem; None: chosen by the resolution.
        stem: ``adapter`` (a convolution reduces all channels to three) or ``direct`` (BNext's stem sees all of them).
        normalisation: Statistics that the backbone's weights expect, a key of
            :data:`bdd_tf.models.normalisation.NORMALISATIONS`; None: the backbone's own.
        resize: ``native`` (shorter side to ``resolution``) or ``reference`` (to 9/8 of it); both then crop the centre.
            ``views``: nothing is resized; crops of ``resolution`` px are scored (:mod:`bdd_tf.edge.images.views`). The
            data set ``photos`` always uses ``views``, and no other one does.
        init: A run's name or folder, or a ``.weights.h5`` file, to take initial weights from; None: random weights.
        freeze: Train adapter and classifier only; the backbone keeps its weights and statistics.
        cache_features: Compute the features of a frozen backbone once and keep them on disk, where nothing in front of it is
            trained or varies (:mod:`bdd_tf.training.features`).
        epochs: Passes over the training split.
        batch: Images per gradient.
        accumulate: Gradients summed per update, of each worker.
        workers: Processes that train together, each with batches of its own. The command sets it (``--processes``,
            ``TF_CONFIG``), so that a run does not go on with another number.
        learning_rate: Peak learning rate.
        final_learning_rate: Last learning rate, as a fraction of the peak.
        schedule: ``cosine``, ``linear`` or ``constant`` from peak to last.
        schedule_epochs: Epochs until the last rate is reached; None: ``epochs``.
        warmup: Updates with linearly rising learning rate; at most a fifth of all updates.
        weight_decay: AdamW's decay; :class:`bdd_tf.training.optimizer.AdamW` lists the exempt weights.
        clip_norm: Largest global norm of a gradient; 0: no limit.
        label_smoothing: In [0, 1).
        class_weights: Weight FAKE by REAL images / FAKE images of the training split.
        augment: Names of augmentations, e.g. ``("flip",)``.
        validation_fraction: Fraction of the training images held out for validation, selected by a hash of their content.
        train_fraction: Fraction of the remaining training images that is used, selected by the same hash.
        hold_out: ``photos`` only: a fold (:data:`bdd_tf.datasets.folds.FOLDS`) or comma-separated families and sources
            that training does not see.
        images_per_epoch: ``photos`` only: images that an epoch draws.
        own_decoders: ``photos`` only: folder of reconstructions (:mod:`bdd_tf.datasets.reconstructions`), or None.
        own_decoder_share: ``photos`` only: share of the FAKE draws that are such reconstructions, in [0, 1).
        clean_share: ``photos`` only: share of the training crops that are only coded once as JPEG of quality 75 to 95, without
            the rest of the degradation, in [0, 1).
        retouch_share: ``photos`` only: share of the training crops that are sharpened, denoised or toned as cameras and
            photo editors do it (:mod:`bdd_tf.datasets.retouch`), in [0, 1).
        ema: Decay of an exponential moving average of the weights, which validation and the saved weights use; 0: the
            weights themselves.
        gradients: Implementation of a BNext's blocks during training: the native kernels
            (:mod:`bdd_tf.training.native.library`) with ``int8`` or ``float32`` gradients of the binary convolutions, or
            ``keras``. Other backbones and frozen ones always use Keras.
        mixed_precision: Compute in bfloat16 where precision allows; for float backbones, which Keras trains.
        patience: Epochs without a better validation AUC after which the training ends; 0: it never ends early.
        seed: Seed of weights, order, augmentation and stochastic rounding.
        real: Names of folders or labels that mean REAL, with ``fake``; empty: the usual ones
            (:mod:`bdd_tf.datasets.class_names`).
        fake: Names of folders or labels that mean FAKE.
        columns: ``COLUMN=NAME`` for columns of a manifest with other names.

    Raises:
        UsageError: For a value that no run could use; names the value and the possible ones.
    """

    dataset: str = "cifake"
    data_dir: str | None = None
    backbone: str = "bnext-n"
    channels: tuple[str, ...] = ("rgb", "fft", "lbp")
    variant: str = "stable"
    resolution: int = 32
    stem_stride: int | None = None
    stem: str = "adapter"
    normalisation: str | None = None
    resize: str = "native"
    init: str | None = None
    freeze: bool = False
    cache_features: bool = True
    epochs: int = 4
    batch: int = 128
    accumulate: int = 1
    workers: int = 1
    learning_rate: float = 2e-3
    final_learning_rate: float = 0.0
    schedule: str = "cosine"
    schedule_epochs: int | None = None
    warmup: int = 100
    weight_decay: float = 0.0
    clip_norm: float = 0.0
    label_smoothing: float = 0.0
    class_weights: bool = True
    augment: tuple[str, ...] = ("flip",)
    validation_fraction: float = 0.05
    train_fraction: float = 1.0
    hold_out: str = ""
    images_per_epoch: int = 16_384
    own_decoders: str | None = None
    own_decoder_share: float = 0.0
    clean_share: float = 0.0
    retouch_share: float = 0.0
    ema: float = 0.0
    gradients: str = "int8"
    mixed_precision: bool = False
    patience: int = 0
    seed: int = 5
    real: tuple[str, ...] = ()
    fake: tuple[str, ...] = ()
    columns: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Check every value here, once; the rest of the package relies on it."""
        for kind, value, possible in (
            ("resize rule", self.resize, RESIZE_RULES),
            ("schedule", self.schedule, SCHEDULES),
            ("gradients", self.gradients, GRADIENTS),
        ):
            if value not in possible:
                raise one_of(kind, value, possible)
        self._check_numbers()
        self._check_photos()
        check_augmentations(self.augment)
        _ = self.location
        check_variant(self.variant)
        check_stem(self.stem, self.backbone, self.variant)
        if self.normalisation is not None:
            check_normalisation(self.normalisation)
            if self.stem == "direct":
                raise UsageError(
                    f"normalisation {self.normalisation} needs stem adapter; a direct stem has its own."
                )
        object.__setattr__(self, "channels", parse_channels(self.channels))
        registry.stem_stride(self.backbone, self.resolution, self.stem_stride)
        if self.mixed_precision and self.backbone.startswith(_BINARY):
            raise UsageError(
                f"mixed_precision is for float backbones such as {registry.BASELINES[0]}; the binary layers of "
                f"{self.backbone} need float32."
            )

    def _check_numbers(self) -> None:
        for name in (
            "resolution",
            "epochs",
            "batch",
            "accumulate",
            "workers",
            "schedule_epochs",
            "images_per_epoch",
        ):
            if getattr(self, name) is not None and getattr(self, name) < 1:
                raise UsageError(f"{name} must be at least 1; got {getattr(self, name)}.")
        for name in ("patience", "warmup", "weight_decay", "clip_norm", "final_learning_rate", "seed"):
            if not 0 <= getattr(self, name) < math.inf:
                raise UsageError(f"{name} must be a number that is not negative; got {getattr(self, name)}.")
        if not 0 < self.learning_rate < math.inf:
            raise UsageError(f"learning_rate must be a positive number; got {self.learning_rate}.")
        if not 0 <= self.label_smoothing < 1:
            raise UsageError(f"label_smoothing must be in [0, 1); got {self.label_smoothing}.")
        if not 0 < self.validation_fraction < 1:
            raise UsageError(f"validation_fraction must be in (0, 1); got {self.validation_fraction}.")
        if not 0 < self.train_fraction <= 1:
            raise UsageError(f"train_fraction must be in (0, 1]; got {self.train_fraction}.")

        for name in ("own_decoder_share", "clean_share", "retouch_share", "ema"):
            if not 0 <= getattr(self, name) < 1:
                raise UsageError(f"{name} must be in [0, 1); got {getattr(self, name)}.")

    def _check_photos(self) -> None:
        photos = self.dataset == PHOTOS
        if photos != (self.resize == "views"):
            raise UsageError(
                f"data set {self.dataset} with resize {self.resize}: {PHOTOS} needs views, and no other data set has them."
            )
        if photos and self.augment:
            raise UsageError(
                f"augment {','.join(self.augment)}: data set {PHOTOS} degrades, flips and turns its crops by itself; give "
                "none."
            )
        for name in ("hold_out", "own_decoders", "own_decoder_share", "clean_share", "retouch_share"):
            if not photos and getattr(self, name):
                raise UsageError(
                    f"{name} is for data set {PHOTOS} only; got {getattr(self, name)} for {self.dataset}."
                )

    @property
    def location(self) -> Location:
        """Where the data are, and the names of their classes and columns."""
        return Location(self.data_dir, Classes(self.real, self.fake), self.columns)

    @property
    def statistics(self) -> str:
        """Name of the statistics behind the adapter: ``normalisation``, else the backbone's own."""
        return self.normalisation or registry.backbone(self.backbone).normalisation

    @property
    def rule(self) -> ResizeRule:
        """The resize rule of training, evaluation and detection; of ``views``, that of a single crop."""
        make = ResizeRule.reference if self.resize == "reference" else ResizeRule.native
        return make(self.resolution)

    @property
    def views(self) -> ViewRule | None:
        """The native crops of an image and how their scores are combined; None: one resized image."""
        return ViewRule(self.resolution) if self.resize == "views" else None

    @property
    def default_name(self) -> str:
        """Run name if the user gives none: the settings in which runs usually differ."""
        return "-".join((self.dataset, self.backbone, *self.channels, str(self.resolution)))

    def to_dict(self) -> dict[str, Any]:
        """All fields in their order, as plain types; tuples become lists."""
        return {k: list(v) if isinstance(v, tuple) else v for k, v in dataclasses.asdict(self).items()}

    @classmethod
    def from_dict(cls, values: dict[str, Any], where: str = "configuration") -> Experiment:
        """Inverse of :meth:`to_dict`; a missing field takes its default.

        Args:
            values: Fields by name.
            where: Source of the values, for the error message.

        Raises:
            UsageError: For unknown keys (lists all of them), values of the wrong type and impossible values.
        """
        return cls(**_checked_fields(values, where))

    def save(self, path: Path) -> None:
        """Write YAML, atomically."""
        import yaml

        write_atomically(path, yaml.safe_dump(self.to_dict(), sort_keys=False).encode())

    @classmethod
    def load(cls, path: Path) -> Experiment:
        """Read YAML.

        Raises:
            UsageError: As :meth:`from_dict`.
            BddError: If the file is missing or not a mapping.
        """
        return cls(**read_fields(path))


_DEFAULTS = {field.name: field.default for field in dataclasses.fields(Experiment)}


def read_fields(path: Path) -> dict[str, Any]:
    """Read those fields of an experiment that a YAML file sets.

    Args:
        path: The file.

    Returns:
        Values by name, of the fields' types.

    Raises:
        UsageError: For unknown keys and values of the wrong type.
        BddError: If the file is missing or not a mapping.
    """
    import yaml

    try:
        values = yaml.safe_load(Path(path).read_text())
    except FileNotFoundError as error:
        raise BddError(f"{path} does not exist; `bdd train` writes one into each run folder.") from error
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise BddError(f"{path} cannot be read as YAML: {error}") from error
    if not isinstance(values, dict):
        raise BddError(f"{path} should hold `key: value` lines; it holds {type(values).__name__}.")
    return _checked_fields(values, str(path))


def _checked_fields(values: dict[str, Any], where: str) -> dict[str, Any]:
    unknown = sorted(str(key) for key in values if key not in _DEFAULTS)
    if unknown:
        raise UsageError(f"{where}: unknown key {', '.join(unknown)}; possible: {', '.join(_DEFAULTS)}.")
    return {key: _checked_value(key, value, where) for key, value in values.items()}


def _checked_value(key: str, value: Any, where: str) -> Any:
    """The value in the field's type; a list becomes a tuple, and an int or a number in a string becomes a float."""
    default = _DEFAULTS[key]
    if default is None and value is None:
        return None
    expected = _OPTIONAL[key] if default is None else type(default)
    if expected is tuple and isinstance(value, list) and all(isinstance(v, str) for v in value):
        return tuple(value)
    if expected is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if expected is float and isinstance(value, str) and _NUMBER.fullmatch(value):
        return float(value)  # YAML 1.1 reads 1e-4 as a string; only 1.0e-4 is a number there.
    if not isinstance(value, expected) or isinstance(value, bool) != (expected is bool):
        raise UsageError(f"{where}: {key} must be of type {expected.__name__}; got {value!r}.")
    return value
