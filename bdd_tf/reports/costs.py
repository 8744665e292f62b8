"""What networks cost at 224 px, by this project's own counting and converters.

Building and converting them takes minutes, so the counts are kept in a small file, ``results/costs.json``, that
`bdd report --count` writes anew.
"""

from __future__ import annotations

import sys
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from bdd_tf import metrics
from bdd_tf.errors import BddError
from bdd_tf.reports.reading import number, read_json, text

FILE = "costs.json"
COMMAND = "bdd report --count"
RESOLUTION = 224
#: Binary detectors of ours.
BINARY = ("bnext-n", "bnext-t", "bnext-s", "bnext-m")
#: Float networks as published, classifier included, with one output in place of 1000: class in keras.applications.
FLOAT = {
    "resnet50": "ResNet50",
    "vgg16": "VGG16",
    "densenet121": "DenseNet121",
    "mobilenetv3-small": "MobileNetV3Small",
    "efficientnet-b0": "EfficientNetB0",
}
#: Channels of the binary detectors that are counted: the image alone, as in the paper, and our default.
CHANNELS = (("rgb",), ("rgb", "fft", "lbp"))


@dataclass(frozen=True)
class Cost:
    """A network's cost for one image.

    Attributes:
        name: Backbone.
        channels: Joined by commas; ``rgb`` for the float networks.
        binary: Whether its convolutions are binary.
        parameters: All weights, latent binary ones included.
        binary_macs: Multiply-accumulates between signs.
        float_macs: Those of float convolutions and dense layers.
        channel_macs: Those of the channel layers (grey, DFT, Sobel).
        bytes: Size of its .tflite file (float32 weights for float networks); None where none was made.
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
        """In the paper's sense: binary MACs / 64 + float MACs. Channels are left out there; not here."""
        return self.binary_macs / 64 + self.float_macs + self.channel_macs


def count() -> list[Cost]:
    """Build, count and convert every network; takes minutes, and some GiB of memory for VGG16."""
    from bdd_tf.legacy_keras import tf
    from bdd_tf.models.detector import build_detector
    from bdd_tf.models.operations import count_operations
    from bdd_tf.rival_files import untrained

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

    found = []
    for name in BINARY:
        for channels in CHANNELS:
            # One file per backbone: that of the detector as it is shipped.
            size = untrained(name, RESOLUTION, channels).stat().st_size if len(channels) > 1 else None
            found.append(cost(build_detector(name, RESOLUTION, channels), name, channels, size))
    for name, application in FLOAT.items():
        # MobileNetV3 alone would scale its input in the graph, as a detector does not.
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


def _float_bytes(model) -> int:  # noqa: ANN001 (a Keras model; TensorFlow is loaded for counting only)
    from bdd_tf.legacy_keras import tf

    image = [tf.TensorSpec([1, *model.input_shape[1:]], tf.float32, name="image")]
    traced = tf.function(lambda x: model(x, training=False), image).get_concrete_function()
    return len(tf.lite.TFLiteConverter.from_concrete_functions([traced], model).convert())


def write(folder: Path, costs: list[Cost]) -> Path:
    """Write ``costs.json`` into a folder, atomically; returns its path."""
    document = {"command": COMMAND, "resolution": RESOLUTION, "networks": [asdict(c) for c in costs]}
    return metrics.write_json(Path(folder) / FILE, document)


def read(folder: Path) -> list[Cost]:
    """The counts that were kept; networks that cannot be understood are left out.

    Args:
        folder: Where ``costs.json`` lies.

    Raises:
        BddError: If there is no such file, or it is damaged.
    """
    path = Path(folder) / FILE
    if not path.is_file():
        raise BddError(f"{path} is missing; `{COMMAND}` writes it.")
    listed = read_json(path).get("networks")
    found = []
    for entry in listed if isinstance(listed, list) else []:
        if not isinstance(entry, dict):
            continue
        values = {f.name: number(entry, f.name) for f in fields(Cost)}
        values |= {key: text(entry.get(key)) for key in ("name", "channels")}
        values["binary"] = entry.get("binary") is True
        if all(value is not None for key, value in values.items() if key != "bytes"):
            found.append(Cost(**values))
    return found
