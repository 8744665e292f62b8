"""The layouts of the data sets: which file is REAL or FAKE, in which split, from which generator."""

from __future__ import annotations

import csv
import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from bdd_tf.datasets import archives, sample
from bdd_tf.datasets.index import Record
from bdd_tf.edge.images import IMAGE_SUFFIXES
from bdd_tf.edge.labels import FAKE, REAL
from bdd_tf.errors import BddError, UsageError, one_of

_CLASSES = {"real": REAL, "0_real": REAL, "fake": FAKE, "1_fake": FAKE, "0": REAL, "1": FAKE}
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
    found = []
    for base, folders, files in os.walk(folder):
        folders.sort()
        found += [Path(base, f) for f in sorted(files) if f[0] != "." and Path(f).suffix.lower() in IMAGE_SUFFIXES]
    return found


def _listing(folder: Path) -> str:
    names = sorted(p.name + "/" * p.is_dir() for p in folder.iterdir())
    return ", ".join(names[:8]) + (", ..." if len(names) > 8 else "") if names else "nothing"


def _no_layout(source: str, folder: Path) -> UsageError:
    return UsageError(
        f"{folder} is not laid out as {source}: it holds {_listing(folder)}. Expected:\n{SOURCES[source].layout}"
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


def _class_folders(folder: Path) -> dict[str, int]:
    return {p.name: _CLASSES[p.name.lower()] for p in folder.iterdir() if p.is_dir() and p.name.lower() in _CLASSES}


def _split_folders(folder: Path) -> dict[str, str]:
    return {
        p.name: _SPLITS[p.name.lower()]
        for p in sorted(folder.iterdir())
        if p.is_dir() and p.name.lower() in _SPLITS and _class_folders(p)
    }


def _labelled(root: Path, base: Path, split: str | None) -> list[Record]:
    return [
        Record(file, file.relative_to(root).as_posix(), label, split)
        for name, label in sorted(_class_folders(base).items())
        for file in _images(base / name)
    ]


def _scan_folder(root: Path, name: str = "folder") -> list[Record]:
    base = _below(root, lambda p: bool(_split_folders(p) or _class_folders(p)))
    if base is None:
        raise _no_layout(name, root)
    splits = _split_folders(base)
    records = []
    for folder, split in splits.items():
        records += _labelled(base, base / folder, split)
    return records if splits else _labelled(base, base, None)


def _scan_cifake(root: Path) -> list[Record]:
    base = _below(root, lambda p: {"train", "test"} <= set(_split_folders(p).values()))
    if base is None:
        raise _no_layout("cifake", root)
    return _scan_folder(base, "cifake")


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
    for line in table.read_text().splitlines():
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
        splits = {p.name: _SPLITS[p.name.lower()] for p in sorted(folder.iterdir()) if p.name.lower() in _SPLITS}
        if not splits and name == "img_align_celeba":
            records += _celeba(base, folder)
            continue
        if not splits:
            raise UsageError(f"{folder} should hold train, validation and test; it holds {_listing(folder)}.")
        for part, split in splits.items():
            records += [
                Record(f, f.relative_to(base).as_posix(), label, split, name) for f in _images(folder / part)
            ]
    return records


_COCO = re.compile(r"COCO_(train|val)2014_(\d+)$")


def _scan_cocofake(root: Path) -> list[Record]:
    """Fakes lie in a folder named like their photograph; photographs without fakes are left out, as published."""
    fakes, reals = [], []
    for file in _images(root):
        inside, own = _COCO.match(file.parent.name), _COCO.match(file.stem)
        if inside:
            fakes.append((file, *inside.groups()))
        elif own:
            reals.append((file, *own.groups()))
    if not fakes or not reals:
        raise _no_layout("cocofake", root)
    splits = {"train": "train", "val": "test"}
    faked = {number for _, _, number in fakes}

    def record(file: Path, part: str, number: str, label: int) -> Record:
        source = "stable-diffusion" if label == FAKE else "coco"
        return Record(file, file.relative_to(root).as_posix(), label, splits[part], source, f"coco{int(number)}")

    return [record(*item, REAL) for item in reals if item[2] in faked] + [record(*item, FAKE) for item in fakes]


def _scan_manifest(table: Path) -> list[Record]:
    if not table.is_file():
        raise UsageError(f"{table} is no file; DATA_DIR= of the manifest data set is a CSV of path,label[,split][,source].")
    try:
        with table.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file, skipinitialspace=True)
            rows = list(reader)
            columns = [c.strip().lower() for c in reader.fieldnames or []]
    except (csv.Error, UnicodeDecodeError) as error:
        raise UsageError(f"{table} cannot be read as CSV: {error}") from error
    missing = [c for c in ("path", "label") if c not in columns]
    if missing:
        raise UsageError(f"{table} lacks the column {', '.join(missing)}; it has {', '.join(columns) or 'none'}.")
    records, faults = [], []
    for number, row in enumerate(rows, start=2):
        row = {(k or "").strip().lower(): (v or "").strip() for k, v in row.items() if isinstance(v, (str, type(None)))}
        label, split = _CLASSES.get(row["label"].lower()), row.get("split") or None
        file = table.parent / row["path"]
        if label is None:
            faults.append(f"line {number}: label {row['label']!r} is none of REAL, FAKE, 0, 1")
        elif split and split.lower() not in _SPLITS:
            faults.append(f"line {number}: split {split!r} is none of train, validation, test")
        elif not row["path"] or not file.is_file():
            faults.append(f"line {number}: no file {file}")
        else:
            records.append(
                Record(file, row["path"], label, split and _SPLITS[split.lower()], row.get("source", ""))
            )
    if faults:
        more = f"\n  and {len(faults) - 10} more" if len(faults) > 10 else ""
        raise UsageError(f"{table} has {len(faults)} bad lines:\n  " + "\n  ".join(faults[:10]) + more)
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
            "Kaggle, birdy654/cifake-real-and-ai-generated-synthetic-images",
            "  train/REAL/*.jpg  train/FAKE/*.jpg\n  test/REAL/*.jpg   test/FAKE/*.jpg",
            _scan_cifake,
            "Krizhevsky 2009, Learning multiple layers of features from tiny images; "
            "Bird and Lotfi 2024, CIFAKE: image classification and explainable identification of AI-generated images.",
        ),
        Source(
            "dffd",
            "DFFD: faces, real and from six generators or editors",
            "research only, on request",
            "the DFFD page of Michigan State University's computer vision lab",
            "  img_align_celeba/*.jpg with list_eval_partition.txt beside it\n"
            "  {ffhq,pggan_v1,pggan_v2,stylegan_ffhq,stylegan_celeba,faceapp,stargan}/{train,validation,test}/*",
            _scan_dffd,
            "Dang et al. 2020, On the detection of digital face manipulation.",
        ),
        Source(
            "cocofake",
            "COCOFake: COCO 2014 photographs and Stable Diffusion images made from their captions",
            "COCO: CC BY 4.0 annotations, photographs under their Flickr terms; fakes: see the publishers",
            "the COCO site (2014 train and val images) and the ELSA/COCOFake page",
            "  .../{train,val}2014/COCO_{train,val}2014_NNN.jpg            photographs\n"
            "  .../{train,val}2014/COCO_{train,val}2014_NNN/*.jpg          their fakes",
            _scan_cocofake,
            "Amoroso et al. 2023, Parents and children: distinguishing multimodal deepfakes from natural images.",
        ),
        Source(
            "folder",
            "any tree of REAL and FAKE folders, with or without train, validation, test above them",
            "yours",
            "your disk",
            "  REAL/*  FAKE/*        or        train/REAL/* train/FAKE/* [validation/...] test/REAL/* test/FAKE/*",
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


def _download_cifake() -> Path:
    """Fetch CIFAKE with kagglehub; it needs no key."""
    try:
        import kagglehub

        return Path(kagglehub.dataset_download("birdy654/cifake-real-and-ai-generated-synthetic-images"))
    except Exception as error:
        reason = str(error).strip().splitlines()[0][:160] if str(error).strip() else type(error).__name__
        raise BddError(
            f"CIFAKE could not be fetched with kagglehub ({reason}). Download it in a browser from "
            f"{SOURCES['cifake'].page} (search for it on Kaggle), and pass the archive or its unpacked folder "
            f"with DATA_DIR= (--data-dir). Expected inside:\n{SOURCES['cifake'].layout}"
        ) from error


def records_of(name: str, data_dir: str | None, cache: Path) -> list[Record]:
    """List a data set's images.

    Args:
        name: A key of :data:`SOURCES`.
        data_dir: Folder, archive, or CSV (manifest); None only for cifake and sample.
        cache: Where archives are unpacked and ``sample`` is made.

    Returns:
        The records, every class present.

    Raises:
        UsageError: For an unknown name, a missing or wrongly laid out path, an empty class, or a split
            without images; :class:`BddError` for a bad archive or a failed download.
    """
    if name not in SOURCES:
        raise one_of("data set", name, tuple(SOURCES))
    if name == "sample":
        root = sample.make(cache)
    elif data_dir is None and name == "cifake":
        root = _download_cifake()
    elif data_dir is None:
        raise UsageError(
            f"{name} needs DATA_DIR= (--data-dir), a folder or an archive; source: {SOURCES[name].page}. "
            f"Expected inside:\n{SOURCES[name].layout}"
        )
    else:
        root = Path(data_dir).expanduser()
        if not root.exists():
            raise UsageError(f"DATA_DIR={data_dir} does not exist; give the folder or archive that holds {name}.")
        if root.is_file() and name != "manifest":
            if not archives.is_archive(root):
                raise UsageError(f"{root} is neither a folder nor an archive ({', '.join(archives.SUFFIXES)}).")
            root = archives.unpack(root, cache)
    records = SOURCES[name].scan(root)
    _refuse_empty(name, root, records)
    return records


def _refuse_empty(name: str, root: Path, records: list[Record]) -> None:
    for label, word in ((REAL, "REAL"), (FAKE, "FAKE")):
        if not any(r.label == label for r in records):
            raise UsageError(f"{root} holds no {word} images; {name} needs both classes:\n{SOURCES[name].layout}")
    splits = {r.split for r in records}
    if splits == {None}:
        return
    for split in ("train", "test"):
        if split not in splits:
            raise UsageError(f"{root} has no images in its {split} split; give one, or no split folders at all.")
