"""Measure contenders side by side on a phone or board (`bdd benchmark --device`).

Everything takes place in a temporary folder on the device, which is deleted afterwards, also after Ctrl-C.
"""

from __future__ import annotations

import contextlib
import re
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path

from bdd_tf import console
from bdd_tf.benchmark.choices import compatible, installed, model_of, selected, thread_counts
from bdd_tf.benchmark.contenders import BINARY, Contender, ModelMaker, baseline_file, with_ratios
from bdd_tf.benchmark.device_report import describe_device, slowest_operators
from bdd_tf.benchmark.lce_tool_runner import DeviceResult, Tool, ToolWorker, device_result
from bdd_tf.benchmark.options import BenchmarkOptions, DeviceOptions
from bdd_tf.benchmark.worker import Worker, take_turns
from bdd_tf.devices.base import Device, DeviceError
from bdd_tf.devices.lce_tool import find_tool
from bdd_tf.devices.probe import Conditions, Facts, mask, read_conditions, read_facts
from bdd_tf.devices.remote_runtime import RemoteRuntime, RuntimeUnavailableError, wheel_for
from bdd_tf.devices.session import parse_device, temporary_folder, termination_as_interrupt
from bdd_tf.devices.ssh import SshDevice
from bdd_tf.edge.tflite.file import TfliteModel
from bdd_tf.errors import UsageError, one_of

#: Default selection on a device. ResNet-50 is too slow for a phone.
USUAL = ("lce", "float", "mobilenetv3-small", "mobilenetv3-large", "mobilenetv2", "mobilenetv2-int8")
_THREADS = "1,2,4"
_ROUNDS = 10

say = partial(console.say, prefix="bdd")


@dataclass(frozen=True)
class DeviceMeasurement:
    """Results from a device.

    Attributes:
        path: The measured model.
        device: Name of the device, as the user wrote it.
        machine: Description of the device for people.
        results: A result per contender.
        lines: Further lines for the user: cores, temperature, throttling, operators.
        about: Further keys of the JSON document.
    """

    path: Path
    device: str
    machine: str
    results: list[DeviceResult]
    lines: list[str]
    about: dict


@dataclass(frozen=True)
class _Plan:
    """The measurement as requested, before the device is known."""

    path: Path
    model: TfliteModel
    threads: list[int]
    others: list[str]
    options: BenchmarkOptions

    @property
    def is_binary(self) -> bool:
        return any(name.startswith("Lce") for name in self.model.custom_operators)


