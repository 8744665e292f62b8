"""Start Spark, and say in one sentence why it cannot be started or used."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bdd_tf.errors import BddError, UsageError

JAVA = 17
SECONDS = 5.0
"""Time for a master to answer."""

_INSTALL = "pip install 'bdd_tf[cluster]'"
_MASTER = re.compile(
    r"local(\[(\d+|\*)(,\d+)?\])?|local-cluster\[\d+,\d+,\d+\]|spark://[^,/]+:\d+(,[^,/]+:\d+)*|yarn|k8s://.+"
)
_MISSING = re.compile(r"No module named '([\w.]+)'")
_LOGGING = """\
rootLogger.level = error
rootLogger.appenderRef.stderr.ref = console
appender.console.type = Console
appender.console.name = console
appender.console.target = SYSTEM_ERR
appender.console.layout.type = PatternLayout
appender.console.layout.pattern = spark: %d{HH:mm:ss} %p %c{1}: %m%n%ex{0}
"""
_WHEEL_FOLDER = "bdd_tf_wheel"
_SETTINGS = {
    "spark.ui.enabled": "false",
    # Lost executors count as failures of the tasks that they ran.
    "spark.task.maxFailures": "8",
    "spark.sql.session.timeZone": "UTC",
    "spark.sql.execution.arrow.pyspark.enabled": "true",
    # The usual codec, Snappy, is a native library that does not load wherever there is a musl beside the glibc.
    "spark.sql.parquet.compression.codec": "gzip",
    # Files of other file systems are looked up in that many tasks; by default there is one for each.
    "spark.sql.sources.parallelPartitionDiscovery.parallelism": "64",
    # The values of partitions (a=01) stay text.
    "spark.sql.sources.partitionColumnTypeInference.enabled": "false",
}
"""Settings that the user's configuration overrides."""


def check_master(master: str) -> None:
    """Check the address of a master, and that a standalone master answers, or that the one of YARN is configured.

    Raises:
        UsageError: If it is none.
        BddError: If no master answers.
    """
    if not _MASTER.fullmatch(master):
        raise UsageError(
            f"--master is {master!r}; possible: local[2], local[*], local-cluster[2,1,1024], spark://HOST:PORT, yarn, "
            "k8s://https://HOST:PORT."
        )
    if master == "yarn" and not any(os.environ.get(name) for name in ("HADOOP_CONF_DIR", "YARN_CONF_DIR")):
        # Spark would look for YARN on this machine, without end.
        raise BddError(
            "--master yarn needs the address of YARN: set HADOOP_CONF_DIR to the folder with yarn-site.xml."
        )
    if not master.startswith("spark://"):
        return
    reason = ""
    for address in master.removeprefix("spark://").split(","):
        host, _, port = address.rpartition(":")
        try:
            socket.create_connection((host.strip("[]"), int(port)), timeout=SECONDS).close()
        except (OSError, ValueError, OverflowError) as error:
            reason = getattr(error, "strerror", None) or str(error)
        else:
            return
    raise BddError(
        f"no Spark master answers at {master} ({reason}); start one with `spark-class "
        "org.apache.spark.deploy.master.Master`, check the address, or use --master 'local[*]'."
    )


