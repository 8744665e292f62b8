"""Laws of bdd_tf.metrics.calibration: effect, invariants and limits of the temperature."""

import math

import numpy as np
import pytest

from bdd_tf.errors import BddError
from bdd_tf.metrics import calibration, classification
from bdd_tf.metrics.calibration import COOLEST, HOTTEST, calibrated, fit_temperature


def honest(n=20_000, seed=0):
    """Labels drawn with the very probabilities that the logits state."""
    random = np.random.default_rng(seed)
    logits = random.normal(0, 2, n)
    return (random.random(n) < 1 / (1 + np.exp(-logits))).astype(int), logits


def test_scores_are_the_sigmoid_and_bear_any_logit():
    logits = np.array([-1000, -3, -1e-9, 0, 0.5, 3, 1000])
    scores = calibrated(logits, 2)
    assert scores.dtype == np.float32
    with np.errstate(over="ignore"):
        np.testing.assert_allclose(scores, 1 / (1 + np.exp(-logits / 2)), rtol=1e-6, atol=1e-30)
    np.testing.assert_allclose(calibrated(-logits), 1 - calibrated(logits), atol=1e-7)


@pytest.mark.parametrize("temperature", [0, -1, math.nan, math.inf])
def test_impossible_temperatures_are_refused(temperature):
    with pytest.raises(BddError, match="temperature"):
        calibrated([0.0], temperature)


@pytest.mark.parametrize("times", [0.2, 1, 3, 20])
def test_the_temperature_undoes_a_stretch_of_the_logits(times):
    labels, logits = honest()
    found = fit_temperature(labels, times * logits)
    assert found.note is None
    assert found.value == pytest.approx(times, rel=0.05)
    assert found.value == pytest.approx(times * fit_temperature(labels, logits).value, rel=1e-6)


def test_no_other_temperature_is_more_likely():
    labels, logits = honest()
    best = fit_temperature(labels, 3 * logits).value
    least = calibration.negative_log_likelihood(labels, 3 * logits, best)
    # Platt's targets move the optimum by about one image's weight among thousands.
    for other in np.geomspace(0.1, 30, 60):
        assert least <= calibration.negative_log_likelihood(labels, 3 * logits, other) + 1e-6


def test_calibration_corrects_overconfidence_and_leaves_calibrated_scores_alone():
    labels, logits = honest()
    found = calibration.calibration_document(labels, 3 * logits, fit_temperature(labels, 3 * logits).value)
    for key in ("ece", "ece_adaptive", "nll", "brier"):
        assert found[f"{key}_calibrated"] < 0.9 * found[key]
    assert found["ece_calibrated"] < 0.01
    assert found["ece"] > 0.05
    same = calibration.calibration_document(labels, logits, 1.0)
    assert same["temperature"] == 1
    for key in ("ece", "ece_adaptive", "nll", "brier"):
        assert same[f"{key}_calibrated"] == same[key]


@pytest.mark.parametrize("n", [2, 12, 1000])
def test_separated_scores_make_nobody_surer_than_so_many_images_allow(n):
    labels = np.arange(n) % 2
    logits = np.where(labels == 1, 1.5, -1.5)
    found = fit_temperature(labels, logits)
    assert found.note is None
    # Alike logits end exactly at Platt's target for n / 2 images that all agree.
    assert calibrated([1.5], found.value)[0] == pytest.approx((n / 2 + 1) / (n / 2 + 2), rel=1e-5)


def test_where_nothing_is_to_be_fitted_the_temperature_stays_1():
    for labels, logits, reason in (
        ([1, 1, 1], [0.1, 2.0, 3.0], "all images are FAKE"),
        ([0, 1, 0, 1], [2.0, -2.0, 1.0, -1.0], "do not rise"),
        ([0, 1], [0.0, 0.0], "do not rise"),
    ):
        found = fit_temperature(labels, logits)
        assert found.value == 1
        assert reason in found.note