class DeviceBenchmark:
    """Contenders on a device, from copying their files to their results.

    Args:
        device: The device.
        facts: Its properties.
        folder: The temporary folder on it.

    Attributes:
        tool: LCE's benchmark tool on the device, if it was added.
        tool_file: The local file of that tool.
        runtime: Our runtime on the device, if it was added.
        pinned: Whether programs can be pinned to cores.
        conditions: Conditions of the device, read before the first round and after each.
    """

    def __init__(self, device: Device, facts: Facts, folder: str) -> None:
        self._device, self.facts, self._folder = device, facts, folder
        self.tool: Tool | None = None
        self.tool_file: Path | None = None
        self.runtime: RemoteRuntime | None = None
        self.pinned = False
        self.conditions: list[Conditions] = []
        self._copied: dict[str, str] = {}

    def check_pinning(self, threads: int) -> None:
        """Find out whether programs can be pinned to the `threads` fastest cores."""
        if not self.facts.taskset:
            say(f"{self._device.name} has no taskset: the system chooses the cores on which LCE's tool runs.")
            return
        cores = mask(self.facts.fastest(threads))
        self.pinned = self._device.shell(f"taskset {cores} true").code == 0
        if not self.pinned:
            say(
                f"{self._device.name} does not let us choose cores (taskset {cores} fails): the system chooses them."
            )

    def copy(self, path: Path, name: str) -> str:
        """Copy a file into the temporary folder, unless it was copied before; return its path on the device."""
        key = str(path)
        if key not in self._copied:
            say(f"copying {path.name} ({path.stat().st_size / 1e6:.1f} MB)")
            self._device.push(path, f"{self._folder}/{name}")
            self._copied[key] = f"{self._folder}/{name}"
        return self._copied[key]

    def add_tool(self, path: Path) -> None:
        """Copy LCE's benchmark tool to the device and check that it starts."""
        self.tool_file = path
        self.copy(path, "lce_benchmark_model")
        self.tool = Tool(self._device, self._folder, self.pinned)

    def add_runtime(self, python: str | None) -> None:
        """Set up our runtime on the device, which must be reached by ssh.

        Raises:
            RuntimeUnavailableError: If it cannot run there.
        """
        assert isinstance(self._device, SshDevice)
        say("setting up our runtime")
        wheel = wheel_for(self.facts)
        self.runtime = RemoteRuntime(self._device, self.facts, self._folder, python, wheel)

    def run(
        self, contenders: list[Contender], rounds: int
    ) -> tuple[list[DeviceResult], dict[str, list[dict]]]:
        """Measure contenders in turns.

        Args:
            contenders: The first one is the reference of the ratios.
            rounds: Number of turns of each contender.

        Returns:
            A result per contender, and the time by kind of operator for those that LCE's tool ran.
        """
        cores = self.facts.fastest(len(self.facts.cores))
        workers = [self._worker(contender, cores) for contender in contenders]
        self.read_conditions()
        take_turns(workers, rounds, self.read_conditions)
        results: list[DeviceResult] = []
        operators: dict[str, list[dict]] = {}
        for worker in workers:
            if isinstance(worker, ToolWorker):
                results.append(worker.result())
                operators[worker.contender.label] = [asdict(o) for o in worker.operators]
            else:
                results.append(device_result(worker.result(), [1e3 * s for s in worker.seconds]))
        return with_ratios(results), operators

    def _worker(self, contender: Contender, cores: list[int]) -> Worker | ToolWorker:
        assert contender.path is not None, "PyTorch does not run on a device"
        remote = self.copy(Path(contender.path), f"model-{len(self._copied)}.tflite")
        if contender.engine == "lce":
            assert self.tool is not None
            return ToolWorker(contender, cores, self.tool, remote)
        assert self.runtime is not None
        return Worker(contender, cores, self.runtime.worker(), remote)

    def read_conditions(self) -> None:
        """Record temperature and clock of the device."""
        self.conditions.append(read_conditions(self._device))

    def close(self) -> None:
        """End our processes on the device."""
        if self.runtime is not None:
            self.runtime.close()


def _plan(options: BenchmarkOptions, where: DeviceOptions, maker: ModelMaker) -> _Plan:
    """Resolve the options as far as that is possible without the device.

    Raises:
        UsageError: If an option is malformed or does not suit the device.
    """
    if where.python is not None and not re.fullmatch(r"[^\x00-\x1f-][^\x00-\x1f]*", where.python):
        raise UsageError(f"--device-python must be the path of a Python on the device, not {where.python!r}.")
    available = ["lce", *(name for name in installed() if name not in ("lce", "torch"))]
    others = selected(options.against, [name for name in USUAL if name in available], available)
    if "torch" in others:
        raise UsageError("--against torch: PyTorch runs on this machine only; omit it, or omit --device.")
    if not where.device.startswith("ssh:"):
        if where.python is not None:
            raise UsageError("--device-python needs --device ssh:user@host.")
        others.append("lce")  # the only engine on a phone
    others = sorted(set(others), key=lambda name: (name != "lce", others.index(name)))
    path, model = model_of(options.model, maker)
    others = compatible(others, options.against, model)
    return _Plan(path, model, options.threads or thread_counts(_THREADS), others, options)


def _usable_threads(plan: _Plan, device: Device, facts: Facts) -> list[int]:
    """Return the requested thread counts for which the device has enough cores.

    Raises:
        UsageError: If there are none.
    """
    count = len(facts.cores)
    threads = [t for t in plan.threads if t <= count]
    excess = ",".join(str(t) for t in plan.threads if t not in threads)
    if not threads:
        raise UsageError(f"--threads {excess}: {device.name} has {count} cores.")
    if excess and plan.options.threads:
        say(f"{device.name} has {count} cores: --threads {excess} left out.")
    return threads


