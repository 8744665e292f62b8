"""Every operator with every attribute, for each set of kernels, thread count and batch, on two runtimes."""

import numpy as np
import pytest
from operator_cases import Bconv, all_cases, bconvs, check, convolve, signs

from bdd_tf.edge.runtime import available_kernels, interpreter_module, lce_delegate


@pytest.fixture(scope="module")
def cases():
    return all_cases()


def interpreters():
    yield pytest.param(lambda: interpreter_module().Interpreter, id="installed-runtime")

    def tf_lite():
        from bdd_tf.legacy_keras import tf

        return tf.lite.Interpreter

    yield pytest.param(tf_lite, id="tf.lite")


@pytest.mark.parametrize("batch", [1, 4])
@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("kernels", available_kernels())
@pytest.mark.parametrize("interpreter", interpreters())
def test_operators_are_exact(cases, interpreter, kernels, threads, batch):
    assert len(cases) >= 60
    wrong = []
    for case in cases:
        try:
            check(case, interpreter(), lce_delegate(threads, kernels), batch)
        except AssertionError as error:
            wrong.append(str(error))
    assert not wrong, f"{len(wrong)} of {len(cases)}:\n" + "\n".join(wrong[:20])


def keras_can(b: Bconv):
    both = b.dilations != (1, 1) and b.strides != (1, 1)
    return b.groups == 1 and not both and b.strides[0] == b.strides[1] and b.activation == 0


@pytest.mark.parametrize(
    "b", [b for b in bconvs() if b.output == "float32" and keras_can(b)], ids=lambda b: b.name
)
def test_what_numpy_expects_is_what_larq_computes(b):
    from bdd_tf.legacy_keras import larq as lq

    rng = np.random.default_rng(0)
    layer = lq.layers.QuantConv2D(
        b.filters, b.kernel, strides=b.strides, dilation_rate=b.dilations, padding="valid" if b.padding else "same",
        pad_values=float(b.pad_values), use_bias=False, input_quantizer="ste_sign", kernel_quantizer="ste_sign",
    )  # fmt: skip
    x = rng.normal(size=(2, b.height, b.width, b.channels)).astype(np.float32)
    layer.build(x.shape)
    w = rng.normal(size=(b.filters, *b.kernel, b.channels))
    layer.set_weights([w.transpose(1, 2, 3, 0)])
    np.testing.assert_array_equal(layer(x).numpy(), convolve(signs(x), signs(w), b))
