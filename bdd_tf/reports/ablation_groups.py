"""Channel ablations: groups of runs that differ in channels and seed only, and tests of the channels' effect."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Iterable

import numpy as np

from bdd_tf.reports import published
from bdd_tf.reports.parsing import number

#: Channels in addition to RGB, in the order of the paper's rows.
ROWS = tuple(published.ABLATION)
#: The rows to train first, because the main question depends on them.
FIRST = ((), ("fft",), ("lbp",), ("fft", "lbp"))
#: The two rows that are compared by a test.
TESTED = ((), ("fft", "lbp"))
#: Default seeds.
SEEDS = (5, 6, 7)
#: Largest number of splits into two groups that the permutation test enumerates.
_SPLITS = 200_000


def extras(channels: object) -> tuple[str, ...] | None:
    """Return the channels in addition to RGB as one of :data:`ROWS`; None if they are not one of these."""
    names = channels.split(",") if isinstance(channels, str) else channels
    if not isinstance(names, list | tuple) or not all(isinstance(name, str) for name in names):
        return None
    wanted = {name.strip() for name in names} - {"rgb"}
    return next((row for row in ROWS if set(row) == wanted), None)


def label(row: tuple[str, ...]) -> str:
    """Return a row's name: ``none``, ``fft``, ``fft+lbp`` etc."""
    return "+".join(row) or "none"


def spread(values: Iterable[float]) -> dict:
    """Summarise values over seeds.

    Returns:
        ``n``, ``mean``, ``sd`` (sample standard deviation, divisor n - 1; None for fewer than two values), ``min`` and
        ``max``. All but ``n`` are None if there are no values.
    """
    found = np.array(list(values), np.float64)
    return {
        "n": len(found),
        "mean": float(found.mean()) if len(found) else None,
        "sd": float(found.std(ddof=1)) if len(found) > 1 else None,
        "min": float(found.min()) if len(found) else None,
        "max": float(found.max()) if len(found) else None,
    }


def permutation_test(first: list[float], second: list[float]) -> tuple[float | None, float | None]:
    """Run an exact two-sided permutation test of the difference of two means.

    Args:
        first: A value per run.
        second: A value per run of the other kind.

    Returns:
        The p-value (share of all splits into two groups whose means differ at least as much) and the smallest p-value
        that is possible with this number of runs. Both are None if a group is empty or there are too many splits.
    """
    n, every = len(first), np.array([*first, *second], np.float64)
    if not first or not second or math.comb(len(every), n) > _SPLITS:
        return None, None
    chosen = np.array(list(itertools.combinations(range(len(every)), n)))
    sums = every[chosen].sum(axis=1)
    gaps = np.abs(sums / n - (every.sum() - sums) / (len(every) - n))
    observed = abs(np.mean(first) - np.mean(second))
    # The tolerance covers rounding: sums of the same numbers in another order differ in their last bits.
    p = float(np.mean(gaps >= observed - 1e-12))
    return p, (2 if n == len(second) else 1) / len(chosen)


def difference(first: list[float], second: list[float]) -> dict:
    """Test whether two kinds of runs differ in their mean.

    Args:
        first: A value per seed.
        second: A value per seed of the other kind; the seeds may differ.

    Returns:
        ``difference`` (second - first), ``interval`` (95 %, Welch's t-test), ``welch_p``, ``permutation_p`` and
        ``least_p`` (:func:`permutation_test`). A value is None if its test needs more runs or the runs do not vary.
    """
    from scipy import stats

    p, least = permutation_test(first, second)
    found: dict[str, object] = {
        "difference": float(np.mean(second) - np.mean(first)) if first and second else None,
        "interval": None,
        "welch_p": None,
        "permutation_p": p,
        "least_p": least,
    }
    if min(len(first), len(second)) > 1 and np.var(first) + np.var(second) > 0:
        result = stats.ttest_ind(second, first, equal_var=False)
        interval = result.confidence_interval(0.95)
        found |= {"interval": [float(interval.low), float(interval.high)], "welch_p": float(result.pvalue)}
    return found


