"""Do the channels help? Runs that differ in channels and seed alone, with the spread over seeds. NumPy and SciPy only."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Iterable

import numpy as np

from bdd_tf.reports import published
from bdd_tf.reports.reading import number

#: Channels beside RGB, in the paper's order of rows.
ROWS = tuple(published.ABLATION)
#: The rows to train first: what the question is about.
FIRST = ((), ("fft",), ("lbp",), ("fft", "lbp"))
#: What is tested against what.
TESTED = ((), ("fft", "lbp"))
SEEDS = (5, 6, 7)
#: Splits of seeds into two groups that are gone through one by one; with more of them none are.
_SPLITS = 200_000


def extras(channels: object) -> tuple[str, ...] | None:
    """Channels beside RGB as the paper's rows name them, in one order; None for anything else."""
    names = channels.split(",") if isinstance(channels, str) else channels
    if not isinstance(names, list | tuple) or not all(isinstance(name, str) for name in names):
        return None
    wanted = {name.strip() for name in names} - {"rgb"}
    return next((row for row in ROWS if set(row) == wanted), None)


def label(row: tuple[str, ...]) -> str:
    """A row's name: ``none``, ``fft``, ``fft+lbp`` ..."""
    return "+".join(row) or "none"


def spread(values: Iterable[float]) -> dict:
    """Mean and spread over seeds.

    Returns:
        ``n``, ``mean``, ``sd`` (of the sample, n - 1; None for fewer than two), ``min`` and ``max``; None of nothing.
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
    """Exact two-sided permutation test of the difference of two means.

    Args:
        first: A value per run.
        second: A value per run of the other kind.

    Returns:
        The share of all ways to deal the runs out whose means lie at least as far apart, and the least that it could
        be with so many runs, whatever their values. None where there is nothing to deal, or too many ways.
    """
    n, every = len(first), np.array([*first, *second], np.float64)
    if not first or not second or math.comb(len(every), n) > _SPLITS:
        return None, None
    chosen = np.array(list(itertools.combinations(range(len(every)), n)))
    sums = every[chosen].sum(axis=1)
    gaps = np.abs(sums / n - (every.sum() - sums) / (len(every) - n))
    observed = abs(np.mean(first) - np.mean(second))
    # Sums of the same numbers in another order differ in their last bits.
    p = float(np.mean(gaps >= observed - 1e-12))
    return p, (2 if n == len(second) else 1) / len(chosen)


def difference(first: list[float], second: list[float]) -> dict:
    """Is the mean of the second larger?

    Args:
        first: A value per seed.
        second: A value per seed of the other kind; the seeds need not be the same.

    Returns:
        ``difference`` (second - first), ``interval`` (95 %, Welch), ``welch_p``, ``permutation_p`` and ``least_p``
        (:func:`permutation_test`). None where a test needs more runs, or where the runs do not vary at all.
    """
    from scipy import stats

    p, least = permutation_test(first, second)
    found = {
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
    """How much an ablation's runs were trained, in words."""
    epochs, share = settings.get("epochs"), settings.get("train_fraction")
    text = f"{epochs} epoch{'' if epochs == 1 else 's'}"
    return text if share in (None, 1) else f"{text} of {share} of the training images"


def groups(rows: list[dict]) -> list[dict]:
    """Ablations among runs: all settings equal but channels and seed.

    Args:
        rows: As :func:`bdd_tf.reports.rows.describe` gives them; only those with a test accuracy count.

    Returns:
        Those with at least two kinds of channels, the one with most runs first: ``settings`` (those in common),
        ``runs`` (names), ``seeds``, ``rows`` (by :func:`label`: ``accuracy``, ``auc``, each a :func:`spread`, and
        ``runs``, of each its ``run``, ``seed``, ``accuracy`` and ``auc``), ``test`` (:func:`difference` of
        :data:`TESTED` in accuracy) and ``missing`` (pairs of label and seed).
    """
    found: dict[str, dict] = {}
    for row in rows:
        config = row["settings"]
        row_of = extras(config.get("channels")) if config else None
        if row_of is None or row["test"]["accuracy"] is None:
            continue
        common = {key: value for key, value in config.items() if key not in ("channels", "seed")}
        group = found.setdefault(json.dumps(common, default=str), {"settings": common, "members": {}})
        # The same settings and seed under two names are one experiment, not two.
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
    """What the test of an ablation says, in words that promise no more than it does."""
    test = group["test"]
    counts = [group["rows"].get(label(row), {}).get("accuracy", {}).get("n", 0) for row in TESTED]
    if test["difference"] is None:
        return "FFT+LBP cannot be compared with none yet: one of them has not been run."
    words = f"FFT+LBP minus none: {100 * test['difference']:+.2f} points (means of {counts[1]} and {counts[0]} seeds"
    if test["interval"] is None:
        return f"{words}). With so few runs, or runs that do not vary, nothing can be said about chance."
    low, high = (100 * end for end in test["interval"])
    words += f"; 95 % interval {low:+.2f} to {high:+.2f} and p = {test['welch_p']:.3g} by Welch's t test"
    if test["permutation_p"] is not None:
        words += f"; exact permutation test p = {test['permutation_p']:.3g}, where {test['least_p']:.3g} is the least "
        words += "that so many runs can give"
    if low > 0:
        end = "These runs speak for the channels"
    elif high < 0:
        end = "These runs speak against the channels"
    else:
        end = "These runs do not show that the channels help or harm"
    few = ", and are few: t assumes normal spread, which so few cannot show" if min(counts) < 5 else ""
    return f"{words}). {end}{few}."
