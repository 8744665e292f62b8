"""An experiment as a frozen dataclass, YAML in and out, with presets for every row of the paper's tables."""

from __future__ import annotations

import dataclasses
import math
import os
import re
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

from bdd_tf.datasets.augment import check_names as check_augmentations
from bdd_tf.edge.images import ResizeRule
from bdd_tf.errors import BddError, UsageError, one_of

RESIZE_RULES = ("native", "reference")
SCHEDULES = ("cosine", "linear", "constant")
GRADIENTS = ("int8", "float32", "keras")
#: Side of the square input, by data set, where none is asked for.
DEFAULT_RESOLUTION = {"cifake": 32, "sample": 32}

#: Types of the fields whose default is None.
_OPTIONAL = {"data_dir": str, "stem_stride": int, "init": str, "schedule_epochs": int}
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?", re.IGNORECASE)


@dataclass(frozen=True)
class Experiment:
    """Everything that determines a training run.

    Attributes:
        dataset: Name of a data set (``bdd data list``).
        data_dir: Folder, archive or CSV that holds it, or None for the data set's own source.
        backbone: Name of a backbone (README, table of backbones).
        channels: ``("rgb",)`` and any of sobel, fft, lbp.
        variant: Channel formulas, ``paper`` or ``stable`` (:mod:`bdd_tf.channels`).
        resolution: Side of the square input in pixels.
        stem_stride: Stride of the stem, or None to choose by resolution.
        resize: ``native`` (shorter side to ``resolution``) or ``reference`` (to 9/8 of it); then centre crop.
        init: A run's name or folder, or a ``.weights.h5`` file, to take weights from; None: from scratch.
        freeze: Train adapter and classifier only; the backbone keeps its weights and statistics.
        epochs: Passes over the training split.
        batch: Images per gradient.
        accumulate: Gradients summed per update.
        learning_rate: Peak learning rate.
        final_learning_rate: Last learning rate, as a fraction of the peak.
        schedule: ``cosine``, ``linear`` or ``constant`` from peak to last.
        schedule_epochs: Epochs after which the last rate is reached; None: ``epochs``.
        warmup: Updates with linearly rising learning rate.
        weight_decay: AdamW's decay; see :class:`bdd_tf.optimizer.AdamW` for what is exempt.
        clip_norm: Largest global norm of a gradient; 0: no limit.
        label_smoothing: In [0, 1).
        class_weights: Weigh FAKE by REAL images / FAKE images of the training split.
        augment: Names of augmentations, e.g. ``("flip",)``.
        validation_fraction: Share of the training images held out by a hash of their content.
        train_fraction: Share of the other training images that is used, by the same hash; the rest is left out.
        gradients: Who computes a BNext's blocks while training: our kernels (:mod:`bdd_tf.models.kernels`) with
            binary convolutions' gradients in ``int8`` or ``float32``, or ``keras``, as all other backbones and frozen
            ones do in any case.
        seed: Seed of weights, order, augmentation and rounding.
    """

    dataset: str = "cifake"
    data_dir: str | None = None
    backbone: str = "bnext-n"
    channels: tuple[str, ...] = ("rgb", "fft", "lbp")
    variant: str = "stable"
    resolution: int = 32
    stem_stride: int | None = None
    resize: str = "native"
    init: str | None = None
    freeze: bool = False
    epochs: int = 4
    batch: int = 128
    accumulate: int = 1
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
    gradients: str = "int8"
    seed: int = field(default=5)

    def __post_init__(self) -> None:
        """Refuse values that no run could use.

        Raises:
            UsageError: Names the value and what is possible.
        """
        if self.resize not in RESIZE_RULES:
            raise one_of("resize rule", self.resize, RESIZE_RULES)
        if self.schedule not in SCHEDULES:
            raise one_of("schedule", self.schedule, SCHEDULES)
        if self.gradients not in GRADIENTS:
            raise one_of("gradients", self.gradients, GRADIENTS)
        for name in ("resolution", "epochs", "batch", "accumulate", "schedule_epochs"):
            if getattr(self, name) is not None and getattr(self, name) < 1:
                raise UsageError(f"{name} must be at least 1; got {getattr(self, name)}.")
        for name in ("warmup", "weight_decay", "clip_norm", "final_learning_rate", "seed"):
            if not 0 <= getattr(self, name) < math.inf:
                raise UsageError(f"{name} must be a number that is not negative; got {getattr(self, name)}.")
        if not 0 < self.learning_rate < math.inf:
            raise UsageError(f"learning_rate must be a positive number; got {self.learning_rate}.")
        check_augmentations(self.augment)
        if not 0 <= self.label_smoothing < 1:
            raise UsageError(f"label_smoothing must lie in [0, 1); got {self.label_smoothing}.")
        if not 0 < self.validation_fraction < 1:
            raise UsageError(f"validation_fraction must lie between 0 and 1; got {self.validation_fraction}.")
        if not 0 < self.train_fraction <= 1:
            raise UsageError(f"train_fraction must lie above 0 and be at most 1; got {self.train_fraction}.")

    @property
    def rule(self) -> ResizeRule:
        """The one resize rule of training, evaluation and detection."""
        make = ResizeRule.native if self.resize == "native" else ResizeRule.reference
        return make(self.resolution)

    @property
    def default_name(self) -> str:
        """Run name where the user gives none: what a reader needs to tell runs apart."""
        return "-".join((self.dataset, self.backbone, *self.channels, str(self.resolution)))

    def to_dict(self) -> dict:
        """Plain types, tuples as lists, in the order of the fields."""
        return {k: list(v) if isinstance(v, tuple) else v for k, v in dataclasses.asdict(self).items()}

    @classmethod
    def from_dict(cls, values: dict, where: str = "configuration") -> Experiment:
        """Inverse of :meth:`to_dict`.

        Raises:
            UsageError: For unknown keys, all of them, and values of the wrong type.
        """
        fields = {f.name: f for f in dataclasses.fields(cls)}
        unknown = sorted(str(key) for key in values if key not in fields)
        if unknown:
            raise UsageError(f"{where}: unknown key {', '.join(unknown)}; possible: {', '.join(fields)}.")
        default, checked = cls(), {}
        for key, value in values.items():
            expected = getattr(default, key)
            if expected is None and value is not None:
                # The default does not tell the type: an empty value of it stands in.
                expected = _OPTIONAL[key]()
            if (
                isinstance(expected, tuple)
                and isinstance(value, list)
                and all(isinstance(v, str) for v in value)
            ):
                value = tuple(value)
            elif isinstance(expected, float) and isinstance(value, int) and not isinstance(value, bool):
                value = float(value)
            elif isinstance(expected, float) and isinstance(value, str) and _NUMBER.fullmatch(value):
                value = float(value)  # YAML 1.1 takes 1e-4 for a text: it wants 1.0e-4
            elif expected is not None and (
                not isinstance(value, type(expected)) or isinstance(value, bool) != isinstance(expected, bool)
            ):
                raise UsageError(f"{where}: {key} must be of type {type(expected).__name__}; got {value!r}.")
            checked[key] = value
        return cls(**checked)

    def save(self, path: Path) -> None:
        """Write YAML, atomically."""
        import yaml

        write_atomically(path, yaml.safe_dump(self.to_dict(), sort_keys=False).encode())

    @classmethod
    def load(cls, path: Path) -> Experiment:
        """Read YAML.

        Raises:
            BddError: If the file is missing or not a mapping; :class:`UsageError` for its keys.
        """
        import yaml

        try:
            values = yaml.safe_load(Path(path).read_text())
        except FileNotFoundError as error:
            raise BddError(f"{path} does not exist; a run folder made by `bdd train` has one.") from error
        except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
            raise BddError(f"{path} cannot be read as YAML: {error}") from error
        if not isinstance(values, dict):
            raise BddError(f"{path} should hold `key: value` lines; it holds {type(values).__name__}.")
        return cls.from_dict(values, str(path))


