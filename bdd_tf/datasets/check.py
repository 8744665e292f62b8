"""Check a data set before training: counts, sizes, unreadable files, duplicates."""

from __future__ import annotations

from collections import Counter, defaultdict
from pathlib import Path

from bdd_tf.datasets.class_names import Location
from bdd_tf.datasets.index import Entry, assign_splits, counts, index
from bdd_tf.datasets.shortcuts import warnings_of
from bdd_tf.datasets.sources import records_of
from bdd_tf.edge.labels import LABELS


def duplicates(entries: list[Entry]) -> dict:
    """Find pixel-identical images.

    Args:
        entries: Readable entries with splits.

    Returns:
        ``within``: ``SPLIT/CLASS`` -> number of repeated images, not counting the first of each; ``across``:
        ``"SPLIT/CLASS = SPLIT/CLASS"`` -> number of distinct images that occur in both.
    """
    copies: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for entry in entries:
        copies[entry.pixel_hash][f"{entry.record.split}/{LABELS[entry.record.label]}"] += 1
    within: Counter[str] = Counter()
    across: Counter[str] = Counter()
    for places in copies.values():
        for place, count in places.items():
            within[place] += count - 1
        for one in places:
            for other in places:
                if one < other:
                    across[f"{one} = {other}"] += 1
    return {"within": {k: v for k, v in within.items() if v}, "across": dict(across)}


def _sources(entries: list[Entry]) -> dict[str, dict[str, int]]:
    """Images per source and ``SPLIT/CLASS``."""
    table: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for entry in entries:
        if entry.record.source:
            table[entry.record.source][f"{entry.record.split}/{LABELS[entry.record.label]}"] += 1
    return {source: dict(places) for source, places in sorted(table.items())}


def check(name: str, data_dir: str | Location | None, cache: Path) -> dict:
    """Examine a data set before training.

    Args:
        name: A data set's name.
        data_dir: Folder, archive or CSV; None: the data set's own source.
        cache: Folder for indexes and unpacked archives.

    Returns:
        ``dataset``; ``images`` per split and class; ``sources``; ``sizes`` (the ten most frequent) and
        ``distinct_sizes``; ``unreadable``, each with ``path`` and ``error``; ``duplicates`` (:func:`duplicates`);
        ``warnings`` (:func:`bdd_tf.datasets.shortcuts.warnings_of`). The splits are those of a training.

    Raises:
        UsageError: For an unknown name, a wrong path or layout.
        BddError: For a damaged archive or a failed download.
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
        "warnings": warnings_of(readable),
    }


def print_report(found: dict) -> None:
    """Print the result of :func:`check`."""
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
    for warning in found["warnings"]:
        print(f"warning: {warning}")
    print(f"unreadable: {len(found['unreadable'])}")
    for fault in found["unreadable"]:
        print(f"  {fault['path']}: {fault['error']}")
