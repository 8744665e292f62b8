"""Fetching of URLs: the limits, and the addresses that are refused."""

import socket
import ssl
import subprocess
import time

import pytest

from bdd_tf.edge.detect.fetch import Fetcher, is_public
from bdd_tf.edge.detect.urls import is_url, without_password
from bdd_tf.edge.images.errors import ImageError
from tests.edge.detect.loopback_internet import NAMES, PUBLIC, Loopback, serving


@pytest.fixture(scope="module")
def running():
    with serving() as server:
        yield server


@pytest.fixture
def server(running):
    running.answers.clear()
    running.seen.clear()
    running.answers["/a"] = 200, {"Content-Length": "5"}, b"image"
    return running


@pytest.fixture
def fetcher(server):
    return Fetcher(limit=1000, seconds=5, redirects=3, network=Loopback(server.server_port))


def refusal(fetcher, url, tmp_path):
    with pytest.raises(ImageError) as caught:
        fetcher.fetch(url, tmp_path / "f")
    return str(caught.value)


@pytest.mark.parametrize(
    "address",
    """127.0.0.1 127.9.9.9 0.0.0.0 10.0.0.1 172.16.0.1 172.31.255.255 192.168.1.1 169.254.169.254 100.64.0.1 192.0.0.8
    192.0.2.1 192.88.99.1 198.18.0.1 203.0.113.1 224.0.0.1 240.0.0.1 255.255.255.255 168.63.129.16
    :: ::1 ::127.0.0.1 ::ffff:127.0.0.1 ::ffff:10.0.0.1 ::ffff:169.254.169.254 64:ff9b::10.0.0.1 64:ff9b::127.0.0.1
    64:ff9b:1::1 2002:7f00:1:: 2001::1 2001:db8::1 3fff::1 5f00::1 fe80::1 fe80::1%lo fec0::1 fc00::1 fd00:ec2::254 ff02::1
    ff0e::1""".split(),
)
def test_addresses_inside_of_networks_are_not_public(address):
    assert not is_public(address)


@pytest.mark.parametrize(
    "address",
    [
        PUBLIC,
        "8.8.8.8",
        "172.32.0.1",
        "2606:4700::1111",
        "::ffff:8.8.8.8",
        "64:ff9b::8.8.8.8",
        "2a00:1450::1",
    ],
)
def test_addresses_of_the_internet_are_public(address):
    assert is_public(address)


@pytest.mark.parametrize(
    "host",
    """127.0.0.1 127.1 2130706433 0x7f000001 0177.0.0.1 0 localhost [::1] [::ffff:127.0.0.1] [::ffff:7f00:1] inner.test
    both.test metadata.test mapped.test 169.254.169.254 192.168.0.1""".split(),
)
def test_hosts_that_lead_inside_are_refused_unasked(fetcher, server, tmp_path, host):
    assert "is not public" in refusal(fetcher, f"http://{host}:{server.server_port}/a", tmp_path)
    assert fetcher.network.connected == []
    assert server.seen == []


def test_a_file_is_fetched_from_the_address_that_was_checked(fetcher, server, tmp_path):
    fetcher.fetch("http://example.test:8080/a#part", tmp_path / "f")
    assert (tmp_path / "f").read_bytes() == b"image"
    assert fetcher.network.connected == [(PUBLIC, 8080)]
    path, headers = server.seen[0]
    assert path == "/a"
    assert headers["Host"] == "example.test:8080"
    assert not {"Cookie", "Authorization", "Referer"} & set(headers)


def test_the_name_is_resolved_once(fetcher, tmp_path, monkeypatch):
    answers = [[PUBLIC], ["127.0.0.1"]]
    monkeypatch.setattr(fetcher.network, "resolve", lambda host, port: answers.pop(0))
    fetcher.fetch("http://rebinding.test/a", tmp_path / "f")
    assert answers == [["127.0.0.1"]]
    assert fetcher.network.connected == [(PUBLIC, 80)]


