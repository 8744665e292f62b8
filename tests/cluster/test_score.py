"""`bdd score` without Spark: its arguments, the checks before Spark is started, and its messages."""

import json
import socket
import sys

import pytest

from bdd_tf.cli import main
from bdd_tf.cluster import session
from bdd_tf.cluster.chunks import JOB, PLAN
from bdd_tf.cluster.functions import load_model
from bdd_tf.cluster.options import Options, check_output, shared, store_of
from bdd_tf.cluster.progress import Progress
from bdd_tf.cluster.session import check_master, check_software, explained
from bdd_tf.cluster.store import LocalStore
from bdd_tf.commands.score import line
from bdd_tf.errors import BddError, UsageError
from tests.cluster.images import write_images


@pytest.fixture
def folder(tmp_path):
    write_images(tmp_path / "images", 2)
    return tmp_path / "images"


def options(folder, output, **changes):
    values = {"model": load_model("cifake"), "resume": True, **changes}
    return Options((str(folder),), str(output), **values)


def begun(folder, output):
    """An output folder as an interrupted job leaves it."""
    given = options(folder, output)
    facts = {"model": given.model.digest, "name": given.model.name, **shared(given)}
    LocalStore(output).write(JOB, json.dumps(facts).encode())
    LocalStore(output).write(PLAN, b'{"chunks": {}}')
    return LocalStore(output)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--output", "out"], "arguments are required: --input"),
        (["--input", "nonesuch", "--output", "out"], "there is no such file or folder"),
        (["--input", "{images}", "--output", "{images}"], "exists already; it was not written by `bdd score`"),
        (["--input", "{images}", "--output", "{images}", "--resume"], "was not written by `bdd score`"),
        (["--input", "{images}", "--output", "out", "--chunk", "0"], "--chunk is 0; it must be between 1"),
        (["--input", "{images}", "--output", "out", "--model", "cifak"], "Did you mean 'cifake'?"),
        (["--input", "{images}", "--output", "out", "--master", "sprak://a:1"], "--master is 'sprak://a:1'; possible"),
        (["--input", "{images}", "s3a://b/c", "--output", "out"], "partly of this machine"),
    ],
)  # fmt: skip
def test_wrong_usage_is_one_sentence(folder, tmp_path, monkeypatch, capsys, arguments, sentence):
    monkeypatch.chdir(tmp_path)
    code = main(["score", *(argument.replace("{images}", str(folder)) for argument in arguments)])
    err = capsys.readouterr().err
    assert code == 2
    assert sentence in err
    assert len(err.splitlines()) == 1
    assert not (tmp_path / "out").exists()


def test_a_new_output_needs_nothing(folder, tmp_path):
    assert (
        check_output(store_of(str(tmp_path / "out")), options(folder, tmp_path / "out", resume=False))
        is False
    )
    assert check_output(store_of(str(tmp_path / "out")), options(folder, tmp_path / "out")) is False


def test_an_output_without_a_plan_counts_as_new(folder, tmp_path):
    """A job that found no images leaves its state alone; the corrected command needs no --resume."""
    store = LocalStore(tmp_path / "out")
    store.write(JOB, json.dumps({"model": "of another one"}).encode())
    assert check_output(store, options(folder, tmp_path / "out", resume=False)) is False
    (tmp_path / "out" / "chunk=000000").mkdir()
    with pytest.raises(UsageError, match="exists already"):
        check_output(store, options(folder, tmp_path / "out", resume=False))


@pytest.mark.parametrize("inside", ["", "/deeper"])
def test_a_file_is_no_output(folder, tmp_path, inside):
    (tmp_path / "out").touch()
    output = f"{tmp_path / 'out'}{inside}"
    with pytest.raises(BddError, match="is a file, or below one; give the name of a new --output"):
        check_output(store_of(output), options(folder, output, resume=False))


def test_an_output_that_was_begun_is_continued_only_on_request(folder, tmp_path):
    store = begun(folder, tmp_path / "out")
    assert check_output(store, options(folder, tmp_path / "out")) is True
    with pytest.raises(UsageError, match="exists already; --resume completes it"):
        check_output(store, options(folder, tmp_path / "out", resume=False))


def test_another_model_is_refused(folder, tmp_path):
    store = begun(folder, tmp_path / "out")
    with pytest.raises(
        UsageError, match=r"scored with another model \(cifake-bnext-n.tflite, SHA-256 .*give that model"
    ):
        check_output(store, options(folder, tmp_path / "out", model=load_model("photos")))


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"partition_by": "verdict"}, "begun with --partition-by date, not verdict"),
        ({"column": "a"}, "begun with --column None, not a"),
        ({"model": "evidence"}, "begun with --evidence False, not True"),
    ],
)
def test_other_options_are_refused(folder, tmp_path, changes, sentence):
    store = begun(folder, tmp_path / "out")
    if "model" in changes:
        changes = {"model": load_model("cifake", evidence=True)}
    with pytest.raises(UsageError, match=sentence):
        check_output(store, options(folder, tmp_path / "out", **changes))


def test_other_inputs_are_refused_because_their_rows_would_be_removed(folder, tmp_path, monkeypatch):
    store = begun(folder, tmp_path / "out")
    with pytest.raises(UsageError, match="begun with --input"):
        check_output(store, options(tmp_path, tmp_path / "out"))
    monkeypatch.chdir(tmp_path)
    assert check_output(store, options("images", tmp_path / "out")) is True


