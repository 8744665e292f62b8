"""`bdd convert`: one .tflite from a trained run, its binary operators kept, checked before it is written."""

from __future__ import annotations

import argparse
import json
from collections import Counter
from dataclasses import dataclass
from importlib import util
from pathlib import Path

import numpy as np

from bdd_tf import __version__
from bdd_tf.channels import parse_channels
from bdd_tf.config import Experiment, experiment, write_atomically
from bdd_tf.edge.engines import create_engine
from bdd_tf.edge.images import ResizeRule, read_image
from bdd_tf.edge.labels import LABELS
from bdd_tf.edge.tflite_file import METADATA_FORMAT, METADATA_NAME, TfliteModel, embed_metadata, parse_tflite
from bdd_tf.errors import BddError, UsageError, one_of
from bdd_tf.legacy_keras import tf
from bdd_tf.models.detector import fold_temperature
from bdd_tf.models.operations import Operations, count_operations, flat_layers, is_binary
from bdd_tf.runs import RUNS_DIR, Validated, existing_run, validated
from bdd_tf.training import build, load_trained, say
from converters import stock
from converters.borders import exact_borders
from converters.folding import fold
from converters.narrow import narrow
from converters.shrink import shrink

#: Images on which the file is compared with Keras.
CHECK_IMAGES = 64
#: Further ones that the ranges of an int8 network's activations are taken from.
CALIBRATION_IMAGES = 128
#: The comparison fails where the median difference of probabilities, or the share of images on which the two
#: decide differently, exceeds these. A float's last bit can flip a sign near zero, so that equality of every
#: image is not to be had; a wrong padding or a lost layer is off by orders of magnitude.
MEDIAN_LIMIT = 1e-3
DECISION_LIMIT = 0.03
#: The same for int8 networks, and for a file with int8 gates. A gate that moves by a part in 250 flips a few signs, and
#: a flipped sign moves a probability: single images change (of 3,000 CIFAKE images 0.7 % their verdict), the accuracy does not.
ROUNDED_MEDIAN_LIMIT = 2e-2
ROUNDED_DECISION_LIMIT = 0.2
#: And for the int8 twin of a binary network, where activations are rounded on both sides of every sign: more of them flip
#: (0.024 was seen with every decision the same).
TWIN_MEDIAN_LIMIT = 5e-2
WEIGHTS = ("int8", "float32", "narrow")
TWINS = ("float", "int8")


@dataclass(frozen=True)
class Agreement:
    """How near a file comes to Keras, or to another file, on real images.

    Attributes:
        images: How many were compared.
        median: Median difference of probabilities.
        largest: Largest difference.
        decisions: Share of images with the same decision at the threshold.
    """

    images: int
    median: float
    largest: float
    decisions: float


def photographs(count: int, size: int, seed: int = 0) -> np.ndarray:
    """Crops of scikit-image's photographs, [count, size, size, 3] uint8: natural images without a data set."""
    folder = Path(util.find_spec("skimage").submodule_search_locations[0]) / "data"
    names = ("astronaut.png", "chelsea.png", "coffee.png", "rocket.jpg", "motorcycle_left.png")
    images = [read_image(folder / name) for name in names]
    rng, rule = np.random.default_rng(seed), ResizeRule.native(size)
    crops = []
    for i in range(count):
        image = images[i % len(images)]
        side = int(rng.integers(min(96, *image.shape[:2]), min(image.shape[:2]) + 1))
        y, x = (int(rng.integers(0, length - side + 1)) for length in image.shape[:2])
        crops.append(rule.apply(np.ascontiguousarray(image[y : y + side, x : x + side])))
    return np.stack(crops)


def calibrate(model: tf.keras.Model, images: np.ndarray) -> None:
    """Give every batch normalisation the statistics of its input on these images, in one pass.

    Args:
        model: A detector, typically with random weights.
        images: uint8 [N, S, S, 3].
    """
    norms = [x for x in flat_layers(model) if isinstance(x, tf.keras.layers.BatchNormalization)]
    momenta = [n.momentum for n in norms]
    for norm in norms:
        norm.momentum = 0.0
    model(images, training=True)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum


def binary_layers(model: tf.keras.Model) -> int:
    """How many layers of a model multiply signs by signs."""
    return sum(is_binary(layer) for layer in flat_layers(model))


