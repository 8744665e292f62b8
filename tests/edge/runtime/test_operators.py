"""Every operator with every attribute, for each set of kernels, thread count and batch, on two runtimes."""

from dataclasses import replace

import numpy as np
import pytest

from bdd_tf.edge.runtime import available_kernels, interpreter_module, lce_delegate
from tests.edge.runtime.case_runner import check, load, run_all, save
from tests.edge.runtime.operator_cases import Bconv, all_cases, bconvs, convolve, signs


@pytest.fixture(scope="module")
def cases():
    return all_cases()


def interpreters():
    yield pytest.param(lambda: interpreter_module().Interpreter, id="installed-runtime")

    def tf_lite():
        from bdd_tf.legacy_keras import tf

        return tf.lite.Interpreter

    yield pytest.param(tf_lite, id="tf.lite")


@pytest.mark.parametrize("kernels", available_kernels())
@pytest.mark.parametrize("interpreter", interpreters())
def test_operators_are_exact(cases, interpreter, kernels):
    assert len(cases) >= 60
    wrong = run_all(cases, interpreter(), lce_delegate, [kernels])
    assert not wrong, f"{len(wrong)} wrong:\n" + "\n".join(wrong[:20])


def test_a_wrong_expectation_is_noticed(cases):
    interpreter, delegate = interpreter_module().Interpreter, lce_delegate()
    for case in cases[:3] + cases[-3:]:
        other = case.expected.copy().reshape(-1)
        other[0] = ~other[0] if other.dtype != np.float32 else other[0] + 1
        with pytest.raises(AssertionError):
            check(replace(case, expected=other.reshape(case.expected.shape)), interpreter, delegate, 1)


def test_cases_survive_a_file(cases, tmp_path):
    save(cases[:4], tmp_path / "cases.npz")
    for before, after in zip(cases[:4], load(tmp_path / "cases.npz"), strict=True):
        assert (before.name, before.model, before.per_step) == (after.name, after.model, after.per_step)
        np.testing.assert_array_equal(before.expected, after.expected)


def keras_can(b: Bconv):
    both = b.dilations != (1, 1) and b.strides != (1, 1)
    return b.groups == 1 and not both and b.strides[0] == b.strides[1] and b.activation == 0


@pytest.mark.parametrize(
    "b", [b for b in bconvs() if b.output == "float32" and keras_can(b)], ids=lambda b: b.name
)
def test_the_numpy_reference_equals_larq(b):
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
