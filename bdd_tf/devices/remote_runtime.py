"""Run our runtime on a device reached by ssh: unpack our wheel in the temporary folder, and start its processes.

The wheel is unpacked instead of installed, so that this source tree is measured and nothing remains on the device. If
NumPy or a TFLite runtime is missing, pip installs it into a virtual environment in the temporary folder.
"""

from __future__ import annotations

import contextlib
import json
import shlex
import subprocess
from pathlib import Path

from bdd_tf.devices.base import MARK, DeviceError, DeviceGoneError, Done, last_line
from bdd_tf.devices.probe import Facts
from bdd_tf.devices.ssh import SshDevice
from bdd_tf.edge.runtime.build import MACHINES, TARGETS
from bdd_tf.edge.runtime.wheels import ROOT, build_wheel
from bdd_tf.errors import BddError

#: Oldest supported version of Python.
_OLDEST = (3, 10)
# Prints the version of Python and the missing packages. LiteRT is searched, not imported: that is slow on a board.
_LOOK = """
import importlib.util as u, json, sys
has = lambda name: u.find_spec(name) is not None
missing = [name for name in ("numpy",) if not has(name)]
if not (has("ai_edge_litert") or has("tflite_runtime")):
    missing.append("tflite-runtime" if sys.argv[1] == "armv7" else "ai-edge-litert")
print(json.dumps({"version": list(sys.version_info[:3]), "bits": 64 if sys.maxsize > 2**32 else 32, "missing": missing}))
"""
_KERNELS = """
import json
from bdd_tf.edge.runtime import available_kernels, interpreter_module
interpreter_module()
print(json.dumps(available_kernels()))
"""


class RuntimeUnavailableError(DeviceError):
    """Our runtime cannot run on the device; LCE's tool may."""


def wheel_for(facts: Facts, folder: Path = ROOT / "dist") -> Path:
    """Return the wheel for a device; build it if it is missing or older than its sources.

    Args:
        facts: Properties of the device.
        folder: Folder of the wheels.

    Raises:
        RuntimeUnavailableError: If the machine is not supported, or the wheel cannot be built.
    """
    target = MACHINES.get(facts.machine)
    if target is None:
        raise RuntimeUnavailableError(
            f"our runtime has no wheel for {facts.machine}, only for {', '.join(sorted(set(MACHINES.values())))}."
        )
    source = ROOT / "bdd_tf"
    newest = max(p.stat().st_mtime for end in ("*.py", "*.cc", "*.h") for p in (source / "edge").rglob(end))
    for wheel in folder.glob(f"bdd_tf-*-{TARGETS[target].platform}.whl"):
        if wheel.stat().st_mtime >= newest:
            return wheel
    if not (ROOT / "setup.py").is_file():
        raise RuntimeUnavailableError(
            "the wheel of our runtime can be built in a source checkout only (make wheels)."
        )
    folder.mkdir(parents=True, exist_ok=True)
    try:
        return build_wheel(target, folder)
    except BddError as error:
        raise RuntimeUnavailableError(str(error)) from None


