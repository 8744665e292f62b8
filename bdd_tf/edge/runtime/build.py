"""Compiles the delegate: ``python -m bdd_tf.edge.runtime.build [--target aarch64] [--output FILE]``.

For Android (``--target android_arm64``, docs/android.md) the compiler is the NDK's, which ANDROID_NDK_HOME names.

The compiler is zig, which ``pip install ziglang`` brings: it compiles for every target from anywhere, its results need
nothing beyond glibc 2.17, and (being clang) it keeps more in registers than GCC 12, worth 5 to 10 % of a network's
time on a Xeon and 30 % on an EPYC. For this machine another one can be named in $CXX; without zig the system's (c++,
g++, clang++) is used.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.util
import os
import platform
import shlex
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from bdd_tf.edge.runtime import LIBRARY
from bdd_tf.errors import BddError, UsageError, one_of

SOURCES = Path(__file__).resolve().parent / "src"
FLAGS = (
    "-std=c++17 -O3 -fPIC -fvisibility=hidden -fno-exceptions -fno-rtti -pthread "
    # A fused multiplication and addition rounds once instead of twice, which flips signs.
    "-ffp-contract=off "
    "-Wall -Wextra -Wpedantic -Wshadow -Wconversion -Werror"
).split()
LINK = (
    "-shared -pthread -static-libstdc++ -static-libgcc -Wl,--no-undefined -s "
    f"-Wl,--version-script={SOURCES / 'exports.map'}"
).split()


@dataclass(frozen=True)
class Target:
    """A kind of machine.

    Attributes:
        zig: Flags that make zig compile for it.
        kernels: Files of kernels with the flags that each needs beside the common ones.
        native: Flags for the system's compiler.
        platform: Tag of its wheels.
    """

    zig: tuple[str, ...]
    kernels: dict[str, tuple[str, ...]]
    platform: str
    native: tuple[str, ...] = ()


_AVX512BW = "-mavx512f -mavx512bw -mavx512dq -mavx512vl -mprefer-vector-width=512"
_AVX512 = f"{_AVX512BW} -mavx512vpopcntdq"

TARGETS = {
    "x86_64": Target(
        ("-target", "x86_64-linux-gnu.2.17", "-mcpu=x86_64"),
        {
            "kernels_avx2.cc": ("-mavx2", "-mfma"),
            "kernels_avx512bw.cc": tuple(_AVX512BW.split()),
            "kernels_avx512.cc": tuple(_AVX512.split()),
            "kernels_avx512parity.cc": tuple(_AVX512.split()),
            "kernels_amx.cc": (*_AVX512.split(), "-mamx-tile", "-mamx-int8"),
        },
        "manylinux_2_17_x86_64.manylinux2014_x86_64",
    ),
    "aarch64": Target(
        ("-target", "aarch64-linux-gnu.2.17"),
        {"kernels_neon.cc": ()},
        "manylinux_2_17_aarch64.manylinux2014_aarch64",
    ),
    "armv7": Target(
        ("-target", "arm-linux-gnueabihf.2.17", "-mcpu=generic+v7a+vfp3d16"),
        {"kernels_neon.cc": ("-mfpu=neon", "-Xclang", "-target-feature", "-Xclang", "+neon")},
        "manylinux_2_17_armv7l.manylinux2014_armv7l",
        ("-march=armv7-a", "-mfloat-abi=hard", "-mfpu=vfpv3-d16"),
    ),
}
#: Targets without wheels: Android's own C library, which only the NDK brings; its compiler by the NDK's name of it.
ANDROID = {
    "android_arm64": Target((), {"kernels_neon.cc": ()}, "aarch64-linux-android24"),
}
#: Android 15 runs on pages of 16 KiB too, and loads nothing that is aligned to less.
ANDROID_LINK = ("-Wl,-z,max-page-size=16384",)
#: Target by `uname -m`.
MACHINES = {
    "x86_64": "x86_64",
    "amd64": "x86_64",
    "aarch64": "aarch64",
    "arm64": "aarch64",
    "armv7l": "armv7",
}


def host_target() -> str:
    """The target that this machine is.

    Raises:
        BddError: If it is none of them.
    """
    machine = platform.machine().lower()
    # A 64-bit kernel below a 32-bit system, as Raspberry Pi OS has it.
    if machine == "aarch64" and sys.maxsize < 2**32:
        machine = "armv7l"
    if sys.platform != "linux" or machine not in MACHINES:
        raise BddError(
            f"the delegate runs on Linux on x86-64, 64-bit and 32-bit ARM; this is {sys.platform} on {machine}."
        )
    return MACHINES[machine]


def compiler(target: str) -> list[str]:
    """The command that compiles C++ for a target.

    Args:
        target: A key of `TARGETS` or `ANDROID`.

    Returns:
        Words of the command.

    Raises:
        BddError: If there is no compiler.
    """
    if target in ANDROID:
        return [_ndk_compiler(ANDROID[target])]
    settings = TARGETS[target]
    try:
        own = host_target() == target
    except BddError:
        own = False
    given = os.environ.get("CXX") if own else None
    if given:
        words = shlex.split(given)
        if not words or not shutil.which(words[0]):
            raise BddError(f"the compiler that CXX names cannot be found: {given}")
        return [*words, *settings.native]
    if importlib.util.find_spec("ziglang"):
        return [sys.executable, "-m", "ziglang", "c++", *settings.zig]
    for name in ("c++", "g++", "clang++") if own else ():
        if shutil.which(name):
            return [name, *settings.native]
    raise BddError(
        f"no C++ compiler for {target}: `pip install ziglang` brings one"
        + (", and so does `apt-get install g++`." if own else ".")
    )


def _ndk_compiler(target: Target) -> str:
    home = os.environ.get("ANDROID_NDK_HOME")
    if not home:
        raise BddError(
            "ANDROID_NDK_HOME is not set: it names the folder of Android's NDK "
            "(https://developer.android.com/ndk/downloads, or `sdkmanager --install 'ndk;27.2.12479018'`)."
        )
    pattern = f"toolchains/llvm/prebuilt/*/bin/{target.platform}-clang++"
    found = sorted(Path(home).glob(pattern))
    if not found:
        raise BddError(f"ANDROID_NDK_HOME holds no compiler for Android: {Path(home) / pattern} is missing.")
    return str(found[0])


def compile_objects(command: list[str], target: str, folder: Path, extra: tuple[str, ...] = ()) -> list[Path]:
    """Compile every source of a target.

    Args:
        command: What `compiler` returned.
        target: A key of `TARGETS` or `ANDROID`.
        folder: Where object files go.
        extra: Further flags, behind the common ones.

    Returns:
        The object files.

    Raises:
        BddError: With the compiler's words, if it fails.
    """
    kernels = {**TARGETS, **ANDROID}[target].kernels
    common = [p for p in sorted(SOURCES.glob("*.cc")) if not p.stem.startswith("kernels_")]
    jobs = [(p, ()) for p in [*common, SOURCES / "kernels_scalar.cc"]]
    # zig counts wide registers as a feature of their own.
    wide = ("-mevex512",) if "ziglang" in command else ()
    jobs += [(SOURCES / n, (*flags, *(wide if "-mavx512f" in flags else ()))) for n, flags in kernels.items()]

    def compile_one(job: tuple[Path, tuple[str, ...]]) -> Path:
        source, flags = job
        output = folder / f"{source.stem}.o"
        _run([*command, *FLAGS, *flags, *extra, "-c", str(source), "-o", str(output)])
        return output

    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        return list(pool.map(compile_one, jobs))


def build(target: str | None = None, output: Path | None = None) -> Path:
    """Compile and link the library; does nothing where it is up to date.

    Args:
        target: A key of `TARGETS` or `ANDROID`; None for this machine.
        output: Where it goes; None for beside the Python modules.

    Returns:
        The library.

    Raises:
        UsageError: For an unknown target.
        BddError: If there is no compiler, or it fails.
    """
    target = target or host_target()
    if target not in (*TARGETS, *ANDROID):
        raise one_of("target", target, (*TARGETS, *ANDROID))
    if target in ANDROID and output is None:
        raise UsageError("a library for Android needs a place: --output jniLibs/arm64-v8a/" + LIBRARY + ".")
    output = output or Path(__file__).resolve().parent / LIBRARY
    command = compiler(target)
    stamp, state = output.with_suffix(".stamp"), _fingerprint(command, target)
    if output.is_file() and stamp.is_file() and stamp.read_text() == state:
        return output
    output.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=output.parent, prefix=".build-") as scratch:
        folder = Path(scratch)
        objects = compile_objects(command, target, folder)
        link = (*LINK, *ANDROID_LINK) if target in ANDROID else LINK
        _run([*command, *link, *map(str, objects), "-o", str(folder / LIBRARY)])
        (folder / LIBRARY).replace(output)
    stamp.write_text(state)
    return output


def _fingerprint(command: list[str], target: str) -> str:
    digest = hashlib.sha256(repr((command, target, FLAGS, LINK, {**TARGETS, **ANDROID}[target])).encode())
    for path in sorted(SOURCES.iterdir()):
        digest.update(path.name.encode() + path.read_bytes())
    return digest.hexdigest()


def _run(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise BddError(f"{shlex.join(command)}\nfailed:\n{(done.stderr or done.stdout).strip()}")


def main() -> int:
    """Build from the command line; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m bdd_tf.edge.runtime.build", description=__doc__.split("\n")[0]
    )
    parser.add_argument("--target", choices=[*TARGETS, *ANDROID], help="kind of machine (default: this one)")
    parser.add_argument("--output", type=Path, metavar="FILE", help=f"default: {LIBRARY} inside the package")
    args = parser.parse_args()
    try:
        print(build(args.target, args.output))
    except BddError as error:
        print(f"bdd: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
