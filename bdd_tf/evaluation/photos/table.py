"""The protocol's document as text for a terminal."""

from __future__ import annotations

from bdd_tf.evaluation.photos.evaluate import MAIN, main_comparison
from bdd_tf.evaluation.photos.protocol import GIVEN

TITLES = {
    "held_out": "held-out generators against held-out real sources",
    "seen": "seen generators and real sources, unseen contents",
    "seen_generators_unseen_cameras": "seen generators against held-out real sources",
}


def _percent(value: float | None) -> str:
    return f"{100 * value:5.1f}" if value is not None else "    -"


def _area(value: float | None) -> str:
    return f"{value:.3f}" if value is not None else "    -"


def _spread(pair: list[float] | None) -> str:
    return f"[{pair[0]:.3f}, {pair[1]:.3f}]" if pair else ""


def table(document: dict) -> str:
    """Format a document of :func:`bdd_tf.evaluation.photos.evaluate.evaluate_photos`."""
    held = ", ".join(document["hold_out"]) or "nothing"
    detector, threshold = document["detector"], document["threshold"]
    lines = [
        f"{detector['name']} ({detector['engine']}), crops of {document['crop']} px; held out: {held}",
        _threshold(threshold),
        *_band(document.get("unsure")),
    ]
    for name in MAIN:
        if name in document["crops"]["clean"]:
            lines += ["", f"crops: {TITLES[name]}", *_conditions(document["crops"], name)]
            lines += _families(document["crops"], name)
            shuffled = document["patch_shuffled"][name]["summary"]["matched"]
            if shuffled:
                lines.append(
                    f"  patch-shuffled, clean: AUC {_area(shuffled['auc'])} {_spread(shuffled['intervals']['auc'])}"
                )
            lines += _probes(document["probes"]["comparisons"][name]["clean"])
    lines += _reals(document["crops"])
    lines += _whole(document["whole"])
    return "\n".join([*lines, "", *(f"note: {note}" for note in document["notes"])]).rstrip()


def _threshold(threshold: dict) -> str:
    """The line on the threshold; a file has its own, which its run chose on images that are left out here too."""
    if threshold["chosen_on"].startswith(GIVEN):
        origin = "the file's own"
    else:
        origin = f"at most 5 % of {threshold['images']} REAL called FAKE; chosen on {threshold['chosen_on']}"
    return f"threshold: logit {threshold['logit']:.3f}, {origin}; reported on {threshold['reported_on']}"


def _band(unsure: dict | None) -> list[str]:
    """The lines on the band; documents of earlier versions have none."""
    if unsure is None:
        return []
    if unsure["low_logit"] is None:
        return [f"unsure: {note}" for note in unsure["notes"]]
    chosen = f"; chosen on {'; '.join(unsure['chosen_on'])}" if unsure["chosen_on"] else ", the file's own"
    head = f"unsure: between the logits {unsure['low_logit']:.3f} and {unsure['high_logit']:.3f}{chosen}"
    return [head, *_decided("crops", unsure["crops"]), *(f"  note: {note}" for note in unsure["notes"])]


def _percents(pair: list[float] | None) -> str:
    """An interval of shares, in %."""
    return f"[{100 * pair[0]:.1f}, {100 * pair[1]:.1f}]" if pair else ""


def _decided(kind: str, rows: dict) -> list[str]:
    """What a band decides, one line per real side."""
    lines = []
    for name, row in rows.items():
        spread = {key: _percents(pair) for key, pair in row["intervals"].items()}
        lines.append(
            f"  {kind}, {name.replace('_', '-')} real sources: decides {_percent(row['coverage'])} % {spread['coverage']}, "
            f"{_percent(row['right'])} % of them rightly {spread['right']}; REAL called FAKE "
            f"{_percent(row['real_called_fake'])} % {spread['real_called_fake']} of {row['real_images']}, FAKE called REAL "
            f"{_percent(row['fake_called_real'])} % of {row['fake_images']}"
        )
    return lines


