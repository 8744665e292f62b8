"""Builds one wheel per platform from the source tree: ``python -m bdd_tf.edge.runtime.wheels [TARGET ...]``."""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
from pathlib import Path

from bdd_tf.edge.runtime.build import TARGETS
from bdd_tf.errors import BddError, exit_code

ROOT = Path(__file__).resolve().parents[3]


def build_wheel(target: str, folder: Path) -> Path:
    """Build the wheel of one platform with zig.

    Args:
        target: A key of `bdd_tf.edge.runtime.build.TARGETS`.
        folder: Folder for the wheel. Replaces an earlier wheel of the platform.

    Returns:
        The wheel's path.

    Raises:
        BddError: If the build fails, with pip's output.
    """
    tag = TARGETS[target].platform
    for old in folder.glob(f"bdd_tf-*-{tag}.whl"):
        old.unlink()
    # Files left over from another platform's build would be packed, too.
    for old in (ROOT / "build").glob("lib*"):
        shutil.rmtree(old)
    command = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "-q",
        "--no-deps",
        "--no-build-isolation",
        "-w",
        str(folder),
        ".",
    ]
    env = {k: v for k, v in os.environ.items() if k != "CXX"} | {"BDD_TARGET": target}
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, check=False)
    made = list(folder.glob(f"bdd_tf-*-{tag}.whl"))
    if done.returncode != 0 or len(made) != 1:
        raise BddError(f"building the wheel for {target} failed:\n{done.stderr.strip()}")
    return made[0]


def main() -> int:
    """Build the wheels from the command line; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m bdd_tf.edge.runtime.wheels", description=__doc__.split("\n")[0]
    )
    parser.add_argument(
        "targets", nargs="*", metavar="TARGET", help=f"one of {', '.join(TARGETS)} (default: all)"
    )
    parser.add_argument(
        "--output",
        type=Path,
        default=ROOT / "dist",
        metavar="DIR",
        help="folder for the wheels (default: dist)",
    )
    args = parser.parse_args()
    if unknown := [t for t in args.targets if t not in TARGETS]:
        parser.error(f"unknown target {unknown[0]}; possible: {', '.join(TARGETS)}")

    def build_all() -> None:
        for target in args.targets or TARGETS:
            wheel = build_wheel(target, args.output)
            print(f"{wheel}  {wheel.stat().st_size / 1e6:.2f} MB")

    return exit_code(build_all, "bdd")


if __name__ == "__main__":
    sys.exit(main())
