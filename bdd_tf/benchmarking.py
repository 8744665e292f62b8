"""`bdd benchmark`: how fast a .tflite file is on this machine, side by side with what a user would pick instead.

Every contender runs in a process of its own; they take turns, a few runs at a time, so that whatever else the machine
does hits all alike. Only ratios within one table mean anything.
"""

from __future__ import annotations

import argparse
import csv
import io
import json
import os
import platform
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from importlib import util
from pathlib import Path

import numpy as np

from bdd_tf.edge import bench_hub
from bdd_tf.edge.runtime import available_kernels
from bdd_tf.edge.tflite_file import TfliteModel, parse_tflite, read_metadata
from bdd_tf.errors import BddError, UsageError, one_of
from bdd_tf.models import registry

RIVALS = (
    "mobilenetv3-small", "mobilenetv3-large", "mobilenetv2", "mobilenetv2-int8", "resnet50", "resnet50-int8",
)  # fmt: skip
#: Those above run unless told otherwise; these can be asked for.
MORE_RIVALS = tuple(
    name + end for name in registry.RIVALS for end in ("", "-int8") if name + end not in RIVALS
)
#: Contenders beside the rivals.
OTHERS = ("lce", "float", "torch")
_WARM_UP = 2
_SECONDS_A_TURN = 0.05


@dataclass(frozen=True)
class Contender:
    """What is measured.

    Attributes:
        name: For the table.
        engine: ``"litert"``, ``"lce"`` or ``"torch"``.
        kernels: Set of kernels of our delegate, None for XNNPACK alone; of LCE ``"default"`` or ``"indirect"``.
        threads: CPU threads.
        path: The .tflite file; None for PyTorch.
        backbone: For PyTorch.
        resolution: For PyTorch.
    """

    name: str
    engine: str
    kernels: str | None
    threads: int
    path: str | None = None
    backbone: str | None = None
    resolution: int | None = None


@dataclass(frozen=True)
class Result:
    """A line of the table (DESIGN: bdd benchmark).

    Attributes:
        name: Of the contender.
        engine: As in `Contender`.
        kernels: As in `Contender`.
        threads: CPU threads.
        median_ms: Median time of a run, batch 1.
        p90_ms: 90th percentile.
        ratio: Median over that of the first contender.
        bytes: Size of the file.
        peak_mib: Largest resident memory of its process, Python and the runtime included.
        error: Why it could not run; the numbers are None then.
    """

    name: str
    engine: str
    kernels: str | None
    threads: int
    median_ms: float | None = None
    p90_ms: float | None = None
    ratio: float | None = None
    bytes: int | None = None
    peak_mib: float | None = None
    error: str | None = None


