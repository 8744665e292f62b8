"""Agreement of PyTorch, Keras and the .tflite file: `python -m tools.agreement bnext-t:224 bnext-s:224 ...`.

Weights are random and BN-calibrated on photographs, or those of runs (`--run NAME`). For each network: units one
by one, each fed with Keras' own input; blocks likewise; then the whole.

In float32 a whole net with random weights is chaotic: a sign next to its threshold that one rounding flips changes
all that follows. `--double` computes both sides in float64, from the normalised image on, where no sign is that
near: any remaining difference is one of the functions, not of their rounding. The float32 results of PyTorch are then
compared with its float64 results to show the effect of rounding alone.
"""

import argparse
import copy
import os
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from bdd_tf.config import Experiment
from bdd_tf.legacy_keras import tf
from bdd_tf.models.bnext_sizes import BNEXT
from bdd_tf.models.detector import logits
from bdd_tf.presets import experiment
from bdd_tf.pytorch.batch_norm import update_bn
from bdd_tf.pytorch.bnext import GAIN, Detector, Unit, randomise
from bdd_tf.runs import Run
from bdd_tf.training.weights import build, load_trained
from converters.convert import to_flatbuffer
from converters.pytorch.state_dict import check_state, detector_entries, dump_state, load_state
from converters.sample_images import photographs
from converters.verify import file_scores

#: Inputs of a sign nearer than this to its threshold are moved off it where units are compared.
TIE = 1e-4


@dataclass(frozen=True)
class Agreement:
    """How far two nets are apart.

    Attributes:
        unit: Largest difference of any unit's output, of its scale, away from sign ties.
        block: Largest difference of the median block, ties included.
        median: Median difference of logits, in standard deviations of the logits.
        largest: Largest difference of logits, likewise.
        same: Images with the same decision.
        images: Number of images compared.
        fake: Images that PyTorch calls fake.
    """

    unit: float
    block: float
    median: float
    largest: float
    same: int
    images: int
    fake: int


def to_torch(x: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(x.transpose(0, 3, 1, 2)))


def turned(x: np.ndarray) -> np.ndarray:
    return x[:, ::-1, ::-1]


def random_pair(
    config: Experiment, images: np.ndarray, seed: int = 0, gain: float = GAIN
) -> tuple[Detector, tf.keras.Model]:
    """A calibrated PyTorch detector with random weights, and the Keras one that imports it."""
    keras = build(config)
    extra = len(config.channels) - 1
    torch.manual_seed(seed)  # convolutions too are the same whatever was drawn before
    net = randomise(
        Detector(config.backbone, extra, keras.get_layer("feature.0.conv").strides[0]), seed, gain
    )
    x = to_torch(keras.get_layer("channels")(images).numpy().astype(np.float32))
    update_bn(net, [x])
    net.eval()
    with torch.no_grad():
        net.fc.bias -= net(x).median()  # decisions are then divided
    tensors = {k: v.numpy() for k, v in net.state_dict().items()}
    entries = detector_entries(config.backbone, extra)
    assert check_state(tensors, entries) == []
    load_state(keras, tensors, entries)
    return (net.double() if keras.output.dtype == tf.float64 else net), keras


def exported_pair(config: Experiment, keras: tf.keras.Model) -> Detector:
    """The PyTorch counterpart of a Keras detector."""
    extra = len(config.channels) - 1
    net = Detector(config.backbone, extra, keras.get_layer("feature.0.conv").strides[0])
    state = dump_state(keras, detector_entries(config.backbone, extra))
    # A run's weights are float32 on disk: neither precision loses anything here.
    net.load_state_dict({k: torch.from_numpy(v) for k, v in state.items()})
    net.eval()
    return net.double() if keras.output.dtype == tf.float64 else net