def to_flatbuffer(model: tf.keras.Model) -> bytes:
    """Convert a detector: with LCE and :mod:`converters.folding` where it is binary, else with TensorFlow's own converter.

    Args:
        model: uint8 [N, S, S, 3] -> float32 [N, 1].

    Returns:
        A .tflite file without metadata, its batch 1.
    """
    if not binary_layers(model):
        # LCE's converter would turn ResNet's padding and VALID convolution into another function.
        return stock.float_file(model)
    import larq_compute_engine as lce

    with stock.saved_model(model, exact_borders) as folder:
        return fold(lce.convert_saved_model(folder))


def metadata(config: Experiment, chosen: Validated, metrics: dict | None, trained: bool) -> dict:
    """The JSON that the file carries (DESIGN: The .tflite file); `convert` adds ``precision``.

    Args:
        config: The network's experiment.
        chosen: What validation chose. Its temperature must have been folded into the network
            (:func:`bdd_tf.models.detector.fold_temperature`), for the thresholds are those of calibrated scores.
        metrics: Figures of the network; None: not evaluated.
        trained: Whether the weights are more than random.

    Returns:
        Plain JSON values; ``thresholds`` holds a threshold for each rate of false alarms that validation could tell.
    """
    return {
        "format": METADATA_FORMAT,
        "backbone": config.backbone,
        "channels": list(config.channels),
        "channel_variant": config.variant,
        "resolution": config.resolution,
        "resize": config.rule.to_dict(),
        "labels": list(LABELS),
        "threshold": chosen.threshold,
        "temperature": chosen.temperature,
        "thresholds": {rate: t for rate, t in chosen.thresholds.items() if t is not None},
        "dataset": config.dataset if trained else None,
        "trained": trained,
        "metrics": metrics,
        "version": __version__,
    }


def operator_counts(parsed: TfliteModel) -> dict[str, int]:
    """Operators of a file by name, most frequent first."""
    return dict(Counter(op.name for graph in parsed.subgraphs for op in graph.operators).most_common())


def check_operators(model: tf.keras.Model, parsed: TfliteModel) -> None:
    """Refuse a file in which a binary convolution is not an LceBconv2d.

    Raises:
        BddError: Names the counts, or the float convolution with binary weights.
    """
    expected = binary_layers(model)
    found = operator_counts(parsed).get("LceBconv2d", 0)
    if found != expected:
        raise BddError(
            f"the network has {expected} binary convolutions, its file {found} LceBconv2d; not written."
        )
    for graph in parsed.subgraphs:
        for op in graph.operators:
            if op.name not in ("CONV_2D", "DEPTHWISE_CONV_2D"):
                continue
            weights = graph.tensors[op.inputs[1]]
            values = np.frombuffer(weights.data, np.float32) if weights.dtype == "float32" else np.empty(0)
            if values.size > 64:
                filters = np.abs(values.reshape(weights.shape[0], -1))
                if filters.shape[1] > 8 and np.all(filters == filters[:, :1]):
                    raise BddError(
                        f"tensor {weights.name} holds binary weights in a float {op.name}; not written."
                    )


def compare(model: tf.keras.Model, content: bytes, images: np.ndarray, threshold: float) -> Agreement:
    """Run Keras and the file on the same images.

    Args:
        model: The detector.
        content: Its file.
        images: uint8 [N, S, S, 3].
        threshold: Where the two decide.

    Returns:
        The agreement.
    """
    keras = np.concatenate(
        [model(images[i : i + 16], training=False).numpy()[:, 0] for i in range(0, len(images), 16)]
    )
    return _agreement(keras, file_scores(content, images), threshold)


def file_scores(content: bytes, images: np.ndarray) -> np.ndarray:
    """Fake probabilities [N] that a file gives for uint8 images [N, S, S, 3]."""
    return np.asarray(create_engine(parse_tflite(content), num_threads=2).run(images)).reshape(-1)


def _agreement(one: np.ndarray, other: np.ndarray, threshold: float) -> Agreement:
    difference = np.abs(one - other)
    same = float(np.mean((one >= threshold) == (other >= threshold)))
    return Agreement(len(one), float(np.median(difference)), float(difference.max()), same)


def _check_agreement(
    found: Agreement, median_limit: float, decision_limit: float, way_out: str = "", other: str = "Keras"
) -> Agreement:
    if found.median > median_limit or found.decisions < 1 - decision_limit:
        raise BddError(
            f"the file disagrees with {other} on {found.images} images: median difference {found.median:.2g} "
            f"(limit {median_limit:g}), same decision on {found.decisions:.1%}; not written.{way_out}"
        )
    return found


