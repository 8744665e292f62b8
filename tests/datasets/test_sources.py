import argparse
import os
import socket
import sys
from collections import Counter

import pytest

from bdd_tf.datasets import sources
from bdd_tf.datasets.class_names import Classes, Location
from bdd_tf.datasets.index import index
from bdd_tf.datasets.sources import SOURCES, records_of
from bdd_tf.errors import BddError, UsageError
from bdd_tf.training.options import add_arguments, experiment_from


def listed(name, root, cache):
    return {(r.path, "RF"[r.label], r.split, r.source) for r in records_of(name, str(root), cache)}


def test_folder_with_splits(image, tmp_path, cache):
    for path in (
        "train/REAL/a.png",
        "train/fake/b.png",
        "Val/Real/c.png",
        "TEST/0_real/d.png",
        "TEST/1_FAKE/e.JPG",
    ):
        image(tmp_path / path, 1)
    (tmp_path / "train/REAL/.DS_Store").write_bytes(b"x")
    (tmp_path / "train/REAL/._a.png").write_bytes(b"x")
    (tmp_path / "train/REAL/notes.txt").write_bytes(b"x")
    assert listed("folder", tmp_path, cache) == {
        ("train/REAL/a.png", "R", "train", ""),
        ("train/fake/b.png", "F", "train", ""),
        ("Val/Real/c.png", "R", "validation", ""),
        ("TEST/0_real/d.png", "R", "test", ""),
        ("TEST/1_FAKE/e.JPG", "F", "test", ""),
    }


def test_folder_without_splits_and_with_sources(image, tmp_path, cache):
    for path in ("wrap/Real/a.png", "wrap/Fake/gan/b.png", "wrap/Fake/diffusion/x/c.png"):
        image(tmp_path / path, 1)
    assert listed("folder", tmp_path, cache) == {
        ("Real/a.png", "R", None, ""),
        ("Fake/gan/b.png", "F", None, "gan"),
        ("Fake/diffusion/x/c.png", "F", None, "diffusion"),
    }


def test_splits_below_the_classes_are_splits_too(image, tmp_path, cache):
    for path in ("REAL/train/a.png", "FAKE/train/b.png", "REAL/test/c.png", "FAKE/test/d.png"):
        image(tmp_path / path, 1)
    assert Counter(r.split for r in records_of("folder", str(tmp_path), cache)) == {"train": 2, "test": 2}
    (tmp_path / "FAKE/train").rename(tmp_path / "FAKE/a")
    (tmp_path / "FAKE/test").rename(tmp_path / "FAKE/b")
    with pytest.raises(UsageError, match="one class only"):
        records_of("folder", str(tmp_path), cache)


def test_trees_side_by_side_are_all_read_with_the_outer_folder_as_source(image, tmp_path, cache, capsys):
    for split, classes in (("test", ("cat/", "dog/")), ("train", ("",))):
        for source in ("biggan", "progan", "stylegan"):
            for name in classes:
                for word in ("0_real", "1_fake"):
                    image(tmp_path / f"wrap/{split}/{source}/{name}{word}/a.png", 1)
    image(tmp_path / "wrap/preview/all.png", 1)
    found = listed("folder", tmp_path, cache)
    assert Counter(source for *_, source in found) == {"biggan": 6, "progan": 6, "stylegan": 6}
    assert Counter(split for _, _, split, _ in found) == {"train": 6, "test": 12}
    assert ("test/progan/cat/0_real/a.png", "R", "test", "progan") in found
    err = capsys.readouterr().err
    assert "1 entry was left out: 1 in no class folder (all.png)" in err


