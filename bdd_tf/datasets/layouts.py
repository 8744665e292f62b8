"""Scanners of data set layouts: the label, split and generator of each file."""

from __future__ import annotations

import csv
import io
import os
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from bdd_tf.datasets.benchmark_layouts import scan_benchmark
from bdd_tf.datasets.class_names import COLUMNS, Location, plain
from bdd_tf.datasets.index import Record
from bdd_tf.datasets.labelled_tree import SPLIT_FOLDERS, scan_tree
from bdd_tf.datasets.photos import MANIFEST, read_manifest
from bdd_tf.edge.images.errors import ImageError
from bdd_tf.edge.images.find import find_images
from bdd_tf.edge.images.formats import HEAD, is_image
from bdd_tf.edge.images.opening import read_all
from bdd_tf.edge.labels import FAKE, REAL
from bdd_tf.errors import UsageError

_FOLDERS = {"real": REAL, "fake": FAKE, "0_real": REAL, "1_fake": FAKE}


class UnknownLayout(Exception):
    """A folder does not have the layout of the data set.

    Args:
        folder: The folder.
    """

    def __init__(self, folder: Path):
        super().__init__(folder)
        self.folder = folder


def _images(folder: Path) -> list[Path]:
    return list(find_images([folder]))


def listing(folder: Path) -> str:
    """List the first entries of a folder, for a message."""
    names = sorted(p.name + "/" * p.is_dir() for p in folder.iterdir())
    return ", ".join(names[:8]) + (", ..." if len(names) > 8 else "") if names else "nothing"


def _find_below(root: Path, matches: Callable[[Path], bool], depth: int = 2) -> Path | None:
    """Find the first matching folder, from the root down: archives often wrap their tree in folders."""
    if matches(root):
        return root
    if depth == 0:
        return None
    for child in sorted(p for p in root.iterdir() if p.is_dir() and not p.name.startswith(".")):
        found = _find_below(child, matches, depth - 1)
        if found:
            return found
    return None


def _named(folder: Path, names: dict) -> dict:
    """Subfolders whose lower-case name is a key: folder name -> value, sorted."""
    found = sorted(p.name for p in folder.iterdir() if p.name.lower() in names and p.is_dir())
    return {name: names[name.lower()] for name in found}


def _split_folders(folder: Path) -> dict[str, str]:
    return {
        name: split
        for name, split in _named(folder, SPLIT_FOLDERS).items()
        if _named(folder / name, _FOLDERS)
    }


def _labelled(root: Path, folder: Path, label: int, split: str | None) -> list[Record]:
    """All images below a folder. The first subfolder on the path to an image, if any, names its source."""
    records, start, inside = [], len(str(root)) + 1, len(str(folder)) + 1
    for file in _images(folder):
        # String operations: 100,000 calls of Path.relative_to take a second.
        name = str(file)
        first, below, _ = name[inside:].partition(os.sep)
        records.append(Record(file, name[start:].replace(os.sep, "/"), label, split, first if below else ""))
    return records


def scan_folder(root: Path, names: Location | None = None) -> list[Record]:
    """List the images of REAL and FAKE folders; see :func:`bdd_tf.datasets.labelled_tree.scan_tree`."""
    records = scan_tree(root, None if names is None else names.classes)
    if not records:
        raise UnknownLayout(root)
    return records


def scan_cifake(root: Path) -> list[Record]:
    """List the images of CIFAKE."""
    base = _find_below(root, lambda p: {"train", "test"} <= set(_split_folders(p).values()))
    if base is None:
        raise UnknownLayout(root)
    return [replace(r, source=_CIFAKE[r.label]) for r in scan_folder(base)]


_CIFAKE = {REAL: "cifar-10", FAKE: "stable-diffusion-1.4"}
_DFFD = {"img_align_celeba": REAL, "ffhq": REAL, "pggan_v1": FAKE, "pggan_v2": FAKE, "stylegan_ffhq": FAKE,
         "stylegan_celeba": FAKE, "faceapp": FAKE, "stargan": FAKE}  # fmt: skip
_CELEBASPLIT_FOLDERS = {"0": "train", "1": "validation", "2": "test"}


