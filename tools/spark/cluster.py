"""A Spark standalone cluster on loopback: one master and some workers, each a process of its own."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pyspark

HOME = Path(pyspark.__file__).parent
SMALL_JVM = {"JDK_JAVA_OPTIONS": "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC"}
"""Environment in which the JVMs of short jobs start in half of the processor time."""


class Cluster:
    """A master and workers on 127.0.0.1; to be used in a ``with`` statement.

    Args:
        folder: For logs and the workers' folders.
        workers: Number of workers, each with one core and 1 GiB.
        python: The Python of the executors.
    """

    def __init__(self, folder: Path, workers: int = 2, python: str = sys.executable) -> None:
        self.folder, self._workers, self._python = folder, workers, python
        self.port = _free_port()
        self.address = f"spark://127.0.0.1:{self.port}"
        self._processes: list[subprocess.Popen] = []

    def __enter__(self) -> Cluster:
        self.folder.mkdir(parents=True, exist_ok=True)
        self._start("master.Master", "--host", "127.0.0.1", "--port", self.port, "--webui-port", _free_port())
        _wait_for(lambda: _answers(self.port), "the master")
        for number in range(self._workers):
            folder = self.folder / f"worker{number}"
            folder.mkdir(exist_ok=True)
            self._start(
                "worker.Worker", "--host", "127.0.0.1", "--cores", 1, "--memory", "1g",
                "--webui-port", _free_port(), "--work-dir", folder, self.address,
            )  # fmt: skip
        log = self.folder / "master.Master-0.log"
        _wait_for(lambda: log.read_text().count("Registering worker") == self._workers, "the workers")
        return self

    def __exit__(self, *exception: object) -> None:
        for process in self._processes:
            process.terminate()
        for process in self._processes:
            process.wait(timeout=60)

    def executors(self) -> list[int]:
        """Return the process ids of the executors: the Java children of the workers."""
        parents = {process.pid for process in self._processes}
        return [
            pid for pid, parent, line in processes() if parent in parents and "CoarseGrainedExecutor" in line
        ]

    def _start(self, name: str, *arguments: object) -> None:
        log = self.folder / f"{name}-{len(self._processes)}.log"
        # What PYTHONPATH means to executors is up to the job's configuration.
        inherited = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
        environment = {
            **inherited,
            **SMALL_JVM,
            "SPARK_HOME": str(HOME),
            "SPARK_LOCAL_IP": "127.0.0.1",
            "PYSPARK_PYTHON": self._python,
        }
        with log.open("wb") as file:
            self._processes.append(
                subprocess.Popen(
                    [str(HOME / "bin" / "spark-class"), f"org.apache.spark.deploy.{name}", *map(str, arguments)],
                    stdout=file, stderr=file, env=environment,
                )
            )  # fmt: skip


def configured(folder: Path, settings: dict[str, str]) -> dict[str, str]:
    """Write settings as ``spark-defaults.conf``; return the environment in which `bdd score` uses them."""
    folder.mkdir(parents=True, exist_ok=True)
    lines = "".join(f"{key} {value}\n" for key, value in settings.items())
    (folder / "spark-defaults.conf").write_text(lines, encoding="utf-8")
    return {"SPARK_CONF_DIR": str(folder)}


def processes() -> list[tuple[int, int, str]]:
    """Return process id, parent and command line of all processes."""
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                line = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            except OSError:
                continue
            found.append((int(folder.name), parent, line))
    return found


def kill(pid: int) -> None:
    """Kill a process that cannot clean up: kill -9."""
    os.kill(pid, signal.SIGKILL)


def _answers(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _wait_for(condition, what: str, seconds: float = 300) -> None:
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError(f"{what} did not start within {seconds:.0f} s")
        time.sleep(0.2)
