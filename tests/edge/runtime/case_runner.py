"""Runs cases of operators on a TFLite runtime, with numpy alone: also in a process without TensorFlow, on any machine.

    python case_runner.py CASES.npz [RUNTIME]

RUNTIME is a package with an `interpreter` module (default: the one installed); all kernels that the machine has.
"""

import importlib
import sys
from dataclasses import dataclass

import numpy as np


@dataclass
class Case:
    """A model and what it should give.

    Attributes:
        name: For messages.
        model: The file; its batch is 1.
        fed: [4, ...].
        expected: [4, ...].
        per_step: Of integer outputs: largest difference allowed (rounding of ties).
    """

    name: str
    model: bytes
    fed: np.ndarray
    expected: np.ndarray
    per_step: int = 0


def check(case, interpreter_class, delegate, batch, num_threads=1):
    """Run a case; raises AssertionError with its name where the output is not the expected one."""
    interpreter = interpreter_class(
        model_content=case.model, experimental_delegates=[delegate], num_threads=num_threads
    )
    entry, out = interpreter.get_input_details()[0], interpreter.get_output_details()[0]
    if batch != 1:
        interpreter.resize_tensor_input(entry["index"], case.fed[:batch].shape)
    interpreter.allocate_tensors()
    for first in range(0, 2 if batch == 1 else 1):  # twice: state of the first run must not affect the second
        interpreter.set_tensor(entry["index"], case.fed[first : first + batch])
        interpreter.invoke()
        found, expected = interpreter.get_tensor(out["index"]), case.expected[first : first + batch]
        assert found.shape == expected.shape, f"{case.name}: {found.shape} instead of {expected.shape}"
        if found.dtype == np.float32:
            error = np.abs(found - expected).max() / max(np.abs(expected).max(), 1e-9)
            assert error <= 1e-5, f"{case.name}: off by {error:.2g} of the scale"
        elif case.per_step:
            apart = np.abs(found.astype(int) - expected)
            assert apart.max() <= case.per_step, f"{case.name}: off by {apart.max()}"
            assert (apart > 0).mean() < 0.01, f"{case.name}: {np.mean(apart > 0):.1%} apart"
        else:
            wrong = int((found != expected).sum())
            assert wrong == 0, f"{case.name}: {wrong} of {found.size} values differ"


def save(cases, path):
    """Write cases to a file that `load` reads."""
    arrays = {}
    for i, c in enumerate(cases):
        arrays |= {
            f"{i}.name": np.array(c.name),
            f"{i}.model": np.frombuffer(c.model, np.uint8),
            f"{i}.fed": c.fed,
            f"{i}.expected": c.expected,
            f"{i}.per_step": np.array(c.per_step),
        }
    np.savez_compressed(path, **arrays)


def load(path):
    """The cases in a file."""
    with np.load(path) as arrays:
        return [
            Case(
                str(arrays[f"{i}.name"]),
                arrays[f"{i}.model"].tobytes(),
                arrays[f"{i}.fed"],
                arrays[f"{i}.expected"],
                int(arrays[f"{i}.per_step"]),
            )
            for i in range(len(arrays.files) // 5)
        ]


def run_all(cases, interpreter_class, make_delegate, kernels):
    """Messages about wrong cases, over all kernels, 1 and 2 threads, batch 1 and 4."""
    wrong = []
    for name in kernels:
        for threads in (1, 2):
            for batch in (1, 4):
                for case in cases:
                    try:
                        check(case, interpreter_class, make_delegate(threads, name), batch, threads)
                    except AssertionError as error:
                        wrong.append(f"{name}, {threads} threads, batch {batch}: {error}")
    return wrong


def main():
    from bdd_tf.edge.runtime import available_kernels, interpreter_module, lce_delegate

    cases = load(sys.argv[1])
    module = (
        importlib.import_module(f"{sys.argv[2]}.interpreter") if len(sys.argv) > 2 else interpreter_module()
    )
    *fast, plain = available_kernels()
    wrong = run_all(cases, module.Interpreter, lce_delegate, fast)
    # Plain kernels are the same everywhere; under emulation they take longest.
    for case in cases:
        try:
            check(case, module.Interpreter, lce_delegate(2, plain), 4, 2)
        except AssertionError as error:
            wrong.append(f"{plain}: {error}")
    print("\n".join(wrong[:20]))
    print(
        f"{module.__name__}: {len(cases)} cases, kernels {', '.join(fast)} with 1 and 2 threads, batch 1 and 4, "
        f"{plain} with 2 threads, batch 4: {len(wrong)} wrong"
    )
    return 1 if wrong or not cases else 0


if __name__ == "__main__":
    sys.exit(main())
