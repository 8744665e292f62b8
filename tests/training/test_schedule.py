"""The learning rate of each update."""

import pytest

from bdd_tf.presets import experiment
from bdd_tf.training.schedule import learning_rate, warmup_note, warmup_updates


@pytest.mark.parametrize("updates", [1, 2, 4, 10, 499, 500, 2000])
def test_every_training_reaches_its_peak_rate(updates):
    config = experiment(warmup=100, epochs=1, learning_rate=1.0)
    rates = [learning_rate(config, i, updates) for i in range(updates)]
    assert max(rates) == pytest.approx(1.0, abs=1e-6)
    assert rates.index(max(rates)) <= 0.2 * updates
    assert (warmup_updates(config, updates) == 100) == (updates >= 500)
    note = warmup_note(config, updates)
    assert (note is None) == (updates >= 500)
    if updates == 4:
        assert note.startswith(
            "the training has 4 updates, so the learning rate rises in 0 of them instead of 100"
        )