@pytest.mark.parametrize(
    ("real", "fake"),
    [
        ("nature", "ai"),
        ("human", "AI"),
        ("Real Images", "fake-images"),
        ("0", "1"),
        ("authentic", "generated"),
    ],
)
def test_usual_class_names(image, tmp_path, cache, real, fake):
    image(tmp_path / real / "0" / "a.png", 1)
    image(tmp_path / fake / "1" / "b.png", 2)
    if real != "0":
        assert listed("folder", tmp_path, cache) == {
            (f"{real}/0/a.png", "R", None, "0"),
            (f"{fake}/1/b.png", "F", None, "1"),
        }
    else:
        assert {(path, label) for path, label, *_ in listed("folder", tmp_path, cache)} == {
            ("0/0/a.png", "R"),
            ("1/1/b.png", "F"),
        }


def test_a_pipe_and_a_loop_in_a_data_set_are_errors_of_their_own(split_tree, cache):
    os.mkfifo(split_tree / "train/REAL/pipe.png")
    (split_tree / "train/FAKE/loop").symlink_to("loop")
    faults = {
        e.record.path: e.error for e in index(records_of("folder", str(split_tree), cache), cache) if e.error
    }
    assert set(faults) == {"train/REAL/pipe.png", "train/FAKE/loop"}


def test_with_a_path_alone_the_data_set_is_recognised(image, tmp_path):
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    image(tmp_path / "s/REAL/a.png", 1)
    (tmp_path / "s.csv").write_text("path,label")

    def dataset(*words):
        config = experiment_from(parser.parse_args([str(word) for word in words]))
        return config.dataset, config.resolution

    assert dataset("--data-dir", tmp_path / "s") == ("folder", 224)
    assert dataset("--data-dir", tmp_path / "s.csv") == ("manifest", 224)
    assert dataset("--data-dir", tmp_path / "s", "--preset", "cifake-bnext-n") == ("cifake", 32)
    assert dataset("--data-dir", tmp_path / "s", "--dataset", "cifake") == ("cifake", 32)
    assert dataset() == ("cifake", 32)
    (tmp_path / "s" / "manifest.csv").touch()
    with pytest.raises(UsageError, match="--dataset photos, or --dataset manifest"):
        dataset("--data-dir", tmp_path / "s")
    with pytest.raises(UsageError, match="does not exist"):
        dataset("--data-dir", tmp_path / "nowhere")


def test_cifake_in_an_archive_with_a_top_folder(image, tmp_path, cache):
    import tarfile

    for path in (
        "train/REAL/0000.jpg",
        "train/FAKE/0000.jpg",
        "test/REAL/0000.jpg",
        "test/FAKE/0000 (2).jpg",
    ):
        image(tmp_path / "cifake" / path, 1)
    with tarfile.open(tmp_path / "c.tar.gz", "w:gz") as tar:
        tar.add(tmp_path / "cifake", "cifake")
    found = listed("cifake", tmp_path / "c.tar.gz", cache)
    assert found == listed("cifake", tmp_path / "cifake", cache)
    assert ("test/FAKE/0000 (2).jpg", "F", "test", "stable-diffusion-1.4") in found
    assert len(found) == 4


@pytest.mark.parametrize("table", ["img_align_celeba/list_eval_partition.txt", "list_eval_partition.csv"])
def test_dffd(image, tmp_path, cache, table):
    root = tmp_path / "dffd"
    for i, name in enumerate(("000001.jpg", "000002.jpg", "000003.jpg", "000004.jpg")):
        image(root / "img_align_celeba" / name, i)
    comma = table.endswith("csv")
    lines = [f"00000{i}.jpg{',' if comma else ' '}{part}" for i, part in ((1, 0), (2, 1), (3, 2))]
    (root / table).write_text("\n".join([*(["image_id,partition"] * comma), *lines]) + "\n")
    fakes = ("pggan_v1", "pggan_v2", "stylegan_ffhq", "stylegan_celeba", "faceapp", "stargan")
    for name in ("ffhq", *fakes):
        for split in ("train", "validation", "test"):
            image(root / name / split / "1.png", 7)
    found = records_of("dffd", str(tmp_path), cache)
    celeba = [(r.path[-10:], r.split) for r in found if r.source == "img_align_celeba"]
    assert sorted(celeba) == [("000001.jpg", "train"), ("000002.jpg", "validation"), ("000003.jpg", "test")]
    assert {r.source for r in found if r.label == 1} == set(fakes)
    assert {r.source for r in found if r.label == 0} == {"img_align_celeba", "ffhq"}
    assert Counter(r.split for r in found) == {"train": 8, "validation": 8, "test": 8}


