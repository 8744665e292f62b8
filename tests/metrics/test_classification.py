"""Laws of bdd_tf.metrics.classification: equal to brute force over all pairs, exact under ties, honest where undefined."""

import json
import math
import time
from fractions import Fraction
from itertools import product

import numpy as np
import pytest

from bdd_tf.edge.labels import LABELS, verdict
from bdd_tf.errors import BddError, UsageError
from bdd_tf.metrics import bootstrap, classification, score_files

PERFECT = ([0, 0, 1, 1], [0.1, 0.2, 0.8, 0.9])
INVERTED = ([1, 1, 0, 0], [0.1, 0.2, 0.8, 0.9])
CONSTANT = ([0, 1, 0, 1, 1], [0.3] * 5)
KEYS = {
    "images",
    "confusion",
    "accuracy",
    "auc",
    "average_precision",
    "eer",
    "threshold",
    "accuracy_real",
    "accuracy_fake",
    "intervals",
}


def random_case(seed, n=60, levels=None):
    """Scores of both classes; with `levels`, so few distinct values that most are tied."""
    random = np.random.default_rng(seed)
    labels = random.integers(0, 2, n)
    labels[:2] = 0, 1
    scores = np.clip(random.normal(0.4 + 0.2 * labels, 0.2), 0, 1)
    return labels, np.round(scores * levels) / levels if levels else scores


CASES = [random_case(s, levels=lv) for s in range(4) for lv in (None, 3, 10)] + [PERFECT, INVERTED, CONSTANT]


def brute_auc(labels, scores):
    fake = [s for y, s in zip(labels, scores, strict=True) if y]
    real = [s for y, s in zip(labels, scores, strict=True) if not y]
    wins = sum(Fraction(2 * (f > r) + (f == r), 2) for f, r in product(fake, real))
    return float(wins / (len(fake) * len(real)))


def brute_average_precision(labels, scores):
    labels, scores = np.asarray(labels), np.asarray(scores)
    total, recall = 0.0, 0.0
    for threshold in sorted(set(scores.tolist()), reverse=True):
        called = scores >= threshold
        now = labels[called].sum() / labels.sum()
        total += (now - recall) * labels[called].mean()
        recall = now
    return total


def brute_rates(labels, scores, threshold):
    labels, called = np.asarray(labels), np.asarray(scores) >= threshold
    return called[labels == 0].mean(), called[labels == 1].mean()


@pytest.mark.parametrize(("labels", "scores"), CASES)
def test_auc_is_the_share_of_pairs_in_the_right_order(labels, scores):
    assert classification.auc(labels, scores) == brute_auc(labels, scores)


@pytest.mark.parametrize(("labels", "scores"), CASES)
def test_auc_is_the_area_under_the_curve(labels, scores):
    false_fake, true_fake, _ = classification.roc_curve(labels, scores)
    area = np.sum(np.diff(false_fake) * (true_fake[1:] + true_fake[:-1]) / 2)
    assert classification.auc(labels, scores) == pytest.approx(area, abs=1e-12)


@pytest.mark.parametrize(("labels", "scores"), CASES)
def test_average_precision_equals_its_definition(labels, scores):
    assert classification.average_precision(labels, scores) == pytest.approx(
        brute_average_precision(labels, scores)
    )


@pytest.mark.parametrize(("labels", "scores"), CASES)
def test_every_point_of_the_roc_is_a_threshold(labels, scores):
    false_fake, true_fake, thresholds = classification.roc_curve(labels, scores)
    assert (false_fake[0], true_fake[0], thresholds[0]) == (0, 0, math.inf)
    assert (false_fake[-1], true_fake[-1]) == (1, 1)
    assert len(thresholds) == len(set(np.asarray(scores).tolist())) + 1
    for point in zip(false_fake, true_fake, thresholds, strict=True):
        assert point[:2] == pytest.approx(brute_rates(labels, scores, point[2]))


