"""`bdd score` and `score_images` on a real Spark: make test-spark. Java comes from the system (openjdk-17-jre-headless)."""

import io
import json
import os
import shutil
import subprocess
import sys
import tarfile
import time
import zipfile
from pathlib import Path

import pytest

from bdd_tf.cli import main
from bdd_tf.cluster import score_images
from bdd_tf.cluster.session import check_software, started
from bdd_tf.errors import BddError, UsageError
from tests.cluster.images import write_broken, write_images

cluster = pytest.importorskip("tools.spark.cluster", reason="needs pyspark: make test-spark")
ROOT = Path(__file__).resolve().parents[2]


def _missing() -> str | None:
    try:
        check_software()
    except BddError as error:
        return str(error)
    return None


pytestmark = pytest.mark.skipif(_missing() is not None, reason=str(_missing()))


@pytest.fixture(scope="module", autouse=True)
def environment():
    os.environ["PYTHONPATH"] = str(ROOT)  # of Spark's Python workers
    os.environ["SPARK_LOCAL_IP"] = "127.0.0.1"
    os.environ.update(cluster.SMALL_JVM)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """60 images, 5 of them broken, one with an odd name."""
    folder = tmp_path_factory.mktemp("images")
    paths = write_images(folder, 54)
    paths[0].rename(folder / "a [b] {c}, é.jpg")
    write_broken(folder)
    (folder / "video.jpg").unlink()  # `bdd detect` reports it in other words
    (folder / os.fsdecode(b"caf\xe9.jpg")).write_bytes(paths[1].read_bytes())
    return folder


@pytest.fixture(scope="module")
def records(folder):
    """The records of `bdd detect --json`, by path as the table spells it."""
    done = subprocess.run(
        [sys.executable, "-m", "bdd_tf", "detect", "--json", "--model", "cifake", str(folder)],
        capture_output=True, text=True, check=False, cwd=ROOT,
    )  # fmt: skip
    found = map(json.loads, done.stdout.splitlines())
    return {record["path"].encode("utf-8", "backslashreplace").decode(): record for record in found}


@pytest.fixture
def spark():
    with started("local[2]") as session:
        yield session


def table(output):
    import pyarrow.dataset

    return pyarrow.dataset.dataset(output, partitioning="hive", format="parquet").to_table().to_pylist()


def assert_equal(rows, records, name=lambda path: path):
    """The rows are the records, each once."""
    assert sorted(row["path"] for row in rows) == sorted(map(name, records))
    by_path = {name(path): record for path, record in records.items()}
    for row in rows:
        record = by_path[row["path"]]
        assert row["fake_probability"] == (
            None
            if record["fake_probability"] is None
            else pytest.approx(record["fake_probability"], abs=1e-6)
        )
        for key in ("verdict", "error", "note"):
            assert row[key] == record[key], row["path"]


def write_wheel(path):
    """What `make wheels` packs, without compiling again."""
    with zipfile.ZipFile(path, "w") as wheel:
        for file in sorted((ROOT / "bdd_tf").rglob("*")):
            if file.suffix in (".py", ".so", ".tflite"):
                wheel.write(file, file.relative_to(ROOT))
    return path


def score(*arguments):
    return main(["score", "--model", "cifake", "--master", "local[2]", *map(str, arguments)])


def test_the_table_equals_detect_and_a_resumed_job_completes_it(folder, records, tmp_path, capsys):
    output = tmp_path / "out"
    assert score("--input", folder, "--output", output, "--chunk", 25) == 0
    err = capsys.readouterr().err
    rows = table(output)
    assert_equal(rows, records)
    assert {row["chunk"] for row in rows} == {0, 1, 2}
    assert all(len(row["sha256"]) == 64 and row["date"] for row in rows)
    assert "3 of 3 chunks, 59 of 59 images" in err
    assert "4 images (6.8%) could not be read; select the rows WHERE error IS NOT NULL" in err
    # Killed in the middle of a commit: rows without a mark, and rows in the staging folder.
    (output / "_bdd" / "done" / "000001.json").unlink()
    next((output / "chunk=000001").rglob("*.parquet")).unlink()
    shutil.copytree(output / "chunk=000002", output / "_bdd" / "staging" / "x" / "chunk=000001")
    kept = {path: path.stat().st_mtime_ns for path in (output / "chunk=000000").rglob("*.parquet")}
    assert score("--input", folder, "--output", output, "--chunk", 25) == 2
    assert score("--input", folder, "--output", output, "--chunk", 25, "--resume") == 0
    assert "2 of them complete" in capsys.readouterr().err
    assert_equal(table(output), records)
    assert {path: path.stat().st_mtime_ns for path in (output / "chunk=000000").rglob("*.parquet")} == kept
    assert not (output / "_bdd" / "staging").exists()


