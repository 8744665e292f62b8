"""Time 8 crops in WebAssembly (Node.js) and natively, in turns and on one thread: `python benchmarks/wasm.py`.

The file is a BNext-N on RGB and Haar details with random weights, like the bundled model for photographs.
"""

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

from bdd_tf.benchmark.output import machine
from bdd_tf.edge.runtime import available_kernels
from converters.benchmark_models import untrained
from tools.web.build import ROOT
from tools.web.reference import Reference

CROPS = 8


def native(model: Path, kernels: str, side: int, rounds: int) -> list[float]:
    """Times of whole batches in ms."""
    images = np.random.default_rng(0).integers(0, 256, (CROPS, side, side, 3), np.uint8)
    times = []
    with Reference(model, kernels, CROPS) as reference:
        for _ in range(rounds + 3):
            start = time.perf_counter()
            reference.score_inputs(images)
            times.append(1e3 * (time.perf_counter() - start))
    return times[3:]


def in_node(model: Path, kernels: str, rounds: int) -> list[float]:
    """Times of whole batches in ms."""
    web = ROOT / "build" / "web"
    words = [web / "package", web / "bdd.wasm", model, kernels, CROPS, rounds]
    done = subprocess.run(
        ["node", ROOT / "benchmarks" / "wasm.mjs", *map(str, words)],
        check=True,
        capture_output=True,
        text=True,
    )
    times: list[float] = json.loads(done.stdout)
    return times


def main() -> int:
    """Measure and print; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--side", type=int, default=128, help="of a crop in pixels; default 128")
    parser.add_argument("--turns", type=int, default=5, help="default 5")
    parser.add_argument(
        "--rounds", type=int, default=10, help="batches of each contender in a turn; default 10"
    )
    args = parser.parse_args()
    if not (ROOT / "build" / "web" / "bdd.wasm").is_file():
        sys.exit("build/web holds no module: run make web first.")
    model = untrained("bnext-n", args.side, ("rgb", "haar"), "direct", compress=False)
    contenders = [("wasm", "simd128"), ("wasm", "scalar"), *(("native", k) for k in available_kernels())]
    times: dict[tuple[str, str], list[float]] = {one: [] for one in contenders}
    for _ in range(args.turns):
        for where, kernels in contenders:
            found = (
                in_node(model, kernels, args.rounds)
                if where == "wasm"
                else native(model, kernels, args.side, args.rounds)
            )
            times[where, kernels] += found
    print(f"{machine()}; {CROPS} crops of {args.side} px, BNext-N, one thread")
    print(f"{'':10}{'kernels':14}{'median ms':>10}{'fastest':>9}")
    for (where, kernels), found in times.items():
        print(f"{where:10}{kernels:14}{np.median(found):>10.1f}{min(found):>9.1f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
