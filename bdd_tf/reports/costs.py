"""Cost of networks at 224 px (parameters, MACs, file size), as counted and converted by this project.

Counting takes minutes, so the counts are stored in ``results/costs.json``; `bdd report --count` regenerates it.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bdd_tf.errors import BddError, one_of
from bdd_tf.metrics import score_files
from bdd_tf.models import registry
from bdd_tf.reports.parsing import number, read_json, text

if TYPE_CHECKING:
    from bdd_tf.legacy_keras import tf

FILE = "costs.json"
COMMAND = "bdd report --count"
RESOLUTION = 224
#: Our binary detectors.
BINARY = ("bnext-e", "bnext-n", "bnext-t", "bnext-s", "bnext-m")
#: Float networks with their classifiers, but one output instead of 1000: their classes in keras.applications.
FLOAT = {
    "resnet50": "ResNet50",
    "vgg16": "VGG16",
    "densenet121": "DenseNet121",
    "mobilenetv3-small": "MobileNetV3Small",
    "efficientnet-b0": "EfficientNetB0",
}
#: Float networks of the paper's comparison, built as detectors on RGB.
VISION = registry.VISION
#: Channels for which binary detectors are counted: RGB, as in the paper, and our default.
CHANNELS = (("rgb",), ("rgb", "fft", "lbp"))


@dataclass(frozen=True)
class Cost:
    """The cost of a network for one image.

    Attributes:
        name: Name of the backbone.
        channels: Names of the channels, joined by commas; ``rgb`` for float networks.
        binary: Whether its convolutions are binary.
        parameters: Number of weights, including latent binary weights.
        binary_macs: Binary multiply-accumulates.
        float_macs: Multiply-accumulates of float convolutions and dense layers.
        channel_macs: Multiply-accumulates of the channel layers (grey, DFT, Sobel).
        bytes: Size of the .tflite file (float32 for float networks); None if none was made.
    """

    name: str
    channels: str
    binary: bool
    parameters: int
    binary_macs: int
    float_macs: int
    channel_macs: int
    bytes: int | None

    @property
    def operations(self) -> float:
        """Operations as the paper defines them (binary MACs / 64 + float MACs), plus those of the channels."""
        return self.binary_macs / 64 + self.float_macs + self.channel_macs


def count(
    untrained: Callable[[str, int, tuple[str, ...]], Path],
    baseline: Callable[[str, int], Path],
    names: Sequence[str] = (),
) -> list[Cost]:
    """Build, count and convert networks. All of them take minutes, and several GiB of memory for VGG16.

    Args:
        untrained: Makes the .tflite file of a binary network with random weights from backbone, resolution and channels
            (`converters.benchmark_models.untrained`).
        baseline: Makes the file of a float network from name and resolution (`converters.benchmark_models.baseline`).
        names: Names of the networks; empty: all.

    Raises:
        UsageError: For an unknown name.
    """
    known = (*BINARY, *FLOAT, *VISION)
    for name in names:
        if name not in known:
            raise one_of("network", name, known)
    from bdd_tf.legacy_keras import tf
    from bdd_tf.models.detector import build_detector
    from bdd_tf.models.operation_counts import count_operations

    def cost(model: tf.keras.Model, name: str, channels: tuple[str, ...], size: int | None) -> Cost:
        c = count_operations(model)
        tf.keras.backend.clear_session()
        print(f"bdd: counted {name} {','.join(channels)}", file=sys.stderr, flush=True)
        return Cost(
            name,
            ",".join(channels),
            c.binary_macs > 0,
            c.parameters,
            c.binary_macs,
            c.float_macs,
            c.channel_macs,
            size,
        )

    def wanted(table: Iterable[str]) -> list[str]:
        return [name for name in table if not names or name in names]

    found = []
    for name in wanted(BINARY):
        for channels in CHANNELS:
            # One file per backbone, with the default channels.
            size = untrained(name, RESOLUTION, channels).stat().st_size if len(channels) > 1 else None
            found.append(cost(build_detector(name, RESOLUTION, channels, "paper"), name, channels, size))
    for name in wanted(VISION):
        size = baseline(name, RESOLUTION).stat().st_size
        found.append(cost(build_detector(name, RESOLUTION, ("rgb",)), name, ("rgb",), size))
    for name in wanted(FLOAT):
        application = FLOAT[name]
        # Only MobileNetV3 would scale its input inside the graph, which a detector does not do.
        options = {"include_preprocessing": False} if name.startswith("mobilenetv3") else {}
        model = getattr(tf.keras.applications, application)(
            weights=None,
            input_shape=(RESOLUTION, RESOLUTION, 3),
            classes=1,
            classifier_activation="sigmoid",
            **options,
        )
        found.append(cost(model, name, ("rgb",), _float_bytes(model)))
    return found


def _float_bytes(model: tf.keras.Model) -> int:
    from bdd_tf.legacy_keras import tf

    image = [tf.TensorSpec([1, *model.input_shape[1:]], tf.float32, name="image")]
    traced = tf.function(lambda x: model(x, training=False), image, autograph=False)
    return len(
        tf.lite.TFLiteConverter.from_concrete_functions([traced.get_concrete_function()], model).convert()
    )


def write(folder: Path, costs: list[Cost]) -> Path:
    """Write ``costs.json`` into a folder, atomically; return its path."""
    document = {"command": COMMAND, "resolution": RESOLUTION, "networks": [asdict(c) for c in costs]}
    return score_files.write_json(Path(folder) / FILE, document)


def merged(stored: list[Cost], counted: list[Cost]) -> list[Cost]:
    """Return the stored counts with those that were counted again in their places, and new ones at the end."""
    fresh = {(c.name, c.channels): c for c in counted}
    kept = [fresh.pop((c.name, c.channels), c) for c in stored]
    return [*kept, *fresh.values()]


def read(folder: Path) -> list[Cost]:
    """Read the stored counts. Entries that cannot be parsed are ignored.

    Args:
        folder: Folder with ``costs.json``.

    Raises:
        BddError: If the file is missing or damaged.
    """
    path = Path(folder) / FILE
    if not path.is_file():
        raise BddError(f"{path} is missing; `{COMMAND}` generates it.")
    listed = read_json(path).get("networks")
    found = []
    for entry in listed if isinstance(listed, list) else []:
        if not isinstance(entry, dict):
            continue
        values: dict[str, Any] = {f.name: number(entry, f.name) for f in fields(Cost)}
        values |= {key: text(entry.get(key)) for key in ("name", "channels")}
        values["binary"] = entry.get("binary") is True
        if all(value is not None for key, value in values.items() if key != "bytes"):
            found.append(Cost(**values))
    return found