def test_tables_of_paths_and_of_bytes(spark, folder, records, tmp_path, capsys):
    paths = [path for path in sorted(folder.glob("*.jpg")) if path.name.isascii() and "," not in path.name]
    rows = [(str(path), f"k{i % 2}", path.read_bytes()) for i, path in enumerate(paths)]
    frame = spark.createDataFrame(rows, "path string, kind string, content binary")
    frame.select("path", "kind").write.parquet(str(tmp_path / "paths"))
    frame.select("path", "kind").coalesce(1).write.option("header", "true").csv(str(tmp_path / "csv"))
    csv = next((tmp_path / "csv").glob("*.csv"))
    frame.write.partitionBy("kind").parquet(str(tmp_path / "bytes"))
    expected = {path: record for path, record in records.items() if path in {row[0] for row in rows}}
    spark.stop()
    for number, given in enumerate((tmp_path / "paths", csv, tmp_path / "bytes")):
        output = tmp_path / f"out{number}"
        assert score("--input", given, "--output", output, "--partition-by", "kind") == 0, (
            capsys.readouterr().err
        )
        found = table(output)
        assert_equal(found, expected)
        assert {(row["path"], row["kind"]) for row in found} == {row[:2] for row in rows}
        assert len(list(output.glob("chunk=*/kind=k1"))) >= 1
    assert score("--input", csv, "--output", tmp_path / "x", "--partition-by", "knd") == 2
    assert "Did you mean 'kind'?" in capsys.readouterr().err


def test_tar_shards(folder, records, tmp_path, capsys):
    files = [path for path in sorted(folder.iterdir()) if path.name.isascii()]
    (tmp_path / "shards").mkdir()
    for number in range(2):
        with tarfile.open(tmp_path / "shards" / f"{number}.tar", "w") as tar:
            for path in files[number::2]:
                tar.add(path, path.name)
                info = tarfile.TarInfo(f"{path.stem}.json")
                info.size = 2
                tar.addfile(info, io.BytesIO(b"{}"))
    assert score("--input", tmp_path / "shards" / "*.tar", "--output", tmp_path / "out") == 0, (
        capsys.readouterr().err
    )
    rows = table(tmp_path / "out")
    names = {str(path): f"{tmp_path}/shards/{i % 2}.tar/{path.name}" for i, path in enumerate(files)}
    assert_equal(rows, {path: record for path, record in records.items() if path in names}, names.__getitem__)


def test_score_images_passes_columns_on_and_scores_bytes_and_files(spark, folder, records):
    paths = [str(path) for path in sorted(folder.glob("*.jpg")) if path.name.isascii()]
    rows = [(i, path, None if i % 7 == 0 else i) for i, path in enumerate(paths)]
    expected = {path: records[path] for path in paths}
    frame = spark.createDataFrame(rows, "id long, file string, other int")
    scored = score_images(spark, frame, model="cifake", column="file")
    assert scored.columns[:3] == ["id", "other", "path"]
    found = [row.asDict(recursive=True) for row in scored.collect()]
    assert_equal(found, expected)
    assert sorted((row["id"], row["path"], row["other"]) for row in found if row["id"] % 7) == [
        row for row in rows if row[0] % 7
    ]
    assert_equal(
        [row.asDict() for row in score_images(spark, str(folder), model="cifake").collect()], records
    )
    binary = spark.read.format("binaryFile").load(str(folder / "00*.jpg"))
    found = [row.asDict() for row in score_images(spark, binary, model="cifake").collect()]
    assert {row["path"].removeprefix("file:") for row in found} == {p for p in paths if "/00" in p}
    assert all(
        abs(row["fake_probability"] - records[row["path"][5:]]["fake_probability"]) < 1e-6 for row in found
    )
    with pytest.raises(UsageError, match="columns named verdict"):
        score_images(spark, frame.withColumnRenamed("other", "verdict"), model="cifake", column="file")
    with pytest.raises(UsageError, match="give a path, a list of paths, or a data frame"):
        score_images(spark, 3, model="cifake")


