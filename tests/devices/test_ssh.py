"""The SSH route against a real sshd on loopback: our runtime really measured, LCE's tool by a stand-in."""

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from PIL import Image

from bdd_tf.cli import main
from bdd_tf.devices.base import MARK, DeviceError
from bdd_tf.devices.ssh import SshDevice, parse_destination
from bdd_tf.edge.runtime import available_kernels
from tests.devices.loopback import (
    MODEL,
    faulty_tool,
    program,
    start_endless_benchmark,
    start_sshd,
    stop,
    use_config,
)

CONTRACT = {"name", "engine", "kernels", "threads", "median_ms", "p90_ms", "ratio", "bytes", "peak_mib"}
TOOL = ["--against", "lce", "--threads", "1", "--rounds", "1", "--model", str(MODEL)]
OURS = ["--against", "none", "--threads", "1", "--rounds", "1", "--model", str(MODEL)]


def bench(server, *arguments, python=sys.executable):
    more = ["--device-python", python] if python else []
    where = ["--device", f"ssh:{server.destination}", "--device-folder", str(server.folder)]
    return main(["benchmark", *where, *more, *arguments])


def still_running(server):
    """Processes of ours that the "device" still runs."""
    found = []
    for path in Path("/proc").glob("[0-9]*/environ"):
        try:
            if f"{MARK}={server.folder}".encode() in path.read_bytes():
                found.append(path.parent.name)
        except OSError:
            pass
    return found


