"""Android devices, through the system's `adb`."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

from bdd_tf.devices.base import Device, DeviceError, DeviceGoneError, Done, last_words, refused, run_locally
from bdd_tf.errors import UsageError

_SERIAL = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:\[\]-]*")
#: What `adb devices` may say of one besides "device", and what to do about it.
STATES = {
    "unauthorized": "does not trust this computer yet: unlock it and confirm 'Allow USB debugging', then run it again",
    "authorizing": "is still being authorized: unlock it, confirm, and run it again",
    "offline": "is offline: unplug it and plug it in again, or `adb reconnect offline`",
    "no permissions": "may not be opened by this user: install udev rules (Debian: apt install "
    "android-sdk-platform-tools-common) and join the group plugdev, then plug it in again",
    "recovery": "has started its recovery system: restart it normally",
    "sideload": "waits for a system update (sideload): restart it normally",
    "bootloader": "has stopped in its boot loader: restart it normally",
    "connecting": "is still connecting: run it again in a moment",
}


def check_serial(serial: str) -> str:
    """The same, if it can be the serial number of a device.

    Raises:
        UsageError: If it cannot.
    """
    if not _SERIAL.fullmatch(serial):
        raise UsageError(f"{serial!r} is no serial number of an Android device; `adb devices` lists them.")
    return serial


class AdbDevice(Device):
    """One Android device.

    Args:
        serial: Which one, where several are attached; None for the only one.
        parent: Folder in which ours is made.

    Raises:
        DeviceError: If there is none, more than one, or it is not ready.
    """

    def __init__(self, serial: str | None = None, parent: str | None = None) -> None:
        self.parent = parent or "/data/local/tmp"
        self._adb = shutil.which("adb")
        if self._adb is None:
            raise DeviceError(
                "adb is not installed: apt install adb (or Google's platform-tools, "
                "https://developer.android.com/tools/releases/platform-tools), and put it on the PATH."
            )
        self.serial = _choose(self._devices(), serial)
        self.name = f"adb:{self.serial}"

    def _devices(self) -> dict[str, str]:
        done = run_locally([self._adb, "devices"], 60, "adb")
        out, err = done.stdout.decode(errors="replace"), done.stderr.decode(errors="replace")
        if done.returncode:
            raise DeviceError(f"adb cannot start its server: {last_words(err or out)}.")
        found = {}
        for line in out.partition("List of devices attached")[2].splitlines():
            serial, _, state = line.strip().partition("\t")
            if state:
                found[serial] = state
        return found

    def command(self, script: str) -> list[str]:
        """`adb shell`, which takes one string for the device's shell."""
        return [self._adb, "-s", self.serial, "shell", script]

    def failure(self, done: subprocess.CompletedProcess[bytes]) -> DeviceError:
        """What adb's words mean."""
        text = (done.stderr + done.stdout).decode(errors="replace")
        low = text.lower()
        if "unauthorized" in low:
            return DeviceError(f"{self.name} {STATES['unauthorized']}.")
        if "insufficient permissions" in low or "no permissions" in low:
            return DeviceError(f"{self.name} {STATES['no permissions']}.")
        if not low.strip() or any(
            words in low
            for words in ("not found", "offline", "no devices", "closed", "couldn't read", "protocol fault", "eof",
                          "connection reset", "premature", "no response")
        ):  # fmt: skip
            return DeviceGoneError(self.gone())
        return DeviceError(f"adb failed on {self.name}: {last_words(text)}.")

    def push(self, local: Path, remote: str) -> None:
        """Copy a file to the device."""
        command = [self._adb, "-s", self.serial, "push", str(local.resolve()), remote]
        done = run_locally(command, 600, self.name)
        if done.returncode:
            text = (done.stderr + done.stdout).decode(errors="replace")
            if ": remote " in text:
                words = text.rpartition(": remote ")[2]
                raise refused(f"{local.name} could not be copied to {self.name}", Done(1, "", words))
            raise self.failure(done)


def _choose(found: dict[str, str], serial: str | None) -> str:
    """The device that is meant, if it is ready."""
    listed = ", ".join(f"{name} ({state})" for name, state in found.items())
    if serial is not None and serial not in found:
        raise DeviceError(f"no Android device {serial} is attached; attached: {listed or 'none'}.")
    if not found:
        raise DeviceError(
            "no Android device is attached: plug one in, switch on 'USB debugging' in its developer options, and "
            "see whether `adb devices` lists it."
        )
    if serial is None:
        ready = [name for name, state in found.items() if state == "device"]
        if len(ready) > 1:
            raise DeviceError(
                f"several Android devices are attached: {listed}; choose one, e.g. adb:{ready[0]}."
            )
        serial = ready[0] if ready else next(iter(found))
    state = found[serial]
    if state != "device":
        known = next(
            (text for key, text in STATES.items() if state.startswith(key)), f"is in the state {state!r}"
        )
        raise DeviceError(f"the Android device {serial} {known}.")
    return serial