def convert(
    model: tf.keras.Model,
    about: dict,
    output: Path,
    images: np.ndarray,
    weights: str | None = None,
    calibration: np.ndarray | None = None,
) -> tuple[TfliteModel, Operations, Agreement]:
    """Convert, check, and only then write.

    Args:
        model: The detector.
        about: Metadata for the file.
        output: Where to write it.
        images: uint8 [N, S, S, 3], real images to compare on.
        weights: Of a binary network ``"int8"`` (the default): gates keep int8 weights (:mod:`converters.shrink`),
            ``"float32"``: as trained, or ``"narrow"``: the smallest file, vectors too have fewer bits
            (:mod:`converters.narrow`). Of a float network ``"float32"`` (the default), or ``"int8"``: weights and
            activations (:func:`converters.stock.int8_file`).
        calibration: uint8 [N, S, S, 3], real images for the ranges of activations; None: `images`.

    Returns:
        The parsed file, the network's operations, and the agreement of what was written with Keras.

    Raises:
        UsageError: For other weights, and narrow ones of a float network.
        BddError: If a check fails; nothing is written then.
    """
    if weights not in (*WEIGHTS, None):
        raise one_of("weights", weights, WEIGHTS)
    binary = binary_layers(model) > 0
    if weights == "narrow" and not binary:
        raise UsageError(
            f"{about['backbone']} is no binary network: --weights int8 makes its file the smallest."
        )
    weights = weights or ("int8" if binary else "float32")
    say(f"converting {about['backbone']}, {about['resolution']} px")
    content = to_flatbuffer(model)
    check_operators(model, parse_tflite(content))
    say(f"comparing the file with Keras on {len(images)} images")
    # Random weights decide nothing: scores lie close together, and one flipped sign moves them over the threshold
    # (BNext-M, QuickNet: one of these few images).
    trained = about["trained"]
    limits = (MEDIAN_LIMIT, DECISION_LIMIT) if trained else (ROUNDED_MEDIAN_LIMIT, ROUNDED_DECISION_LIMIT)
    agreement = _check_agreement(compare(model, content, images, about["threshold"]), *limits)
    if weights != "float32":
        if binary:
            content = narrow(content) if weights == "narrow" else shrink(content)
        else:
            content = stock.int8_file(model, images if calibration is None else calibration)
        agreement = compare(model, content, images, about["threshold"])
        if about["trained"]:
            what = "the gates keep their weights as they are" if binary else "nothing is rounded"
            _check_agreement(
                agreement,
                ROUNDED_MEDIAN_LIMIT,
                ROUNDED_DECISION_LIMIT,
                f" With --weights float32 {what}.",
            )
    precision = "binary" if binary else "float" if weights == "float32" else "int8"
    content = _with_metadata(content, {**about, "precision": precision})
    parsed = parse_tflite(content)
    check_operators(model, parsed)
    write_atomically(output, content)
    return parsed, count_operations(model), agreement


def _with_metadata(content: bytes, about: dict) -> bytes:
    return embed_metadata(content, METADATA_NAME, json.dumps(about).encode())


def convert_twin(
    model: tf.keras.Model,
    about: dict,
    output: Path,
    images: np.ndarray,
    twin: str,
    binary: bytes,
    calibration: np.ndarray,
) -> tuple[TfliteModel, Operations, Agreement]:
    """Write a file that computes what a binary network's does, for a runtime without our delegate.

    Args:
        model: The binary detector.
        about: Metadata for the file.
        output: Where to write it.
        images: uint8 [N, S, S, 3], real images to compare on.
        twin: ``"float"``: the same function in float32; ``"int8"``: near it, weights and activations in int8.
        binary: The binary file.
        calibration: uint8 [N, S, S, 3], real images for the ranges of activations.

    Returns:
        The parsed file, the network's operations, and the twin's agreement with the binary file.

    Raises:
        UsageError: For another twin, or a network that is not binary.
        BddError: If a check fails; nothing is written then.
    """
    if twin not in TWINS:
        raise one_of("twin", twin, TWINS)
    if not binary_layers(model):
        raise UsageError(
            f"{about['backbone']} is no binary network: its own file needs no delegate, and --weights int8 makes it an "
            "int8 one; --twin is for bnext and quicknet."
        )
    say(f"converting the {twin} twin of {about['backbone']}, {about['resolution']} px")
    threshold = about["threshold"]
    if twin == "float":
        content = fold(stock.float_file(model))
        # Against Keras the strict limits hold; the binary file may have rounded gates.
        _check_agreement(compare(model, content, images, threshold), MEDIAN_LIMIT, DECISION_LIMIT)
    else:
        content = stock.int8_file(model, calibration)
    say(f"comparing it with the binary file on {len(images)} images")
    agreement = _agreement(file_scores(content, images), file_scores(binary, images), threshold)
    if about["trained"]:
        _check_agreement(
            agreement,
            ROUNDED_MEDIAN_LIMIT if twin == "float" else TWIN_MEDIAN_LIMIT,
            ROUNDED_DECISION_LIMIT,
            " Is the binary file older than the weights? `bdd convert --run` writes it anew."
            if twin == "float"
            else " --twin float rounds nothing.",
            "the binary file",
        )
    content = _with_metadata(content, {**about, "precision": twin})
    parsed = parse_tflite(content)
    if parsed.custom_operators:
        raise BddError(
            f"the twin still holds {', '.join(sorted(set(parsed.custom_operators)))}; not written."
        )
    write_atomically(output, content)
    return parsed, count_operations(model), agreement