def write_atomically(path: Path, content: bytes) -> None:
    """Write a file so that a reader, or a kill, sees the old content or the new one, never a part."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
        Path(name).chmod(0o644)
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


#: From scratch: 94-95 % on CIFAKE in 4 epochs (README); short schedule, no decay on binary weights.
SCRATCH: dict = {}
#: Lanzino et al., section 4: AdamW 1e-4 falling to a tenth over 5 epochs, 32 images, 4 gradients summed.
PAPER: dict = {
    "variant": "paper",
    "resolution": 224,
    "resize": "reference",
    "epochs": 5,
    "batch": 32,
    "accumulate": 4,
    "learning_rate": 1e-4,
    "final_learning_rate": 0.1,
    "schedule": "linear",
    "schedule_epochs": 5,
    "warmup": 0,
    "weight_decay": 0.01,
    "clip_norm": 1.0,
    "augment": (),
}


def _paper_rows() -> dict[str, dict]:
    rows = {}
    for dataset in ("cocofake", "dffd", "cifake"):
        for size in "tsm":
            for freeze in (True, False):
                rows[f"paper-{dataset}-{size}{'-frozen' if freeze else ''}"] = {
                    **PAPER,
                    "dataset": dataset,
                    "backbone": f"bnext-{size}",
                    "freeze": freeze,
                    "epochs": 10 if dataset == "cifake" else 5,
                    "augment": ("flip", "rot90", "crop", "jitter") if dataset == "cocofake" else (),
                }
    base = rows["paper-cocofake-t-frozen"]
    for mask in range(8):
        extra = [name for bit, name in enumerate(("sobel", "fft", "lbp")) if mask >> bit & 1]
        rows[f"paper-ablation-{'-'.join(extra) or 'none'}"] = {**base, "channels": ("rgb", *extra)}
    return rows


PRESETS = {"scratch": SCRATCH, "paper": PAPER, **_paper_rows()}


def experiment(preset: str | None = None, **given) -> Experiment:
    """An experiment from a preset and what the user set.

    Args:
        preset: A key of :data:`PRESETS`; None: ``paper`` where ``init`` is given, else ``scratch``.
        given: Fields of :class:`Experiment`; None means not given.

    Returns:
        The experiment; resolution follows the data set where neither preset nor user gives one.

    Raises:
        UsageError: For an unknown preset, key or value.
    """
    given = {k: v for k, v in given.items() if v is not None}
    if preset is None:
        preset = "paper" if given.get("init") else "scratch"
    if preset not in PRESETS:
        raise one_of("preset", preset, tuple(PRESETS))
    values = {**PRESETS[preset], **given}
    dataset = values.get("dataset", Experiment.dataset)
    if "resolution" not in values:
        values["resolution"] = DEFAULT_RESOLUTION.get(dataset, 224)
        if values["resolution"] == 224:
            values.setdefault("resize", "reference")
    for key in ("channels", "augment"):
        if isinstance(values.get(key), list):
            values[key] = tuple(values[key])
    return Experiment.from_dict({k: list(v) if isinstance(v, tuple) else v for k, v in values.items()})
