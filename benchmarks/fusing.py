"""Measure the effect of operator fusion in the delegate, in turns: `python benchmarks/fusing.py`.

Without fusion the delegate runs the binary operators only, and XNNPACK runs the others. The last line is the cost of the
forensic channels and their adapter: the difference between BNext-T with and without them.
"""

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from bdd_tf.benchmark.output import machine
from bdd_tf.edge.runtime import available_kernels, interpreter_module, lce_delegate
from converters.benchmark_models import untrained

ALL = ("rgb", "fft", "lbp")
NETS = (("bnext-t", ALL), ("bnext-t", ("rgb",)), ("bnext-n", ALL), ("quicknet", ALL), ("quicknet", ("rgb",)))


def runner(path: Path, kernels: str, threads: int, fuse: bool) -> Callable[[], None]:
    """Return a function that runs a file once on a random image."""
    interpreter = interpreter_module().Interpreter(
        model_path=str(path),
        experimental_delegates=[lce_delegate(threads, kernels, fuse)],
        num_threads=threads,
    )
    interpreter.allocate_tensors()
    entry = interpreter.get_input_details()[0]
    image = np.random.default_rng(0).integers(0, 256, entry["shape"], np.uint8)
    interpreter.set_tensor(entry["index"], image)
    return interpreter.invoke


def medians_in_turns(functions: list[Callable[[], None]], rounds: int) -> list[float]:
    """Measure functions in turns of a few calls; return the median of each in ms."""
    times: list[list[float]] = [[] for _ in functions]
    for run in functions:
        run()
    for _ in range(rounds):
        for run, found in zip(functions, times, strict=True):
            run()  # loads its weights into the cache
            for _ in range(8):
                start = time.perf_counter()
                run()
                found.append(1e3 * (time.perf_counter() - start))
    return [float(np.median(found)) for found in times]


def main() -> int:
    """Measure and print; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=25, help="number of turns of each file; default 25")
    args = parser.parse_args()
    print(
        f"{machine()}; 224 px, batch 1\n{'':28}{'kernels':9}{'unfused':>9}{'fused':>8}{'ratio':>8}{'2 threads':>11}"
    )
    for name, channels in NETS:
        path = untrained(name, 224, channels)
        for kernels in available_kernels()[:-1]:
            apart, fused, two = medians_in_turns(
                [runner(path, kernels, t, fuse) for t, fuse in ((1, False), (1, True), (2, True))],
                args.rounds,
            )
            label = f"{name} {','.join(channels)}"
            print(f"{label:28}{kernels:9}{apart:9.2f}{fused:8.2f}{apart / fused:8.2f}{fused / two:10.2f}x")
    files = [untrained("bnext-t", 224, channels) for channels in (ALL, ("rgb",))]
    whole, rest = medians_in_turns([runner(f, available_kernels()[0], 1, True) for f in files], args.rounds)
    print(f"channels and adapter: {whole - rest:.2f} of {whole:.2f} ms, {(whole - rest) / whole:.0%}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