def scores(net: Detector, keras: tf.keras.Model, images: np.ndarray, batch: int = 8):
    """Logits of FAKE by PyTorch and by Keras."""
    double = keras.output.dtype == tf.float64
    both = tf.keras.Model(
        keras.input,
        [keras.get_layer("normalise" if double else "channels").output, keras.get_layer("logit").output],
    )
    run = tf.function(lambda x: both(x, training=False), autograph=False)
    ours, theirs = [], []
    for i in range(0, len(images), batch):
        fed, logit = run(images[i : i + batch])
        ours.append(logit.numpy()[:, 0])
        with torch.no_grad():
            x = to_torch(fed.numpy()).to(net.fc.weight.dtype)
            theirs.append(-(net.fc(net.base_model(x)) if double else net(x)).numpy()[:, 0])
    return np.concatenate(theirs), np.concatenate(ours)


def rounded_scores(net: Detector, keras: tf.keras.Model, images: np.ndarray, batch: int = 8) -> np.ndarray:
    """Logits of FAKE by PyTorch in float32 for the float64 images of :func:`scores`: shows the effect of rounding alone."""
    normalise = tf.keras.Model(keras.input, keras.get_layer("normalise").output)
    single, found = copy.deepcopy(net).float(), []
    with torch.no_grad():
        for i in range(0, len(images), batch):
            x = to_torch(normalise(images[i : i + batch], training=False).numpy().astype(np.float32))
            found.append(-single.fc(single.base_model(x)).numpy()[:, 0])
    return np.concatenate(found)


def pieces(net: Detector, keras: tf.keras.Model, images: np.ndarray) -> tuple[dict, dict]:
    """Largest difference of each unit and block, as a share of the largest value it gives."""
    widths = BNEXT[keras.name.replace("_", "-")].widths
    wanted, units, blocks = {}, {}, {}
    ins = [keras.get_layer("feature.0.norm").output]
    for i in range(1, len(widths)):
        names = ("ffn_1", "ffn_2") if widths[i] != widths[i - 1] else ("ffn",)
        middle = keras.get_layer(f"feature.{i}.attention.add").output
        out = keras.get_layer(f"feature.{i}.{'concat' if len(names) == 2 else 'ffn.add'}").output
        wanted[i] = (ins[-1], middle, [keras.get_layer(f"feature.{i}.{n}.add").output for n in names], out)
        ins.append(out)
    got = tf.keras.Model(keras.input, list(wanted.values()))(images, training=False)

    def differ(module: torch.nn.Module, x: np.ndarray, y: np.ndarray) -> float:
        with torch.no_grad():
            x = to_torch(turned(x)).to(net.fc.weight.dtype)
            expected = module(x).numpy().transpose(0, 2, 3, 1)
        return float(np.abs(turned(y) - expected).max() / np.abs(expected).max())

    def away_from_ties(module: Unit, x: np.ndarray) -> np.ndarray:
        """x with every number that is next to a sign's threshold moved off it."""
        z = x + module.move.bias.detach().numpy().reshape(-1)
        return np.where(np.abs(z) < TIE, x + np.where(z < 0, -2 * TIE, 2 * TIE), x).astype(x.dtype)

    for i, (x, middle, _, out) in zip(wanted, got, strict=True):
        block, (start, joint, ends, _) = net.base_model.feature[i], wanted[i]
        parts = [("Attention", x, start, joint)]
        names = ("FFN_1", "FFN_2") if block.doubles else ("FFN",)
        parts += [(name, middle, joint, end) for name, end in zip(names, ends, strict=True)]
        for name, fed, source, end in parts:
            unit = getattr(block, name)
            given = away_from_ties(unit, fed.numpy())
            units[f"{i}.{name}"] = differ(
                unit, given, tf.keras.Model(source, end)(given, training=False).numpy()
            )
        blocks[i] = differ(block, x.numpy(), out.numpy())
    return units, blocks


def compare(
    net: Detector,
    keras: tf.keras.Model,
    images: np.ndarray,
    theirs: np.ndarray,
    ours: np.ndarray,
    few: int = 4,
) -> Agreement:
    """Of a few images every unit and block, of all of them the logits that :func:`scores` gave."""
    units, blocks = pieces(net, keras, images[:few])
    difference = np.abs(theirs - ours) / max(theirs.std(), 1e-12)
    return Agreement(
        max(units.values()), float(np.median(list(blocks.values()))), float(np.median(difference)),
        float(difference.max()), int(((theirs >= 0) == (ours >= 0)).sum()), len(images), int((theirs >= 0).sum()),
    )  # fmt: skip


