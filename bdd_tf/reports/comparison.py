"""Two runs on the same images: is the difference more than chance?"""

from __future__ import annotations

import numpy as np

from bdd_tf import metrics
from bdd_tf.errors import BddError
from bdd_tf.reports.reading import escaped, number, one_line, read_json
from bdd_tf.reports.store import scores_file
from bdd_tf.reports.tables import percent, table
from bdd_tf.runs import Run


def compare_runs(first: Run, second: Run) -> dict:
    """Compare two evaluated runs on the test images that both have scored, matched by path.

    Args:
        first: Folder of a run with ``scores-test.csv``, or of a stored result.
        second: Folder of the other.

    Returns:
        The keys of :func:`bdd_tf.metrics.compare`, ``runs`` and ``thresholds`` (two each), and ``notes``,
        sentences on what a reader must know.

    Raises:
        BddError: If scores are missing or damaged, or the runs have no images in common or label them
            differently.
    """
    notes: list[str] = []
    tables, thresholds = [], []
    for run in (first, second):
        path = scores_file(run)
        if path is None:
            missing = run.scores("test").name
            raise BddError(f"run {run.name} has no {missing}; `make evaluate RUN={run.name}` writes it.")
        paths, labels, scores = metrics.read_scores_csv(path)
        scored = {p: (int(y), float(s)) for p, y, s in zip(paths, labels, scores, strict=True)}
        if len(scored) < len(paths):
            raise BddError(
                f"{path} names {len(paths) - len(scored)} images twice; evaluate run {run.name} again."
            )
        tables.append(scored)
        try:
            threshold = number(read_json(run.metrics("test")), "threshold")
        except BddError:
            threshold = None
        if threshold is None or not 0 <= threshold <= 1:
            threshold = 0.5
            notes.append(f"{run.name} has no readable threshold in metrics-test.json; 0.5 is used.")
        thresholds.append(float(threshold))
    common = sorted(tables[0].keys() & tables[1].keys())
    if not common:
        raise BddError(
            f"runs {first.name} and {second.name} have no test image in common; "
            f"evaluate both on the same data set to compare them."
        )
    for run, scored in zip((first, second), tables, strict=True):
        if len(scored) > len(common):
            notes.append(
                f"{len(scored) - len(common):,} images that only {run.name} has scored are left out."
            )
    labels = np.array([tables[0][p][0] for p in common])
    other = np.array([tables[1][p][0] for p in common])
    differ = int((labels != other).sum())
    if differ:
        raise BddError(
            f"runs {first.name} and {second.name} label {differ:,} of {len(common):,} common "
            f"images differently, e.g. {common[int(np.argmax(labels != other))]}; evaluate both again."
        )
    scores = [np.array([scored[p][1] for p in common]) for scored in tables]
    document = metrics.compare(labels, *scores, tuple(thresholds))
    reason = metrics.why_undefined(labels)
    if reason:
        notes.append(f"{reason}.")
    return {"runs": [first.name, second.name], "thresholds": thresholds, **document, "notes": notes}


def markdown(found: dict) -> str:
    """The comparison as a table and a sentence.

    Args:
        found: As :func:`compare_runs` gives it.

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
    text += f"\nOnly {first} is right on {test['only_first_right']:,} images, only {second} on "
    text += (
        f"{test['only_second_right']:,}; if both were equally good, a split at least this uneven would have "
    )
    text += f"probability {test['p_value']:.3g} (McNemar's exact test).\n"
    return text + "".join(f"\nNote: {one_line(note)}\n" for note in found["notes"])