def test_dffd_without_its_partition_file(image, tmp_path, cache):
    image(tmp_path / "img_align_celeba/000001.jpg", 1)
    image(tmp_path / "stargan/train/1.png", 1)
    with pytest.raises(UsageError, match=r"list_eval_partition\.txt"):
        records_of("dffd", str(tmp_path), cache)


def cocofake(image, root, fakes="fake_images"):
    for part, numbers in (("train", range(1, 9)), ("val", range(50, 54))):
        for number in numbers:
            name = f"COCO_{part}2014_{number:012d}"
            image(root / f"{part}2014" / f"{name}.jpg", number)
            for k in range(5 if number != 8 else 0):
                image(root / fakes / f"{part}2014" / name / f"{k}.jpg", 100 * number + k)


@pytest.mark.parametrize("fakes", ["fake_images", "."])
def test_cocofake(image, tmp_path, cache, fakes):
    cocofake(image, tmp_path, fakes)
    found = records_of("cocofake", str(tmp_path), cache)
    assert Counter((r.split, r.label) for r in found) == {
        ("train", 0): 7, ("train", 1): 35, ("test", 0): 4, ("test", 1): 20,
    }  # fmt: skip
    for group in {r.group for r in found}:
        members = [r for r in found if r.group == group]
        assert (len(members), len({r.split for r in members})) == (6, 1)


def test_cocofake_with_a_missing_photograph(image, tmp_path, cache):
    cocofake(image, tmp_path)
    (tmp_path / "val2014/COCO_val2014_000000000051.jpg").unlink()
    with pytest.raises(UsageError, match=r"5 of 55 fakes lack.*COCO_val2014_000000000051\.jpg"):
        records_of("cocofake", str(tmp_path), cache)


def test_manifest(image, tmp_path, cache):
    image(tmp_path / "here/a b.png", 1)
    elsewhere = image(tmp_path / "b.png", 2)
    table = tmp_path / "here/list.csv"
    table.write_text(
        f"\ufeffPath, Label ,split,source\na b.png,real,Train,cam\n\n{elsewhere},1,test,gan\n",
        encoding="utf-8",
    )
    assert listed("manifest", table, cache) == {
        ("a b.png", "R", "train", "cam"),
        (str(elsewhere), "F", "test", "gan"),
    }
    table.write_text("label,path\nREAL,a b.png\nFaKe,../b.png\n")
    assert listed("manifest", table, cache) == {("a b.png", "R", None, ""), ("../b.png", "F", None, "")}