def tflite_scores(keras: tf.keras.Model, images: np.ndarray) -> np.ndarray:
    """Logits of FAKE by the converted file, cut at the logit, since float32 probabilities near 1 have lost its precision."""
    return file_scores(to_flatbuffer(logits(keras)), images)


def tflite_scores_of_channels(keras: tf.keras.Model, images: np.ndarray, batch: int = 8) -> np.ndarray:
    """Likewise by a file that begins behind the channels, and is fed Keras' own, as PyTorch is."""
    channels = keras.get_layer("channels").output
    content = to_flatbuffer(tf.keras.Model(channels, keras.get_layer("logit").output, name=keras.name))
    run = tf.function(lambda x: tf.keras.Model(keras.input, channels)(x, training=False), autograph=False)
    fed = [run(images[i : i + batch]).numpy() for i in range(0, len(images), batch)]
    return file_scores(content, np.concatenate(fed))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("networks", nargs="*", help="backbone:resolution")
    parser.add_argument(
        "--run", type=Path, action="append", default=[], help="run folder with trained weights"
    )
    parser.add_argument("--seed", type=int, default=0, help="of random weights (0)")
    parser.add_argument("--images", type=int, default=200)
    parser.add_argument("--tflite", action="store_true", help="the converted file as well")
    parser.add_argument("--double", action="store_true", help="PyTorch and Keras in float64")
    parser.add_argument(
        "--exact", action="store_true", help="compute PyTorch alone in float64, as the exact reference"
    )
    parser.add_argument(
        "--gain",
        type=float,
        action="append",
        help=f"largest factor of a unit's branch before the residual addition ({GAIN:g})",
    )
    args = parser.parse_args()
    if args.double:
        if args.tflite:
            parser.error("--double is for PyTorch and Keras: a .tflite file computes in float32")
        tf.keras.mixed_precision.set_global_policy("float64")
    print("network             unit     block    logits/std median  largest  same decision  fake", flush=True)
    jobs = []
    for text in args.networks:
        name, _, side = text.partition(":")
        for gain in args.gain or [GAIN]:
            label = f"{text} {gain:g}" if args.gain else text
            jobs.append((label, experiment(backbone=name, resolution=int(side)), gain))
    for folder in args.run:
        jobs.append((folder.name, Experiment.load(Run(folder).config), Run(folder)))
    for label, config, origin in jobs:
        began = time.monotonic()
        images = photographs(args.images, config.resolution)
        if isinstance(origin, Run):
            keras = load_trained(origin, config)
            net = exported_pair(config, keras)
        else:
            net, keras = random_pair(config, photographs(16, config.resolution, seed=1), args.seed, origin)
        net = net.double() if args.exact else net
        theirs, ours = scores(net, keras, images)
        a = compare(net, keras, images, theirs, ours)
        print(
            f"{label:19} {a.unit:.1e}  {a.block:.1e}  {a.median:.1e}            {a.largest:.1e}  "
            f"{a.same}/{a.images}        {a.fake}  ({time.monotonic() - began:.0f} s)",
            flush=True,
        )
        others = []
        if args.double:
            single = rounded_scores(net, keras, images)
            others = [("PyTorch in float32 against itself", single, theirs)]
        del net
        if args.tflite:
            found = tflite_scores(keras, images)
            others = [(".tflite against PyTorch", found, theirs), (".tflite against Keras", found, ours)]
            found = tflite_scores_of_channels(keras, images)
            others += [(".tflite of the same channels", found, theirs)]
        for name, found, expected in others:
            difference = np.abs(found - expected) / theirs.std()
            print(
                f"  {name:34} {np.median(difference):.1e}            {difference.max():.1e}  "
                f"{((found >= 0) == (expected >= 0)).sum()}/{len(images)}",
                flush=True,
            )
        del keras
        tf.keras.backend.clear_session()
    return 0


if __name__ == "__main__":
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    sys.exit(main())
