"""`bdd serve` under load, then under attack: python benchmarks/serve_load.py [--seconds 60] [--clients 32].

Clients keep their connections and ask again at once, each with photographs of scikit-image's (JPEG, 451x300 to
600x400); answers are 200, or the polite 503, after which a client waits as long as it was told. Then every upload of
tests/service/hostile_uploads.py is sent, eight at a time, while one honest client goes on asking. Exit code 1 if
anything else happens. Clients run on the same machine and take processor time from the server.
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
sys.path.append(str(ROOT / "tests" / "service"))
from hostile_uploads import send, uploads  # noqa: E402
from serving import MODEL, Server  # noqa: E402


def photographs() -> list[bytes]:
    """JPEG files."""
    files = []
    for image in (data.chelsea(), data.astronaut(), data.coffee(), data.rocket()):
        file = io.BytesIO()
        Image.fromarray(image).save(file, "JPEG", quality=90)
        files.append(file.getvalue())
    return files


def peak(server: Server) -> float:
    """Largest resident memory so far, MiB."""
    status = Path(f"/proc/{server.process.pid}/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) / 1024


def load(server: Server, clients: int, seconds: float) -> bool:
    """Many clients at once; prints what they saw. Returns whether nothing but 200 and polite 503 came back."""
    files = photographs()
    end = time.monotonic() + seconds
    lock = threading.Lock()
    times: list[float] = []
    busy, odd = 0, []

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
                    odd.append(repr(error))
                connection.close()
                continue
            taken = time.monotonic() - started
            with lock:
                if answer.status == 200:
                    times.append(taken)
                elif answer.status == 503 and answer.headers["Retry-After"]:
                    busy += 1
                else:
                    odd.append(str(answer.status))
            if answer.status == 503:
                time.sleep(float(answer.headers["Retry-After"]))

    threads = [threading.Thread(target=client, args=(number,)) for number in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if times:
        p50, p99 = 1000 * np.percentile(times, [50, 99])
        print(f"  answers            {len(times)}, {len(times) / seconds:.1f} a second")
        print(f"  latency            p50 {p50:.0f} ms, p99 {p99:.0f} ms")
    print(f"  polite 503         {busy}")
    print(f"  errors             {len(odd)} {odd[:5] or ''}")
    return bool(times) and not odd


def attack(server: Server) -> bool:
    """Every hostile upload, and one honest client beside them. Returns whether all ended as they should."""
    honest = photographs()[0]
    stop = threading.Event()
    waits: list[float] = []
    wrong: list[str] = []

    def ask() -> None:
        while not stop.wait(0.1):
            started = time.monotonic()
            status, _ = server.detect(honest)
            waits.append(time.monotonic() - started)
            if status != 200:
                wrong.append(f"an honest upload: {status}")

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
    print(f"  hostile uploads    {len(hostile)}, {len(wrong)} not answered as they should {wrong or ''}")
    print(
        f"  honest ones        {len(waits)}, p50 {1000 * np.median(waits):.0f} ms, longest {1000 * max(waits):.0f} ms"
    )
    return not wrong


def main() -> int:
    """Run both; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--clients", type=int, default=32)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--model", default=str(MODEL))
    parser.add_argument("--queue", default="64", help="of the server")
    args = parser.parse_args()
    with Server("--model", args.model, "--queue", args.queue, "--upload-timeout", "10") as server:
        server.detect(photographs()[0])
        print(f"memory at rest       {server.memory():.0f} MiB")
        print(f"{args.clients} clients for {args.seconds:g} s, queue of {args.queue}")
        fine = load(server, args.clients, args.seconds)
        print(f"  memory             {server.memory():.0f} MiB, peak {peak(server):.0f} MiB")
        print("attack")
        fine &= attack(server)
        time.sleep(1)
        status, _ = server.detect(photographs()[0])
        print(f"  memory             {server.memory():.0f} MiB, peak {peak(server):.0f} MiB")
        print(f"afterwards           an honest upload: {status}; {server.json('GET', '/healthz')[1]}")
        fine &= status == 200
    fine &= server.process.returncode == 0 and "Traceback" not in server.said
    print(
        "server's words:", *[line for line in server.said.splitlines() if line.startswith("bdd")], sep="\n  "
    )
    return 0 if fine else 1


if __name__ == "__main__":
    sys.exit(main())