def _find_tool(plan: _Plan, device: Device, facts: Facts, problems: list[str]) -> Path | None:
    """Find LCE's tool for a device; return None, and add the reason to `problems`, if it can be left out.

    Raises:
        DeviceError: If there is no tool, and the user asked for it or nothing else can run on the device.
    """
    if "lce" not in plan.others:
        return None
    try:
        return find_tool(facts)
    except DeviceError as error:
        if not isinstance(device, SshDevice) or plan.options.against is not None:
            raise
        problems.append(str(error))
        return None


def _add_runtime(benchmark: DeviceBenchmark, python: str | None, problems: list[str]) -> None:
    """Set up our runtime, or add the reason to `problems` if it can be left out.

    Raises:
        DeviceError: If it cannot run, and the user named a Python for it or nothing else can run on the device.
    """
    try:
        benchmark.add_runtime(python)
    except RuntimeUnavailableError as error:
        problems.append(str(error))
        if python or benchmark.tool is None:
            raise DeviceError(" ".join(problems)) from None


def _contenders(
    benchmark: DeviceBenchmark, plan: _Plan, threads: list[int], maker: ModelMaker
) -> list[Contender]:
    """List the contenders, starting with the model on our fastest kernels.

    Raises:
        UsageError: If the device does not support a requested kernel set.
    """
    path, binary = plan.path, plan.is_binary
    contenders: list[Contender] = []
    sets: list[str] = []
    if benchmark.runtime is not None:
        possible = tuple(benchmark.runtime.kernels)
        for name in plan.options.kernels or ():
            if name not in possible:
                raise one_of(f"kernel set on {benchmark.facts.machine}", name, possible)
        sets = plan.options.kernels or [k for k in possible if k != "scalar"] or ["scalar"]
        contenders += [
            Contender(path.stem, "litert", k, t, str(path))
            for t in threads
            for k in (sets if binary else [None])
        ]
    for name in plan.others:
        if name == "lce":
            modes = ("default", "indirect") if binary else (None,)
            contenders += [Contender(path.stem, "lce", mode, t, str(path)) for t in threads for mode in modes]
            continue
        title, made = baseline_file(name, path, plan.model, maker)
        engine = "lce" if benchmark.tool is not None else "litert"
        kernels = sets[0] if name in BINARY and engine == "litert" else None
        contenders += [Contender(title, engine, kernels, t, str(made)) for t in threads]
    return contenders


def measure_on_device(
    options: BenchmarkOptions, where: DeviceOptions, maker: ModelMaker
) -> DeviceMeasurement:
    """Measure a model and its competitors on a device.

    Args:
        options: What to measure.
        where: The device.
        maker: Makes the files of the competitors.

    Returns:
        The results.

    Raises:
        UsageError: If an option is malformed or does not suit the device.
        DeviceError: If the device cannot be reached, or nothing can run there.
    """
    connect = parse_device(where.device, where.folder)
    plan = _plan(options, where, maker)
    with termination_as_interrupt(), contextlib.ExitStack() as stack:
        device = connect()
        stack.callback(device.close)
        facts = read_facts(device)
        say(f"{device.name}: {facts.name}")
        threads = _usable_threads(plan, device, facts)
        problems: list[str] = []
        tool = _find_tool(plan, device, facts, problems)
        benchmark = DeviceBenchmark(device, facts, stack.enter_context(temporary_folder(device)))
        stack.callback(benchmark.close)
        benchmark.check_pinning(max(threads))
        if tool is None:
            plan = replace(plan, others=[name for name in plan.others if name != "lce"])
        else:
            benchmark.add_tool(tool)
        if isinstance(device, SshDevice):
            _add_runtime(benchmark, where.python, problems)
        for problem in problems:
            say(f"left out: {problem}")
        contenders = _contenders(benchmark, plan, threads, maker)
        results, operators = benchmark.run(contenders, options.rounds or _ROUNDS)
    lines, about = describe_device(
        facts,
        benchmark.conditions,
        facts.fastest(max(threads)),
        pinned=benchmark.pinned,
        tool=benchmark.tool_file,
    )
    return DeviceMeasurement(
        plan.path,
        device.name,
        facts.name,
        results,
        [*lines, *slowest_operators(operators)],
        {**about, "operators": operators},
    )