@pytest.mark.parametrize(("labels", "scores"), CASES)
def test_equal_error_rate_lies_on_the_roc_where_both_errors_are_equal(labels, scores):
    eer = classification.equal_error_rate(labels, scores)
    false_fake, true_fake, _ = classification.roc_curve(labels, scores)
    # On some segment of the ROC, the point (eer, 1 - eer) divides both coordinates in the same ratio.
    ends = np.stack([false_fake, true_fake], axis=1)
    point = np.array([eer, 1 - eer])
    a, b = ends[:-1], ends[1:]
    along = np.clip(np.sum((point - a) * (b - a), axis=1) / np.sum((b - a) ** 2, axis=1), 0, 1)[:, None]
    assert np.min(np.linalg.norm(a + along * (b - a) - point, axis=1)) < 1e-12


@pytest.mark.parametrize(
    ("case", "auc", "ap", "eer"),
    [
        (PERFECT, 1.0, 1.0, 0.0),
        # Precision at the two recalls gained: 1/3 and 2/4.
        (INVERTED, 0.0, 5 / 12, 1.0),
        # One step to recall 1 at the prevalence of FAKE.
        (CONSTANT, 0.5, 0.6, 0.5),
        # The one tie, at 0.5, holds one of each: (0.5 + 1 + 1 + 1) / 4.
        (([0, 0, 1, 1], [0.1, 0.5, 0.5, 0.9]), 0.875, 1 / 2 + 1 / 2 * 2 / 3, 1 / 4),
    ],
)
def test_edges_by_hand(case, auc, ap, eer):
    assert classification.auc(*case) == auc
    assert classification.average_precision(*case) == pytest.approx(ap)
    assert classification.equal_error_rate(*case) == pytest.approx(eer)


def test_rank_measures_ignore_the_scale_of_scores():
    labels, scores = random_case(1)
    logits = 40 * scores - 20
    for measure in (classification.auc, classification.average_precision, classification.equal_error_rate):
        assert measure(labels, scores) == measure(labels, logits)


def test_swapping_the_classes_mirrors_auc_and_keeps_the_equal_error_rate():
    labels, scores = random_case(2, levels=10)
    assert classification.auc(1 - labels, 1 - scores) == classification.auc(labels, scores)
    assert classification.auc(1 - labels, scores) == pytest.approx(1 - classification.auc(labels, scores))
    assert classification.equal_error_rate(1 - labels, 1 - scores) == pytest.approx(
        classification.equal_error_rate(labels, scores)
    )


@pytest.mark.parametrize("only", [0, 1])
def test_with_one_class_measures_that_need_two_are_none_with_a_reason(only):
    labels, scores = [only] * 3, [0.1, 0.6, 0.9]
    document = bootstrap.metrics_document(labels, scores, 0.5)
    for name in ("auc", "average_precision", "eer", f"accuracy_{LABELS[1 - only].lower()}"):
        assert document[name] is None
        assert document["intervals"][name] is None
    assert (
        document["accuracy"] == document[f"accuracy_{LABELS[only].lower()}"] == pytest.approx((1 + only) / 3)
    )
    assert LABELS[1 - only] in document["notes"][0]
    assert classification.auc(labels, scores) is None
    assert LABELS[1 - only] in classification.why_undefined(labels)
    assert classification.why_undefined([0, 1]) is None
    with pytest.raises(BddError, match=LABELS[1 - only]):
        classification.roc_curve(labels, scores)


@pytest.mark.parametrize("threshold", [0.0, 0.3, 0.5, 1.0])
def test_confusion_counts_the_verdicts_of_the_detector(threshold):
    labels, scores = random_case(3, levels=10)
    names = [verdict(s, threshold) for s in scores]
    counted = classification.confusion(labels, scores, threshold)
    assert counted == {
        "true_real": sum(y == 0 and v == "REAL" for y, v in zip(labels, names, strict=True)),
        "false_fake": sum(y == 0 and v == "FAKE" for y, v in zip(labels, names, strict=True)),
        "false_real": sum(y == 1 and v == "REAL" for y, v in zip(labels, names, strict=True)),
        "true_fake": sum(y == 1 and v == "FAKE" for y, v in zip(labels, names, strict=True)),
    }
    right = np.mean([LABELS[y] == v for y, v in zip(labels, names, strict=True)])
    assert classification.accuracy(labels, scores, threshold) == pytest.approx(right)


