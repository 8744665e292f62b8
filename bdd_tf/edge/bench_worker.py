"""One contender of `bdd benchmark`: a process that loads one model and runs it when told to.

Reads JSON lines from standard input: first the contender, then ``{"runs": n}`` any number of times. Answers with
JSON lines on standard output. In a process of its own no contender warms or fills another one's memory.
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

import numpy as np

from bdd_tf.edge.runtime import interpreter_module, lce_delegate

#: Engines beyond LiteRT, imported only when asked for: "module:function", called with the contender, giving a run.
ENGINES = {
    "lce": "bdd_tf.lce_engine:benchmark_run",
    "torch": "converters.torch_bnext:benchmark_run",
}


def litert_run(contender: dict) -> Callable[[], object]:
    """Prepare LiteRT with XNNPACK, and our delegate where ``kernels`` names a set.

    Args:
        contender: ``path``, ``threads`` and ``kernels`` (None: no delegate).

    Returns:
        What runs the model once.
    """
    threads, kernels = contender["threads"], contender["kernels"]
    delegates = [lce_delegate(threads, kernels)] if kernels else []
    interpreter = interpreter_module().Interpreter(
        model_path=contender["path"], num_threads=threads, experimental_delegates=delegates
    )
    interpreter.allocate_tensors()
    for entry in interpreter.get_input_details():
        interpreter.set_tensor(entry["index"], sample_input(entry["shape"], entry["dtype"]))
    return interpreter.invoke


def sample_input(shape: tuple[int, ...], dtype: type) -> np.ndarray:
    """Numbers that look like a picture: the same for all contenders of a shape.

    Args:
        shape: Of the input.
        dtype: uint8: 0 to 255; int8: shifted by 128; float32: 0 to 1.

    Returns:
        An array of that shape and type.
    """
    x = np.random.default_rng(0).integers(0, 256, tuple(shape))
    if np.issubdtype(dtype, np.floating):
        return (x / 255).astype(dtype)
    return (x - 128 if dtype == np.int8 else x).astype(dtype)


def peak_mib() -> float:
    """Largest resident memory of this process so far, in MiB."""
    status = Path("/proc/self/status")
    if status.is_file():
        # Not getrusage: its figure begins with the parent's at the time of the fork.
        for line in status.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> int:
    """Serve one contender until standard input ends; returns the exit code."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # runtimes print; nobody should mistake that for an answer
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
    except Exception as error:  # whatever a runtime raises, the table names it
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
