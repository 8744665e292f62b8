import os
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from bdd_tf.datasets.index import SPLITS, Record, assign_splits, counts, fingerprint, index
from bdd_tf.datasets.sources import records_of
from bdd_tf.edge.images.decode import read_image
from bdd_tf.errors import BddError, UsageError


def split_of(entries):
    return {e.record.path: e.record.split for e in entries}


def test_all_images_are_found(image, tmp_path, cache):
    png = image(tmp_path / "a.png", 1, (20, 10))
    Image.open(png).save(tmp_path / "twin.bmp")
    (tmp_path / "broken.png").write_bytes(png.read_bytes()[:60])
    records = [Record(tmp_path / n, n, 0) for n in ("a.png", "twin.bmp", "broken.png", "missing.png")]
    a, twin, broken, missing = index(records, cache)
    assert (a.width, a.height, a.error) == (20, 10, "")
    assert a.pixel_hash == twin.pixel_hash
    assert a.file_hash != twin.file_hash
    assert (broken.width, broken.pixel_hash) == (0, "")
    assert "damaged or truncated" in broken.error
    assert "No such file" in missing.error


def test_shape_is_part_of_the_content(tmp_path, cache):
    for name, shape in (("wide", (2, 8, 3)), ("high", (8, 2, 3))):
        Image.fromarray(np.zeros(shape, np.uint8)).save(tmp_path / f"{name}.png")
    first, second = index([Record(tmp_path / f"{n}.png", n, 0) for n in ("wide", "high")], cache)
    assert first.pixel_hash != second.pixel_hash


def test_files_are_read_once_and_changes_are_noticed(split_tree, cache):
    records = records_of("folder", str(split_tree), cache)
    first = index(records, cache)
    file = records[3].file
    # A file corrupted in place, with its times restored, is not noticed by
    # size and modification time alone. The change time gives it away.
    about, content = file.stat(), file.read_bytes()
    assert index(records, cache) == first
    file.write_bytes(content[:-20] + bytes(20))
    os.utime(file, ns=(about.st_atime_ns, about.st_mtime_ns))
    assert file.stat().st_size == about.st_size
    second = index(records, cache)
    assert [i for i, (a, b) in enumerate(zip(first, second, strict=True)) if a != b] == [3]
    assert fingerprint(first) != fingerprint(second)


def test_the_memory_serves_without_the_files(split_tree, cache, monkeypatch):
    records = records_of("folder", str(split_tree), cache)
    first = index(records, cache)

    def forbidden(file):
        raise AssertionError(f"{file} was read again")

    monkeypatch.setattr("bdd_tf.datasets.index._read", forbidden)
    assert index(records, cache) == first


def test_a_damaged_memory_is_made_anew(split_tree, cache):
    records = records_of("folder", str(split_tree), cache)
    first = index(records, cache)
    (cache / "index.sqlite").write_bytes(b"this is no data base" * 100)
    assert index(records, cache) == first


def test_a_cache_that_cannot_be_written_is_one_sentence(split_tree, tmp_path):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(BddError, match="BDD_CACHE"):
        index(records_of("folder", str(split_tree), tmp_path), tmp_path / "file")


def test_fingerprint_ignores_order_and_sees_everything_else(split_tree, cache):
    entries = index(records_of("folder", str(split_tree), cache), cache)
    mark = fingerprint(entries)
    assert fingerprint(entries[::-1]) == mark
    one = entries[0]
    assert (one.record.label, one.record.split) == (1, "test")
    for change in ({"path": "x"}, {"label": 0}, {"split": "train"}, {"source": "s"}, {"group": "g"}):
        assert fingerprint([replace(one, record=replace(one.record, **change)), *entries[1:]]) != mark
    assert fingerprint([replace(one, file_hash="0"), *entries[1:]]) != mark
    assert fingerprint(entries[1:]) != mark


