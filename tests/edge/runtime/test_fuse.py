"""Fused stretches: the same numbers as with the binary operators alone, where the runtime does the rest."""

import functools

import numpy as np
import pytest

from bdd_tf.edge.runtime import available_kernels, interpreter_module, lce_delegate
from tests.edge.runtime.fused_nets import NETS, Net, fed_to, narrow, run


@functools.cache
def unfused(name, batch):
    return run(NETS[name], fed_to(name, batch, 1), fuse=False, kernels="scalar")


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("kernels", available_kernels())
@pytest.mark.parametrize("name", NETS)
def test_fused_equals_unfused(name, kernels, threads, batch):
    x = fed_to(name, batch, 1)
    found = run(NETS[name], x, num_threads=threads, kernels=kernels)
    for a, b in zip(found, unfused(name, batch), strict=True):
        assert a.shape == b.shape
        if a.dtype == np.float32:
            assert np.abs(a - b).max() <= 1e-5 * max(np.abs(b).max(), 1e-6)
        else:
            np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("name", ["parts and whole", "pooled, parts, inside", "doubled 32", "plain 64"])
def test_resized_again_and_again(name):
    """What was planned for one batch is forgotten for the next."""
    interpreter = interpreter_module().Interpreter(
        model_content=NETS[name], experimental_delegates=[lce_delegate()]
    )
    entry, outputs = interpreter.get_input_details()[0], interpreter.get_output_details()
    for batch in (3, 1, 3, 2):
        x = fed_to(name, batch, batch)
        interpreter.resize_tensor_input(entry["index"], x.shape)
        interpreter.allocate_tensors()
        interpreter.set_tensor(entry["index"], x)
        interpreter.invoke()
        for output, expected in zip(outputs, run(NETS[name], x), strict=True):
            np.testing.assert_array_equal(interpreter.get_tensor(output["index"]), expected)


def test_blocks_of_channels_are_left_out_where_they_would_be_too_large():
    """One channel of a map of 2^24 pixels is small; 32, as blocks have, are more than memory may be."""
    means = []
    for side in (4, 4104):
        net = Net((1, side, side, 1))
        y = net.by_channel("ADD", net.bconv(net.quantize(net.input), 1, 1))
        content = net.build(net.mean(net.two("MUL", y, net.mean(y))))
        means.append(run(content, np.ones((1, side, side, 1), np.float32))[0])
    np.testing.assert_allclose(*means, rtol=1e-3)


@pytest.mark.parametrize("fuse", [True, False])
def test_packed_vectors_equal_their_unpacked_values(fuse):
    """int8 and float16 constants behind a DEQUANTIZE equal their float values, whether delegate or runtime unpacks them."""
    x = fed_to("narrow 40", 2, 3)
    unpacked, rounded = (run(narrow(40, vectors), x, fuse=fuse)[0] for vectors in ("unpacked", "rounded"))
    np.testing.assert_allclose(unpacked, rounded, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("threads", [2, 3])
def test_results_do_not_depend_on_the_number_of_threads(threads):
    x = np.random.default_rng(2).normal(size=(1, 37, 37, 64)).astype(np.float32)
    one, more = (run(NETS["large"], x, num_threads=t)[0] for t in (1, threads))
    np.testing.assert_array_equal(one, more)
