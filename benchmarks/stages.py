"""Time of a binary network by stage, beside what the machine allows: `python benchmarks/stages.py` (needs Linux's perf).

A profiler attributes the samples of one thread to stages. The bound of a stage is its arithmetic at the peak rates that
`roofline.py` measures, or the bytes that it moves at the bandwidth of a copy of 1 MiB, which the second-level cache holds:

* binary convolutions: multiply-adds;
* accumulators: 2 bytes written for each value that a binary convolution yields;
* elementwise: 2 bytes of accumulators, 4 of the shortcut, 4 of the result and 1 bit of its sign for each of these values;
* channels: products of the DFT, which is folded twice, and of the 3 x 3 convolution behind the channels;
* first convolution: multiply-adds.
"""

import argparse
import math
import re
import shutil
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from bdd_tf.benchmark.output import machine  # noqa: E402
from bdd_tf.edge.runtime.build import host_target  # noqa: E402
from bdd_tf.edge.tflite.file import TfliteModel, parse_tflite  # noqa: E402
from bdd_tf.edge.tflite.statistics import model_statistics  # noqa: E402
from benchmarks.programs import build_program  # noqa: E402
from benchmarks.roofline import best, float_bound, popcount_bound  # noqa: E402
from converters.benchmark_models import untrained  # noqa: E402
from tools.arm.emulate import run  # noqa: E402

#: Stages by what their functions' names contain; the first that matches counts.
STAGES = {
    "channels": "Channels|Details|gemm_f32|log_magnitude|local_binary|rgb_to_planes|conv3x3_planar",
    "first convolution": "SmallConv2d|Conv2dPixels|conv2d_f32|Conv2dRows",
    "accumulators": "TransformToInt16|SumDots|output_transform",
    "binary convolutions": "bgemm|Bconv2d|EncodeTap",
    "elementwise, signs": "post_ops_f32|PostOp",
    "pools": "average_pool",
    "gates": "dense_f32",
}
REST = "rest"
NETWORKS = (("bnext-t", ("rgb", "fft", "lbp")), ("bnext-n", ("rgb", "fft", "lbp")))


def shares(program: Path, model: Path, images: int) -> Counter:
    """Share of the samples by stage."""
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder) / "perf.data"
        record = ["perf", "record", "-q", "-e", "cpu-clock", "-F", "5000", "-o", data]
        run([*record, program, model.resolve(), images])
        report = run(
            ["perf", "report", "-i", data, "--stdio", "--no-children", "-w", "0,400", "-F", "overhead,symbol"]
        )
    found: Counter = Counter()
    for line in report.splitlines():
        if (match := re.match(r"\s*([\d.]+)%\s+\[.\]\s+(.*)", line)) is None:
            continue
        name = match[2]
        stage = next((stage for stage, names in STAGES.items() if re.search(names, name)), REST)
        found[stage] += float(match[1]) / 100
    return found


def milliseconds(program: Path, model: Path) -> float:
    """Time of an image, start-up excluded: the best of several differences."""

    def seconds(images: int) -> float:
        return best(lambda: run([program, model.resolve(), images]), 5)

    few, many = 20, 220
    return (seconds(many) - seconds(few)) / (many - few) * 1e3


def bandwidth() -> float:
    """Bytes per ms, reads plus writes, of a copy within the second-level cache."""
    source = np.ones(1 << 16)
    target = np.empty_like(source)

    def copies() -> None:
        for _ in range(100):
            np.copyto(target, source)

    return 100 * 2 * source.nbytes / (1e3 * best(copies))


def bounds(model: TfliteModel, side: int, rates: dict[str, float]) -> dict[str, float]:
    """Lower bounds in ms by stage."""
    graph = model.subgraphs[0]
    values = first = mixing = 0
    for op in graph.operators:
        shape = graph.tensors[op.outputs[0]].shape
        if op.name == "LceBconv2d":
            values += math.prod(shape)
        elif op.name == "CONV_2D":
            products = math.prod(shape) * math.prod(graph.tensors[op.inputs[1]].shape[1:])
            first, mixing = (first, mixing + products) if shape[3] == 3 else (first + products, mixing)
    depth, bins = side // 4 + 1, side // 2 + 1
    transform = 4 * depth * depth * side + 8 * bins * depth * depth
    return {
        "binary convolutions": model_statistics(model).binary_macs / rates["binary"],
        "accumulators": 2 * values / rates["bytes"],
        "elementwise, signs": (2 + 4 + 4 + 1 / 8) * values / rates["bytes"],
        "channels": (transform + mixing) / rates["float"],
        "first convolution": first / rates["float"],
    }


def main() -> int:
    """Measure and print; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--resolution", type=int, default=224, help="side of the input; default 224")
    args = parser.parse_args()
    if shutil.which("perf") is None:
        print("perf is missing: apt-get install linux-perf", file=sys.stderr)
        return 1
    program = build_program(host_target(), ROOT / "build" / "stages")
    with tempfile.TemporaryDirectory() as folder:
        rates = {
            "binary": popcount_bound(Path(folder)),
            "float": float_bound(Path(folder)),
            "bytes": bandwidth(),
        }
    print(f"{machine()}, one thread, {args.resolution} px, {time.strftime('%d %B %Y')}")
    print(
        f"peaks: {rates['binary'] / 1e9:.2f} G binary and {rates['float'] / 1e6:.0f} M float multiply-adds per ms, "
        f"{rates['bytes'] / 1e6:.0f} MB per ms"
    )
    for name, channels in NETWORKS:
        path = untrained(name, args.resolution, channels)
        total, found = milliseconds(program, path), shares(program, path, 1000)
        least = bounds(parse_tflite(path.read_bytes()), args.resolution, rates)
        print(f"\n{name + ' ' + ','.join(channels):22}{'share':>7}{'ms':>8}{'bound':>8}")
        for stage, share in found.most_common():
            bound = f"{least[stage]:8.2f}" if stage in least else f"{'-':>8}"
            print(f"{stage:22}{share:7.1%}{share * total:8.2f}{bound}")
        print(f"{'sum':22}{'':7}{total:8.2f}{sum(least.values()):8.2f}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
