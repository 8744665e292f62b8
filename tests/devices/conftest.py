import os
import shutil
import subprocess
import sys

import pytest

from tests.devices.loopback import HERE, SSHD, STAND_IN, Phones, program, start_sshd, stop, use_config


@pytest.fixture(scope="session")
def sshd(tmp_path_factory):
    if SSHD is None or shutil.which("ssh") is None:
        pytest.skip("no sshd: apt-get install openssh-server")
    # Paths with a space would end an sshd_config line; pytest makes none.
    # pip there shall find nothing, with or without a network.
    server = start_sshd(
        tmp_path_factory.mktemp("sshd"),
        "SetEnv PIP_NO_INDEX=1 PIP_FIND_LINKS= PIP_CONFIG_FILE=/dev/null HOME=/nonexistent",
    )
    yield server
    stop(server.process)


@pytest.fixture
def ssh(sshd, tmp_path, monkeypatch):
    """The server, reached with its own key by an unchanged `bdd`; its folder is empty before."""
    use_config(sshd.config, tmp_path / "bin")
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    assert sshd.left() == []
    return sshd


@pytest.fixture(scope="session")
def stand_in_file(tmp_path_factory):
    """The stand-in with a Python that starts quickly."""
    text = STAND_IN.read_text().replace("/usr/bin/env python3", f"{sys.executable} -IS", 1)
    return program(tmp_path_factory.mktemp("tool"), STAND_IN.name, text)


@pytest.fixture
def stand_in(stand_in_file, monkeypatch):
    monkeypatch.setenv("LCE_BENCHMARK", str(stand_in_file))
    return stand_in_file


@pytest.fixture
def phones(tmp_path, monkeypatch):
    folder = tmp_path / "bin"
    folder.mkdir()
    text = (HERE / "adb_stand_in.py").read_text().replace("/usr/bin/env python3", f"{sys.executable} -IS", 1)
    program(folder, "adb", text)
    made = Phones(tmp_path)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    monkeypatch.setenv("ADB_STAND_IN", str(made.state))
    return made


@pytest.fixture
def real_adb(tmp_path, monkeypatch):
    """The same devices behind the real adb program, by a server of our own."""
    from tests.devices.adb_server import VERSION, Server

    adb = shutil.which("adb")
    if adb is None:
        pytest.skip("no adb: apt-get install adb")
    said = subprocess.run([adb, "version"], capture_output=True, text=True, check=True).stdout
    if f"1.0.{VERSION}" not in said:
        pytest.skip(f"adb is another one than 1.0.{VERSION}: {said.splitlines()[0]}")
    server = Server(Phones(tmp_path))
    monkeypatch.setenv("ANDROID_ADB_SERVER_PORT", str(server.server_address[1]))
    monkeypatch.delenv("ANDROID_SERIAL", raising=False)
    yield server
    server.shutdown()
    server.server_close()