def balanced(labels, scores, threshold):
    false_fake, true_fake = brute_rates(labels, scores, threshold)
    return (1 - false_fake + true_fake) / 2


@pytest.mark.parametrize(("labels", "scores"), CASES)
def test_no_threshold_beats_the_best(labels, scores):
    best = classification.best_threshold(labels, scores)
    assert 0 <= best <= 1
    baselines = np.unique(np.concatenate([[0, 1], scores, np.clip(np.asarray(scores) + 1e-9, 0, 1)]))
    assert balanced(labels, scores, best) >= max(balanced(labels, scores, t) for t in baselines) - 1e-12


@pytest.mark.parametrize(
    ("labels", "scores", "expected"),
    [
        (*PERFECT, 0.5),
        # Halfway between logits: the geometric mean of the odds 1 / 4 and 2 / 3.
        ([0, 1], [0.2, 0.4], 1 / (1 + 6**0.5)),
        # Between 0.1 and 0.2, and between 0.4 and 0.5, thresholds separate one REAL and three images equally well.
        ([0, 1, 0, 1], [0.1, 0.2, 0.4, 0.5], 1 / (1 + 1.5**0.5)),
        # Balanced: nine REAL images do not outvote one FAKE.
        ([0] * 9 + [1], [0.1] * 7 + [0.8] * 2 + [0.5], 0.25),
        # No verdict separates equal scores; 0.15 (all FAKE) and 0.65 (all REAL) are equally good.
        ([0, 1], [0.3, 0.3], 0.65),
        ([0, 1], [1.0, 1.0], 0.5),
        # One class gives nothing to choose by.
        ([1, 1], [0.7, 0.9], 0.5),
        ([0, 0], [0.7, 0.9], 0.5),
    ],
)
def test_best_threshold_by_hand(labels, scores, expected):
    assert classification.best_threshold(labels, scores) == pytest.approx(expected)


@pytest.mark.parametrize("low", [0.0, 0.25, np.nextafter(1, 0)])
def test_best_threshold_separates_neighbouring_floats(low):
    scores = [low, np.nextafter(low, 1)]
    assert classification.accuracy([0, 1], scores, classification.best_threshold([0, 1], scores)) == 1


def test_evaluate_has_the_contract_s_keys_and_agrees_with_each_measure():
    labels, scores = random_case(4, levels=20)
    found = bootstrap.evaluate(labels, scores, 0.45, bootstrap=50)
    assert set(found) == KEYS
    assert found["images"] == len(labels) == sum(found["confusion"].values())
    assert found["confusion"] == classification.confusion(labels, scores, 0.45)
    assert found["accuracy"] == classification.accuracy(labels, scores, 0.45)
    assert found["auc"] == classification.auc(labels, scores)
    assert found["average_precision"] == classification.average_precision(labels, scores)
    assert found["eer"] == classification.equal_error_rate(labels, scores)
    assert found["threshold"] == 0.45
    assert found["accuracy_real"] == pytest.approx(np.mean(scores[labels == 0] < 0.45))
    assert found["accuracy_fake"] == pytest.approx(np.mean(scores[labels == 1] >= 0.45))
    json.dumps(found, allow_nan=False)


def test_the_bootstrap_resamples_images():
    """Each measure of a resample equals that measure of the drawn images, computed from nothing."""
    labels, scores = random_case(5, n=40, levels=10)
    found = bootstrap.evaluate(labels, scores, 0.5, bootstrap=200, seed=3)
    random, rows = np.random.default_rng(3), []
    for _ in range(200):
        drawn = random.integers(0, 40, 40)
        y, s = labels[drawn], scores[drawn]
        rows.append((np.mean((s >= 0.5) == y), brute_auc(y, s), brute_average_precision(y, s)))
    for name, column in zip(("accuracy", "auc", "average_precision"), np.array(rows).T, strict=True):
        assert found["intervals"][name] == pytest.approx(np.percentile(column, [2.5, 97.5]).tolist())


