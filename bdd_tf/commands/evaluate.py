"""`bdd evaluate`: metrics and figures of a trained run."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from bdd_tf.datasets.index import SPLITS
from bdd_tf.errors import UsageError, one_of
from bdd_tf.runs import FALSE_ALARMS, RUNS_DIR, Run, existing_run


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `bdd evaluate`."""
    parser.add_argument("--run", required=True, help="name or folder of a run")
    parser.add_argument("--split", default="test", help="train, validation or test")
    parser.add_argument("--dataset", help="another data set, to measure generalisation")
    parser.add_argument("--data-dir", help="folder, archive or CSV of the data set")
    parser.add_argument(
        "--false-alarms",
        type=float,
        nargs="+",
        default=[],
        metavar="R",
        help="additional false positive rates; --split validation chooses their thresholds (always: "
        f"{', '.join(map(str, FALSE_ALARMS))})",
    )
    parser.add_argument(
        "--robustness",
        action="store_true",
        help="evaluate robustness to JPEG compression, blur, noise, resizing and cropping",
    )
    parser.add_argument(
        "--limit", type=int, metavar="N", help="with --robustness: use the first N images only"
    )
    parser.add_argument(
        "--protocol",
        choices=("photos",),
        help="photos: evaluate held-out generators and cameras under every condition (docs/photos.md)",
    )
    parser.add_argument(
        "--condition",
        nargs="+",
        metavar="C",
        help="with --protocol: only these of clean, jpeg70, jpeg50, webp70, half, screenshot, upscale; clean is always "
        "among them",
    )
    parser.add_argument(
        "--quick",
        action="store_true",
        help="with --protocol: clean, jpeg70 and half, at most 40 images per source",
    )
    parser.add_argument(
        "--file",
        action="store_true",
        help="with --protocol: evaluate the run's .tflite file, not its Keras network",
    )
    parser.add_argument("--runs-dir", type=Path, default=Path(RUNS_DIR))
    parser.add_argument("--json", action="store_true", help="print the metrics file instead of a summary")


def main(args: argparse.Namespace) -> int:
    """Run `bdd evaluate`; returns the exit code."""
    if args.split not in SPLITS:
        raise one_of("split", args.split, SPLITS)
    run = existing_run(args.run, args.runs_dir)
    if args.protocol:
        return _protocol(args, run)
    for name in ("condition", "quick", "file"):
        if getattr(args, name):
            raise UsageError(f"--{name} requires --protocol photos.")
    if args.robustness:
        from bdd_tf.evaluation import robustness

        if args.false_alarms:
            raise UsageError(
                "--false-alarms cannot be combined with --robustness, which uses the validated threshold."
            )
        document = robustness.evaluate_robustness(
            run, args.split, dataset=args.dataset, data_dir=args.data_dir, limit=args.limit
        )
        text = robustness.table(document)
    elif args.limit is not None:
        raise UsageError("--limit requires --robustness.")
    else:
        # Imports TensorFlow: help and wrong options must not wait for it.
        from bdd_tf.evaluation.evaluate import evaluate_run, summary

        document = evaluate_run(
            run, args.split, dataset=args.dataset, data_dir=args.data_dir, false_alarms=args.false_alarms
        )
        text = summary(document)
    print(json.dumps(document, indent=2) if args.json else text)
    print(f"figures in {run.figures}", file=sys.stderr)
    return 0


def _protocol(args: argparse.Namespace, run: Run) -> int:
    """Run the photo protocol and print its table."""
    # OpenCV, which the other evaluations do without.
    from bdd_tf.evaluation.photos.of_run import evaluate_run_on_photos
    from bdd_tf.evaluation.photos.table import table

    for name in ("robustness", "limit", "dataset", "false_alarms"):
        if getattr(args, name):
            raise UsageError(f"--{name.replace('_', '-')} cannot be combined with --protocol.")
    document = evaluate_run_on_photos(
        run,
        data_dir=args.data_dir,
        conditions=tuple(args.condition) if args.condition else None,
        quick=args.quick,
        file=args.file,
        report=lambda text: print(text, file=sys.stderr, flush=True),
    )
    print(json.dumps(document, indent=2) if args.json else table(document))
    print(
        f"written: {run.metrics('photos-file' if args.file else 'photos')}, {run.photo_protocol}, "
        f"{run.figures / 'protocol-photos.png'}",
        file=sys.stderr,
    )
    return 0
