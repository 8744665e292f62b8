"""The layouts of the data sets: which file is REAL or FAKE, in which split, from which generator."""

from __future__ import annotations

import csv
import os
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from bdd_tf.datasets import archives, kaggle, sample
from bdd_tf.datasets.index import Record
from bdd_tf.edge.images import find_images
from bdd_tf.edge.labels import FAKE, LABELS, REAL
from bdd_tf.errors import UsageError, one_of

#: Splits that a data set for training must hold; validation is carved from train.
NEEDED = ("train", "test")
_FOLDERS = {"real": REAL, "fake": FAKE, "0_real": REAL, "1_fake": FAKE}
_LABELS = {"real": REAL, "fake": FAKE, "0": REAL, "1": FAKE}
_SPLITS = {"train": "train", "training": "train", "validation": "validation", "valid": "validation",
           "val": "validation", "test": "test", "testing": "test"}  # fmt: skip


@dataclass(frozen=True)
class Source:
    """A data set: how it is laid out and where it comes from.

    Attributes:
        name: Its name on the command line.
        title: One line for people.
        licence: Its licence, as its publishers state it.
        page: Where to get it.
        layout: The expected tree.
        scan: Lists the records of a folder (or of a CSV).
        citation: How to cite it.
    """

    name: str
    title: str
    licence: str
    page: str
    layout: str
    scan: Callable[[Path], list[Record]]
    citation: str = ""


def _images(folder: Path) -> list[Path]:
    return list(find_images([folder]))


def _listing(folder: Path) -> str:
    names = sorted(p.name + "/" * p.is_dir() for p in folder.iterdir())
    return ", ".join(names[:8]) + (", ..." if len(names) > 8 else "") if names else "nothing"


def _no_layout(source: str, folder: Path) -> UsageError:
    expected = SOURCES[source].layout
    return UsageError(
        f"{folder} is not laid out as {source}: it holds {_listing(folder)}. Expected:\n{expected}"
    )


def _below(root: Path, matches: Callable[[Path], bool], depth: int = 2) -> Path | None:
    """The folder itself, or the first one a few levels down, that matches: archives wrap their trees."""
    if matches(root):
        return root
    if depth == 0:
        return None
    for child in sorted(p for p in root.iterdir() if p.is_dir() and not p.name.startswith(".")):
        found = _below(child, matches, depth - 1)
        if found:
            return found
    return None


def _named(folder: Path, names: dict) -> dict:
    """The subfolders whose lower-case name is a key: folder name -> value, sorted."""
    found = sorted(p.name for p in folder.iterdir() if p.name.lower() in names and p.is_dir())
    return {name: names[name.lower()] for name in found}


def _split_folders(folder: Path) -> dict[str, str]:
    return {name: split for name, split in _named(folder, _SPLITS).items() if _named(folder / name, _FOLDERS)}


def _labelled(root: Path, folder: Path, label: int, split: str | None) -> list[Record]:
    """All images below a folder; the first folder on the way to one, if any, names its source."""
    records, start, inside = [], len(str(root)) + 1, len(str(folder)) + 1
    for file in _images(folder):
        # Strings: a hundred thousand Path.relative_to take a second.
        name = str(file)
        first, below, _ = name[inside:].partition(os.sep)
        records.append(Record(file, name[start:].replace(os.sep, "/"), label, split, first if below else ""))
    return records


def _scan_folder(root: Path, name: str = "folder") -> list[Record]:
    base = _below(root, lambda p: bool(_split_folders(p) or _named(p, _FOLDERS)))
    if base is None:
        raise _no_layout(name, root)
    records = []
    splits = _split_folders(base)
    for folder, split in splits.items():
        found = [
            record
            for word, label in _named(base / folder, _FOLDERS).items()
            for record in _labelled(base, base / folder / word, label, split)
        ]
        if not found:
            raise UsageError(f"{base / folder} holds no images; put some there or remove the folder.")
        records += found
    if splits:
        return records
    for word, label in _named(base, _FOLDERS).items():
        # REAL/train as well as train/REAL: read as no split, it would mix test images into training.
        inner = _named(base / word, _SPLITS)
        for folder, split in inner.items():
            records += _labelled(base, base / word / folder, label, split)
        if not inner:
            records += _labelled(base, base / word, label, None)
    if len({r.split is None for r in records}) > 1:
        raise UsageError(
            f"{base} has train and test folders for one class only; give them to both or to none."
        )
    return records


