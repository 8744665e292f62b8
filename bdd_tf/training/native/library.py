"""Native training kernels for the units of a BNext: six passes over memory instead of some forty (``src/unit.h``).

The layers, their weights and their meaning are those of :mod:`bdd_tf.models.bnext`; this computes the same
function and the same gradients. The library is compiled on first use, for the machine that it runs on.
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
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bdd_tf.edge.runtime import build as runtime_build
from bdd_tf.errors import BddError
from bdd_tf.files import usable_cores

Array = NDArray[np.float32]
Arrays = Sequence[Array]

SOURCES = Path(__file__).resolve().parent / "src"
#: The parameters of a unit in the order of ``src/unit.h``: suffix of the layer's name, name of the weight.
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


_POINTER, _INT64 = ctypes.c_void_p, ctypes.c_int64


# The structs of ``src/unit.h`` and ``src/stem.h``.
class _UnitSpec(ctypes.Structure):
    _fields_ = [
        (name, ctypes.c_int)
        for name in ("batch", "height", "width", "channels", "kernel", "stride", "attention")
    ]


class _FeatureMap(ctypes.Structure):
    _fields_ = [("data", _POINTER), ("stride", _INT64)]


class _ForwardArguments(ctypes.Structure):
    _fields_ = [
        ("x", _FeatureMap),
        ("out", _FeatureMap),
        ("parameters", _POINTER),
        ("statistics", _POINTER),
        ("training", _INT64),
    ]


class _BackwardArguments(ctypes.Structure):
    _fields_ = [
        ("x", _FeatureMap),
        ("dout", _FeatureMap),
        ("dx", _FeatureMap),
        ("parameters", _POINTER),
        ("gradients", _POINTER),
        ("seed", ctypes.c_uint64),
        ("add", _INT64),
        ("exact", _INT64),
    ]


class _StemSpec(ctypes.Structure):
    _fields_ = [
        (name, ctypes.c_int)
        for name in ("batch", "height", "width", "channels", "filters", "kernel", "stride", "adapter")
    ]


class _StemArguments(ctypes.Structure):
    _fields_ = [
        ("x", _POINTER),
        ("out", _POINTER),
        ("parameters", _POINTER),
        ("gradients", _POINTER),
        ("statistics", _POINTER),
        ("training", _INT64),
    ]


def _command() -> list[str]:
    words = runtime_build.compiler(runtime_build.host_target())
    if "ziglang" in words:
        words = words[: words.index("c++") + 1]  # drop the portable target: use all features of this machine
        return [*words, "-mcpu=native"]
    return [*words, "-mcpu=native" if platform.machine() in ("aarch64", "armv7l") else "-march=native"]


def build() -> Path:
    """Compile the library for this machine, unless an up-to-date one exists.

    Returns:
        Its path: next to this module if that folder is writable, else in the cache folder.

    Raises:
        BddError: If there is no compiler, or it fails.
    """
    command = _command()
    shared = runtime_build.SOURCES / "support"
    sources = [*sorted(SOURCES.glob("*.cc")), shared / "memory.cc", shared / "threads.cc"]
    headers = [
        *sorted(SOURCES.glob("*.h")),
        *(shared / name for name in ("threads.h", "memory.h")),
    ]
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
    from bdd_tf.files import cache_folder

    beside = SOURCES.parent
    return beside if os.access(beside, os.W_OK) else cache_folder() / "kernels"


def _processor() -> str:
    """The processor's features, part of the file name: different machines may share a cache folder."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line for line in lines if line.startswith(("flags", "Features"))), platform.machine())


