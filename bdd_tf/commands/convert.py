"""`bdd convert`: write the .tflite file of a run."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from bdd_tf.console import say
from bdd_tf.errors import UsageError, one_of
from bdd_tf.files import check_output
from bdd_tf.models.channel_names import parse_channels
from bdd_tf.presets import experiment
from bdd_tf.runs import RUNS_DIR, Validated, evaluation_notes, existing_run, unchosen_notes
from converters.choices import DELEGATE_FREE, WEIGHTS

if TYPE_CHECKING:
    from bdd_tf.edge.tflite.file import TfliteModel
    from bdd_tf.models.operation_counts import Operations
    from converters.verify import Agreement

# TensorFlow is imported by the functions that need it: help and wrong options must not wait for it.

#: Below this resolution images are used at their native size, and comparing many of them is fast.
_SMALL = 96


def describe(
    output: Path, parsed: TfliteModel, operations: Operations, agreement: Agreement, reference: str = "Keras"
) -> str:
    """Return the summary that `bdd convert` prints.

    Args:
        output: Path of the written file.
        parsed: The file.
        operations: The network's operation counts.
        agreement: Agreement of the file with its reference.
        reference: Name of the reference.
    """
    from converters.verify import operator_counts

    counts = ", ".join(f"{n} {name}" for name, n in operator_counts(parsed).items())
    return (
        f"{output}: {output.stat().st_size:,} bytes\n"
        f"operators: {counts}\n"
        f"binary MACs {operations.binary_macs / 1e6:.1f} M, float MACs {operations.float_macs / 1e6:.2f} M, "
        f"channels {operations.channel_macs / 1e6:.2f} M; {operations.parameters / 1e6:.2f} M parameters\n"
        f"against {reference} on {agreement.images} images: median difference {agreement.median:.2g}, "
        f"largest {agreement.largest:.2g}, same decision on {agreement.decisions:.1%}"
        + ("" if agreement.auc_loss is None else f", AUC {-agreement.auc_loss:+.4f} on validation images")
    )


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `bdd convert`."""
    parser.add_argument("--run", help="convert this run and write its model.tflite")
    parser.add_argument(
        "--runs-dir", type=Path, default=Path(RUNS_DIR), help="folder of the runs; default runs"
    )
    parser.add_argument(
        "--weights",
        metavar="|".join(WEIGHTS),
        help="binary network: int8 quantizes the weights of the gates (default); narrow compresses the vectors to int8 "
        "or float16 as well, which makes the smallest file; float32 keeps all weights as trained. Float network: "
        "float32 is the default; int8 quantizes weights and activations",
    )
    parser.add_argument(
        "--twin",
        metavar="|".join(DELEGATE_FREE),
        help="binary network: write a delegate-free export (model-float.tflite or model-int8.tflite) that uses builtin "
        "operators only",
    )
    release = parser.add_argument_group("release")
    release.add_argument(
        "--ship",
        action="store_true",
        help="with --run: evaluate the file on the test split and bundle it with the package, with a model card",
    )
    release.add_argument("--data-dir", help="with --ship: current folder of the run's data set")
    untrained = parser.add_argument_group("random weights")
    untrained.add_argument(
        "--untrained",
        action="store_true",
        help="convert a network with random weights, to measure its speed and size",
    )
    untrained.add_argument("--output", help="with --untrained: the file to write")
    untrained.add_argument(
        "--backbone",
        help="with --untrained; default bnext-t. With --from-torch, where a file fits two: clip-vit-b32 or openclip-vit-b32",
    )
    untrained.add_argument("--resolution", type=int, default=224, help="with --untrained; default 224")
    untrained.add_argument(
        "--channels",
        help="with --untrained (default rgb,fft,lbp), or with --from-torch if the checkpoint does not name its channels",
    )
    untrained.add_argument(
        "--stem-stride", type=int, help="with --untrained: stride of the first convolution"
    )
    torch = parser.add_argument_group("PyTorch weights")
    torch.add_argument(
        "--from-torch",
        type=Path,
        metavar="CHECKPOINT",
        help="import weights of PyTorch, TorchScript, safetensors or .npz as the new run --run",
    )
    torch.add_argument(
        "--file", metavar="NAME", help="with --from-hub: the repository's file; default: the usual one"
    )
    torch.add_argument(
        "--from-hub", metavar="ID[@REVISION]", help="import weights of the Hugging Face hub as --run"
    )
    torch.add_argument(
        "--sha256", metavar="HEX", help="with --from-torch, --from-hub: refuse a file with another SHA-256"
    )
    torch.add_argument(
        "--to-torch", type=Path, metavar="FILE", help="export the run --run as PyTorch weights"
    )
    torch.add_argument("--dataset", help="with --from-torch: the data set that the weights were trained on")


