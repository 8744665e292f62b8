"""Android devices, reached by the system's `adb`."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

from bdd_tf.devices.base import Device, DeviceError, DeviceGoneError, Done, last_line, refused, run_locally
from bdd_tf.errors import UsageError

_SERIAL = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:\[\]-]*")
#: States other than "device" that `adb devices` can list, as part of an error message.
STATES = {
    "unauthorized": "does not trust this computer yet: unlock it, confirm 'Allow USB debugging', and run the command "
    "again",
    "authorizing": "is still being authorized: unlock it, confirm, and run the command again",
    "offline": "is offline: unplug it and plug it in again, or run `adb reconnect offline`",
    "no permissions": "cannot be opened by this user: install udev rules (Debian: apt install "
    "android-sdk-platform-tools-common), join the group plugdev, and plug it in again",
    "recovery": "is in its recovery system: restart it normally",
    "sideload": "is waiting for a system update (sideload): restart it normally",
    "bootloader": "is in its boot loader: restart it normally",
    "connecting": "is still connecting: run the command again in a moment",
}


def check_serial(serial: str) -> str:
    """Return a serial number if it is well-formed.

    Raises:
        UsageError: If it is not.
    """
    if not _SERIAL.fullmatch(serial):
        raise UsageError(
            f"{serial!r} is not the serial number of an Android device; `adb devices` lists serial numbers."
        )
    return serial


class AdbDevice(Device):
    """An attached Android device.

    Args:
        serial: Its serial number; None: the only attached device.
        parent: Folder on the device in which temporary folders are made; None: /data/local/tmp.

    Raises:
        DeviceError: If no device or several are attached, or the device is not ready.
    """

    def __init__(self, serial: str | None = None, parent: str | None = None) -> None:
        self.parent = parent or "/data/local/tmp"
        adb = shutil.which("adb")
        if adb is None:
            raise DeviceError(
                "adb is not installed: apt install adb (or Google's platform-tools, "
                "https://developer.android.com/tools/releases/platform-tools), and put it on the PATH."
            )
        self._adb = adb
        self.serial = _choose(self._devices(), serial)
        self.name = f"adb:{self.serial}"

    def _devices(self) -> dict[str, str]:
        done = run_locally([self._adb, "devices"], 60, "adb")
        out, err = done.stdout.decode(errors="replace"), done.stderr.decode(errors="replace")
        if done.returncode:
            raise DeviceError(f"adb cannot start its server: {last_line(err or out)}.")
        found = {}
        for line in out.partition("List of devices attached")[2].splitlines():
            serial, _, state = line.strip().partition("\t")
            if state:
                found[serial] = state
        return found

    def command(self, script: str) -> list[str]:
        """Return the `adb shell` command, which passes a single string to the device's shell."""
        return [self._adb, "-s", self.serial, "shell", script]

    def failure(self, done: subprocess.CompletedProcess[bytes]) -> DeviceError:
        """Interpret adb's error message."""
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
        return DeviceError(f"adb failed on {self.name}: {last_line(text)}.")

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
    """Return the serial number of the device to use.

    Args:
        found: States by serial number.
        serial: The requested device, or None.

    Raises:
        DeviceError: If it is not attached, not unique, or not ready.
    """
    listed = ", ".join(f"{name} ({state})" for name, state in found.items())
    if serial is not None and serial not in found:
        raise DeviceError(f"no Android device {serial} is attached; attached: {listed or 'none'}.")
    if not found:
        raise DeviceError(
            "no Android device is attached: plug one in, enable 'USB debugging' in its developer options, and check "
            "that `adb devices` lists it."
        )
    if serial is None:
        ready = [name for name, state in found.items() if state == "device"]
        if len(ready) > 1:
            raise DeviceError(
                f"several Android devices are attached: {listed}; choose one, e.g. --device adb:{ready[0]}."
            )
        serial = ready[0] if ready else next(iter(found))
    state = found[serial]
    if state != "device":
        known = next(
            (text for key, text in STATES.items() if state.startswith(key)), f"is in the state {state!r}"
        )
        raise DeviceError(f"the Android device {serial} {known}.")
    return serial
