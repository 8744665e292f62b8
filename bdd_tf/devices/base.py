"""The interface of a device: run commands, transfer files, clean up; and its errors.

The output of a command is enclosed in two marks, and the second one carries the exit code. adb on old Android versions
does not return it otherwise, a login shell may print something before the first mark, and a missing second mark means
that the connection broke.
"""

from __future__ import annotations

import re
import secrets
import shlex
import subprocess
from dataclasses import dataclass
from pathlib import Path

from bdd_tf.errors import BddError

#: Temporary folders on devices. Only folders that match are ever deleted.
FOLDER = re.compile(r"/(?:[A-Za-z0-9._-]+/)*bdd-[A-Za-z0-9]{6,}")
#: Environment variable of each process that we start on a device, by which it is found and ended.
MARK = "BDD_DEVICE_FOLDER"
_MINUTE = 60.0


class DeviceError(BddError):
    """A device cannot be reached, or cannot execute a request. Exit code 1."""


class DeviceGoneError(DeviceError):
    """The connection to a device broke."""


@dataclass(frozen=True)
class Done:
    """The outcome of a command on a device.

    Attributes:
        code: Exit code.
        out: Standard output; on old Android versions standard error as well.
        err: Standard error.
    """

    code: int
    out: str
    err: str

    @property
    def text(self) -> str:
        """Standard output followed by standard error."""
        return f"{self.out}\n{self.err}"


class Device:
    """Base class of devices. Subclasses implement the connection.

    Attributes:
        name: The device as the user wrote it, for messages.
        parent: Folder on the device in which temporary folders are made.
    """

    name: str
    parent: str

    def command(self, script: str) -> list[str]:
        """Return the local command that runs a script in the device's shell."""
        raise NotImplementedError

    def failure(self, done: subprocess.CompletedProcess[bytes]) -> DeviceError:
        """Return the error for a connection that failed before the script started."""
        raise NotImplementedError

    def push(self, local: Path, remote: str) -> None:
        """Copy a file to the device.

        Raises:
            DeviceError: If that fails, e.g. because no space is left.
        """
        raise NotImplementedError

    def close(self) -> None:
        """End the connection."""

    def shell(self, script: str, timeout: float = _MINUTE) -> Done:
        """Run a script in the device's POSIX shell.

        Args:
            script: The script. Values from outside must be quoted.
            timeout: Longest time in seconds.

        Returns:
            Its outcome, for any exit code.

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
        """Return the message for a broken connection."""
        return f"the connection to {self.name} broke (unplugged, switched off, or the network is down)"

    def new_folder(self) -> str:
        """Return the path of a new temporary folder. It is known before the folder exists, so that it can be deleted."""
        return f"{self.parent}/bdd-{secrets.token_hex(6)}"

    def make_folder(self, folder: str) -> None:
        """Make a folder that other users cannot read.

        Args:
            folder: A path returned by `new_folder`.

        Raises:
            DeviceError: If it cannot be made, or exists already.
        """
        done = self.shell(f"umask 077; mkdir {shlex.quote(folder)}")
        if done.code:
            raise refused(f"cannot make a folder in {self.parent} on {self.name}", done)

    def reconnect(self) -> None:
        """Reconnect after the connection broke."""

    def pull(self, remote: str) -> str:
        """Return the content of a text file on the device.

        Raises:
            DeviceError: If it cannot be read.
        """
        done = self.shell(f"cat {shlex.quote(remote)}")
        if done.code:
            raise refused(f"cannot read {remote} on {self.name}", done)
        return done.out

    def remove(self, folder: str) -> None:
        """End the processes that were started from a temporary folder and delete the folder.

        Args:
            folder: A path returned by `new_folder`.

        Raises:
            DeviceError: If it is not a temporary folder of ours, or cannot be deleted.
        """
        if not FOLDER.fullmatch(folder):
            raise DeviceError(f"refusing to delete {folder!r}: it was not created by bdd.")
        script = (
            f'end() {{ n=0; for e in $(grep -ls "{MARK}={folder}" /proc/[0-9]*/environ 2>/dev/null); do p=${{e#/proc/}}; '
            'kill -"$1" "${p%/environ}" 2>/dev/null && n=1; done; }\n'
            f"end TERM; [ $n = 0 ] || {{ sleep 1; end KILL; }}\nrm -rf {folder}; [ ! -e {folder} ]"
        )
        done = self.shell(script)
        if done.code:
            raise refused(f"cannot delete {folder} on {self.name}", done)


def run_locally(
    command: list[str], timeout: float, name: str, *, stdin: Path | None = None
) -> subprocess.CompletedProcess[bytes]:
    """Run adb or ssh in a session of its own, so that Ctrl-C does not end it: the clean-up needs it.

    Args:
        command: The command.
        timeout: Longest time in seconds.
        name: Name of the device, for messages.
        stdin: File for standard input; None: no input.

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
    """Return the error for a failed command, with the reason derived from its output.

    Args:
        what: The failure, as the beginning of a sentence.
        done: Outcome of the command.
    """
    text = done.text.lower()
    last = last_line(done.text)
    if "no space left" in text or "disk quota exceeded" in text:
        return DeviceError(
            f"{what}: no space is left on the device. Free some (`df -h` lists the file systems) and run the command "
            "again."
        )
    if "permission denied" in text or "operation not permitted" in text:
        return DeviceError(f"{what}: permission denied ({last}). Use an account with write permission.")
    if "read-only file system" in text:
        return DeviceError(f"{what}: the file system is read-only.")
    return DeviceError(f"{what}: {last or f'exit code {done.code}'}.")


def last_line(text: str) -> str:
    """Return the last line that is not empty, without its full stop and shortened to 300 characters."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1].rstrip(".")[:300] if lines else ""
