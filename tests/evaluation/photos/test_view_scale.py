"""Views of one image agree: how much the mean of several is worth."""

import numpy as np
import pytest

from bdd_tf.errors import UsageError
from bdd_tf.evaluation.photos.view_scale import agreement, scale


def views_with(share, images=4000, seed=0):
    """Logits of 1 to 12 views an image; a share of the variance within a class is common to an image's views."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 2, images)
    common = rng.normal(0, np.sqrt(share), images)
    each = [
        4 * label - 2 + c + rng.normal(0, np.sqrt(1 - share), rng.integers(1, 13))
        for label, c in zip(labels, common, strict=True)
    ]
    return each, labels.tolist()


@pytest.mark.parametrize("share", [0.0, 0.3, 0.8, 1.0])
def test_the_agreement_within_classes_is_found_whatever_separates_the_classes(share):
    assert agreement(*views_with(share)) == pytest.approx(share, abs=0.03)


def test_the_scale_keeps_the_mean_calibrated():
    """The mean of K views, times its factor, has the variance of a calibrated logit: twice its class mean."""
    rng = np.random.default_rng(0)
    share, count, half = 0.4, 8, 2.0  # one view: mean +-2, variance 4
    mean = (
        half
        + rng.normal(0, np.sqrt(4 * share), 100_000)
        + rng.normal(0, np.sqrt(4 * (1 - share) / count), 100_000)
    )
    scaled = scale(share, count)[-1] * mean
    assert scaled.var() == pytest.approx(2 * scaled.mean(), rel=0.03)


def test_views_that_agree_wholly_count_once_and_independent_ones_each():
    assert scale(1.0, 3) == (1.0, 1.0, 1.0)
    assert scale(0.0, 3) == (1.0, 2.0, 3.0)


def test_too_few_images_are_refused():
    with pytest.raises(UsageError, match="fewer than 40"):
        agreement([np.zeros(1)] * 100, [0, 1] * 50)
