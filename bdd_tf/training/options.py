"""The options of `bdd train`, which describe an experiment."""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path

from bdd_tf.config import Experiment, read_fields
from bdd_tf.errors import UsageError, one_of
from bdd_tf.models.channel_names import parse_channels
from bdd_tf.presets import DEFAULT_RESOLUTION, LARGE_RESOLUTION, PRESETS, experiment
from bdd_tf.runs import RUNS_DIR
from bdd_tf.training.cluster import JOIN_SECONDS


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `bdd train`: the fields of an experiment."""
    _add_data_arguments(parser.add_argument_group("data"))
    _add_network_arguments(parser.add_argument_group("network"))
    _add_optimization_arguments(parser.add_argument_group("optimization"))
    parser.add_argument(
        "--preset",
        help="a file of bdd_tf/experiments: scratch, paper, paper-cifake-t ...; default: paper with --init, else scratch",
    )
    parser.add_argument("--config", type=Path, help="config.yaml to use instead of a preset")
    parser.add_argument("--run", help="name of the run; default: data set, backbone, channels and resolution")
    parser.add_argument("--runs-dir", type=Path, default=Path(RUNS_DIR))
    _add_worker_arguments(parser.add_argument_group("several workers"))
    add_set_argument(parser)
    _add_defaults(parser)


def _add_data_arguments(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--dataset",
        help="data set (bdd data list); default: cifake; with --data-dir: folder or manifest, as found there",
    )
    group.add_argument("--data-dir", help="folder, archive or CSV with the data")
    add_name_arguments(group)
    group.add_argument("--train-fraction", type=float, help="fraction of the training images to use")
    group.add_argument(
        "--hold-out", help="photos: fold A, B, C or final, or families and sources that training must not see"
    )
    group.add_argument("--images-per-epoch", type=int, help="photos: images that an epoch draws")
    group.add_argument(
        "--own-decoders", help="photos: folder made by python -m bdd_tf.datasets.reconstructions"
    )
    group.add_argument(
        "--own-decoder-share", type=float, help="photos: their share of the FAKE draws, in [0, 1)"
    )
    group.add_argument(
        "--clean-share", type=float, help="photos: share of the crops coded once and not degraded, in [0, 1)"
    )
    group.add_argument(
        "--retouch-share",
        type=float,
        help="photos: share of the crops sharpened, denoised or toned, in [0, 1)",
    )
    group.add_argument("--augment", help="comma-separated: flip, vflip, rot90, crop, jitter; or none")
    group.add_argument("--loader-threads", type=int, help="threads that decode and augment images; default 2")


def _add_network_arguments(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--backbone", help="e.g. bnext-n, bnext-t, quicknet, resnet50; default bnext-n")
    group.add_argument("--channels", help="rgb and any of sobel, fft, lbp, haar, median; default rgb,fft,lbp")
    group.add_argument("--variant", help="channel formulas: paper or stable")
    group.add_argument(
        "--resolution",
        type=int,
        help="side of the input in pixels; default: "
        + ", ".join(f"{side} for {name}" for name, side in DEFAULT_RESOLUTION.items())
        + f", otherwise {LARGE_RESOLUTION}",
    )
    group.add_argument(
        "--stem-stride",
        type=int,
        help="stride of the backbone's stem: 1, 2 or 4; default: chosen by the resolution",
    )
    group.add_argument(
        "--stem",
        help="adapter (a convolution reduces all channels to three) or direct (BNext's stem sees all of them)",
    )
    group.add_argument(
        "--resize",
        help="native (shorter side to the resolution) or reference (to 9/8 of it), then centre crop; views (native "
        "crops, data set photos only)",
    )
    group.add_argument("--init", help="initial weights: a run or a .weights.h5 file")
    group.add_argument("--freeze", type=int, choices=(0, 1), help="1: train adapter and classifier only")
    group.add_argument(
        "--gradients", help="how BNext gradients are computed: int8 or float32 (native kernels), or keras"
    )


def _add_optimization_arguments(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--epochs", type=int, help="passes over the training split")
    group.add_argument("--batch", type=int, help="images per gradient")
    group.add_argument("--accumulate", type=int, help="gradients summed per update")
    group.add_argument("--learning-rate", type=float, help="peak learning rate")
    group.add_argument("--warmup", type=int, help="updates with linearly rising learning rate")
    group.add_argument("--weight-decay", type=float, help="AdamW's decay of float kernels")
    group.add_argument("--clip-norm", type=float, help="largest global norm of a gradient; 0: no limit")
    group.add_argument("--label-smoothing", type=float, help="in [0, 1)")
    group.add_argument("--ema", type=float, help="decay of a moving average of the weights; 0: none")
    group.add_argument("--seed", type=int, help="of weights, order and augmentation")
    group.add_argument(
        "--patience",
        type=int,
        help="end after so many epochs without a better validation AUC; 0: never end early",
    )
    group.add_argument(
        "--mixed-precision",
        type=int,
        choices=(0, 1),
        help="1: compute in bfloat16, for float backbones on hardware that has it",
    )


def _add_worker_arguments(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--processes",
        type=int,
        metavar="N",
        help="train by N processes of this machine, each with batches of its own (docs/distributed-training.md)",
    )
    group.add_argument(
        "--cluster",
        choices=("tf-config", "slurm"),
        help="where the workers on several machines are named; default: in TF_CONFIG, if it is set",
    )
    group.add_argument(
        "--join-timeout",
        type=float,
        metavar="SECONDS",
        default=JOIN_SECONDS,
        help="how long a worker waits at the start for the others; default %(default)s",
    )


def _add_defaults(parser: argparse.ArgumentParser) -> None:
    """Append the default of each experiment's field to the help of its option, unless the text states one."""
    for field in dataclasses.fields(Experiment):
        for action in parser._actions:
            if action.dest != field.name or not action.help or "default" in action.help:
                continue
            value = field.default
            if isinstance(value, tuple):
                value = ",".join(value)
            elif isinstance(value, bool):
                value = int(value)
            if value not in (None, ""):
                action.help += f"; default {value}"


