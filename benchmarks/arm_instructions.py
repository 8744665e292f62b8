"""Instructions per image on emulated aarch64, fused and unfused: `python benchmarks/arm_instructions.py`.

Needs what `make test-arm` leaves in build/arm, and qemu-user (not the static one, which loads no plugins):
apt-get install qemu-user. Counted is what a program of three images executes beyond one of a single image, by a plugin
for qemu. Instructions are not time: loads that wait and instructions that run side by side count alike.
"""

import argparse
import re
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "arm")]

from emulate import HOME, Emulator, own_wheel  # noqa: E402

from bdd_tf.rival_files import rival, untrained  # noqa: E402

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
    """Count and print; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--resolution", type=int, default=224)
    args = parser.parse_args()
    qemu = shutil.which("qemu-aarch64")
    if qemu is None or not (HOME / "aarch64" / "root").is_dir():
        print("bdd: first `make test-arm`, and apt-get install qemu-user", file=sys.stderr)
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
    files["mobilenetv2"] = (rival("mobilenetv2", args.resolution), ("none",))
    print(f"aarch64 (cortex-a72) under qemu, {args.resolution} px, millions of instructions per image")
    for name, (path, ways) in files.items():
        found = {how: (count(path, how, 3) - count(path, how, 1)) / 2e6 for how in ways}
        print(f"{name:24}" + "  ".join(f"{how} {value:8.1f}" for how, value in found.items()), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
