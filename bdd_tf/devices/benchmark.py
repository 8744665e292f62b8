"""`bdd benchmark --device`: the same contest on a phone or a board.

Everything happens in one fresh folder there, which is removed whatever happens, Ctrl-C included.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import re
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import asdict
from functools import partial
from pathlib import Path

from bdd_tf.benchmarking import (
    Contender,
    Worker,
    installed,
    model_of,
    others_of,
    rival_file,
    show,
    suited,
    take_turns,
    thread_counts,
    with_ratios,
    write,
)
from bdd_tf.devices.adb import AdbDevice, check_serial
from bdd_tf.devices.base import FOLDER, Device, DeviceError
from bdd_tf.devices.lce_tool import find_tool
from bdd_tf.devices.probe import Conditions, Facts, mask, read_conditions, read_facts
from bdd_tf.devices.remote_runtime import RemoteRuntime, RuntimeUnavailableError, wheel_for
from bdd_tf.devices.ssh import SshDevice, parse_destination
from bdd_tf.devices.tool_runner import DeviceResult, Tool, ToolWorker, device_result
from bdd_tf.edge.tflite_file import TfliteModel
from bdd_tf.errors import BddError, UsageError, one_of

#: Who takes part unless told otherwise; ResNet-50 is not what one would put on a phone.
USUAL = ("lce", "float", "mobilenetv3-small", "mobilenetv3-large", "mobilenetv2", "mobilenetv2-int8")
_THREADS = "1,2,4"
_ROUNDS = 10


def parse_device(text: str, parent: str | None) -> Callable[[], Device]:
    """The device that ``--device`` names.

    Args:
        text: ``adb``, ``adb:SERIAL`` or ``ssh:DESTINATION``.
        parent: Folder in which ours is made; None for the usual one.

    Returns:
        What connects to it, raising `DeviceError` if it cannot be reached.

    Raises:
        UsageError: If it names none.
    """
    if parent is not None and not FOLDER.fullmatch(f"{parent.rstrip('/')}/bdd-000000"):
        raise UsageError(
            f"--device-folder is {parent!r}; it takes an absolute path of letters, digits, '.', '_' and '-'."
        )
    parent = parent and parent.rstrip("/")
    kind, colon, rest = text.partition(":")
    if kind == "adb" and (rest or not colon):
        return partial(AdbDevice, check_serial(rest) if rest else None, parent)
    if kind == "ssh":
        return partial(SshDevice, parse_destination(rest), parent)
    raise UsageError(
        f"--device is {text!r}; possible: local, adb, adb:SERIAL, ssh:user@host, ssh:user@host:port."
    )


def say(text: str) -> None:
    """Tell the user, on standard error."""
    print(f"bdd: {text}", file=sys.stderr, flush=True)


@contextlib.contextmanager
def _stoppable() -> Iterator[None]:
    """SIGTERM and a closed terminal stop it like Ctrl-C, so that cleaning up happens then as well."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    before = {s: signal.signal(s, stop) for s in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for s, handler in before.items():
            signal.signal(s, handler)


