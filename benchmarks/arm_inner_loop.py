"""Analyse the aarch64 inner loop: instructions per 128 binary multiply-adds, and cycles modelled by llvm-mca.

    python benchmarks/arm_inner_loop.py          (needs llvm-mca: apt-get install llvm)

The time of a network derived from these numbers is an estimate, not a measurement. llvm-mca models a core with all data
in the first-level cache, and covers the binary convolutions only.
"""

import re
import subprocess
import sys
import tempfile
from pathlib import Path

from bdd_tf.edge.runtime.build import FLAGS, SOURCES, TARGETS

#: By core: a device that has it, and its clock in GHz.
DEVICES = {"cortex-a72": ("Raspberry Pi 4", 1.8), "cortex-a76": ("Raspberry Pi 5", 2.4)}
#: Binary multiply-adds of BNext-T at 224 px (from `bdd info`).
MACS = 4.817e9


def inner_loop() -> list[str]:
    """Return the instructions of the fastest innermost loop over whole tiles, which counts bits of 16 registers or more."""
    command = [sys.executable, "-m", "ziglang", "c++", *TARGETS["aarch64"].zig]
    flags = [f for f in FLAGS if f not in ("-Werror",)]
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder) / "neon.s"
        subprocess.run(
            [*command, *flags, f"-I{SOURCES}", "-S", str(SOURCES / "kernels" / "neon.cc"), "-o", str(output)],
            check=True,
        )
        lines = output.read_text().splitlines()
    loops: list[list[str]] = []
    started: list[tuple[str, list[str]]] = []  # labels, and the instructions since
    for line in lines:
        text = line.split("//")[0].strip()
        if match := re.match(r"^(\.L(?:BB|tmp)\w+):$", text):  # the compiler's, and those of inline assembly
            started.append((match[1], []))
        elif text and not text.startswith(".") and not text.endswith(":"):
            for _, body in started:
                body.append(text)
            if text.startswith("b") and (at := _last(started, text.split()[-1])) is not None:
                loops.append(list(started[at][1]))
                started.clear()  # what encloses a loop is not innermost
    whole = [loop for loop in loops if count(loop, "cnt") >= 16]
    return min(whole, key=lambda loop: len(loop) / count(loop, "eor"))


def count(loop: list[str], operation: str) -> int:
    """How many instructions have this mnemonic."""
    return sum(i.split()[0] == operation for i in loop)


def _last(started: list[tuple[str, list[str]]], label: str) -> int | None:
    """Index of the last of these labels."""
    return next((i for i in range(len(started) - 1, -1, -1) if started[i][0] == label), None)


def cycles(loop: list[str], core: str) -> float:
    """Return the cycles of an iteration as modelled by llvm-mca."""
    done = subprocess.run(
        ["llvm-mca", "-march=aarch64", f"-mcpu={core}", "-iterations=200"],
        input="\n".join(loop), capture_output=True, text=True, check=True,
    )  # fmt: skip
    return float(re.search(r"Total Cycles:\s+(\d+)", done.stdout)[1]) / 200


def main() -> int:
    """Print counts, cycles and the estimate; return the exit code."""
    loop = inner_loop()
    units = count(loop, "eor")  # each multiplies 128 signs
    kinds = {name: sum(i.split()[0] == name for i in loop) for name in sorted({i.split()[0] for i in loop})}
    print(f"{len(loop)} instructions for {units} x 128 multiply-adds: {len(loop) / units:.2f} each; {kinds}")
    for core, (device, clock) in DEVICES.items():
        c = cycles(loop, core)
        ms = MACS / 128 / units * c / clock / 1e6
        print(
            f"{core}: {c:.1f} cycles per iteration, {c / units:.2f} per 128 multiply-adds; BNext-T at 224 px, binary "
            f"convolutions on one core of a {device} at {clock} GHz: {MACS / 1e9:.3f} G / 128 x {c / units:.2f} cycles "
            f"= {ms:.0f} ms (estimate)"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