def test_the_bounds_hold_and_are_said():
    labels = np.arange(2000) % 2
    cold = fit_temperature(labels, np.where(labels == 1, 1e-6, -1e-6))
    assert cold.value == COOLEST
    assert "lower bound" in cold.note
    hot = fit_temperature(labels, 1e9 * np.where(labels == 1, 1, -1))
    assert hot.value == HOTTEST
    assert "upper bound" in hot.note


def test_no_decision_depends_on_the_temperature():
    """Thresholds move with the scores: those of calibrated scores decide as those of the scores as trained."""
    labels, logits = honest(3000, seed=1)
    _, new = honest(3000, seed=2)

    def decisions(temperature, choose):
        return calibrated(new, temperature) >= choose(labels, calibrated(logits, temperature))

    for choose in (
        classification.best_threshold,
        lambda y, s: classification.false_alarm_threshold(y, s, 0.01),
    ):
        expected = decisions(1, choose)
        assert 0 < expected.mean() < 1
        for temperature in (0.7, 1.9, 4):
            np.testing.assert_array_equal(decisions(temperature, choose), expected)
        raw, mapped = (choose(labels, calibrated(logits, t)) for t in (1, 1.9))
        assert mapped == pytest.approx(calibrated([math.log(raw / (1 - raw))], 1.9)[0], abs=1e-5)


def test_the_error_by_hand():
    # Confidences 0.6, 0.6, 0.9: bins (0.6, 0.667] are empty; 0.6 is in (0.533, 0.6], right half the time.
    labels, logits = [1, 0, 1], np.log([0.6 / 0.4, 0.6 / 0.4, 0.9 / 0.1])
    found = calibration.reliability(labels, logits)
    assert found.images.tolist() == [2, 1]
    np.testing.assert_allclose(found.confidence, [0.6, 0.9])
    np.testing.assert_allclose(found.accuracy, [0.5, 1])
    assert found.error == pytest.approx((2 * 0.1 + 0.1) / 3)
    assert calibration.expected_calibration_error([1, 1, 1], [50.0, 60.0, 800.0]) == pytest.approx(
        0, abs=1e-9
    )
    assert calibration.expected_calibration_error([0], [800.0]) == 1


def test_the_error_equals_its_definition():
    labels, logits = honest(5000, seed=3)
    p = 1 / (1 + np.exp(-logits))
    confidence, right = np.maximum(p, 1 - p), (p >= 0.5) == (labels == 1)
    expected = 0.0
    for i in range(15):
        inside = (confidence > i / 15) & (confidence <= (i + 1) / 15)
        if inside.any():
            expected += inside.mean() * abs(right[inside].mean() - confidence[inside].mean())
    assert calibration.expected_calibration_error(labels, logits) == pytest.approx(expected)


def test_adaptive_bins_hold_equally_many_images():
    labels, logits = honest(1000, seed=4)
    found = calibration.reliability(labels, logits, adaptive=True)
    assert found.images.sum() == 1000
    assert set(found.images) == {66, 67}
    assert np.all(found.low < found.high)
    assert calibration.reliability([1, 0], [1.0, 2.0], adaptive=True).images.tolist() == [1, 1]


def test_likelihood_and_brier_by_hand():
    logits = [math.log(3), math.log(3)]  # 0.75
    assert calibration.negative_log_likelihood([1, 0], logits) == pytest.approx(
        -(math.log(0.75) + math.log(0.25)) / 2
    )
    assert calibration.brier_score([1, 0], logits) == pytest.approx((0.25**2 + 0.75**2) / 2)
    # Logits still differ where float probabilities have saturated at 0 and 1.
    assert calibration.negative_log_likelihood([0, 1], [1000.0, 1000.0]) == 500


@pytest.mark.parametrize(
    "use",
    [fit_temperature, calibration.negative_log_likelihood, calibration.brier_score, calibration.reliability],
)
def test_impossible_input_is_a_sentence(use):
    for labels, logits in (([], []), ([0], [0.1, 0.2]), ([2], [0.1]), ([0, 1], [math.nan, 0])):
        with pytest.raises(BddError):
            use(labels, logits)
