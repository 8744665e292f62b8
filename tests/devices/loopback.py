"""An ssh server of our own on loopback, and an Android device made of a folder."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from bdd_tf.edge.shipped_model import shipped_model

HERE = Path(__file__).parent
ROOT = Path(__file__).resolve().parents[2]
SSHD = shutil.which("sshd", path=f"{os.environ['PATH']}:/usr/sbin:/sbin")
STAND_IN = HERE / "lce_stand_in.py"
MODEL = shipped_model("cifake")


@dataclass
class Server:
    """An sshd: where to, where its user's folders are made, its process."""

    port: int
    user: str
    home: Path
    folder: Path
    config: Path
    process: subprocess.Popen

    @property
    def destination(self):
        return f"{self.user}@127.0.0.1:{self.port}"

    def left(self):
        """What is left of ours on the "device"."""
        return sorted(p.name for p in self.folder.iterdir())


def start_sshd(home, *more):
    """Start an sshd that knows one key and listens on loopback; ends with the process that `stop` ends."""
    for name in ("host", "user"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", home / name], check=True)
    (home / "authorized_keys").write_text((home / "user.pub").read_text())
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    lines = [
        f"Port {port}", "ListenAddress 127.0.0.1", f"HostKey {home}/host", f"PidFile {home}/pid", "UsePAM no",
        f"AuthorizedKeysFile {home}/authorized_keys", "StrictModes no", "PasswordAuthentication no",
        "KbdInteractiveAuthentication no", "PermitRootLogin prohibit-password", "LogLevel ERROR", *more,
    ]  # fmt: skip
    (home / "sshd_config").write_text("\n".join(lines) + "\n")
    if os.getuid() == 0:
        Path("/run/sshd").mkdir(exist_ok=True)  # its privilege separation wants it
    log = (home / "sshd.log").open("wb")
    process = subprocess.Popen(
        [SSHD, "-D", "-e", "-f", home / "sshd_config"], stdin=subprocess.DEVNULL, stdout=log, stderr=log
    )
    for _ in range(100):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                break
        if process.poll() is not None:
            pytest.fail(f"sshd did not start: {(home / 'sshd.log').read_text()}")
        time.sleep(0.05)
    host = (home / "host.pub").read_text().split()[:2]
    (home / "known_hosts").write_text(f"[127.0.0.1]:{port} {' '.join(host)}\n")
    config = home / "ssh_config"
    config.write_text(
        f"IdentityFile {home}/user\nIdentitiesOnly yes\nUserKnownHostsFile {home}/known_hosts\nGlobalKnownHostsFile none\n"
    )
    folder = home / "device"
    folder.mkdir()
    user = subprocess.run(["id", "-un"], capture_output=True, text=True, check=True).stdout.strip()
    return Server(port, user, home, folder, config, process)


def stop(process):
    process.terminate()
    process.wait(10)


def program(folder, name, text):
    """Write an executable script."""
    path = folder / name
    path.write_text(text)
    path.chmod(0o755)
    return path


def use_config(config, folder):
    """An `ssh` earlier on the PATH than the system's that uses this configuration instead of the user's."""
    folder.mkdir(exist_ok=True)
    return program(
        folder, "ssh", f'#!/bin/sh\nexec {shutil.which("ssh", path=os.defpath)} -F {config} "$@"\n'
    )


class Phones:
    """Android devices for the adb stand-in."""

    def __init__(self, folder):
        self.folder = folder
        self.state = folder / "phones.json"
        self.root = folder / "data"
        self.root.mkdir()
        self.shims = folder / "shims"
        self.shims.mkdir()
        program(self.shims, "uname", "#!/bin/sh\necho aarch64\n")
        values = {"ro.product.cpu.abi": "arm64-v8a", "ro.product.manufacturer": "Maker", "ro.product.model": "Phone",
                  "ro.build.version.release": "14"}  # fmt: skip
        cases = " ".join(f"{key}) echo {value};;" for key, value in values.items())
        program(self.shims, "getprop", f'#!/bin/sh\ncase "$1" in {cases} esac\n')
        self.set(PHONE1="device")

    def set(self, **devices):
        """Attach devices: serial and state; ``unplug=n``: gone at the n-th command."""
        unplug = devices.pop("unplug", None)
        refuse = devices.pop("refuse", None)
        self.state.write_text(
            json.dumps(
                {
                    "devices": devices,
                    "unplug": unplug,
                    "refuse": refuse,
                    "root": str(self.root),
                    "shims": str(self.shims),
                }
            )
        )

    def left(self):
        return sorted(p.name for p in self.root.iterdir())


def faulty_tool(folder, body):
    """A tool that answers --help like LCE's and then does what the shell script says."""
    text = (
        f'#!/bin/sh\ncase "$*" in *--help*) exec "{sys.executable}" -IS "{STAND_IN}" --help;; esac\n{body}\n'
    )
    return program(folder, "faulty", text)


def start_endless_benchmark(folder, *options):
    """Start `bdd benchmark` with a tool that does not end, and wait until the tool runs or the process has ended."""
    tool = faulty_tool(folder, f"touch {folder}/runs; sleep 300; true")
    process = subprocess.Popen(
        [sys.executable, "-m", "bdd_tf.cli", "benchmark", *options], start_new_session=True,
        env={**os.environ, "LCE_BENCHMARK": str(tool), "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),  # whatever started pytest ignores it
    )  # fmt: skip
    for _ in range(600):
        if (folder / "runs").exists() or process.poll() is not None:
            break
        time.sleep(0.05)
    return process
