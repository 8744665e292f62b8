import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from bdd_tf import console
from bdd_tf.datasets import pipeline
from bdd_tf.datasets.augment import AUGMENTATIONS
from bdd_tf.datasets.pipeline import load_dataset
from bdd_tf.edge.images.decode import load_image
from bdd_tf.edge.images.resize import ResizeRule
from bdd_tf.edge.labels import FAKE, REAL
from bdd_tf.errors import BddError, UsageError

RULE = ResizeRule.native(32)


def load(tree, cache, rule=RULE, name="folder", **options):
    return load_dataset(name, rule=rule, data_dir=str(tree), cache_dir=cache, **options)


def gathered(batches):
    return [(images.numpy(), labels.numpy()) for images, labels in batches]


def same(one, other):
    assert len(one) == len(other)
    for (x, y), (u, v) in zip(one, other, strict=True):
        assert np.array_equal(x, u)
        assert np.array_equal(y, v)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """70 train images, a few of odd sizes and formats; distinct, so that their pixels identify them."""
    root = tmp_path_factory.mktemp("tree")
    rng = np.random.default_rng(3)
    for split, number in (("train", 35), ("val", 8), ("test", 8)):
        for word in ("REAL", "FAKE"):
            (root / split / word).mkdir(parents=True)
            for i in range(number):
                shape = (32, 32, 3) if i % 3 else (40 + i, 50, 3)
                pixels = rng.integers(0, 256, shape, dtype=np.uint8)
                suffix = ("png", "jpg", "webp")[i % 3]
                Image.fromarray(pixels).save(root / split / word / f"{i}.{suffix}")
    return load(root, tmp_path_factory.mktemp("cache"))


@pytest.fixture(params=["memory", "stream"])
def either(request, data, monkeypatch):
    if request.param == "stream":
        monkeypatch.setattr(pipeline, "MEMORY_BYTES", 0)
        monkeypatch.setattr(pipeline, "SHUFFLE_BUFFER", 16)
    assert data.in_memory("train") == (request.param == "memory")
    return data


