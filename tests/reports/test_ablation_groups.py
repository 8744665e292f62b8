"""Laws of the ablation's statistics: what is grouped, how it spreads, and what may be concluded."""

import itertools

import numpy as np
import pytest
from scipy import stats

from bdd_tf.config import Experiment
from bdd_tf.reports import ablation_groups
from bdd_tf.reports.store import settings


def row(name, channels, seed, accuracy, **more):
    config = Experiment(channels=("rgb", *channels), seed=seed, **more)
    return {
        "run": name,
        "settings": settings(config.to_dict()),
        "test": {"accuracy": accuracy, "auc": accuracy},
    }


def rows_of(table, **more):
    return [
        row(f"{'-'.join(channels) or 'none'}-{seed}-{more.get('epochs', 4)}", channels, seed, value, **more)
        for channels, values in table.items()
        for seed, value in enumerate(values, 5)
    ]


def test_runs_that_differ_in_channels_and_seed_alone_are_one_ablation():
    one = rows_of({(): (0.90, 0.91, 0.92), ("fft", "lbp"): (0.93, 0.94, 0.95)})
    other = rows_of({(): (0.5,), ("fft",): (0.6,)}, epochs=1)
    alone = rows_of({("lbp",): (0.7,)}, learning_rate=1e-3)
    first, second = ablation_groups.groups([*other, *one, *alone])
    assert first["runs"] == sorted(r["run"] for r in one)
    assert second["rows"].keys() == {"none", "fft"}
    found = first["rows"]["none"]["accuracy"]
    assert found == {
        "n": 3, "mean": pytest.approx(0.91), "sd": pytest.approx(0.01), "min": 0.90, "max": 0.92,
    }  # fmt: skip
    assert len(first["missing"]) == 6 * 3
    assert ["fft", 6] in first["missing"]
    assert ["none", 5] not in first["missing"]


def test_the_same_experiment_under_two_names_counts_once():
    rows = rows_of({(): (0.9,), ("fft",): (0.8,)})
    copy = {**rows[0], "run": "copy"}
    (group,) = ablation_groups.groups([*rows, copy])
    assert group["rows"]["none"]["accuracy"]["n"] == 1
    assert group["rows"]["none"]["accuracy"]["sd"] is None


def test_order_of_channels_is_no_difference():
    assert (
        ablation_groups.extras(["lbp", "rgb", "fft"])
        == ablation_groups.extras("rgb,fft,lbp")
        == ("fft", "lbp")
    )
    assert ablation_groups.extras(["rgb"]) == ()
    for odd in (None, 3, ["rgb", "depth"], {"rgb": 1}, ["rgb", 3]):
        assert ablation_groups.extras(odd) is None


def test_permutation_test_against_counting_by_hand():
    random = np.random.default_rng(0)
    first, second = random.normal(0, 1, 4), random.normal(0.8, 1, 3)
    pool, observed = [*first, *second], abs(first.mean() - second.mean())
    deals = [set(chosen) for chosen in itertools.combinations(range(7), 4)]
    gaps = [
        abs(np.mean([pool[i] for i in deal]) - np.mean([pool[i] for i in range(7) if i not in deal]))
        for deal in deals
    ]
    p, least = ablation_groups.permutation_test(list(first), list(second))
    assert p == np.mean(np.array(gaps) >= observed - 1e-12)
    assert least == 1 / len(deals)


def test_three_against_three_cannot_go_below_a_tenth():
    p, least = ablation_groups.permutation_test([0.1, 0.2, 0.3], [0.7, 0.8, 0.9])
    assert p == least == 0.1


def test_welch_s_interval_and_p_agree_with_each_other():
    first, second = [0.90, 0.91, 0.93], [0.92, 0.95, 0.94, 0.96]
    found = ablation_groups.difference(first, second)
    assert found["welch_p"] == stats.ttest_ind(second, first, equal_var=False).pvalue
    assert found["difference"] == pytest.approx(np.mean(second) - np.mean(first))
    low, high = found["interval"]
    assert low < found["difference"] < high
    assert (low > 0) == (found["welch_p"] < 0.05)


@pytest.mark.parametrize(
    ("first", "second"),
    [([], []), ([0.9], []), ([0.9], [0.8]), ([0.9, 0.9], [0.9, 0.9]), ([0.9], [0.8, 0.7])],
)
def test_too_few_runs_or_no_spread_are_no_evidence(first, second):
    found = ablation_groups.difference(first, second)
    assert found["welch_p"] is None
    table = {
        row: values for row, values in (((), first), (("fft", "lbp"), second), (("fft",), [0.5])) if values
    }
    for group in ablation_groups.groups(rows_of(table)):
        words = ablation_groups.verdict(group)
        assert "to test this difference" in words or "cannot be compared" in words


@pytest.mark.parametrize(
    ("second", "words"),
    [
        ((0.95, 0.951, 0.952), "improve the accuracy"),
        ((0.85, 0.851, 0.852), "reduce the accuracy"),
        ((0.89, 0.90, 0.92), "show no effect"),
    ],
)
def test_the_verdict_matches_the_interval(second, words):
    (group,) = ablation_groups.groups(rows_of({(): (0.90, 0.901, 0.902), ("fft", "lbp"): second}))
    said = ablation_groups.verdict(group)
    assert words in said
    assert "smallest possible p with this number of runs: 0.1)" in said
    assert "3 and 3 seeds" in said
