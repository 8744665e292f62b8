"""Small float networks on residuals: their sizes, what they cannot see, and that they learn."""

import numpy as np
import pytest

from bdd_tf.errors import UsageError
from bdd_tf.legacy_keras import tf
from bdd_tf.models.detector import build_detector, logits, seed_everything
from bdd_tf.models.residual_baselines import RESIDUAL_BASELINES, residual_baseline


@pytest.fixture(scope="module", params=RESIDUAL_BASELINES)
def model(request):
    seed_everything(3)
    return build_detector(request.param, 32, "rgb")


def test_sizes_are_those_of_the_originals(model):
    low, high = {"tiny_ladeda": (1200, 1400), "ferretnet": (0.9e6, 1.2e6)}[model.name]
    assert low < model.count_params() < high


def test_a_flat_image_says_nothing_whatever_its_colour(model):
    flat = np.array([[10, 20, 30], [250, 128, 0]], np.uint8)[:, None, None, :] * np.ones(
        (1, 32, 32, 1), np.uint8
    )
    scores = logits(model)(flat, training=False).numpy()
    assert scores[0] == pytest.approx(scores[1], abs=1e-4)


def test_twenty_steps_learn_noise_from_smoothness(model):
    rng = np.random.default_rng(0)
    labels = np.arange(32) % 2
    noise = rng.normal(0, 30, (32, 32, 32, 3)) * labels[:, None, None, None]
    images = np.clip(128 + noise + rng.normal(0, 3, noise.shape), 0, 255).astype(np.uint8)
    model.compile(tf.keras.optimizers.legacy.Adam(0.01), "binary_crossentropy")
    losses = [model.train_on_batch(images, labels[:, None]) for _ in range(20)]
    assert np.isfinite(losses).all()
    assert np.mean(losses[-3:]) < 0.8 * losses[0]


def test_an_unknown_name_is_refused():
    with pytest.raises(UsageError, match="tiny-ladeda"):
        residual_baseline(None, "ladeda", 2)
