"""What the detector adds around a backbone, and what every detector promises."""

import numpy as np
import pytest

from bdd_tf.legacy_keras import tf
from bdd_tf.models.detector import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    Normalise,
    build_detector,
    freeze_backbone,
    logits,
    seed_everything,
)
from bdd_tf.models.operations import count_operations, flat_layers, is_binary


def test_bnext_t_has_the_published_counts():
    model = build_detector("bnext-t", 224, "rgb,fft,lbp")
    found = count_operations(model)
    assert round(found.binary_macs / 1e9, 3) == 4.817
    assert round(found.parameters / 1e6) == 30
    assert abs(found.parameters - 29.8e6) < 0.1e6
    assert round((found.float_macs - 224 * 224 * 27 * 5) / 1e6, 1) == 12.3
    assert sum(is_binary(layer) for layer in flat_layers(model)) == 31


def test_normalise_is_imagenets():
    x = np.random.default_rng(0).random((2, 3, 3, 3)).astype(np.float32)
    expected = (x - np.array(IMAGENET_MEAN)) / np.array(IMAGENET_STD)
    np.testing.assert_allclose(Normalise()(x).numpy(), expected, atol=1e-5)


def test_logits_share_weights_and_give_the_probability():
    model = build_detector("bnext-n", 16, "rgb,lbp", "stable")
    raw = logits(model)
    images = np.random.default_rng(0).integers(0, 256, (3, 16, 16, 3)).astype(np.uint8)
    model.get_layer("logit").bias.assign([1.5])
    np.testing.assert_allclose(tf.sigmoid(raw(images)).numpy(), model(images).numpy(), rtol=1e-5)


def test_a_fresh_adapter_shows_the_backbone_the_image_itself():
    model = build_detector("bnext-n", 16, "rgb,sobel,fft,lbp")
    kernel = model.get_layer("adapter").kernel.numpy()
    assert kernel.shape == (3, 3, 6, 3)
    identity = np.zeros((3, 3, 3, 3))
    identity[1, 1] = np.eye(3)
    np.testing.assert_array_equal(kernel[:, :, :3], identity)
    assert 0 < np.abs(kernel[:, :, 3:]).max() < 0.5
    assert "adapter" not in {layer.name for layer in build_detector("bnext-n", 16, "rgb").layers}


@pytest.mark.parametrize("name", ["bnext-n", "quicknet-small"])
def test_scores_are_probabilities(name):
    images = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3)).astype(np.uint8)
    scores = build_detector(name, 32)(images).numpy()
    assert scores.shape == (3, 1)
    assert np.all((scores >= 0) & (scores <= 1))


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