def test_intervals_are_reproducible_and_cover_about_as_often_as_they_say():
    inside = 0
    for seed in range(100):
        random = np.random.default_rng(seed)
        labels = np.repeat([0, 1], 100)
        scores = np.where(random.random(200) < 0.8, labels, 1 - labels)
        low, high = bootstrap.evaluate(labels, scores, 0.5, bootstrap=200, seed=seed)["intervals"]["accuracy"]
        inside += low <= 0.8 <= high
    assert 85 <= inside <= 100
    again = [bootstrap.evaluate(labels, scores, 0.5, bootstrap=20, seed=7) for _ in range(2)]
    assert again[0] == again[1]
    assert bootstrap.evaluate(labels, scores, 0.5, bootstrap=0)["intervals"] == {}


def test_a_resample_without_a_class_does_not_spoil_the_interval():
    found = bootstrap.evaluate([0, 1], [0.2, 0.8], 0.5, bootstrap=50)
    assert found["intervals"]["auc"] == [1, 1]


def test_twenty_thousand_images_take_seconds():
    labels, scores = random_case(6, n=20_000)
    began = time.process_time()
    bootstrap.evaluate(labels, scores, 0.5, bootstrap=1000)
    assert time.process_time() - began < 15


def test_sources():
    groups = ["camera", "sd", "sd", "mixed", "mixed"]
    found = bootstrap.evaluate_by(groups, [0, 1, 1, 0, 1], [0.1, 0.4, 0.9, 0.6, 0.7], 0.5)
    assert found == {
        "camera": {"images": 1, "real": 1, "fake": 0, "accuracy": 1},
        "mixed": {"images": 2, "real": 1, "fake": 1, "accuracy": 0.5, "auc": 1},
        "sd": {"images": 2, "real": 0, "fake": 2, "accuracy": 0.5},
    }
    assert list(found) == sorted(found)


def test_document_without_leaked_images_equals_evaluating_the_rest():
    labels, scores = random_case(7)
    leaked = np.arange(len(labels)) % 5 == 0
    document = bootstrap.metrics_document(
        labels, scores, 0.5, leaked=leaked, sources=labels, about={"split": "test"}, bootstrap=20
    )
    assert set(document) == KEYS | {"split", "leaked", "deduplicated", "sources"}
    assert document["leaked"] == leaked.sum()
    assert document["deduplicated"] == bootstrap.evaluate(labels[~leaked], scores[~leaked], 0.5, bootstrap=20)
    assert set(document["sources"]) == {"0", "1"}
    plain = bootstrap.metrics_document(labels, scores, 0.5, sources=["one"] * len(labels), bootstrap=0)
    assert set(plain) == KEYS


def test_document_where_every_image_leaked():
    document = bootstrap.metrics_document([0, 1], [0.1, 0.9], 0.5, leaked=[True, True], bootstrap=0)
    assert document["deduplicated"] is None
    assert "no images" in document["notes"][0]


def test_document_refuses_to_overwrite_a_measure():
    with pytest.raises(ValueError, match="auc"):
        bootstrap.metrics_document([0, 1], [0.1, 0.9], 0.5, about={"auc": 1})


def test_a_detector_compared_with_itself_differs_by_nothing():
    labels, scores = random_case(8)
    found = bootstrap.compare(labels, scores, scores, bootstrap=50)
    for name in ("accuracy", "auc"):
        assert found[name]["difference"] == 0
        assert found[name]["interval"] == [0, 0]
    assert found["mcnemar"] == {"only_first_right": 0, "only_second_right": 0, "p_value": 1}


def test_mcnemar_is_the_exact_binomial_test_of_the_images_they_disagree_on():
    labels = np.zeros(20, int)
    first, second = np.zeros(20), np.zeros(20)
    first[:6] = 1.0
    second[6] = 1.0
    found = bootstrap.compare(labels, first, second, bootstrap=20)
    assert found["mcnemar"]["only_first_right"] == 1
    assert found["mcnemar"]["only_second_right"] == 6
    assert found["mcnemar"]["p_value"] == pytest.approx(2 * (1 + 7) / 2**7)
    assert found["accuracy"]["difference"] == pytest.approx(5 / 20)
    assert found["auc"]["difference"] is None
    assert found["auc"]["interval"] is None