@contextlib.contextmanager
def _undisturbed() -> Iterator[None]:
    """A second Ctrl-C does not interrupt cleaning up, which takes seconds."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {s: signal.signal(s, signal.SIG_IGN) for s in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for s, handler in before.items():
            signal.signal(s, handler)


@contextlib.contextmanager
def fresh_folder(device: Device) -> Iterator[str]:
    """A folder on a device that is gone afterwards, with all that still runs of ours."""
    folder = device.new_folder()
    try:
        device.make_folder(folder)
        yield folder
    finally:
        with _undisturbed():
            try:
                try:
                    device.remove(folder)
                except DeviceError:
                    device.reconnect()
                    device.remove(folder)
            except DeviceError as error:
                say(f"{folder} may still be on {device.name} ({error}); remove it by hand.")


class Contest:
    """Contenders on a device, from copying to results.

    Args:
        device: The device.
        facts: What it is.
        folder: Our folder there.
    """

    def __init__(self, device: Device, facts: Facts, folder: str) -> None:
        self._device, self.facts, self._folder = device, facts, folder
        self.tool: Tool | None = None
        self.tool_file: Path | None = None
        self.runtime: RemoteRuntime | None = None
        self.pinned = False
        self.conditions: list[Conditions] = []
        self._copied: dict[str, str] = {}

    def find_pinning(self, threads: int) -> None:
        """See whether programs can be pinned to the fastest cores."""
        if not self.facts.taskset:
            say(f"{self._device.name} has no taskset: LCE's tool runs on whichever cores the system picks.")
            return
        cores = mask(self.facts.fastest(threads))
        self.pinned = self._device.shell(f"taskset {cores} true").code == 0
        if not self.pinned:
            say(
                f"{self._device.name} does not let us choose cores (taskset {cores} fails): the system picks them."
            )

    def copy(self, path: Path, name: str) -> str:
        """Copy a file into our folder, once; returns its path there."""
        key = str(path)
        if key not in self._copied:
            say(f"copying {path.name} ({path.stat().st_size / 1e6:.1f} MB)")
            self._device.push(path, f"{self._folder}/{name}")
            self._copied[key] = f"{self._folder}/{name}"
        return self._copied[key]

    def add_tool(self, path: Path) -> None:
        """Bring LCE's tool there."""
        self.tool_file = path
        self.copy(path, "lce_benchmark_model")
        self.tool = Tool(self._device, self._folder, self.pinned)

    def add_runtime(self, python: str | None) -> None:
        """Bring our runtime there."""
        say("setting up our runtime")
        wheel = wheel_for(self.facts)
        self.runtime = RemoteRuntime(self._device, self.facts, self._folder, python, wheel)

    def run(
        self, contenders: list[Contender], rounds: int
    ) -> tuple[list[DeviceResult], dict[str, list[dict]]]:
        """Let contenders run in turns.

        Returns:
            A result for each, and the time by kind of operator of those that LCE's tool ran.
        """
        cores = self.facts.fastest(len(self.facts.cores))
        workers: list[Worker | ToolWorker] = []
        for contender in contenders:
            path = Path(contender.path)
            there = self.copy(path, f"model-{len(self._copied)}.tflite")
            if contender.engine == "lce":
                workers.append(ToolWorker(contender, cores, self.tool, there))
            else:
                workers.append(Worker(contender, cores, self.runtime.worker(), there))
        self.look()
        take_turns(workers, rounds, self.look)
        results, operators = [], {}
        for worker in workers:
            if isinstance(worker, ToolWorker):
                results.append(worker.result())
                c = worker.contender
                operators[label(c)] = [asdict(o) for o in worker.operators]
            else:
                results.append(device_result(worker.result(), [1e3 * s for s in worker.seconds]))
        return with_ratios(results), operators

    def look(self) -> None:
        """Note how warm and fast it is."""
        self.conditions.append(read_conditions(self._device))

    def close(self) -> None:
        """End our processes there."""
        if self.runtime is not None:
            self.runtime.close()


def label(contender: Contender) -> str:
    """What a contender is called where there are many."""
    how = contender.kernels or "xnnpack"
    return f"{contender.name} ({contender.engine}, {how}, {contender.threads} thread{'s' * (contender.threads > 1)})"


def held_back(facts: Facts, conditions: list[Conditions]) -> list[str]:
    """What held the device back while it was measured, in words; empty if nothing did."""
    found = [word for c in conditions for word in c.throttled]
    capped = {
        core: limit
        for c in conditions
        for core, limit in c.limits.items()
        if limit < facts.cores.get(core, 0)
    }
    found += [f"core {core} capped at {limit / 1e6:.2f} of {facts.cores[core] / 1e6:.2f} GHz"
              for core, limit in sorted(capped.items())]  # fmt: skip
    return list(dict.fromkeys(found))


def describe(contest: Contest, threads: int) -> tuple[list[str], dict]:
    """How the device fared, as sentences and as JSON."""
    facts, all_of_them = contest.facts, contest.conditions
    cores = facts.fastest(threads)
    speeds = ", ".join(
        f"{n}" + (f" ({facts.cores[n] / 1e6:.2f} GHz)" if facts.cores[n] else "") for n in cores
    )
    celsius = [c.celsius for c in all_of_them if c.celsius is not None]
    back = held_back(facts, all_of_them)
    readable = any(c.limits or c.throttled or c.has_been for c in all_of_them)
    lines = [
        f"cores: {speeds}, the fastest of {len(facts.cores)}" + ("" if contest.pinned else "; not pinned"),
        f"temperature: {celsius[0]:.0f} °C before, {max(celsius):.0f} °C at most" if celsius else "temperature: not readable",
        "throttled: " + (", ".join(back) if back else "no" if readable else "not readable"),
    ]  # fmt: skip
    tool = None
    if contest.tool_file is not None:
        digest = hashlib.sha256(contest.tool_file.read_bytes()).hexdigest()
        lines.append(f"LCE's tool: {contest.tool_file}, SHA-256 {digest[:16]}...")
        tool = {"file": str(contest.tool_file), "sha256": digest}
    data = {
        "machine": facts.name,
        "device": {
            "lce_tool": tool,
            "machine": facts.machine, "android": facts.android, "pinned": contest.pinned, "cores": cores,
            "celsius_before": celsius[0] if celsius else None, "celsius_most": max(celsius) if celsius else None,
            "throttled": back if readable else None, "conditions": [asdict(c) for c in all_of_them],
        },
    }  # fmt: skip
    return lines, data


def slowest_operators(operators: dict[str, list[dict]], most: int = 8) -> list[str]:
    """The profile of the first contender that has one, as lines."""
    for name, kinds in operators.items():
        if kinds:
            lines = [f"operators of {name}, in a run of its own:"]
            lines += [
                f"  {k['milliseconds']:9.3f} ms {k['percent']:5.1f} %  {k['count']:4d} {k['kind']}"
                for k in kinds[:most]
            ]
            return lines
    return []


