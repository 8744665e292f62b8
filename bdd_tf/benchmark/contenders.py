"""Contenders of a benchmark and their results.

Each contender runs in a process of its own. The processes take turns, a few runs at a time, so that other load on the
machine affects all of them equally. Only ratios within one table can be compared.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol, TypeVar

import numpy as np

from bdd_tf.config import Experiment
from bdd_tf.edge.tflite.file import TfliteModel
from bdd_tf.edge.tflite.metadata import METADATA_NAME, read_metadata
from bdd_tf.models import registry
from bdd_tf.models.bnext_sizes import BNEXT

BASELINES = (
    "mobilenetv3-small", "mobilenetv3-large", "mobilenetv2", "mobilenetv2-int8", "resnet50", "resnet50-int8",
)  # fmt: skip
#: Baselines that are measured only on request; those above are measured by default.
MORE_BASELINES = tuple(
    name + end for name in registry.BASELINES for end in ("", "-int8") if name + end not in BASELINES
)
#: Binary networks with random weights, beside the measured file; on request.
BINARY = tuple(BNEXT)
#: Competitors besides the baselines: LCE's interpreter, the float export, and the published PyTorch code.
OTHERS = ("lce", "float", "torch")


@dataclass(frozen=True)
class Setup:
    """A model on an engine.

    Attributes:
        name: Name of the model in the table.
        engine: ``"litert"``, ``"lce"`` or ``"torch"``.
        kernels: Kernel set of our delegate, or None for XNNPACK alone; for LCE ``"default"`` or ``"indirect"``.
        threads: Number of CPU threads.
    """

    name: str
    engine: str
    kernels: str | None
    threads: int


@dataclass(frozen=True)
class Contender(Setup):
    """A setup with the model to run.

    Attributes:
        path: The .tflite file; None for PyTorch.
        backbone: Name of the PyTorch network; None for files.
        resolution: Side of its input in pixels; None for files.
    """

    path: str | None = None
    backbone: str | None = None
    resolution: int | None = None

    @property
    def label(self) -> str:
        """Name, engine, kernels and threads."""
        threads = f"{self.threads} thread{'s' * (self.threads > 1)}"
        return f"{self.name} ({self.engine}, {self.kernels or 'xnnpack'}, {threads})"


@dataclass(frozen=True)
class Result(Setup):
    """A row of the table; its fields are the keys of `bdd benchmark --json`.

    Attributes:
        median_ms: Median time of a run in ms, batch size 1.
        p90_ms: 90th percentile of the time in ms.
        ratio: Median divided by that of the first contender.
        bytes: Size of the file.
        peak_mib: Peak resident memory of its process in MiB, including Python and the runtime.
        error: Reason for a failure; the numbers are None then.
    """

    median_ms: float | None = None
    p90_ms: float | None = None
    ratio: float | None = None
    bytes: int | None = None
    peak_mib: float | None = None
    error: str | None = None


SomeResult = TypeVar("SomeResult", bound=Result)


def result_of(contender: Contender, times: list[float], peak: float | None, error: str | None) -> Result:
    """Make a row of the table, without the ratio.

    Args:
        contender: The contender.
        times: Time of each run in ms.
        peak: Peak resident memory in MiB.
        error: Reason for a failure.
    """
    c = contender
    size = Path(c.path).stat().st_size if c.path else None
    if error is not None or not times:
        return Result(c.name, c.engine, c.kernels, c.threads, bytes=size, error=error or "no run")
    return Result(
        c.name, c.engine, c.kernels, c.threads, round(float(np.median(times)), 3),
        round(float(np.percentile(times, 90)), 3), None, size, None if peak is None else round(peak, 1),
    )  # fmt: skip


def with_ratios(results: list[SomeResult]) -> list[SomeResult]:
    """Return the results with their ratios to the first one."""
    first = results[0].median_ms if results else None
    return [
        replace(r, ratio=round(r.median_ms / first, 3)) if first and r.median_ms is not None else r
        for r in results
    ]


class ModelMaker(Protocol):
    """Makes the model files of a benchmark. This package must not import `converters`, so the command passes it in."""

    def untrained(self, backbone: str, resolution: int, channels: tuple[str, ...]) -> Path:
        """Make a binary network with random weights."""

    def baseline(self, name: str, resolution: int) -> Path:
        """Make a float or int8 baseline with random weights."""

    def float_export(self, config: Experiment) -> Path:
        """Make the float export of a binary network with random weights."""


def contenders_of(
    path: Path,
    model: TfliteModel,
    threads: list[int],
    kernels: list[str],
    others: list[str],
    maker: ModelMaker,
) -> list[Contender]:
    """List the contenders for a file: the file on our runtime, and the competitors.

    Args:
        path: The file.
        model: Its parsed content.
        threads: Thread counts for each contender.
        kernels: Kernel sets of our delegate, fastest first.
        others: Names from `OTHERS`, `BINARY` and baselines. A binary network gets the first kernel set.
        maker: Makes the files of the competitors.

    Returns:
        Contenders, starting with the file on the first kernel set and the first thread count.
    """
    binary = any(name.startswith("Lce") for name in model.custom_operators)
    sets: list[str | None] = list(kernels) if binary else [None]
    ours = [Contender(path.stem, "litert", k, t, str(path)) for t in threads for k in sets]
    more: list[Contender] = []
    for name in others:
        for t in threads:
            if name == "lce":
                more += [Contender(path.stem, "lce", mode, t, str(path)) for mode in ("default", "indirect")]
            elif name == "torch":
                backbone = read_metadata(model).get("backbone")
                more.append(
                    Contender(f"{backbone} in PyTorch", "torch", None, t, None, backbone, side_of(model))
                )
            else:
                label, made = baseline_file(name, path, model, maker)
                more.append(Contender(label, "litert", kernels[0] if name in BINARY else None, t, str(made)))
    return [*ours, *more]


def baseline_file(name: str, path: Path, model: TfliteModel, maker: ModelMaker) -> tuple[str, Path]:
    """Return the label and the file of the float export, of a binary network or of a baseline.

    Args:
        name: ``"float"``, a binary network or a baseline. The last two have the model's resolution, or the nearest that
            they support; a binary network has the model's channels, or the default ones.
        path: The file that is measured.
        model: Its parsed content.
        maker: Makes the competitor's file.
    """
    if name == "float":
        return f"{path.stem} as float", _float_export(model, maker)
    side = registry.fitting_resolution(name.removesuffix(registry.INT8), max(side_of(model), 32))
    if name in BINARY:
        about = read_metadata(model) if METADATA_NAME in model.metadata else {}
        made = maker.untrained(name, side, tuple(about.get("channels") or ("rgb", "fft", "lbp")))
        return made.stem, made
    return f"{name} {side}", maker.baseline(name, side)


def side_of(model: TfliteModel) -> int:
    """Return the side of a model's input image in pixels; 224 if its input is not an image."""
    return int(model.inputs[0].shape[1]) if model.inputs and len(model.inputs[0].shape) == 4 else 224


def _float_export(model: TfliteModel, maker: ModelMaker) -> Path:
    from bdd_tf.presets import experiment

    about = read_metadata(model)
    return maker.float_export(
        experiment(
            backbone=about["backbone"], resolution=about["resolution"], channels=tuple(about["channels"]),
            variant=about.get("channel_variant", "stable"),
        )
    )  # fmt: skip