@pytest.fixture
def data(folder, tmp_path):
    """A copy of the images for viewfs, which Hadoop has built in: it leads back to local folders, and Python cannot read it."""
    data = tmp_path / "data"
    shutil.copytree(folder, data)
    for path in data.glob("caf*"):
        path.unlink()  # Java opens no files whose names are not valid UTF-8
    return data


def test_score_images_of_another_file_system(spark, folder, data, records):
    settings = spark.sparkContext._jsc.hadoopConfiguration()
    settings.set("fs.viewfs.mounttable.y.link./data", f"file://{data}")
    expected = {path: record for path, record in records.items() if "caf" not in path}
    assert any("empty" in path for path in expected)
    scored = score_images(spark, "viewfs://y/data", model="cifake")
    rows = [row.asDict() for row in scored.collect()]
    assert_equal(rows, expected, lambda path: path.replace(str(folder), "viewfs://y/data"))
    (found,) = score_images(spark, "viewfs://y/data/empty.jpg", model="cifake").collect()
    assert (found.bytes, found.verdict) == (0, None)
    with pytest.raises(UsageError, match="viewfs://y/data/nothing cannot be listed"):
        score_images(spark, "viewfs://y/data/nothing", model="cifake")


def test_another_file_system_and_a_configuration_file(folder, data, records, tmp_path):
    (tmp_path / "out").mkdir()
    links = {"data": data, "out": tmp_path / "out"}
    settings = {
        f"spark.hadoop.fs.viewfs.mounttable.x.link./{name}": f"file://{path}" for name, path in links.items()
    }
    environment = cluster.configured(tmp_path / "conf", {"spark.master": "local[2]", **settings})
    arguments = ("--input", "viewfs://x/data", "--output", "viewfs://x/out/table", "--chunk", 40)
    done = subprocess.run(
        [sys.executable, "-m", "bdd_tf", "score", "--model", "cifake", *map(str, arguments)],
        capture_output=True, text=True, check=False, cwd=ROOT, env={**os.environ, **environment},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    expected = {path: record for path, record in records.items() if "caf" not in path}
    rows = table(tmp_path / "out" / "table")
    assert_equal(rows, expected, lambda path: path.replace(str(folder), "viewfs://x/data"))


def test_a_killed_executor_and_a_worker_without_the_package(folder, records, tmp_path, monkeypatch):
    with cluster.Cluster(tmp_path / "cluster") as running:
        monkeypatch.setenv("PYSPARK_PYTHON", sys.executable)
        files = ("--input", str(folder), "--output", str(tmp_path / "out"))
        arguments = (*files, "--chunk", "20", "--model", "cifake")
        command = [sys.executable, "-m", "bdd_tf", "score", "--master", running.address, *arguments]
        environment = cluster.configured(tmp_path / "conf", {"spark.executorEnv.PYTHONPATH": str(ROOT)})
        process = subprocess.Popen(
            command, cwd=ROOT, stderr=subprocess.PIPE, text=True, env={**os.environ, **environment}
        )
        while process.poll() is None and not list(tmp_path.glob("out/_bdd/done/*")):
            time.sleep(0.1)
        if process.poll() is None and running.executors():
            cluster.kill(running.executors()[0])
        assert process.wait(timeout=300) == 0, process.stderr.read()
        assert_equal(table(tmp_path / "out"), records)
        # The packages without the project: PYTHONPATH, unlike a site folder, reads no .pth files.
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", tmp_path / "bare"], check=True)
        monkeypatch.setenv("PYSPARK_PYTHON", str(tmp_path / "bare" / "bin" / "python"))
        packages = next(path for path in sys.path if path.endswith("site-packages"))
        (next((tmp_path / "bare" / "lib").glob("python*/site-packages")) / "packages.pth").write_text(
            f"import sys; sys.path.append({packages!r})\n"
        )
        command[command.index(str(tmp_path / "out"))] = str(tmp_path / "other")
        monkeypatch.delenv("PYTHONPATH")
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        assert done.returncode == 1, done.stderr
        assert "workers lacks bdd_tf: install it there, or send it along with --wheel" in done.stderr
        assert "Traceback" not in done.stderr
        assert not list(tmp_path.glob("other/chunk=*"))
        wheel = write_wheel(tmp_path / "bdd_tf.whl")
        sent = [*command, "--resume", "--wheel", str(wheel)]
        done = subprocess.run(sent, cwd=ROOT, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        assert_equal(table(tmp_path / "other"), records)