@functools.lru_cache(maxsize=1)
def library() -> ctypes.CDLL:
    """Load the compiled library, compiling it first if needed.

    Raises:
        BddError: If it cannot be compiled or loaded.
    """
    try:
        lib = ctypes.CDLL(str(build()))
    except OSError as error:
        raise BddError(f"the training kernels cannot be loaded: {error}") from error
    lib.bdd_pool_new.restype, lib.bdd_pool_new.argtypes = _POINTER, [ctypes.c_int]
    lib.bdd_unit_new.restype, lib.bdd_unit_new.argtypes = _POINTER, [_POINTER, ctypes.POINTER(_UnitSpec)]
    lib.bdd_unit_delete.restype, lib.bdd_unit_delete.argtypes = None, [_POINTER]
    lib.bdd_unit_forward.restype = None
    lib.bdd_unit_forward.argtypes = [_POINTER, ctypes.POINTER(_ForwardArguments)]
    lib.bdd_unit_backward.restype = None
    lib.bdd_unit_backward.argtypes = [_POINTER, ctypes.POINTER(_BackwardArguments)]
    lib.bdd_stem_new.restype, lib.bdd_stem_new.argtypes = _POINTER, [_POINTER, ctypes.POINTER(_StemSpec)]
    lib.bdd_stem_delete.restype, lib.bdd_stem_delete.argtypes = None, [_POINTER]
    for function in (lib.bdd_stem_forward, lib.bdd_stem_backward):
        function.restype, function.argtypes = None, [_POINTER, ctypes.POINTER(_StemArguments)]
    return lib


@functools.lru_cache(maxsize=1)
def _pool() -> int:
    return int(library().bdd_pool_new(threads()))


def threads() -> int:
    """Number of threads: the cores that this process may use."""
    return usable_cores()


def _address(array: Array) -> int:
    return array.ctypes.data


