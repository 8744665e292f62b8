"""Tests the C++ runtime with AddressSanitizer and UndefinedBehaviorSanitizer: `make test-sanitize CASES=1000000`.

Runs all operator cases on every kernel set, then mutated models, mutated files with the interpreter, and mutated images
with the walker of metadata. Exits with 77 (skipped) if the compiler has no sanitizers. `--coverage` measures line
coverage with gcov instead.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
SANITIZERS = (
    "-g",
    "-O1",
    "-fsanitize=address,undefined",
    "-fno-sanitize-recover=all",
    "-fno-omit-frame-pointer",
)
SKIPPED = 77
#: Emulates the tile instructions, so that the AMX kernels run on every machine with AVX-512.
EMULATED_AMX = f'-DBDD_TILES="{HERE / "emulated_tiles.h"}"'


def build(folder: Path, flags: tuple) -> list[Path]:
    """Compile the library into each of the hosts."""
    from bdd_tf.edge.runtime.build import SOURCES, compile_objects, host_target
    from bdd_tf.errors import BddError

    # zig has no AddressSanitizer.
    names = [n for n in (os.environ.get("CXX"), "g++", "clang++") if n and shutil.which(n)]
    if not names:
        print("SKIPPED: neither g++ nor clang++ is installed.")
        sys.exit(SKIPPED)
    command = names[:1]
    probe = folder / "probe.cc"
    probe.write_text("int main() { return 0; }\n")
    done = subprocess.run(
        [*command, *flags, str(probe), "-o", str(folder / "probe")], capture_output=True, check=False
    )
    if done.returncode != 0 or subprocess.run([folder / "probe"], check=False).returncode != 0:
        print(f"SKIPPED: {command[0]} cannot build with {' '.join(flags)}.")
        sys.exit(SKIPPED)
    try:
        objects = compile_objects(command, host_target(), folder, (*flags, EMULATED_AMX))
    except BddError as error:
        sys.exit(str(error))
    hosts = []
    for name in ("host", "file_host", "evidence_host"):
        hosts.append(folder / name)
        subprocess.run(
            [*command, "-std=c++17", "-Wall", "-Wextra", "-Werror", "-pthread", *flags, f"-I{SOURCES}",
             str(HERE / f"{name}.cc"), *map(str, objects), "-o", str(hosts[-1])],
            check=True,
        )  # fmt: skip
    return hosts


def run(folder: Path, command: list) -> bool:
    """Run a host; on failure, print how to repeat its last case."""
    # Before each case, the host writes its number to file descriptor 9.
    last = folder / "last"
    last.write_text("")
    words = ["bash", "-c", f'exec 9<>"{last}"; exec "$0" "$@"', *map(str, command)]
    # Mutated sizes may ask for gigabytes: that must fail like any lack of memory.
    limits = "allocator_may_return_null=1:max_allocation_size_mb=256"
    done = subprocess.run(words, env={**os.environ, "ASAN_OPTIONS": limits}, check=False)
    if done.returncode != 0:
        number = last.read_text().strip()
        print(
            f"failed with {done.returncode}"
            + (f"; --cases 1 --seed {int(number)} repeats it" if number else "")
        )
    return done.returncode == 0


def coverage(folder: Path) -> None:
    """Print which share of the delegate's lines was executed."""
    from bdd_tf.edge.runtime.build import SOURCES

    lines = ran = 0
    for path in sorted(SOURCES.rglob("*.cc")):
        if not (folder / f"{path.stem}.gcda").exists():
            continue
        words = ["gcov", "-n", "-o", str(folder), str(folder / f"{path.stem}.o")]
        out = subprocess.run(words, cwd=folder, capture_output=True, text=True, check=True).stdout
        own = [block for block in out.split("File ") if block.startswith(f"'{path}'")]
        share, _, count = own[0].split("Lines executed:")[1].split("\n")[0].partition("% of ")
        print(f"  {path.name:30} {float(share):6.2f} % of {count}")
        lines, ran = lines + int(count), ran + round(int(count) * float(share) / 100)
    print(f"  {'all':30} {100 * ran / lines:6.2f} % of {lines} lines")


def evidence_files(folder: Path) -> list[Path]:
    """Write the image files that are mutated: those of the tests, and those that are made to be expensive."""
    from tests.edge.evidence.cases import CASES
    from tests.edge.evidence.mutations import expensive

    folder.mkdir()
    contents = [case.make() for case in CASES.values()]
    contents += [content for content in expensive().values() if len(content) < 200_000]
    paths = [folder / str(number) for number in range(len(contents))]
    for path, content in zip(paths, contents, strict=True):
        path.write_bytes(content)
    return paths


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument(
        "--cases",
        type=int,
        default=30_000,
        help="number of mutated models that must reach prepare, of mutated files, and of mutated images",
    )
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--coverage", action="store_true", help="line coverage instead of sanitizers")
    args = parser.parse_args()
    from bdd_tf.edge.shipped_model import shipped_model
    from tests.edge.runtime import float_cases, small_detectors
    from tools.runtime import corpus

    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        count = corpus.write(folder / "corpus", [shipped_model("cifake")])
        print(f"{count} models in the corpus", flush=True)
        flags = ("--coverage", "-O0") if args.coverage else SANITIZERS
        host, file_host, evidence_host = build(folder, flags)
        small = [folder / f"{name}.tflite" for name in small_detectors.CASES]
        for path in small:
            path.write_bytes(small_detectors.build(path.stem))
        # One file in three is a detector; the others have one float operator each.
        operators = folder / "operators"
        operators.mkdir()
        for number, content in enumerate(float_cases.all_cases().values()):
            small.append(operators / f"{number}.tflite")
            small[-1].write_bytes(content)
        small += small[: len(small_detectors.CASES)] * (len(small) // (2 * len(small_detectors.CASES)))
        images = evidence_files(folder / "images")
        cases, seed = str(args.cases), str(args.seed)
        programs = (
            [host, folder / "corpus", "check"],
            [host, folder / "corpus", "fuzz", cases, seed],
            [file_host, cases, seed, *small],
            [evidence_host, cases, seed, *images],
        )
        if not all(run(folder, program) for program in programs):
            return 1
        if args.coverage:
            coverage(folder)
    return 0


if __name__ == "__main__":
    sys.exit(main())
