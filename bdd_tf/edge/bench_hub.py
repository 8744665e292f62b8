"""Many contenders over one connection: starts a `bench_worker` for each and passes messages on.

Reads JSON lines from standard input, each with the number of its contender under ``worker``; the first message for a
number starts its process. Each line is answered by that process's answer, or by ``{"error": ...}``.
"""

from __future__ import annotations

import json
import subprocess
import sys


def ask(process: subprocess.Popen[str], message: dict) -> dict:
    """Send a worker a message and wait for its answer."""
    try:
        process.stdin.write(json.dumps(message) + "\n")
        process.stdin.flush()
        line = process.stdout.readline()
    except BrokenPipeError:
        line = ""
    return json.loads(line) if line else {"error": f"its process ended with code {process.wait()}"}


def start_worker() -> subprocess.Popen[str]:
    """A process that waits for its contender."""
    return subprocess.Popen(
        [sys.executable, "-m", "bdd_tf.edge.bench_worker"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
    )  # fmt: skip


def close(process: subprocess.Popen[str]) -> None:
    """End a worker."""
    for pipe in (process.stdin, process.stdout):
        pipe.close()
    try:
        process.wait(5)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def main() -> int:
    """Serve until standard input ends; returns the exit code."""
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
