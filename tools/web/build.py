"""Builds the npm package and the page: ``python -m tools.web.build [--output build/web]``.

Both are copies of ``web/`` with the WebAssembly module; nothing is bundled or minified. The page also gets a model, a
service worker with the hash of every file, and a self-test: an image whose score the native library computes here.
"""

from __future__ import annotations

import argparse
import base64
import gzip
import hashlib
import io
import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
from PIL import Image
from PIL.PngImagePlugin import PngInfo

import bdd_tf
from bdd_tf.edge.runtime.build import build as build_library
from bdd_tf.edge.shipped_model import shipped_model
from bdd_tf.errors import BddError, exit_code
from tools.web.reference import Reference

ROOT = Path(__file__).resolve().parents[2]
SOURCES = ROOT / "web"
MODEL = "photos"
#: Neither inline scripts nor other origins; images are those of the user. A meta element cannot forbid frames.
POLICY = (
    "default-src 'none'; script-src 'self' 'wasm-unsafe-eval'; style-src 'self'; img-src 'self' blob:; "
    "connect-src 'self'; worker-src 'self'; manifest-src 'self'; base-uri 'none'; form-action 'none'"
)
#: The image of the self-test: width and height.
FIXED_SIZE = (200, 150)
#: Files that the package consists of, apart from the module and the licence.
PACKAGE_FILES = tuple(
    "index.js index.d.ts runtime.js pixels.js header.js notes.js stability.js README.md".split()
)


def fixed_image(width: int, height: int) -> np.ndarray:
    """The pixels of ``web/page/selftest.js``: uint8 [height, width, 3]."""
    pixels = np.empty((height, width, 3), np.uint8)
    state = 1
    for y in range(height):
        for x in range(width):
            for c in range(3):
                state = (state * 1664525 + 1013904223) & 0xFFFFFFFF
                pixels[y, x, c] = (x * (c + 1) + y * (3 - c) + (state >> 27)) & 255
    return pixels


def fixed_file(pixels: np.ndarray) -> bytes:
    """A PNG file that declares another gamma: a decoder that converts colours changes its pixels."""
    info = PngInfo()
    info.add(b"gAMA", (100_000).to_bytes(4, "big"))
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG", pnginfo=info)
    return file.getvalue()


def build_package(output: Path) -> Path:
    """Write the npm package into ``output``/package; returns that folder."""
    folder = _fresh(output / "package")
    for name in PACKAGE_FILES:
        shutil.copyfile(SOURCES / "package" / name, folder / name)
    description = (SOURCES / "package" / "package.json").read_text()
    (folder / "package.json").write_text(description.replace("@VERSION@", bdd_tf.__version__))
    shutil.copyfile(ROOT / "LICENSE", folder / "LICENSE")
    shutil.copyfile(build_library("wasm32", output / "bdd.wasm"), folder / "bdd.wasm")
    return folder


def build_page(output: Path, package: Path) -> Path:
    """Write the page into ``output``/page; returns that folder."""
    folder, page = _fresh(output / "page"), SOURCES / "page"
    for name in ("worker.js", "selftest.js", "manifest.webmanifest", "icon.svg"):
        shutil.copyfile(page / name, folder / name)
    (folder / "index.html").write_text((page / "index.html").read_text().replace("@POLICY@", POLICY))
    # Cards and style are those of `bdd serve`.
    service = ROOT / "bdd_tf" / "service"
    (folder / "app.js").write_text((service / "page.cards.js").read_text() + (page / "app.js").read_text())
    (folder / "page.css").write_text((service / "page.css").read_text() + (page / "extra.css").read_text())
    (folder / "package").mkdir()
    for path in (p for p in sorted(package.iterdir()) if p.suffix in (".js", ".wasm")):
        shutil.copyfile(path, folder / "package" / path.name)
    model = shipped_model(MODEL)
    shutil.copyfile(model, folder / model.name)
    _write_self_test(folder, model)
    write_service_worker(folder)
    return folder


def _write_self_test(folder: Path, model: Path) -> None:
    pixels = fixed_image(*FIXED_SIZE)
    with Reference(model) as reference:
        probability, _ = reference.score_image(np.dstack([pixels, np.full(pixels.shape[:2], 255, np.uint8)]))
    about = {
        "model": model.name,
        "sha256": hashlib.sha256(model.read_bytes()).hexdigest(),
        "width": FIXED_SIZE[0],
        "height": FIXED_SIZE[1],
        "probability": probability,
    }
    (folder / "selftest.json").write_text(json.dumps(about) + "\n")
    (folder / "selftest.png").write_bytes(fixed_file(pixels))


def write_service_worker(folder: Path) -> None:
    """All files with their hashes, and a version that changes with any of them."""
    hashes = {
        path.relative_to(folder).as_posix(): "sha256-"
        + base64.b64encode(hashlib.sha256(path.read_bytes()).digest()).decode()
        for path in sorted(p for p in folder.rglob("*") if p.is_file())
    }
    source = (SOURCES / "page" / "sw.js").read_text()
    version = hashlib.sha256((source + json.dumps(hashes)).encode()).hexdigest()[:16]
    source = source.replace("@VERSION@", version)
    source = source.replace("{}; /* @FILES@ */", json.dumps(hashes, indent=2) + ";")
    (folder / "sw.js").write_text(source)


def sizes(folder: Path) -> dict[str, tuple[int, int]]:
    """Bytes of each file of a folder, and of the same compressed by gzip."""
    return {
        path.relative_to(folder).as_posix(): (
            path.stat().st_size,
            len(gzip.compress(path.read_bytes(), 9, mtime=0)),
        )
        for path in sorted(p for p in folder.rglob("*") if p.is_file())
    }


def _fresh(folder: Path) -> Path:
    if folder.exists():
        shutil.rmtree(folder)
    folder.mkdir(parents=True)
    return folder


def _report(package: Path, page: Path) -> None:
    for title, folder in (("package", package), ("page with model", page)):
        found = sizes(folder).values()
        print(
            f"{title}: {folder}, {sum(a for a, _ in found):,} bytes, {sum(b for _, b in found):,} with gzip"
        )
    npm = shutil.which("npm")
    if npm is None:
        print("npm is not installed: no package file")
        return
    done = subprocess.run(
        [npm, "pack", "--silent", "--offline", "--pack-destination", str(package.parent)],
        cwd=package, capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode:
        raise BddError(f"npm pack failed: {done.stderr.strip()}")
    packed = package.parent / done.stdout.strip()
    print(f"npm pack: {packed}, {packed.stat().st_size:,} bytes")


def main() -> int:
    """Build both from the command line; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tools.web.build", description=__doc__.split("\n")[0])
    parser.add_argument("--output", type=Path, default=ROOT / "build" / "web", metavar="FOLDER")
    args = parser.parse_args()

    def run() -> None:
        package = build_package(args.output)
        _report(package, build_page(args.output, package))

    return exit_code(run, "bdd")


if __name__ == "__main__":
    sys.exit(main())