def _contenders(
    path: Path,
    model: TfliteModel,
    threads: list[int],
    contest: Contest,
    kernels: list[str] | None,
    others: list[str],
) -> list[Contender]:
    """The field on the device, our runtime on its best kernels in front."""
    binary = any(name.startswith("Lce") for name in model.custom_operators)
    field: list[Contender] = []
    if contest.runtime is not None:
        possible = tuple(contest.runtime.kernels)
        for name in kernels or ():
            if name not in possible:
                raise one_of(f"kernel set on {contest.facts.machine}", name, possible)
        sets = kernels or [k for k in possible if k != "scalar"] or ["scalar"]
        field += [
            Contender(path.stem, "litert", k, t, str(path))
            for t in threads
            for k in (sets if binary else [None])
        ]
    for name in others:
        if name == "lce":
            modes = ("default", "indirect") if binary else (None,)
            field += [Contender(path.stem, "lce", mode, t, str(path)) for t in threads for mode in modes]
            continue
        title, made = rival_file(name, path, model)
        engine = "lce" if contest.tool is not None else "litert"
        field += [Contender(title, engine, None, t, str(made)) for t in threads]
    return field


def main(args: argparse.Namespace) -> int:
    """Run `bdd benchmark --device` with the options of `bdd benchmark`; returns the exit code."""
    connect = parse_device(args.device, args.device_folder)
    wanted = thread_counts(args.threads or _THREADS)
    kernels = [k.strip() for k in args.kernels.split(",") if k.strip()] if args.kernels else None
    here = [name for name in installed() if name not in ("lce", "torch")]
    if args.device_python is not None and not re.fullmatch(r"[^\x00-\x1f-][^\x00-\x1f]*", args.device_python):
        raise UsageError(
            f"--device-python is {args.device_python!r}; it takes the path of a Python on the device."
        )
    everyone = ["lce", *here]
    others = others_of(args.against, [name for name in USUAL if name in everyone], everyone)
    if "torch" in others:
        raise UsageError("--against torch: PyTorch runs on this machine only, without --device.")
    if not args.device.startswith("ssh:"):
        if args.device_python is not None:
            raise UsageError("--device-python is for --device ssh:user@host.")
        others.append("lce")  # nothing else runs the file there
    others = sorted(set(others), key=lambda name: (name != "lce", others.index(name)))
    path, model = model_of(args.model)
    others = suited(others, args.against, model)
    with _stoppable(), contextlib.ExitStack() as stack:
        device = connect()
        stack.callback(device.close)
        facts = read_facts(device)
        say(f"{device.name}: {facts.name}")
        threads = [t for t in wanted if t <= len(facts.cores)]
        if len(threads) < len(wanted):
            left = ",".join(str(t) for t in wanted if t not in threads)
            if not threads:
                raise UsageError(f"--threads {left}: {device.name} has {len(facts.cores)} cores.")
            if args.threads:
                say(f"{device.name} has {len(facts.cores)} cores: --threads {left} left out.")
        over_ssh = isinstance(device, SshDevice)
        tool, trouble = None, []
        if "lce" in others:
            try:
                tool = find_tool(facts)
            except DeviceError as error:
                # Whoever asks for it must hear; otherwise our runtime is measured without it.
                if not over_ssh or args.against is not None:
                    raise
                trouble.append(str(error))
                others = [name for name in others if name != "lce"]
        folder = stack.enter_context(fresh_folder(device))
        contest = Contest(device, facts, folder)
        stack.callback(contest.close)
        contest.find_pinning(max(threads))
        if tool is not None:
            contest.add_tool(tool)
        if over_ssh:
            try:
                contest.add_runtime(args.device_python)
            except RuntimeUnavailableError as error:
                if args.device_python or tool is None:
                    raise DeviceError(" ".join([*trouble, str(error)])) from None
                trouble.append(str(error))
        for text in trouble:
            say(f"left out: {text}")
        field = _contenders(path, model, threads, contest, kernels, others)
        results, operators = contest.run(field, args.rounds or _ROUNDS)
    lines, about = describe(contest, max(threads))
    show(results, facts.name, json_lines=args.json, csv_lines=args.csv)
    out = sys.stderr if args.json or args.csv else sys.stdout
    print("\n".join([*lines, *slowest_operators(operators)]), file=out)
    if args.output is not None:
        about["operators"] = operators
        for made in write(results, args.output, f"{path.stem}: {facts.name}", about):
            print(made, file=sys.stderr)
    # A rival that cannot run is a line of the table; the file itself must run.
    failed = [r for r in results if r.error and r.name == path.stem]
    if failed:
        raise BddError(f"{path} could not be run on {device.name} ({failed[0].engine}): {failed[0].error}")
    return 0
