"""`bdd data`: list, check, prepare and probe data sets."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from bdd_tf.datasets.check import check, print_report
from bdd_tf.datasets.class_names import Classes, Location
from bdd_tf.datasets.sources import SOURCES, recognise
from bdd_tf.edge.labels import LABELS
from bdd_tf.errors import UsageError, did_you_mean
from bdd_tf.files import cache_folder, exists
from bdd_tf.training.options import add_name_arguments

_MAX_PROCESSES = 256


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `bdd data`."""
    parser.add_argument(
        "action",
        choices=("list", "check", "prepare", "probe"),
        help="list the data sets; check one: counts, unreadable files, duplicates; prepare one; or probe photos for "
        "shortcuts that tell the classes apart",
    )
    parser.add_argument(
        "dataset", nargs="?", help="one of: " + ", ".join(SOURCES) + "; or a folder, archive or CSV"
    )
    parser.add_argument("--data-dir", help="folder, archive or CSV that holds the data set")
    add_name_arguments(parser)
    parser.add_argument(
        "--resolution", type=int, help="side in pixels, for prepare (32), or of the crops, for probe (128)"
    )
    parser.add_argument(
        "--hold-out",
        default="",
        help="for probe: a fold (A, B, C, final), a JSON file, or families and sources, comma-separated",
    )
    parser.add_argument("--images", type=int, default=4096, help="training crops for probe (4096)")
    parser.add_argument(
        "--resize", choices=("native", "reference"), default="native", help="for prepare: resize rule"
    )
    parser.add_argument(
        "--processes",
        type=int,
        metavar="N",
        help="for prepare: processes that resize and write the images; default: one per core for 20,000 images or more",
    )
    parser.add_argument("--json", action="store_true", help="JSON instead of a table")


def main(args: argparse.Namespace) -> int:
    """Run `bdd data`.

    Args:
        args: Parsed options of :func:`add_arguments`.

    Returns:
        0; 1 if `check` found unreadable files. Duplicates are not an error.

    Raises:
        UsageError: As for :func:`check`.
    """
    if args.action == "list":
        if args.json:
            rows = [
                {k: getattr(s, k) for k in ("name", "title", "licence", "page", "layout")}
                for s in SOURCES.values()
            ]
            print(json.dumps(rows, indent=2))
        else:
            for s in SOURCES.values():
                print(f"{s.name}: {s.title}\n  licence: {s.licence}\n  from: {s.page}\n{s.layout}\n")
        return 0
    _recognise(args)
    if args.action == "probe":
        return _probe(args)
    if args.action == "prepare":
        resolution = 32 if args.resolution is None else args.resolution
        # Imports TensorFlow, which the other actions do not need.
        from bdd_tf.datasets.pipeline import load_dataset
        from bdd_tf.edge.images.resize import ResizeRule

        rule = getattr(ResizeRule, args.resize)(resolution)
        data = load_dataset(
            args.dataset, rule=rule, data_dir=_location(args), processes=_processes(args.processes)
        )
        numbers = {
            split: dict(zip(LABELS, classes.values(), strict=True)) for split, classes in data.counts.items()
        }
        if args.json:
            print(
                json.dumps({"dataset": args.dataset, "folder": str(data.folder), "images": numbers}, indent=2)
            )
        else:
            print(f"{args.dataset} is prepared at {resolution} px in {data.folder}")
        return 0
    found = check(args.dataset, _location(args), cache_folder())
    if args.json:
        print(json.dumps(found, indent=2))
    else:
        print_report(found)
    return 1 if found["unreadable"] else 0


def _processes(given: int | None) -> int | None:
    """Check the number of processes that prepare images."""
    if given is not None and not 1 <= given <= _MAX_PROCESSES:
        raise UsageError(f"--processes must be in 1 to {_MAX_PROCESSES}; got {given}.")
    return given


def _recognise(args: argparse.Namespace) -> None:
    """Set data set and path where the user gave only a path."""
    given = args.dataset or args.data_dir
    if not given:
        raise UsageError(
            f"bdd data {args.action} needs a folder, an archive, a CSV or the name of a data set: {', '.join(SOURCES)}."
        )
    if args.dataset and args.data_dir is None and given not in SOURCES and not exists(given):
        raise _unknown(given)
    if args.dataset is None or (args.data_dir is None and given not in SOURCES):
        args.dataset, args.data_dir = recognise(given), given


def _unknown(given: str) -> UsageError:
    """Build the error for what is neither a path nor a data set."""
    path = Path(given)
    if path.suffix or path.name != given:
        return UsageError(f"there is no file or folder {given}; give a folder, an archive or a CSV.")
    return UsageError(
        f"{given!r} is neither a file or folder that exists nor a data set; data sets: {', '.join(SOURCES)}."
        f"{did_you_mean(given, SOURCES)}"
    )


def _location(args: argparse.Namespace) -> Location:
    classes = Classes(tuple(args.real or ()), tuple(args.fake or ()))
    return Location(args.data_dir, classes, tuple(args.columns or ()))


def _probe(args: argparse.Namespace) -> int:
    """Print what simple classifiers reach on the crops that training gets; 1 where the data leak."""
    if args.dataset != "photos":
        raise UsageError(f"bdd data probe knows the data set photos alone; got {args.dataset}.")
    if not args.data_dir:
        raise UsageError("bdd data probe photos needs --data-dir, the folder that holds manifest.csv.")
    if args.images < 100:
        raise UsageError(f"--images must be at least 100; got {args.images}.")
    # OpenCV, which the other actions do without.
    from bdd_tf.datasets.degrade import Degradation
    from bdd_tf.datasets.photo_batches import Mixture, PhotoBatches
    from bdd_tf.datasets.probes import report, table

    chain = Degradation() if args.resolution is None else Degradation(args.resolution)
    mixture = Mixture(args.hold_out, images_per_epoch=max(args.images, Mixture.images_per_epoch))
    found = report(PhotoBatches(args.data_dir, mixture, chain), args.images)
    print(json.dumps(found, indent=2) if args.json else table(found))
    return 1 if found["leaks"] else 0
