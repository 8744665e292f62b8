"""`bdd serve` as a command: addresses, names, signals, wrong usage."""

import re
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from bdd_tf.cli import main
from bdd_tf.errors import UsageError
from bdd_tf.service.middleware import Hosts, is_loopback
from bdd_tf.service.server import bind
from tests.service.serving import MODEL, ROOT, Server, read_answer


def listening(server):
    """The addresses that the process listens on, from the kernel."""
    inodes = {name[8:-1] for name in server.open_files() if name.startswith("socket:")}
    found = []
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A" and fields[9] in inodes:
                found.append(fields[1])
    return found


def test_it_listens_on_loopback_alone_unless_told_otherwise(server):
    assert listening(server) == [f"0100007F:{server.port:04X}"]  # 127.0.0.1
    assert "warning" not in server.said


def test_elsewhere_it_warns_and_answers_to_addresses_and_names_it_was_given():
    with Server("--host", "0.0.0.0", "--allow-host", "Scanner.Local") as server:
        assert listening(server) == [f"00000000:{server.port:04X}"]
        for host, allowed in [
            ("127.0.0.1", True), ("192.168.7.9:8000", True), ("[fe80::1]:8000", True), ("localhost", True),
            ("scanner.local:80", True), ("SCANNER.LOCAL.", True), ("evil.example", False), ("127.0.0.1.evil.example", False),
            ("", False), ("a b", False), ("localhost@evil.example", False),
        ]:  # fmt: skip
            status = server.request("GET", "/healthz", headers={"Host": host})[0]
            assert (status == 200) is allowed, host
    server.end()
    assert re.search(r"warning: bound to 0\.0\.0\.0: anyone who can reach this machine", server.said)


def test_names_of_hosts():
    hosts = Hosts("127.0.0.1")
    for name in ("127.0.0.1", "127.0.0.1:8000", "localhost:1", "LOCALHOST", "[::1]:80", "[::1]"):
        assert hosts.allow(name)
    for name in (
        "192.168.7.9",
        "localhost:http",
        "localhost:123456",
        "[::1",
        "::1]:80",
        "evil",
        "127.0.0.1/",
        "é",
    ):
        assert not hosts.allow(name)
    assert Hosts("pi.lan").allow("pi.lan:8000")
    assert is_loopback("127.3.4.5")
    assert is_loopback("::1")
    assert not is_loopback("0.0.0.0")
    assert not is_loopback("192.168.7.9")


def test_a_request_without_a_host_or_with_two_is_refused(server):
    for lines in (b"GET / HTTP/1.0\r\n\r\n", b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nHost: evil\r\n\r\n"):
        connection = server.socket()
        connection.sendall(lines)
        assert connection.recv(100).split()[1] == b"400"
        connection.close()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_on_a_signal_it_ends_after_requests_in_progress(number, photo):
    with Server() as server:
        content = photo.read_bytes()
        connection = server.connect()
        connection.putrequest("POST", "/api/detect")
        connection.putheader("Content-Length", str(len(content)))
        connection.endheaders(content[:100])
        time.sleep(0.3)
        kept = server.socket()
        threading.Timer(0.5, server.process.send_signal, [number]).start()
        time.sleep(1)
        with pytest.raises(OSError):  # noqa: PT011 (nothing listens any more)
            server.socket()
        connection.send(content[100:])
        assert connection.getresponse().status == 200
        started = time.monotonic()
        assert server.end() == 0
        assert time.monotonic() - started < 5
        kept.close()
    assert server.said.rstrip().endswith("bdd: stopped.")
    assert "Traceback" not in server.said


def test_an_upload_that_never_ends_does_not_keep_it_from_ending(tight, photo):
    server = tight(shutdown_seconds=1, pause_seconds=30)
    connection = server.socket()
    connection.sendall(b"POST /api/detect HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\nabc")
    time.sleep(0.3)
    started = time.monotonic()
    server.process.send_signal(signal.SIGTERM)
    assert server.end() == 0
    assert time.monotonic() - started < 5
    assert "Traceback" not in server.said
    status, said = read_answer(connection)
    assert (status, b"is shutting down" in said) == (503, True)
    connection.close()


def serve(*options):
    return subprocess.run(
        [sys.executable, "-m", "bdd_tf.cli", "serve", "--model", str(MODEL), *options],
        capture_output=True, text=True, timeout=60, check=False, env={"PYTHONPATH": str(ROOT)},
    )  # fmt: skip


def test_a_port_in_use_is_one_sentence(server):
    done = serve("--port", str(server.port))
    assert done.returncode == 1
    error = [line for line in done.stderr.splitlines() if line.startswith("bdd: error: ")]
    assert len(error) == 1
    assert f"port {server.port} of 127.0.0.1 is in use" in error[0]
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("host", ["nonesuch.invalid", "203.0.113.7", "a" * 300, "ü..x"])
def test_addresses_that_are_not_here_are_wrong_usage(host):
    with pytest.raises(UsageError, match="not an address"):
        bind(host, 0)


def test_ipv6_and_names_can_be_bound():
    if socket.has_ipv6:
        with bind("::1", 0) as bound:
            assert bound.getsockname()[0] == "::1"
    with bind("localhost", 0) as bound:
        assert is_loopback(bound.getsockname()[0])


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--port", "70000"], "--port is 70000"),
        (["--workers", "0"], "--workers is 0"),
        (["--queue", "-1"], "--queue is -1"),
        (["--max-upload", "nan"], "--max-upload is nan"),
        (["--max-upload", "0"], "--max-upload is 0"),
        (["--max-megapixels", "101"], "between 1e-06 and 100"),
        (["--upload-timeout", "inf"], "--upload-timeout is inf"),
        (["--threads", "0"], "--threads is 0; it must be between 1 and 64"),
        (["--engine", "onnx"], "litert"),
        (["--model", "missing.tflite"], "no such model"),
    ],
)
def test_wrong_usage_is_exit_code_2(options, said, capsys):
    assert main(["serve", "--model", str(MODEL), *options]) == 2
    assert said in capsys.readouterr().err


def test_the_extra_is_named_when_it_is_missing(tmp_path):
    (tmp_path / "starlette.py").write_text("raise ModuleNotFoundError('gone', name='starlette')")
    done = subprocess.run(
        [sys.executable, "-m", "bdd_tf.cli", "serve"], capture_output=True, text=True, check=False,
        env={"PYTHONPATH": f"{tmp_path}:{ROOT}"},
    )  # fmt: skip
    assert done.returncode == 1
    assert "pip install 'bdd_tf[serve]'" in done.stderr


def test_the_edge_loads_none_of_it():
    code = (
        "import sys, bdd_tf.edge.detect.score, bdd_tf.edge.images.channel_images, bdd_tf.cli\n"
        "sys.exit(any(name in sys.modules for name in ('starlette', 'uvicorn', 'anyio', 'tensorflow')))"
    )
    assert (
        subprocess.run([sys.executable, "-c", code], check=False, env={"PYTHONPATH": str(ROOT)}).returncode
        == 0
    )


def test_the_service_loads_no_tensorflow(server):
    maps = Path(f"/proc/{server.process.pid}/maps").read_text()
    assert "libbdd_lce" in maps
    assert "/tensorflow/" not in maps
    assert "ai_edge_litert" not in maps
