"""What every device can do: run a command, take a file, give one back, clean up; and how that fails.

A command's exit code travels in its output, between two marks: adb of old Androids has no other way to tell it, a
login shell may print before it, and where the second mark is missing the connection broke.
"""

from __future__ import annotations

import re
import secrets
import shlex
import subprocess
from dataclasses import dataclass
from pathlib import Path

from bdd_tf.errors import BddError

#: Folders that we make on devices; nothing else is ever removed.
FOLDER = re.compile(r"/(?:[A-Za-z0-9._-]+/)*bdd-[A-Za-z0-9]{6,}")
#: The environment of everything that we start there carries this, so that it can be found and ended.
MARK = "BDD_DEVICE_FOLDER"
_MINUTE = 60.0


class DeviceError(BddError):
    """A device cannot be reached or cannot do what it is asked. Exit code 1."""


class DeviceGoneError(DeviceError):
    """The connection broke half-way."""


@dataclass(frozen=True)
class Done:
    """What a command on the device left.

    Attributes:
        code: Its exit code.
        out: Standard output (of old Androids standard error as well).
        err: Standard error.
    """

    code: int
    out: str
    err: str

    @property
    def text(self) -> str:
        """Both outputs."""
        return f"{self.out}\n{self.err}"


class Device:
    """A device; subclasses know how to reach it.

    Attributes:
        name: As the user wrote it, for messages.
        parent: Folder in which ours is made.
    """

    name: str
    parent: str

    def command(self, script: str) -> list[str]:
        """The local command that has the device's shell run a script."""
        raise NotImplementedError

    def failure(self, done: subprocess.CompletedProcess[bytes]) -> DeviceError:
        """What a connection that gave no answer means."""
        raise NotImplementedError

    def push(self, local: Path, remote: str) -> None:
        """Copy a file to the device.

        Raises:
            DeviceError: With the reason, e.g. that there is no space left.
        """
        raise NotImplementedError

    def close(self) -> None:
        """End the connection."""

    def shell(self, script: str, timeout: float = _MINUTE) -> Done:
        """Run a script in the device's POSIX shell.

        Args:
            script: The script; what comes from outside must be quoted in it.
            timeout: Seconds.

        Returns:
            What it left, whatever its exit code.

        Raises:
            DeviceError: If the device cannot be reached or does not answer in time.
        """
        token = secrets.token_hex(6)
        wrapped = f"echo bdd-{token}; (\n{script}\n) </dev/null; c=$?; echo; echo bdd-{token}:$c"
        done = run_locally(self.command(wrapped), timeout, self.name)
        out = done.stdout.decode(errors="replace").replace("\r\n", "\n")
        found = re.search(rf"bdd-{token}\n(.*)\nbdd-{token}:(\d+)\n", out, re.DOTALL)
        if not found:
            if f"bdd-{token}\n" in out:
                raise DeviceGoneError(self.gone())
            raise self.failure(done)
        return Done(int(found[2]), found[1], done.stderr.decode(errors="replace").replace("\r\n", "\n"))

    def gone(self) -> str:
        """The sentence for a connection that broke half-way."""
        return (
            f"the connection to {self.name} broke half-way (unplugged, switched off, or the network is gone)"
        )

    def new_folder(self) -> str:
        """A name for a folder that nobody has; known before it is made, so that Ctrl-C leaves nothing behind."""
        return f"{self.parent}/bdd-{secrets.token_hex(6)}"

    def make_folder(self, folder: str) -> None:
        """Make a folder that nobody else may read.

        Args:
            folder: As `new_folder` gave it.

        Raises:
            DeviceError: If it cannot be made, or is there already.
        """
        done = self.shell(f"umask 077; mkdir {shlex.quote(folder)}")
        if done.code:
            raise refused(f"no folder can be made in {self.parent} on {self.name}", done)

    def reconnect(self) -> None:
        """Try to reach it again."""

    def pull(self, remote: str) -> str:
        """A text file of the device.

        Raises:
            DeviceError: If it cannot be read.
        """
        done = self.shell(f"cat {shlex.quote(remote)}")
        if done.code:
            raise refused(f"{remote} on {self.name} cannot be read", done)
        return done.out

    def remove(self, folder: str) -> None:
        """End what still runs of ours and remove our folder.

        Args:
            folder: As `make_folder` gave it.

        Raises:
            DeviceError: If it is not ours, or stays.
        """
        if not FOLDER.fullmatch(folder):
            raise DeviceError(f"{folder!r} is no folder of ours and stays.")
        script = (
            f'end() {{ n=0; for e in $(grep -ls "{MARK}={folder}" /proc/[0-9]*/environ 2>/dev/null); do p=${{e#/proc/}}; '
            'kill -"$1" "${p%/environ}" 2>/dev/null && n=1; done; }\n'
            f"end TERM; [ $n = 0 ] || {{ sleep 1; end KILL; }}\nrm -rf {folder}; [ ! -e {folder} ]"
        )
        done = self.shell(script)
        if done.code:
            raise refused(f"{folder} on {self.name} could not be removed", done)


def run_locally(
    command: list[str], timeout: float, name: str, *, stdin: Path | None = None
) -> subprocess.CompletedProcess[bytes]:
    """Run adb or ssh, out of reach of Ctrl-C: that is ours to handle, and cleaning up needs them.

    Args:
        command: The command.
        timeout: Seconds.
        name: Of the device, for messages.
        stdin: A file to feed it.

    Raises:
        DeviceError: If it does not end in time.
    """
    with (stdin or Path("/dev/null")).open("rb") as stream:
        try:
            return subprocess.run(
                command,
                stdin=stream,
                capture_output=True,
                timeout=timeout,
                check=False,
                start_new_session=True,
            )
        except subprocess.TimeoutExpired:
            raise DeviceError(f"{name} did not answer within {timeout:.0f} s.") from None


def refused(what: str, done: Done) -> DeviceError:
    """Why the device would not do something that every device can do, told apart by its words.

    Args:
        what: What could not be done.
        done: What the command left.
    """
    text = done.text.lower()
    last = last_words(done.text)
    if "no space left" in text or "disk quota exceeded" in text:
        return DeviceError(
            f"{what}: no space is left there. Free some (`df -h` shows where) and run it again."
        )
    if "permission denied" in text or "operation not permitted" in text:
        return DeviceError(f"{what}: permission denied ({last}). Give a user who may write there.")
    if "read-only file system" in text:
        return DeviceError(f"{what}: that file system is read-only.")
    return DeviceError(f"{what}: {last or f'exit code {done.code}'}.")


def last_words(text: str) -> str:
    """The last line that says something, without its full stop, short enough for a sentence."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1].rstrip(".")[:300] if lines else ""