def test_comparison_is_antisymmetric_and_each_has_its_threshold():
    labels, first = random_case(9)
    second = np.clip(first + 0.2, 0, 1)
    ab = bootstrap.compare(labels, first, second, (0.5, 0.7), bootstrap=100)
    ba = bootstrap.compare(labels, second, first, (0.7, 0.5), bootstrap=100)
    assert ab["accuracy"]["first"] == classification.accuracy(labels, first, 0.5)
    assert ab["accuracy"]["second"] == classification.accuracy(labels, second, 0.7)
    for name in ("accuracy", "auc"):
        assert ab[name]["difference"] == -ba[name]["difference"]
        assert ab[name]["interval"] == pytest.approx([-v for v in reversed(ba[name]["interval"])])
    assert ab["mcnemar"]["p_value"] == ba["mcnemar"]["p_value"]


def test_a_paired_interval_is_narrower_than_the_intervals_of_each():
    labels, first = random_case(10, n=500)
    second = np.where(np.arange(500) % 50 == 0, 1 - first, first)
    low, high = bootstrap.compare(labels, first, second, bootstrap=300)["accuracy"]["interval"]
    alone = bootstrap.evaluate(labels, first, 0.5, bootstrap=300)["intervals"]["accuracy"]
    assert high - low < alone[1] - alone[0]


@pytest.mark.parametrize(
    ("labels", "scores", "says"),
    [
        ([], [], "no images"),
        ([0, 1], [0.5], "one length"),
        ([[0], [1]], [[0.1], [0.2]], "one length"),
        ([0, 2], [0.1, 0.2], "got 2"),
        ([0, 1], [0.1, math.nan], "1 of 2"),
        ([0, 1], [0.1, math.inf], "1 of 2"),
        ([0, 1], [0.1, 1.1], "1.1"),
        ([0, 1], [-0.1, 1], "-0.1"),
    ],
)
def test_impossible_input_is_refused_in_words(labels, scores, says):
    for use in (classification.best_threshold, lambda y, s: bootstrap.evaluate(y, s, 0.5)):
        with pytest.raises(BddError, match=says):
            use(labels, scores)


@pytest.mark.parametrize("threshold", [-0.1, 1.1, math.nan])
def test_impossible_thresholds_are_refused(threshold):
    with pytest.raises(BddError, match="threshold"):
        bootstrap.evaluate([0, 1], [0.1, 0.9], threshold)


def test_masks_sources_and_paths_must_fit(tmp_path):
    with pytest.raises(BddError, match="mask"):
        bootstrap.metrics_document([0, 1], [0.1, 0.9], 0.5, leaked=[True])
    with pytest.raises(BddError, match="source"):
        bootstrap.evaluate_by(["a"], [0, 1], [0.1, 0.9], 0.5)
    with pytest.raises(BddError, match="path"):
        score_files.write_scores_csv(tmp_path / "s.csv", ["a"], [0, 1], [0.1, 0.9])


def test_scores_survive_the_file_bit_for_bit(tmp_path):
    labels, scores = random_case(11)
    scores[:4] = 0, 1, 5e-324, np.float32(0.1)
    paths = [f"test/FAKE/{i} (2).jpg" for i in range(len(labels))]
    paths[:4] = (
        'a,"b".png',
        "line\nbreak.jpg",
        "ä/漢.jpg",
        b"latin-\xe4.jpg".decode("utf-8", "surrogateescape"),
    )
    path = score_files.write_scores_csv(tmp_path / "new" / "scores-test.csv", paths, labels, scores)
    assert path.read_text(errors="replace").splitlines()[0] == "path,label,fake_probability"
    again = score_files.read_scores_csv(path)
    assert again[0] == paths
    np.testing.assert_array_equal(again[1], labels)
    np.testing.assert_array_equal(again[2], scores)
    assert [p.name for p in path.parent.iterdir()] == ["scores-test.csv"]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "should begin with"),
        ("a,b\n", "should begin with"),
        ("path,label,fake_probability\na.jpg,1\n", "line 2"),
        ("path,label,fake_probability\na.jpg,1,0.5\nb.jpg,FAKE,0.5\n", "line 3"),
        ("path,label,fake_probability\na.jpg,1,nan\n", "line 2"),
        ("path,label,fake_probability\na.jpg,1,1.5\n", "line 2"),
        ("path,label,fake_probability\na.jpg,1,\n", "line 2"),
        ('path,label,fake_probability\n"a.jpg,1,0.5\n', "cannot be read"),
    ],
)
def test_damaged_score_files_are_named_with_the_line(tmp_path, text, says):
    path = tmp_path / "scores-test.csv"
    path.write_text(text)
    with pytest.raises(BddError, match=says) as caught:
        score_files.read_scores_csv(path)
    assert str(path) in str(caught.value)