def _scan_cifake(root: Path) -> list[Record]:
    base = _below(root, lambda p: {"train", "test"} <= set(_split_folders(p).values()))
    if base is None:
        raise _no_layout("cifake", root)
    return [replace(r, source=_CIFAKE[r.label]) for r in _scan_folder(base, "cifake")]


_CIFAKE = {REAL: "cifar-10", FAKE: "stable-diffusion-1.4"}
_DFFD = {"img_align_celeba": REAL, "ffhq": REAL, "pggan_v1": FAKE, "pggan_v2": FAKE, "stylegan_ffhq": FAKE,
         "stylegan_celeba": FAKE, "faceapp": FAKE, "stargan": FAKE}  # fmt: skip
_CELEBA_SPLITS = {"0": "train", "1": "validation", "2": "test"}


def _celeba(root: Path, folder: Path) -> list[Record]:
    names = ("list_eval_partition.txt", "list_eval_partition.csv")
    table = next((p for d in (folder, root, folder.parent) for n in names if (p := d / n).is_file()), None)
    if table is None:
        raise UsageError(
            f"{folder} lacks CelebA's partition file; put list_eval_partition.txt beside it or into {root}."
        )
    splits = {}
    # The table as CelebA publishes it, "000001.jpg 0", or as Kaggle's CSV.
    for line in table.read_text(encoding="utf-8", errors="replace").splitlines():
        words = line.replace(",", " ").split()
        if len(words) == 2 and words[1] in _CELEBA_SPLITS:
            splits[words[0]] = _CELEBA_SPLITS[words[1]]
    return [
        Record(f, f.relative_to(root).as_posix(), REAL, splits[f.name], "img_align_celeba")
        for f in _images(folder)
        if f.name in splits
    ]


def _scan_dffd(root: Path) -> list[Record]:
    base = _below(root, lambda p: any((p / name).is_dir() for name in _DFFD))
    if base is None:
        raise _no_layout("dffd", root)
    records = []
    for name, label in _DFFD.items():
        folder = base / name
        if not folder.is_dir():
            continue
        splits = _named(folder, _SPLITS)
        if not splits and name == "img_align_celeba":
            records += _celeba(base, folder)
            continue
        if not splits:
            raise UsageError(f"{folder} should hold train, validation and test; it holds {_listing(folder)}.")
        for part, split in splits.items():
            found = _labelled(base, folder / part, label, split)
            if not found:
                raise UsageError(f"{folder / part} holds no images; put some there or remove the folder.")
            records += [replace(r, source=name) for r in found]
    return records


_COCO = re.compile(r"COCO_(train|val)2014_(\d+)$")


def _scan_cocofake(root: Path) -> list[Record]:
    """Photographs are COCO_{train,val}2014_ID.jpg anywhere; fakes lie in a folder named like theirs.

    Photographs without fakes are left out, as in the published evaluations. The splits are COCO's: val is the
    test split, and validation is carved out of train by COCO id.
    """
    fakes, reals = [], {}
    for file in _images(root):
        inside, own = _COCO.match(file.parent.name), _COCO.match(file.stem)
        if inside:
            fakes.append((file, int(inside[2])))
        elif own:
            reals[int(own[2])] = (file, {"train": "train", "val": "test"}[own[1]])
    if not fakes or not reals:
        raise _no_layout("cocofake", root)
    orphans = [file for file, number in fakes if number not in reals]
    if orphans:
        raise UsageError(
            f"{root}: {len(orphans)} of {len(fakes)} fakes lack their photograph, "
            f"e.g. {orphans[0].parent.name}.jpg; "
            "COCO 2014's photographs must lie below it too."
        )

    def record(file: Path, number: int, label: int, source: str) -> Record:
        # The photograph's split holds for its fakes too, whatever folder they were put in.
        name = file.relative_to(root).as_posix()
        return Record(file, name, label, reals[number][1], source, f"coco{number}")

    faked = sorted({number for _, number in fakes})
    return [record(reals[n][0], n, REAL, "coco") for n in faked] + [
        record(file, n, FAKE, "stable-diffusion") for file, n in fakes
    ]