class LocalChannel:
    """A process on this machine that waits for its contender."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "bdd_tf.edge.bench_worker"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=_environment(),
        )  # fmt: skip

    def ask(self, message: dict) -> dict:
        """Send a message and wait for the answer."""
        return bench_hub.ask(self._process, message)

    def close(self) -> None:
        """End the process."""
        bench_hub.close(self._process)


class Worker:
    """A contender in a process of its own, here or on a device; it runs only when told to.

    Args:
        contender: What it runs.
        cores: It may use as many of these as it has threads.
        channel: Leads to the process: `LocalChannel` or one with the same methods.
        path: The file's path where the process is; None for the contender's.
    """

    def __init__(
        self, contender: Contender, cores: list[int], channel: LocalChannel, path: str | None = None
    ) -> None:
        self.contender, self.error, self.seconds, self.peak, self.turn = contender, None, [], None, 1
        self._channel = channel
        message = {**asdict(contender), "cores": cores[: max(contender.threads, 1)]}
        self._ask(message if path is None else {**message, "path": path})

    def _ask(self, message: dict) -> dict:
        answer = self._channel.ask(message)
        if answer.get("error"):
            self.error = answer["error"].splitlines()[0]
            return {}
        return answer

    def run(self, runs: int, *, count: bool = True) -> None:
        """Run so many times in a row."""
        if self.error is not None:
            return
        answer = self._ask({"runs": runs})
        if count:
            self.seconds += answer.get("seconds", [])
        elif answer:
            self.turn = int(min(max(_SECONDS_A_TURN / max(min(answer["seconds"]), 1e-6), 1), 50))
        self.peak = answer.get("peak_mib")

    def close(self) -> None:
        """End the process."""
        self._channel.close()

    def result(self) -> Result:
        """What was measured; the ratio comes later."""
        return result_of(self.contender, [1e3 * s for s in self.seconds], self.peak, self.error)


def result_of(contender: Contender, times: list[float], peak: float | None, error: str | None) -> Result:
    """A line of the table, without the ratio.

    Args:
        contender: Whose.
        times: Of each run, in ms.
        peak: Largest resident memory, MiB.
        error: Why it could not run.
    """
    c = contender
    size = Path(c.path).stat().st_size if c.path else None
    if error is not None or not times:
        return Result(c.name, c.engine, c.kernels, c.threads, bytes=size, error=error or "no run")
    return Result(
        c.name, c.engine, c.kernels, c.threads, round(float(np.median(times)), 3),
        round(float(np.percentile(times, 90)), 3), None, size, None if peak is None else round(peak, 1),
    )  # fmt: skip


def _environment() -> dict[str, str]:
    root = str(Path(__file__).resolve().parents[1])
    path = os.environ.get("PYTHONPATH")
    return {
        **os.environ,
        "PYTHONPATH": f"{root}{os.pathsep}{path}" if path else root,
        "TF_CPP_MIN_LOG_LEVEL": "3",
    }


def measure(contenders: list[Contender], rounds: int = 20) -> list[Result]:
    """Measure contenders side by side, in turns.

    Args:
        contenders: The first one is what ratios refer to.
        rounds: How often each has its turn.

    Returns:
        A result per contender, in the same order.
    """
    cores = sorted(os.sched_getaffinity(0))
    workers: list[Worker] = []
    try:
        for contender in contenders:
            print(f"bdd: preparing {contender.name}", file=sys.stderr, flush=True)
            workers.append(Worker(contender, cores, LocalChannel()))
        take_turns(workers, rounds)
        return with_ratios([worker.result() for worker in workers])
    finally:
        for worker in workers:
            worker.close()


def take_turns(workers: list[Worker], rounds: int, after: Callable[[], None] | None = None) -> None:
    """Warm all up, then let them run in turns, so that whatever else the machine does hits all alike.

    Args:
        workers: Those that run.
        rounds: How often each has its turn.
        after: Called after each round.
    """
    for worker in workers:
        worker.run(_WARM_UP, count=False)
    for i in range(rounds):
        if i % 5 == 0:
            print(f"bdd: round {i + 1} of {rounds}", file=sys.stderr, flush=True)
        for worker in workers:
            worker.run(worker.turn)
        if after is not None:
            after()


def with_ratios(results: list[Result]) -> list[Result]:
    """The same, each with its median over the first one's."""
    first = results[0].median_ms if results else None
    return [
        replace(r, ratio=round(r.median_ms / first, 3)) if first and r.median_ms is not None else r
        for r in results
    ]


def contenders_of(
    path: Path, model: TfliteModel, threads: list[int], kernels: list[str], others: list[str]
) -> list[Contender]:
    """The usual field around a file: our runtime, LCE's, the float twin, the reference and the rivals.

    Args:
        path: The file.
        model: The same, parsed.
        threads: Thread counts for each contender.
        kernels: Sets of kernels for our runtime.
        others: Names from `OTHERS` and rivals.

    Returns:
        Contenders, the file itself on the best kernels and the first thread count in front.
    """
    binary = any(name.startswith("Lce") for name in model.custom_operators)
    sets: list[str | None] = list(kernels) if binary else [None]
    ours = [Contender(path.stem, "litert", k, t, str(path)) for t in threads for k in sets]
    more: list[Contender] = []
    for name in others:
        for t in threads:
            if name == "lce":
                more += [Contender(path.stem, "lce", mode, t, str(path)) for mode in ("default", "indirect")]
            elif name == "torch":
                backbone = read_metadata(model).get("backbone")
                more.append(
                    Contender(f"{backbone} in PyTorch", "torch", None, t, None, backbone, side_of(model))
                )
            else:
                label, made = rival_file(name, path, model)
                more.append(Contender(label, "litert", None, t, str(made)))
    return [*ours, *more]


def rival_file(name: str, path: Path, model: TfliteModel) -> tuple[str, Path]:
    """The float twin of a file, or a rival at its resolution, or the nearest that it has: label and file, made once.

    Args:
        name: ``"float"`` or a rival.
        path: The file that is measured.
        model: The same, parsed.
    """
    if name == "float":
        return f"{path.stem} as float", _twin(model)
    from bdd_tf.rival_files import INT8, rival

    side = registry.fitting_resolution(name.removesuffix(INT8), max(side_of(model), 32))
    return f"{name} {side}", rival(name, side)


def side_of(model: TfliteModel) -> int:
    """Side of a model's input image; 224 where it takes none."""
    return int(model.inputs[0].shape[1]) if model.inputs and len(model.inputs[0].shape) == 4 else 224