def test_a_missing_score_file_names_the_command_that_writes_it(tmp_path):
    with pytest.raises(BddError, match="bdd evaluate"):
        score_files.read_scores_csv(tmp_path / "scores-test.csv")


def test_json_is_strict_and_a_failed_write_leaves_the_old_file(tmp_path):
    path = tmp_path / "metrics-test.json"
    score_files.write_json(
        path, {"auc": np.float32(0.5), "n": np.int64(3), "all": np.arange(2), "at": tmp_path}
    )
    assert json.loads(path.read_text()) == {"auc": 0.5, "n": 3, "all": [0, 1], "at": str(tmp_path)}
    before = path.read_bytes()
    with pytest.raises(ValueError, match="JSON"):
        score_files.write_json(path, {"auc": math.nan})
    with pytest.raises(TypeError, match="object"):
        score_files.write_json(path, {"auc": object()})
    assert path.read_bytes() == before
    assert len(list(tmp_path.iterdir())) == 1
    score_files.write_json(path, {"path": "latin-\udce4.jpg"})
    assert json.loads(path.read_text()) == {"path": "latin-\udce4.jpg"}


def test_the_lowest_threshold_with_so_few_false_alarms():
    random = np.random.default_rng(0)
    for seed in range(20):
        labels, scores = random_case(seed, n=300, levels=40)
        rate = random.uniform(0.01, 0.5)
        threshold = classification.false_alarm_threshold(labels, scores, rate)
        real, fake = (np.asarray(scores)[labels == label] for label in (0, 1))
        assert np.mean(real >= threshold) <= rate
        # Any threshold that catches more fakes raises more alarms.
        for lower in np.unique(scores[scores < threshold]):
            assert np.mean(real >= lower) > rate or np.mean(fake >= lower) == np.mean(fake >= threshold)


@pytest.mark.parametrize(
    ("labels", "scores", "rate", "expected"),
    [
        ([0] * 10 + [1], [0.1] * 9 + [0.8, 0.5], 0.1, 1 / (1 + 3)),  # odds 1 / 9 and 1: halfway 1 / 3
        ([0] * 10 + [1], [0.1] * 9 + [0.8, 0.5], 0.09, None),  # ten images cannot resolve a rate of 9 %
        ([0] * 10 + [1], [0.9] * 10 + [0.5], 0.1, 0.95),  # all alike: nothing may be called FAKE
        ([0] * 10 + [1], [1.0] * 10 + [0.5], 0.1, None),  # no threshold calls a score of 1 REAL
        ([1, 1], [0.2, 0.3], 0.1, None),
    ],
)
def test_false_alarm_threshold_by_hand(labels, scores, rate, expected):
    found = classification.false_alarm_threshold(labels, scores, rate)
    assert found == (None if expected is None else pytest.approx(expected))


@pytest.mark.parametrize("rate", [0, 1, -0.1, math.nan])
def test_impossible_rates_are_refused(rate):
    with pytest.raises(UsageError, match="rate of false alarms"):
        classification.false_alarm_threshold([0, 1], [0.1, 0.9], rate)


def test_thresholds_applied_to_another_split():
    found = classification.at_thresholds([0, 0, 1, 1], [0.1, 0.6, 0.5, 0.9], {"0.01": 0.55, "0.001": None})
    assert found == {
        "0.01": {"threshold": 0.55, "false_alarms": 0.5, "detected": 0.5},
        "0.001": {"threshold": None, "false_alarms": None, "detected": None},
    }
    assert classification.at_thresholds([1], [0.6], {"0.5": 0.5})["0.5"]["false_alarms"] is None