_COLUMNS = "path,label[,split][,source]"


def _scan_manifest(table: Path) -> list[Record]:
    if not table.is_file():
        raise UsageError(f"{table} is not a file; DATA_DIR= of the manifest data set is a CSV of {_COLUMNS}.")
    try:
        with table.open(newline="", encoding="utf-8-sig") as file:
            rows = [[cell.strip() for cell in row] for row in csv.reader(file, skipinitialspace=True)]
    except (csv.Error, UnicodeDecodeError, OSError) as error:
        raise UsageError(f"{table} cannot be read as CSV: {error}.") from error
    columns = [c.lower() for c in rows[0]] if rows else []
    missing = [c for c in ("path", "label") if c not in columns]
    if missing:
        raise UsageError(
            f"{table} lacks the column {' and '.join(missing)}; its first line holds "
            f"{', '.join(columns) or 'nothing'}, and should be {_COLUMNS}."
        )
    records, faults, seen = [], [], set()
    for number, cells in enumerate(rows[1:], start=2):
        if not any(cells):
            continue
        row = dict(zip(columns, cells, strict=False))
        path, label, split = row["path"], row.get("label", ""), row.get("split", "")
        if label.lower() not in _LABELS:
            faults.append(f"line {number}: label {label!r} is none of REAL, FAKE, 0, 1")
        elif split and split.lower() not in _SPLITS:
            faults.append(f"line {number}: split {split!r} is none of train, validation, test")
        elif path in seen:
            faults.append(f"line {number}: {path} is listed twice")
        elif not path or "\0" in path or not (table.parent / path).is_file():
            faults.append(f"line {number}: no file {str(table.parent / path)!r}")
        else:
            part = _SPLITS[split.lower()] if split else None
            source = row.get("source", "")
            records.append(Record(table.parent / path, path, _LABELS[label.lower()], part, source))
        seen.add(path)
    if faults:
        more = f"\n  and {len(faults) - 10} more" if len(faults) > 10 else ""
        lines = f"{len(faults)} bad line" + "s" * (len(faults) > 1)
        raise UsageError(f"{table} has {lines}:\n  " + "\n  ".join(faults[:10]) + more)
    if len({bool(r.split) for r in records}) > 1:
        raise UsageError(f"{table} gives a split for some images only; give one for all or for none.")
    return records


