"""`bdd data`: what data sets there are, what is in one, and preparing it ahead of training."""

from __future__ import annotations

import argparse
import json
from collections import Counter, defaultdict
from pathlib import Path

from bdd_tf.datasets.index import Entry, assign_splits, cache_folder, counts, index
from bdd_tf.datasets.sources import SOURCES, records_of
from bdd_tf.edge.labels import LABELS
from bdd_tf.errors import UsageError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `bdd data`."""
    parser.add_argument(
        "action",
        choices=("list", "check", "prepare"),
        help="list the data sets; check one: counts, unreadable files, duplicates; or prepare one",
    )
    parser.add_argument("dataset", nargs="?", help="one of: " + ", ".join(SOURCES))
    parser.add_argument("--data-dir", help="folder, archive or CSV that holds it")
    parser.add_argument("--resolution", type=int, default=32, help="side in pixels, for prepare (32)")
    parser.add_argument(
        "--resize", choices=("native", "reference"), default="native", help="rule, for prepare"
    )
    parser.add_argument("--json", action="store_true", help="JSON instead of a table")


def duplicates(entries: list[Entry]) -> dict:
    """Pixel-identical images.

    Args:
        entries: Readable entries with splits.

    Returns:
        ``within``: images beyond the first of their kind, by ``SPLIT/CLASS``; ``across``: distinct images
        that occur in both of two of these, by ``"SPLIT/CLASS = SPLIT/CLASS"``.
    """
    twins = defaultdict(Counter)
    for entry in entries:
        twins[entry.pixel_hash][f"{entry.record.split}/{LABELS[entry.record.label]}"] += 1
    within, across = Counter(), Counter()
    for places in twins.values():
        for place, count in places.items():
            within[place] += count - 1
        for one in places:
            for other in places:
                if one < other:
                    across[f"{one} = {other}"] += 1
    return {"within": {k: v for k, v in within.items() if v}, "across": dict(across)}


def _sources(entries: list[Entry]) -> dict[str, dict[str, int]]:
    """Images per source and ``SPLIT/CLASS``."""
    table = defaultdict(Counter)
    for entry in entries:
        if entry.record.source:
            table[entry.record.source][f"{entry.record.split}/{LABELS[entry.record.label]}"] += 1
    return {source: dict(places) for source, places in sorted(table.items())}


def check(name: str, data_dir: str | None, cache: Path) -> dict:
    """Everything worth knowing about a data set before training on it.

    Args:
        name: A data set's name.
        data_dir: Folder, archive or CSV; None where the data set has a source of its own.
        cache: Where indexes and unpacked archives are kept.

    Returns:
        ``dataset``; ``images`` per split and class; ``sources``; ``sizes`` (the ten commonest) and
        ``distinct_sizes``; ``unreadable``, each with ``path`` and ``error``; ``duplicates``
        (:func:`duplicates`). Splits are as training would see them.

    Raises:
        UsageError: For an unknown name, a bad path or layout; BddError for a bad archive or download.
    """
    entries = index(records_of(name, data_dir, cache), cache)
    readable = assign_splits(entries)
    table = counts(readable)
    return {
        "dataset": name,
        "images": {s: {LABELS[c]: n for c, n in classes.items()} for s, classes in table.items()},
        "sources": _sources(readable),
        "sizes": {
            f"{w}x{h}": n for (w, h), n in Counter((e.width, e.height) for e in readable).most_common(10)
        },
        "distinct_sizes": len({(e.width, e.height) for e in readable}),
        "unreadable": [{"path": e.record.path, "error": e.error} for e in entries if e.error],
        "duplicates": duplicates(readable),
    }


def _print(found: dict) -> None:
    print(f"{found['dataset']}\n{'split':12}{'REAL':>9}{'FAKE':>9}")
    for split, classes in found["images"].items():
        print(f"{split:12}{classes['REAL']:9}{classes['FAKE']:9}")
    for source, places in found["sources"].items():
        print(f"source {source}: " + ", ".join(f"{place} {n}" for place, n in places.items()))
    sizes = ", ".join(f"{size} ({n})" for size, n in found["sizes"].items())
    print(f"sizes: {sizes}{' ...' if found['distinct_sizes'] > len(found['sizes']) else ''}")
    for place, number in found["duplicates"]["within"].items():
        print(f"repeated within {place}: {number}")
    for places, number in found["duplicates"]["across"].items():
        print(f"pixel-identical images in {places}: {number}")
    print(f"unreadable: {len(found['unreadable'])}")
    for fault in found["unreadable"]:
        print(f"  {fault['path']}: {fault['error']}")


def main(args: argparse.Namespace) -> int:
    """Run `bdd data`.

    Args:
        args: What a parser prepared by :func:`add_arguments` parsed.

    Returns:
        0; 1 if `check` met unreadable files. Duplicates are a finding, no error.

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
    if not args.dataset:
        raise UsageError(f"bdd data {args.action} needs the name of a data set: {', '.join(SOURCES)}.")
    if args.action == "prepare":
        # TensorFlow, which the other actions do without.
        from bdd_tf.datasets.pipeline import load_dataset
        from bdd_tf.edge.images import ResizeRule

        rule = getattr(ResizeRule, args.resize)(args.resolution)
        data = load_dataset(args.dataset, rule=rule, data_dir=args.data_dir)
        numbers = {
            split: dict(zip(LABELS, classes.values(), strict=True)) for split, classes in data.counts.items()
        }
        if args.json:
            print(
                json.dumps({"dataset": args.dataset, "folder": str(data.folder), "images": numbers}, indent=2)
            )
        else:
            print(f"{args.dataset} is prepared at {args.resolution} px in {data.folder}")
        return 0
    found = check(args.dataset, args.data_dir, cache_folder())
    if args.json:
        print(json.dumps(found, indent=2))
    else:
        _print(found)
    return 1 if found["unreadable"] else 0