def test_preparation_writes_lines_to_a_log_and_no_bars(data, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(console, "LOG_INTERVAL", 0)
    load(data.entries[0].record.file.parents[2], tmp_path).prepare()
    err = capsys.readouterr().err
    assert "\r" not in err
    assert "preparing: 100%, 102 of 102 img, " in err


def test_counts_and_items(data):
    assert data.counts == {s: {REAL: n, FAKE: n} for s, n in (("train", 35), ("validation", 8), ("test", 8))}
    assert [data.size(s) for s in ("train", "validation", "test", "no such")] == [70, 16, 16, 0]
    items = data.items("train")
    assert len({i.path for i in items}) == 70
    assert all((i.label == FAKE) == ("/FAKE/" in i.path) for i in items)
    assert data.skipped == []


def test_pixels_and_labels_are_exactly_those_that_detection_sees(data):
    for split in ("train", "validation", "test"):
        items = data.items(split)
        x = np.concatenate([images for images, _ in gathered(data.eval_batches(split, 7))])
        y = np.concatenate([labels for _, labels in gathered(data.eval_batches(split, 7))])
        assert (x.dtype, x.shape, y.dtype, y.shape) == (
            np.uint8,
            (len(items), 32, 32, 3),
            np.float32,
            (len(items), 1),
        )
        for image, label, item in zip(x, y[:, 0], items, strict=True):
            assert label == item.label
            assert np.array_equal(image, load_image(data.file(item.path), RULE))
        images, labels = data.arrays(split)
        assert np.array_equal(images, x)
        assert np.array_equal(labels, y)


@pytest.mark.parametrize("rule", [ResizeRule.native(16), ResizeRule.reference(32)])
def test_other_rules_are_prepared_apart(data, rule, split_tree, cache):
    native, other = load(split_tree, cache), load(split_tree, cache, rule)
    assert native.folder != other.folder
    item = other.items("test")[0]
    first = gathered(other.eval_batches("test", 1))[0][0][0]
    assert np.array_equal(first, load_image(other.file(item.path), rule))
    assert first.shape == (rule.size, rule.size, 3)


def test_an_epoch_shows_every_image_at_most_once(either):
    batches = gathered(either.train_batches(16, seed=1, epoch=0))
    assert [x.shape for x, _ in batches] == [(16, 32, 32, 3)] * 4
    assert {(x.dtype, y.dtype, y.shape) for x, y in batches} == {
        (np.dtype("uint8"), np.dtype("float32"), (16, 1))
    }
    known = {load_image(either.file(i.path), RULE).tobytes(): i.label for i in either.items("train")}
    shown = [
        (x.tobytes(), y) for images, labels in batches for x, y in zip(images, labels[:, 0], strict=True)
    ]
    assert len({x for x, _ in shown}) == 64
    assert all(known[x] == y for x, y in shown)


def test_order_is_determined_by_seed_and_epoch(either):
    def order(**options):
        return [
            y.ravel().tolist() + x[:, 0, 0, 0].tolist()
            for x, y in gathered(either.train_batches(8, **options))
        ]

    assert order(seed=1, epoch=0) == order(seed=1, epoch=0)
    assert order(seed=1, epoch=0) != order(seed=1, epoch=1)
    assert order(seed=1, epoch=0) != order(seed=2, epoch=0)


@pytest.mark.parametrize("augment", [(), ("flip",), AUGMENTATIONS])
@pytest.mark.parametrize("skip", [1, 3, 8])
def test_skipping_leaves_the_following_batches_as_they_were(either, skip, augment):
    whole = gathered(either.train_batches(8, seed=4, epoch=2, augment=augment))
    rest = gathered(either.train_batches(8, seed=4, epoch=2, skip=skip, augment=augment))
    assert len(whole) == 8
    same(whole[skip:], rest)


def test_a_dataset_object_gives_the_same_batches_twice(either):
    batches = either.train_batches(8, seed=4, epoch=2, augment=("flip", "crop"))
    same(gathered(batches), gathered(batches))


def test_augmentation_keeps_order_and_labels(data):
    plain = gathered(data.train_batches(8, seed=4, epoch=2))
    flipped = gathered(data.train_batches(8, seed=4, epoch=2, augment=("flip",)))
    kinds = set()
    for (x, y), (u, v) in zip(plain, flipped, strict=True):
        assert np.array_equal(y, v)
        for a, b in zip(x, u, strict=True):
            assert np.array_equal(a, b) or np.array_equal(a[:, ::-1], b)
            kinds.add(np.array_equal(a, b))
    assert kinds == {True, False}


def test_wrong_requests(data):
    with pytest.raises(UsageError, match=r"unknown augmentation 'flop'.*Did you mean 'flip'"):
        data.train_batches(8, seed=0, epoch=0, augment=("flop",))
    with pytest.raises(UsageError, match="batch must be at least 1"):
        data.train_batches(0, seed=0, epoch=0)
    with pytest.raises(UsageError, match="skip"):
        data.train_batches(8, seed=0, epoch=0, skip=-1)
    with pytest.raises(UsageError, match=r"no images in split 'tset'.*train \(70\)"):
        data.eval_batches("tset", 8)
    assert gathered(data.train_batches(71, seed=0, epoch=0)) == []


def test_unreadable_files_are_skipped_and_named(split_tree, cache, capsys):
    for i in range(7):
        (split_tree / f"train/REAL/broken{i}.png").write_bytes(b"\x89PNG\r\n\x1a\n broken")
    loaded = load(split_tree, cache)
    assert sum(loaded.size(s) for s in ("train", "validation", "test")) == 92
    assert sorted(e.record.path for e in loaded.skipped) == [f"train/REAL/broken{i}.png" for i in range(7)]
    err = capsys.readouterr().err
    assert "skipping 7 unreadable images" in err
    assert "train/REAL/broken0.png: the PNG file is damaged" in err
    assert "2 more" in err


def test_nothing_on_standard_output(split_tree, cache, capsys):
    load(split_tree, cache)
    assert capsys.readouterr().out == ""


def test_prepared_data_is_reused_and_a_changed_folder_is_noticed(image, split_tree, cache):
    first = load(split_tree, cache)
    stamp = (first.folder / "files.json").stat().st_mtime_ns
    again = load(split_tree, cache)
    assert again.folder == first.folder
    assert (again.folder / "files.json").stat().st_mtime_ns == stamp
    changed = image(split_tree / "test/REAL/0.png", 777)
    second = load(split_tree, cache)
    assert second.fingerprint != first.fingerprint
    position = [i.path for i in second.items("test")].index("test/REAL/0.png")
    assert np.array_equal(second.arrays("test")[0][position], load_image(changed, RULE))
    image(split_tree / "test/REAL/new.png", 778)
    assert load(split_tree, cache).size("test") == second.size("test") + 1
    (split_tree / "test/REAL/new.png").unlink()
    assert load(split_tree, cache).fingerprint == second.fingerprint


def test_another_validation_fraction_is_prepared_apart(split_tree, cache):
    first, second = load(split_tree, cache), load(split_tree, cache, validation_fraction=0.5)
    assert second.size("validation") > first.size("validation")
    assert len(second.items("validation")) == second.size("validation")


@pytest.mark.parametrize("damage", ["no mark", "truncated", "missing"])
def test_half_written_data_are_not_believed(split_tree, cache, damage):
    first = load(split_tree, cache)
    expected = first.arrays("test")[0]
    shard = next(first.folder.glob("*test.tfrecord*"))
    if damage == "no mark":
        (first.folder / "files.json").unlink()
        shard.write_bytes(b"")
    elif damage == "truncated":
        shard.write_bytes(shard.read_bytes()[:-5])
    else:
        shard.unlink()
    assert np.array_equal(load(split_tree, cache).arrays("test")[0], expected)


def test_flipped_bits_are_one_sentence(split_tree, cache):
    shard = next(load(split_tree, cache).folder.glob("*test.tfrecord*"))
    content = bytearray(shard.read_bytes())
    content[len(content) // 2] ^= 255
    shard.write_bytes(content)
    with pytest.raises(BddError, match=r"is damaged.*remove it"):
        load(split_tree, cache).arrays("test")


def test_a_batch_larger_than_the_split_is_found_before_anything_is_prepared(split_tree, cache, capsys):
    with pytest.raises(UsageError, match=r"batch 999 is larger than the train split \(\d+ images\)"):
        load(split_tree, cache, need={"train": 999})
    assert "preparing" not in capsys.readouterr().err


def test_a_killed_preparation_leaves_nothing_that_is_believed(split_tree, cache):
    script = textwrap.dedent(
        """
        import sys, time
        from bdd_tf.datasets import shards
        from bdd_tf.datasets.pipeline import load_dataset
        from bdd_tf.edge.images.decode import ResizeRule
        real, done = shards.load_image, []
        def slow(*args):
            done.append(1)
            if len(done) == 30:
                print("now", file=sys.__stdout__, flush=True)
                time.sleep(60)
            return real(*args)
        shards.load_image = slow
        load_dataset("folder", rule=ResizeRule.native(32), data_dir=sys.argv[1], cache_dir=sys.argv[2])
        """
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    with subprocess.Popen(
        [sys.executable, "-c", script, str(split_tree), str(cache)], stdout=subprocess.PIPE, env=environment
    ) as process:
        assert process.stdout.readline() == b"now\n"
        process.send_signal(signal.SIGKILL)
    half = [p for p in (cache / "prepared").rglob("*incomplete*") if p.is_dir()]
    assert half
    began = time.monotonic()
    loaded = load(split_tree, cache)
    assert time.monotonic() - began < 30
    assert len(loaded.items("train")) == loaded.size("train")
    assert not [p for p in half if p.exists()]


def test_a_file_that_changes_meanwhile_stops_the_preparation(split_tree, cache, monkeypatch):
    from bdd_tf.datasets import shards

    real = shards.load_image

    def touching(*args):
        Image.new("RGB", (32, 32)).save(split_tree / "train/FAKE/39.png")
        return real(*args)

    monkeypatch.setattr(shards, "load_image", touching)
    with pytest.raises(BddError, match=r"39\.png changed while"):
        load(split_tree, cache)
    monkeypatch.undo()
    assert len(load(split_tree, cache).items("train")) > 0


def test_leaks(split_tree, cache):
    train = split_tree / "train/FAKE"
    for source, target in (("3.png", "leak.bmp"), ("4.png", "leak2.bmp"), ("4.png", "leak3.bmp")):
        Image.open(train / source).save(split_tree / "test/FAKE" / target)
    loaded = load(split_tree, cache)
    leaks = loaded.leaked()
    assert leaks == loaded.leaked("test")
    assert {i.path for i in loaded.items("test") if i.pixel_hash in leaks} == {
        f"test/FAKE/{n}.bmp" for n in ("leak", "leak2", "leak3")
    }
    assert len(leaks) == 2
    assert loaded.leaked("validation", ("train",)) == set()
    with pytest.raises(UsageError, match="unknown split 'tset'"):
        loaded.leaked("tset")


def test_too_few_images_to_carve(image, tmp_path, cache):
    for i, word in enumerate(("REAL", "FAKE")):
        image(tmp_path / "t" / word / "a.png", i)
    with pytest.raises(UsageError, match="2 images are too few"):
        load(tmp_path / "t", cache)


def test_grouped_and_manifest_data_reach_the_batches(image, tmp_path, cache):
    root = tmp_path / "coco"
    for part, numbers in (("train", range(40)), ("val", range(100, 104))):
        for number in numbers:
            name = f"COCO_{part}2014_{number:012d}"
            image(root / f"{part}2014" / f"{name}.jpg", number)
            for k in range(2):
                image(root / "fake" / f"{part}2014" / name / f"{k}.jpg", 1000 + 10 * number + k)
    coco = load(root, cache, ResizeRule.native(16), "cocofake", validation_fraction=0.2)
    homes = {}
    for split in ("train", "validation", "test"):
        for item in coco.items(split):
            homes.setdefault(
                Path(item.path).name if item.label == REAL else Path(item.path).parts[-2] + ".jpg", []
            ).append(split)
    assert len(homes) == 44
    assert all(len(splits) == 3 and len(set(splits)) == 1 for splits in homes.values())
    assert coco.size("validation") > 0
    assert {i.source for i in coco.items("test")} == {"coco", "stable-diffusion"}

    files = sorted((root / "train2014").glob("*.jpg"))
    rows = [
        f"{f},{'RF'[i % 2].replace('R', 'REAL').replace('F', 'FAKE')},{'train' if i < 20 else 'test'},c{i % 3}"
        for i, f in enumerate(files)
    ]
    (tmp_path / "list.csv").write_text("path,label,split,source\n" + "\n".join(rows))
    listed = load(tmp_path / "list.csv", cache, ResizeRule.native(16), "manifest")
    assert {i.source for i in listed.items("test")} == {"c0", "c1", "c2"}
    assert listed.size("test") == 20