@pytest.mark.parametrize("separator", [",", ";", "\t"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_manifests_of_spreadsheets(image, tmp_path, cache, separator, encoding):
    image(tmp_path / "ä, b.png", 1)
    image(tmp_path / "c.png", 2)
    lines = (("File Name", "Class"), ('"ä, b.png"', "Camera"), ("c.png", "midjourney"))
    (tmp_path / "t.csv").write_text("\r\n".join(separator.join(line) for line in lines), encoding=encoding)
    where = Location(
        str(tmp_path / "t.csv"), Classes(("camera",), ("Midjourney", "SD")), ("path=File Name", "label=class")
    )
    found = {(r.path, r.label) for r in records_of("manifest", where, cache)}
    assert found == {("ä, b.png", 0), ("c.png", 1)}
    for columns, message in (
        (("label=class",), "lacks the column path.*--columns path=NAME"),
        (("path=file name", "label=class", "split=part"), "lacks the column part"),
    ):
        with pytest.raises(UsageError, match=message):
            records_of("manifest", Location(where.path, where.classes, columns), cache)
    with pytest.raises(
        UsageError,
        match=r"unknown label 'Camera'\n.*\nlabels, .* REAL is real, 0_real, .*; FAKE is fake, .* 1; ",
    ):
        records_of("manifest", Location(where.path, columns=where.columns), cache)


def test_names_of_ones_own(image, tmp_path, cache):
    for path in ("photos/a.png", "Mid-Journey/b.png", "sd xl/v1/c.png", "old/d.png"):
        image(tmp_path / path, 1)
    where = Location(str(tmp_path), Classes(("Photos",), ("mid journey", "SD_XL")))
    assert {(r.path, r.label, r.source) for r in records_of("folder", where, cache)} == {
        ("photos/a.png", 0, ""),
        ("Mid-Journey/b.png", 1, ""),
        ("sd xl/v1/c.png", 1, "v1"),
    }
    for wrong, message in (
        (lambda: Classes(("a",), ()), "--real and --fake name"),
        (lambda: Classes(("a",), ("A",)), "a cannot be both"),
        (lambda: Location("x", columns=("file",)), "COLUMN=NAME"),
        (lambda: Location("x", columns=("file=path",)), "unknown column 'file'"),
        (lambda: records_of("cifake", where, cache), "not for cifake"),
    ):
        with pytest.raises(UsageError, match=message):
            wrong()


def test_data_without_a_test_split_are_data_to_train_on(image, tmp_path, cache):
    for path in ("train/real/a.jpg", "train/fake/b.jpg", "valid/real/c.jpg", "valid/fake/d.jpg"):
        image(tmp_path / path, 1)
    assert Counter(r.split for r in records_of("folder", str(tmp_path), cache)) == {
        "train": 2,
        "validation": 2,
    }
    with pytest.raises(UsageError, match="no images in its test split"):
        records_of("folder", str(tmp_path), cache, ("test",))


def test_manifest_lists_its_faults(image, tmp_path, cache):
    image(tmp_path / "a.png", 1)
    table = tmp_path / "list.csv"
    faulty = ["a.png,maybe,train", "b.png,REAL,train", "a.png,FAKE,sometimes", "a.png,REAL,train"]
    table.write_text(
        "path,label,split\n" + "\n".join(faulty) + "\n" + "\n".join(f"{i}.png,0,test" for i in range(20))
    )
    with pytest.raises(UsageError) as error:
        records_of("manifest", str(table), cache)
    text = str(error.value)
    for part in (
        "24 bad lines",
        "line 2: unknown label 'maybe'",
        "line 3: no file",
        "line 4: split 'sometimes'",
        "14 more",
    ):
        assert part in text
    assert "line 5: a.png is listed twice" in text
    assert len(text.splitlines()) == 13


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "lacks the columns path and label"),
        ("file,label\na,REAL", "lacks the column path.*file, label"),
        ("path,label\na.png,REAL\n", "no FAKE images"),
        ("path,label,split\na.png,REAL,train\nb.png,FAKE,", "some images only"),
        ("path,label,split\na.png,REAL,test\nb.png,FAKE,test", "train split"),
        ("path,label\na.png", "unknown label ''"),
        ("path,label\na\0.png,REAL", "."),
    ],
)
def test_bad_manifests(image, tmp_path, cache, content, message):
    image(tmp_path / "a.png", 1)
    image(tmp_path / "b.png", 2)
    (tmp_path / "list.csv").write_text(content)
    with pytest.raises(UsageError, match=message):
        records_of("manifest", str(tmp_path / "list.csv"), cache)


def test_manifest_that_is_no_text(tmp_path, cache):
    (tmp_path / "list.csv").write_bytes(bytes(range(256)))
    with pytest.raises(UsageError, match="cannot be read as CSV"):
        records_of("manifest", str(tmp_path / "list.csv"), cache)
    with pytest.raises(UsageError, match="not a file"):
        records_of("manifest", str(tmp_path), cache)


