"""Training of BNext's units in C++: what takes a framework forty passes over memory takes six (``src/unit.h``).

The layers, their weights and their meaning are those of :mod:`bdd_tf.models.bnext`; this computes the same
function and the same gradients. It is compiled on first use, for the machine at hand.
"""

from __future__ import annotations

import ctypes
import functools
import hashlib
import os
import platform
import shlex
import subprocess
import tempfile
from pathlib import Path

import numpy as np

from bdd_tf.edge.runtime import build as runtime_build
from bdd_tf.errors import BddError

SOURCES = Path(__file__).resolve().parent / "src"
#: A unit's parameters in the order of ``src/unit.h``: layer's suffix and weight.
PARAMETERS = (
    ("move", "bias"),
    ("conv", "kernel"),
    ("norm1", "gamma"),
    ("norm1", "beta"),
    ("prelu", "alpha"),
    ("mix", "scale"),
    ("reduce", "kernel"),
    ("reduce", "bias"),
    ("expand", "kernel"),
    ("expand", "bias"),
    ("norm2", "gamma"),
    ("norm2", "beta"),
    ("residual_prelu", "alpha"),
)
_FLAGS = (
    "-std=c++17 -O3 -fPIC -fvisibility=hidden -fno-exceptions -fno-rtti -pthread -ffp-contract=fast "
    "-fno-math-errno -fno-trapping-math -Wall -Wextra -Wshadow -Wconversion -Werror -shared"
).split()


def _command() -> list[str]:
    words = runtime_build.compiler(runtime_build.host_target())
    if "ziglang" in words:
        words = words[: words.index("c++") + 1]  # for this machine, with all that it has
        return [*words, "-mcpu=native"]
    return [*words, "-mcpu=native" if platform.machine() in ("aarch64", "armv7l") else "-march=native"]


