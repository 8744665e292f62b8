"""Prepare a training on a machine without TensorFlow: pack the images, write the experiment and the graph.

`python -m bdd_tf.pytorch.pack --dataset cifake --data-dir ... --images cifake-32.npz --settings n.yaml` takes the
options of `bdd train`. :mod:`bdd_tf.pytorch.train` explains how to use the files.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import numpy as np

from bdd_tf.config import Experiment
from bdd_tf.datasets.of_experiment import dataset_of
from bdd_tf.datasets.pipeline import DataSet
from bdd_tf.errors import UsageError, exit_code
from bdd_tf.files import replace_atomically, write_atomically
from bdd_tf.models.bnext_sizes import BNEXT
from bdd_tf.training.options import add_arguments, experiment_from
from bdd_tf.training.weights import build


def pack(data: DataSet, path: Path) -> None:
    """Write the images and labels of the training and validation splits.

    Args:
        data: The data set.
        path: The .npz file to write, with uint8 ``train_images`` [n, S, S, 3] and ``train_labels`` [n], and the same for
            validation.
    """
    arrays: dict[str, np.ndarray] = {}
    for split in ("train", "validation"):
        images, labels = data.arrays(split)
        arrays |= {f"{split}_images": images, f"{split}_labels": labels[:, 0].astype(np.uint8)}
    path.parent.mkdir(parents=True, exist_ok=True)
    with replace_atomically(path) as temporary, temporary.open("wb") as file:
        np.savez(file, **arrays)


def graph_of(config: Experiment) -> dict | None:
    """Return the graph of an experiment's network, or None for a BNext, which has PyTorch code of its own."""
    if config.backbone in BNEXT:
        return None
    from bdd_tf.pytorch.keras_graph import describe_graph

    return describe_graph(build(config))


def main(argv: list[str] | None = None) -> int:
    """Run the command; return the exit code."""
    parser = argparse.ArgumentParser("python -m bdd_tf.pytorch.pack", description=__doc__.split("\n", 1)[0])
    add_arguments(parser)
    parser.add_argument("--images", type=Path, help="write the images to this .npz file")
    parser.add_argument("--settings", type=Path, help="write the experiment to this .yaml file")
    parser.add_argument(
        "--graph", type=Path, help="write the graph of a backbone other than BNext to this .json file"
    )
    args = parser.parse_args(argv)
    return exit_code(lambda: write_outputs(args), "bdd_tf.pytorch.pack: error")


def write_outputs(args: argparse.Namespace) -> None:
    """Write the files that the options name.

    Raises:
        UsageError: If they name none, or one that the experiment has not.
        BddError: If the data set cannot be read.
    """
    config = experiment_from(args)
    if not (args.images or args.settings or args.graph):
        raise UsageError("no output: give --images, --settings or --graph.")
    if args.settings:
        config.save(args.settings)
    if args.graph:
        graph = graph_of(config)
        if graph is None:
            raise UsageError(f"{config.backbone} needs no graph: omit --graph.")
        write_atomically(args.graph, json.dumps(graph).encode())
    if args.images:
        data = dataset_of(config)
        if not isinstance(data, DataSet):
            raise UsageError(
                "data set photos is degraded anew in each epoch and cannot be packed; train it with bdd train."
            )
        pack(data, args.images)


if __name__ == "__main__":
    sys.exit(main())
