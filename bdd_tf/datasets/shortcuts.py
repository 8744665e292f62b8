"""Find what makes results worthless before a training: classes that a single property of the files tells apart.

If all REAL images are JPEG and all FAKE ones PNG, a network learns the traces of the formats. Its accuracy is high on its own
data and nothing on others (Grommelt et al. 2024, Fake or JPEG?).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
from PIL import Image, UnidentifiedImageError

from bdd_tf.datasets.index import SPLITS, Entry, counts
from bdd_tf.edge.images.errors import ImageError
from bdd_tf.edge.images.formats import HEAD, family_of
from bdd_tf.edge.images.opening import open_regular
from bdd_tf.edge.labels import FAKE, LABELS, REAL

#: Balanced accuracy of one property from which on it is reported.
SUSPICIOUS = 0.8
#: A validation class with fewer images chooses thresholds and checkpoints by chance.
FEW = 10
#: Images per class that are opened for format and JPEG quality.
_SAMPLE = 1000


def warnings_of(entries: Sequence[Entry]) -> list[str]:
    """Return one sentence for each reason not to trust results on a data set.

    Args:
        entries: Its readable entries with splits.
    """
    found = []
    table = counts(entries)
    for label, word in enumerate(LABELS):
        number = table["validation"][label]
        if 0 < number < FEW:
            found.append(
                f"the validation split has {number} {word} image{'s' if number > 1 else ''}; checkpoints and thresholds "
                "are chosen on it, and so few choose by chance."
            )
    for split in SPLITS:
        if split != "validation" and 0 in (sizes := [*table[split].values()]) and any(sizes):
            word = LABELS[min(table[split], key=lambda label: table[split][label])]
            found.append(f"the {split} split has no {word} images.")
    train = [entry for entry in entries if entry.record.split == "train"]
    return found + _shortcuts(train)


def _shortcuts(train: Sequence[Entry]) -> list[str]:
    chosen = _sample(train)
    labels = np.array([entry.record.label for entry in chosen])
    if len(set(labels.tolist())) < 2:
        return []
    families, qualities = zip(*(_format_and_quality(entry) for entry in chosen), strict=True)
    found = []
    accuracy = categories(families, labels)
    if accuracy >= SUSPICIOUS:
        found.append(_sentence("file format", accuracy, _by_class(families, labels)))
    for name, values in (
        ("width", [e.width for e in chosen]),
        ("height", [e.height for e in chosen]),
        ("number of pixels", [e.width * e.height for e in chosen]),
    ):
        if (accuracy := threshold(values, labels)) >= SUSPICIOUS:
            found.append(_sentence(name, accuracy, _medians(values, labels)))
            break  # the others mean the same
    jpegs = np.array([quality is not None for quality in qualities])
    if len(set(labels[jpegs].tolist())) == 2:
        values = [quality for quality in qualities if quality is not None]
        if (accuracy := threshold(values, labels[jpegs])) >= SUSPICIOUS:
            found.append(_sentence("JPEG compression", accuracy, _medians(values, labels[jpegs])))
    return found


def threshold(values: Sequence[float], labels: np.ndarray) -> float:
    """Return the highest balanced accuracy of a threshold on one number per image, in either direction; 0.5 to 1.

    Args:
        values: One per image.
        labels: 0 or 1, [N]; both occur.
    """
    numbers = np.asarray(values, np.float64)
    order = np.argsort(numbers, kind="stable")
    fake = labels[order] == FAKE
    # Shares of each class at or below each value; equal values cannot be parted.
    last = np.append(np.diff(numbers[order]) > 0, True)
    below_fake = np.cumsum(fake)[last] / max(fake.sum(), 1)
    below_real = np.cumsum(~fake)[last] / max((~fake).sum(), 1)
    return float(0.5 + 0.5 * np.abs(below_fake - below_real).max())


def categories(values: Sequence[object], labels: np.ndarray) -> float:
    """Return the highest balanced accuracy of a rule that knows one category per image; 0.5 to 1."""
    shares = []
    for label in (REAL, FAKE):
        of_class = [value for value, own in zip(values, labels, strict=True) if own == label]
        shares.append({value: count / len(of_class) for value, count in Counter(of_class).items()})
    return 0.5 * sum(max(share.get(value, 0.0) for share in shares) for value in {*shares[0], *shares[1]})


def _sample(entries: Sequence[Entry]) -> list[Entry]:
    chosen = []
    for label in (REAL, FAKE):
        of_class = [entry for entry in entries if entry.record.label == label]
        chosen += of_class[:: max(1, len(of_class) // _SAMPLE)][:_SAMPLE]
    return chosen


def _format_and_quality(entry: Entry) -> tuple[str, float | None]:
    """Family of the format, and for JPEG the mean of the first quantization table, which falls with the quality."""
    try:
        with open_regular(entry.record.file) as file:
            family = family_of(file.read(HEAD) or b"") or "unknown"
            if family != "Jpeg":
                return family, None
            file.seek(0)
            with Image.open(file, formats=("JPEG", "MPO")) as image:
                tables = getattr(image, "quantization", {})
                return family, float(np.mean(tables[min(tables)])) if tables else None
    except (ImageError, OSError, ValueError, UnidentifiedImageError, SyntaxError):
        return "unknown", None


def _sentence(name: str, accuracy: float, values: str) -> str:
    return (
        f"the {name} alone tells REAL from FAKE for {accuracy:.0%} of the training images ({values}); a network will learn "
        f"it instead of the images. Store both classes alike."
    )


def _by_class(values: Sequence[str], labels: np.ndarray) -> str:
    parts = []
    for label, word in enumerate(LABELS):
        of_class = Counter(v for v, own in zip(values, labels, strict=True) if own == label)
        name, count = of_class.most_common(1)[0]
        parts.append(f"{word}: {count / sum(of_class.values()):.0%} {name.upper()}")
    return ", ".join(parts)


def _medians(values: Sequence[float], labels: np.ndarray) -> str:
    numbers = np.asarray(values, np.float64)
    return ", ".join(f"{word}: median {np.median(numbers[labels == i]):g}" for i, word in enumerate(LABELS))