def test_an_image_is_no_table(image, tmp_path, cache):
    image(tmp_path / "a.png", 1)
    with pytest.raises(UsageError, match=r"a\.png is an image, not a table; a data set is a folder"):
        records_of("manifest", str(tmp_path / "a.png"), cache)


@pytest.mark.parametrize("other", [None, "REAL/notes.txt", "c.png"])
def test_class_folders_without_images(image, tmp_path, cache, other):
    for name in ("REAL", "FAKE"):
        (tmp_path / name).mkdir()
    if other is not None:
        image(tmp_path / "x.png", 1)
        (tmp_path / "x.png").rename(tmp_path / other)
        if other.endswith(".txt"):
            (tmp_path / other).write_text("text")
    with pytest.raises(UsageError, match="the class folders FAKE, REAL hold no images; put some there"):
        records_of("folder", str(tmp_path), cache)
    image(tmp_path / "REAL/FAKE/both.png", 1)  # in folders of both classes: none of them is empty
    (tmp_path / "FAKE").rmdir()
    with pytest.raises(UsageError, match="is not laid out as folder"):
        records_of("folder", str(tmp_path), cache)


def test_wrong_requests(image, tmp_path, cache):
    with pytest.raises(UsageError, match=r"\.\./mine is a path, not the name.*with --data-dir"):
        records_of("../mine", None, cache)
    with pytest.raises(UsageError, match=r"unknown data set 'cifak'.*Did you mean 'cifake'"):
        records_of("cifak", None, cache)
    for name in ("dffd", "cocofake", "folder", "manifest"):
        with pytest.raises(UsageError, match="--data-dir"):
            records_of(name, None, cache)
    for name in SOURCES:
        if name != "sample":
            with pytest.raises(UsageError, match="does not exist"):
                records_of(name, str(tmp_path / "nowhere"), cache)
    with pytest.raises(UsageError, match="made on the spot"):
        records_of("sample", str(tmp_path), cache)
    file = tmp_path / "a.rar"
    file.write_bytes(b"x")
    with pytest.raises(UsageError, match="neither a folder nor an archive"):
        records_of("cifake", str(file), cache)


@pytest.mark.parametrize("name", ["cifake", "dffd", "cocofake", "folder"])
def test_a_folder_without_the_layout_shows_both(image, tmp_path, cache, name):
    image(tmp_path / "cats/a.png", 1)
    with pytest.raises(UsageError) as error:
        records_of(name, str(tmp_path), cache)
    assert "cats/" in str(error.value)
    assert SOURCES[name].layout in str(error.value)


def test_empty_class_and_empty_split(image, tmp_path, cache):
    image(tmp_path / "train/REAL/a.png", 1)
    image(tmp_path / "test/REAL/a.png", 1)
    (tmp_path / "train/FAKE").mkdir()
    with pytest.raises(UsageError, match="no FAKE images"):
        records_of("folder", str(tmp_path), cache)
    image(tmp_path / "train/FAKE/a.png", 2)
    (tmp_path / "val/REAL").mkdir(parents=True)
    with pytest.raises(UsageError, match=r"val holds no images"):
        records_of("folder", str(tmp_path), cache)


