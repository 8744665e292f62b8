"""The part that runs in Spark's workers, without Spark: rows equal those of `bdd detect --json`."""

import hashlib
import io
import json
import subprocess
import sys
import tarfile

import pytest

from bdd_tf.cluster import worker
from bdd_tf.cluster.columns import EVIDENCE, TYPES
from bdd_tf.cluster.functions import load_model
from bdd_tf.cluster.worker import Source, local_path, members, rows
from bdd_tf.edge.images.errors import ImageError
from tests.cluster.images import write_broken, write_images
from tests.edge.detect_command import run_detect


@pytest.fixture(scope="module")
def model():
    return load_model("cifake")


def sources(folder):
    return (worker._read(str(path), "") for path in sorted(folder.iterdir()))


@pytest.mark.parametrize("name", ["cifake", "photos"])
def test_rows_equal_detect_for_good_and_broken_images(tmp_path, capsys, name):
    write_images(tmp_path, 20)
    write_broken(tmp_path)
    (tmp_path / "gone.jpg").symlink_to(tmp_path / "nowhere.jpg")
    out = run_detect(capsys, "--json", "--model", name, *sorted(tmp_path.iterdir()))[1]
    records = [json.loads(line) for line in out.splitlines()]
    found = list(rows(load_model(name), sources(tmp_path)))
    assert len(found) == len(records) == 26
    for row, record in zip(found, records, strict=True):
        if record["path"].endswith("video.jpg"):  # detect tries to decode it as a video
            assert row["error"] == "this is a video, not an image"
            continue
        probability = record.pop("fake_probability")
        assert row["fake_probability"] == (
            None if probability is None else pytest.approx(probability, abs=1e-6)
        )
        record.pop("evidence", None)
        assert {key: row[key] for key in record} == record
        assert (row["error"] is None) == (probability is not None)


def test_rows_hold_facts_about_the_file(tmp_path, model):
    path = write_images(tmp_path, 1)[0]
    (row,) = rows(model, sources(tmp_path))
    content = path.read_bytes()
    assert list(row) == list(TYPES)
    assert row["sha256"] == hashlib.sha256(content).hexdigest()
    assert (row["width"], row["height"], row["bytes"]) == (32, 32, len(content))


def test_a_broken_file_keeps_its_hash_and_size(tmp_path, model):
    write_broken(tmp_path)
    for row in rows(model, sources(tmp_path)):
        assert row["error"]
        assert row["verdict"] is None
        assert row["width"] is None
        assert row["bytes"] == (tmp_path / row["path"].rpartition("/")[2]).stat().st_size
        assert len(row["sha256"]) == 64


def test_evidence_is_a_column_of_its_own(tmp_path):
    path = write_images(tmp_path, 1)[0]
    content = path.read_bytes()
    comment = b"Steps: 20, Sampler: Euler a, CFG scale: 7, Seed: 1"
    (tmp_path / "0001.jpg").write_bytes(
        content[:2] + b"\xff\xfe" + (len(comment) + 2).to_bytes(2, "big") + comment + content[2:]
    )
    plain, marked = rows(load_model("cifake", evidence=True), sources(tmp_path))
    assert marked[EVIDENCE]
    assert {"kind", "says", "where", "strength"} == set(marked[EVIDENCE][-1])
    assert marked[EVIDENCE] != plain[EVIDENCE]


def test_names_that_are_no_text_become_valid_ones(model):
    (row,) = rows(model, [Source("caf\udce9.jpg", b"")])
    assert row["path"] == "caf\\udce9.jpg"
    assert row["error"]


def test_a_detector_is_loaded_once(model):
    assert worker.detector_of(model) is worker.detector_of(model)


def test_files_above_the_limit_are_error_rows(tmp_path, monkeypatch):
    path = write_images(tmp_path, 1)[0]
    monkeypatch.setattr(worker, "LARGEST", 10)
    assert "more than 10 bytes" in worker._read(str(path), "").error
    assert "more than 10 bytes" in worker._given("a", b"x" * 11).error


@pytest.mark.parametrize("content", [None, float("nan")])
def test_null_bytes_are_an_error(content):
    assert "null" in worker._given("a", content).error


def make_tar(path, files):
    with tarfile.open(path, "w") as tar:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return path


def test_shards_hold_images_and_other_files(tmp_path):
    image = write_images(tmp_path, 1)[0].read_bytes()
    files = {
        "a/1.jpg": image, "a/1.json": b"{}", "a/2.unknown": image, ".hidden.jpg": image, "3.png": b"broken",
        "4.jpg.explain.png": image,
    }  # fmt: skip
    path = make_tar(tmp_path / "s.tar", files)
    found = list(members(str(path), ""))
    assert [source.name for source in found] == [f"{path}/a/1.jpg", f"{path}/a/2.unknown", f"{path}/3.png"]
    assert found == list(members(str(path), io.BytesIO(path.read_bytes())))
    assert next(members("s.tar", str(tmp_path))).name == "s.tar/a/1.jpg"


def test_a_truncated_shard_reports_the_damage_after_its_images(tmp_path):
    image = write_images(tmp_path, 1)[0].read_bytes()
    path = make_tar(tmp_path / "s.tar", {f"{i}.jpg": image for i in range(4)})
    path.write_bytes(path.read_bytes()[: 2 * 512 * (1 + -(-len(image) // 512)) + 700])
    *good, damage = members(str(path), "")
    assert len(good) == 2
    assert damage.name == str(path)
    assert "the tar file is damaged" in damage.error


@pytest.mark.parametrize("content", [b"", b"no tar" * 999, b"\0" * 512 + b"x" * 512])
def test_what_is_no_shard_is_one_error_row(tmp_path, content, model):
    path = tmp_path / "s.tar"
    path.write_bytes(content)
    found = list(rows(model, members(str(path), "")))
    assert all(row["error"] and row["path"] == str(path) for row in found)
    assert len(found) == (0 if content.startswith(b"\0") else 1)


def test_a_member_that_claims_a_huge_size_is_not_read(tmp_path):
    info = tarfile.TarInfo("huge.jpg")
    info.size = 1 << 40
    (tmp_path / "s.tar").write_bytes(info.tobuf())
    huge, *others = members(str(tmp_path / "s.tar"), "")
    assert "more than 536,870,912 bytes" in huge.error
    assert all(source.error for source in others)


@pytest.mark.parametrize(
    ("path", "local"),
    [("/a b", "/a b"), ("file:/a", "/a"), ("file:///a", "/a"), ("a/b", "a/b"), ("C:/x", "C:/x")],
)
def test_local_paths(path, local):
    assert local_path(path) == local


def test_other_schemes_are_left_to_spark():
    with pytest.raises(ImageError, match="s3a:// is read by Spark alone"):
        local_path("s3a://bucket/a.jpg")


def test_executors_need_neither_tensorflow_nor_pyspark():
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            "import bdd_tf.cluster.worker, bdd_tf.cluster, sys; "
            "print([m for m in ('tensorflow', 'pyspark', 'pandas', 'pyarrow', 'yaml', 'tqdm') if m in sys.modules])",
        ],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == "[]"
