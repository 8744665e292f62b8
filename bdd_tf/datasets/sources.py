"""The data sets: their origin, licence and layout, and the list of their images."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from bdd_tf.console import option
from bdd_tf.datasets import archive_names, archives, kaggle, layouts, sample
from bdd_tf.datasets.class_names import Location
from bdd_tf.datasets.index import Record
from bdd_tf.datasets.layouts import scan_folder, scan_manifest
from bdd_tf.datasets.photos import MANIFEST
from bdd_tf.edge.labels import LABELS
from bdd_tf.errors import UsageError, one_of

#: Splits that training requires; a missing validation split is taken from train, and a test split is for `bdd evaluate`.
NEEDED = ("train",)


@dataclass(frozen=True)
class Source:
    """A data set: its layout and origin.

    Attributes:
        name: Its name on the command line.
        title: A description in one line.
        licence: Its licence as stated by its publishers.
        page: Where to obtain it.
        layout: The expected tree.
        scan: Lists the records of a folder, or of a CSV.
        citation: Publications to cite.
        splits: Splits that the data set must contain, if its layout defines splits.
    """

    name: str
    title: str
    licence: str
    page: str
    layout: str
    scan: Callable[[Path], list[Record]]
    citation: str = ""
    splits: tuple[str, ...] = NEEDED


SOURCES = {
    s.name: s
    for s in (
        Source(
            "cifake",
            "CIFAKE: 60,000 CIFAR-10 photographs and 60,000 Stable Diffusion 1.4 images, 32 x 32",
            "MIT",
            kaggle.PAGE,
            "  train/REAL/*.jpg  train/FAKE/*.jpg\n  test/REAL/*.jpg   test/FAKE/*.jpg",
            layouts.scan_cifake,
            "Krizhevsky 2009, Learning multiple layers of features from tiny images; Bird and Lotfi 2024, "
            "CIFAKE: image classification and explainable identification of AI-generated synthetic images.",
        ),
        Source(
            "dffd",
            "DFFD: faces, real and from six generators or editors",
            "research only, on request",
            "http://cvlab.cse.msu.edu/dffd-dataset.html",
            "  img_align_celeba/*.jpg with list_eval_partition.txt next to it\n"
            "  {ffhq,pggan_v1,pggan_v2,stylegan_ffhq,stylegan_celeba,faceapp,stargan}/\n"
            "      {train,validation,test}/*",
            layouts.scan_dffd,
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
            layouts.scan_cocofake,
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
            "  or SOURCE/{REAL,FAKE}/* (several side by side, also below a split)\n"
            "  (any case; also 0_real and 1_fake, nature and ai, human and ai, real_images and fake_images, authentic and\n"
            "  generated, 0 and 1; the first folder of another name is the images' source)",
            scan_folder,
        ),
        Source(
            "manifest",
            "a table of path,label[,split][,source] (comma, semicolon or tab; UTF-8 or UTF-16; --columns, --real, --fake)",
            "yours",
            "your disk",
            "  path,label,split,source\n  a.jpg,REAL,train,camera\n  b.png,FAKE,test,some-generator",
            scan_manifest,
        ),
        Source(
            "photos",
            "crops of photographs and AI-made images with a manifest (`bdd data probe`, `--hold-out`)",
            "the images' own",
            "your disk",
            "  manifest.csv: path,label,split,source,family,content,kind,scale,width,height,format,quality,\n"
            "                table,group\n"
            "  whole.csv:    path,label,source,family,content,width,height (optional)",
            layouts.scan_photos,
        ),
        Source(
            "genimage",
            "GenImage: ImageNet photographs and images of eight generators",
            "CC BY-NC-SA 4.0",
            "https://github.com/GenImage-Dataset/GenImage",
            "  GENERATOR/.../{train,val}/{nature,ai}/*    (val is the test split)",
            layouts.benchmark(layouts.SPLIT_FOLDERS | {"val": "test"}, None),
            "Zhu et al. 2023, GenImage: a million-scale benchmark for detecting AI-generated image.",
        ),
        Source(
            "aigcdetect",
            "AIGCDetectBenchmark and ForenSynths: test images of many generators",
            "ask the publishers",
            "https://github.com/Ekko-zn/AIGCDetectBenchmark, https://github.com/PeterWang512/CNNDetection",
            "  [test/]GENERATOR/[CLASS/]{0_real,1_fake}/*  (below no train or val folder: the test split)",
            layouts.benchmark(layouts.SPLIT_FOLDERS, "test"),
            "Zhong et al. 2023, PatchCraft; Wang et al. 2020, CNN-generated images are surprisingly easy to spot.",
            ("test",),
        ),
        Source(
            "wildrf",
            "WildRF: images from Reddit, Facebook and X, real and fake",
            "ask the publishers",
            "https://github.com/barcavia/RealTime-DeepfakeDetection-in-the-RealWorld",
            "  {train,val}/.../{0_real,1_fake}/*  test/{reddit,facebook,twitter}/{0_real,1_fake}/*",
            layouts.benchmark(layouts.SPLIT_FOLDERS, None),
            "Cavia et al. 2024, Real-time deepfake detection in the real-world.",
        ),
        Source(
            "chameleon",
            "Chameleon: AI-made images that people took for photographs",
            "research only, on request",
            "https://github.com/shilinyan99/AIDE",
            "  [test/]{0_real,1_fake}/*",
            layouts.benchmark(layouts.SPLIT_FOLDERS, "test"),
            "Yan et al. 2024, A sanity check for AI-generated image detection.",
            ("test",),
        ),
        Source(
            "sample",
            "crops of scikit-image's photographs, and others reconstructed by a small auto-encoder",
            "the photographs' own (scikit-image, data/README.txt)",
            "made on the spot",
            "  (none: made on the spot)",
            sample.scan,
        ),
    )
}


def records_of(
    name: str, data_dir: str | Location | None, cache: Path, need: tuple[str, ...] | None = None
) -> list[Record]:
    """List a data set's images.

    Args:
        name: A key of :data:`SOURCES`.
        data_dir: Folder, archive, or CSV (manifest); None only for cifake and sample. A location also has names of
            classes and columns, for the data sets folder and manifest.
        cache: Folder for unpacked archives and the generated ``sample``.
        need: Splits that must contain images, if the source defines splits; None: :attr:`Source.splits`.

    Returns:
        The records, with images of both classes.

    Raises:
        UsageError: For an unknown name, a missing path or wrong layout, an empty class or an empty split.
        BddError: For a damaged archive or a failed download.
    """
    if name not in SOURCES and "/" in name:
        path = option("--data-dir", "DATA_DIR=")
        raise UsageError(f"{name} is a path, not the name of a data set; give it with {path}.")
    if name not in SOURCES:
        raise one_of("data set", name, tuple(SOURCES))
    names = data_dir if isinstance(data_dir, Location) else Location(data_dir)
    data_dir = names.path
    if names.has_names and name not in ("folder", "manifest"):
        raise UsageError(
            f"--real, --fake and --columns are for the data sets folder and manifest, not for {name}."
        )
    if name == "sample":
        if data_dir is not None:
            raise UsageError("the sample data set is made on the spot; omit --data-dir.")
        root = sample.make(cache)
    elif data_dir is None and name == "cifake":
        root = kaggle.download_cifake(SOURCES["cifake"].layout)
    elif data_dir is None:
        raise UsageError(
            f"{name} needs {option('--data-dir', 'DATA_DIR=')}, a folder or an archive; source: {SOURCES[name].page}. "
            f"Expected inside:\n{SOURCES[name].layout}"
        )
    else:
        root = Path(data_dir).expanduser()
        if not root.exists():
            raise UsageError(f"--data-dir {data_dir} does not exist; give the folder or archive of {name}.")
        if name != "manifest" and not root.is_dir():
            if not archive_names.is_archive(root):
                raise UsageError(
                    f"{root} is neither a folder nor an archive ({', '.join(archive_names.SUFFIXES)})."
                )
            root = archives.unpack(root, cache)
    try:
        records = (
            scan_folder(root, names)
            if name == "folder"
            else (scan_manifest(root, names) if name == "manifest" else SOURCES[name].scan(root))
        )
    except layouts.UnknownLayout as error:
        raise UsageError(
            f"{error.folder} is not laid out as {name}: it holds {layouts.listing(error.folder)}. Expected:\n"
            f"{SOURCES[name].layout}"
        ) from error
    _refuse_empty(name, root, records, SOURCES[name].splits if need is None else need)
    return records


def recognise(data_dir: str) -> str:
    """Name the data set of a path that was given without one: ``folder`` or ``manifest``.

    Args:
        data_dir: Folder, archive or CSV.

    Raises:
        UsageError: If the path does not exist, or several data sets are possible.
    """
    path = Path(data_dir).expanduser()
    if not path.exists():
        raise UsageError(f"--data-dir {data_dir} does not exist; give a folder, an archive or a CSV.")
    if path.is_file() and not archive_names.is_archive(path):
        return "manifest"
    if path.is_dir() and (path / MANIFEST).is_file():
        raise UsageError(
            f"{path} holds {MANIFEST}; give --dataset photos, or --dataset manifest --data-dir {path / MANIFEST}."
        )
    return "folder"


def _refuse_empty(name: str, root: Path, records: list[Record], need: tuple[str, ...]) -> None:
    for label, word in enumerate(LABELS):
        if not any(r.label == label for r in records):
            layout = SOURCES[name].layout
            raise UsageError(f"{root} holds no {word} images; {name} needs both classes. Expected:\n{layout}")
    splits = {r.split for r in records if r.split is not None}
    for split in need:
        if splits and split not in splits:
            raise UsageError(
                f"{root} has no images in its {split} split (only {', '.join(sorted(splits))}); name another split, "
                "add some, or define no splits, so that 80, 10 and 10 % are assigned to train, validation and test."
            )
