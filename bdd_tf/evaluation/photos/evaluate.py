"""The protocol's document, for ``metrics-photos.json``, and the short form ``protocol-photos.json``."""

from __future__ import annotations

from bdd_tf.datasets.photo_batches import PhotoBatches
from bdd_tf.evaluation.photos import beside
from bdd_tf.evaluation.photos.band import band_measures, choose_band
from bdd_tf.evaluation.photos.comparison import Comparison
from bdd_tf.evaluation.photos.protocol import Scored, Settings, score_crops
from bdd_tf.evaluation.photos.scorers import Scorer
from bdd_tf.evaluation.photos.whole import evaluate_whole

#: Comparisons by importance: the summary is of the first that an evaluation has.
MAIN = ("held_out", "seen_generators_unseen_cameras", "seen")
#: From this AUC on, a held-out family is suspected of a leak.
SUSPICIOUS = 0.97


def evaluate_photos(scorer: Scorer, batches: PhotoBatches, settings: Settings) -> dict:
    """The whole protocol.

    Args:
        scorer: The detector; its size must be that of the batches' crops.
        batches: The fold.
        settings: Size of the evaluation.

    Returns:
        The content of ``metrics-photos.json`` (docs/photos.md describes it).

    Raises:
        UsageError: For another size, or too few images of a class.
    """
    watched = beside.Watched()
    scored = score_crops(scorer, batches, settings, watched)
    settings.report("measures and intervals")
    comparisons = scored.comparisons
    crops = {
        condition: comparisons.measured(logits, scored.threshold.logit)
        for condition, logits in scored.logits.items()
    }
    settings.report("probes")
    transferred = beside.probe_scores(watched, scored.photos, batches, settings.probe_crops)
    found = beside.probed(watched, scored.photos, comparisons, transferred)
    band = choose_band(scored.photos, scored.logits["clean"], settings.band)
    decided = band_measures(scored.photos, scored.logits["clean"], band, settings) if band else {}
    statistics = transferred[beside.STATISTICS_NAME]
    for condition, logits in scored.logits.items():
        for name, made in comparisons.made.items():
            ours, base = (comparisons.values(name, x) for x in (logits, statistics[condition]))
            crops[condition][name]["above_probe_c"] = made.exceeds(ours, base)
    return {
        "format": 1,
        "detector": {
            "name": scorer.name,
            "engine": scorer.engine,
            "sha256": scorer.weights,
            "threshold_logit": scorer.threshold,
        },
        "hold_out": list(batches.fold.hold_out),
        "left_out": batches.fold.left_out,
        "crop": scorer.size,
        "seed": settings.seed,
        "bootstrap": settings.bootstrap,
        "per_source": settings.per_source,
        "threshold": scored.threshold.to_dict(),
        "unsure": {**band.to_dict(), "crops": decided},
        "images": {name: made.remaining() for name, made in comparisons.made.items()},
        "crops": crops,
        "patch_shuffled": comparisons.measured(scored.shuffled, scored.threshold.logit),
        "probes": found,
        "whole": evaluate_whole(scorer, batches.fold, settings, band),
        "notes": _notes(scored, crops, found),
    }


def _notes(scored: Scored, crops: dict, found: dict) -> list[str]:
    notes = [leak for row in found["comparisons"].values() for leak in row["leaks"]]
    if scored.threshold.part == "validation":
        notes.append("the threshold was chosen on real sources that training saw: too few are held out.")
    for name, made in scored.comparisons.made.items():
        notes += _family_notes(name, made, crops["clean"][name]["families"])
    return notes


def _family_notes(name: str, made: Comparison, families: dict) -> list[str]:
    notes = []
    for family in made.families:
        row = families[family]["matched"]
        if row is None:
            notes.append(f"{name}: {family} has no real counterpart of the same size, format and quality.")
        elif name == "held_out" and row["auc"] is not None and row["auc"] > SUSPICIOUS:
            notes.append(
                f"{name}: AUC {row['auc']:.3f} on {family} is suspected of a leak until shown otherwise."
            )
    return notes


def main_comparison(measured: dict) -> str:
    """The name of the most important comparison in a condition's results."""
    return next(name for name in MAIN if name in measured)


def short_form(document: dict) -> dict:
    """The content of ``protocol-photos.json``.

    Args:
        document: Of :func:`evaluate_photos`.

    Returns:
        Condition -> source -> ``label`` (0 = REAL, 1 = FAKE), ``family``, ``images``, ``called_fake``, ``held_out``;
        ``summary`` -> condition -> ``comparison``, ``balanced_accuracy``, ``auc``, ``recall_at_fpr``,
        ``false_alarms`` (every source alike) and ``auc_matched``.
    """
    found: dict = {}
    summary: dict = {}
    held = set(document["hold_out"])
    for condition, measured in document["crops"].items():
        rows: dict[str, dict] = {}
        for name in ("seen", *MAIN):
            for source, row in measured.get(name, {}).get("sources", {}).items():
                rows[source] = {**row, "held_out": bool(held & {source, row["family"]})}
        found[condition] = rows
        main = main_comparison(measured)
        plain, matched = (measured[main]["summary"][name] or {} for name in ("plain", "matched"))
        summary[condition] = {
            "comparison": main,
            **{key: plain.get(key) for key in ("balanced_accuracy", "auc", "recall_at_fpr", "false_alarms")},
            "auc_matched": matched.get("auc"),
        }
    return {**found, "summary": summary}
