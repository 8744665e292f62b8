"""Our own runtime on a device that ssh reaches: Python there, our wheel's content in our folder, and its processes.

The wheel is unpacked rather than installed, so that it is this tree's code that is measured and nothing of it stays.
Where numpy or a TFLite runtime is missing, pip brings them into an environment in our folder.
"""

from __future__ import annotations

import contextlib
import json
import shlex
import subprocess
from pathlib import Path

from bdd_tf.devices.base import MARK, DeviceError, DeviceGoneError, last_words
from bdd_tf.devices.probe import Facts
from bdd_tf.devices.ssh import SshDevice
from bdd_tf.edge.runtime.build import MACHINES, TARGETS
from bdd_tf.edge.runtime.wheels import ROOT, build_wheel
from bdd_tf.errors import BddError

_OLDEST = (3, 10)
# What Python there is and what it lacks; LiteRT's own import is slow on a board, so it is only looked for.
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
    """Our runtime cannot run there; LCE's tool still may."""


def wheel_for(facts: Facts, folder: Path = ROOT / "dist") -> Path:
    """The wheel for a device, built where it is missing or older than its sources.

    Args:
        facts: What the device is.
        folder: Where wheels are.

    Raises:
        RuntimeUnavailableError: If there is none for that machine, or it cannot be built.
    """
    target = MACHINES.get(facts.machine)
    if target is None:
        raise RuntimeUnavailableError(
            f"our runtime has no wheel for {facts.machine}, only for {', '.join(TARGETS)}."
        )
    source = ROOT / "bdd_tf"
    newest = max(p.stat().st_mtime for end in ("*.py", "*.cc", "*.h") for p in (source / "edge").rglob(end))
    for wheel in folder.glob(f"bdd_tf-*-{TARGETS[target].platform}.whl"):
        if wheel.stat().st_mtime >= newest:
            return wheel
    if not (ROOT / "setup.py").is_file():
        raise RuntimeUnavailableError("our runtime's wheel can only be built in a clone (`make wheels`).")
    folder.mkdir(parents=True, exist_ok=True)
    try:
        return build_wheel(target, folder)
    except BddError as error:
        raise RuntimeUnavailableError(str(error)) from None


class RemoteRuntime:
    """Our runtime, set up in a folder of a device.

    Args:
        device: The device.
        facts: What it is.
        folder: Ours.
        python: A Python of an environment that has numpy and LiteRT; None for ``python3``.
        wheel: Our wheel for it.

    Raises:
        RuntimeUnavailableError: If it cannot run there; the sentence says what is missing.
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
                f"the wheel could not be unpacked on {device.name}: {last_words(done.text)}."
            )
        if look["missing"]:
            self._environment(look["missing"], wheel, named=python is not None)
        done = self._run(_KERNELS)
        if done.code:
            raise RuntimeUnavailableError(
                f"our runtime does not start on {device.name}: {last_words(done.text)}."
            )
        self.kernels: list[str] = json.loads(done.out.strip().splitlines()[-1])
        self._hub: subprocess.Popen[str] | None = None
        self._workers = 0

    def _run(self, code: str, argument: str = "", timeout: float = 300):  # noqa: ANN202 (Done)
        environment = f"PYTHONPATH={self._folder}/lib PYTHONDONTWRITEBYTECODE=1 {MARK}={self._folder}"
        return self._device.shell(f"{environment} {self._python} -c {shlex.quote(code)} {argument}", timeout)

    def _look(self, chosen: str, *, named: bool) -> dict:
        done = self._run(_LOOK, self._target)
        where = self._device.name
        if done.code in (126, 127):
            raise RuntimeUnavailableError(
                f"{where} has no {chosen}"
                + ("." if named else ": install Python 3.10 or newer, or --device-python PATH.")
            )
        try:
            look = json.loads(done.out.strip().splitlines()[-1])
        except (IndexError, ValueError):
            raise RuntimeUnavailableError(
                f"{chosen} on {where} is no Python: {last_words(done.text)}."
            ) from None
        if tuple(look["version"][:2]) < _OLDEST:
            raise RuntimeUnavailableError(
                f"{chosen} on {where} is Python {'.'.join(map(str, look['version']))}; 3.10 or newer is needed "
                "(--device-python PATH for another one)."
            )
        if look["bits"] != (32 if self._target == "armv7" else 64):
            raise RuntimeUnavailableError(f"{chosen} on {where} has {look['bits']} bits, its system has not.")
        return look

    def _environment(self, missing: list[str], wheel: Path, *, named: bool) -> None:
        """Bring what is missing with pip, into an environment in our folder."""
        lacks = " and ".join(missing)
        way = (
            f"Install it there (python3 -m venv --system-site-packages env && env/bin/pip install {' '.join(missing)}) "
            "and run it again with --device-python env/bin/python."
        )
        where = self._device.name
        if named:
            raise RuntimeUnavailableError(f"{self._python} on {where} lacks {lacks}. {way}")
        home = f"{self._folder}/venv"
        done = self._device.shell(f"{self._python} -m venv --system-site-packages {home}", 300)
        if done.code:
            raise RuntimeUnavailableError(
                f"Python on {where} lacks {lacks}, and cannot make an environment for it (Debian: apt install "
                f"python3-venv): {last_words(done.text)}. {way}"
            )
        pip = f"{home}/bin/python -m pip install -q --no-input --no-cache-dir --disable-pip-version-check"
        done = self._device.shell(
            f"{MARK}={self._folder} TMPDIR={self._folder} {pip} {self._folder}/{wheel.name}", 900
        )
        if done.code:
            raise RuntimeUnavailableError(
                f"Python on {where} lacks {lacks}, and pip there could not bring it (no network?): "
                f"{last_words(done.text)}. {way}"
            )
        self._python = f"{home}/bin/python"

    def worker(self) -> RemoteWorker:
        """A process there that waits for its contender."""
        if self._hub is None:
            environment = f"env PYTHONPATH={self._folder}/lib PYTHONDONTWRITEBYTECODE=1"
            self._hub = self._device.start(
                f"{environment} {self._python} -m bdd_tf.edge.bench_hub", self._folder
            )
        self._workers += 1
        return RemoteWorker(self, self._workers)

    def ask(self, message: dict) -> dict:
        """Pass a message to the processes there."""
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
        """End the processes there."""
        if self._hub is not None:
            for pipe in (self._hub.stdin, self._hub.stdout):
                with contextlib.suppress(OSError):  # what was to be said to a device that is gone
                    pipe.close()
            try:
                self._hub.wait(10)
            except subprocess.TimeoutExpired:
                self._hub.kill()
                self._hub.wait()


class RemoteWorker:
    """The channel to one contender's process there (`bdd_tf.benchmarking.Worker` talks through it)."""

    def __init__(self, runtime: RemoteRuntime, number: int) -> None:
        self._runtime, self._number = runtime, number

    def ask(self, message: dict) -> dict:
        """Send a message and wait for the answer."""
        return self._runtime.ask({"worker": self._number, **message})

    def close(self) -> None:
        """Nothing: the runtime ends all of them."""