def build() -> Path:
    """Compile the library for this machine; does nothing where it is up to date.

    Returns:
        Its path: beside this module where that can be written, else in the cache of derived data.

    Raises:
        BddError: If there is no compiler, or it fails.
    """
    command = _command()
    sources = [*sorted(SOURCES.glob("*.cc")), runtime_build.SOURCES / "threads.cc"]
    headers = [*sorted(SOURCES.glob("*.h")), runtime_build.SOURCES / "threads.h"]
    digest = hashlib.sha256(repr((command, _FLAGS, _processor())).encode())
    for path in [*sources, *headers]:
        digest.update(path.read_bytes())
    target = _folder() / f"bnext-{digest.hexdigest()[:16]}.so"
    if target.is_file():
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".build-") as scratch:
        made = Path(scratch) / target.name
        words = [*command, *_FLAGS, f"-I{runtime_build.SOURCES}", *map(str, sources), "-o", str(made)]
        done = subprocess.run(words, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise BddError(f"{shlex.join(words)}\nfailed:\n{(done.stderr or done.stdout).strip()}")
        made.replace(target)
    return target


def _folder() -> Path:
    from bdd_tf.datasets.index import cache_folder

    beside = SOURCES.parent
    return beside if os.access(beside, os.W_OK) else cache_folder() / "kernels"


def _processor() -> str:
    """What `native` means: a cache may be shared by unlike machines."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line for line in lines if line.startswith(("flags", "Features"))), platform.machine())


@functools.lru_cache(maxsize=1)
def library() -> ctypes.CDLL:
    """The compiled library, loaded.

    Raises:
        BddError: If it cannot be compiled or loaded.
    """
    try:
        lib = ctypes.CDLL(str(build()))
    except OSError as error:
        raise BddError(f"the training kernels cannot be loaded: {error}") from error
    pointer, size, number = ctypes.c_void_p, ctypes.c_int64, ctypes.c_int
    lib.bdd_pool_new.restype, lib.bdd_pool_new.argtypes = pointer, [number]
    lib.bdd_unit_new.restype, lib.bdd_unit_new.argtypes = pointer, [pointer, *[number] * 7]
    lib.bdd_unit_delete.restype, lib.bdd_unit_delete.argtypes = None, [pointer]
    lib.bdd_unit_forward.restype = None
    lib.bdd_unit_forward.argtypes = [pointer, pointer, size, pointer, pointer, size, pointer, number]
    lib.bdd_unit_backward.restype = None
    lib.bdd_unit_backward.argtypes = [
        pointer, pointer, size, pointer, pointer, size, pointer, size, number, pointer, ctypes.c_uint64, number,
    ]  # fmt: skip
    return lib


@functools.lru_cache(maxsize=1)
def _pool() -> int:
    return library().bdd_pool_new(threads())


def threads() -> int:
    """Threads that share the work: the cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _address(array: np.ndarray) -> int:
    return array.ctypes.data


class Unit:
    """One unit on batches of a fixed size; see :func:`bdd_tf.models.bnext.unit`.

    Args:
        batch: Images.
        height: Rows of the input.
        width: Its columns.
        channels: Its channels, a multiple of 16.
        kernel: 3 or 1.
        stride: 1, or 2 with kernel 3.
        attention: Form of the unit.
    """

    def __init__(
        self, batch: int, height: int, width: int, channels: int, kernel: int, stride: int, attention: bool
    ):
        if channels % 16:
            raise ValueError(f"channels must be a multiple of 16; got {channels}.")
        self.attention, self.channels, self.stride = attention, channels, stride
        self.in_shape = (batch, height, width, channels)
        self.out_shape = (batch, height // stride, width // stride, channels)
        self.parameters = len(PARAMETERS) - (not attention)
        self._lib = library()
        self._unit = self._lib.bdd_unit_new(
            _pool(), batch, height, width, channels, kernel, stride, int(attention)
        )

    def __del__(self) -> None:
        """Free its memory."""
        if getattr(self, "_unit", None):
            self._lib.bdd_unit_delete(self._unit)

    def _pointers(self, arrays: list[np.ndarray]) -> ctypes.Array:
        return (ctypes.c_void_p * len(PARAMETERS))(*(_address(a) for a in arrays))

    def forward(
        self,
        x: np.ndarray,
        parameters: list[np.ndarray],
        out: np.ndarray,
        statistics: np.ndarray,
        training: bool,
    ) -> None:
        """Fill ``out``.

        Args:
            x: float32 :attr:`in_shape`; the channels of a pixel lie together, pixels may lie apart.
            parameters: float32, contiguous, in the order of :data:`PARAMETERS`.
            out: float32 :attr:`out_shape`, laid out like x; written.
            statistics: float32 [4, C]: mean and variance (with Bessel's correction) of the first normalisation, then of
                the second; written while training, else read.
            training: Whether to normalise by the batch, and to keep what :meth:`backward` needs.
        """
        self._lib.bdd_unit_forward(
            self._unit, _address(x), x.strides[2] // 4, self._pointers(parameters), _address(out), out.strides[2] // 4,
            _address(statistics), int(training),
        )  # fmt: skip

    def backward(
        self,
        x: np.ndarray,
        parameters: list[np.ndarray],
        dout: np.ndarray,
        dx: np.ndarray,
        gradients: list[np.ndarray],
        *,
        add: bool = False,
        seed: int = 0,
        exact: bool = True,
    ) -> None:
        """Gradients after a :meth:`forward` in training with the same x and parameters.

        Args:
            x: The input of :meth:`forward`.
            parameters: As there.
            dout: Gradient of the output, laid out like it.
            dx: Gradient of x; written, or added to where ``add``.
            gradients: Gradients of the parameters; written.
            add: Add to ``dx``.
            seed: Of the random rounding, where not ``exact``.
            exact: Float products; else integers (``src/unit.h``).
        """
        self._lib.bdd_unit_backward(
            self._unit, _address(x), x.strides[2] // 4, self._pointers(parameters), _address(dout),
            dout.strides[2] // 4, _address(dx), dx.strides[2] // 4, int(add), self._pointers(gradients), seed, int(exact),
        )  # fmt: skip
