"""LCE's benchmark tool: downloaded once per kind of device and cached with its checksum, or provided by the user."""

from __future__ import annotations

import hashlib
import http.client
import os
import struct
import urllib.error
import urllib.request
from pathlib import Path

from bdd_tf.devices.base import DeviceError
from bdd_tf.devices.probe import Facts
from bdd_tf.errors import UsageError
from bdd_tf.files import cache_folder, write_atomically

VERSION = "v0.16.0"
RELEASE = f"https://github.com/larq/compute-engine/releases/download/{VERSION}"
#: Environment variable with the path of a tool to use instead.
OWN = "LCE_BENCHMARK"
#: Names of the release's assets by machine, for Linux (False) and Android (True).
ASSETS = {
    False: {"aarch64": "lce_benchmark_model_aarch64", "armv7l": "lce_benchmark_model_aarch32",
            "armv8l": "lce_benchmark_model_aarch32"},
    True: {"aarch64": "lce_benchmark_model_android_arm64"},
}  # fmt: skip
#: By machine number of the ELF header: machines (`uname -m`) on which such a program runs, and a name for messages.
_ELF = {
    183: (("aarch64",), "64-bit ARM"), 40: (("armv7l", "armv8l", "armv6l"), "32-bit ARM"),
    62: (("x86_64",), "x86-64"), 3: (("i686", "i386"), "32-bit x86"),
}  # fmt: skip
#: Largest accepted download in bytes.
_LARGEST = 200_000_000


def tool_folder() -> Path:
    """Folder for downloaded tools, in the cache."""
    return cache_folder() / f"lce-benchmark-{VERSION}"


def find_tool(facts: Facts, release: str = RELEASE) -> Path:
    """Return LCE's benchmark tool for a device.

    Args:
        facts: Properties of the device.
        release: URL of the release that contains the assets.

    Returns:
        Path of the file that ``LCE_BENCHMARK`` names, or else of the downloaded one.

    Raises:
        UsageError: If ``LCE_BENCHMARK`` does not name a file.
        DeviceError: If there is no tool for the machine, it cannot be downloaded, or its checksum is wrong.
    """
    if own := os.environ.get(OWN):
        path = Path(own)
        if not path.is_file():
            raise UsageError(f"{OWN} names {own}, which is not a file.")
        _check_machine(path, facts, OWN)
        return path
    name = ASSETS[facts.android].get(facts.machine)
    if name is None:
        raise DeviceError(
            f"LCE offers no benchmark tool for {'Android' if facts.android else 'Linux'} on {facts.machine or 'this machine'}, "
            f"only for {', '.join(ASSETS[facts.android])}; provide one with {OWN}=path."
        )
    path = tool_folder() / name
    if not path.is_file():
        _fetch(f"{release}/{name}", path)
    _check_sum(path)
    _check_machine(path, facts, str(path))
    return path


def _sum_file(path: Path) -> Path:
    return path.with_name(path.name + ".sha256")


def _fetch(url: str, path: Path) -> None:
    try:
        with urllib.request.urlopen(url, timeout=30) as answer:
            content = answer.read(_LARGEST + 1)
    except (OSError, urllib.error.URLError, http.client.HTTPException) as error:
        reason = getattr(error, "reason", None) or error
        raise DeviceError(
            f"LCE's benchmark tool could not be downloaded from {url} ({reason}). Without network, download that file "
            f"on another machine and copy it to {path}, or name it with {OWN}=path."
        ) from None
    if content[:4] != b"\x7fELF" or len(content) > _LARGEST:
        raise DeviceError(
            f"{url} is not a program ({len(content)} bytes); download it by hand and name it with {OWN}=path."
        )
    # The checksum is written first, so that an interruption leaves no file without one.
    write_atomically(_sum_file(path), f"{hashlib.sha256(content).hexdigest()}  {path.name}\n".encode())
    write_atomically(path, content)


def _check_sum(path: Path) -> None:
    digest, beside = hashlib.sha256(path.read_bytes()).hexdigest(), _sum_file(path)
    if not beside.is_file():  # The user copied the file here; record its checksum from now on.
        write_atomically(beside, f"{digest}  {path.name}\n".encode())
    expected = beside.read_text().split()
    if expected[:1] != [digest]:
        raise DeviceError(
            f"{path} has changed since it was downloaded (its SHA-256 is {digest[:12]}..., in {beside.name} it is "
            f"{(expected or ['missing'])[0][:12]}...): delete both files, and the tool is downloaded again."
        )


def _check_machine(path: Path, facts: Facts, named: str) -> None:
    with path.open("rb") as file:
        head = file.read(20)
    if len(head) < 20 or head[:4] != b"\x7fELF":
        return  # e.g. a script; the device reports whether it can run it
    (machine,) = struct.unpack("<H", head[18:20])
    runs_on, called = _ELF.get(machine, ((), f"machine {machine}"))
    if facts.machine not in runs_on:
        raise DeviceError(
            f"{named} is a program for {called}, but the device is {facts.machine}: wrong architecture."
        )
