"""Measure `bdd score` on a real Spark engine on this machine, and check its results.

    python -m tools.spark.acceptance --images cifake/test --count 20000 --work build/spark [equal local-cluster kill resume ...]

Prints one JSON object per step. Needs Java and the extra `cluster`.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import statistics
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow.dataset

from bdd_tf.cluster.functions import load_model
from bdd_tf.cluster.inputs import local_input
from bdd_tf.cluster.job import Job
from bdd_tf.cluster.options import Options
from bdd_tf.cluster.progress import every
from bdd_tf.cluster.session import started
from tools.spark.cluster import SMALL_JVM, Cluster, configured, kill, processes

ROOT = Path(__file__).resolve().parents[2]
MODEL = os.environ.get("MODEL", "cifake")
MASTER = "local-cluster[2,1,1024]"
FACTS = {"sha256", "bytes", "width", "height", "chunk", "date"}
"""Columns of a table that `bdd detect --json` lacks."""


def bdd(*arguments: object, **options) -> subprocess.Popen:
    """Start `bdd`; its messages are piped."""
    environment = {
        **os.environ,
        **SMALL_JVM,
        **configured(ROOT / "build" / "spark-conf", {"spark.executorEnv.PYTHONPATH": str(ROOT)}),
        "PYTHONPATH": str(ROOT),
        "PYSPARK_PYTHON": sys.executable,
    }
    command = [sys.executable, "-m", "bdd_tf", *map(str, arguments)]
    return subprocess.Popen(command, env=environment, text=True, stderr=subprocess.PIPE, **options)


def images_of(folder: Path, count: int) -> list[Path]:
    """Return at most ``count`` images, evenly from both classes."""
    found = sorted(
        (path for path in folder.rglob("*") if path.suffix in (".jpg", ".png", ".webp")),
        key=lambda path: (path.name, path.parent.name),
    )
    return found[:count]


def fill(folder: Path, images: list[Path], count: int) -> Path:
    """Make a folder with ``count`` files, the images repeated under new names (hard links)."""
    if not folder.exists():
        folder.mkdir(parents=True)
        for i in range(count):
            os.link(images[i % len(images)], folder / f"{i:07}{images[i % len(images)].suffix}")
    return folder


def rows_of(output: Path) -> list[dict]:
    """Return the rows of a table of scores."""
    return pyarrow.dataset.dataset(output, partitioning="hive", format="parquet").to_table().to_pylist()


def detected(folder: Path, cache: Path, *options: object) -> tuple[dict[str, dict], float]:
    """Return the records of `bdd detect --json` by path, and its images a second (without start-up)."""
    if not cache.exists():
        with cache.open("w") as file:
            process = bdd("detect", "--json", "--model", MODEL, *options, folder, stdout=file)
            cache.with_suffix(".log").write_text(process.communicate()[1])
    rate = float(cache.with_suffix(".log").read_text().rsplit("; ", 1)[1].split(" ")[0])
    return {record["path"]: record for record in map(json.loads, cache.read_text().splitlines())}, rate


def compare(output: Path, records: dict[str, dict]) -> dict:
    """Compare a table with records, row for row."""
    rows = rows_of(output)
    counts = Counter(row["path"] for row in rows)
    worst, different = 0.0, 0
    for row in rows:
        record = records[row["path"]]
        for key in record.keys() | row.keys() - FACTS:
            value, found = record.get(key), row.get(key)
            if key == "fake_probability" and None not in (value, found):
                worst = max(worst, abs(value - found))
            else:
                different += found != value
    return {
        "rows": len(rows),
        "expected": len(records),
        "repeated": sum(count > 1 for count in counts.values()),
        "missing": len(set(records) - set(counts)),
        "different_values": different,
        "worst_probability": worst,
        "errors": sum(row["error"] is not None for row in rows),
    }


def score(folder: Path, output: Path, master: str, *options: object) -> dict:
    """Run `bdd score` to its end; return times and rate."""
    begun = time.monotonic()
    process = bdd(
        "score", "--input", folder, "--output", output, "--master", master, "--model", MODEL, *options
    )
    _, messages = process.communicate()
    return {"code": process.returncode, "wall_s": round(time.monotonic() - begun, 1), **facts(messages)}


def facts(messages: str) -> dict:
    """Return start-up and rate as `bdd score` prints them."""
    found = {}
    for line in messages.splitlines():
        if line.startswith("bdd: Spark "):
            found["start_s"] = float(line.rsplit(" in ", 1)[1].split()[0])
        elif " real, " in line and line.endswith("images/s"):
            found["images_per_s"] = float(line.rsplit("; ", 1)[1].split()[0])
    return found if "images_per_s" in found else {**found, "messages": messages[-2000:]}


def wait_for_share(process: subprocess.Popen, output: Path, done: int) -> None:
    """Wait until a number of chunks is complete."""
    while process.poll() is None and len(list(output.glob("_bdd/done/*.json"))) < done:
        time.sleep(0.1)


class Steps:
    """The steps; each returns JSON values."""

    def __init__(self, args: argparse.Namespace) -> None:
        self.work, self.count = Path(args.work).absolute(), args.count
        self.images = images_of(Path(args.images).absolute(), args.count)
        self.folder = fill(self.work / f"images-{self.count}", self.images, self.count)
        self.chunk = max(1, self.count // 4)

    def running(self) -> dict:
        """Images a second of `bdd detect` and of jobs in a session that has scored as many before, by turns."""
        return self._turns(evidence=False)

    def running_evidence(self) -> dict:
        """The same with evidence, which `bdd detect` searches for by default."""
        return self._turns(evidence=True)

    def equal(self) -> dict:
        """Standalone cluster with two workers: rows equal those of `bdd detect --json`, with evidence and without."""
        with Cluster(self.work / "standalone") as cluster:
            return {
                "evidence": self._beside("equal", cluster.address),
                "no evidence": self._beside("equal-plain", cluster.address, evidence=False),
            }

    def local_cluster(self) -> dict:
        """The same in local-cluster mode."""
        return self._beside("local-cluster", MASTER)

    def _turns(self, *, evidence: bool) -> dict:
        """Measure three turns, after one that warms up.

        Returns:
            Images a second of `bdd detect` without its start, and of jobs from the listing of the folder to the last mark;
            milliseconds of processor time an image of both (with the start of `bdd detect`, half a second); the median of the
            ratios of the rates.
        """
        options = () if evidence else ("--no-evidence",)
        turns = []
        with Cluster(self.work / "standalone") as cluster, self._session(cluster.address) as spark:
            for turn in range(4):
                (self.work / "turn.json").unlink(missing_ok=True)
                before = resource.getrusage(resource.RUSAGE_CHILDREN)
                _, rate = detected(self.folder, self.work / "turn.json", *options)
                after = resource.getrusage(resource.RUSAGE_CHILDREN)
                output = self.work / f"running-{evidence}-{turn}"
                job = Options((str(self.folder),), str(output), load_model(MODEL, evidence=evidence))
                found = in_session(spark, job)
                turns.append(
                    {
                        "detect": rate,
                        "job": round(self.count / found["seconds"], 1),
                        "detect_cpu_ms": round(
                            (after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
                            / self.count
                            * 1e3,
                            3,
                        ),
                        "job_cpu_ms": round((found["java"] + found["python"]) / self.count * 1e3, 3),
                    }
                )
        ratio = statistics.median(turn["job"] / turn["detect"] for turn in turns[1:])
        return {"turns": turns, "ratio": round(ratio, 3)}

    @contextmanager
    def _session(self, master: str) -> Iterator:
        os.environ.update(configured(self.work / "conf", {"spark.executorEnv.PYTHONPATH": str(ROOT)}))
        os.environ.update(PYTHONPATH=str(ROOT), PYSPARK_PYTHON=sys.executable)
        with started(master) as spark:
            yield spark

    def _beside(self, name: str, master: str, *, evidence: bool = True) -> dict:
        records, rate = self._detected(evidence=evidence)
        more = ("--evidence",) if evidence else ()
        result = score(self.folder, self.work / name, master, "--chunk", self.chunk, *more)
        return {**result, "detect_images_per_s": rate, **compare(self.work / name, records)}

    def _detected(self, *, evidence: bool) -> tuple[dict[str, dict], float]:
        options = () if evidence else ("--no-evidence",)
        return detected(self.folder, self.work / f"detect{''.join(options)}.json", *options)

    def kill_executors(self) -> dict:
        """Kill one executor in the middle, three times."""
        records, _ = self._detected(evidence=False)
        output = self.work / "killed-executors"
        killed = 0
        with Cluster(self.work / "standalone") as cluster:
            arguments = (
                "--output",
                output,
                "--master",
                cluster.address,
                "--model",
                MODEL,
                "--chunk",
                self.chunk,
            )
            process = bdd("score", "--input", self.folder, *arguments)
            for done in (0, 1, 2):
                wait_for_share(process, output, done)
                while process.poll() is None:  # tasks of the next chunk are running
                    time.sleep(1.0)
                    executors = cluster.executors()
                    if list(output.glob("_bdd/staging/*/chunk*/_temporary/0/_temporary/*")) and executors:
                        kill(random.choice(executors))
                        killed += 1
                        break
            _, messages = process.communicate()
        return {"code": process.returncode, "killed": killed, **facts(messages), **compare(output, records)}

    def resume(self) -> dict:
        """Kill the driver, with its JVM, in the middle of a chunk; resume."""
        records, _ = self._detected(evidence=False)
        output = self.work / "resumed"
        arguments = ("--input", self.folder, "--output", output, "--model", MODEL, "--chunk", self.chunk)
        with Cluster(self.work / "standalone") as cluster:
            process = bdd("score", *arguments, "--master", cluster.address)
            wait_for_share(process, output, 1)
            time.sleep(3)
            for pid, parent, _ in processes():
                if parent == process.pid:
                    kill(pid)
            kill(process.pid)
            process.communicate()
            before = len(list(output.glob("_bdd/done/*.json")))
            left_over = len(list(output.glob("_bdd/staging/*/*")))
            process = bdd("score", *arguments, "--master", cluster.address, "--resume")
            _, messages = process.communicate()
        return {
            "code": process.returncode, "chunks_before": before, "half_written_before": left_over,
            "said": [line for line in messages.splitlines() if "complete" in line], **compare(output, records),
        }  # fmt: skip

    def broken(self) -> dict:
        """One image in twenty is broken: as many rows have an error."""
        folder = self.work / f"broken-{self.count}"
        if not folder.exists():
            fill(folder, self.images, self.count)
            for number in range(0, self.count, 20):
                path = folder / f"{number:07}.jpg"
                content = path.read_bytes()
                path.unlink()
                path.write_bytes(
                    (b"", b"not an image", content[: len(content) // 2], content[200:])[number // 20 % 4]
                )
        records, _ = detected(folder, self.work / "broken.json", "--no-evidence")
        result = score(folder, self.work / "broken", "local[2]", "--chunk", self.chunk)
        return {**result, "broken": len(range(0, self.count, 20)), **compare(self.work / "broken", records)}

    def cost(self) -> dict:
        """Processor time of a quarter and of all images, by `bdd detect` and by Spark in one process (local[2])."""
        found: dict[str, dict] = {}
        for count in (self.count // 4, self.count):
            folder = fill(self.work / f"images-{count}", self.images, count)
            output = self.work / f"cost-{count}"
            process = bdd("detect", "--quiet", "--json", "--model", MODEL, folder, stdout=subprocess.DEVNULL)
            found[f"detect {count}"] = processor_seconds(process)
            process = bdd(
                "score", "--input", folder, "--output", output, "--master", "local[2]", "--model", MODEL
            )
            found[f"score {count}"] = processor_seconds(process)
        more = self.count - self.count // 4
        for verb in ("detect", "score"):
            # Of Python alone: what Java takes to start varies by more than what it does for the images.
            few, all_of_them = (found[f"{verb} {n}"]["python"] for n in (self.count // 4, self.count))
            found[f"{verb} images per core-second"] = round(more / max(all_of_them - few, 1e-9), 1)
        return found

    def growth(self) -> dict:
        """A tenth, all, and ten times as many images, in one Spark session that has scored as many before.

        Returns:
            By number of images: what `in_session` returns.
        """
        sizes = (self.count // 10, self.count, self.count * 10)
        folders = {count: fill(self.work / f"images-{count}", self.images, count) for count in sizes}
        found: dict[str, dict] = {}
        with self._session(MASTER) as spark:
            for count in (self.count, *sizes):
                options = Options(
                    (str(folders[count]),), str(self.work / f"growth-{len(found)}"), load_model(MODEL)
                )
                found[f"{count}" if found else "warm-up"] = in_session(spark, options)
        return found


def in_session(spark, options: Options) -> dict:
    """Run a job in a session of this process.

    Returns:
        Seconds on the clock, processor time of Java and Python in this process and all below it, and the peak of the resident
        memory of the driver's Python and Java in KiB.
    """
    python = os.getpid()
    java = next(pid for pid, parent, line in processes() if parent == python and "SparkSubmit" in line)
    peak = {"python_kib": 0, "java_kib": 0}

    def look() -> None:
        for name, pid in (("python_kib", python), ("java_kib", java)):
            peak[name] = max(peak[name], resident(pid))

    begun, before = time.monotonic(), by_name(used_below(python))
    with every(0.2, look):
        job = Job(spark, options, local_input(list(options.given)), lambda text: None, lambda state: None)
        job.run()
    seconds = round(time.monotonic() - begun, 2)
    times = {name: round(value - before[name], 2) for name, value in by_name(used_below(python)).items()}
    return {"seconds": seconds, **times, **peak}


def processor_seconds(process: subprocess.Popen) -> dict[str, float]:
    """Wait for a process; return the processor time of Java and of Python in its tree of processes.

    On a busy machine this says more than the time on the clock. Processes are looked at twice a second.
    """
    seen: dict[int, tuple[str, float]] = {}
    while process.poll() is None:
        seen.update(used_below(process.pid))
        time.sleep(0.5)
    return by_name(seen)


def used_below(root: int) -> dict[int, tuple[str, float]]:
    """Return ``java`` or ``python``, and the processor time in seconds, of a process and all below it."""
    seen = {}
    tree, tick = {root}, os.sysconf("SC_CLK_TCK")
    for pid, parent, line in sorted(processes()):
        if parent in tree or pid == root:
            tree.add(pid)
            try:
                stat = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            name = "java" if "java" in line.split(" ")[0] else "python"
            seen[pid] = (name, (int(stat[11]) + int(stat[12])) / tick)
    return seen


def by_name(seen: dict[int, tuple[str, float]]) -> dict[str, float]:
    """Return the sums of `used_below` for Java and for Python."""
    times = {"java": 0.0, "python": 0.0}
    for name, seconds in seen.values():
        times[name] += seconds
    return {name: round(seconds, 2) for name, seconds in times.items()}


def resident(pid: int) -> int:
    """Return the resident memory of a process in KiB; 0 if it has ended."""
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") // 1024
    except OSError:
        return 0


def main() -> None:
    """Run the steps that are named; all by default."""
    names = [name for name in vars(Steps) if not name.startswith("_")]
    parser = argparse.ArgumentParser()
    parser.add_argument("steps", nargs="*", default=names, help=", ".join(names))
    parser.add_argument("--images", required=True, help="folder of JPEGs")
    parser.add_argument("--count", type=int, default=20_000)
    parser.add_argument("--work", default="build/spark")
    args = parser.parse_args()
    steps = Steps(args)
    for name in args.steps:
        print(json.dumps({name: getattr(steps, name)()}), flush=True)


if __name__ == "__main__":
    main()
