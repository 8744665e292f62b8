"""The Larq Compute Engine's own interpreter as an engine of `bdd_tf.edge`. It imports TensorFlow: seconds."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from bdd_tf.edge.tflite_file import TfliteModel, needs_reference_bconv
from bdd_tf.errors import BddError


class LceEngine:
    """Runs files with LCE operators, one image at a time; see `bdd_tf.edge.engines.Engine`.

    Args:
        model: The model to run; its batch is 1, as in every file that LCE converts.
        num_threads: Threads that one inference may use.

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
                # Off ARM the default kernel is the slow one: 337 ms against 58 for BNext-T on x86.
                use_indirect_bgemm=not reference,
            )
        except (ValueError, RuntimeError) as error:
            raise BddError(f"the Larq Compute Engine cannot run this model: {error}") from None

    def run(self, images: np.ndarray) -> np.ndarray:
        """See `bdd_tf.edge.engines.Engine.run`."""
        try:
            return np.asarray(self._interpreter.predict(images), np.float32).reshape(-1)
        except (ValueError, RuntimeError) as error:
            raise BddError(f"the Larq Compute Engine failed to run the model: {error}") from None


def _interpreter_class() -> type:
    # LCE imports TensorFlow, which must come up with legacy Keras for the sake of whatever is imported later.
    from bdd_tf.legacy_keras import tf  # noqa: F401

    try:
        from larq_compute_engine.tflite.python.interpreter import Interpreter
    except ImportError as error:
        raise BddError(
            "the engine 'lce' needs the package larq-compute-engine, which is not installed: "
            "pip install larq-compute-engine (x86-64 Linux, macOS; not Linux on ARM)."
        ) from error
    return Interpreter


def benchmark_run(contender: dict) -> Callable[[], object]:
    """LCE's interpreter for `bdd benchmark`.

    Args:
        contender: ``path``, ``threads`` and ``kernels``: ``"default"`` or ``"indirect"`` (with XNNPACK).

    Returns:
        What runs the model once. It copies input and output, as every user of that interpreter does.
    """
    from bdd_tf.edge.bench_worker import sample_input

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