def describe(
    output: Path, parsed: TfliteModel, operations: Operations, agreement: Agreement, other: str = "Keras"
) -> str:
    """What `bdd convert` prints; ``other`` is what the file was compared with."""
    counts = ", ".join(f"{n} {name}" for name, n in operator_counts(parsed).items())
    return (
        f"{output}: {output.stat().st_size:,} bytes\n"
        f"operators: {counts}\n"
        f"binary MACs {operations.binary_macs / 1e6:.1f} M, float MACs {operations.float_macs / 1e6:.2f} M, "
        f"channels {operations.channel_macs / 1e6:.2f} M; {operations.parameters / 1e6:.2f} M parameters\n"
        f"against {other} on {agreement.images} images: median difference {agreement.median:.2g}, "
        f"largest {agreement.largest:.2g}, same decision on {agreement.decisions:.1%}"
    )


def _real_images(config: Experiment) -> tuple[np.ndarray, np.ndarray, dict | None]:
    """Images to compare on and images to calibrate on, uint8 [N, S, S, 3], and what the training images are like.

    They are validation images of the run's data set; photographs, and None, where it is out of reach now.
    """
    from bdd_tf.datasets.familiar import trained_on
    from bdd_tf.datasets.pipeline import load_dataset

    count = CHECK_IMAGES + CALIBRATION_IMAGES
    try:
        data = load_dataset(
            config.dataset,
            rule=config.rule,
            data_dir=config.data_dir,
            validation_fraction=config.validation_fraction,
            train_fraction=config.train_fraction,
        )
        images, about = (
            next(iter(data.eval_batches("validation", count)))[0].numpy(),
            trained_on(data).to_dict(),
        )
    except BddError as error:
        say(
            "comparing on photographs, and the file will not tell unfamiliar images, since the data set is out of "
            f"reach: {error}"
        )
        images, about = photographs(count, config.resolution), None
    check, rest = images[:CHECK_IMAGES], images[CHECK_IMAGES:]
    return check, rest if len(rest) >= CHECK_IMAGES else images, about


