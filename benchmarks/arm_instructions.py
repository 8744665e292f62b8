"""Count instructions per image on emulated aarch64, fused and unfused: `python benchmarks/arm_instructions.py`.

Run `make test-arm` first, which fills build/arm, and install qemu-user (apt-get install qemu-user; the static build cannot
load plugins). A plugin for qemu counts the instructions of programs that process three images and one; the difference is
that of two images. Instruction counts are not times: they ignore waiting for memory and parallel execution.
"""

import argparse
import re
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from converters.benchmark_models import baseline, untrained  # noqa: E402
from tools.arm.emulate import HOME, Emulator, own_wheel  # noqa: E402

RUN = """
import sys
import numpy as np
from ai_edge_litert.interpreter import Interpreter
from bdd_tf.edge import lce_delegate
path, how, images = sys.argv[1], sys.argv[2], int(sys.argv[3])
delegates = [] if how == "none" else [lce_delegate(fuse=how == "fused")]
interpreter = Interpreter(path, experimental_delegates=delegates)
interpreter.allocate_tensors()
entry = interpreter.get_input_details()[0]
interpreter.set_tensor(entry["index"], np.full(entry["shape"], 7, entry["dtype"]))
for _ in range(images):
    interpreter.invoke()
"""


def main() -> int:
    """Count and print; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--resolution", type=int, default=224, help="side of the input; default 224")
    args = parser.parse_args()
    qemu = shutil.which("qemu-aarch64")
    if qemu is None or not (HOME / "aarch64" / "root").is_dir():
        print("run `make test-arm` first, and install qemu-user: apt-get install qemu-user", file=sys.stderr)
        return 1
    plugin = HOME / "count_instructions.so"
    source = Path(__file__).with_name("count_instructions.c")
    subprocess.run(["cc", "-O2", "-shared", "-fPIC", "-o", plugin, source], check=True)
    emulator = Emulator("aarch64")
    emulator.install(own_wheel("aarch64"))
    prefix = [qemu, "-plugin", str(plugin), *emulator.prefix[1:]]

    def count(path: Path, how: str, images: int) -> int:
        command = [*prefix, "-c", RUN, str(path.resolve()), how, str(images)]
        done = subprocess.run(
            command, env=emulator.env, cwd=emulator.folder, capture_output=True, text=True, check=False
        )
        found = re.search(r"instructions: (\d+)", done.stderr)
        if done.returncode != 0 or found is None:
            raise RuntimeError(done.stderr[-2000:])
        return int(found[1])

    all_channels = ("rgb", "fft", "lbp")
    files = {
        f"{name} {','.join(channels)}": (untrained(name, args.resolution, channels), ("unfused", "fused"))
        for name, channels in (("bnext-t", all_channels), ("bnext-n", all_channels), ("quicknet", ("rgb",)))
    }
    files["mobilenetv2"] = (baseline("mobilenetv2", args.resolution), ("none",))
    print(f"aarch64 (cortex-a72) under qemu, {args.resolution} px, millions of instructions per image")
    for name, (path, ways) in files.items():
        found = {how: (count(path, how, 3) - count(path, how, 1)) / 2e6 for how in ways}
        print(f"{name:24}" + "  ".join(f"{how} {value:8.1f}" for how, value in found.items()), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