def test_both_engines_side_by_side(ssh, stand_in, tmp_path, capsys):
    out = tmp_path / "out"
    args = [
        "--model",
        str(MODEL),
        "--against",
        "lce",
        "--threads",
        "1,2",
        "--rounds",
        "2",
        "--output",
        str(out),
    ]
    assert bench(ssh, *args, "--json") == 0
    said = capsys.readouterr()
    lines = [json.loads(line) for line in said.out.splitlines()]
    assert all(set(line) >= CONTRACT for line in lines)
    threads = [t for t in (1, 2) if t <= len(os.sched_getaffinity(0))]
    sets = [k for k in available_kernels() if k != "scalar"] or ["scalar"]
    expected = [("litert", k, t) for t in threads for k in sets]
    expected += [("lce", mode, t) for t in threads for mode in ("default", "indirect")]
    assert [(r["engine"], r["kernels"], r["threads"]) for r in lines] == expected
    for r in lines:
        assert 0 < r["min_ms"] <= r["median_ms"] <= r["p90_ms"] <= r["max_ms"]
        assert r["ratio"] == pytest.approx(r["median_ms"] / lines[0]["median_ms"], rel=0.01)
        assert r["bytes"] == MODEL.stat().st_size
    ours = [r for r in lines if r["engine"] == "litert"]
    # Really measured: times differ from run to run, and the memory is that of a Python with LiteRT in it.
    assert all(r["min_ms"] < r["max_ms"] and 20 < r["peak_mib"] < 500 for r in ours)
    tool = next(r for r in lines if r["engine"] == "lce")
    # The stand-in's made-up times: 2000 us and one more for each kB, then 10 and 20 more.
    base = (2000 + MODEL.stat().st_size // 1000) / 1e3
    assert (tool["min_ms"], tool["median_ms"], tool["max_ms"]) == pytest.approx(
        (base, base + 0.01, base + 0.02)
    )
    assert (tool["runs"], tool["peak_mib"], tool["init_ms"]) == (6, 17.2, 12.345)
    assert "LceBconv2d" in said.err
    assert ssh.left() == []
    assert still_running(ssh) == []
    document = json.loads((out / "benchmark.json").read_text())
    assert document["device"]["lce_tool"]["file"].endswith("lce_stand_in.py")
    assert len(document["device"]["conditions"]) == 3  # before, and after each round
    assert len(document["operators"]) == 2 * len(threads)
    with (out / "benchmark.csv").open() as stream:
        assert len(list(csv.DictReader(stream))) == len(lines)
    assert Image.open(out / "benchmark.png").size[0] > 500


def test_without_the_tool_our_runtime_is_measured_and_it_is_said(ssh, monkeypatch, capsys):
    monkeypatch.delenv("LCE_BENCHMARK", raising=False)
    # x86-64: LCE has no tool for that. Nobody else is installed, so to say.
    monkeypatch.setattr("bdd_tf.benchmark.on_device.installed", list)
    assert bench(ssh, "--threads", "1", "--rounds", "1", "--model", str(MODEL), "--csv") == 0
    said = capsys.readouterr()
    assert "left out: LCE offers no benchmark tool" in said.err
    rows = list(csv.DictReader(said.out.splitlines()))
    assert {row["engine"] for row in rows} == {"litert"}
    assert all(float(row["median_ms"]) > 0 for row in rows)


def test_without_our_runtime_the_tool_measures_and_it_is_said(ssh, stand_in, tmp_path, monkeypatch, capsys):
    # The device's own python3 is an old one.
    shims = tmp_path / "old"
    shims.mkdir()
    program(shims, "python3", '#!/bin/sh\necho \'{"version": [3, 9, 2], "bits": 64, "missing": []}\'\n')
    command = SshDevice.command
    monkeypatch.setattr(
        SshDevice, "command", lambda self, script: command(self, f"PATH={shims}:$PATH; {script}")
    )
    monkeypatch.setenv(
        "LCE_BENCHMARK", str(faulty_tool(tmp_path, f'exec "{sys.executable}" "{stand_in}" "$@"'))
    )
    assert bench(ssh, *TOOL, "--json", python=None) == 0
    said = capsys.readouterr()
    assert "is Python 3.9.2; 3.10 or newer is needed" in said.err
    assert {json.loads(line)["engine"] for line in said.out.splitlines()} == {"lce"}
    assert ssh.left() == []


def test_a_python_without_packages_and_without_network(ssh, tmp_path, capsys):
    bare = tmp_path / "bare"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", bare], check=True)
    assert bench(ssh, *OURS, python=str(bare / "bin" / "python")) == 1
    said = capsys.readouterr().err
    assert "lacks numpy and ai-edge-litert" in said
    assert "pip install numpy ai-edge-litert" in said
    assert ssh.left() == []


def test_pip_without_network_is_told(ssh, monkeypatch, tmp_path, capsys):
    bare = tmp_path / "bare"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", bare], check=True)
    command = SshDevice.command
    monkeypatch.setattr(
        SshDevice, "command", lambda self, script: command(self, f"PATH={bare}/bin:$PATH; {script}")
    )
    assert bench(ssh, *OURS, python=None) == 1
    said = capsys.readouterr().err
    assert "pip on the device could not install it (no network?)" in said
    assert "--device-python" in said
    assert ssh.left() == []


@pytest.mark.parametrize(
    ("python", "said"),
    [
        ("/no/such/python", "has no /no/such/python"),
        ("/bin/ls", "is not a Python"),
        ("it's; exit 3", "has no it's; exit 3"),
    ],
)
def test_a_python_that_is_none(ssh, python, said, capsys):
    assert bench(ssh, *OURS, python=python) == 1
    assert said in capsys.readouterr().err
    assert ssh.left() == []


# Wrong usage: nothing is connected.
@pytest.mark.parametrize(
    "destination",
    ["-oProxyCommand=touch /tmp/x", "me@-oProxyCommand=x", "-l@host", "a b@host", "me@host:0", "me@host:70000", "me@host;id",
     "me@host`id`", "me@$(id)", "me@@host", "", "me@", "me@host:22:22", "me@[::1", "me@ho\nst", "ssh://me@host"],
)  # fmt: skip
def test_destinations_that_are_none(destination, monkeypatch, capsys):
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: pytest.fail("something was run"))
    assert main(["benchmark", "--device", f"ssh:{destination}", *OURS]) == 2
    assert "ssh:user@host" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--device", "phone"], "possible: local, adb"),
        (["--device", "adb:"], "possible: local, adb"),
        (["--device", "ssh:a@b", "--device-folder", "relative"], "absolute path"),
        (["--device", "ssh:a@b", "--device-folder", "/tmp/$(id)"], "absolute path"),
        (["--device", "ssh:a@b", "--device-folder", "/tmp/../etc;"], "absolute path"),
        (["--device", "ssh:a@b", "--device-python=-c"], "path of a Python"),
        (["--device", "ssh:a@b", "--against", "torch"], "this machine only"),
        (["--device", "adb", "--device-python", "python3"], "needs --device ssh"),
        (["--device-python", "python3"], "--device ssh"),
        (["--json", "--csv"], "not allowed"),
    ],
)
def test_wrong_usage(arguments, said, capsys):
    assert main(["benchmark", "--model", str(MODEL), *arguments]) == 2
    assert said in capsys.readouterr().err


def test_unknown_kernels_and_too_many_threads(ssh, capsys):
    assert bench(ssh, *OURS, "--kernels", "mmx") == 2
    assert "unknown kernel set on x86_64 'mmx'; possible: " in capsys.readouterr().err
    assert bench(ssh, "--against", "none", "--threads", "512", "--model", str(MODEL)) == 2
    assert "--threads 512: " in capsys.readouterr().err
    assert ssh.left() == []


