"""Inference engines for .tflite files, registered by name; each is imported only when it is requested."""

from __future__ import annotations

import ctypes
import os
import re
import threading
from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from bdd_tf.edge.runtime import (
    RuntimeMissingError,
    TfliteRuntimeMissingError,
    interpreter_module,
    lce_delegate,
)
from bdd_tf.edge.standard_error import without_lines
from bdd_tf.edge.targets import load_target
from bdd_tf.edge.tflite.file import TfliteModel
from bdd_tf.errors import BddError, one_of


class Engine(Protocol):
    """A model that is loaded and ready to run. Not thread-safe: callers must not run it concurrently.

    Attributes:
        name: Name under which the engine is registered; never ``"auto"``.
    """

    name: str

    def run(self, images: NDArray[Any]) -> NDArray[np.float32]:
        """Score a batch.

        Args:
            images: uint8 [N, H, W, 3] of the model's input size, N at least 1. A model cut out of another one
                (`bdd_tf.edge.tflite.cut`) may take another shape and type.

        Returns:
            float32 [N], the output for each image. If N is 1, all elements of the output, flattened.

        Raises:
            BddError: If the runtime fails.
        """


DEFAULT_ENGINE = "auto"

_ENGINES = {
    "auto": "bdd_tf.edge.engines:choose_engine",
    "native": "bdd_tf.edge.native_engine:NativeEngine",
    "litert": "bdd_tf.edge.engines:LiteRtEngine",
    # A plugin outside the edge package, because LCE's interpreter imports TensorFlow.
    "lce": "bdd_tf.plugins.lce_engine:LceEngine",
}


def register_engine(name: str, target: str) -> None:
    """Register an engine; a second one of the same name replaces the first.

    Args:
        name: Value of ``--engine``.
        target: ``"module:attribute"``, imported when the engine is first requested. The attribute is a callable that
            takes a `TfliteModel` and the keyword ``num_threads``, and returns an `Engine`.
    """
    _ENGINES[name] = target


def engine_names() -> tuple[str, ...]:
    """Return the registered names, in order of registration."""
    return tuple(_ENGINES)


def create_engine(model: TfliteModel, name: str = DEFAULT_ENGINE, num_threads: int = 1) -> Engine:
    """Import an engine and load a model into it.

    Args:
        model: The model to run.
        name: One of `engine_names`.
        num_threads: Number of threads per inference, at least 1.

    Returns:
        The engine, ready to run.

    Raises:
        UsageError: If no engine of that name is registered.
        BddError: If the engine is not installed, or cannot run the model.
    """
    if name not in _ENGINES:
        raise one_of("engine", name, engine_names())
    factory: Callable[..., Engine] = load_target(_ENGINES[name], f"the engine {name!r}")
    return factory(model, num_threads=num_threads)


def choose_engine(model: TfliteModel, num_threads: int = 1) -> Engine:
    """Load a model into the native engine, or into LiteRT if the native engine does not cover the file.

    Args:
        model: The model to run.
        num_threads: Number of threads per inference, at least 1.

    Returns:
        The engine; its ``name`` says which one it is.

    Raises:
        BddError: If neither can run the model. Without LiteRT, the message names the operator that the native engine
            lacks.
    """
    try:
        return create_engine(model, "native", num_threads)
    except BddError as error:
        reason = error
    try:
        return create_engine(model, "litert", num_threads)
    except TfliteRuntimeMissingError:
        pass
    except BddError:
        # A missing library is the reason of both; everything else is better known to the runtime.
        if isinstance(reason, RuntimeMissingError) and has_binary_operators(model):
            raise reason from None
        raise
    if isinstance(reason, RuntimeMissingError):
        raise reason from None
    raise BddError(f"{reason} LiteRT may run it: pip install 'bdd_tf[litert]'.") from None


def has_binary_operators(model: TfliteModel) -> bool:
    """Return whether a model contains operators of the Larq Compute Engine."""
    return any(name.startswith("Lce") for name in model.custom_operators)


#: Notes of the runtime that say nothing to a user.
_NOTES = re.compile(rb"^INFO: ")
#: Held while standard error is redirected, which belongs to the whole process.
_redirecting = threading.Lock()


class LiteRtEngine:
    """LiteRT (tflite-runtime on 32-bit ARM), with this package's delegate for LCE's operators."""

    name = "litert"

    def __init__(self, model: TfliteModel, num_threads: int = 1) -> None:
        # The runtime keeps a pointer to the model's bytes; this reference keeps them alive.
        self._model = model
        self._num_threads = num_threads
        self._batches = True
        self._load()

    def _load(self) -> None:
        delegates = []
        if has_binary_operators(self._model):
            delegates.append(lce_delegate(self._num_threads))
        runtime = interpreter_module()
        try:
            with _redirecting, without_lines(_NOTES):
                self._interpreter = runtime.Interpreter(
                    model_content=self._model.content,
                    num_threads=self._num_threads,
                    experimental_delegates=delegates,
                )
                self._process = os.getpid()
                self._allocated: int | None = None
                self._allocate(1)
        except (ValueError, RuntimeError) as error:
            raise BddError(f"LiteRT cannot run this model: {_first_line(error)}") from None

    def _reload_after_fork(self) -> None:
        """Replace an interpreter whose threads belong to the parent process.

        XNNPACK waits for its threads for ever, also when it is freed; so the copy of the parent's interpreter is kept.
        """
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(self._interpreter))
        self._load()

    def run(self, images: NDArray[Any]) -> NDArray[np.float32]:
        """Score a batch; see `Engine.run`."""
        if self._num_threads > 1 and self._process != os.getpid():
            self._reload_after_fork()
        try:
            if self._batches:
                scores = self._run_batch(images)
                if scores is not None:
                    return scores
                # Some graphs contain a reshape to a fixed batch of one; run those image by image from now on.
                self._batches = False
            return np.concatenate([self._run_single(image[None]) for image in images])
        except (ValueError, RuntimeError) as error:
            raise BddError(f"LiteRT failed to run the model: {_first_line(error)}") from None

    def _run_batch(self, images: NDArray[Any]) -> NDArray[np.float32] | None:
        if len(images) == 1:
            return self._run_single(images)
        try:
            self._allocate(len(images))
            scores = self._invoke(images)
        except (ValueError, RuntimeError):
            return None
        return scores if scores.shape == (len(images),) else None

    def _run_single(self, image: NDArray[Any]) -> NDArray[np.float32]:
        self._allocate(1)
        return self._invoke(image)

    def _allocate(self, batch: int) -> None:
        detail = self._interpreter.get_input_details()[0]
        if self._allocated != batch:
            self._allocated = None
            self._interpreter.resize_tensor_input(detail["index"], [batch, *detail["shape"][1:]])
            self._interpreter.allocate_tensors()
            self._allocated = batch

    def _invoke(self, images: NDArray[Any]) -> NDArray[np.float32]:
        interpreter = self._interpreter
        interpreter.set_tensor(interpreter.get_input_details()[0]["index"], np.ascontiguousarray(images))
        interpreter.invoke()
        scores: NDArray[np.float32] = interpreter.get_tensor(interpreter.get_output_details()[0]["index"])
        return scores.reshape(-1)


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