def convert_run(
    name: str, runs_dir: Path = Path(RUNS_DIR), weights: str | None = None, twin: str | None = None
) -> tuple[Path, TfliteModel, Operations, Agreement]:
    """Write a run's ``model.tflite`` with thresholds and metrics inside, its scores calibrated, or with `twin` its twin."""
    run = existing_run(name, runs_dir)
    config = Experiment.load(run.config)
    model, chosen = load_trained(run, config), validated(run)
    fold_temperature(model, chosen.temperature)
    found = None
    for split in ("test", "validation"):
        if found is None and run.metrics(split).is_file():
            values = json.loads(run.metrics(split).read_text())
            found = {"split": split, **{k: values.get(k) for k in ("images", "accuracy", "auc", "eer")}}
    about = metadata(config, chosen, found, trained=True)
    images, calibration, about["trained_on"] = _real_images(config)
    if twin is None:
        return run.tflite, *convert(model, about, run.tflite, images, weights, calibration)
    output = run.twin(twin)
    if binary_layers(model) and not run.tflite.is_file():
        convert(model, about, run.tflite, images)
    binary = run.tflite.read_bytes() if run.tflite.is_file() else b""
    return output, *convert_twin(model, about, output, images, twin, binary, calibration)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `bdd convert`."""
    parser.add_argument("--run", help="run whose model.tflite to write")
    parser.add_argument("--runs-dir", type=Path, default=Path(RUNS_DIR))
    parser.add_argument(
        "--untrained", action="store_true", help="random, BN-calibrated weights, to know speed and size"
    )
    parser.add_argument(
        "--from-torch", type=Path, metavar="CHECKPOINT", help="make the run --run from PyTorch weights"
    )
    parser.add_argument(
        "--to-torch", type=Path, metavar="FILE", help="write the run --run as PyTorch weights"
    )
    parser.add_argument("--dataset", help="with --from-torch: what the weights were trained on")
    parser.add_argument("--backbone", default="bnext-t", help="with --untrained")
    parser.add_argument("--resolution", type=int, default=224, help="with --untrained")
    parser.add_argument(
        "--channels",
        help="with --untrained (default rgb,fft,lbp), or --from-torch where the file does not tell",
    )
    parser.add_argument("--stem-stride", type=int, help="with --untrained")
    parser.add_argument("--output", type=Path, help="with --untrained: the file to write")
    parser.add_argument(
        "--ship",
        action="store_true",
        help="with --run: measure the file on the test split and make it the package's model, with a card",
    )
    parser.add_argument("--data-dir", help="with --ship: where the run's data set lies now")
    parser.add_argument(
        "--weights",
        metavar="|".join(WEIGHTS),
        help="of a binary network's gates (default: int8, far smaller); narrow: its vectors too get int8 or float16, the "
        "smallest file; of a float one (default: float32): int8 makes weights and activations int8",
    )
    parser.add_argument(
        "--twin",
        metavar="|".join(TWINS),
        help="of a binary network: write model-float.tflite or model-int8.tflite, which needs no delegate",
    )


def _torch(args: argparse.Namespace, channels: tuple[str, ...] | None) -> int:
    from converters import torch_to_keras

    if not args.run or (args.from_torch and args.to_torch):
        raise UsageError("give --run NAME with one of --from-torch CHECKPOINT and --to-torch FILE.")
    if args.to_torch:
        print(torch_to_keras.export_run(args.run, args.to_torch, args.runs_dir))
        return 0
    run = torch_to_keras.import_checkpoint(
        args.from_torch, args.run, args.runs_dir, channels=channels, dataset=args.dataset
    )
    print(run.path)
    return 0


def main(args: argparse.Namespace) -> int:
    """Run `bdd convert`; returns the exit code."""
    if bool(args.run) == args.untrained:
        raise UsageError("give either --run NAME, or --untrained with --output F.tflite.")
    if args.ship and (args.untrained or args.from_torch or args.to_torch):
        raise UsageError("--ship goes with --run NAME alone.")
    if args.data_dir and not args.ship:
        raise UsageError("--data-dir belongs to --ship.")
    channels = parse_channels(args.channels) if args.channels else None
    if args.from_torch or args.to_torch:
        return _torch(args, channels)
    if args.twin and args.weights:
        raise UsageError("--twin tells of what its weights are; leave --weights out.")
    if args.twin and args.twin not in TWINS:
        raise one_of("twin", args.twin, TWINS)
    if args.run:
        output, *found = convert_run(args.run, args.runs_dir, args.weights, args.twin)
    else:
        if args.output is None:
            raise UsageError("--untrained needs --output F.tflite.")
        config = experiment(
            backbone=args.backbone,
            resolution=args.resolution,
            channels=channels or ("rgb", "fft", "lbp"),
            stem_stride=args.stem_stride,
            resize="native" if args.resolution < 96 else "reference",
        )
        model, output = build(config), args.output
        calibrate(model, photographs(16, config.resolution, seed=1))
        images = photographs(CHECK_IMAGES if config.resolution < 96 else 8, config.resolution)
        ranges = photographs(CHECK_IMAGES, config.resolution, seed=2)
        about = metadata(config, Validated(), None, trained=False)
        if args.twin:
            binary = to_flatbuffer(model) if binary_layers(model) else b""
            found = convert_twin(model, about, output, images, args.twin, binary, ranges)
        else:
            found = convert(model, about, output, images, args.weights, ranges)
    print(describe(output, *found, other="the binary file" if args.twin else "Keras"))
    if args.ship:
        from converters.shipping import described, ship

        say("measuring the file on the test split")
        print(described(ship(existing_run(args.run, args.runs_dir), data_dir=args.data_dir)))
    return 0