# The connection itself.
def test_unknown_host(ssh, capsys):
    assert main(["benchmark", "--device", "ssh:me@no-such-host.invalid", *OURS]) == 1
    assert "no such host is known" in capsys.readouterr().err


def test_nothing_listens(ssh, capsys):
    assert main(["benchmark", "--device", "ssh:me@127.0.0.1:1", *OURS]) == 1
    assert "connection refused" in capsys.readouterr().err


def test_refused_without_its_key(ssh, tmp_path, capsys):
    config = tmp_path / "config"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", tmp_path / "other"], check=True)
    config.write_text(
        ssh.config.read_text().replace(f"IdentityFile {ssh.home}/user", f"IdentityFile {tmp_path}/other")
    )
    use_config(config, tmp_path / "bin")
    assert bench(ssh, *OURS) == 1
    said = capsys.readouterr().err
    assert "login refused" in said
    assert "ssh-copy-id" in said


def test_unknown_and_changed_host_keys(ssh, tmp_path, capsys):
    config, known = tmp_path / "config", tmp_path / "known"
    config.write_text(ssh.config.read_text().replace(f"{ssh.home}/known_hosts", str(known)))
    use_config(config, tmp_path / "bin")
    known.write_text("")
    assert bench(ssh, *OURS) == 1
    assert "host key is not known yet" in capsys.readouterr().err
    other = (ssh.home / "user.pub").read_text().split()[:2]
    known.write_text(f"[127.0.0.1]:{ssh.port} {' '.join(other)}\n")
    assert bench(ssh, *OURS) == 1
    assert "not the one known so far" in capsys.readouterr().err


