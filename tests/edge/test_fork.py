"""Threads do not survive `os.fork`: a detector that was used before works in the child, with its own threads."""

import os
import signal
import sys
import threading
import time

import numpy as np
import pytest

from bdd_tf.edge import Detector, lce_delegate
from bdd_tf.edge.runtime import interpreter_module
from bdd_tf.edge.shipped_model import shipped_model

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
IMAGES = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3), dtype=np.uint8)


def in_child(function, seconds=60):
    """Run a function in a forked child; whether it returned true in time."""
    child = os.fork()
    if child == 0:
        os._exit(0 if function() else 1)
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return status == 0
        time.sleep(0.01)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return False


@pytest.mark.skipif(sys.platform == "win32", reason="no fork")
@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize("engine", ["native", "litert"])
def test_a_detector_works_before_and_after_a_fork(engine, threads):
    with Detector("cifake", engine=engine, num_threads=threads) as detector:
        expected = detector.predict_batch(IMAGES)

        def same():
            several = [np.array_equal(detector.predict_batch(IMAGES), expected) for _ in range(3)]
            return all(several) and in_child(
                lambda: np.array_equal(detector.predict_batch(IMAGES), expected), 30
            )

        assert in_child(same)
        np.testing.assert_array_equal(detector.predict_batch(IMAGES), expected)


def test_a_lock_that_another_thread_held_is_free_in_the_child():
    with Detector("cifake", num_threads=2) as detector:
        detector.predict_batch(IMAGES)
        with detector._lock:
            assert in_child(lambda: len(detector.predict_batch(IMAGES)) == 3)


def test_a_delegate_in_an_interpreter_of_ones_own_remakes_its_threads():
    interpreter = interpreter_module().Interpreter(
        model_content=shipped_model("cifake").read_bytes(),
        experimental_delegates=[lce_delegate(num_threads=2)],
    )
    interpreter.allocate_tensors()

    def score():
        interpreter.set_tensor(interpreter.get_input_details()[0]["index"], IMAGES[:1])
        interpreter.invoke()
        return interpreter.get_tensor(interpreter.get_output_details()[0]["index"]).copy()

    def from_several_threads():
        score()  # remakes the pool; the interpreter itself is for one thread at a time
        worker = threading.Thread(target=score)
        worker.start()
        worker.join()
        return np.array_equal(score(), expected)

    expected = score()
    assert in_child(from_several_threads)
    np.testing.assert_array_equal(score(), expected)


def test_a_refusal_always_has_a_reason():
    with pytest.raises(RuntimeError, match=r"fused forensic channels.*lce_delegate\(fuse=False\)") as refused:
        interpreter_module().Interpreter(
            model_content=shipped_model("cifake").read_bytes(),
            experimental_delegates=[lce_delegate()],
            experimental_preserve_all_tensors=True,
        ).allocate_tensors()
    assert str(refused.value).count("bdd_tf: node") == 1
    with Detector("cifake") as detector:
        expected = detector.predict_batch(IMAGES[:1])
    interpreter = interpreter_module().Interpreter(
        model_content=shipped_model("cifake").read_bytes(),
        experimental_delegates=[lce_delegate(fuse=False)],
        experimental_preserve_all_tensors=True,
    )
    interpreter.allocate_tensors()
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], IMAGES[:1])
    interpreter.invoke()
    found = interpreter.get_tensor(interpreter.get_output_details()[0]["index"])[0]
    np.testing.assert_allclose(found, expected, atol=1e-5)
