"""`bdd convert`: one small .tflite with binary operators from a trained run, checked before it is written."""

from __future__ import annotations

import argparse
import json
import tempfile
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
from bdd_tf.models.operations import Operations, count_operations, flat_layers, is_binary
from bdd_tf.runs import RUNS_DIR, existing_run
from bdd_tf.training import build, load_trained, say
from converters.borders import exact_borders
from converters.shrink import shrink

#: Images on which the file is compared with Keras.
CHECK_IMAGES = 64
#: The comparison fails where the median difference of probabilities, or the share of images on which the two
#: decide differently, exceeds these. A float's last bit can flip a sign near zero, so that equality of every
#: image is not to be had; a wrong padding or a lost layer is off by orders of magnitude.
MEDIAN_LIMIT = 1e-3
DECISION_LIMIT = 0.03
#: The same for a file with int8 gates. A gate that moves by a part in 250 flips a few signs, and a flipped sign moves
#: a probability: single images change (of 3,000 CIFAKE images 0.7 % their verdict), the accuracy does not.
ROUNDED_MEDIAN_LIMIT = 2e-2
ROUNDED_DECISION_LIMIT = 0.2
WEIGHTS = ("int8", "float32")


@dataclass(frozen=True)
class Agreement:
    """How near the file comes to Keras on real images.

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


def to_flatbuffer(model: tf.keras.Model) -> bytes:
    """Convert a detector with LCE.

    Args:
        model: uint8 [N, S, S, 3] -> float32 [N, 1].

    Returns:
        A .tflite file without metadata, its batch 1.
    """
    import larq_compute_engine as lce

    signature = [tf.TensorSpec([None, *model.input_shape[1:]], tf.uint8, name="image")]
    function = tf.function(lambda image: {"fake_probability": model(image, training=False)}, signature)
    # Not model.save: it traces every layer twice and takes a minute where this takes seconds.
    module = tf.Module()
    module.variables_kept = model.variables
    with tempfile.TemporaryDirectory() as folder:
        with exact_borders(model):
            traced = function.get_concrete_function()
        tf.saved_model.save(module, folder, signatures=traced)
        return lce.convert_saved_model(folder)


def metadata(config: Experiment, threshold: float, metrics: dict | None, trained: bool) -> dict:
    """The JSON that the file carries (DESIGN: The .tflite file)."""
    return {
        "format": METADATA_FORMAT,
        "backbone": config.backbone,
        "channels": list(config.channels),
        "channel_variant": config.variant,
        "resolution": config.resolution,
        "resize": config.rule.to_dict(),
        "labels": list(LABELS),
        "threshold": threshold,
        "temperature": 1.0,
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
    expected = sum(is_binary(layer) for layer in flat_layers(model))
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
    parsed = parse_tflite(content)
    engine = create_engine(parsed, num_threads=2)
    file = np.asarray(engine.run(images)).reshape(-1)
    difference = np.abs(keras - file)
    same = float(np.mean((keras >= threshold) == (file >= threshold)))
    return Agreement(len(images), float(np.median(difference)), float(difference.max()), same)


def _check_agreement(
    found: Agreement, median_limit: float, decision_limit: float, way_out: str = ""
) -> Agreement:
    if found.median > median_limit or found.decisions < 1 - decision_limit:
        raise BddError(
            f"the file disagrees with Keras on {found.images} images: median difference {found.median:.2g} "
            f"(limit {median_limit:g}), same decision on {found.decisions:.1%}; not written.{way_out}"
        )
    return found


def convert(
    model: tf.keras.Model, about: dict, output: Path, images: np.ndarray, weights: str = "int8"
) -> tuple[TfliteModel, Operations, Agreement]:
    """Convert, check, and only then write.

    Args:
        model: The detector.
        about: Metadata for the file.
        output: Where to write it.
        images: uint8 [N, S, S, 3], real images to compare on.
        weights: ``"int8"``: gates keep int8 weights (:mod:`converters.shrink`); ``"float32"``: as trained.

    Returns:
        The parsed file, the network's operations, and the agreement of what was written with Keras.

    Raises:
        UsageError: For other weights.
        BddError: If a check fails; nothing is written then.
    """
    if weights not in WEIGHTS:
        raise one_of("weights", weights, WEIGHTS)
    say(f"converting {about['backbone']}, {about['resolution']} px")
    content = to_flatbuffer(model)
    check_operators(model, parse_tflite(content))
    say(f"comparing the file with Keras on {len(images)} images")
    agreement = _check_agreement(
        compare(model, content, images, about["threshold"]), MEDIAN_LIMIT, DECISION_LIMIT
    )
    if weights == "int8":
        content = shrink(content)
        agreement = compare(model, content, images, about["threshold"])
        # Random weights decide nothing: there a flipped sign may change all that follows.
        if about["trained"]:
            _check_agreement(
                agreement,
                ROUNDED_MEDIAN_LIMIT,
                ROUNDED_DECISION_LIMIT,
                " With --weights float32 the gates keep their weights as they are.",
            )
    content = embed_metadata(content, METADATA_NAME, json.dumps(about).encode())
    parsed = parse_tflite(content)
    check_operators(model, parsed)
    write_atomically(output, content)
    return parsed, count_operations(model), agreement


def describe(output: Path, parsed: TfliteModel, operations: Operations, agreement: Agreement) -> str:
    """What `bdd convert` prints."""
    counts = ", ".join(f"{n} {name}" for name, n in operator_counts(parsed).items())
    return (
        f"{output}: {output.stat().st_size:,} bytes\n"
        f"operators: {counts}\n"
        f"binary MACs {operations.binary_macs / 1e6:.1f} M, float MACs {operations.float_macs / 1e6:.2f} M, "
        f"channels {operations.channel_macs / 1e6:.2f} M; {operations.parameters / 1e6:.2f} M parameters\n"
        f"against Keras on {agreement.images} images: median difference {agreement.median:.2g}, "
        f"largest {agreement.largest:.2g}, same decision on {agreement.decisions:.1%}"
    )


def _check_images(config: Experiment) -> tuple[np.ndarray, dict | None]:
    """Validation images of the run's data set, and what its training images are like.

    Photographs and None where the data set is out of reach now.
    """
    from bdd_tf.datasets.familiar import trained_on
    from bdd_tf.datasets.pipeline import load_dataset

    try:
        data = load_dataset(
            config.dataset,
            rule=config.rule,
            data_dir=config.data_dir,
            validation_fraction=config.validation_fraction,
        )
        batches = data.eval_batches("validation", CHECK_IMAGES)
        return next(iter(batches))[0].numpy(), trained_on(data).to_dict()
    except BddError as error:
        say(
            "comparing on photographs, and the file will not tell unfamiliar images, since the data set is out of "
            f"reach: {error}"
        )
        return photographs(CHECK_IMAGES, config.resolution), None


def convert_run(
    name: str, runs_dir: Path = Path(RUNS_DIR), weights: str = "int8"
) -> tuple[Path, TfliteModel, Operations, Agreement]:
    """Write a run's ``model.tflite`` with its threshold and metrics inside."""
    from bdd_tf.evaluation import validated_threshold

    run = existing_run(name, runs_dir)
    config = Experiment.load(run.config)
    model = load_trained(run, config)
    found = None
    for split in ("test", "validation"):
        if found is None and run.metrics(split).is_file():
            values = json.loads(run.metrics(split).read_text())
            found = {"split": split, **{k: values.get(k) for k in ("images", "accuracy", "auc", "eer")}}
    about = metadata(config, validated_threshold(run), found, trained=True)
    images, about["trained_on"] = _check_images(config)
    return run.tflite, *convert(model, about, run.tflite, images, weights)


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
        default="int8",
        metavar="|".join(WEIGHTS),
        help="of the gates (default: int8, far smaller)",
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
    if args.run:
        output, *found = convert_run(args.run, args.runs_dir, args.weights)
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
        found = convert(model, metadata(config, 0.5, None, trained=False), output, images, args.weights)
    print(describe(output, *found))
    if args.ship:
        from converters.shipping import described, ship

        say("measuring the file on the test split")
        print(described(ship(existing_run(args.run, args.runs_dir), data_dir=args.data_dir)))
    return 0