def test_ssh_is_not_installed(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert main(["benchmark", "--device", "ssh:me@host", *OURS]) == 1
    assert "ssh is not installed" in capsys.readouterr().err


def test_the_connection_breaks_half_way(tmp_path, monkeypatch, capsys, sshd):
    home = tmp_path / "own"
    home.mkdir()
    server = start_sshd(home)
    try:
        use_config(server.config, tmp_path / "bin")
        monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
        # While the tool runs, what carries the connection is killed; the server itself goes on.
        body = (
            "p=$PPID; while [ $p -gt 1 ]; do q=$(sed -n 's/^PPid:[[:space:]]*//p' /proc/$p/status); "
            'case "$(cat /proc/$p/comm)" in sshd*) kill -9 $p; exit;; esac; p=$q; done'
        )
        monkeypatch.setenv("LCE_BENCHMARK", str(faulty_tool(tmp_path, body)))
        assert bench(server, *TOOL) == 1
        assert "broke (unplugged" in capsys.readouterr().err
        assert server.left() == []  # it connected again to clean up
        # Now the server ends as well.
        monkeypatch.setenv("LCE_BENCHMARK", str(faulty_tool(tmp_path, f"kill {server.process.pid}; {body}")))
        assert bench(server, *TOOL) == 1
        said = capsys.readouterr().err
        assert "broke (unplugged" in said
        assert "may still be on" in said
        assert len(server.left()) == 1
    finally:
        stop(server.process)


# Folders and files.
def test_a_folder_where_none_can_be_made(ssh, stand_in, capsys):
    where = ["benchmark", "--device", f"ssh:{ssh.destination}", *TOOL, "--device-folder"]
    assert main([*where, "/sys"]) == 1
    assert "permission denied" in capsys.readouterr().err.lower()
    assert main([*where, f"{ssh.folder}/none"]) == 1
    assert "cannot make a folder in" in capsys.readouterr().err


def test_no_space_is_left(ssh):
    device = SshDevice(parse_destination(ssh.destination), str(ssh.folder))
    try:
        with pytest.raises(DeviceError, match="no space is left on the device"):
            device.push(MODEL, "/dev/full")
    finally:
        device.close()


def test_files_and_odd_names_go_there_and_back(ssh, tmp_path):
    device = SshDevice(parse_destination(ssh.destination), str(ssh.folder))
    folder = device.new_folder()
    try:
        device.make_folder(folder)
        assert ssh.left() == [Path(folder).name]
        assert (Path(folder).stat().st_mode & 0o777) == 0o700
        for i, name in enumerate(["a b", "it's", '$(touch x)";', "-rf", "ü\\n", "line\nbreak"]):
            local = tmp_path / f"{i}"
            local.write_text(f"{name}\n")
            device.push(local, f"{folder}/{name}")
            assert device.pull(f"{folder}/{name}") == f"{name}\n"
        assert len(list(Path(folder).iterdir())) == 6
        (tmp_path / "empty").write_bytes(b"")
        device.push(tmp_path / "empty", f"{folder}/empty")
        done = device.shell("echo out; echo err >&2; printf half; exit 7")
        assert (done.code, done.out, done.err) == (7, "out\nhalf", "err\n")
        with pytest.raises(DeviceError, match="cannot make a folder"):
            device.make_folder(folder)
        with pytest.raises(DeviceError, match="did not answer within 1 s"):
            device.shell("sleep 3", 1)
    finally:
        device.remove(folder)
        device.close()
    assert ssh.left() == []


@pytest.mark.parametrize(
    "folder", ["/", "/tmp", "", "/tmp/bdd-", "/tmp/bdd-abcdef/..", "/tmp/x; rm -rf /", "bdd-abcdef"]
)
def test_nothing_but_our_folders_is_removed(ssh, folder):
    device = SshDevice(parse_destination(ssh.destination), str(ssh.folder))
    try:
        with pytest.raises(DeviceError, match="refusing to delete"):
            device.remove(folder)
    finally:
        device.close()


# The tool, and what a device makes of it: real programs that really do not start.
def damaged(folder, old, new):
    """A copy of a real program with a part exchanged."""
    content = Path(shutil.which("true")).resolve().read_bytes()
    assert content.count(old) >= 1
    path = folder / "damaged"
    path.write_bytes(content.replace(old, new))
    return path


def test_another_architecture_in_the_header(ssh, tmp_path, monkeypatch, capsys):
    path = damaged(tmp_path, b"\x3e\x00\x01\x00\x00\x00", b"\xb7\x00\x01\x00\x00\x00")
    monkeypatch.setenv("LCE_BENCHMARK", str(path))
    assert bench(ssh, *TOOL) == 1
    assert "wrong architecture" in capsys.readouterr().err


def test_a_program_that_the_kernel_refuses(ssh, tmp_path, monkeypatch, capsys):
    path = tmp_path / "odd"
    # No ELF header that we know, none that the kernel takes either.
    path.write_bytes(b"\x7fELF" + bytes(range(200, 256)) * 4)
    monkeypatch.setattr("bdd_tf.benchmark.on_device.find_tool", lambda _: path)
    assert bench(ssh, *TOOL) == 1
    assert "exec format error" in capsys.readouterr().err
    assert ssh.left() == []


def test_a_loader_that_is_not_there(ssh, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv(
        "LCE_BENCHMARK", str(damaged(tmp_path, b"ld-linux-x86-64.so.2", b"ld-linux-x86-64.so.9"))
    )
    assert bench(ssh, *TOOL) == 1
    assert "has no loader for LCE's tool" in capsys.readouterr().err


def test_a_glibc_that_is_too_old(ssh, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("LCE_BENCHMARK", str(damaged(tmp_path, b"GLIBC_2.34", b"GLIBC_9.99")))
    assert bench(ssh, *TOOL) == 1
    assert "too old for LCE's tool: it needs GLIBC_9.99" in capsys.readouterr().err


def test_a_library_that_is_not_there(ssh, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("LCE_BENCHMARK", str(damaged(tmp_path, b"libc.so.6", b"libc.so.9")))
    assert bench(ssh, *TOOL) == 1
    assert "lacks a library" in capsys.readouterr().err


def test_a_tool_that_fails_on_the_model_is_a_line_and_an_exit_code(ssh, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("LCE_BENCHMARK", str(faulty_tool(tmp_path, "kill -SEGV $$")))
    assert bench(ssh, *TOOL) == 1
    printed = capsys.readouterr()
    said = "the tool crashed (SIGSEGV)"
    assert said in printed.out  # a line of the table next to our runtime, which is measured
    assert said in printed.err
    assert " 1.00 " in printed.out
    assert ssh.left() == []


# Stopped half-way.
def test_ctrl_c_half_way_leaves_nothing(ssh, tmp_path):
    where = ["--device", f"ssh:{ssh.destination}", "--device-folder", str(ssh.folder)]
    process = start_endless_benchmark(tmp_path, *where, "--device-python", sys.executable, *TOOL)
    assert len(ssh.left()) == 1
    assert still_running(ssh)
    os.killpg(process.pid, signal.SIGINT)
    time.sleep(0.3)
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGINT)  # an impatient user
    _, said = process.communicate(timeout=30)
    assert (process.returncode, "bdd: stopped." in said) == (130, True), said
    assert ssh.left() == []
    assert still_running(ssh) == []
