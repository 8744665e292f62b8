"""The run, data set and split of an evaluation."""

from __future__ import annotations

from dataclasses import dataclass

from bdd_tf.config import Experiment
from bdd_tf.datasets.index import SPLITS
from bdd_tf.datasets.of_experiment import AnyDataSet, dataset_of
from bdd_tf.datasets.sources import NEEDED
from bdd_tf.errors import UsageError, one_of
from bdd_tf.runs import Run


@dataclass(frozen=True)
class Subject:
    """A run and the split of a data set on which it is evaluated.

    Attributes:
        run: The run's folder.
        config: The run's experiment.
        data: The data set.
        split: Split of the data set.
        own: Whether the run was trained on this data set.
    """

    run: Run
    config: Experiment
    data: AnyDataSet
    split: str
    own: bool

    @classmethod
    def of(cls, run: Run, split: str, dataset: str | None = None, data_dir: str | None = None) -> Subject:
        """Load the data; arguments and errors as for :func:`bdd_tf.evaluation.evaluate.evaluate_run`."""
        if split not in SPLITS:
            raise one_of("split", split, SPLITS)
        config = Experiment.load(run.config)
        own = is_own(config, dataset)
        if not own and data_dir is None and dataset not in ("cifake", "sample"):
            raise UsageError(f"--dataset {dataset} needs --data-dir.")
        data = dataset_of(
            config,
            dataset=dataset,
            data_dir=data_dir,
            # A run's validation split may be a part of its training split.
            need=dict.fromkeys(NEEDED if own and split == "validation" else (split,), 1),
        )
        return cls(run, config, data, split, own)

    @property
    def key(self) -> str:
        """Suffix of its file names in the run folder."""
        return self.split if self.own else f"{self.data.name}-{self.split}"

    @property
    def title(self) -> str:
        """Title of its figures."""
        return f"{self.run.name} on {self.data.name}"


def is_own(config: Experiment, dataset: str | None) -> bool:
    """Return whether a run was trained on a data set; None means its own."""
    return dataset in (None, config.dataset)
