import dataclasses

import numpy as np
import pytest

from bdd_tf.datasets import retouch
from bdd_tf.datasets.degrade import Degradation, degrade, draw
from bdd_tf.datasets.retouch import Retouch
from bdd_tf.errors import UsageError
from tests.datasets import photo_archive

IMAGE = photo_archive.picture(np.random.default_rng(1))
NOTHING = Retouch(denoise=0, sigma=1, amount=0, gamma=1, curve=0)


def detail(image):
    return np.abs(np.diff(image.astype(float), axis=0)).mean()


def drawn(count=3000):
    return [retouch.draw(np.random.default_rng([3, i])) for i in range(count)]


def test_a_retouch_of_nothing_changes_nothing():
    assert np.array_equal(retouch.apply(IMAGE, NOTHING), IMAGE)


@pytest.mark.parametrize(("change", "more"), [({"amount": 1.0}, True), ({"denoise": 30.0}, False)])
def test_sharpening_adds_detail_and_denoising_removes_it(change, more):
    noisy = np.clip(IMAGE + np.random.default_rng(4).normal(0, 4, IMAGE.shape), 0, 255).astype(np.uint8)
    made = retouch.apply(noisy, dataclasses.replace(NOTHING, **change))
    assert made.shape == noisy.shape
    assert made.dtype == np.uint8
    assert (detail(made) > 1.05 * detail(noisy)) == more
    assert (detail(made) < 0.95 * detail(noisy)) != more


@pytest.mark.parametrize("gamma", retouch.GAMMA)
@pytest.mark.parametrize("curve", [0.0, 1.0])
def test_a_tone_curve_rises_and_keeps_black_and_white(gamma, curve):
    ramp = np.repeat(np.arange(256, dtype=np.uint8)[None, :, None], 3, axis=2)
    made = retouch.apply(ramp, dataclasses.replace(NOTHING, gamma=gamma, curve=curve))[0, :, 0].astype(int)
    assert (np.diff(made) >= 0).all()
    assert made[0] == 0
    assert made[255] == 255
    assert (made != ramp[0, :, 0]).any()


def test_draws_stay_in_their_ranges_and_each_step_occurs():
    many = drawn()
    assert {r.denoise == 0 or retouch.DENOISE[0] <= r.denoise <= retouch.DENOISE[1] for r in many} == {True}
    assert all(retouch.GAMMA[0] <= r.gamma <= retouch.GAMMA[1] for r in many)
    for expected, used in (
        (1 / 3, [r.denoise > 0 for r in many]),
        (5 / 6, [r.amount > 0 for r in many]),
        (1 / 2, [r.gamma != 1 for r in many]),
        (1 / 4, [r.curve > 0 for r in many]),
        (1 / 18, [r.denoise == r.amount == 0 and r.gamma == 1 for r in many]),
    ):
        assert np.mean(used) == pytest.approx(expected, abs=0.03)


def test_a_retouch_leaves_all_other_draws_as_they_are():
    """Trainings without it keep their pixels."""
    for i in range(200):
        plain, more = (
            dataclasses.asdict(
                draw(np.random.default_rng([7, i]), Degradation(retouch=share), 144, 144, 400.0)
            )
            for share in (0.0, 1.0)
        )
        assert plain.pop("retouch") is None
        assert more.pop("retouch") is not None
        np.testing.assert_equal(more, plain)


def test_degraded_and_clean_crops_are_retouched():
    chain = Degradation(96, clean=0.5)
    with_it = dataclasses.replace(chain, retouch=1.0)
    pairs = [
        (degrade(IMAGE, 400.0, chain, (5, i)), degrade(IMAGE, 400.0, with_it, (5, i))) for i in range(40)
    ]
    different = [not np.array_equal(a, b) for a, b in pairs]
    assert np.mean(different) > 0.8, "both the degraded and the clean branch are retouched"


def test_impossible_shares_are_refused():
    with pytest.raises(UsageError, match="retouch is a probability"):
        Degradation(retouch=1.5)