def _celeba(root: Path, folder: Path) -> list[Record]:
    names = ("list_eval_partition.txt", "list_eval_partition.csv")
    table = next((p for d in (folder, root, folder.parent) for n in names if (p := d / n).is_file()), None)
    if table is None:
        raise UsageError(
            f"{folder} lacks CelebA's partition file; put list_eval_partition.txt next to it or into {root}."
        )
    splits = {}
    # CelebA's own format, "000001.jpg 0", or Kaggle's CSV.
    for line in table.read_text(encoding="utf-8", errors="replace").splitlines():
        words = line.replace(",", " ").split()
        if len(words) == 2 and words[1] in _CELEBASPLIT_FOLDERS:
            splits[words[0]] = _CELEBASPLIT_FOLDERS[words[1]]
    return [
        Record(f, f.relative_to(root).as_posix(), REAL, splits[f.name], "img_align_celeba")
        for f in _images(folder)
        if f.name in splits
    ]


def scan_dffd(root: Path) -> list[Record]:
    """List the images of DFFD: folders per generator, and CelebA with its partition table."""
    base = _find_below(root, lambda p: any((p / name).is_dir() for name in _DFFD))
    if base is None:
        raise UnknownLayout(root)
    records = []
    for name, label in _DFFD.items():
        folder = base / name
        if not folder.is_dir():
            continue
        splits = _named(folder, SPLIT_FOLDERS)
        if not splits and name == "img_align_celeba":
            records += _celeba(base, folder)
            continue
        if not splits:
            raise UsageError(f"{folder} should hold train, validation and test; it holds {listing(folder)}.")
        for part, split in splits.items():
            found = _labelled(base, folder / part, label, split)
            if not found:
                raise UsageError(f"{folder / part} holds no images; put some there or remove the folder.")
            records += [replace(r, source=name) for r in found]
    return records


_COCO = re.compile(r"COCO_(train|val)2014_(\d+)$")


def scan_cocofake(root: Path) -> list[Record]:
    """Photographs are files COCO_{train,val}2014_ID.jpg in any folder; their fakes are in a folder of the same name.

    Photographs without fakes are omitted, as in the published evaluations. The splits are COCO's: val is the test split,
    and validation is taken from train by COCO id.
    """
    fakes: list[tuple[Path, int]] = []
    reals: dict[int, tuple[Path, str]] = {}
    for file in _images(root):
        inside, own = _COCO.match(file.parent.name), _COCO.match(file.stem)
        if inside:
            fakes.append((file, int(inside[2])))
        elif own:
            reals[int(own[2])] = (file, {"train": "train", "val": "test"}[own[1]])
    if not fakes or not reals:
        raise UnknownLayout(root)
    orphans = [file for file, number in fakes if number not in reals]
    if orphans:
        raise UsageError(
            f"{root}: {len(orphans)} of {len(fakes)} fakes lack their photograph, "
            f"e.g. {orphans[0].parent.name}.jpg; "
            "add COCO 2014's photographs to this folder."
        )

    def record(file: Path, number: int, label: int, source: str) -> Record:
        # Fakes belong to the split of their photograph, whatever their folder.
        name = file.relative_to(root).as_posix()
        return Record(file, name, label, reals[number][1], source, f"coco{number}")

    faked = sorted({number for _, number in fakes})
    return [record(reals[n][0], n, REAL, "coco") for n in faked] + [
        record(file, n, FAKE, "stable-diffusion") for file, n in fakes
    ]


_COLUMNS = "path,label[,split][,source]"


def _rows(table: Path) -> list[list[str]]:
    """The cells of a table: UTF-8, or UTF-16 with a byte order mark; separated by commas, semicolons or tabs."""
    try:
        content = read_all(table)
        if is_image(content[:HEAD]):
            raise UsageError(
                f"{table} is an image, not a table; a data set is a folder of images, an archive or a CSV of {_COLUMNS}. "
                "`bdd detect` scores an image."
            )
        wide = content[:2] in (b"\xff\xfe", b"\xfe\xff")
        text = content.decode("utf-16" if wide else "utf-8-sig")
        first = re.sub(r'"[^"]*"', "", text.partition("\n")[0])
        separator = max(",;\t", key=first.count)
        rows = csv.reader(
            io.StringIO(text, newline=""), delimiter=separator, skipinitialspace=separator != "\t"
        )
        return [[cell.strip() for cell in row] for row in rows]
    except (csv.Error, UnicodeDecodeError, ImageError) as error:
        raise UsageError(f"{table} cannot be read as CSV: {error}.") from error


