"""Test `bdd serve` under load and under attack: python benchmarks/serve_load.py [--seconds 60] [--clients 32].

In the load test, clients keep their connections and send scikit-image's photographs (JPEG, 451x300 to 600x400) without
pause. Valid responses are 200, and 503 with a Retry-After header, for which a client waits. In the attack, all uploads of
tests/service/hostile_uploads.py are sent, eight at a time, while a regular client continues. Any other behaviour leads to
exit code 1. The clients run on the same machine and compete with the server for processor time.
"""

from __future__ import annotations

import argparse
import io
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image
from skimage import data

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
from tests.service.hostile_uploads import send, uploads  # noqa: E402
from tests.service.serving import MODEL, Server  # noqa: E402


def photographs() -> list[bytes]:
    """Return photographs as JPEG files."""
    files = []
    for image in (data.chelsea(), data.astronaut(), data.coffee(), data.rocket()):
        file = io.BytesIO()
        Image.fromarray(image).save(file, "JPEG", quality=90)
        files.append(file.getvalue())
    return files


def peak(server: Server) -> float:
    """Return the server's peak resident memory in MiB."""
    status = Path(f"/proc/{server.process.pid}/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) / 1024


def load(server: Server, clients: int, seconds: float) -> bool:
    """Run many clients and print their statistics; return whether all responses were valid."""
    files = photographs()
    end = time.monotonic() + seconds
    lock = threading.Lock()
    times: list[float] = []
    busy, errors = 0, []

    def client(number: int) -> None:
        nonlocal busy
        connection = server.connect()
        rng = np.random.default_rng(number)
        while time.monotonic() < end:
            started = time.monotonic()
            try:
                connection.request(
                    "POST", "/api/detect", files[rng.integers(len(files))], {"Content-Type": "image/jpeg"}
                )
                answer = connection.getresponse()
                answer.read()
            except OSError as error:
                with lock:
                    errors.append(repr(error))
                connection.close()
                continue
            taken = time.monotonic() - started
            with lock:
                if answer.status == 200:
                    times.append(taken)
                elif answer.status == 503 and answer.headers["Retry-After"]:
                    busy += 1
                else:
                    errors.append(str(answer.status))
            if answer.status == 503:
                time.sleep(float(answer.headers["Retry-After"]))

    threads = [threading.Thread(target=client, args=(number,)) for number in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if times:
        p50, p99 = 1000 * np.percentile(times, [50, 99])
        print(f"  responses 200      {len(times)}, {len(times) / seconds:.1f} per second")
        print(f"  latency            p50 {p50:.0f} ms, p99 {p99:.0f} ms")
    print(f"  responses 503      {busy}")
    print(f"  errors             {len(errors)} {errors[:5] or ''}")
    return bool(times) and not errors


def attack(server: Server) -> bool:
    """Send all hostile uploads during the requests of a regular client; return whether all responses were expected."""
    regular = photographs()[0]
    stop = threading.Event()
    waits: list[float] = []
    wrong: list[str] = []

    def ask() -> None:
        while not stop.wait(0.1):
            started = time.monotonic()
            status, _ = server.detect(regular)
            waits.append(time.monotonic() - started)
            if status != 200:
                wrong.append(f"a regular upload: {status}")

    thread = threading.Thread(target=ask)
    thread.start()

    def attempt(upload: object) -> None:
        status = send(upload, server.port)
        if status not in upload.expected:
            wrong.append(f"{upload.name}: {status}, expected {upload.expected}")

    hostile = uploads()
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(attempt, hostile))
    stop.set()
    thread.join()
    print(f"  hostile uploads    {len(hostile)}, {len(wrong)} unexpected responses {wrong or ''}")
    print(
        f"  regular uploads    {len(waits)}, p50 {1000 * np.median(waits):.0f} ms, longest {1000 * max(waits):.0f} ms"
    )
    return not wrong


def main() -> int:
    """Run both tests; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--clients", type=int, default=32, help="number of clients; default 32")
    parser.add_argument("--seconds", type=float, default=60, help="duration of the load test; default 60")
    parser.add_argument("--model", default=str(MODEL), help="the model to serve")
    parser.add_argument("--queue", default="64", help="length of the server's queue; default 64")
    args = parser.parse_args()
    with Server("--model", args.model, "--queue", args.queue, "--upload-timeout", "10") as server:
        server.detect(photographs()[0])
        print(f"memory when idle     {server.memory():.0f} MiB")
        print(f"{args.clients} clients for {args.seconds:g} s, queue of {args.queue}")
        fine = load(server, args.clients, args.seconds)
        print(f"  memory             {server.memory():.0f} MiB, peak {peak(server):.0f} MiB")
        print("attack")
        fine &= attack(server)
        time.sleep(1)
        status, _ = server.detect(photographs()[0])
        print(f"  memory             {server.memory():.0f} MiB, peak {peak(server):.0f} MiB")
        print(f"afterwards           a regular upload: {status}; {server.json('GET', '/healthz')[1]}")
        fine &= status == 200
    fine &= server.process.returncode == 0 and "Traceback" not in server.said
    print(
        "server's messages:",
        *[line for line in server.said.splitlines() if line.startswith("bdd")],
        sep="\n  ",
    )
    return 0 if fine else 1


if __name__ == "__main__":
    sys.exit(main())
