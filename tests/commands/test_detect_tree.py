"""`bdd detect` over a tree of 3,000 mixed entries: it ends, and every entry is scored, an error, or counted with a reason.

The tree has more than 40 kinds of file, links (to files, to folders, to nothing, to themselves, to a folder above), pipes,
sockets, unreadable folders, hidden entries, names that are no text, and folders nested deeper than Python's recursion limit.
"""

import contextlib
import ctypes
import io
import json
import os
import re
import socket
import subprocess
import sys
import time
import zipfile

import pytest
from PIL import Image

from tests.edge.images import odd_files

ENTRIES = 3000
DEPTH = 1200
SECONDS, MEGABYTES = 400, 300
PROGRAM = """
import re, sys
from bdd_tf.cli import main
code = main(sys.argv[1:])
print("kB:", re.search(r"VmHWM:\\s*(\\d+)", open("/proc/self/status").read())[1], file=sys.stderr)
sys.exit(code)
"""
#: Kind -> first bytes of files that are neither images nor videos.
OTHERS = {
    "txt": b"notes\n", "json": b"{}", "csv": b"path,label\n", "html": b"<html>", "xml": b"<?xml", "svg": b"<svg>",
    "pdf": b"%PDF-1.7\n", "eps": b"%!PS-Adobe-3.0 EPSF-3.0\n", "ps": b"%!PS", "psd": b"8BPS\0\1", "ico": b"\0\0\1\0\1\0",
    "mp3": b"ID3\4", "wav": b"RIFF\x24\0\0\0WAVEfmt ", "flac": b"fLaC", "gz": b"\x1f\x8b\x08", "bz2": b"BZh9",
    "xz": b"\xfd7zXZ\0", "7z": b"7z\xbc\xaf\x27\x1c", "rar": b"Rar!\x1a\7\0", "elf": b"\x7fELF\2\1\1", "exe": b"MZ\x90\0",
    "class": b"\xca\xfe\xba\xbe", "wasm": b"\0asm\1", "sqlite": b"SQLite format 3\0", "npy": b"\x93NUMPY\1\0",
    "ttf": b"\0\1\0\0\0\x0f", "woff": b"wOFF", "py": b"import os\n", "sh": b"#!/bin/sh\n", "tflite": b"\x1c\0\0\0TFL3",
    "pcap": b"\xd4\xc3\xb2\xa1", "xcf": b"gimp xcf ", "hdr": b"#?RADIANCE\n", "pgm": b"P5\n1 1\n255\n\0", "qoi": b"qoif",
    "md": b"# Notes\n", "db": b"\xd0\xcf\x11\xe0", "empty": b"",
}  # fmt: skip


def image_files():
    """About forty kinds of images, sound and damaged."""
    sound = dict(odd_files.saved())
    chosen = {name: content for name, content in sound.items() if not name.startswith(("CMYK-", "YCbCr-"))}
    photo = Image.effect_noise((3000, 4000), 40).convert("RGB")
    with io.BytesIO() as file:
        photo.save(file, "JPEG")
        chosen["photo-of-12-megapixels.jpg"] = file.getvalue()
    damaged = odd_files.damaged({**sound, **dict(odd_files.pngs()), **dict(odd_files.tiffs()),
                                 **dict(odd_files.scientific_tiffs())})  # fmt: skip
    return chosen, dict(damaged)


