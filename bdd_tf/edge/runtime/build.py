"""Compiles the delegate: ``python -m bdd_tf.edge.runtime.build [--target aarch64] [--output FILE]``.

The default compiler is zig (``pip install ziglang``). It cross-compiles for every target, its libraries need only
glibc 2.17, and, being clang, it keeps more values in registers than GCC 12, which saves 5 to 10 % of a network's time
on a Xeon and 30 % on an EPYC. For this machine, the environment variable CXX selects another compiler; if zig is not
installed, the system's compiler (c++, g++, clang++) is used.

For Android (``--target android_arm64``, docs/android.md) the compiler is that of the NDK in ANDROID_NDK_HOME.
``--target wasm32`` makes a WebAssembly module (docs/web.md).
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.util
import os
import platform
import re
import shlex
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from bdd_tf.errors import BddError, UsageError, exit_code, one_of

SOURCES = Path(__file__).resolve().parent / "src"
FLAGS = (
    "-std=c++17 -O3 -fPIC -fvisibility=hidden -fno-exceptions -fno-rtti -pthread "
    # Tables for exceptions that do not exist.
    "-fno-unwind-tables -fno-asynchronous-unwind-tables "
    # A fused multiply-add rounds once instead of twice, which can flip the sign of a value.
    "-ffp-contract=off "
    "-Wall -Wextra -Wpedantic -Wshadow -Wconversion -Werror"
).split()
#: Folders and sources that are compiled for size: walking the metadata of a file takes far less time than decoding it, and
#: the others work when a model is loaded.
_COMPACT = frozenset(
    "evidence delegate detector tflite graph_text forensic_channels_match forensic_channels_text detail_channels_match "
    "fuse memory_plan plan shapes split_concat steps flatbuffer model_file operator_names".split()
)
_LINUX_LINK = (
    "-shared -pthread -static-libstdc++ -static-libgcc -Wl,--no-undefined -s "
    f"-Wl,--version-script={SOURCES / 'delegate' / 'exports.map'}"
).split()
# The linker signs the library ad hoc, without which Apple's processors run no code.
_WINDOWS_LINK = "-shared -s".split()
_MACOS_LINK = "-shared -pthread -Wl,-dead_strip -Wl,-install_name,@rpath/libbdd_lce.dylib".split()


def _wasm_link() -> tuple[str, ...]:
    """A module without a main function. It exports the C interface, and memory to call it with."""
    listed = re.findall(r"\bbdd_\w+", (SOURCES / "delegate" / "exports.map").read_text())
    exported = [name for name in listed if name != "bdd_open_file"]  # a module has no files
    return (
        *"-mexec-model=reactor -s -Wl,--gc-sections -Wl,--strip-all".split(),
        # The stack lies below everything else, so that an overflow is a trap. A damaged model cannot take more memory
        # than an image of 100 million pixels needs.
        *"-Wl,-z,stack-size=1048576 -Wl,--max-memory=1073741824".split(),
        *(f"-Wl,--export={name}" for name in (*exported, "malloc", "free")),
    )


@dataclass(frozen=True)
class Target:
    """A platform that the delegate can be compiled for.

    Attributes:
        zig: Flags that select the platform in zig.
        kernels: Files in ``src/kernels`` that only this platform compiles, each with its additional flags. A new
            kernel set is added here; its file is then left out on platforms that do not list it.
        platform: Tag of the platform's wheels; for Android, the prefix of the NDK's compiler.
        native: Additional flags for the system's compiler.
        library: File name of the library.
        link: Flags that link it.
        common: Flags of all its files, after `FLAGS`.
    """

    zig: tuple[str, ...]
    kernels: dict[str, tuple[str, ...]]
    platform: str
    native: tuple[str, ...] = ()
    library: str = "libbdd_lce.so"
    link: tuple[str, ...] = tuple(_LINUX_LINK)
    common: tuple[str, ...] = ()


_AVX512BW = "-mavx512f -mavx512bw -mavx512dq -mavx512vl -mprefer-vector-width=512"
_AVX512 = f"{_AVX512BW} -mavx512vpopcntdq"
_X86_KERNELS = {
    "avx2.cc": ("-mavx2", "-mfma"),
    "avx512bw.cc": tuple(_AVX512BW.split()),
    "avx512_vpopcntdq.cc": tuple(_AVX512.split()),
    "avx512_vpopcntdq_parity.cc": tuple(_AVX512.split()),
    "amx.cc": (*_AVX512.split(), "-mamx-tile", "-mamx-int8"),
}

TARGETS = {
    "x86_64": Target(
        ("-target", "x86_64-linux-gnu.2.17", "-mcpu=x86_64"),
        _X86_KERNELS,
        "manylinux_2_17_x86_64.manylinux2014_x86_64",
    ),
    "aarch64": Target(
        ("-target", "aarch64-linux-gnu.2.17"),
        {"neon.cc": ()},
        "manylinux_2_17_aarch64.manylinux2014_aarch64",
    ),
    "armv7": Target(
        ("-target", "arm-linux-gnueabihf.2.17", "-mcpu=generic+v7a+vfp3d16"),
        {"neon.cc": ("-mfpu=neon", "-Xclang", "-target-feature", "-Xclang", "+neon")},
        "manylinux_2_17_armv7l.manylinux2014_armv7l",
        ("-march=armv7-a", "-mfloat-abi=hard", "-mfpu=vfpv3-d16"),
    ),
    "macos_arm64": Target(
        ("-target", "aarch64-macos.11.0"),
        {"neon.cc": ()},
        "macosx_11_0_arm64",
        ("-mmacosx-version-min=11.0",),
        "libbdd_lce.dylib",
        tuple(_MACOS_LINK),
    ),
    "windows_x86_64": Target(
        ("-target", "x86_64-windows-gnu", "-mcpu=x86_64"),
        _X86_KERNELS,
        "win_amd64",
        library="bdd_lce.dll",
        link=tuple(_WINDOWS_LINK),
        # Windows unwinds the stack by these tables for more than C++'s exceptions.
        common=("-DBDD_BUILD", "-funwind-tables", "-g0"),
    ),
    # Alpine Linux and other systems whose C library is musl. Its version 1.2 is of 2020.
    "musl_x86_64": Target(
        ("-target", "x86_64-linux-musl", "-mcpu=x86_64"), _X86_KERNELS, "musllinux_1_2_x86_64"
    ),
    "musl_aarch64": Target(("-target", "aarch64-linux-musl"), {"neon.cc": ()}, "musllinux_1_2_aarch64"),
}
#: Targets without wheels. Android has its own C library, which only the NDK provides.
ANDROID = {
    # Android 15 supports pages of 16 KiB, and then loads only libraries that are aligned to them.
    "android_arm64": Target(
        (),
        {"neon.cc": ()},
        "aarch64-linux-android24",
        link=(*_LINUX_LINK, "-Wl,-z,max-page-size=16384"),
    ),
}
#: Targets without wheels, for web browsers and Node.js. The features are those of the standard's version 2, and every
#: browser has them since 2023; WASI serves as the C library alone (support/wasm_system.cc).
WEB = {
    "wasm32": Target(
        ("-target", "wasm32-wasi", "-mcpu=generic+simd128+bulk_memory+sign_ext+nontrapping_fptoint"),
        {"wasm_simd128.cc": ()},
        "",
        library="bdd.wasm",
        link=_wasm_link(),
        common=("-fno-PIC", "-no-pthread"),
    ),
}
_ALL = {**TARGETS, **ANDROID, **WEB}
#: Target of a Linux machine by `uname -m`.
MACHINES = {
    "x86_64": "x86_64",
    "amd64": "x86_64",
    "aarch64": "aarch64",
    "arm64": "aarch64",
    "armv7l": "armv7",
}


def host_target() -> str:
    """The key of `TARGETS` for this machine.

    Raises:
        BddError: If the delegate does not support this machine.
    """
    machine = platform.machine().lower()
    if sys.platform == "darwin" and machine == "arm64":
        return "macos_arm64"
    if sys.platform == "win32" and machine == "amd64":
        return "windows_x86_64"
    # A 32-bit system on a 64-bit kernel, for example Raspberry Pi OS.
    if machine == "aarch64" and sys.maxsize < 2**32:
        machine = "armv7l"
    if sys.platform != "linux" or machine not in MACHINES:
        raise BddError(
            "the library runs on Linux on x86-64, 64-bit and 32-bit ARM, on macOS on ARM, and on Windows on x86-64; this "
            f"is {sys.platform} on {machine}."
        )
    target = MACHINES[machine]
    # Python's own build says which C library it uses: "x86_64-pc-linux-musl".
    musl = "musl" in str(sysconfig.get_config_var("HOST_GNU_TYPE"))
    return f"musl_{target}" if musl and f"musl_{target}" in TARGETS else target


def compiler(target: str) -> list[str]:
    """The command that compiles C++ for a target.

    Args:
        target: A key of `TARGETS`, `ANDROID` or `WEB`.

    Returns:
        The words of the command.

    Raises:
        BddError: If no suitable compiler is installed; the message says how to get one.
    """
    if target in ANDROID:
        return [_ndk_compiler(ANDROID[target])]
    settings = _ALL[target]
    try:
        own = host_target() == target
    except BddError:
        own = False
    given = os.environ.get("CXX") if own else None
    if given:
        words = shlex.split(given)
        if not words or not shutil.which(words[0]):
            raise BddError(f"the compiler in CXX was not found: {given}")
        return [*words, *settings.native]
    if importlib.util.find_spec("ziglang"):
        return [sys.executable, "-m", "ziglang", "c++", *settings.zig]
    for name in ("c++", "g++", "clang++") if own else ():
        if shutil.which(name):
            return [name, *settings.native]
    raise BddError(
        f"no C++ compiler for {target} is installed. Install one with `pip install ziglang`"
        + (" or `apt-get install g++`." if own else ".")
    )


def _ndk_compiler(target: Target) -> str:
    home = os.environ.get("ANDROID_NDK_HOME")
    if not home:
        raise BddError(
            "ANDROID_NDK_HOME is not set. Set it to the folder of the Android NDK "
            "(https://developer.android.com/ndk/downloads, or `sdkmanager --install 'ndk;27.2.12479018'`)."
        )
    pattern = f"toolchains/llvm/prebuilt/*/bin/{target.platform}-clang++"
    found = sorted(Path(home).glob(pattern))
    if not found:
        raise BddError(f"ANDROID_NDK_HOME holds no compiler for Android: {Path(home) / pattern} is missing.")
    return str(found[0])


def compile_objects(command: list[str], target: str, folder: Path, extra: tuple[str, ...] = ()) -> list[Path]:
    """Compile all sources of a target.

    Args:
        command: The result of `compiler`.
        target: A key of `TARGETS`, `ANDROID` or `WEB`.
        folder: Folder for the object files.
        extra: Additional flags, after the common ones.

    Returns:
        The object files.

    Raises:
        BddError: If compilation fails, with the compiler's output.
    """
    settings = _ALL[target]
    kernels = settings.kernels
    specific = {name for t in _ALL.values() for name in t.kernels}
    jobs: list[tuple[Path, tuple[str, ...]]]
    jobs = [
        (p, ("-Os",) if {p.parent.name, p.stem} & _COMPACT else ())
        for p in sorted(SOURCES.rglob("*.cc"))
        if p.name not in specific
    ]
    # In zig, 512-bit registers are a separate feature.
    wide = ("-mevex512",) if "ziglang" in command else ()
    jobs += [
        (SOURCES / "kernels" / n, (*flags, *(wide if "-mavx512f" in flags else ())))
        for n, flags in kernels.items()
    ]

    def compile_one(job: tuple[Path, tuple[str, ...]]) -> Path:
        source, flags = job
        output = folder / f"{source.stem}.o"
        flags = (*settings.common, *flags, *extra)
        _run([*command, *FLAGS, f"-I{SOURCES}", *flags, "-c", str(source), "-o", str(output)])
        return output

    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        return list(pool.map(compile_one, jobs))


def build(target: str | None = None, output: Path | None = None) -> Path:
    """Compile and link the library, unless it is up to date.

    Args:
        target: A key of `TARGETS`, `ANDROID` or `WEB`; None for this machine.
        output: Path of the library; None for the folder of this module, with the target's file name.

    Returns:
        The library's path.

    Raises:
        UsageError: If the target is unknown, or Android's output is missing.
        BddError: If no suitable compiler is installed, or compilation fails.
    """
    target = target or host_target()
    if target not in _ALL:
        raise one_of("target", target, tuple(_ALL))
    if target in ANDROID and output is None:
        name = ANDROID[target].library
        raise UsageError(f"a library for Android needs a path: --output jniLibs/arm64-v8a/{name}.")
    settings = _ALL[target]
    output = output or Path(__file__).resolve().parent / settings.library
    command = compiler(target)
    stamp, state = output.with_suffix(".stamp"), _fingerprint(command, target)
    if output.is_file() and stamp.is_file() and stamp.read_text() == state:
        return output
    output.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=output.parent, prefix=".build-") as scratch:
        folder = Path(scratch)
        objects = compile_objects(command, target, folder)
        linked = folder / settings.library
        _run([*command, *settings.link, *map(str, objects), "-o", str(linked)])
        linked.replace(output)
    stamp.write_text(state)
    return output


def _fingerprint(command: list[str], target: str) -> str:
    digest = hashlib.sha256(repr((command, target, FLAGS, sorted(_COMPACT), _ALL[target])).encode())
    for path in sorted(p for p in SOURCES.rglob("*") if p.is_file()):
        digest.update(str(path.relative_to(SOURCES)).encode() + path.read_bytes())
    return digest.hexdigest()


def _run(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise BddError(f"{shlex.join(command)}\nfailed:\n{(done.stderr or done.stdout).strip()}")


def main() -> int:
    """Build the library from the command line; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m bdd_tf.edge.runtime.build", description=__doc__.split("\n")[0]
    )
    parser.add_argument(
        "--target", choices=list(_ALL), help="platform to compile for (default: this machine)"
    )
    parser.add_argument(
        "--output",
        type=Path,
        metavar="FILE",
        help="path of the library (default: inside the package)",
    )
    args = parser.parse_args()
    return exit_code(lambda: print(build(args.target, args.output)), "bdd")


if __name__ == "__main__":
    sys.exit(main())
