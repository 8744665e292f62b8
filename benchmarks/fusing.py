"""What fusing brings: `python benchmarks/fusing.py`. Nets with the delegate's fusing on and off, in turns.

With it off the delegate runs the binary operators alone and XNNPACK the rest, as a plain delegate would. The last line
tells what the forensic channels and their adapter cost, as the difference between BNext-T with and without them.
"""

import argparse
import sys
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from bdd_tf.benchmarking import machine
from bdd_tf.edge.runtime import available_kernels, interpreter_module, lce_delegate
from bdd_tf.rival_files import untrained

ALL = ("rgb", "fft", "lbp")
NETS = (("bnext-t", ALL), ("bnext-t", ("rgb",)), ("bnext-n", ALL), ("quicknet", ALL), ("quicknet", ("rgb",)))


def runner(path: Path, kernels: str, threads: int, fuse: bool):  # noqa: ANN201 (a function)
    """A function that runs a file once on a random image."""
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


def side_by_side(functions: list, rounds: int) -> list[float]:
    """Median milliseconds of each, a few calls at a time in turns."""
    times = [[] for _ in functions]
    for run in functions:
        run()
    for _ in range(rounds):
        for run, found in zip(functions, times, strict=True):
            run()  # brings its weights back into the cache
            for _ in range(8):
                start = time.perf_counter()
                run()
                found.append(1e3 * (time.perf_counter() - start))
    return [float(np.median(found)) for found in times]


def main() -> int:
    """Measure and print; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=25)
    args = parser.parse_args()
    print(
        f"{machine()}; 224 px, batch 1\n{'':28}{'kernels':9}{'unfused':>9}{'fused':>8}{'ratio':>8}{'2 threads':>11}"
    )
    for name, channels in NETS:
        path = untrained(name, 224, channels)
        for kernels in available_kernels()[:-1]:
            apart, fused, two = side_by_side(
                [runner(path, kernels, t, fuse) for t, fuse in ((1, False), (1, True), (2, True))],
                args.rounds,
            )
            label = f"{name} {','.join(channels)}"
            print(f"{label:28}{kernels:9}{apart:9.2f}{fused:8.2f}{apart / fused:8.2f}{fused / two:10.2f}x")
    files = [untrained("bnext-t", 224, channels) for channels in (ALL, ("rgb",))]
    whole, rest = side_by_side([runner(f, available_kernels()[0], 1, True) for f in files], args.rounds)
    print(f"channels and adapter: {whole - rest:.2f} of {whole:.2f} ms, {(whole - rest) / whole:.0%}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
