"""What runs a .tflite file: engines by name, each loaded only when it is asked for."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from bdd_tf.edge.runtime import interpreter_module, lce_delegate
from bdd_tf.edge.tflite_file import TfliteModel
from bdd_tf.errors import BddError, one_of


class Engine(Protocol):
    """A model made ready to run. Not thread-safe; its user takes turns.

    Attributes:
        name: The name under which the engine is registered.
    """

    name: str

    def run(self, images: NDArray[Any]) -> NDArray[np.float32]:
        """Score a batch.

        Args:
            images: uint8 [N, H, W, 3], N at least 1, of the model's input size; of a model that takes something
                else (`bdd_tf.edge.tflite_cut`), that.

        Returns:
            float32 [N], the model's output; where N is 1, all values of the output, flat.

        Raises:
            BddError: If the runtime fails.
        """


DEFAULT_ENGINE = "litert"

_ENGINES = {
    "litert": "bdd_tf.edge.engines:LiteRtEngine",
    # Not part of the edge: LCE's interpreter imports TensorFlow.
    "lce": "bdd_tf.lce_engine:LceEngine",
}


def register_engine(name: str, target: str) -> None:
    """Add an engine, or replace one.

    Args:
        name: What users type after ``--engine``.
        target: ``"module:attribute"``, imported when the engine is first asked for: a callable that takes a
            `TfliteModel` and the keyword ``num_threads`` and returns an `Engine`.
    """
    _ENGINES[name] = target


def engine_names() -> tuple[str, ...]:
    """The registered names, in order of registration."""
    return tuple(_ENGINES)


def create_engine(model: TfliteModel, name: str = DEFAULT_ENGINE, num_threads: int = 1) -> Engine:
    """Load an engine and give it a model.

    Args:
        model: The model to run.
        name: One of `engine_names`.
        num_threads: Threads that one inference may use, at least 1.

    Returns:
        The engine, ready to run.

    Raises:
        UsageError: If there is no engine of that name.
        BddError: If the engine is not installed, or cannot run the model.
    """
    if name not in _ENGINES:
        raise one_of("engine", name, engine_names())
    module, _, attribute = _ENGINES[name].partition(":")
    try:
        factory: Callable[..., Engine] = getattr(importlib.import_module(module), attribute)
    except ModuleNotFoundError as error:
        if error.name != module:
            raise
        raise BddError(
            f"the engine {name!r} is not part of this installation; pip install 'bdd_tf[train]' has it all."
        ) from None
    return factory(model, num_threads=num_threads)


class LiteRtEngine:
    """Google's LiteRT (or its predecessor tflite-runtime, on 32-bit ARM), with our delegate for LCE's operators."""

    name = "litert"

    def __init__(self, model: TfliteModel, num_threads: int = 1) -> None:
        delegates = []
        if any(name.startswith("Lce") for name in model.custom_operators):
            delegates.append(lce_delegate(num_threads))
        try:
            # The runtime keeps a pointer into the model's bytes, hence the reference.
            self._model = model
            self._interpreter = interpreter_module().Interpreter(
                model_content=model.content, num_threads=num_threads, experimental_delegates=delegates
            )
            self._allocate(1)
        except (ValueError, RuntimeError) as error:
            raise BddError(f"LiteRT cannot run this model: {_first_line(error)}") from None
        self._batches = True

    def run(self, images: NDArray[Any]) -> NDArray[np.float32]:
        """See `Engine.run`."""
        try:
            if self._batches:
                scores = self._run_batch(images)
                if scores is not None:
                    return scores
                # Some graphs have a batch of one written into a reshape; from now on they get what they want.
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
        if getattr(self, "_allocated", None) != batch:
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
