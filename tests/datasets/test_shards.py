"""Files of prepared images: the same from any number of processes."""

import itertools
import multiprocessing
import os
import signal
import time
import tracemalloc
from pathlib import Path

import pytest

from bdd_tf.datasets import pipeline, shards
from bdd_tf.datasets.index import Entry, Record
from bdd_tf.edge.images.resize import ResizeRule
from bdd_tf.errors import BddError


def contents(data):
    return {p.name: p.read_bytes() for p in sorted(data.folder.iterdir())}


def opened(tree, cache):
    return pipeline.open_dataset("folder", rule=ResizeRule.native(16), data_dir=str(tree), cache_dir=cache)


def test_several_processes_write_the_files_of_one(tree, tmp_path, monkeypatch):
    monkeypatch.setattr(shards, "_FILE_BYTES", 40_000)  # 53 images
    one, two = opened(tree, tmp_path / "1"), opened(tree, tmp_path / "2")
    one.prepare(1)
    two.prepare(2)
    assert one.fingerprint == two.fingerprint
    assert contents(one) == contents(two)
    assert len(contents(one)) > 6
    assert [one.items(split) for split in ("train", "test")] == [
        two.items(split) for split in ("train", "test")
    ]
    assert len(one.items("train")) == one.size("train")


def test_the_order_is_that_of_tensorflow_datasets():
    from tensorflow_datasets.core.hashing import Hasher

    names = [f"REAL/{k}.png" for k in range(200)] + ["caf\u00e9/\udcff.png"]
    entries = [Entry(Record(Path(n), n, 0, "train"), "", "", 1, 1, "") for n in names]
    hasher = Hasher("train")
    expected = sorted(entries, key=lambda e: hasher.hash_key(shards.stored_path(e.record)))
    assert shards.ordered(entries, "train") == expected
    with pytest.raises(BddError, match=r"two images of the train split are named REAL/7\.png"):
        shards.ordered([*entries, entries[7]], "train")


@pytest.mark.parametrize(
    ("count", "side", "files"), [(1, 32, 1), (100_000, 32, 19), (10_000_000, 224, 1402), (3, 4096, 3)]
)
def test_files_have_a_bounded_size(count, side, files):
    ranges = shards.parts(count, ResizeRule.native(side))
    assert len(ranges) == files
    assert ranges[0].start == 0
    assert ranges[-1].stop == count
    assert all(a.stop == b.start for a, b in itertools.pairwise(ranges))
    assert max(map(len, ranges)) - min(map(len, ranges)) <= 1


def test_memory_does_not_grow_with_the_images(tree, tmp_path):
    data = opened(tree, tmp_path)
    entries = tuple(data.entries)

    def peak(factor):
        task = shards.Task(tmp_path / "file", "train", entries * factor, ResizeRule.native(64))
        tracemalloc.start()
        shards.write(task)
        found = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return found

    peak(1)
    assert peak(4) < peak(1) + 300_000  # 600 images more, of 12,288 bytes


def test_a_changed_file_stops_all_processes(tree, make_tree, tmp_path, monkeypatch):
    monkeypatch.setattr(shards, "_FILE_BYTES", 8_000)
    folder = make_tree(tmp_path / "tree", {"train": 30, "test": 5})
    data = opened(folder, tmp_path / "cache")
    (folder / "train" / "REAL" / "3.png").write_bytes(b"changed")
    with pytest.raises(BddError, match=r"3\.png changed while it was being prepared"):
        data.prepare(2)
    assert not data.is_prepared()
    assert not multiprocessing.active_children()


def test_a_killed_process_is_no_hang(tree, tmp_path):
    """As the system kills one that takes too much memory."""
    entries = tuple(opened(tree, tmp_path).entries) * 20
    tasks = [shards.Task(tmp_path / str(k), "train", entries, ResizeRule.native(256)) for k in range(4)]

    def kill(_):
        deadline = time.monotonic() + 60
        while not (tmp_path / "0").exists() and time.monotonic() < deadline:
            time.sleep(0.05)
        os.kill(multiprocessing.active_children()[0].pid, signal.SIGKILL)

    import threading

    thread = threading.Thread(target=kill, args=(0,))
    thread.start()
    with pytest.raises(BddError, match="was killed, perhaps for want of memory"):
        shards.write_all(tasks, 2)
    thread.join()