def dig(folder, content):
    """Put a file below `DEPTH` folders; pytest cannot delete them, `shutil.rmtree` is recursive."""
    here = os.open(folder, os.O_RDONLY)
    for _ in range(DEPTH):
        os.mkdir("d", dir_fd=here)
        inner = os.open("d", os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = inner
    with os.fdopen(os.open("bottom.png", os.O_WRONLY | os.O_CREAT, dir_fd=here), "wb") as file:
        file.write(content)
    os.close(here)


@pytest.fixture
def tree(tmp_path):
    yield tmp_path / "tree"
    for closed in (tmp_path / "tree").glob("*/*/closed*"):
        closed.chmod(0o700)
    subprocess.run(["rm", "-rf", tmp_path / "tree"], check=True)


def fill(folder):
    """Make the tree; returns the number of its entries, and of those that `bdd detect` shall leave out."""
    made, left_out = 0, 0
    folders = [folder / f"{a}" / f"{b}" for a in range(10) for b in range(3)]
    for path in folders:
        path.mkdir(parents=True)
    sound, damaged = image_files()

    def write(name, content):
        nonlocal made
        path = folders[made % len(folders)] / name
        path.write_bytes(content)
        made += 1
        return path

    for name, content in {**sound, **damaged}.items():
        write(name, content)
    for number, (name, content) in enumerate(
        sound.items()
    ):  # other names: none, a wrong one, bytes, a long one
        odd = (f"{number}", f"{number}.txt", os.fsdecode(b"\xff%d.png" % number), f"{number}{'x' * 240}.jpg",
               f"line\n{number}.png", f"{number} bücher 🐈.png")[number % 6]  # fmt: skip
        if name != "photo-of-12-megapixels.jpg":
            write(odd, content)
    target = write("target.png", sound["RGB-True.webp"])
    for number in range(60):
        here = folders[number % len(folders)]
        (here / f"link{number}.png").symlink_to(target)
        (here / f"broken{number}.png").symlink_to(here / "nothing")
        (here / f"loop{number}").symlink_to(f"loop{number}")
        (here / f"above{number}").symlink_to(folder / "0")
        os.mkfifo(here / f"pipe{number}")
        os.mkfifo(here / f"pipe{number}.jpg")
        (here / f"device{number}.png").symlink_to("/dev/zero")
        (here / f"proc{number}").symlink_to("/proc/self/mem")
        (here / f".hidden{number}").write_bytes(b"x")
        (here / f"a{number}.explain.png").write_bytes(sound["RGB-True.webp"])
        made += 10
        left_out += 5  # above, pipe without a suffix, proc, hidden, heat map
    for number in range(5):
        with socket.socket(socket.AF_UNIX) as server, contextlib.chdir(folders[number]):
            server.bind(f"socket{number}")  # a path to a socket has at most 107 bytes
        (folders[number] / f"closed{number}").mkdir(mode=0)
        made, left_out = made + 2, left_out + 1  # an unreadable folder is an error
    deep = folder / "deep"
    deep.mkdir()
    dig(deep, sound["RGB-True.webp"])
    made += 1
    with io.BytesIO() as file:
        with zipfile.ZipFile(file, "w") as archive:
            archive.writestr("a.png", sound["RGB-True.webp"])
        others = {**OTHERS, "zip": file.getvalue(), "docx": file.getvalue()}
    kinds = list(others.items())
    while made < ENTRIES:
        kind, content = kinds[made % len(kinds)]
        write(f"{made}.{kind}", content)
        left_out += 1
    return made, left_out


def without_roots_rights():
    """In the child: root reads unreadable folders, unless these capabilities are dropped before the program starts."""
    libc = ctypes.CDLL(None)
    for capability in (1, 2):  # CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH
        libc.prctl(24, capability, 0, 0, 0)  # PR_CAPBSET_DROP


@pytest.mark.skipif(sys.platform != "linux", reason="/proc, pipes and capabilities of Linux")
def test_every_entry_is_accounted_for(tree, tmp_path):
    made, left_out = fill(tree)
    assert made == ENTRIES
    output = tmp_path / "out.json"
    command = [sys.executable, "-c", PROGRAM, "detect", tree, "--model", "cifake", "--json"]
    started = time.monotonic()
    with output.open("wb") as out, (tmp_path / "err").open("wb") as err:
        child = subprocess.Popen(command, stdout=out, stderr=err, preexec_fn=without_roots_rights)
        try:
            child.wait(SECONDS)
        finally:
            child.kill()
    seconds = time.monotonic() - started
    err = (tmp_path / "err").read_text(errors="replace")
    records = [json.loads(line) for line in output.read_text().splitlines()]
    errors = [record for record in records if record["error"] is not None]
    megabytes = int(re.search(r"^kB: (\d+)$", err, re.MULTILINE)[1]) * 1024 / 1e6
    counted = re.search(r"bdd: ([\d,]+) entries were left out: ", err)
    assert child.returncode == 1, err[-2000:]
    assert "Traceback" not in err
    assert len({record["path"] for record in records}) == len(records)
    assert int(counted[1]) == left_out
    assert len(records) + left_out == ENTRIES
    assert sum(record["fake_probability"] is not None for record in records) == len(records) - len(errors)
    reasons = " ".join(record["error"] for record in errors)
    for reason in (
        "no such file",
        "leads back to itself",
        "a named pipe",
        "a device",
        "this folder cannot be read: Permission",
    ):
        assert reason in reasons
    for reason in (
        "of another kind",
        "hidden",
        "a heat map",
        "searched before",
        "not a regular file",
        "empty",
    ):
        assert reason in counted.string[counted.start() :]
    assert megabytes < MEGABYTES
    print(
        f"{len(records)} records, {len(errors)} of them errors, {left_out} left out; {seconds:.1f} s, {megabytes:.0f} MB"
    )
