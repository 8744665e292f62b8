"""BNext's published shape and function, and the detector around it."""

import itertools

import numpy as np
import pytest

from bdd_tf.errors import UsageError
from bdd_tf.legacy_keras import tf
from bdd_tf.models import bnext, registry
from bdd_tf.models.detector import build_detector, freeze_backbone, seed_everything
from bdd_tf.models.operations import count_operations, flat_layers, is_binary


def torch_conv(x, kernel, stride):
    """torch's Conv2d with padding k // 2: the same margin on every side."""
    pad = kernel.shape[0] // 2
    x = np.pad(x, ((0, 0), (pad, pad), (pad, pad), (0, 0)))
    return tf.nn.conv2d(x, kernel, stride, "VALID").numpy()


def published_unit(x, w, kernel, stride, attention):
    """A unit as its paper writes it: the gate reads the mean of the mixed map, torch's padding."""

    def prelu(v, a):
        return np.where(v > 0, v, a * v)

    def norm(v, name):
        gamma, beta, mean, variance = w[name]
        return (v - mean) / np.sqrt(variance + 1e-5) * gamma + beta

    def pool(v):
        n, h, width, c = v.shape
        return v.reshape(n, h // 2, 2, width // 2, 2, c).mean((2, 4)) if stride == 2 else v

    sign = np.where(x + w["move"][0] >= 0, 1.0, -1.0).astype(np.float32)
    weights = np.where(w["conv"][0] >= 0, 1.0, -1.0).astype(np.float32)
    y = prelu(norm(torch_conv(sign, weights, stride), "norm1"), w["prelu"][0])
    r = pool(prelu(x, w["residual_prelu"][0]) if attention else x)
    a = w["mix"][0]
    mean = (a * pool(x) + (1 - a) * y).mean((1, 2))
    squeezed = np.maximum(mean @ w["reduce"][0][0, 0] + w["reduce"][1], 0)
    gate = 1 / (1 + np.exp(-(squeezed @ w["expand"][0][0, 0] + w["expand"][1])))
    z = y * gate[:, None, None]
    return norm(z * r if attention else z, "norm2") + r


@pytest.mark.parametrize("attention", [False, True])
@pytest.mark.parametrize(("kernel", "stride"), [(3, 1), (3, 2), (1, 1)])
def test_a_unit_is_the_published_function_turned_by_180_degrees(kernel, stride, attention):
    rng = np.random.default_rng(kernel + stride)
    image = tf.keras.Input((8, 8, 16))
    model = tf.keras.Model(image, bnext.unit(image, kernel, strides=stride, attention=attention, name="u"))
    for weight in model.weights:
        value = rng.normal(size=weight.shape)
        weight.assign(np.abs(value) + 0.5 if "variance" in weight.name else np.clip(value, -1, 1))
    mix = model.get_layer("u.mix").scale
    mix.assign(np.abs(mix.numpy()))
    x = rng.normal(size=(2, 8, 8, 16)).astype(np.float32)
    w = {
        layer.name.removeprefix("u."): [v.numpy() for v in layer.weights]
        for layer in model.layers
        if layer.weights
    }
    w["conv"] = [w["conv"][0][::-1, ::-1]]
    expected = published_unit(x[:, ::-1, ::-1], w, kernel, stride, attention)[:, ::-1, ::-1]
    np.testing.assert_allclose(model(x).numpy(), expected, rtol=1e-3, atol=1e-3)


def test_bnext_t_has_the_published_counts():
    model = build_detector("bnext-t", 224, "rgb,fft,lbp")
    found = count_operations(model)
    assert round(found.binary_macs / 1e9, 3) == 4.817
    assert round(found.parameters / 1e6) == 30
    assert abs(found.parameters - 29.8e6) < 0.1e6
    assert round((found.float_macs - 224 * 224 * 27 * 5) / 1e6, 1) == 12.3
    assert sum(is_binary(layer) for layer in flat_layers(model)) == 31


@pytest.mark.parametrize(
    ("size", "stem", "blocks"), [("n", 16, 13), ("t", 32, 13), ("s", 48, 13), ("m", 48, 21), ("l", 64, 29)]
)
def test_widths_double_stage_by_stage(size, stem, blocks):
    widths = bnext.BNEXT[f"bnext-{size}"].widths
    assert widths[0] == stem
    assert len(widths) - 1 == blocks
    assert all(b in (a, 2 * a) for a, b in itertools.pairwise(widths))


def test_training_prelu_equals_inference_prelu_and_its_gradient():
    layer = bnext.prelu("p")
    x = tf.constant(np.random.default_rng(0).normal(size=(2, 4, 4, 3)), tf.float32)
    layer(x)
    results = []
    for training in (True, False):
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = layer(x, training=training)
            loss = tf.reduce_sum(y**2)
        results.append([y, *tape.gradient(loss, [x, layer.alpha])])
    for one, other in zip(*results, strict=True):
        np.testing.assert_allclose(one.numpy(), other.numpy(), rtol=1e-4, atol=1e-5)


def test_a_frozen_backbone_keeps_its_statistics():
    model = build_detector("bnext-n", 16)
    freeze_backbone(model)
    before = [w.numpy() for w in model.weights]
    model(np.random.default_rng(0).integers(0, 256, (4, 16, 16, 3)).astype(np.uint8), training=True)
    for old, new in zip(before, model.weights, strict=True):
        np.testing.assert_array_equal(old, new.numpy())
    assert {w.name.split("/")[0] for w in model.trainable_weights} == {"adapter", "logit"}


def test_the_seed_determines_the_weights():
    def weights(seed):
        seed_everything(seed)
        return build_detector("bnext-n", 16, "rgb").get_weights()

    one, same, other = weights(1), weights(1), weights(2)
    assert all(np.array_equal(a, b) for a, b in zip(one, same, strict=True))
    assert any(not np.array_equal(a, b) for a, b in zip(one, other, strict=True))


@pytest.mark.parametrize("name", ["bnext-n", "quicknet-small"])
def test_scores_are_probabilities(name):
    images = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3)).astype(np.uint8)
    scores = build_detector(name, 32)(images).numpy()
    assert scores.shape == (3, 1)
    assert np.all((scores >= 0) & (scores <= 1))


def test_sizes_that_do_not_fit_name_the_nearest():
    assert registry.stem_stride("bnext-t", 224) == 2
    assert registry.stem_stride("bnext-t", 48) == 1
    with pytest.raises(UsageError, match="224, 256"):
        registry.stem_stride("bnext-t", 230)
    with pytest.raises(UsageError, match="nearest: 16"):
        registry.stem_stride("bnext-t", 8)
    with pytest.raises(UsageError, match="bnext-n"):
        registry.backbone("bnext")