def test_the_next_address_is_tried(fetcher, tmp_path):
    fetcher.fetch("http://six.test/a", tmp_path / "f")
    assert [address for address, _ in fetcher.network.connected] == NAMES["six.test"]


def test_odd_characters_are_encoded_and_encoded_ones_remain(fetcher, server, tmp_path):
    for path in ("/d%20%C3%A9/x.png?a=%2F&b=c+d", "/?q"):
        server.answers[path] = server.answers["/a"]
    fetcher.fetch("http://example.test/d é/x.png?a=%2F&b=c+d", tmp_path / "f")
    fetcher.fetch("HTTP://EXAMPLE.test?q", tmp_path / "f")
    fetcher.fetch("http://bücher.test/a", tmp_path / "f")
    assert server.seen[-1][1]["Host"] == "xn--bcher-kva.test"


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("ftp://example.test/a", "its scheme is ftp; http and https are possible"),
        ("file:///etc/passwd", "its scheme is file"),
        ("http://u:secret@example.test/a", "a user name or a password"),
        ("http://@example.test/a", "a user name or a password"),
        ("http:///a", "not a valid URL"),
        ("http://[::1/a", "not a valid URL"),
        ("http://[fe80::1%25lo]/a", "not a valid URL"),
        ("http://example.test:99999/a", "not a valid URL"),
        ("http://example.test\\@10.0.0.1/a", "a user name or a password"),
        ("http://example.test\\.10.0.0.1/a", "not a valid URL"),
        ("http://example.test/a\r\nHost: b", "not a valid URL"),
        ("http://" + "a" * 70 + ".test/", "not a valid URL"),
        ("http://nowhere.invalid/a", "the host nowhere.invalid is not known"),
        ("http://example.test/nothing", "the server answers 404 (Not Found)"),
    ],
)
def test_refusals_are_one_sentence(fetcher, tmp_path, url, message, monkeypatch):
    def resolve(host, port):
        if host not in NAMES:
            raise socket.gaierror("unknown")
        return NAMES[host]

    monkeypatch.setattr(fetcher.network, "resolve", resolve)
    text = refusal(fetcher, url, tmp_path)
    assert message in text
    assert "secret" not in text


def redirect(to, status=302):
    return status, {"Location": to, "Content-Length": "0"}, b""


def test_redirects_are_followed_and_each_hop_is_checked(fetcher, server, tmp_path):
    for number, status in enumerate((301, 303, 308)):
        server.answers[f"/{number}"] = redirect(f"/{number + 1}", status)
    server.answers["/3"] = 200, {}, b"there"
    fetcher.fetch("http://example.test/0", tmp_path / "f")
    assert (tmp_path / "f").read_bytes() == b"there"
    server.answers["/4"] = redirect("//example.test/0", 307)
    assert "redirected more than 3 times" in refusal(fetcher, "http://example.test/4", tmp_path)
    port = server.server_port
    for target, message in [
        (f"http://127.0.0.1:{port}/a", "127.0.0.1 is not public"),
        ("//metadata.test/latest", "169.254.169.254, the address of metadata.test, is not public"),
        (f"http://[::ffff:127.0.0.1]:{port}/a", "is not public"),
        ("file:///etc/passwd", "its scheme is file"),
        ("http://u:p@example.test/a", "a user name or a password"),
        ("http://[", "not valid"),
        ("", "without a location"),
    ]:
        server.answers["/5"] = redirect(target)
        assert message in refusal(fetcher, "http://example.test/5", tmp_path)
    assert {address for address, _ in fetcher.network.connected} == {PUBLIC}


def test_large_files_are_refused_announced_or_not(fetcher, server, tmp_path):
    def chunked(handler):
        handler.protocol_version = "HTTP/1.1"
        handler.send_response(200)
        handler.send_header("Transfer-Encoding", "chunked")
        handler.end_headers()
        for _ in range(20):
            handler.wfile.write(b"64\r\n" + b"x" * 100 + b"\r\n")
        handler.wfile.write(b"0\r\n\r\n")

    server.answers["/announced"] = 200, {"Content-Length": "1001"}, b""
    server.answers["/endless"] = 200, {}, b"x" * 100_000
    server.answers["/chunked"] = chunked
    for path in ("announced", "endless", "chunked"):
        assert "more than 1,000 bytes, which is the limit" in refusal(
            fetcher, f"http://example.test/{path}", tmp_path
        )
    server.answers["/limit"] = 200, {"Content-Length": "1000"}, b"x" * 1000
    fetcher.fetch("http://example.test/limit", tmp_path / "f")


