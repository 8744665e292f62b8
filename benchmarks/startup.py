"""Measure installation and start-up, from the wheel to the first verdict.

    python benchmarks/startup.py [--runs 10] [--wheel F.whl]

The program builds this machine's wheel (or uses an existing one), installs it into an empty virtual environment, and runs
`bdd detect photo.jpg` there repeatedly, with the model in the wheel. It prints the time and size of the installation; the
time from the start of the process to its first line (the verdict) and to its end; its processor time, which hardly depends
on other load; and its peak resident memory, each as median and maximum. The first run, which compiles Python's modules, is
listed separately. The exit code is 1 if a median misses its target.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
import venv
from pathlib import Path

import numpy as np
from PIL import Image
from skimage import data

from bdd_tf.edge.runtime.build import host_target
from bdd_tf.edge.runtime.wheels import build_wheel

#: Targets for a web-sized photograph: seconds to the first verdict, and memory in MiB.
SECONDS, MIB = 0.6, 120


def photographs(folder: Path) -> dict[str, Path]:
    """Write scikit-image's photograph of a cat as JPEG, in its own size and enlarged to 12 megapixels."""
    cat = Image.fromarray(data.chelsea())
    files = {}
    for name, image in (("451x300", cat), ("4000x3000", cat.resize((4000, 3000), Image.Resampling.BICUBIC))):
        files[name] = folder / f"{name}.jpg"
        image.save(files[name], quality=90)
    return files


def installed(wheel: Path, folder: Path) -> tuple[Path, float]:
    """Install a wheel into a new environment; return the path of its `bdd` and the duration in seconds."""
    venv.create(folder, with_pip=True)
    before = occupied(folder)
    started = time.monotonic()
    subprocess.run(
        [folder / "bin" / "pip", "install", "-q", "--disable-pip-version-check", wheel], check=True
    )
    seconds = time.monotonic() - started
    names = subprocess.run(
        [folder / "bin" / "pip", "list", "--format", "json", "--disable-pip-version-check"],
        capture_output=True,
        check=True,
    ).stdout
    packages = [entry["name"] for entry in json.loads(names)]
    print(
        f"pip install       {seconds:.1f} s; {(occupied(folder) - before) / 1e6:.0f} MB; {', '.join(packages)}"
    )
    return folder / "bin" / "bdd", seconds


def occupied(folder: Path) -> int:
    """Return the total size of the files in a folder in bytes."""
    return sum(path.lstat().st_size for path in folder.rglob("*") if not path.is_dir())


#: Runs in a separate Python, because a child process starts with the resident memory of its parent, and this program has
#: more of it than the measured one.
_WATCH = """
import json, os, subprocess, sys, time
started = time.perf_counter()
process = subprocess.Popen(sys.argv[1:], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
line = process.stdout.readline().decode(errors="replace")
first = time.perf_counter() - started
_, status, usage = os.wait4(process.pid, 0)
print(json.dumps([line, os.waitstatus_to_exitcode(status), first, time.perf_counter() - started,
                  usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024]))
"""


def detect(bdd: Path, photo: Path, folder: Path) -> tuple[float, float, float, float]:
    """Run `bdd detect`; return the seconds to its first line, to its end, and of processor time, and its memory in MiB."""
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", _WATCH, bdd, "detect", photo],
        stdout=subprocess.PIPE,
        cwd=folder,  # not the source tree, whose package would be imported instead
        env=_environment(),
        check=True,
    )
    line, code, *found = json.loads(done.stdout)
    if code != 0 or not line.startswith(("REAL", "FAKE")):
        raise SystemExit(f"bdd detect printed {line!r} and ended with exit code {code}")
    return tuple(found)


def _environment() -> dict[str, str]:
    return {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "VIRTUAL_ENV")}


def main() -> int:
    """Measure; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=10, help="number of runs after the first; default 10")
    parser.add_argument("--wheel", type=Path, help="wheel to install; default: built from this source tree")
    args = parser.parse_args()
    fine = True
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        wheel = (args.wheel or build_wheel(host_target(), folder / "dist")).resolve()
        print(f"{wheel.name}  {wheel.stat().st_size / 1e6:.2f} MB")
        bdd, _ = installed(wheel, folder / "environment")
        for name, photo in photographs(folder).items():
            cold, *warm = (detect(bdd, photo, folder) for _ in range(args.runs + 1))
            print(f"bdd detect, JPEG of {name} ({args.runs} runs after the first)")
            print(f"  first run       {cold[0]:.3f} s to the verdict")
            for title, values, unit in zip(
                ("to the verdict", "to the end", "processor time", "memory"),
                np.transpose(warm),
                ("s", "s", "s", "MiB"),
                strict=True,
            ):
                form = ".1f" if unit == "MiB" else ".3f"
                middle = statistics.median(values)
                print(f"  {title:15} median {middle:{form}} {unit}, largest {max(values):{form}} {unit}")
            seconds, _, _, memory = np.median(warm, axis=0)
            fine &= bool(name != "451x300" or (seconds < SECONDS and memory < MIB))
    print(f"targets           {SECONDS} s and {MIB} MiB for 451x300: {'met' if fine else 'missed'}")
    return 0 if fine else 1


if __name__ == "__main__":
    sys.exit(main())
