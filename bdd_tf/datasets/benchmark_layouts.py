"""Folder layouts of published benchmarks of AI-made photographs: GenImage, AIGCDetect, ForenSynths, WildRF, Chameleon.

All of them end in a folder per class, below folders that name a split, a generator, a platform or an object class in
an order of their own. One scan serves them: class and split are recognized by name wherever they occur on the way to
an image, and the other folders name its source.
"""

from __future__ import annotations

import os
from pathlib import Path

from bdd_tf.datasets.index import Record
from bdd_tf.edge.images.find import find_images
from bdd_tf.edge.labels import FAKE, REAL

CLASSES = {"0_real": REAL, "1_fake": FAKE, "real": REAL, "fake": FAKE, "nature": REAL, "ai": FAKE}


def scan_benchmark(root: Path, splits: dict[str, str], otherwise: str | None) -> list[Record]:
    """All images that lie below a class folder.

    Args:
        root: Folder of the benchmark.
        splits: Lower-case folder name -> split.
        otherwise: Split of images below no such folder.

    Returns:
        A record per image. Its source is the first folder that is neither class nor split (the generator, or the
        platform); empty if there is none. Images in no class folder, and those below two contradicting ones, are
        left out.
    """
    records = []
    for file in find_images([root]):
        name = str(file)[len(str(root)) + 1 :].replace(os.sep, "/")
        folders = [folder.lower() for folder in name.split("/")[:-1]]
        labels = {CLASSES[folder] for folder in folders if folder in CLASSES}
        if len(labels) != 1:
            continue
        found = [splits[folder] for folder in folders if folder in splits]
        others = [
            f
            for f, low in zip(name.split("/"), folders, strict=False)
            if low not in CLASSES and low not in splits
        ]
        split = found[0] if found else otherwise
        records.append(Record(file, name, labels.pop(), split, others[0] if others else ""))
    return records
