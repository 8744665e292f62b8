"""What the detector adds around a backbone, and what every detector promises."""

import inspect

import numpy as np
import pytest

from bdd_tf.config import Experiment
from bdd_tf.errors import UsageError
from bdd_tf.legacy_keras import tf
from bdd_tf.models import imagenet
from bdd_tf.models.detector import (
    Normalise,
    build_detector,
    freeze_backbone,
    logits,
    seed_everything,
)
from bdd_tf.models.forensic_channels import ForensicChannels
from bdd_tf.models.operation_counts import count_operations, flat_layers, is_binary
from tests import tiny_bnext


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
    expected = (x - np.array(imagenet.MEAN)) / np.array(imagenet.STD)
    np.testing.assert_allclose(Normalise()(x).numpy(), expected, atol=1e-5)


def test_logits_share_weights_and_give_the_probability():
    model = build_detector(tiny_bnext.NAME, 16, "rgb,lbp", "stable")
    raw = logits(model)
    images = np.random.default_rng(0).integers(0, 256, (3, 16, 16, 3)).astype(np.uint8)
    model.get_layer("logit").bias.assign([1.5])
    np.testing.assert_allclose(tf.sigmoid(raw(images)).numpy(), model(images).numpy(), rtol=1e-5)


def test_a_fresh_adapter_shows_the_backbone_the_image_itself():
    model = build_detector(tiny_bnext.NAME, 16, "rgb,sobel,fft,lbp")
    kernel = model.get_layer("adapter").kernel.numpy()
    assert kernel.shape == (3, 3, 6, 3)
    identity = np.zeros((3, 3, 3, 3))
    identity[1, 1] = np.eye(3)
    np.testing.assert_array_equal(kernel[:, :, :3], identity)
    assert 0 < np.abs(kernel[:, :, 3:]).max() < 0.5
    assert "adapter" not in {layer.name for layer in build_detector(tiny_bnext.NAME, 16, "rgb").layers}


def test_weights_say_which_channels_they_were_trained_on(tmp_path):
    """The variant changes every score and no shape: Keras alone would load the weights without a word."""
    assert inspect.signature(build_detector).parameters["variant"].default == Experiment.variant

    def small(channels, variant):
        image = tf.keras.Input((16, 16, 3), dtype=tf.uint8)
        return tf.keras.Model(image, tf.keras.layers.Dense(1)(ForensicChannels(channels, variant)(image)))

    path = tmp_path / "model.weights.h5"
    trained = small("rgb,fft", "stable")
    trained.save_weights(path)
    same = small("rgb,fft", "stable")
    same.load_weights(path)
    images = np.random.default_rng(0).integers(0, 256, (2, 16, 16, 3)).astype(np.uint8)
    np.testing.assert_array_equal(same(images).numpy(), trained(images).numpy())
    for channels, variant in (("rgb,fft", "paper"), ("rgb,lbp", "stable")):
        with pytest.raises(ValueError, match="trained on channels rgb,fft, variant stable"):
            small(channels, variant).load_weights(path)


@pytest.mark.parametrize("name", [tiny_bnext.NAME, "quicknet-small"])
def test_scores_are_probabilities(name):
    images = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3)).astype(np.uint8)
    scores = build_detector(name, 32)(images).numpy()
    assert scores.shape == (3, 1)
    assert np.all((scores >= 0) & (scores <= 1))


def test_a_frozen_backbone_keeps_its_statistics():
    model = build_detector(tiny_bnext.NAME, 16)
    freeze_backbone(model)
    before = [w.numpy() for w in model.weights]
    model(np.random.default_rng(0).integers(0, 256, (4, 16, 16, 3)).astype(np.uint8), training=True)
    for old, new in zip(before, model.weights, strict=True):
        np.testing.assert_array_equal(old, new.numpy())
    assert {w.name.split("/")[0] for w in model.trainable_weights} == {"adapter", "logit"}


def test_the_seed_determines_the_weights():
    def weights(seed):
        seed_everything(seed)
        return build_detector(tiny_bnext.NAME, 16, "rgb").get_weights()

    one, same, other = weights(1), weights(1), weights(2)
    assert all(np.array_equal(a, b) for a, b in zip(one, same, strict=True))
    assert any(not np.array_equal(a, b) for a, b in zip(one, other, strict=True))


def test_a_direct_stem_sees_every_channel():
    model = build_detector(tiny_bnext.NAME, 32, "rgb,haar,median", "stable", stem="direct")
    assert model.get_layer("feature.0.conv").kernel.shape == (3, 3, 10, 16)
    assert "adapter" not in {layer.name for layer in model.layers}
    normalised = tf.keras.Model(model.input, model.get_layer("normalise").output)
    noise = np.random.default_rng(0).integers(0, 256, (4, 32, 32, 3), dtype=np.uint8)
    assert np.abs(normalised(noise).numpy()).max() < 10


@pytest.mark.parametrize(("backbone", "variant"), [("quicknet", "stable"), ("bnext-n", "paper")])
def test_a_direct_stem_needs_bnext_and_stable_channels(backbone, variant):
    with pytest.raises(UsageError, match="direct stem"):
        build_detector(backbone, 224, "rgb,haar", variant, stem="direct")