def budget(settings: dict) -> str:
    """Describe the training budget of an ablation's runs."""
    epochs, share = settings.get("epochs"), settings.get("train_fraction")
    text = f"{epochs} epoch{'' if epochs == 1 else 's'}"
    return text if share in (None, 1) else f"{text} of {share} of the training images"


def groups(rows: list[dict]) -> list[dict]:
    """Find the ablations among runs: groups whose settings are equal except for channels and seed.

    Args:
        rows: As :func:`bdd_tf.reports.run_summary.describe` returns them. Runs without a test accuracy are ignored.

    Returns:
        The groups with at least two kinds of channels, largest first. Each has ``settings`` (the common ones), ``runs``
        (names), ``seeds``, ``rows`` (by :func:`label`: ``accuracy`` and ``auc``, each a :func:`spread`, and ``runs``
        with ``run``, ``seed``, ``accuracy`` and ``auc`` of each), ``test`` (:func:`difference` of the accuracies of
        :data:`TESTED`) and ``missing`` (pairs of label and seed).
    """
    found: dict[str, dict] = {}
    for row in rows:
        config = row["settings"]
        row_of = extras(config.get("channels")) if config else None
        if row_of is None or row["test"]["accuracy"] is None:
            continue
        common = {key: value for key, value in config.items() if key not in ("channels", "seed")}
        group = found.setdefault(json.dumps(common, default=str), {"settings": common, "members": {}})
        # Runs with the same settings and seed count once, whatever their names.
        group["members"].setdefault((row_of, number(config, "seed")), row)
    listed = [_summary(group) for group in found.values()]
    listed = [group for group in listed if len(group["rows"]) > 1]
    return sorted(listed, key=lambda group: (-len(group["runs"]), group["runs"]))


def _summary(group: dict) -> dict:
    members = group["members"]
    seeds = sorted({seed for _, seed in members if seed is not None})
    rows: dict[str, dict] = {}
    for wanted in ROWS:
        runs = [
            {"run": row["run"], "seed": seed, "accuracy": row["test"]["accuracy"], "auc": row["test"]["auc"]}
            for (kind, seed), row in sorted(
                members.items(), key=lambda item: (item[0][1] is None, item[0][1])
            )
            if kind == wanted
        ]
        if runs:
            values = {key: [run[key] for run in runs if run[key] is not None] for key in ("accuracy", "auc")}
            rows[label(wanted)] = {key: spread(found) for key, found in values.items()} | {"runs": runs}
    kinds = ([run["accuracy"] for run in rows.get(label(row), {"runs": []})["runs"]] for row in TESTED)
    due = sorted({*seeds, *SEEDS[: max(len(SEEDS) - len(seeds), 0)]})
    return {
        "settings": group["settings"],
        "runs": sorted(row["run"] for row in members.values()),
        "seeds": seeds,
        "rows": rows,
        "test": difference(*kinds),
        "missing": [[label(row), seed] for row in ROWS for seed in due if (row, seed) not in members],
    }


def verdict(group: dict) -> str:
    """Describe the outcome of an ablation's test, with its limits."""
    test = group["test"]
    counts = [group["rows"].get(label(row), {}).get("accuracy", {}).get("n", 0) for row in TESTED]
    if test["difference"] is None:
        return "FFT+LBP and no extra channels cannot be compared yet: one of them has not been run."
    words = f"FFT+LBP minus none: {100 * test['difference']:+.2f} points (means of {counts[1]} and {counts[0]} seeds"
    if test["interval"] is None:
        return f"{words}). There are too few runs, or too little variation, to test this difference."
    low, high = (100 * end for end in test["interval"])
    words += f"; 95 % interval {low:+.2f} to {high:+.2f} and p = {test['welch_p']:.3g} by Welch's t test"
    if test["permutation_p"] is not None:
        words += f"; exact permutation test p = {test['permutation_p']:.3g} (smallest possible p with this number of "
        words += f"runs: {test['least_p']:.3g})"
    if low > 0:
        end = "The channels improve the accuracy of these runs."
    elif high < 0:
        end = "The channels reduce the accuracy of these runs."
    else:
        end = "These runs show no effect of the channels."
    if min(counts) < 5:
        end += " Welch's test assumes a normal distribution, which cannot be verified with so few runs."
    return f"{words}). {end}"