def scan_manifest(table: Path, names: Location | None = None) -> list[Record]:
    """List the rows of a table of path, label, split and source.

    Args:
        table: The file.
        names: Names of its columns and labels; None: the usual ones.
    """
    names = names or Location()
    if not table.is_file():
        raise UsageError(
            f"{table} is not a file; --data-dir of the manifest data set is a CSV of {_COLUMNS}."
        )
    rows = _rows(table)
    columns = [c.lower() for c in rows[0]] if rows else []
    called = names.column_names
    missing = [called[c] for c in ("path", "label") if called[c] not in columns]
    missing += [
        called[e.partition("=")[0]]
        for e in names.columns
        if e.partition("=")[2].strip().lower() not in columns
    ]
    if missing:
        raise UsageError(
            f"{table} lacks the column{'s' * (len(set(missing)) > 1)} {' and '.join(dict.fromkeys(missing))}; its first "
            f"line holds {', '.join(columns) or 'nothing'}, and should be {_COLUMNS} "
            "(other names: --columns path=NAME label=NAME)."
        )
    labels = names.classes.labels
    records, faults, seen, unknown = [], [], set(), False
    for number, cells in enumerate(rows[1:], start=2):
        if not any(cells):
            continue
        row = dict(zip(columns, cells, strict=False))
        path, label, split, source = (row.get(called[c], "") for c in COLUMNS)
        if plain(label) not in labels:
            unknown = True
            faults.append(f"line {number}: unknown label {label!r}")
        elif split and split.lower() not in SPLIT_FOLDERS:
            faults.append(f"line {number}: split {split!r} is not one of train, validation, test")
        elif path in seen:
            faults.append(f"line {number}: {path} is listed twice")
        elif not path or "\0" in path or not (table.parent / path).is_file():
            faults.append(f"line {number}: no file {str(table.parent / path)!r}")
        else:
            part = SPLIT_FOLDERS[split.lower()] if split else None
            records.append(Record(table.parent / path, path, labels[plain(label)], part, source))
        seen.add(path)
    if faults:
        more = f"\n  and {len(faults) - 10} more" if len(faults) > 10 else ""
        lines = f"{len(faults)} bad line" + "s" * (len(faults) > 1)
        known = f"\n{_known_labels(labels)}" if unknown else ""
        raise UsageError(f"{table} has {lines}:\n  " + "\n  ".join(faults[:10]) + more + known)
    if len({bool(r.split) for r in records}) > 1:
        raise UsageError(f"{table} gives a split for some images only; give one for all or for none.")
    return records


def _known_labels(labels: dict[str, int]) -> str:
    """The labels of a manifest, for a message."""
    real, fake = (", ".join(name for name, label in labels.items() if label == k) for k in (REAL, FAKE))
    return f"labels, in any case: REAL is {real}; FAKE is {fake}; others with --real NAME --fake NAME."


def benchmark(splits: dict[str, str], otherwise: str | None) -> Callable[[Path], list[Record]]:
    """Return a scanner for :func:`bdd_tf.datasets.benchmark_layouts.scan_benchmark`."""

    def scan(root: Path) -> list[Record]:
        records = scan_benchmark(root, splits, otherwise)
        if not records:
            raise UnknownLayout(root)
        return records

    return scan


def scan_photos(root: Path) -> list[Record]:
    """The crops of a manifest of photographs; its validation images are the test split."""
    base = _find_below(root, lambda p: (p / MANIFEST).is_file())
    if base is None:
        raise UnknownLayout(root)
    splits = {"train": "train", "validation": "test"}
    return [
        Record(base / p.path, p.path, p.label, splits[p.split], p.source, p.content)
        for p in read_manifest(base)
    ]
