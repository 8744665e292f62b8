"""The moving average of the weights."""

import numpy as np

from bdd_tf.legacy_keras import tf
from bdd_tf.presets import experiment
from bdd_tf.training.step import TrainingStep
from bdd_tf.training.weights import build


def test_the_average_follows_the_weights_and_is_lent_to_the_model():
    config = experiment(
        dataset="folder", backbone="tiny-ladeda", resolution=32, batch=4, ema=0.5, channels=("rgb",)
    )
    model = build(config)
    step = TrainingStep(config, model, 1.0)
    start = [weight.numpy() for weight in model.weights]
    rng = np.random.default_rng(0)
    images = tf.constant(rng.integers(0, 256, (4, 32, 32, 3)).astype(np.uint8))
    labels = tf.constant([[0.0], [1.0], [0.0], [1.0]])
    step.update(images, labels, True)
    now = [weight.numpy() for weight in model.weights]
    assert any((a != b).any() for a, b in zip(start, now, strict=True))
    keep = 2 / 11  # (1 + n) / (10 + n) for the first update, below the decay
    for first, last, mean in zip(start, now, step.average, strict=True):
        np.testing.assert_allclose(mean.numpy(), keep * first + (1 - keep) * last, rtol=1e-5, atol=1e-6)
    with step.averaged():
        for weight, mean in zip(model.weights, step.average, strict=True):
            np.testing.assert_array_equal(weight.numpy(), mean.numpy())
    for weight, value in zip(model.weights, now, strict=True):
        np.testing.assert_array_equal(weight.numpy(), value)


def test_without_a_decay_there_is_no_average():
    config = experiment(dataset="folder", backbone="tiny-ladeda", resolution=32, batch=4, channels=("rgb",))
    step = TrainingStep(config, build(config), 1.0)
    assert step.average == []
    with step.averaged():
        pass
