"""Prepare a training on a machine with PyTorch alone: pack the images, write the experiment and the graph.

`python -m converters.torch_pack --dataset cifake --data-dir ... --images cifake-32.npz --settings n.yaml` takes the
options of `bdd train`; what to do with the files says :mod:`converters.torch_training`.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import numpy as np

from bdd_tf.config import Experiment, write_atomically
from bdd_tf.datasets.pipeline import DataSet, load_dataset
from bdd_tf.errors import BddError, UsageError
from bdd_tf.models.sizes import BNEXT
from bdd_tf.training import add_arguments, build, experiment_from


def pack(data: DataSet, path: Path) -> None:
    """Write the images and labels that a training sees: train and validation, never test.

    Args:
        data: Prepared.
        path: ``.npz``; uint8 ``train_images`` [n, S, S, 3], ``train_labels`` [n], and the same for validation.
    """
    arrays = {}
    for split in ("train", "validation"):
        images, labels = data.arrays(split)
        arrays |= {f"{split}_images": images, f"{split}_labels": labels[:, 0].astype(np.uint8)}
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        with temporary.open("wb") as file:
            np.savez(file, **arrays)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def graph_of(config: Experiment) -> dict | None:
    """The network's graph where PyTorch has no code of ours for it; None for a BNext."""
    if config.backbone in BNEXT:
        return None
    from converters.keras_graph import describe_graph

    return describe_graph(build(config))


def main(argv: list[str] | None = None) -> int:
    """Run the command; returns the exit code."""
    parser = argparse.ArgumentParser("python -m converters.torch_pack", description=__doc__.split("\n", 1)[0])
    add_arguments(parser)
    parser.add_argument("--images", type=Path, help="write the data set's images here, .npz")
    parser.add_argument("--settings", type=Path, help="write the experiment here, .yaml")
    parser.add_argument(
        "--graph", type=Path, help="write the graph of a backbone that is no BNext here, .json"
    )
    args = parser.parse_args(argv)
    try:
        config = experiment_from(args)
        if not (args.images or args.settings or args.graph):
            raise UsageError("nothing to write: give --images, --settings or --graph.")
        if args.settings:
            config.save(args.settings)
        if args.graph:
            graph = graph_of(config)
            if graph is None:
                raise UsageError(f"{config.backbone} needs no graph: leave --graph out.")
            write_atomically(args.graph, json.dumps(graph).encode())
        if args.images:
            data = load_dataset(
                config.dataset, rule=config.rule, data_dir=config.data_dir,
                validation_fraction=config.validation_fraction,
                train_fraction=config.train_fraction,
            )  # fmt: skip
            pack(data, args.images)
    except BddError as error:
        print(f"torch_pack: {error}", file=sys.stderr)
        return 2 if isinstance(error, UsageError) else 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