class RemoteRuntime:
    """Our runtime in a temporary folder on a device.

    Args:
        device: The device.
        facts: Its properties.
        folder: The temporary folder.
        python: Path of a Python on the device with NumPy and LiteRT; None: ``python3``.
        wheel: The wheel for the device.

    Attributes:
        kernels: Kernel sets that the device supports, fastest first.

    Raises:
        RuntimeUnavailableError: If the runtime cannot run on the device; the message names what is missing.
        DeviceError: If the connection breaks.
    """

    def __init__(self, device: SshDevice, facts: Facts, folder: str, python: str | None, wheel: Path) -> None:
        self._device, self._folder = device, folder
        self._target = MACHINES[facts.machine]
        chosen = python or "python3"
        self._python = shlex.quote(chosen)
        look = self._look(chosen, named=python is not None)
        device.push(wheel, f"{folder}/{wheel.name}")
        done = device.shell(f"{self._python} -m zipfile -e {folder}/{wheel.name} {folder}/lib", 300)
        if done.code:
            raise RuntimeUnavailableError(
                f"the wheel could not be unpacked on {device.name}: {last_line(done.text)}."
            )
        if look["missing"]:
            self._environment(look["missing"], wheel, named=python is not None)
        done = self._run(_KERNELS)
        if done.code:
            raise RuntimeUnavailableError(
                f"our runtime does not start on {device.name}: {last_line(done.text)}."
            )
        self.kernels: list[str] = json.loads(done.out.strip().splitlines()[-1])
        self._hub: subprocess.Popen[str] | None = None
        self._workers = 0

    def _run(self, code: str, argument: str = "", timeout: float = 300) -> Done:
        environment = f"PYTHONPATH={self._folder}/lib PYTHONDONTWRITEBYTECODE=1 {MARK}={self._folder}"
        return self._device.shell(f"{environment} {self._python} -c {shlex.quote(code)} {argument}", timeout)

    def _look(self, chosen: str, *, named: bool) -> dict:
        done = self._run(_LOOK, self._target)
        where = self._device.name
        if done.code in (126, 127):
            raise RuntimeUnavailableError(
                f"{where} has no {chosen}"
                + ("." if named else ": install Python 3.10 or newer, or name it with --device-python PATH.")
            )
        try:
            look = json.loads(done.out.strip().splitlines()[-1])
        except (IndexError, ValueError):
            raise RuntimeUnavailableError(
                f"{chosen} on {where} is not a Python: {last_line(done.text)}."
            ) from None
        if tuple(look["version"][:2]) < _OLDEST:
            raise RuntimeUnavailableError(
                f"{chosen} on {where} is Python {'.'.join(map(str, look['version']))}; 3.10 or newer is needed "
                "(name another one with --device-python PATH)."
            )
        if look["bits"] != (32 if self._target == "armv7" else 64):
            raise RuntimeUnavailableError(
                f"{chosen} on {where} is a {look['bits']}-bit program, which differs from the system."
            )
        return look

    def _environment(self, missing: list[str], wheel: Path, *, named: bool) -> None:
        """Install missing packages into a virtual environment in the temporary folder."""
        lacks = " and ".join(missing)
        way = (
            f"Install it on the device (python3 -m venv --system-site-packages env && env/bin/pip install "
            f"{' '.join(missing)}) and run the command again with --device-python env/bin/python."
        )
        where = self._device.name
        if named:
            raise RuntimeUnavailableError(f"{self._python} on {where} lacks {lacks}. {way}")
        home = f"{self._folder}/venv"
        done = self._device.shell(f"{self._python} -m venv --system-site-packages {home}", 300)
        if done.code:
            raise RuntimeUnavailableError(
                f"Python on {where} lacks {lacks}, and cannot make a virtual environment (Debian: apt install "
                f"python3-venv): {last_line(done.text)}. {way}"
            )
        pip = f"{home}/bin/python -m pip install -q --no-input --no-cache-dir --disable-pip-version-check"
        done = self._device.shell(
            f"{MARK}={self._folder} TMPDIR={self._folder} {pip} {self._folder}/{wheel.name}", 900
        )
        if done.code:
            raise RuntimeUnavailableError(
                f"Python on {where} lacks {lacks}, and pip on the device could not install it (no network?): "
                f"{last_line(done.text)}. {way}"
            )
        self._python = f"{home}/bin/python"

    def worker(self) -> RemoteWorker:
        """Return the channel to a new process on the device, which waits for its contender."""
        if self._hub is None:
            environment = f"env PYTHONPATH={self._folder}/lib PYTHONDONTWRITEBYTECODE=1"
            self._hub = self._device.start(
                f"{environment} {self._python} -m bdd_tf.edge.benchmark.hub", self._folder
            )
        self._workers += 1
        return RemoteWorker(self, self._workers)

    def ask(self, message: dict) -> dict:
        """Send a message to the processes on the device and wait for the answer.

        Raises:
            DeviceGoneError: If the connection broke.
        """
        assert self._hub is not None
        assert self._hub.stdin is not None
        assert self._hub.stdout is not None
        try:
            self._hub.stdin.write(json.dumps(message) + "\n")
            self._hub.stdin.flush()
            line = self._hub.stdout.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            raise DeviceGoneError(self._device.gone())
        return json.loads(line)

    def close(self) -> None:
        """End the processes on the device."""
        if self._hub is not None:
            for pipe in (self._hub.stdin, self._hub.stdout):
                assert pipe is not None
                with contextlib.suppress(OSError):  # unsent messages to a device that is gone
                    pipe.close()
            try:
                self._hub.wait(10)
            except subprocess.TimeoutExpired:
                self._hub.kill()
                self._hub.wait()


class RemoteWorker:
    """The channel of `bdd_tf.benchmark.worker.Worker` to a contender's process on the device."""

    def __init__(self, runtime: RemoteRuntime, number: int) -> None:
        self._runtime, self._number = runtime, number

    def ask(self, message: dict) -> dict:
        """Send a message and wait for the answer."""
        return self._runtime.ask({"worker": self._number, **message})

    def close(self) -> None:
        """Do nothing: the runtime ends all processes."""
