#!/usr/bin/env python3
"""A STAND-IN for adb with the words and exit codes of the real one; its devices are folders of this machine.

The file that ADB_STAND_IN names tells which devices are attached and in which state, at which command the device is
unplugged, and what it refuses.
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

HOME = "/data/local/tmp"
UNAUTHORIZED = (
    "device unauthorized.\nThis adb server's $ADB_VENDOR_KEYS is not set\nTry 'adb kill-server' if that seems wrong.\n"
    "Otherwise check for a confirmation dialog on your device."
)
PERMISSIONS = "no permissions (missing udev rules? user is in the plugdev group); see [http://developer.android.com/tools/device.html]"


def fail(text):
    print(text, file=sys.stderr)
    return 1


def trouble(devices, serial):
    """The words of adb where it reaches no device."""
    if serial is None:
        if not devices:
            return "no devices/emulators found"
        if len(devices) > 1:
            return "more than one device/emulator"
        serial = next(iter(devices))
    if serial not in devices:
        return f"device '{serial}' not found"
    state = devices[serial]
    return {
        "device": None, "unauthorized": UNAUTHORIZED, "offline": "device offline",
        "no permissions": f"insufficient permissions for device: {PERMISSIONS}",
    }.get(state, f"device still {state}")  # fmt: skip


def main():
    file = Path(os.environ["ADB_STAND_IN"])
    state = json.loads(file.read_text())
    arguments, serial = sys.argv[1:], None
    if arguments[:1] == ["-s"]:
        serial, arguments = arguments[1], arguments[2:]
    command = arguments.pop(0)
    if command == "devices":
        print("List of devices attached")
        for name, how in state["devices"].items():
            print(f"{name}\t{PERMISSIONS if how == 'no permissions' else how}")
        print()
        return 0
    if words := trouble(state["devices"], serial):
        return fail(
            f"adb: error: failed to get feature set: {words}" if command == "push" else f"error: {words}"
        )
    unplug = False
    if state["unplug"] is not None:
        state["unplug"] -= 1
        unplug = state["unplug"] <= 0
        if unplug:
            state["devices"], state["unplug"] = {}, None
        file.write_text(json.dumps(state))
    root = state["root"]
    if command == "push":
        local, remote = arguments
        if state["refuse"]:
            return fail(f"adb: error: failed to copy '{local}' to '{remote}': remote {state['refuse']}")
        if unplug:
            return fail(f"adb: error: failed to copy '{local}' to '{remote}': couldn't read from device")
        there = Path(remote.replace(HOME, root))
        if not there.parent.is_dir():
            return fail(
                f"adb: error: failed to copy '{local}' to '{remote}': remote couldn't create file: No such file or directory"
            )
        shutil.copyfile(local, there)
        print(f"{local}: 1 file pushed, 0 skipped.")
        return 0
    if command == "shell":
        environment = {**os.environ, "PATH": f"{state['shims']}:{os.environ['PATH']}"}
        script = " ".join(arguments).replace(HOME, root)
        done = subprocess.run(
            ["sh", "-c", script], capture_output=True, text=True, env=environment, stdin=subprocess.DEVNULL
        )
        out, err = done.stdout.replace(root, HOME), done.stderr.replace(root, HOME)
        if unplug:
            # The cable is out before the command has ended: what came so far is shown, and adb ends no message.
            print(out[: len(out) // 2], end="")
            return 255
        print(out, end="")
        print(err, end="", file=sys.stderr)
        return done.returncode
    return fail(f"adb: unknown command {command}")


if __name__ == "__main__":
    sys.exit(main())