def test_carve_depends_on_content_alone(flat_tree, cache, tmp_path):
    first = assign_splits(index(records_of("folder", str(flat_tree), cache), cache))
    by_content = {e.pixel_hash: e.record.split for e in first}
    for i, file in enumerate(sorted(flat_tree.rglob("*.png"))):
        file.rename(file.with_name(f"renamed-{997 * i % 1000}-{file.name}"))
    moved = flat_tree.rename(tmp_path / "moved")
    second = assign_splits(index(records_of("folder", str(moved), cache), cache))
    assert {e.pixel_hash: e.record.split for e in second} == by_content
    assert set(by_content.values()) == set(SPLITS)


def test_carve_keeps_duplicates_together(flat_tree, cache):
    originals = sorted(flat_tree.rglob("*.png"))
    for i, file in enumerate(originals):
        Image.open(file).save(file.with_name(f"copy-{i}.bmp"))
    entries = assign_splits(index(records_of("folder", str(flat_tree), cache), cache))
    assert len(entries) == 2 * len(originals)
    homes = {}
    for entry in entries:
        homes.setdefault(entry.pixel_hash, set()).add(entry.record.split)
    assert all(len(splits) == 1 for splits in homes.values())


def entry_list(number, split=None, group=None):
    from bdd_tf.datasets.index import Entry

    return [
        Entry(Record(None, str(i), i % 2, split, "", group and group(i)), f"f{i}", f"p{i}", 1, 1, "")
        for i in range(number)
    ]


def test_carved_fractions():
    table = counts(assign_splits(entry_list(20_000)))
    for split, share in (("train", 0.8), ("validation", 0.1), ("test", 0.1)):
        assert abs(sum(table[split].values()) / 20_000 - share) < 0.01
    table = counts(assign_splits(entry_list(20_000, "train") + entry_list(10, "test"), 0.2))
    assert abs(sum(table["validation"].values()) / 20_000 - 0.2) < 0.012
    assert sum(table["test"].values()) == 10


def test_a_validation_split_of_the_source_is_left_alone():
    entries = entry_list(500, "train") + entry_list(3, "validation") + entry_list(5, "test")
    assert sum(counts(assign_splits(entries))["validation"].values()) == 3


@pytest.mark.parametrize("given", [None, "train", "train and validation"])
def test_a_share_of_train_is_part_of_a_larger_one_and_leaves_the_rest_alone(given):
    entries = entry_list(4000, given and "train")
    if given == "train and validation":
        entries += entry_list(30, "validation")

    def files(share):
        split = assign_splits(entries, 0.1, share)
        return {s: {e.file_hash for e in split if e.record.split == s} for s in SPLITS}

    whole, half, fifth = files(1.0), files(0.5), files(0.2)
    assert fifth["train"] < half["train"] < whole["train"]
    for part, share in ((half, 0.5), (fifth, 0.2)):
        assert abs(len(part["train"]) / len(whole["train"]) - share) < 0.03
        assert all(part[split] == whole[split] for split in ("validation", "test"))


def test_no_group_straddles():
    for split in (None, "train"):
        entries = assign_splits(entry_list(3_000, split, lambda i: f"coco{i // 6}"), 0.3)
        homes = {}
        for entry in entries:
            homes.setdefault(entry.record.group, set()).add(entry.record.split)
        assert len(homes) == 500
        assert all(len(splits) == 1 for splits in homes.values())
        assert {s for splits in homes.values() for s in splits} >= {"train", "validation"}


@pytest.mark.parametrize("fraction", [0, 1, -0.1, float("nan")])
def test_impossible_fraction(fraction):
    with pytest.raises(UsageError, match="validation_fraction"):
        assign_splits(entry_list(10, "train"), fraction)


@pytest.mark.parametrize("fraction", [0, 1.1, -0.1, float("nan")])
def test_impossible_share_of_train(fraction):
    with pytest.raises(UsageError, match="train_fraction"):
        assign_splits(entry_list(10, "train"), 0.1, fraction)


def test_pixel_hash_is_computed_from_the_output_of_read_image(image, tmp_path, cache):
    (tmp_path / "x").mkdir()
    jpeg = image(tmp_path / "x/a.jpg", 4)
    Image.fromarray(read_image(jpeg)).save(tmp_path / "x/a.png")
    a, b = index([Record(tmp_path / "x" / n, n, 0) for n in ("a.jpg", "a.png")], cache)
    assert a.pixel_hash == b.pixel_hash