def _twin(model: TfliteModel) -> Path:
    from bdd_tf.config import experiment
    from bdd_tf.rival_files import float_twin

    about = read_metadata(model)
    return float_twin(
        experiment(
            backbone=about["backbone"], resolution=about["resolution"], channels=tuple(about["channels"]),
            variant=about.get("channel_variant", "stable"),
        )
    )  # fmt: skip


def table(results: list[Result]) -> str:
    """Results as aligned text."""
    lines = [("", "engine", "kernels", "threads", "median ms", "p90 ms", "ratio", "MB", "peak MiB")]
    for r in results:
        start = (r.name, r.engine, r.kernels or "-", str(r.threads))
        if r.error:
            lines.append((*start, r.error, "", "", "", ""))
            continue
        lines.append(
            (*start, f"{r.median_ms:.2f}", f"{r.p90_ms:.2f}", "-" if r.ratio is None else f"{r.ratio:.2f}",
             f"{r.bytes / 1e6:.2f}" if r.bytes else "-", "-" if r.peak_mib is None else f"{r.peak_mib:.0f}")
        )  # fmt: skip
    widths = [max(len(line[i]) for line in lines if i < 4 or line[6]) for i in range(9)]
    return "\n".join(
        "  ".join(
            text.ljust(w) if i < 3 else text.rjust(w)
            for i, (text, w) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    )


def machine() -> str:
    """This machine in a line: processor, cores, system."""
    name = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.is_file() else []
    # x86 has a name per core, a Raspberry Pi one line for the board.
    found = [line.partition(":")[2].strip() for line in lines if line.startswith(("model name", "Model\t"))]
    name = found[-1] if found else name
    return f"{name}, {len(os.sched_getaffinity(0))} cores, {platform.system()} {platform.machine()}"


def as_csv(results: list[Result]) -> str:
    """Results as CSV, with a line of names."""
    text = io.StringIO()
    writer = csv.DictWriter(text, list(asdict(results[0])), lineterminator="\n")
    writer.writeheader()
    writer.writerows(asdict(r) for r in results)
    return text.getvalue()


def show(results: list[Result], where: str, *, json_lines: bool, csv_lines: bool) -> None:
    """Print results: as JSON lines, as CSV, or as a table below a line about the machine."""
    if json_lines:
        for r in results:
            print(json.dumps({k: v for k, v in asdict(r).items() if k != "error" or v is not None}))
    elif csv_lines:
        print(as_csv(results), end="")
    else:
        print(f"{where}; batch 1, in turns\n{table(results)}")


def write(results: list[Result], folder: Path, title: str, about: dict | None = None) -> list[Path]:
    """Write results as JSON, CSV and a chart.

    Args:
        results: What was measured.
        folder: Where ``benchmark.json``, ``benchmark.csv`` and ``benchmark.png`` go.
        title: Above the chart.
        about: What else the JSON tells; its ``machine`` is this one unless given.

    Returns:
        The files.
    """
    from bdd_tf.config import write_atomically
    from bdd_tf.figures import latency_bars

    folder.mkdir(parents=True, exist_ok=True)
    records = [asdict(r) for r in results]
    paths = [folder / f"benchmark.{end}" for end in ("json", "csv", "png")]
    document = {"machine": machine(), **(about or {}), "results": records}
    write_atomically(paths[0], (json.dumps(document, indent=2) + "\n").encode())
    write_atomically(paths[1], as_csv(results).encode())
    ran = [r for r in results if r.median_ms is not None]
    bars = []
    for r in ran:
        how = r.kernels or ("float32" if r.engine == "torch" else "xnnpack")
        threads = f"{r.threads} thread{'s' * (r.threads > 1)}"
        bars.append((f"{r.name} ({r.engine}, {how}, {threads})", r.median_ms, r.p90_ms))
    own = sum((r.name, r.engine) == (results[0].name, results[0].engine) for r in ran)
    if not bars:
        return paths[:2]
    latency_bars(paths[2], bars, own=own, title=title)
    return paths


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `bdd benchmark`."""
    parser.add_argument(
        "--model", type=Path, metavar="F.tflite", help="default: BNext-T, 224 px, random weights"
    )
    parser.add_argument(
        "--device", default="local", metavar="WHERE",
        help="local (this machine), adb or adb:SERIAL (a phone), ssh:user@host[:port] (a board)",
    )  # fmt: skip
    parser.add_argument(
        "--threads",
        metavar="N[,N]",
        help="thread counts (default: 1,2; on a device 1,2,4, as far as it has cores)",
    )
    parser.add_argument(
        "--kernels", metavar="K[,K]", help="kernel sets of our runtime (default: all but scalar)"
    )
    parser.add_argument(
        "--against", metavar="NAME[,NAME]",
        help=f"of {', '.join((*OTHERS, *RIVALS, *MORE_RIVALS))}, all or none (default: all that is installed; on a device lce, "
        "float and the MobileNets)",
    )  # fmt: skip
    parser.add_argument("--rounds", type=int, help="turns of each contender (default: 20; on a device 10)")
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="print one JSON object per contender")
    form.add_argument("--csv", action="store_true", help="print CSV, a line per contender")
    parser.add_argument(
        "--output", type=Path, metavar="DIR", help="write benchmark.json, .csv and .png there as well"
    )
    device = parser.add_argument_group("on a device")
    device.add_argument(
        "--device-python",
        metavar="PATH",
        help="ssh: a Python there that has numpy and LiteRT (default: python3)",
    )
    device.add_argument(
        "--device-folder",
        metavar="DIR",
        help="where our folder is made (default: adb /data/local/tmp, ssh /tmp)",
    )


def installed() -> list[str]:
    """Contenders that this installation can run."""
    names: list[str] = []
    if util.find_spec("larq_compute_engine"):
        names.append("lce")
    if util.find_spec("tensorflow") and util.find_spec("larq"):
        names += ["float", *RIVALS]
    if util.find_spec("torch"):
        names.append("torch")
    return names


def _list(text: str, kind: str, possible: tuple[str, ...]) -> list[str]:
    names = [name.strip() for name in text.split(",") if name.strip()]
    for name in names:
        if name not in possible:
            raise one_of(kind, name, possible)
    return names


def thread_counts(text: str) -> list[int]:
    """Thread counts from the command line.

    Raises:
        UsageError: If they are not positive whole numbers.
    """
    try:
        threads = [int(t) for t in text.split(",")]
    except ValueError:
        threads = [0]
    if min(threads) < 1:
        raise UsageError("--threads takes positive whole numbers, e.g. --threads 1,2.")
    return threads


def model_of(path: Path | None) -> tuple[Path, TfliteModel]:
    """The file to measure, made where none is given, and its content parsed.

    Raises:
        UsageError: If there is no such file.
    """
    if path is None:
        from bdd_tf.rival_files import untrained

        path = untrained("bnext-t", 224, ("rgb", "fft", "lbp"))
    if not path.is_file():
        raise UsageError(f"no such model: {path}")
    return path, parse_tflite(path.read_bytes())


def others_of(given: str | None, usual: list[str], installed: list[str]) -> list[str]:
    """Who else takes part.

    Args:
        given: What ``--against`` says.
        usual: Who does where it says nothing.
        installed: Who does where it says all.

    Raises:
        UsageError: For an unknown name.
    """
    if given is None or given == "all":
        return usual if given is None else installed
    return [] if given == "none" else _list(given, "contender", (*OTHERS, *RIVALS, *MORE_RIVALS))


def suited(others: list[str], given: str | None, model: TfliteModel) -> list[str]:
    """Those of them that can be had for a model: of a net that is not ours, or not binary, there is no twin."""
    binary = any(name.startswith("Lce") for name in model.custom_operators)
    if given not in (None, "all") or (binary and "bdd_tf" in model.metadata):
        return others
    return [name for name in others if name not in ("float", "torch")]


def main(args: argparse.Namespace) -> int:
    """Run `bdd benchmark`; returns the exit code."""
    if args.rounds is not None and args.rounds < 1:
        raise UsageError("--rounds takes a positive whole number, e.g. --rounds 20.")
    if args.device != "local":
        from bdd_tf.devices.benchmark import main as on_device

        return on_device(args)
    if args.device_python or args.device_folder:
        raise UsageError("--device-python and --device-folder are for --device ssh:user@host or adb.")
    threads = thread_counts(args.threads or "1,2")
    kernels = _list(args.kernels, "kernel set", available_kernels()) if args.kernels else None
    if kernels is None:
        kernels = [k for k in available_kernels() if k != "scalar"] or ["scalar"]
    others = others_of(args.against, installed(), installed())
    path, model = model_of(args.model)
    others = suited(others, args.against, model)
    if (load := os.getloadavg()[0]) > 0.5:
        print(f"bdd: this machine is busy (load {load:.1f}): ratios hold, times do not.", file=sys.stderr)
    results = measure(contenders_of(path, model, threads, kernels, others), args.rounds or 20)
    show(results, machine(), json_lines=args.json, csv_lines=args.csv)
    if args.output is not None:
        for made in write(results, args.output, f"{path.stem}: {machine()}"):
            print(made, file=sys.stderr)
    if results[0].error:
        raise BddError(f"{path} could not be run: {results[0].error}")
    return 0
