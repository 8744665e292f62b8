"""Hostile and impatient clients: each is refused as it deserves, and the next honest one is served."""

import socket
import statistics
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import pytest

from tests.service.hostile_uploads import head, send, uploads
from tests.service.serving import form, read_answer


@pytest.mark.parametrize("upload", [u for u in uploads() if not u.heavy], ids=lambda u: u.name)
def test_hostile_uploads_are_refused_and_the_next_honest_one_is_served(server, photo, upload):
    assert send(upload, server.port) in upload.expected
    assert server.detect(photo.read_bytes())[0] == 200


def test_a_gigabyte_in_chunks_is_refused_while_it_arrives(tight, photo):
    server = tight(upload_bytes=1 << 20, linger_seconds=0.5)
    before = server.memory()
    upload = next(u for u in uploads() if u.name == "1 GB in chunks")
    started = time.monotonic()
    assert send(upload, server.port) == 413
    assert time.monotonic() - started < 10
    assert server.detect(photo.read_bytes())[0] == 200
    assert server.memory() - before < 60


def test_when_the_queue_is_full_the_answer_is_a_polite_503_and_nothing_is_lost(tight, large):
    server = tight(workers=1, queue=2)
    content = large.read_bytes()
    expected = server.detect(content)[1]["fake_probability"]
    with ThreadPoolExecutor(24) as pool:
        start = threading.Barrier(24)

        def ask(_):
            start.wait()
            return server.request("POST", "/api/detect", content, {"Content-Type": "image/png"})

        answers = list(pool.map(ask, range(24)))
    statuses = [status for status, _, _ in answers]
    assert set(statuses) == {200, 503}
    assert statuses.count(200) >= 3  # one in work, two waiting
    for status, headers, content in answers:
        if status == 503:
            assert headers["Retry-After"] == "1"
            assert b"try again" in content
        else:
            assert str(expected).encode()[:8] in content
    assert server.json("GET", "/healthz")[1]["waiting"] == 0


def test_slow_senders_are_cut_off_and_hold_up_nobody(tight, photo):
    server = tight(upload_seconds=2, pause_seconds=0.5, header_seconds=0.5, workers=1, queue=1)
    content = photo.read_bytes()
    pausing, dripping, silent, half = (server.socket() for _ in range(4))
    pausing.sendall(head(len(content)) + content[:100])
    dripping.sendall(head(len(content)))
    half.sendall(b"POST /api/detect HTTP/1.1\r\nHost: 127")
    stop = threading.Event()

    def drip():
        for byte in content:
            try:
                dripping.sendall(bytes([byte]))
            except OSError:
                return
            if stop.wait(0.05):
                return

    thread = threading.Thread(target=drip)
    thread.start()
    started = time.monotonic()
    times = []
    for _ in range(20):
        begun = time.monotonic()
        assert server.detect(content)[0] == 200
        times.append(time.monotonic() - begun)
    assert statistics.median(times) < 0.4
    assert read_answer(pausing)[0] == 408
    assert read_answer(half)[0] is None
    assert read_answer(silent)[0] is None
    status, said = read_answer(dripping)
    assert status == 408
    assert b"too slow" in said
    assert time.monotonic() - started < 8
    stop.set()
    thread.join()
    for connection in (pausing, dripping, silent, half):
        connection.close()


def test_clients_that_do_not_read_are_given_up(tight):
    server = tight(pause_seconds=0.5)
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
    connection.connect(("127.0.0.1", server.port))
    # Pipelined requests for the page, whose answers fill every buffer.
    request = b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
    connection.settimeout(15)
    with suppress(OSError):  # the pipe is full, then gone
        while True:
            connection.sendall(request * 100)
    deadline = time.monotonic() + 10
    while open_sockets(server) > 1 and time.monotonic() < deadline:
        time.sleep(0.1)
    assert open_sockets(server) == 1
    connection.close()


def open_sockets(server):
    mine = {name for name in server.open_files() if name.startswith("socket:")}
    table = Path(f"/proc/{server.process.pid}/net/tcp").read_text().splitlines()[1:]
    return sum(f"socket:[{line.split()[9]}]" in mine for line in table)


def test_connections_are_bounded(tight, photo):
    server = tight(connections=5, header_seconds=1)
    idle = [server.socket() for _ in range(12)]
    time.sleep(0.3)
    assert open_sockets(server) <= 1 + 5
    time.sleep(1.2)
    assert server.detect(photo.read_bytes())[0] == 200
    for connection in idle:
        connection.close()


def test_uploads_share_a_bounded_buffer_and_give_it_back(tight, photo):
    content = photo.read_bytes()
    size = len(content)
    server = tight(buffered_bytes=2 * size + 10, pause_seconds=3)
    waiting = [server.socket() for _ in range(2)]
    for connection in waiting:
        connection.sendall(head(size) + content[:-1])
    time.sleep(0.3)
    assert server.detect(content)[0] == 503
    waiting[0].sendall(content[-1:])
    assert read_answer(waiting[0])[0] == 200
    waiting[1].close()
    time.sleep(0.3)
    for _ in range(10):
        assert server.detect(content)[0] == 200


def test_refused_at_once_when_the_client_asks_before_sending(server):
    connection = server.socket()
    connection.sendall(head(1 << 40, "image/png", "Expect: 100-continue"))
    assert connection.recv(100).startswith(b"HTTP/1.1 413")
    connection.close()


def test_the_whole_answer_arrives_although_the_upload_is_not_read(server):
    """Refused with megabytes still under way: a connection reset would swallow the sentence."""
    body = bytes(8 << 20)
    for _ in range(5):
        status, answer = server.json("POST", "/api/detect", body, {"Content-Type": "text/plain"})
        assert status == 415
        assert "possible" in answer["error"]
        assert server.json("POST", "/nonesuch", body)[0] == 404


def test_no_file_is_kept_not_even_while_an_upload_arrives(tight, temporary):
    server = tight()
    assert server.detect(b"x")[0] == 422
    before = server.open_files()
    body, headers = form(('name="image"; filename="secret.png"', bytes(12 << 20)))
    connection = server.socket()
    connection.sendall(head(len(body), headers["Content-Type"]) + body[: 11 << 20])
    time.sleep(0.5)
    more = server.open_files() - before
    assert len(more) <= 1  # the connection
    assert all(name.startswith("socket:") for name in more)
    assert not list(temporary.iterdir())
    connection.sendall(body[11 << 20 :])
    assert read_answer(connection)[0] == 422
    assert not list(temporary.iterdir())
    connection.close()
    assert "secret" not in server.said
