"""A server process, and clients for it."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path

from bdd_tf.edge.shipped_model import shipped_model

ROOT = Path(__file__).resolve().parents[2]
MODEL = shipped_model("cifake")


class Server:
    """`bdd serve`, or another script that prints its address on standard error.

    Args:
        arguments: Words behind the Python interpreter; None for ``bdd serve`` (of the model `cifake`) with ``options``.
        options: Of ``bdd serve``.
    """

    def __init__(self, *options: str, arguments: list[str] | None = None, **environment: str) -> None:
        model = () if "--model" in options else ("--model", "cifake")
        arguments = arguments or ["-m", "bdd_tf.cli", "serve", "--port", "0", *model, *options]
        self.process = subprocess.Popen(
            [sys.executable, *arguments],
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
        )
        self.said = ""
        for line in self.process.stderr:
            self.said += line
            if match := re.search(r"http://(\S+):(\d+)/", line):
                self.host, self.port = match[1].strip("[]"), int(match[2])
                break
        else:
            raise RuntimeError(f"the server did not start: {self.said}")

    def __enter__(self) -> Server:
        return self

    def __exit__(self, *exception: object) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        self.end()

    def end(self) -> int:
        """Wait for the process; its exit code. What it wrote is in ``said``."""
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise
        self.said += self.process.stderr.read()
        return self.process.returncode

    def connect(self) -> http.client.HTTPConnection:
        """A connection, with a timeout."""
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)

    def request(
        self, method: str, path: str, body: object = None, headers: dict[str, str] | None = None
    ) -> tuple[int, http.client.HTTPMessage, bytes]:
        """One request on a connection of its own: status, headers, body."""
        connection = self.connect()
        try:
            connection.request(method, path, body, headers or {})
            answer = connection.getresponse()
            return answer.status, answer.headers, answer.read()
        finally:
            connection.close()

    def json(
        self, method: str, path: str, body: object = None, headers: dict[str, str] | None = None
    ) -> tuple[int, dict]:
        """Status and JSON of an answer."""
        status, answered, content = self.request(method, path, body, headers)
        assert answered["Content-Type"] == "application/json", content
        return status, json.loads(content)

    def detect(self, content: bytes, query: str = "", **headers: str) -> tuple[int, dict]:
        """Score an image, sent as the body."""
        return self.json("POST", f"/api/detect{query}", content, {"Content-Type": "image/*", **headers})

    def socket(self) -> socket.socket:
        """A bare connection."""
        return socket.create_connection(("127.0.0.1", self.port), timeout=20)

    def open_files(self) -> set[str]:
        """What the process holds open: paths (of deleted files as well), ``socket:[INODE]`` and the like."""
        names = set()
        for path in Path(f"/proc/{self.process.pid}/fd").iterdir():
            with contextlib.suppress(FileNotFoundError):  # closed since it was listed
                names.add(os.readlink(path))  # noqa: PTH115 (deleted files have odd names)
        return names

    def memory(self) -> float:
        """Resident memory in MiB."""
        pages = int(Path(f"/proc/{self.process.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def form(
    *parts: tuple[str, bytes], boundary: str = "b0undary", end: bool = True
) -> tuple[bytes, dict[str, str]]:
    """A multipart body of (Content-Disposition's parameters, content), and its header."""
    lines = [
        f"--{boundary}\r\nContent-Disposition: form-data; {disposition}\r\n\r\n".encode() + content + b"\r\n"
        for disposition, content in parts
    ]
    body = b"".join(lines) + (f"--{boundary}--\r\n".encode() if end else b"")
    return body, {"Content-Type": f"multipart/form-data; boundary={boundary}"}


def read_answer(connection: socket.socket) -> tuple[int | None, bytes]:
    """Status and everything of one answer on a bare connection; status None if there was none."""
    answer = http.client.HTTPResponse(connection)
    try:
        answer.begin()
        return answer.status, answer.read()
    except (http.client.HTTPException, ConnectionError):
        return None, b""
