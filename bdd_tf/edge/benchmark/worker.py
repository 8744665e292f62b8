"""Worker process of `bdd benchmark`: loads one model and measures its inference time on request.

Reads JSON lines from standard input: first the contender, then any number of ``{"runs": n}``. Answers each with a JSON
line on standard output. Each contender has its own process, so that contenders share neither caches nor memory.
"""

from __future__ import annotations

import importlib
import json
import os
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from bdd_tf.edge.runtime import interpreter_module, lce_delegate

#: Engines other than LiteRT: "module:function", imported when requested. Given the contender, the function returns a
#: callable that runs the model once.
ENGINES = {
    "lce": "bdd_tf.plugins.lce_engine:benchmark_run",
    "torch": "bdd_tf.pytorch.bnext:benchmark_run",
}


def litert_run(contender: dict[str, Any]) -> Callable[[], object]:
    """Load a model into LiteRT with XNNPACK, and with this package's delegate if ``kernels`` is set.

    Args:
        contender: Dict with ``path``, ``threads`` and ``kernels`` (None for no delegate).

    Returns:
        A function that runs the model once.
    """
    threads, kernels = contender["threads"], contender["kernels"]
    delegates = [lce_delegate(threads, kernels)] if kernels else []
    interpreter = interpreter_module().Interpreter(
        model_path=contender["path"], num_threads=threads, experimental_delegates=delegates
    )
    interpreter.allocate_tensors()
    for entry in interpreter.get_input_details():
        interpreter.set_tensor(entry["index"], sample_input(entry["shape"], entry["dtype"]))
    invoke: Callable[[], object] = interpreter.invoke
    return invoke


def sample_input(shape: tuple[int, ...], dtype: DTypeLike) -> NDArray[Any]:
    """Return random pixels; inputs of the same shape hold the same pixels.

    Args:
        shape: Shape of the input.
        dtype: Type of the input: uint8 for pixels 0 to 255, int8 for pixels minus 128, floating point for 0 to 1.

    Returns:
        An array of that shape and type.
    """
    x = np.random.default_rng(0).integers(0, 256, tuple(shape))
    if np.issubdtype(dtype, np.floating):
        return (x / 255).astype(dtype)
    return (x - 128 if dtype == np.int8 else x).astype(dtype)


def peak_mib() -> float:
    """Return the peak resident memory of this process so far, in MiB."""
    status = Path("/proc/self/status")
    if status.is_file():
        # getrusage would start from the parent's resident memory at the time of the fork.
        for line in status.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 1024
    unit = 1024**2 if sys.platform == "darwin" else 1024  # bytes there, KiB elsewhere
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit


def main() -> int:
    """Serve one contender until standard input ends; return the exit code."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # runtimes print to standard output, which must hold answers only
    contender = json.loads(sys.stdin.readline())
    try:
        os.sched_setaffinity(0, set(contender["cores"]))
        before = peak_mib()
        engine = contender["engine"]
        if engine == "litert":
            run = litert_run(contender)
        else:
            module, _, name = ENGINES[engine].partition(":")
            run = getattr(importlib.import_module(module), name)(contender)
        run()
    except Exception as error:  # runtimes raise various types; the table shows the message
        answers.write(json.dumps({"error": str(error).strip() or type(error).__name__}) + "\n")
        answers.flush()
        return 1
    answers.write(json.dumps({"ready": True}) + "\n")
    answers.flush()
    for line in sys.stdin:
        seconds = []
        for _ in range(json.loads(line)["runs"]):
            began = time.perf_counter()
            run()
            seconds.append(time.perf_counter() - began)
        answers.write(json.dumps({"seconds": seconds, "peak_mib": peak_mib(), "before_mib": before}) + "\n")
        answers.flush()
    return 0


if __name__ == "__main__":
    sys.exit(main())