SOURCES = {
    s.name: s
    for s in (
        Source(
            "cifake",
            "CIFAKE: 60,000 CIFAR-10 photographs and 60,000 Stable Diffusion 1.4 images, 32 x 32",
            "MIT",
            kaggle.PAGE,
            "  train/REAL/*.jpg  train/FAKE/*.jpg\n  test/REAL/*.jpg   test/FAKE/*.jpg",
            _scan_cifake,
            "Krizhevsky 2009, Learning multiple layers of features from tiny images; Bird and Lotfi 2024, "
            "CIFAKE: image classification and explainable identification of AI-generated synthetic images.",
        ),
        Source(
            "dffd",
            "DFFD: faces, real and from six generators or editors",
            "research only, on request",
            "http://cvlab.cse.msu.edu/dffd-dataset.html",
            "  img_align_celeba/*.jpg with list_eval_partition.txt beside it\n"
            "  {ffhq,pggan_v1,pggan_v2,stylegan_ffhq,stylegan_celeba,faceapp,stargan}/\n"
            "      {train,validation,test}/*",
            _scan_dffd,
            "Dang et al. 2020, On the detection of digital face manipulation.",
        ),
        Source(
            "cocofake",
            "COCOFake: COCO 2014 photographs and Stable Diffusion images made from their captions",
            "COCO's annotations CC BY 4.0, photographs under their Flickr terms; fakes: ask the publishers",
            "https://cocodataset.org (2014 train, val); fakes: AImageLab, University of Modena (ELSA)",
            "  .../train2014/COCO_train2014_000000000009.jpg               a photograph (any folder)\n"
            "  .../train2014/COCO_train2014_000000000009/*.jpg             its fakes\n"
            "  .../val2014/...                                             the same: the test split",
            _scan_cocofake,
            "Amoroso et al. 2023, Parents and children: distinguishing multimodal deepfakes from natural "
            "images.",
        ),
        Source(
            "folder",
            "any tree of REAL and FAKE folders, with or without train, validation, test above them",
            "yours",
            "your disk",
            "  REAL/*  FAKE/*\n"
            "  or {train,validation,test}/{REAL,FAKE}/*, with or without validation\n"
            "  (any case; also 0_real and 1_fake; a folder below REAL or FAKE names the images' source)",
            _scan_folder,
        ),
        Source(
            "manifest",
            "a CSV of path,label[,split][,source]",
            "yours",
            "your disk",
            "  path,label,split,source\n  a.jpg,REAL,train,camera\n  b.png,FAKE,test,some-generator",
            _scan_manifest,
        ),
        Source(
            "sample",
            "crops of scikit-image's photographs, and the same through a small up-convolving auto-encoder",
            "the photographs' own (scikit-image, data/README.txt)",
            "made on the spot",
            "  (none: made on the spot)",
            _scan_folder,
        ),
    )
}


def records_of(name: str, data_dir: str | None, cache: Path, need: tuple[str, ...] = NEEDED) -> list[Record]:
    """List a data set's images.

    Args:
        name: A key of :data:`SOURCES`.
        data_dir: Folder, archive, or CSV (manifest); None only for cifake and sample.
        cache: Where archives are unpacked and ``sample`` is made.
        need: Splits that must hold images, where the source says which image is in which.

    Returns:
        The records, every class present.

    Raises:
        UsageError: For an unknown name, a missing or wrongly laid out path, an empty class, or a split
            without images; :class:`BddError` for a bad archive or a failed download.
    """
    if name not in SOURCES:
        raise one_of("data set", name, tuple(SOURCES))
    if name == "sample":
        if data_dir is not None:
            raise UsageError("the sample data set is made on the spot; leave out DATA_DIR= (--data-dir).")
        root = sample.make(cache)
    elif data_dir is None and name == "cifake":
        root = kaggle.download_cifake(SOURCES["cifake"].layout)
    elif data_dir is None:
        raise UsageError(
            f"{name} needs DATA_DIR= (--data-dir), a folder or an archive; source: {SOURCES[name].page}. "
            f"Expected inside:\n{SOURCES[name].layout}"
        )
    else:
        root = Path(data_dir).expanduser()
        if not root.exists():
            raise UsageError(
                f"DATA_DIR={data_dir} does not exist; give the folder or archive that holds {name}."
            )
        if name != "manifest" and not root.is_dir():
            if not archives.is_archive(root):
                raise UsageError(
                    f"{root} is neither a folder nor an archive ({', '.join(archives.SUFFIXES)})."
                )
            root = archives.unpack(root, cache)
    records = SOURCES[name].scan(root)
    _refuse_empty(name, root, records, need)
    return records


def _refuse_empty(name: str, root: Path, records: list[Record], need: tuple[str, ...]) -> None:
    for label, word in enumerate(LABELS):
        if not any(r.label == label for r in records):
            layout = SOURCES[name].layout
            raise UsageError(f"{root} holds no {word} images; {name} needs both classes. Expected:\n{layout}")
    splits = {r.split for r in records}
    for split in need:
        if splits != {None} and split not in splits:
            raise UsageError(
                f"{root} has no images in its {split} split (only {', '.join(sorted(splits))}); give it "
                "some, or no splits at all, and 80, 10 and 10 % are taken for train, validation and test."
            )
