"""Multiplex several benchmark workers over one connection to a device.

Reads JSON lines from standard input. The key ``worker`` of each is the number of a contender; the first message for a
number starts a process of `bdd_tf.edge.benchmark.worker`. Each line is answered by the answer of that process, or by
``{"error": ...}``.
"""

from __future__ import annotations

import json
import subprocess
import sys
from contextlib import suppress
from typing import Any


def ask(process: subprocess.Popen[str], message: dict[str, Any]) -> dict[str, Any]:
    """Send a message to a worker and return its answer.

    Args:
        process: From `start_worker`.
        message: JSON values.

    Returns:
        JSON values; ``{"error": ...}`` if the process has ended.
    """
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        process.stdin.write(json.dumps(message) + "\n")
        process.stdin.flush()
        line = process.stdout.readline()
    except BrokenPipeError:
        line = ""
    if not line:
        return {"error": f"its process ended with code {process.wait()}"}
    answer: dict[str, Any] = json.loads(line)
    return answer


def start_worker() -> subprocess.Popen[str]:
    """Start a worker process; its first message must be a contender."""
    return subprocess.Popen(
        [sys.executable, "-m", "bdd_tf.edge.benchmark.worker"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
    )  # fmt: skip


def close(process: subprocess.Popen[str]) -> None:
    """Close a worker's pipes, and kill it if it does not exit within 5 seconds."""
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            with suppress(BrokenPipeError):  # it ended before it read the last message
                pipe.close()
    try:
        process.wait(5)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def main() -> int:
    """Serve until standard input ends; return the exit code."""
    workers: dict[int, subprocess.Popen[str]] = {}
    try:
        for line in sys.stdin:
            message = json.loads(line)
            number = message.pop("worker")
            if number not in workers:
                workers[number] = start_worker()
            print(json.dumps(ask(workers[number], message)), flush=True)
    finally:
        for process in workers.values():
            close(process)
    return 0


if __name__ == "__main__":
    sys.exit(main())
