import hashlib
import struct
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from bdd_tf.devices.base import DeviceError
from bdd_tf.devices.lce_tool import find_tool, tool_folder
from bdd_tf.devices.probe import Facts
from bdd_tf.errors import UsageError

PI = Facts("aarch64", "Pi", False, {0: 0}, True)
PHONE = Facts("aarch64", "Phone", True, {0: 0}, True)


def elf(machine, extra=b""):
    return b"\x7fELF" + bytes(12) + struct.pack("<HH", 2, machine) + extra


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("BDD_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("LCE_BENCHMARK", raising=False)
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def release():
    """A server with assets; ``asked`` lists what was fetched."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            server.asked.append(self.path)
            content = server.assets.get(self.path)
            self.send_response(200 if content is not None else 404)
            self.end_headers()
            self.wfile.write(content or b"")

        def log_message(self, *_):
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    server.asked, server.assets = [], {
        "/lce_benchmark_model_aarch64": elf(183), "/lce_benchmark_model_android_arm64": elf(183, b"android"),
        "/lce_benchmark_model_aarch32": b"<html>sign in</html>",
    }  # fmt: skip
    server.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()


def test_it_is_fetched_once_and_its_checksum_is_stored_next_to_it(release):
    path = find_tool(PI, release.url)
    assert path.read_bytes() == elf(183)
    beside = path.with_name(path.name + ".sha256").read_text()
    assert beside.split() == [hashlib.sha256(elf(183)).hexdigest(), path.name]
    assert find_tool(PI, release.url) == path
    assert release.asked == ["/lce_benchmark_model_aarch64"]
    assert find_tool(PHONE, release.url).read_bytes().endswith(b"android")


def test_a_file_that_changed_is_not_run(release):
    path = find_tool(PI, release.url)
    path.write_bytes(elf(183, b"something else"))
    with pytest.raises(DeviceError, match=r"SHA-256.*delete both"):
        find_tool(PI, release.url)
    path.unlink()
    path.with_name(path.name + ".sha256").unlink()
    assert find_tool(PI, release.url).read_bytes() == elf(183)


def test_without_network_it_names_the_address_and_the_remedy():
    closed = "http://127.0.0.1:9/x"
    with pytest.raises(
        DeviceError, match=r"127.0.0.1:9/x/lce_benchmark_model_aarch64.*LCE_BENCHMARK=path"
    ) as said:
        find_tool(PI, closed)
    # Its advice works: the file put there by hand is taken, and must stay as it is from then on.
    place = tool_folder() / "lce_benchmark_model_aarch64"
    assert str(place) in str(said.value)
    place.parent.mkdir(parents=True)
    place.write_bytes(elf(183))
    assert find_tool(PI, closed) == place
    place.write_bytes(elf(183, b"other"))
    with pytest.raises(DeviceError, match="SHA-256"):
        find_tool(PI, closed)


def test_a_download_must_be_a_program(release):
    with pytest.raises(DeviceError, match="is not a program"):
        find_tool(Facts("armv7l", "Pi", False, {0: 0}, True), release.url)
    assert not any(tool_folder().glob("*"))
    with pytest.raises(DeviceError, match=r"could not be downloaded.*Not Found"):
        find_tool(PI, f"{release.url}/none")


@pytest.mark.parametrize(
    ("machine", "android"), [("x86_64", False), ("armv6l", False), ("armv7l", True), ("", False)]
)
def test_machines_that_lce_has_nothing_for(machine, android):
    with pytest.raises(DeviceError, match=r"offers no benchmark tool.*LCE_BENCHMARK"):
        find_tool(Facts(machine, "", android, {0: 0}, True))


def test_ones_own(tmp_path, monkeypatch):
    own = tmp_path / "tool"
    monkeypatch.setenv("LCE_BENCHMARK", str(own))
    with pytest.raises(UsageError, match="not a file"):
        find_tool(PI)
    own.write_bytes(elf(183))
    assert find_tool(PI) == own
    own.write_bytes(elf(62))
    with pytest.raises(DeviceError, match=r"x86-64.*aarch64: wrong architecture"):
        find_tool(PI)
    own.write_text("#!/bin/sh\n")
    assert find_tool(PI) == own