def add_set_argument(parser: argparse.ArgumentParser) -> None:
    """Add the option that reaches every field of an experiment."""
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="any setting of config.yaml, e.g. final_learning_rate=0.1; may be repeated",
    )


def _settings(entries: list[str]) -> dict[str, object]:
    """Fields of an experiment from ``KEY=VALUE``, values in YAML.

    Raises:
        UsageError: For an entry without a value, an unknown field, or text that is no YAML.
    """
    import yaml

    defaults = {field.name: field.default for field in dataclasses.fields(Experiment)}
    found: dict[str, object] = {}
    for entry in entries:
        key, equals, text = entry.partition("=")
        key = key.strip().replace("-", "_")
        if not equals:
            raise UsageError(f"--set takes KEY=VALUE, such as final_learning_rate=0.1; got {entry!r}.")
        if key not in defaults:
            raise one_of("setting", key, tuple(defaults))
        try:
            value = yaml.safe_load(text)
        except yaml.YAMLError:
            raise UsageError(f"--set {entry}: the value cannot be read.") from None
        several = isinstance(defaults[key], tuple) and not isinstance(value, list)
        found[key] = [part for part in str(text).split(",") if part] if several else value
    return found


def add_name_arguments(parser: argparse._ActionsContainer) -> None:
    """Add the options for names of classes and columns, for the data sets folder and manifest."""
    parser.add_argument(
        "--real",
        nargs="+",
        metavar="NAME",
        help="folders or labels that mean REAL (default: the usual names)",
    )
    parser.add_argument("--fake", nargs="+", metavar="NAME", help="folders or labels that mean FAKE")
    parser.add_argument(
        "--columns",
        nargs="+",
        metavar="COLUMN=NAME",
        help="columns of a manifest, e.g. path=file label=class",
    )


_FIELDS = (
    "dataset data_dir backbone variant resolution stem_stride stem resize epochs batch accumulate learning_rate warmup "
    "weight_decay clip_norm label_smoothing train_fraction hold_out images_per_epoch own_decoders own_decoder_share "
    "clean_share retouch_share ema init gradients patience seed"
).split()


def experiment_from(args: argparse.Namespace) -> Experiment:
    """Build the experiment that the options describe.

    Raises:
        UsageError: For invalid options.
    """
    given = {name: getattr(args, name) for name in _FIELDS if getattr(args, name) is not None}
    for name in ("real", "fake", "columns"):
        if getattr(args, name) is not None:
            given[name] = tuple(getattr(args, name))
    if args.channels is not None:
        given["channels"] = parse_channels(args.channels)
    if args.augment is not None:
        given["augment"] = tuple(a for a in args.augment.split(",") if a and a != "none")
    for name in ("freeze", "mixed_precision"):
        if getattr(args, name) is not None:
            given[name] = bool(getattr(args, name))
    if args.set:
        given |= _settings(args.set)
    if args.config is not None and args.preset is not None:
        raise UsageError("--config and --preset exclude each other; give one of them.")
    if args.data_dir is not None and args.dataset is None and not _names_data_set(args):
        from bdd_tf.datasets.sources import recognise

        given["dataset"] = recognise(args.data_dir)
    if args.config is None:
        return experiment(args.preset, **given)
    return Experiment.from_dict({**Experiment.load(args.config).to_dict(), **given}, "the options")


def _names_data_set(args: argparse.Namespace) -> bool:
    """Whether the preset or the configuration sets the data set."""
    path = PRESETS.get(args.preset) if args.config is None else args.config
    return path is not None and "dataset" in read_fields(path)
