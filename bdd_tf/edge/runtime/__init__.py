"""A TFLite delegate for the operators of the Larq Compute Engine: a C++ library, and how it is found and loaded.

The library (sources in ``src``) is loaded by a stock runtime as an external delegate. It claims `LceQuantize`,
`LceDequantize`, `LceBconv2d` and `LceBMaxPool2d`; all other operators stay with the runtime and XNNPACK.
"""

from __future__ import annotations

import ctypes
import importlib
import os
from functools import cache
from pathlib import Path
from typing import Any

from bdd_tf.errors import BddError, UsageError, one_of

LIBRARY = "libbdd_lce.so"
MAX_THREADS = 64


class RuntimeMissingError(BddError):
    """The delegate's library is not part of this installation."""


def library_path() -> Path:
    """Where the delegate's library is.

    Returns:
        The path that the environment variable ``BDD_LCE_LIBRARY`` names, else the library beside this module.

    Raises:
        RuntimeMissingError: If there is none; the text says how to get it.
    """
    given = os.environ.get("BDD_LCE_LIBRARY")
    path = Path(given) if given else Path(__file__).resolve().parent / LIBRARY
    if path.is_file():
        return path
    if given:
        raise RuntimeMissingError(f"BDD_LCE_LIBRARY names a file that does not exist: {given}")
    raise RuntimeMissingError(
        "the library that runs binary networks is not part of this installation (it was installed from source, and "
        "nothing was there to compile it with). Install a wheel for your platform; or `pip install ziglang` and "
        "`python -m bdd_tf.edge.runtime.build`; or, slower and with TensorFlow, use the engine 'lce' "
        "(pip install 'bdd_tf[train]', x86-64 only)."
    )


def available_kernels() -> tuple[str, ...]:
    """Names of the kernel sets that this machine can run; ``"auto"`` means the first, the last is ``"scalar"``.

    Raises:
        RuntimeMissingError: If the library is missing.
        BddError: If it cannot be loaded: it is damaged, or meant for another machine.
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


def lce_delegate(num_threads: int = 1, kernels: str = "auto", fuse: bool = True) -> Any:
    """Make a delegate for the operators of the Larq Compute Engine, for any model that holds them.

    Args:
        num_threads: Threads that the binary operators may use, 1 to 64. The runtime's own `num_threads` is apart.
        kernels: One of `available_kernels`, or ``"auto"`` for the first of them; all give the same numbers but for
            rounding. ``"amx"`` has only been run emulated: its speed is not known.
        fuse: Whether the operators around the binary ones (normalisation, PReLU, gates, residuals) are taken over
            as well and run tile by tile; without, only the binary ones are. Files with `narrow` constants need it on
            `tf.lite` with XNNPACK: what 2.19.1 computes around the binary operators is wrong there.

    Returns:
        What `ai_edge_litert.interpreter.Interpreter(experimental_delegates=[...])` takes (tflite_runtime and
        tf.lite take it as well).

    Raises:
        UsageError: If an argument is out of range.
        RuntimeMissingError: If the library is missing.
        BddError: If no TFLite runtime is installed, or it cannot load the library.

    Example:
        >>> from ai_edge_litert.interpreter import Interpreter  # doctest: +SKIP
        >>> Interpreter("quicknet.tflite", experimental_delegates=[lce_delegate()])  # doctest: +SKIP
    """
    if not 1 <= num_threads <= MAX_THREADS:
        raise UsageError(f"num_threads is {num_threads}; it must lie between 1 and {MAX_THREADS}.")
    path = library_path()
    possible = ("auto", *available_kernels())
    if kernels not in possible:
        raise one_of("kernel set", kernels, possible)
    load = interpreter_module().load_delegate
    try:
        return load(str(path), {"num_threads": num_threads, "kernels": kernels, "fuse": int(fuse)})
    except (ValueError, OSError) as error:
        raise BddError(f"the runtime cannot load {path}: {error}") from None


def interpreter_module() -> Any:
    """The installed TFLite runtime's ``interpreter`` module: ai_edge_litert, else tflite_runtime.

    Raises:
        BddError: If neither is installed.
    """
    for package in ("ai_edge_litert", "tflite_runtime"):
        try:
            return importlib.import_module(f"{package}.interpreter")
        except ModuleNotFoundError as error:
            if error.name not in (package, f"{package}.interpreter"):
                raise
    raise BddError("no TFLite runtime is installed: pip install ai-edge-litert (32-bit ARM: tflite-runtime).")
