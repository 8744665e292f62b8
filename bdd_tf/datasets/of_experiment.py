"""The data set of an experiment: the one place that turns a configuration into images."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

from bdd_tf.config import PHOTOS, Experiment
from bdd_tf.datasets.degrade import Degradation
from bdd_tf.datasets.photo_batches import Mixture
from bdd_tf.datasets.photo_set import PhotoDataSet, photo_set
from bdd_tf.datasets.pipeline import DataSet, load_dataset
from bdd_tf.datasets.sources import NEEDED

AnyDataSet = DataSet | PhotoDataSet


def dataset_of(
    config: Experiment,
    *,
    dataset: str | None = None,
    data_dir: str | None = None,
    need: Mapping[str, int] | None = None,
) -> AnyDataSet:
    """Open the data set of an experiment, or another one with the experiment's resolution and splits.

    Args:
        config: The experiment.
        dataset: Name of another data set; None: the experiment's own.
        data_dir: Its folder, archive or CSV; None: the experiment's, for its own data set.
        need: Splits that must contain images of both classes, each with the fewest images that it must have; None: the
            training split.

    Returns:
        The data set, ready for batches.

    Raises:
        UsageError: For an unknown name, a wrong path or layout, an empty class or split.
        BddError: For a damaged archive or a failed download.
    """
    own = dataset in (None, config.dataset)
    if (dataset or config.dataset) == PHOTOS and config.views is not None:
        mixture = Mixture(
            config.hold_out,
            config.own_decoders,
            config.own_decoder_share,
            images_per_epoch=config.images_per_epoch,
            seed=config.seed,
        )
        chain = Degradation(config.resolution, clean=config.clean_share, retouch=config.retouch_share)
        return photo_set(data_dir or config.data_dir, mixture, chain)
    return load_dataset(
        dataset or config.dataset,
        rule=config.rule,
        data_dir=dataclasses.replace(config.location, path=data_dir or config.data_dir) if own else data_dir,
        validation_fraction=config.validation_fraction,
        train_fraction=config.train_fraction,
        need=dict.fromkeys(NEEDED, 1) if need is None else need,
    )