def check_software() -> None:
    """Check that pyspark and Java are installed.

    Raises:
        BddError: If one is missing or too old.
    """
    for package in ("pyspark", "pandas", "pyarrow"):
        if importlib.util.find_spec(package) is None:
            raise BddError(f"bdd score needs {package}, which is not installed: {_INSTALL}.")
    java = java_command()
    if java is None:
        home = os.environ.get("JAVA_HOME")
        if home:
            raise BddError(
                f"Spark needs Java {JAVA} or newer, and JAVA_HOME is {home}, where there is no bin/java; correct JAVA_HOME, "
                "or unset it to use the java of PATH."
            )
        raise BddError(
            f"Spark needs Java {JAVA} or newer, and there is none: apt-get install openjdk-17-jre-headless, or set "
            "JAVA_HOME."
        )
    try:
        done = subprocess.run([java, "-version"], capture_output=True, text=True, timeout=60, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise BddError(f"{java} does not run ({error}); set JAVA_HOME to a Java of version {JAVA}.") from None
    found = re.search(r'version "(?:1\.)?(\d+)', done.stderr + done.stdout)
    if found is None or int(found[1]) < JAVA:
        version = found[1] if found else "unknown"
        raise BddError(
            f"{java} is Java {version}; Spark needs {JAVA} or newer: set JAVA_HOME to another one."
        )


def java_command() -> str | None:
    """Return the Java that Spark would run; None if there is none."""
    home = os.environ.get("JAVA_HOME")
    if home:
        command = Path(home) / "bin" / "java"
        return str(command) if command.is_file() else None
    return shutil.which("java")


@contextmanager
def started(master: str | None, wheel: str | None = None) -> Iterator[Any]:
    """Start a Spark session, or use that of ``spark-submit``, and stop it at the end.

    Args:
        master: Address of the master; None for the one of the configuration (``spark-submit --master``), or else all cores of
            this machine.
        wheel: A wheel of bdd_tf for executors that lack it; None if they have it.

    Yields:
        The session.

    Raises:
        UsageError: If the wheel or the master is none.
        BddError: If Spark cannot be started.
    """
    if master is not None:
        check_master(master)
    check_software()
    _prepare_environment(master or "")
    with tempfile.TemporaryDirectory(prefix="bdd-spark-") as folder:
        try:
            spark = _session(master, Path(folder), wheel)
        except Exception as error:
            raise explained(error, "Check --master and the settings of Spark.") from error
        spark.sparkContext.setLogLevel("ERROR")
        try:
            yield spark
        finally:
            spark.stop()


def _prepare_environment(master: str) -> None:
    """Set what the JVM inherits."""
    if not any(os.environ.get(name) for name in ("LC_ALL", "LC_CTYPE", "LANG")):
        os.environ["LC_ALL"] = "C.UTF-8"  # without a locale, Java opens no file with letters beyond ASCII
    if master.startswith("local-cluster"):
        import pyspark

        os.environ.setdefault("SPARK_HOME", str(Path(pyspark.__file__).parent))
        os.environ.setdefault("SPARK_SCALA_VERSION", "2.13")


def _session(master: str | None, folder: Path, wheel: str | None) -> Any:
    from pyspark import SparkConf, SparkContext
    from pyspark.sql import SparkSession

    settings = {**_SETTINGS, **_wheel_settings(folder, wheel)}
    with _quiet(folder):
        SparkContext._ensure_initialized()
    # Only after the JVM was started, this holds spark-defaults.conf and the options of spark-submit.
    conf = SparkConf()
    if master is not None:
        conf.setMaster(master)
    if conf.get("spark.master", "").startswith("local"):
        # Executors on this machine use this Python; those of a cluster have their own (PYSPARK_PYTHON).
        os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
        settings.update({"spark.driver.bindAddress": "127.0.0.1", "spark.driver.host": "127.0.0.1"})
    if conf.get("spark.app.name", "pyspark-shell") == "pyspark-shell":
        conf.setAppName("bdd score")
    conf.set(
        "spark.ui.showConsoleProgress", "false"
    )  # spark-submit turns it on for what it takes for a shell
    for key, value in settings.items():
        if not conf.contains(key):
            conf.set(key, value)
    return SparkSession.builder.config(conf=conf).getOrCreate()


@contextmanager
def _quiet(folder: Path) -> Iterator[None]:
    """Let a JVM that is started in the block print errors alone, unless the user has options for its log."""
    before = os.environ.get("SPARK_SUBMIT_OPTS", "")
    logging = folder / "log4j2.properties"
    logging.write_text(_LOGGING, encoding="utf-8")
    if "log4j" not in before:
        os.environ["SPARK_SUBMIT_OPTS"] = f"{before} -Dlog4j2.configurationFile={logging.as_uri()}".strip()
    try:
        yield
    finally:
        os.environ["SPARK_SUBMIT_OPTS"] = before


def _wheel_settings(folder: Path, wheel: str | None) -> dict[str, str]:
    if wheel is None:
        return {}
    # Spark unpacks archives by their suffix, and .whl is none of those.
    packed = folder / f"{_WHEEL_FOLDER}.zip"
    try:
        shutil.copyfile(wheel, packed)
    except OSError as error:
        raise UsageError(
            f"--wheel {wheel} cannot be read: {error.strerror or error}; `make wheels` writes dist/*.whl."
        ) from None
    return {
        "spark.archives": f"{packed.as_uri()}#{_WHEEL_FOLDER}",
        "spark.executorEnv.PYTHONPATH": _WHEEL_FOLDER,
    }


def explained(
    error: BaseException, hint: str = "The output holds the complete chunks; --resume continues."
) -> BddError:
    """Return the error for an exception of Spark: one sentence with the reason, and the remedy if it is a known one.

    Args:
        error: The exception.
        hint: The remedy of all other reasons, a sentence.
    """
    if isinstance(error, BddError):
        return error
    text = str(error)
    missing = _MISSING.search(text)
    if missing is not None:
        package = missing[1].partition(".")[0]
        if package == "bdd_tf":
            return BddError(
                "the Python of the Spark workers lacks bdd_tf: install it there, or send it along with --wheel dist/*.whl "
                "(`make wheels`)."
            )
        return BddError(
            f"the Python of the Spark workers lacks {package}: {_INSTALL} there, or set PYSPARK_PYTHON to a Python that "
            "has it."
        )
    if "Cannot run program" in text:
        program = re.search(r'Cannot run program "([^"]+)"', text)
        return BddError(
            f"the Spark workers cannot run {program[1] if program else 'Python'}: set PYSPARK_PYTHON to the path of Python "
            "on the workers."
        )
    if "PYTHON_VERSION_MISMATCH" in text:
        return BddError(
            "the Spark workers run another version of Python than the driver: set PYSPARK_PYTHON to the same version."
        )
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    reasons = [line for line in lines if re.search(r"(Error|Exception)\s*:", line)] or lines
    reason = re.sub(r"^(Caused by)?: ", "", reasons[-1])[:300] if reasons else type(error).__name__
    return BddError(f"Spark failed: {reason.rstrip('.')}. {hint}")
