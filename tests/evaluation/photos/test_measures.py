import numpy as np
import pytest

from bdd_tf.evaluation.photos.measures import MEASURES, Ranking, Resamples, described, interval, measures
from bdd_tf.metrics import classification


def measured(logits, labels, weights=None, threshold=0.0, report=None):
    ranking = Ranking.of(np.asarray(logits, float), np.asarray(labels))
    weights = np.ones(len(labels)) if weights is None else np.asarray(weights, float)
    return dict(zip(MEASURES, measures(ranking, weights[None], threshold, report)[0], strict=True))


def data(seed=0, count=400, digits=2):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 2, count)
    return np.round(rng.normal(labels, 1), digits), labels


@pytest.mark.parametrize("digits", [0, 1, 8])
def test_equal_weights_give_the_usual_measures_with_ties(digits):
    logits, labels = data(digits=digits)
    found = measured(logits, labels, threshold=0.5)
    assert found["auc"] == pytest.approx(classification.auc(labels, logits), abs=1e-12)
    cells = classification.confusion(labels, logits, 0.5)
    reals, fakes = (labels == 0).sum(), (labels == 1).sum()
    assert found["false_alarms"] == pytest.approx(cells["false_fake"] / reals)
    assert found["detected"] == pytest.approx(cells["true_fake"] / fakes)
    assert found["balanced_accuracy"] == pytest.approx((found["detected"] + 1 - found["false_alarms"]) / 2)


def test_a_weight_of_two_is_an_image_twice():
    logits, labels = data(1)
    weights = np.random.default_rng(2).integers(0, 3, len(labels))
    repeated = np.repeat(np.arange(len(labels)), weights)
    once, twice = measured(logits, labels, weights), measured(logits[repeated], labels[repeated])
    assert once == pytest.approx(twice)


def test_recall_never_allows_more_false_alarms_than_asked():
    # 100 reals at 0 .. 99; 5 of them from 95 on, so that 5 % allow all fakes from 95 on.
    logits = np.concatenate([np.arange(100.0), [95.5, 93.5, 99.5, 98.5]])
    labels = np.array([0] * 100 + [1] * 4)
    found = measured(logits, labels)
    assert found["recall_0.05"] == 0.75
    assert found["recall_0.01"] == 0.5
    assert measured([1.0, 1.0], [0, 1])["recall_0.05"] == 0


def test_perfect_constant_and_reversed_scores():
    _, labels = data()
    assert measured(labels, labels)["auc"] == 1
    assert measured(np.zeros(len(labels)), labels)["auc"] == 0.5
    assert measured(-labels, labels)["auc"] == 0
    perfect = measured(labels, labels, threshold=0.5)
    assert perfect["precision_at_1_percent"] == perfect["recall_0.01"] == perfect["balanced_accuracy"] == 1


def test_precision_at_one_percent_of_fakes():
    # All fakes and a tenth of the reals are called FAKE: 0.01 / (0.01 + 0.99 / 10).
    labels = np.array([0] * 10 + [1] * 5)
    logits = np.where((labels == 1) | (np.arange(15) == 0), 1.0, -1.0)
    assert measured(logits, labels)["precision_at_1_percent"] == pytest.approx(0.01 / (0.01 + 0.099))
    assert np.isnan(measured(logits - 5, labels)["precision_at_1_percent"])


def test_images_that_chose_the_threshold_do_not_count_at_it():
    labels = np.array([0, 0, 0, 0, 1, 1])
    logits = np.array([1.0, 1, -1, -1, 1, -1])
    report = np.array([0.0, 0, 1, 1, 1, 1])
    found = measured(logits, labels, report=report)
    assert found["false_alarms"] == 0
    assert found["auc"] == measured(logits, labels)["auc"]


def test_a_missing_class_gives_none():
    found = described(
        measures(Ranking.of(np.array([1.0, 2]), np.array([0, 0])), np.ones((1, 2)), 0.0)[0], np.empty((0, 7))
    )
    assert found["auc"] is None
    assert found["recall_at_fpr"] == {"0.01": None, "0.05": None}
    assert found["intervals"]["auc"] is None


def test_resamples_draw_whole_contents_within_each_class():
    labels = np.array([0] * 6 + [1] * 4)
    contents = ["a", "a", "b", "b", "c", "c", "d", "d", "e", "f"]
    drawn = Resamples(labels, contents, 50, 1).of(np.arange(10))
    assert (drawn[:, 0] == drawn[:, 1]).all()
    assert (drawn[:, 6] == drawn[:, 7]).all()
    assert (drawn[:, [0, 2, 4]].sum(axis=1) == 3).all()
    assert (drawn[:, [6, 8, 9]].sum(axis=1) == 3).all()
    assert np.array_equal(drawn, Resamples(labels, contents, 50, 1).of(np.arange(10)))


def test_an_interval_ignores_what_is_undefined():
    assert interval(np.array([np.nan, 1, 1])) == [1, 1]
    assert interval(np.array([np.nan])) is None
