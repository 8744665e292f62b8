"""Hold-out of generators and cameras: what training may see, and what remains unseen for the test."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from bdd_tf.datasets.photos import OWN_DECODERS, Photo
from bdd_tf.edge.labels import REAL
from bdd_tf.errors import UsageError, one_of

#: Real sources that every fold holds out: false alarms are counted on cameras that training never saw.
REAL_HELD_OUT = ("photo-stream", "beauwoods-portfolio", "flickr8k", "cid22-512")
#: Generators that are held out together, by fold.
FOLDS = {
    "A": ("flux", "sd3", "qwen", *REAL_HELD_OUT),
    "B": ("nano-banana", "stylegan", *REAL_HELD_OUT),
    "C": ("ldm-2022", "sd-1-2", *REAL_HELD_OUT),
    "final": REAL_HELD_OUT,
}


@dataclass(frozen=True)
class Fold:
    """A division of a manifest.

    Attributes:
        hold_out: The held-out families and sources.
        train: Images for training: split ``train``, nothing held out, no content of the test.
        validation: Images of the ``validation`` split from sources that training sees.
        test: Images of held-out families and sources, from both splits, whose content training does not see.
        left_out: Counts of images in neither, by reason.
    """

    hold_out: tuple[str, ...]
    train: tuple[Photo, ...]
    validation: tuple[Photo, ...]
    test: tuple[Photo, ...]
    left_out: dict[str, int]


def hold_out_names(given: str | tuple[str, ...], photos: list[Photo]) -> tuple[str, ...]:
    """Names to hold out from what a user gave.

    Args:
        given: A key of :data:`FOLDS`, a JSON file (a list of names), comma-separated names, or a tuple of names.
        photos: The manifest, which must have every name as a family or source.

    Returns:
        Families and sources, in the given order, each once.

    Raises:
        UsageError: For an unknown name or an unreadable file.
    """
    if isinstance(given, str):
        if given in FOLDS:
            given = FOLDS[given]
        elif given.endswith(".json"):
            given = _from_file(Path(given))
        else:
            given = tuple(name.strip() for name in given.split(",") if name.strip())
    known = sorted({name for photo in photos for name in photo.names})
    for name in given:
        if name not in known:
            raise one_of("family or source", name, tuple(known))
    return tuple(dict.fromkeys(given))


def _from_file(file: Path) -> tuple[str, ...]:
    try:
        names = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UsageError(f"{file} cannot be read as JSON: {error}.") from error
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise UsageError(f'{file} must hold a list of families and sources, e.g. ["flux", "flickr8k"].')
    return tuple(names)


def divide(photos: list[Photo], hold_out: str | tuple[str, ...] = (), shared: str = "test") -> Fold:
    """Divide a manifest so that training sees nothing that is held out, and the test nothing that training saw.

    Content never straddles: a content that a held-out image shares with a training image is removed from one of the
    two. Several generators may have drawn the same few prompts; removed from training, they would take all other
    generators along, so the test gives them up by default.

    Args:
        photos: The manifest.
        hold_out: As for :func:`hold_out_names`.
        shared: ``test``: shared contents stay in training and leave the test; ``train``: the other way round.

    Returns:
        The fold.

    Raises:
        UsageError: For an unknown name or rule, or where a class has no training images.
    """
    if shared not in ("test", "train"):
        raise one_of("rule for shared contents", shared, ("test", "train"))
    names = hold_out_names(hold_out, photos)
    out = frozenset(names)
    held = [photo for photo in photos if photo.names & out]
    kept = [photo for photo in photos if not photo.names & out]
    # Reconstructions of held-out photographs show what the held-out camera took.
    held_real = {photo.content for photo in held if photo.label == REAL}
    own = [photo for photo in kept if photo.family == OWN_DECODERS and photo.content in held_real]
    dropped = {photo.path for photo in own}
    train = [photo for photo in kept if photo.split == "train" and photo.path not in dropped]
    validation = [photo for photo in kept if photo.split == "validation" and photo.path not in dropped]
    left_out = Counter({"reconstruction of a held-out photograph": len(own)})
    # Held-out images of the validation split share no content with training, whoever gives way.
    seen = {photo.content for photo in train} | {photo.group for photo in train}
    test = held
    if shared == "test":
        test = [photo for photo in held if photo.content not in seen and photo.group not in seen]
        left_out["held out, but its content is in training"] += len(held) - len(test)
    else:
        unseen = {photo.content for photo in held} | {photo.group for photo in held}
        kept_train = [p for p in train if p.content not in unseen and p.group not in unseen]
        left_out["training image whose content is held out"] += len(train) - len(kept_train)
        train = kept_train
    for label, word in ((0, "REAL"), (1, "FAKE")):
        if not any(photo.label == label for photo in train):
            raise UsageError(f"holding out {', '.join(names)} leaves no {word} images for training.")
    return Fold(names, tuple(train), tuple(validation), tuple(test), {k: v for k, v in left_out.items() if v})


def divide_whole(whole: list[Photo], fold: Fold) -> dict[str, list[Photo]]:
    """Whole validation images by what training knows of them.

    Args:
        whole: Rows of the manifest of whole images.
        fold: The division of the crops' manifest.

    Returns:
        ``validation``: images of sources that training sees; ``test``: images of held-out families and sources.
        Images whose content training sees are in neither.
    """
    out = frozenset(fold.hold_out)
    seen = {photo.content for photo in fold.train}
    unseen = [photo for photo in whole if photo.content not in seen]
    return {
        "validation": [photo for photo in unseen if not photo.names & out],
        "test": [photo for photo in unseen if photo.names & out],
    }
