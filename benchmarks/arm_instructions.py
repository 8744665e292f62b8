"""Count instructions per image on emulated aarch64: `python benchmarks/arm_instructions.py [--functions] [--cpu NAME]`.

Run `make test-arm` first, which fills build/arm, and install qemu-user (apt-get install qemu-user; the static build cannot
load plugins). A plugin for qemu counts the instructions of programs that process three images and one; the difference is
that of two images. Instruction counts are not times: they ignore waiting for memory and parallel execution.

Binary networks run in our own runtime, float networks on LiteRT with XNNPACK. With ``--functions`` each binary network's
instructions are listed by function; inlined functions count for their callers.
"""

import argparse
import bisect
import shutil
import sys
import tempfile
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks.programs import build_program, readable  # noqa: E402
from converters.benchmark_models import baseline, untrained  # noqa: E402
from tools.arm.emulate import HOME, Emulator, own_wheel, run  # noqa: E402

LITERT = """
import sys
import numpy as np
from ai_edge_litert.interpreter import Interpreter
interpreter = Interpreter(sys.argv[1])
interpreter.allocate_tensors()
entry = interpreter.get_input_details()[0]
interpreter.set_tensor(entry["index"], np.full(entry["shape"], 7, entry["dtype"]))
for _ in range(int(sys.argv[2])):
    interpreter.invoke()
"""
TOP = 12  # functions to list


class Counting:
    """Programs under qemu, whose instructions are counted."""

    def __init__(self, qemu: str, cpu: str):
        self.emulator = Emulator("aarch64")
        self.qemu, self.env = qemu, {**self.emulator.env, "QEMU_CPU": cpu}
        self.plugin = HOME / "count_instructions.so"
        run(
            [
                "cc",
                "-O2",
                "-shared",
                "-fPIC",
                "-o",
                self.plugin,
                Path(__file__).with_name("count_instructions.c"),
            ]
        )

    def counts(self, program: list, times: int) -> Counter:
        """Executed instructions by address of the block, for a program whose last argument is a number of images."""
        with tempfile.TemporaryDirectory() as folder:
            out = Path(folder) / "counts"
            run(
                [self.qemu, "-plugin", f"{self.plugin},out={out}", "-L", self.emulator.root, *program, times],
                env=self.env,
                cwd=self.emulator.folder,
            )
            found: Counter = Counter()
            for line in out.read_text().splitlines():
                address, executed = line.split()
                found[int(address, 16)] += int(executed)
        return found

    def per_image(self, program: list) -> Counter:
        """The same for one image."""
        three, one = self.counts(program, 3), self.counts(program, 1)
        return Counter({address: (count - one[address]) / 2 for address, count in three.items()})


def by_function(program: Path, counts: Counter) -> Counter:
    """Sum counts of blocks by function."""
    symbols = []
    for line in run(["nm", "-C", "--defined-only", program]).splitlines():
        address, kind, name = line.split(" ", 2)
        if kind.lower() in "tw":
            symbols.append((int(address, 16), name))
    symbols.sort()
    starts = [address for address, _ in symbols]
    found: Counter = Counter()
    for address, count in counts.items():
        at = bisect.bisect_right(starts, address) - 1
        inside = at >= 0 and address < starts[-1] + (1 << 16)
        found[readable(symbols[at][1]) if inside else "libraries"] += count
    return found


def main() -> int:
    """Count and print; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--resolution", type=int, default=224, help="side of the input; default 224")
    parser.add_argument(
        "--cpu", default="cortex-a72", help="the processor that qemu plays; default cortex-a72"
    )
    parser.add_argument("--functions", action="store_true", help="also list the binary networks' functions")
    args = parser.parse_args()
    qemu = shutil.which("qemu-aarch64")
    if qemu is None or not (HOME / "aarch64" / "root").is_dir():
        print("run `make test-arm` first, and install qemu-user: apt-get install qemu-user", file=sys.stderr)
        return 1
    counting, program = Counting(qemu, args.cpu), build_program("aarch64", HOME / "run_model")
    counting.emulator.install(own_wheel("aarch64"))
    python = [counting.emulator.root / "usr" / "bin" / "python3.11", "-c", LITERT]
    print(f"aarch64 ({args.cpu}) under qemu, {args.resolution} px, millions of instructions per image")
    for name in ("mobilenetv2", "mobilenetv3-small"):
        counts = counting.per_image([*python, baseline(name, args.resolution).resolve()])
        print(f"{name:24}{counts.total() / 1e6:8.1f}  (LiteRT)", flush=True)
    all_channels, rgb = ("rgb", "fft", "lbp"), ("rgb",)
    for name, channels in (
        ("bnext-t", all_channels),
        ("bnext-n", all_channels),
        ("bnext-n", rgb),
        ("bnext-e", all_channels),
        ("bnext-e", rgb),
        ("quicknet", rgb),
    ):
        counts = counting.per_image([program, untrained(name, args.resolution, channels).resolve()])
        print(f"{name + ' ' + ','.join(channels):24}{counts.total() / 1e6:8.1f}", flush=True)
        if args.functions:
            for function, count in by_function(program, counts).most_common(TOP):
                print(f"    {count / 1e6:8.2f}  {count / counts.total():6.1%}  {function}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
