"""Time of our own runtime over LiteRT with the delegate, in turns: `python benchmarks/engines.py [--threads 1,2]`.

Both run in this process; of each round the ratio of the two times counts, so that a machine that becomes slower in between
does not matter. Median ratios are printed, with their quartiles.
"""

import argparse
import os
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np

from bdd_tf.benchmark.output import machine
from bdd_tf.edge.engines import create_engine
from bdd_tf.edge.shipped_model import shipped_models
from bdd_tf.edge.tflite.file import parse_tflite
from converters.benchmark_models import untrained

ALL = ("rgb", "fft", "lbp")
NETWORKS = (("bnext-t", ALL), ("bnext-n", ALL), ("quicknet", ("rgb",)))
SIDES = (32, 224)
CALLS_MS = 20.0  # of each turn


def milliseconds(function: Callable[[], object], calls: int) -> float:
    """Mean time of a call."""
    start = time.perf_counter()
    for _ in range(calls):
        function()
    return (time.perf_counter() - start) * 1e3 / calls


def ratios(path: Path, threads: int, rounds: int) -> np.ndarray:
    """Time of the native engine over that of LiteRT, for each round."""
    model = parse_tflite(path.read_bytes())
    engines = [create_engine(model, name, threads) for name in ("native", "litert")]
    graph = model.subgraphs[0]
    shape = graph.tensors[graph.inputs[0]].shape
    images = np.random.default_rng(0).integers(0, 256, (1, *shape[1:]), np.uint8)

    native, litert = (partial(engine.run, images) for engine in engines)
    calls = max(1, round(CALLS_MS / min(milliseconds(native, 3), milliseconds(litert, 3))))
    found = []
    for i in range(rounds):
        turn = (native, litert) if i % 2 == 0 else (litert, native)
        times = {run: milliseconds(run, calls) for run in turn}
        found.append(times[native] / times[litert])
    return np.asarray(found)


def main() -> int:
    """Measure and print; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--threads", default="1,2", help="thread counts; default 1,2")
    parser.add_argument("--rounds", type=int, default=40, help="turns of each; default 40")
    args = parser.parse_args()
    files = {
        f"{name} {side} px": untrained(name, side, channels) for name, channels in NETWORKS for side in SIDES
    }
    files |= {f"model {name}": path for name, path in shipped_models().items()}
    print(
        f"{machine()}; load {os.getloadavg()[0]:.1f}; native / LiteRT, median and quartiles of {args.rounds} rounds"
    )
    for threads in map(int, args.threads.split(",")):
        for name, path in files.items():
            low, median, high = np.percentile(ratios(path, threads, args.rounds), (25, 50, 75))
            print(f"{name:20}{threads:2} threads  {median:.2f}  [{low:.2f}, {high:.2f}]", flush=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
