"""Compare two runs on the same test images, with a paired bootstrap and McNemar's exact test."""

from __future__ import annotations

import numpy as np

from bdd_tf.errors import BddError
from bdd_tf.metrics import bootstrap, classification, score_files
from bdd_tf.reports.markdown import percent, table
from bdd_tf.reports.parsing import escaped, number, one_line, read_json
from bdd_tf.reports.store import scores_file
from bdd_tf.runs import Run


def _scores(run: Run) -> dict[str, tuple[int, float]]:
    """Read a run's test scores: label and fake probability by path.

    Raises:
        BddError: If they are missing or damaged.
    """
    path = scores_file(run)
    if path is None:
        missing = run.scores("test").name
        raise BddError(f"run {run.name} has no {missing}; `bdd evaluate --run {run.name}` writes it.")
    paths, labels, scores = score_files.read_scores_csv(path)
    scored = {p: (int(y), float(s)) for p, y, s in zip(paths, labels, scores, strict=True)}
    if len(scored) < len(paths):
        raise BddError(
            f"{path} lists {len(paths) - len(scored)} images twice: evaluate run {run.name} again."
        )
    return scored


def _threshold(run: Run, notes: list[str]) -> float:
    """Read a run's threshold; if that fails, add a note and return 0.5."""
    try:
        threshold = number(read_json(run.metrics("test")), "threshold")
    except BddError:
        threshold = None
    if threshold is None or not 0 <= threshold <= 1:
        notes.append(f"{run.name} has no valid threshold in metrics-test.json; 0.5 is used.")
        return 0.5
    return float(threshold)


def compare_runs(first: Run, second: Run) -> dict:
    """Compare two evaluated runs on the test images that both have scored, matched by path.

    Args:
        first: A run with ``scores-test.csv``, or a stored result.
        second: The other one.

    Returns:
        The keys of :func:`bdd_tf.metrics.bootstrap.compare`, ``runs`` and ``thresholds`` (two each), and ``notes``
        (caveats, a sentence each).

    Raises:
        BddError: If scores are missing or damaged, or if the runs have no images in common or label them differently.
    """
    notes: list[str] = []
    runs = (first, second)
    tables = [_scores(run) for run in runs]
    thresholds = [_threshold(run, notes) for run in runs]
    common = sorted(tables[0].keys() & tables[1].keys())
    if not common:
        raise BddError(
            f"runs {first.name} and {second.name} have no test image in common: evaluate both on the same data set."
        )
    for run, scored in zip(runs, tables, strict=True):
        if len(scored) > len(common):
            notes.append(
                f"{len(scored) - len(common):,} images that only {run.name} has scored are excluded."
            )
    labels = np.array([tables[0][p][0] for p in common])
    other = np.array([tables[1][p][0] for p in common])
    differ = int((labels != other).sum())
    if differ:
        raise BddError(
            f"runs {first.name} and {second.name} label {differ:,} of {len(common):,} common "
            f"images differently, e.g. {common[int(np.argmax(labels != other))]}: evaluate both again."
        )
    scores = [np.array([scored[p][1] for p in common]) for scored in tables]
    document = bootstrap.compare(labels, scores[0], scores[1], (thresholds[0], thresholds[1]))
    reason = classification.why_undefined(labels)
    if reason:
        notes.append(f"{reason}.")
    return {"runs": [first.name, second.name], "thresholds": thresholds, **document, "notes": notes}


def markdown(found: dict) -> str:
    """Format a comparison.

    Args:
        found: As :func:`compare_runs` returns it.

    Returns:
        Markdown that ends with a line break.
    """
    first, second = (escaped(name) for name in found["runs"])
    rows = [
        [
            f"{label} %",
            percent(found[key]["first"]),
            percent(found[key]["second"]),
            percent(found[key]["difference"], found[key]["interval"]),
        ]
        for key, label in (("accuracy", "accuracy"), ("auc", "AUC"))
    ]
    text = f"{found['images']:,} test images, thresholds {found['thresholds'][0]:.3g} and "
    text += f"{found['thresholds'][1]:.3g}:\n\n"
    text += table(["", first, second, "difference [95 % interval]"], rows, 1) + "\n"
    test = found["mcnemar"]
    text += f"\nOnly {first} is correct on {test['only_first_right']:,} images, only {second} on "
    text += f"{test['only_second_right']:,}. If both were equally accurate, a split at least as uneven would have the "
    text += f"probability {test['p_value']:.3g} (McNemar's exact test).\n"
    return text + "".join(f"\nNote: {one_line(note)}\n" for note in found["notes"])