def _conditions(results: dict, name: str) -> list[str]:
    """One line per condition: means over families, real sources alike."""
    lines = [
        "  condition   AUC matched             above (c)  AUC all  R@1%  R@5%  bal.acc.  false alarms  worst family"
    ]
    for condition, measured in results.items():
        if name not in measured:
            continue
        row = measured[name]
        matched, plain = (row["summary"][key] or {} for key in ("matched", "plain"))
        recall = plain.get("recall_at_fpr", {})
        above = row.get("above_probe_c", {}).get("difference")
        worst = matched.get("worst_family") or {"family": "-", "auc": None}
        lines.append(
            f"  {condition:11} {_area(matched.get('auc'))} {_spread(matched.get('intervals', {}).get('auc')):16}"
            f" {'' if above is None else format(100 * above, '+9.1f'):>9}  {_area(plain.get('auc')):>7}"
            f" {_percent(recall.get('0.01'))} {_percent(recall.get('0.05'))}  {_percent(plain.get('balanced_accuracy')):>8}"
            f"  {_percent(row['false_alarms']):>12}  {worst['family']} {_area(worst['auc'])}"
        )
    return lines


def _families(results: dict, name: str) -> list[str]:
    """AUC per family and condition."""
    conditions = [condition for condition, measured in results.items() if name in measured]
    families = results[conditions[0]][name]["families"]
    lines = ["  AUC matched (all)    images " + " ".join(f"{condition:>13}" for condition in conditions)]
    for family, about in families.items():
        cells = []
        for condition in conditions:
            row = results[condition][name]["families"][family]
            matched, plain = (row[key] or {} for key in ("matched", "plain"))
            cells.append(f"{_area(matched.get('auc'))} ({_area(plain.get('auc'))})")
        lines.append(
            f"  {family[:18]:18} {about['matched_images']:4}/{about['images']:<4} "
            + " ".join(f"{cell:>13}" for cell in cells)
        )
    return lines


def _probes(rows: dict) -> list[str]:
    lines = ["  probe on the same clean crops   bal.acc. matched    AUC matched     bal.acc. all  AUC all"]
    for probe, row in rows.items():
        matched, plain = (row[key] or {} for key in ("matched", "plain"))
        lines.append(
            f"  {probe:30} {_percent(matched.get('balanced_accuracy'))} %            {_area(matched.get('auc'))}"
            f"           {_percent(plain.get('balanced_accuracy'))} %       {_area(plain.get('auc'))}"
        )
    return lines


def _reals(results: dict) -> list[str]:
    """False alarms per real source and condition."""
    conditions = list(results)
    lines = ["", "REAL called FAKE, %             images " + " ".join(f"{c:>10}" for c in conditions)]
    for name in ("held_out", "seen_generators_unseen_cameras", "seen"):
        clean = results["clean"].get(name)
        if clean is None or (name != "seen" and name != main_comparison(results["clean"])):
            continue
        for source, row in clean["real"].items():
            cells = [_percent(results[c][name]["real"][source]["false_alarms"]) for c in conditions]
            lines.append(f"  {source[:28]:28} {row['images']:7} " + " ".join(f"{cell:>10}" for cell in cells))
    return lines


def _whole(whole: dict | None) -> list[str]:
    if whole is None:
        return []
    rule = whole["views"]
    lines = ["", f"whole images, up to {rule['count']} native views of {rule['size']} px"]
    lines += _decided("whole images", whole.get("unsure", {}))
    if whole["threshold"] is None:
        return [*lines, f"  {whole['note']}"]
    lines.append(f"  threshold: logit {whole['threshold']['logit']:.3f}, {whole['threshold']['images']} images; "
                 f"{whole['threshold']['chosen_on']}")  # fmt: skip
    for name in MAIN:
        if name in whole["conditions"]["clean"]:
            lines += [f"  {TITLES[name]}", *_conditions(whole["conditions"], name)]
    return lines
