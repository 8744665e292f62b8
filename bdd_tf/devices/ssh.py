"""Boards and computers, reached by the system's `ssh`.

One connection (ControlMaster) serves all commands. Files are written by `cat` on the device instead of scp: the two
protocols of scp quote remote paths differently, and small boards may have neither.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from bdd_tf.devices.base import (
    MARK,
    Device,
    DeviceError,
    DeviceGoneError,
    Done,
    last_line,
    refused,
    run_locally,
)
from bdd_tf.errors import UsageError

# Excludes everything that ssh could parse as an option, and all characters that are special to a shell.
_DESTINATION = re.compile(
    r"(?:(?P<user>[A-Za-z0-9_][A-Za-z0-9_.-]*)@)?"
    r"(?P<host>[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?|\[[0-9A-Fa-f:.]+(?:%[A-Za-z0-9]+)?\])"
    r"(?::(?P<port>[0-9]{1,5}))?"
)
_OPTIONS = {
    "BatchMode": "yes",  # never prompts for a password or an unknown host key
    "ConnectTimeout": "15",
    "ServerAliveInterval": "5",  # with the next option: notices a board without power after 15 s
    "ServerAliveCountMax": "3",
    "ForwardAgent": "no",
    "ForwardX11": "no",
    "LogLevel": "ERROR",
}


@dataclass(frozen=True)
class Destination:
    """A destination of ssh.

    Attributes:
        text: The destination as the user wrote it.
        login: ``user@host`` or ``host``, for ssh's command line.
        port: Port; None: ssh's default.
    """

    text: str
    login: str
    port: int | None


def parse_destination(text: str) -> Destination:
    """Parse ``user@host``, ``user@host:port`` or a name from ~/.ssh/config; IPv6 addresses are in brackets.

    Raises:
        UsageError: If it is malformed, e.g. if ssh could parse it as an option.
    """
    found = _DESTINATION.fullmatch(text)
    port = int(found["port"]) if found and found["port"] else None
    if not found or (port is not None and not 1 <= port <= 65535):
        raise UsageError(f"{text!r} is not an ssh destination; write ssh:user@host or ssh:user@host:port.")
    host = found["host"].strip("[]")
    return Destination(text, f"{found['user']}@{host}" if found["user"] else host, port)


class SshDevice(Device):
    """A machine reached by ssh. The constructor opens the connection.

    Args:
        destination: The machine.
        parent: Folder on it in which temporary folders are made; None: /tmp.

    Raises:
        DeviceError: If it cannot be reached; the message says what to do.
    """

    def __init__(self, destination: Destination, parent: str | None = None) -> None:
        self.name, self.parent = f"ssh:{destination.text}", parent or "/tmp"
        ssh = shutil.which("ssh")
        if ssh is None:
            raise DeviceError("ssh is not installed: apt install openssh-client.")
        # The path of a socket may have 104 bytes only, and TMPDIR may be longer.
        base = tempfile.gettempdir()
        self._folder = tempfile.mkdtemp(prefix="bdd-", dir=base if len(base) < 60 else "/tmp")
        options = {**_OPTIONS, "ControlPath": f"{self._folder}/s"}
        self._ssh = [ssh, *(f"-o{k}={v}" for k, v in options.items())]
        if destination.port is not None:
            self._ssh += ["-p", str(destination.port)]
        self._to = ["--", destination.login]
        try:
            self._open()
        except BaseException:
            self.close()
            raise

    def _open(self) -> None:
        # -f sends ssh to the background after authentication, when this call returns. Its standard error must be a
        # file: a pipe would stay open as long as the connection.
        said = Path(self._folder) / "said"
        with said.open("wb") as stream:
            command = [*self._ssh, "-oControlMaster=yes", "-oControlPersist=yes", "-f", "-N", *self._to]
            try:
                done = subprocess.run(
                    command, stdin=subprocess.DEVNULL, stdout=stream, stderr=stream, timeout=60, check=False,
                    start_new_session=True,
                )  # fmt: skip
            except subprocess.TimeoutExpired:
                raise DeviceError(f"{self.name} did not answer within 60 s.") from None
        if done.returncode:
            raise self._refusal(said.read_text(errors="replace"))

    def _refusal(self, text: str) -> DeviceError:
        low, host = text.lower(), self._to[-1]
        if "could not resolve hostname" in low:
            return DeviceError(
                f"{self.name}: no such host is known. Check the name, and that the device is on this network."
            )
        if "identification has changed" in low:
            return DeviceError(
                f"{self.name}: its host key is not the one known so far. If the device was reinstalled, run "
                f"`ssh-keygen -R HOST` and log in once with `ssh {host}`; otherwise the connection may be intercepted."
            )
        if "host key verification failed" in low or "host key is known" in low:
            return DeviceError(
                f"{self.name}: its host key is not known yet. Log in once with `ssh {host}` and confirm the key."
            )
        if "permission denied" in low or "too many authentication failures" in low:
            return DeviceError(
                f"{self.name}: login refused. A key is needed, because bdd does not prompt for passwords: run "
                f"`ssh-copy-id {host}`, or start ssh-agent and run `ssh-add`."
            )
        if "connection refused" in low:
            return DeviceError(
                f"{self.name}: connection refused. Start its ssh server, or give the port (ssh:user@host:port)."
            )
        if any(words in low for words in ("timed out", "no route to host", "unreachable")):
            return DeviceError(
                f"{self.name}: cannot be reached ({last_line(text)}). Check that it is switched on and on this network."
            )
        return DeviceError(f"{self.name}: ssh failed: {last_line(text) or 'no message'}.")

    def command(self, script: str) -> list[str]:
        """Return the `ssh` command, with the script quoted for any login shell."""
        return [*self._ssh, "-oControlMaster=no", *self._to, f"exec sh -c {shlex.quote(script)}"]

    def failure(self, done: subprocess.CompletedProcess[bytes]) -> DeviceError:
        """Interpret ssh's error message on an open connection."""
        text = done.stderr.decode(errors="replace")
        if done.returncode == 127 or "not found" in text:
            return DeviceError(f"{self.name} has no POSIX shell: {last_line(text)}.")
        if done.returncode == 255:
            return DeviceGoneError(self.gone())
        return DeviceError(
            f"{self.name} does not run commands: {last_line(text) or f'exit code {done.returncode}'}."
        )

    def push(self, local: Path, remote: str) -> None:
        """Copy a file to the device."""
        script = f"cat > {shlex.quote(remote)} && echo bdd-$(wc -c < {shlex.quote(remote)})-"
        done = run_locally(self.command(script), 600, self.name, stdin=local)
        out, err = (part.decode(errors="replace") for part in (done.stdout, done.stderr))
        if done.returncode == 255 and not out.strip():
            raise self.failure(done)
        size = re.search(r"bdd-\s*(\d+)-", out)
        if done.returncode or not size or int(size[1]) != local.stat().st_size:
            words = err or f"{size[1] if size else 'no'} bytes arrived"
            raise refused(
                f"{local.name} could not be copied to {self.name}", Done(done.returncode, "", words)
            )

    def start(self, script: str, folder: str) -> subprocess.Popen[str]:
        """Start a command whose standard input and output are pipes.

        Args:
            script: The command.
            folder: The temporary folder; deleting it ends the command.
        """
        return subprocess.Popen(
            self.command(f"export {MARK}={folder}; exec {script}"),
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
            start_new_session=True,
        )  # fmt: skip

    def reconnect(self) -> None:
        """Reconnect after the connection broke."""
        self._exit()
        self._open()

    def close(self) -> None:
        """End the connection."""
        self._exit()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _exit(self) -> None:
        if os.path.exists(f"{self._folder}/s"):  # noqa: PTH110 (a socket)
            run_locally([*self._ssh, "-O", "exit", *self._to], 15, self.name)
        Path(self._folder, "s").unlink(missing_ok=True)