def test_cifake_where_kaggle_is_out_of_reach(tmp_path, cache, monkeypatch):
    kagglehub = pytest.importorskip("kagglehub")
    assert kagglehub
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        for name in ("HTTPS_PROXY", "https_proxy"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{closed.getsockname()[1]}")
        for name in ("NO_PROXY", "no_proxy"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setenv("KAGGLEHUB_CACHE", str(tmp_path / "kaggle"))
        with pytest.raises(BddError) as error:
            records_of("cifake", None, cache)
    assert error.value.exit_code == 1
    assert "kaggle.com/datasets/birdy654/cifake" in str(error.value)
    assert SOURCES["cifake"].layout in str(error.value)
    assert "(it cannot be reached from here)" in str(error.value)
    assert "your own images" in str(error.value)


def test_cifake_in_kagglehubs_cache_needs_no_network(image, tmp_path, cache, monkeypatch):
    pytest.importorskip("kagglehub")
    monkeypatch.setenv("KAGGLEHUB_CACHE", str(tmp_path))
    base = tmp_path / "datasets/birdy654/cifake-real-and-ai-generated-synthetic-images"
    for split in ("train", "test"):
        for word in ("REAL", "FAKE"):
            image(base / "versions/3" / split / word / "0.jpg", 1)
    (base / "3.complete").touch()
    assert len(records_of("cifake", None, cache)) == 4


@pytest.mark.skipif(sys.platform == "win32" or os.geteuid() == 0, reason="root may read everything")
def test_a_forbidden_folder_is_reported(split_tree, cache):
    (split_tree / "train/REAL").chmod(0)
    try:
        found = sources.records_of("folder", str(split_tree), cache)
        assert any(r.path == "train/REAL" for r in found)
    finally:
        (split_tree / "train/REAL").chmod(0o755)


BENCHMARKS = {
    "genimage": {
        "Midjourney/imagenet_midjourney/train/nature/a.JPEG": ("R", "train", "Midjourney"),
        "Midjourney/imagenet_midjourney/train/ai/b.png": ("F", "train", "Midjourney"),
        "BigGAN/imagenet_ai_0419_biggan/val/nature/c.JPEG": ("R", "test", "BigGAN"),
        "BigGAN/imagenet_ai_0419_biggan/val/ai/d.png": ("F", "test", "BigGAN"),
    },
    "aigcdetect": {
        "test/progan/airplane/0_real/a.png": ("R", "test", "progan"),
        "test/progan/airplane/1_fake/b.png": ("F", "test", "progan"),
        "DALLE2/0_real/c.jpg": ("R", "test", "DALLE2"),
        "DALLE2/1_fake/d.png": ("F", "test", "DALLE2"),
    },
    "wildrf": {
        "train/0_real/a.jpg": ("R", "train", ""),
        "train/1_fake/b.jpg": ("F", "train", ""),
        "val/0_real/c.jpg": ("R", "validation", ""),
        "val/1_fake/d.jpg": ("F", "validation", ""),
        "test/reddit/0_real/e.jpg": ("R", "test", "reddit"),
        "test/facebook/1_fake/f.jpg": ("F", "test", "facebook"),
    },
    "chameleon": {
        "Chameleon/test/0_real/a.jpg": ("R", "test", "Chameleon"),
        "Chameleon/test/1_fake/b.jpg": ("F", "test", "Chameleon"),
    },
}


@pytest.mark.parametrize("name", BENCHMARKS)
def test_layouts_of_benchmarks(name, image, tmp_path, cache):
    for path in BENCHMARKS[name]:
        image(tmp_path / path, 1)
    image(tmp_path / "preview" / "all.png", 1)
    assert listed(name, tmp_path, cache) == {(path, *what) for path, what in BENCHMARKS[name].items()}


@pytest.mark.parametrize("name", BENCHMARKS)
def test_another_tree_is_no_benchmark(name, image, tmp_path, cache):
    image(tmp_path / "pictures" / "a.png", 1)
    with pytest.raises(UsageError, match=f"not laid out as {name}"):
        records_of(name, str(tmp_path), cache)


def test_a_manifest_of_photographs(tmp_path, cache):
    from tests.datasets import photo_archive

    photo_archive.write(tmp_path / "wrap", per_source=6)
    records = records_of("photos", str(tmp_path), cache)
    assert Counter(r.split for r in records) == {"train": 35, "test": 7}
    assert {r.source for r in records} == {*photo_archive.REALS, *photo_archive.FAKES}
    assert sum(r.group == "prompt-0" for r in records) == 4