def _feature_map(array: Array) -> _FeatureMap:
    return _FeatureMap(_address(array), array.strides[2] // 4)


class _Layers:
    """Layers in native memory, which is freed with the object.

    Args:
        kind: ``"unit"`` or ``"stem"``.
        spec: Their sizes.
    """

    def __init__(self, kind: str, spec: ctypes.Structure):
        new, self._forward, self._backward, self._delete = (
            getattr(library(), f"bdd_{kind}_{verb}") for verb in ("new", "forward", "backward", "delete")
        )
        self._layers = new(_pool(), spec)

    def __del__(self) -> None:
        """Free the native memory."""
        if getattr(self, "_layers", None):
            self._delete(self._layers)


class Unit(_Layers):
    """A unit with its stored activations, for batches of a fixed size; see :func:`bdd_tf.models.bnext.unit`.

    Args:
        batch: Number of images.
        height: Height of the input in pixels.
        width: Width of the input in pixels.
        channels: Channels of the input and the output, a multiple of 16.
        kernel: 3 or 1.
        stride: 1, or 2 with kernel 3.
        attention: Whether the residual multiplies (element-wise attention).

    Raises:
        ValueError: If the channels are not a multiple of 16.
        BddError: If the library cannot be compiled or loaded.
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
        super().__init__("unit", _UnitSpec(batch, height, width, channels, kernel, stride, int(attention)))

    def _pointers(self, arrays: Arrays) -> ctypes.Array[ctypes.c_void_p]:
        return (ctypes.c_void_p * len(PARAMETERS))(*(_address(a) for a in arrays))

    def forward(self, x: Array, parameters: Arrays, out: Array, statistics: Array, training: bool) -> None:
        """Compute ``out``.

        Args:
            x: float32 :attr:`in_shape`; may be a slice of the channels of a wider contiguous array.
            parameters: float32, contiguous, in the order of :data:`PARAMETERS`.
            out: float32 :attr:`out_shape`, contiguous or sliced like ``x``; written.
            statistics: float32 [4, C]: mean and unbiased variance of the first batch normalization, then of the
                second; written in training, else read.
            training: Whether to normalize by the batch and to store what :meth:`backward` needs.
        """
        pointers = self._pointers(parameters)
        self._forward(
            self._layers,
            _ForwardArguments(
                _feature_map(x),
                _feature_map(out),
                ctypes.addressof(pointers),
                _address(statistics),
                int(training),
            ),
        )

    def backward(
        self,
        x: Array,
        parameters: Arrays,
        dout: Array,
        dx: Array,
        gradients: Arrays,
        *,
        add: bool = False,
        rounding_seed: int | None = None,
    ) -> None:
        """Compute the gradients of the last :meth:`forward` in training, for the same ``x`` and ``parameters``.

        Args:
            x: The input of :meth:`forward`.
            parameters: The parameters of :meth:`forward`.
            dout: Gradient of the output, float32 :attr:`out_shape`, contiguous or sliced like ``x``.
            dx: Gradient of ``x``; written, or added to.
            gradients: Gradients of the parameters; written.
            add: Whether to add to ``dx``.
            rounding_seed: Seed of the stochastic rounding to int8, in which the convolution's gradients are computed
                (``src/kernel_gradient.cc``, ``src/sign_gradient.cc``); None: float products.
        """
        values, results = self._pointers(parameters), self._pointers(gradients)
        self._backward(
            self._layers,
            _BackwardArguments(
                _feature_map(x),
                _feature_map(dout),
                _feature_map(dx),
                ctypes.addressof(values),
                ctypes.addressof(results),
                rounding_seed or 0,
                int(add),
                int(rounding_seed is None),
            ),
        )


class Stem(_Layers):
    """The layers in front of the first block, on batches of a fixed size (``src/stem.h``).

    They are the adapter if there is one, the normalization of its result per channel, the rotation by 180 degrees, the
    stem's convolution and its batch normalization.

    Args:
        shape: [batch, height, width, channels] of the input, height and width multiples of 4 times the stride.
        filters: Output channels, a multiple of 16.
        kernel: Side of the stem's kernel: 3 or 4.
        stride: 1, 2 or 4.
        adapter: Whether there is an adapter, which reduces the channels to three.
        scale: float32 [P], factor of each channel of the normalization; P is 3 with an adapter.
        shift: float32 [P], what the normalization adds after the factor.

    Raises:
        BddError: If the library cannot be compiled or loaded.
    """

    def __init__(
        self,
        shape: tuple[int, int, int, int],
        filters: int,
        kernel: int,
        stride: int,
        adapter: bool,
        scale: Array,
        shift: Array,
    ):
        batch, height, width, channels = shape
        self.in_shape, self.out_shape = shape, (batch, height // stride, width // stride, filters)
        self._constants = [np.ascontiguousarray(a, np.float32) for a in (scale, shift)]
        super().__init__(
            "stem", _StemSpec(batch, height, width, channels, filters, kernel, stride, int(adapter))
        )

    def _pointers(self, arrays: Arrays) -> ctypes.Array[ctypes.c_void_p]:
        addresses = [_address(a) for a in (*self._constants, *arrays)]
        return (ctypes.c_void_p * 7)(*addresses)

    def forward(self, x: Array, parameters: Arrays, out: Array, statistics: Array, training: bool) -> None:
        """Compute ``out``.

        Args:
            x: float32 :attr:`in_shape`, contiguous.
            parameters: float32: the stem's kernel, gamma, beta, then kernel and bias of the adapter.
            out: float32 :attr:`out_shape`, contiguous; written.
            statistics: float32 [2, filters]: mean and unbiased variance; written in training, else read.
            training: Whether to normalize by the batch and to store what :meth:`backward` needs.
        """
        values = self._pointers(parameters)
        args = _StemArguments(
            _address(x), _address(out), ctypes.addressof(values), None, _address(statistics), int(training)
        )
        self._forward(self._layers, args)

    def backward(self, x: Array, parameters: Arrays, dout: Array, gradients: Arrays) -> None:
        """Compute the gradients of the last :meth:`forward` in training, for the same ``x`` and ``parameters``.

        Args:
            x: The input of :meth:`forward`.
            parameters: The parameters of :meth:`forward`.
            dout: Gradient of the output, float32 :attr:`out_shape`, contiguous.
            gradients: Gradients of the parameters; written.
        """
        values, results = self._pointers(parameters), self._pointers(gradients)
        args = _StemArguments(
            _address(x), _address(dout), ctypes.addressof(values), ctypes.addressof(results), None, 1
        )
        self._backward(self._layers, args)
