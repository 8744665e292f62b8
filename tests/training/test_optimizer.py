"""AdamW does what its formula says, for variables that decay and for those that are exempt."""

import numpy as np
import pytest

from bdd_tf.legacy_keras import tf
from bdd_tf.training.optimizer import AdamW

BETA_1, BETA_2, EPSILON = 0.9, 0.999, 1e-7


def numpy_adamw(w, gradients, rates, decay):
    """arXiv 1711.05101, algorithm 2, in float64."""
    w = w.astype(np.float64)
    m, v = np.zeros_like(w), np.zeros_like(w)
    for step, (g, rate) in enumerate(zip(gradients, rates, strict=True), 1):
        m = BETA_1 * m + (1 - BETA_1) * g
        v = BETA_2 * v + (1 - BETA_2) * g**2
        m_hat, v_hat = m / (1 - BETA_1**step), v / (1 - BETA_2**step)
        w = w - rate * (m_hat / (np.sqrt(v_hat) + EPSILON) + decay * w)
    return w


def gradients(rng, steps):
    # Away from zero, where TensorFlow's epsilon (added before the bias correction) would differ.
    return [rng.choice([-1, 1], 6) * rng.uniform(0.1, 3, 6) for _ in range(steps)]


@pytest.mark.parametrize("compiled", [False, True], ids=["eager", "graph"])
@pytest.mark.parametrize("steps", [1, 5])
def test_steps_equal_the_formula(steps, compiled):
    rng = np.random.default_rng(steps)
    start = rng.normal(size=6)
    decayed = tf.Variable(start, dtype=tf.float32, name="kernel")
    exempt = tf.Variable(start, dtype=tf.float32, name="gamma")
    rates = [0.02 / (i + 1) for i in range(steps)]
    rate = tf.Variable(0.0)
    optimizer = AdamW(
        learning_rate=lambda: rate, weight_decay=0.5, decay_filter=lambda name: name.startswith("kernel")
    )
    optimizer._create_all_weights([decayed, exempt])

    def update(g):
        optimizer.apply_gradients([(g, decayed), (g, exempt)])

    update = tf.function(update) if compiled else update
    sequence = gradients(rng, steps)
    for r, g in zip(rates, sequence, strict=True):
        rate.assign(r)
        update(tf.constant(g, tf.float32))
    np.testing.assert_allclose(
        decayed.numpy(), numpy_adamw(start, sequence, rates, 0.5), rtol=1e-5, atol=1e-6
    )
    np.testing.assert_allclose(exempt.numpy(), numpy_adamw(start, sequence, rates, 0.0), rtol=1e-5, atol=1e-6)
    assert np.abs(decayed.numpy() - exempt.numpy()).min() > 1e-4


def test_every_variable_decays_without_a_filter_and_none_without_decay():
    for decay, expected in ((0.1, 0.9), (0.0, 1.0)):
        w = tf.Variable([1.0, -2.0])
        AdamW(learning_rate=1.0, weight_decay=decay).apply_gradients([(tf.zeros(2), w)])
        np.testing.assert_allclose(w.numpy(), np.array([1.0, -2.0]) * expected, rtol=1e-6)


def test_decay_does_not_enter_the_moments():
    """Decoupled: the slots are those of plain Adam, unlike with L2 regularisation."""
    slots = []
    for decay in (0.0, 0.3):
        w = tf.Variable([3.0, -1.0])
        optimizer = AdamW(learning_rate=0.1, weight_decay=decay)
        for g in ([1.0, 2.0], [-0.5, 0.25]):
            optimizer.apply_gradients([(tf.constant(g), w)])
        slots.append([optimizer.get_slot(w, name).numpy() for name in ("m", "v")])
    np.testing.assert_array_equal(*slots)


def test_latent_binary_weights_are_kept_within_their_constraint():
    w = tf.Variable([1.4, -1.4], constraint=lambda x: tf.clip_by_value(x, -1.5, 1.5))
    AdamW(learning_rate=1.0).apply_gradients([(tf.constant([-1.0, 1.0]), w)])
    np.testing.assert_allclose(w.numpy(), [1.5, -1.5])
