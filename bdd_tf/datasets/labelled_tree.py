"""Trees of class folders: the label, split and source of each image from the names of the folders on the way to it."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from bdd_tf.console import say
from bdd_tf.datasets.class_names import Classes, plain
from bdd_tf.datasets.index import Record
from bdd_tf.edge.images.find import Census, find_images
from bdd_tf.errors import UsageError

SPLIT_FOLDERS = {"train": "train", "training": "train", "validation": "validation", "valid": "validation",
                 "val": "validation", "dev": "validation", "test": "test", "testing": "test"}  # fmt: skip


@dataclass
class _Found:
    """An image below class folders; positions of its folders are indexes in ``folders``."""

    file: Path
    folders: tuple[str, ...]
    plain: tuple[str, ...] = field(init=False)

    def __post_init__(self) -> None:
        self.plain = tuple(plain(folder) for folder in self.folders)

    def marks(self, words: dict[str, int]) -> list[int]:
        """Positions of the folders that name a class or a split."""
        return [i for i, name in enumerate(self.plain) if name in words or name in SPLIT_FOLDERS]


def scan_tree(root: Path, classes: Classes | None = None) -> list[Record]:
    """List the images below class folders, at any depth, of one tree or of several side by side.

    Args:
        root: The folder.
        classes: Names of class folders; None: the usual ones.

    Returns:
        A record per image; empty if no folder names a class. Its name is relative to the folder in which classes, splits
        or several sources begin. Its split is that of the first folder with a split's name; None if there is no such
        folder. Its source is the first folder of another name. What is left out is counted and named on standard error.

    Raises:
        UsageError: If some images have a split and others have none, or a folder of a split or the class folders hold no
            images.
    """
    census = Census()
    start = len(str(root)) + (not str(root).endswith(os.sep))
    found = []
    for file in find_images([root], left_out=census.add):
        # String operations: 100,000 calls of Path.relative_to take a second.
        found.append(_Found(file, tuple(str(file)[start:].split(os.sep)[:-1])))  # noqa: PTH206
    words = (classes or Classes()).words({name for f in found for name in f.plain})
    labelled, base = [], None
    for image in found:
        labels = {words[name] for name in image.plain if name in words}
        if len(labels) == 1:
            labelled.append((image, labels.pop()))
            marks = image.marks(words)
            before = image.folders[: marks[0]]
            base = before if base is None else _common(base, before)
        else:
            census.add(image.file, "in folders of both classes" if labels else "in no class folder")
    if census.reasons:
        say(f"{root}: {census.summary()}")
    if base is None:
        _refuse_empty_classes(root, found, classes or Classes())
        return []
    _refuse_empty_splits(root.joinpath(*base), [f for f, _ in labelled], words)
    records = [_record(image, label, len(base), words) for image, label in labelled]
    _refuse_partial_splits(root, records)
    return records


def _record(image: _Found, label: int, depth: int, words: dict[str, int]) -> Record:
    folders, names = image.folders[depth:], image.plain[depth:]
    split = next((SPLIT_FOLDERS[name] for name in names if name in SPLIT_FOLDERS), None)
    source = next(
        (
            f
            for f, name in zip(folders, names, strict=True)
            if name not in words and name not in SPLIT_FOLDERS
        ),
        "",
    )
    return Record(image.file, "/".join((*folders, image.file.name)), label, split, source)


def _common(one: Sequence[str], other: Sequence[str]) -> tuple[str, ...]:
    equal = 0
    while equal < min(len(one), len(other)) and one[equal] == other[equal]:
        equal += 1
    return tuple(one[:equal])


def _refuse_empty_classes(root: Path, found: list[_Found], classes: Classes) -> None:
    """Refuse a tree with class folders that hold no images."""
    below = [Path(path, name).relative_to(root) for path, names, _ in os.walk(root) for name in names]
    words = classes.words({plain(folder.name) for folder in below})
    full = {image.folders[:depth] for image in found for depth in range(len(image.folders) + 1)}
    empty = sorted(str(f) for f in below if plain(f.name) in words and f.parts not in full)
    if empty:
        more = f" and {len(empty) - 8} more" if len(empty) > 8 else ""
        raise UsageError(
            f"{root}: the class folders {', '.join(empty[:8])}{more} hold no images; put some there."
        )


def _refuse_empty_splits(base: Path, found: list[_Found], words: dict[str, int]) -> None:
    full = {name for image in found for name in image.folders}
    for folder in sorted(p for p in base.iterdir() if plain(p.name) in SPLIT_FOLDERS and p.is_dir()):
        if folder.name not in full and any(plain(p.name) in words for p in folder.iterdir()):
            raise UsageError(f"{folder} holds no images; put some there or remove the folder.")


def _refuse_partial_splits(root: Path, records: list[Record]) -> None:
    without = [r for r in records if r.split is None]
    if not without or len(without) == len(records):
        return
    if len({r.label for r in without}) == 1 and len({r.label for r in records if r.split}) == 1:
        raise UsageError(
            f"{root} has train and test folders for one class only; give them to both or to none."
        )
    raise UsageError(
        f"{root}: {len(without)} of {len(records)} images lie below no train, validation or test folder, "
        f"e.g. {without[0].path}; move them into one, or remove these folders."
    )
