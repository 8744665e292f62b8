"""The interpreter of Larq Compute Engine (LCE) as an engine of `bdd_tf.edge`. Loading it takes seconds (TensorFlow)."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from bdd_tf.edge.tflite.file import TfliteModel, needs_reference_bconv
from bdd_tf.errors import BddError


class LceEngine:
    """Run files with LCE operators, one image at a time; see `bdd_tf.edge.engines.Engine`.

    Args:
        model: The model; its batch size is 1, as in every file of LCE's converter.
        num_threads: Number of threads of an inference.

    Raises:
        BddError: If TensorFlow or larq-compute-engine is not installed, or the interpreter refuses the model.
    """

    name = "lce"

    def __init__(self, model: TfliteModel, num_threads: int = 1) -> None:
        self._model = model  # keeps the bytes alive for the interpreter
        reference = needs_reference_bconv(model)
        try:
            self._interpreter = _interpreter_class()(
                model.content,
                num_threads=num_threads,
                use_reference_bconv=reference,
                # The default kernel is slow except on ARM: BNext-T takes 337 ms with it on x86, 58 ms with this one.
                use_indirect_bgemm=not reference,
            )
        except (ValueError, RuntimeError) as error:
            raise BddError(f"Larq Compute Engine cannot run this model: {error}") from None

    def run(self, images: np.ndarray) -> np.ndarray:
        """See `bdd_tf.edge.engines.Engine.run`."""
        try:
            return np.asarray(self._interpreter.predict(images), np.float32).reshape(-1)
        except (ValueError, RuntimeError) as error:
            raise BddError(f"Larq Compute Engine failed to run the model: {error}") from None


def _interpreter_class() -> type:
    # LCE imports TensorFlow, for which legacy Keras must be selected first.
    from bdd_tf.legacy_keras import tf  # noqa: F401

    try:
        from larq_compute_engine.tflite.python.interpreter import Interpreter
    except ImportError as error:
        raise BddError(
            "the engine 'lce' needs the package larq-compute-engine, which is not installed: "
            "pip install larq-compute-engine (available for x86-64 Linux and macOS, not for Linux on ARM)."
        ) from error
    return Interpreter


def benchmark_run(contender: dict) -> Callable[[], object]:
    """Prepare a model in LCE's interpreter for `bdd benchmark`.

    Args:
        contender: ``path``, ``threads`` and ``kernels``: ``"default"`` or ``"indirect"`` (with XNNPACK).

    Returns:
        A function that runs the model once. It includes the copies of input and output that the interpreter always makes.
    """
    from bdd_tf.edge.benchmark.worker import sample_input

    indirect = contender["kernels"] == "indirect"
    interpreter = _interpreter_class()(
        Path(contender["path"]).read_bytes(),
        num_threads=contender["threads"],
        use_indirect_bgemm=indirect,
        use_xnnpack=indirect,
    )
    (shape,), (dtype,) = interpreter.input_shapes, interpreter.input_types
    x = sample_input(shape, dtype)
    return lambda: interpreter.predict(x, verbose=0)
