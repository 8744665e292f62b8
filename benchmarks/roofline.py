"""Compare networks with the peak performance of this machine: `python benchmarks/roofline.py [--output DIR]`.

Three peaks are measured: binary multiply-adds (our fastest kernels on 3x3 convolutions of 256 channels), float
multiply-adds (OpenBLAS on 768x768 matrices, or XNNPACK on 1x1 convolutions if that is faster), and memory bandwidth (a
copy of 256 MiB). From the operators of a file they give lower bounds of its time. The figure shows measured times and
bounds.
"""

import os

os.environ["OPENBLAS_NUM_THREADS"] = "1"  # must be set before NumPy is imported

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from bdd_tf.benchmark.contenders import Contender
from bdd_tf.benchmark.output import machine
from bdd_tf.benchmark.worker import measure
from bdd_tf.edge.runtime import available_kernels
from bdd_tf.edge.tflite.file import parse_tflite
from bdd_tf.edge.tflite.statistics import model_statistics
from bdd_tf.files import write_atomically
from converters.benchmark_models import baseline, untrained

NETWORKS = ("bnext-t", "bnext-n", "quicknet")
BASELINES = ("mobilenetv3-small", "mobilenetv3-large", "mobilenetv2", "resnet50")


def best(function: Callable[[], object], repetitions: int = 9) -> float:
    """Return the shortest time of several calls in seconds."""
    times = []
    for _ in range(repetitions):
        start = time.perf_counter()
        function()
        times.append(time.perf_counter() - start)
    return min(times)


def rate_of_stack(
    convolution: Callable,
    convert: Callable,
    kernels: str | None,
    side: int,
    width: int,
    size: int,
    folder: Path,
) -> float:
    """Measure multiply-adds per ms of the runtime's convolutions.

    The difference between a stack of nine and a single one excludes all other costs.

    Args:
        convolution: Makes a layer from its width and kernel size.
        convert: Converts a Keras model to a .tflite file.
        kernels: Kernel set, or None for XNNPACK.
        side: Side of the map in pixels.
        width: Number of channels.
        size: Kernel size.
        folder: Folder for temporary files.
    """
    from bdd_tf.legacy_keras import tf

    few, many, times = 1, 9, []
    for repeated in (few, many):
        x = entry = tf.keras.Input((side, side, width), batch_size=1)
        for _ in range(repeated):
            x = convolution(width, size)(x)
        path = folder / f"{repeated}.tflite"
        path.write_bytes(convert(tf.keras.Model(entry, x)))
        times.append(measure([Contender("peak", "litert", kernels, 1, str(path))])[0].median_ms)
    return (many - few) * (side * size * width) ** 2 / (times[1] - times[0])


def popcount_bound(folder: Path) -> float:
    """Measure the peak of our kernels in binary multiply-adds per ms."""
    import larq_compute_engine as lce

    from bdd_tf.legacy_keras import larq as lq

    def convolution(width: int, size: int) -> lq.layers.QuantConv2D:
        return lq.layers.QuantConv2D(
            width, size, padding="same", use_bias=False, input_quantizer="ste_sign", kernel_quantizer="ste_sign",
            kernel_initializer="glorot_normal",
        )  # fmt: skip

    return rate_of_stack(
        convolution,
        lce.convert_keras_model,
        available_kernels()[0],
        side=14,
        width=256,
        size=3,
        folder=folder,
    )


def float_bound(folder: Path) -> float:
    """Measure the peak of float multiply-adds per ms: OpenBLAS or XNNPACK, whichever is faster."""
    from bdd_tf.legacy_keras import tf
    from converters.convert import to_flatbuffer

    a = np.random.default_rng(0).normal(size=(768, 768)).astype(np.float32)
    matrices = 768**3 / (1e3 * best(lambda: a @ a))
    return max(
        matrices,
        rate_of_stack(tf.keras.layers.Conv2D, to_flatbuffer, None, side=28, width=256, size=1, folder=folder),
    )


def memory_bound() -> float:
    """Measure the memory bandwidth in bytes per ms, reads plus writes."""
    source = np.ones(1 << 25)
    target = np.empty_like(source)
    return 2 * source.nbytes / (1e3 * best(lambda: np.copyto(target, source)))


def main() -> int:
    """Measure, print a table and draw a figure; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument(
        "--output", type=Path, default=Path("build/roofline"), help="folder for JSON and figure"
    )
    parser.add_argument("--rounds", type=int, default=15, help="number of turns of each network; default 15")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        bounds = {
            "binary": popcount_bound(Path(folder)),
            "float": float_bound(Path(folder)),
            "memory": memory_bound(),
        }
    files = {name: untrained(name, 224, ("rgb", "fft", "lbp")) for name in NETWORKS}
    files |= {name: baseline(name, 224) for name in BASELINES}
    kernels = available_kernels()[0]
    contenders = [
        Contender(name, "litert", kernels if name in NETWORKS else None, 1, str(path))
        for name, path in files.items()
    ]
    rows = []
    for result in measure(contenders, args.rounds):
        found = model_statistics(parse_tflite(files[result.name].read_bytes()))
        constants = sum(found.bytes_by_kind.values()) - found.bytes_by_kind.get("structure", 0)
        least = {
            "binary": found.binary_macs / bounds["binary"],
            "float": found.float_macs / bounds["float"],
            "memory": constants / bounds["memory"],
        }
        rows.append({"name": result.name, "ms": result.median_ms, "least_ms": least})
    print(f"{machine()}, one thread")
    print(
        f"bounds: {bounds['binary'] / 1e9:.2f} G binary MACs/ms, {bounds['float'] / 1e6:.1f} M float MACs/ms, "
        f"{bounds['memory'] / 1e6:.1f} MB/ms"
    )
    print(f"{'':20}{'measured':>10}{'binary':>9}{'float':>9}{'weights':>9}   compute bound / measured")
    for row in rows:
        least = row["least_ms"]
        share = (least["binary"] + least["float"]) / row["ms"]
        parts = "".join(f"{least[k]:9.2f}" for k in ("binary", "float", "memory"))
        print(f"{row['name']:20}{row['ms']:10.2f}{parts}   {share:.0%}")
    args.output.mkdir(parents=True, exist_ok=True)
    report = {"machine": machine(), "bounds_per_ms": bounds, "networks": rows}
    write_atomically(args.output / "roofline.json", (json.dumps(report, indent=2) + "\n").encode())
    from bdd_tf.figures.speed import roofline

    print(roofline(args.output / "roofline.png", rows, title=f"{machine()}, one thread"))
    return 0


if __name__ == "__main__":
    sys.exit(main())
