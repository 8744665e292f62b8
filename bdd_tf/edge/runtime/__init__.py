"""Finds and loads the C++ library: our own interpreter, and a TFLite delegate for the operators of LCE.

An unmodified TFLite runtime loads the library (sources in ``src``) as an external delegate. The delegate runs
`LceQuantize`, `LceDequantize`, `LceBconv2d` and `LceBMaxPool2d`, and the float operators connected to them; all other
operators stay with the runtime and XNNPACK.
"""

from __future__ import annotations

import ctypes
import importlib
import os
import sys
import threading
from functools import cache
from pathlib import Path
from typing import Any

from bdd_tf.edge.checks import choice, switch, whole_number
from bdd_tf.errors import BddError
from bdd_tf.files import cache_folder

LIBRARY = {"darwin": "libbdd_lce.dylib", "win32": "bdd_lce.dll"}.get(sys.platform, "libbdd_lce.so")
MAX_THREADS = 64
_FOLDER = Path(__file__).resolve().parent
_compiling = threading.Lock()


class RuntimeMissingError(BddError):
    """The delegate's library is not installed."""


class TfliteRuntimeMissingError(BddError):
    """No TFLite runtime is installed."""


def library_path() -> Path:
    """Find the delegate's library; compile it if this is an installation from source that was never used.

    Returns:
        The path in the environment variable ``BDD_LCE_LIBRARY``, or else the library in the folder of this module, or in the
        cache folder if that one cannot be written to.

    Raises:
        RuntimeMissingError: If there is no such file, and none can be compiled; the message says how to get it.
    """
    given = os.environ.get("BDD_LCE_LIBRARY")
    if given:
        if Path(given).is_file():
            return Path(given)
        raise RuntimeMissingError(f"BDD_LCE_LIBRARY names a file that does not exist: {given}")
    with _compiling:
        path = _FOLDER / LIBRARY
        if not path.is_file() and not os.access(_FOLDER, os.W_OK):
            path = cache_folder() / "runtime" / LIBRARY
        return path if path.is_file() else _compile(path)


def _compile(path: Path) -> Path:
    """Compile the library for this machine.

    Raises:
        RuntimeMissingError: If it cannot be compiled.
    """
    # By name: the module imports this one.
    builder = importlib.import_module(f"{__name__}.build")
    try:
        builder.compiler(builder.host_target())  # raises if there is none
        print(
            "bdd: compiling the library that runs binary networks, once; this takes about a minute",
            file=sys.stderr,
        )
        compiled: Path = builder.build(output=path)
        return compiled
    except (BddError, OSError) as error:
        raise RuntimeMissingError(
            f"the library that runs binary networks is not part of this installation, and cannot be compiled: "
            f"{str(error).rstrip('.')}. Install a wheel for your platform, or a compiler (`pip install ziglang`); or use "
            "the slower engine 'lce', which needs TensorFlow (pip install 'bdd_tf[train]', x86-64 only)."
        ) from None


def available_kernels() -> tuple[str, ...]:
    """The names of the kernel sets that this machine can run, fastest first; the last one is ``"scalar"``.

    Raises:
        RuntimeMissingError: If the library is missing.
        BddError: If the library cannot be loaded: it is damaged, or was compiled for another machine.
    """
    return _kernels_of(library_path())


@cache
def _kernels_of(path: Path) -> tuple[str, ...]:
    try:
        library = ctypes.CDLL(str(path))
    except OSError as error:
        raise BddError(f"this machine cannot load {path}: {error}") from None
    library.bdd_lce_kernels.restype = ctypes.c_char_p
    names: list[str] = []
    while (name := library.bdd_lce_kernels(len(names))) is not None:
        names.append(name.decode())
    return tuple(names)


def lce_delegate(num_threads: int = 1, kernels: str | None = None, fuse: bool = True) -> Any:
    """Make a delegate that runs the operators of the Larq Compute Engine in any model.

    Args:
        num_threads: Number of threads for the delegate's operators, 1 to 64. The interpreter's own `num_threads` applies
            to the other operators.
        kernels: One of `available_kernels`, or None (also ``"auto"``) for the first of them. All sets compute the same
            values up to rounding. ``"amx"`` is tested in emulation only; it has never run on AMX hardware.
        fuse: Whether the delegate also runs the float operators around the binary ones (normalization, PReLU, gates,
            residuals), tile by tile. Models with packed (`narrow`) constants need this on `tf.lite` with XNNPACK:
            TensorFlow 2.19.1 computes wrong values for the operators around an unfused delegate.

    Returns:
        A delegate for `ai_edge_litert.interpreter.Interpreter(experimental_delegates=[...])`, or for the interpreters of
        `tflite_runtime` and `tf.lite`.

    Threads do not survive ``os.fork``: in a child, the delegate starts new ones when it first runs.

    Raises:
        UsageError: If an argument is of another type or out of range.
        RuntimeMissingError: If the library is missing.
        TfliteRuntimeMissingError: If no TFLite runtime is installed.
        BddError: If the runtime cannot load the library.

    Example:
        >>> from ai_edge_litert.interpreter import Interpreter  # doctest: +SKIP
        >>> Interpreter("quicknet.tflite", experimental_delegates=[lce_delegate()])  # doctest: +SKIP
    """
    num_threads = whole_number("num_threads", num_threads, 1, MAX_THREADS)
    fuse = switch("fuse", fuse)
    path = library_path()
    kernels = choice("kernel set", "auto" if kernels is None else kernels, ("auto", *available_kernels()))
    load = interpreter_module().load_delegate
    try:
        return load(str(path), {"num_threads": num_threads, "kernels": kernels, "fuse": int(fuse)})
    except (ValueError, OSError) as error:
        raise BddError(f"the runtime cannot load {path}: {error}") from None


def interpreter_module() -> Any:
    """The ``interpreter`` module of the installed TFLite runtime: ai_edge_litert, or else tflite_runtime.

    Raises:
        TfliteRuntimeMissingError: If neither is installed.
    """
    for package in ("ai_edge_litert", "tflite_runtime"):
        try:
            return importlib.import_module(f"{package}.interpreter")
        except ModuleNotFoundError as error:
            if error.name not in (package, f"{package}.interpreter"):
                raise
    raise TfliteRuntimeMissingError("no TFLite runtime is installed: pip install 'bdd_tf[litert]'.")
