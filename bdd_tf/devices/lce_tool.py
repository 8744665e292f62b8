"""LCE's benchmark tool: fetched once for each kind of device, kept with its checksum, or brought by the user."""

from __future__ import annotations

import hashlib
import http.client
import os
import struct
import urllib.error
import urllib.request
from pathlib import Path

from bdd_tf.config import write_atomically
from bdd_tf.devices.base import DeviceError
from bdd_tf.devices.probe import Facts
from bdd_tf.errors import UsageError

VERSION = "v0.16.0"
RELEASE = f"https://github.com/larq/compute-engine/releases/download/{VERSION}"
#: Environment variable that names a file to use instead.
OWN = "LCE_BENCHMARK"
#: Asset by machine, on Linux and on Android.
ASSETS = {
    False: {"aarch64": "lce_benchmark_model_aarch64", "armv7l": "lce_benchmark_model_aarch32",
            "armv8l": "lce_benchmark_model_aarch32"},
    True: {"aarch64": "lce_benchmark_model_android_arm64"},
}  # fmt: skip
#: Machine in the ELF header: `uname -m` names that it runs on, and what to call it.
_ELF = {
    183: (("aarch64",), "64-bit ARM"), 40: (("armv7l", "armv8l", "armv6l"), "32-bit ARM"),
    62: (("x86_64",), "x86-64"), 3: (("i686", "i386"), "32-bit x86"),
}  # fmt: skip
_LARGEST = 200_000_000


def cache_folder() -> Path:
    """Where fetched tools are kept: ``BDD_CACHE/lce-benchmark-VERSION``, or below ``data/cache`` here."""
    return Path(os.environ.get("BDD_CACHE") or Path("data") / "cache") / f"lce-benchmark-{VERSION}"


def find_tool(facts: Facts, release: str = RELEASE) -> Path:
    """LCE's benchmark tool for a device.

    Args:
        facts: What the device is.
        release: Where assets are fetched from.

    Returns:
        The file that ``LCE_BENCHMARK`` names, else the fetched one.

    Raises:
        UsageError: If ``LCE_BENCHMARK`` names no file.
        DeviceError: If there is none for that machine, it cannot be fetched, or it is not what it was.
    """
    if own := os.environ.get(OWN):
        path = Path(own)
        if not path.is_file():
            raise UsageError(f"{OWN} names {own}, which is no file.")
        _check_machine(path, facts, OWN)
        return path
    name = ASSETS[facts.android].get(facts.machine)
    if name is None:
        raise DeviceError(
            f"LCE offers no benchmark tool for {'Android' if facts.android else 'Linux'} on {facts.machine or 'this machine'}, "
            f"only for {', '.join(ASSETS[facts.android])}; name one of your own with {OWN}=path."
        )
    path = cache_folder() / name
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
            f"LCE's benchmark tool could not be fetched from {url} ({reason}). Without network: fetch that file "
            f"elsewhere and put it at {path}, or name it with {OWN}=path."
        ) from None
    if content[:4] != b"\x7fELF" or len(content) > _LARGEST:
        raise DeviceError(
            f"{url} gave no program ({len(content)} bytes); fetch it by hand and name it with {OWN}=path."
        )
    # The sum first: a kill between the two leaves no file that nothing vouches for.
    write_atomically(_sum_file(path), f"{hashlib.sha256(content).hexdigest()}  {path.name}\n".encode())
    write_atomically(path, content)


def _check_sum(path: Path) -> None:
    digest, beside = hashlib.sha256(path.read_bytes()).hexdigest(), _sum_file(path)
    if not beside.is_file():  # put there by hand: from now on it must stay as it is
        write_atomically(beside, f"{digest}  {path.name}\n".encode())
    expected = beside.read_text().split()
    if expected[:1] != [digest]:
        raise DeviceError(
            f"{path} is not the file that was fetched (its SHA-256 is {digest[:12]}..., {beside.name} says "
            f"{(expected or ['nothing'])[0][:12]}...): delete both, and it is fetched anew."
        )


def _check_machine(path: Path, facts: Facts, named: str) -> None:
    with path.open("rb") as file:
        head = file.read(20)
    if len(head) < 20 or head[:4] != b"\x7fELF":
        return  # a script, say: the device will tell
    (machine,) = struct.unpack("<H", head[18:20])
    runs_on, called = _ELF.get(machine, ((), f"machine {machine}"))
    if facts.machine not in runs_on:
        raise DeviceError(
            f"{named}: a program for {called}, and the device is {facts.machine}: wrong architecture."
        )
