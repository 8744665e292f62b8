"""Measure installation and start-up, from the wheel to the first verdict.

    python benchmarks/startup.py [--runs 10] [--wheel F.whl]

The program builds this machine's wheel (or uses an existing one), installs it into an empty virtual environment, and runs
`bdd detect photo.jpg` there repeatedly, with the model in the wheel. It prints the time and size of the installation; the
time from the start of the process to its first line (the verdict) and to its end; its processor time, which hardly depends
on other load; and its peak resident memory, each as median and maximum. The first run, which compiles Python's modules, is
listed separately. In turns with it run `bdd detect --no-check` and a program that imports NumPy and Pillow and decodes the
same file; the program prints how much longer both kinds of detection take. The exit code is 1 if a median misses its target.
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
#: Seconds of processor time without a check of degraded copies, beyond a program that only decodes the file.
BEYOND = 0.05
#: That program.
_DECODE = (
    "import sys, numpy, PIL.Image as i; numpy.asarray(i.open(sys.argv[1]).convert('RGB')); print('decoded')"
)


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
        [folder / "bin" / "pip", "install", "-q", "--disable-pip-version-check", wheel],
        check=True,
        env=_environment(),
    )
    seconds = time.monotonic() - started
    names = subprocess.run(
        [folder / "bin" / "pip", "list", "--format", "json", "--disable-pip-version-check"],
        capture_output=True,
        check=True,
        env=_environment(),
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


def watched(
    command: list[str | Path], folder: Path, words: tuple[str, ...]
) -> tuple[float, float, float, float]:
    """Run a program; return the seconds to its first line, to its end, and of processor time, and its memory in MiB.

    Args:
        command: The program and its arguments.
        folder: Where it runs.
        words: What its first line may begin with.
    """
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", _WATCH, *command],
        stdout=subprocess.PIPE,
        cwd=folder,  # not the source tree, whose package would be imported instead
        env=_environment(),
        check=True,
    )
    line, code, *found = json.loads(done.stdout)
    if code != 0 or not line.startswith(words):
        raise SystemExit(f"{command[0]} printed {line!r} and ended with exit code {code}")
    return tuple(found)


def _environment() -> dict[str, str]:
    return {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "VIRTUAL_ENV")}


def in_turns(bdd: Path, photo: Path, folder: Path, runs: int) -> tuple:
    """Run detection with and without the check of copies, and a program that decodes, in turns.

    Returns:
        The first run of detection; then of each of the three the results of `watched`, [runs, 4].
    """
    labels = ("REAL", "FAKE", "UNSURE")
    programs = (
        ([bdd, "detect", photo], labels),
        ([bdd, "detect", photo, "--no-check"], labels),
        ([bdd.with_name("python"), "-c", _DECODE, photo], ("decoded",)),
    )
    cold = watched(programs[0][0], folder, labels)
    rounds = [[watched(command, folder, words) for command, words in programs] for _ in range(runs)]
    return cold, *np.array(rounds).transpose(1, 0, 2)


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
            cold, warm, plain, decoded = in_turns(bdd, photo, folder, args.runs)
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
            base = np.median(decoded, axis=0)
            print(
                f"  only decoded    median {base[0]:.3f} s, {base[1]:.3f} s to the end, {base[2]:.3f} s of processor time"
            )
            for title, runs in (("beyond that", warm), ("  with --no-check", plain)):
                first, end, processor = 1e3 * (np.median(runs, axis=0) - base)[:3]
                print(
                    f"  {title:17} {first:.0f} ms to the verdict, {end:.0f} ms to the end, {processor:.0f} ms of processor"
                )
            beyond = float(np.median(plain, axis=0)[2] - base[2])
            fine &= bool(name != "451x300" or (seconds < SECONDS and memory < MIB and beyond <= BEYOND))
    targets = (
        f"{SECONDS} s, {MIB} MiB and, with --no-check, {1e3 * BEYOND:.0f} ms of processor beyond decoding"
    )
    print(f"targets           {targets} for 451x300: {'met' if fine else 'missed'}")
    return 0 if fine else 1


if __name__ == "__main__":
    sys.exit(main())
