"""Statistics by which RGB in [0, 1] is normalised in front of a backbone, by name. Its weights expect those of its training."""

from __future__ import annotations

from bdd_tf.errors import one_of
from bdd_tf.models.imagenet import MEAN, STD

#: Name -> mean and standard deviation per channel. ``imagenet``: most networks of torchvision and Keras. ``clip``: OpenAI's
#: CLIP and open_clip. ``half``: the original ViT (arXiv 2010.11929), whose input is in [-1, 1].
NORMALISATIONS: dict[str, tuple[tuple[float, ...], tuple[float, ...]]] = {
    "imagenet": (MEAN, STD),
    "clip": ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)),
    "half": ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
}


def check_normalisation(name: str) -> str:
    """Return the name.

    Raises:
        UsageError: If it is not one of :data:`NORMALISATIONS`.
    """
    if name not in NORMALISATIONS:
        raise one_of("normalisation", name, tuple(NORMALISATIONS))
    return name