def test_a_damaged_job_file_is_one_sentence(folder, tmp_path):
    store = begun(folder, tmp_path / "out")
    store.write(JOB, b"{")
    with pytest.raises(BddError, match="is damaged"):
        check_output(store, options(folder, tmp_path / "out"))


def test_a_master_that_does_not_answer():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with pytest.raises(BddError, match=f"no Spark master answers at spark://127.0.0.1:{port} .*start one"):
        check_master(f"spark://127.0.0.1:{port}")


def test_one_of_several_masters_suffices():
    with socket.socket() as master:
        master.bind(("127.0.0.1", 0))
        master.listen()
        check_master(f"spark://127.0.0.1:9,127.0.0.1:{master.getsockname()[1]}")


@pytest.mark.parametrize(
    "master", ["local", "local[2]", "local[*]", "local-cluster[2,1,1024]", "yarn", "k8s://https://a:1"]
)
def test_masters(master, monkeypatch):
    monkeypatch.setenv("YARN_CONF_DIR", "/etc/hadoop")
    check_master(master)


def test_yarn_without_its_address(monkeypatch):
    monkeypatch.delenv("YARN_CONF_DIR", raising=False)
    monkeypatch.delenv("HADOOP_CONF_DIR", raising=False)
    with pytest.raises(BddError, match=r"set HADOOP_CONF_DIR to the folder with yarn-site\.xml"):
        check_master("yarn")


@pytest.mark.parametrize("master", ["", "local[0", "spark://a", "http://a:1", "local-cluster[2]"])
def test_what_is_no_master(master):
    with pytest.raises(UsageError, match=r"possible: local\[2\]"):
        check_master(master)


@pytest.fixture
def packages(monkeypatch):
    """pyspark, pandas and pyarrow seem to be installed."""
    monkeypatch.setattr(session.importlib.util, "find_spec", lambda name: object())


def test_no_java(packages, monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("JAVA_HOME", raising=False)
    with pytest.raises(
        BddError, match="needs Java 17 or newer, and there is none: apt-get install openjdk-17"
    ):
        check_software()


def test_java_home_leads_nowhere(packages, monkeypatch, tmp_path):
    monkeypatch.setenv("JAVA_HOME", str(tmp_path))
    with pytest.raises(BddError, match=f"JAVA_HOME is {tmp_path}, where there is no bin/java; correct"):
        check_software()


@pytest.mark.parametrize(
    ("version", "sentence"), [('"1.8.0_402"', "is Java 8"), ('"11.0.2"', "is Java 11"), ("", "unknown")]
)
def test_old_java(packages, monkeypatch, tmp_path, version, sentence):
    java = tmp_path / "bin" / "java"
    java.parent.mkdir()
    java.write_text(f"#!/bin/sh\necho 'openjdk version {version}' >&2\n")
    java.chmod(0o755)
    monkeypatch.setenv("JAVA_HOME", str(tmp_path))
    with pytest.raises(BddError, match=f"{sentence}; Spark needs 17"):
        check_software()


@pytest.mark.parametrize("version", ['"17.0.21"', '"21" 2023-09-19', '"25-ea"'])
def test_new_java(packages, monkeypatch, tmp_path, version):
    java = tmp_path / "bin" / "java"
    java.parent.mkdir()
    java.write_text(f"#!/bin/sh\necho 'openjdk version {version}' >&2\n")
    java.chmod(0o755)
    monkeypatch.setenv("JAVA_HOME", str(tmp_path))
    check_software()


def test_no_pyspark(folder, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(
        session.importlib.util, "find_spec", lambda name: None if name == "pyspark" else object()
    )
    assert (
        main(["score", "--input", str(folder), "--output", str(tmp_path / "out"), "--model", "cifake"]) == 1
    )
    assert "needs pyspark, which is not installed: pip install 'bdd_tf[cluster]'" in capsys.readouterr().err


def test_arguments_are_parsed_without_pyspark(monkeypatch, capsys):
    for name in ("pyspark", "pandas", "pyarrow"):
        monkeypatch.setitem(sys.modules, name, None)
    assert main(["score", "--help"]) == 0
    assert "--partition-by" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (
            "...\nModuleNotFoundError: No module named 'bdd_tf'\n",
            "workers lacks bdd_tf: install it there, or .*--wheel",
        ),
        ("ModuleNotFoundError: No module named 'bdd_tf.cluster'", "workers lacks bdd_tf"),
        ("ImportError: No module named 'pandas.core'", "workers lacks pandas: pip install"),
        (
            'java.io.IOException: Cannot run program "python9": error=2',
            "cannot run python9: set PYSPARK_PYTHON",
        ),
        ("[PYTHON_VERSION_MISMATCH] Python in worker has different version", "another version of Python"),
        (
            "a\nCaused by: java.io.IOException: No space left on device\n",
            "failed: java.io.IOException: No space left on device. The output holds",
        ),
        (
            "An error occurred\n: java.lang.IllegalArgumentException: requirement failed\n\tat java.lang.Thread.run(T.java:1)",
            "Spark failed: java.lang.IllegalArgumentException: requirement failed. The",
        ),
        ("", "Exception"),
    ],
)
def test_failures_of_spark_are_one_sentence(text, sentence):
    error = explained(Exception(text))
    with pytest.raises(BddError, match=sentence):
        raise error
    assert "\n" not in str(error)


def test_the_line_of_progress():
    progress = Progress(3, 10, 30_000, 100_000, 10_000, 50.0)
    assert line(progress) == "3 of 10 chunks, 30,000 of 100,000 images  400.0 images/s  2:55 left"
    assert line(Progress(0, 10, 0, 1000, 0, 5.0)).endswith("? left")