def _check(args: argparse.Namespace) -> None:
    """Check that the options can be combined.

    Raises:
        UsageError: If they cannot.
    """
    if bool(args.run) == args.untrained:
        raise UsageError("give either --run NAME, or --untrained with --output F.tflite.")
    imported = args.from_torch or args.from_hub
    if args.ship and (args.untrained or imported or args.to_torch):
        raise UsageError("--ship can be combined with --run NAME only.")
    if args.data_dir and not args.ship:
        raise UsageError("--data-dir needs --ship.")
    if sum(map(bool, (args.from_torch, args.from_hub, args.to_torch))) > 1:
        raise UsageError("give one of --from-torch CHECKPOINT, --from-hub ID and --to-torch FILE.")
    if (args.file and not args.from_hub) or (args.sha256 and not imported):
        raise UsageError(
            "--file needs --from-hub ID, and --sha256 needs --from-hub ID or --from-torch CHECKPOINT."
        )
    if imported or args.to_torch:
        if not args.run:
            raise UsageError("--from-torch, --from-hub and --to-torch need --run NAME.")
        return
    if args.twin and args.weights:
        raise UsageError("--twin and --weights cannot be combined: --twin determines the precision.")
    if args.twin and args.twin not in DELEGATE_FREE:
        raise one_of("twin", args.twin, DELEGATE_FREE)
    args.output = check_output("--output", args.output)
    if args.untrained and args.output is None:
        raise UsageError("--untrained needs --output F.tflite.")


def _torch(args: argparse.Namespace, channels: tuple[str, ...] | None) -> Path:
    """Import or export PyTorch weights; return the new run's folder or the written file."""
    from converters.pytorch import keras_weights

    if args.to_torch:
        return keras_weights.export_run(args.run, args.to_torch, args.runs_dir)
    path, origin = args.from_torch, None
    if args.from_hub:
        from converters.hub import fetch

        path, origin = fetch(args.from_hub, args.file)
    if args.sha256:
        from converters.hub import check_digest

        check_digest(path, args.sha256)
    run = keras_weights.import_checkpoint(
        path,
        args.run,
        args.runs_dir,
        channels=channels,
        dataset=args.dataset,
        backbone=args.backbone,
        origin=origin,
    )
    return run.path


def _untrained(
    args: argparse.Namespace, channels: tuple[str, ...] | None
) -> tuple[TfliteModel, Operations, Agreement]:
    """Convert a network with random weights and re-estimated batch norm statistics."""
    from bdd_tf.training.weights import build
    from converters.convert import (
        CHECK_IMAGES,
        check_delegate_free,
        convert,
        export_delegate_free,
        metadata,
        to_flatbuffer,
    )
    from converters.sample_images import photographs, update_bn
    from converters.verify import binary_layers

    small = args.resolution < _SMALL
    config = experiment(
        backbone=args.backbone or "bnext-t",
        resolution=args.resolution,
        channels=channels or ("rgb", "fft", "lbp"),
        stem_stride=args.stem_stride,
        resize="native" if small else "reference",
    )
    model = build(config)
    update_bn(model, photographs(16, config.resolution, seed=1))
    images = photographs(CHECK_IMAGES if small else 8, config.resolution)
    ranges = photographs(CHECK_IMAGES, config.resolution, seed=2)
    about = metadata(config, Validated(), None, trained=False)
    if not args.twin:
        return convert(model, about, args.output, images, args.weights, ranges)
    check_delegate_free(args.twin, config.backbone, binary_layers(model) > 0)
    return export_delegate_free(model, about, args.output, images, args.twin, to_flatbuffer(model), ranges)


def main(args: argparse.Namespace) -> int:
    """Run `bdd convert`; return the exit code.

    Raises:
        UsageError: If options contradict each other or do not suit the network.
        BddError: If a run cannot be read, or the file fails its verification.
    """
    _check(args)
    channels = parse_channels(args.channels) if args.channels else None
    if args.from_torch or args.from_hub or args.to_torch:
        print(_torch(args, channels))
        return 0
    if args.run:
        existing_run(args.run, args.runs_dir)
        from converters.convert import convert_run

        output, parsed, operations, agreement = convert_run(args.run, args.runs_dir, args.weights, args.twin)
    else:
        output = args.output
        parsed, operations, agreement = _untrained(args, channels)
    reference = "the binary file" if args.twin else "Keras"
    print(describe(output, parsed, operations, agreement, reference))
    if args.run:
        run = existing_run(args.run, args.runs_dir)
        for note in (*unchosen_notes(run), *evaluation_notes(run)):
            say(f"warning: {note}")
    if args.ship:
        from converters.release import describe_release, release_model

        say("evaluating the file on the test split")
        print(describe_release(release_model(existing_run(args.run, args.runs_dir), data_dir=args.data_dir)))
    return 0