def test_broken_answers_are_errors(fetcher, server, tmp_path):
    def nonsense(handler):
        handler.wfile.write(b"\x00\xff nonsense\r\n\r\n")

    server.answers["/short"] = 200, {"Content-Length": "500"}, b"x" * 10
    server.answers["/nonsense"] = nonsense
    server.answers["/gzip"] = 200, {"Content-Encoding": "gzip", "Content-Length": "1"}, b"x"
    assert "ended after 10 of 500 bytes" in refusal(fetcher, "http://example.test/short", tmp_path)
    assert "not valid HTTP" in refusal(fetcher, "http://example.test/nonsense", tmp_path)
    assert "compressed" in refusal(fetcher, "http://example.test/gzip", tmp_path)


@pytest.mark.parametrize("slow", ["status", "header", "body", "resolve"])
def test_the_time_limit_holds_for_servers_that_send_a_byte_now_and_then(server, tmp_path, slow, monkeypatch):
    def drip(handler):
        begin = {
            "status": b"",
            "header": b"HTTP/1.1 200 OK\r\nX: ",
            "body": b"HTTP/1.1 200 OK\r\nContent-Length: 900\r\n\r\n",
        }
        handler.wfile.write(begin[slow])
        for _ in range(100):
            handler.wfile.write(b"x")
            time.sleep(0.05)

    fetcher = Fetcher(seconds=0.3, network=Loopback(server.server_port))
    if slow == "resolve":
        monkeypatch.setattr(fetcher.network, "resolve", lambda host, port: time.sleep(3) or [PUBLIC])
    server.answers["/drip"] = drip
    started = time.monotonic()
    assert "more than 0.3 s, which is the limit" in refusal(fetcher, "http://example.test/drip", tmp_path)
    assert time.monotonic() - started < 2


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tls")
    command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2"
    names = ["-subj", "/CN=example.test", "-addext", "subjectAltName=DNS:example.test"]
    outputs = ["-keyout", folder / "key.pem", "-out", folder / "certificate.pem"]
    try:
        subprocess.run([*command.split(), *names, *outputs], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("openssl is not installed")
    return folder


def test_certificates_are_verified(certificate, tmp_path, monkeypatch):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate / "certificate.pem", certificate / "key.pem")
    with serving(context) as server:
        server.answers["/a"] = 200, {"Content-Length": "5"}, b"image"
        server.answers["/down"] = redirect("http://example.test/a")
        fetcher = Fetcher(seconds=5, network=Loopback(server.server_port))
        assert "certificate is not valid" in refusal(fetcher, "https://example.test/a", tmp_path)
        trusting = ssl.create_default_context(cafile=certificate / "certificate.pem")
        monkeypatch.setattr(fetcher.network, "context", lambda: trusting)
        fetcher.fetch("https://example.test/a", tmp_path / "f")
        assert (tmp_path / "f").read_bytes() == b"image"
        assert server.seen[-1][1]["Host"] == "example.test"
        assert "certificate is not valid" in refusal(fetcher, "https://six.test/a", tmp_path)
        assert "from https to http" in refusal(fetcher, "https://example.test/down", tmp_path)


def test_urls_are_told_from_paths():
    assert all(map(is_url, ("http://a/b", "HTTPS://a", "s3://bucket/a", "file:///a")))
    assert not any(map(is_url, ("a.png", "http", "c://a", "d/http://a", "https:/a", "1a://b")))
    assert without_password("http://u:p@host/a@b") == "http://...@host/a@b"
    assert without_password("http://host/a@b") == "http://host/a@b"
