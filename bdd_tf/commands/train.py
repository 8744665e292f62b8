"""`bdd train`: train a detector, or resume a training."""

from __future__ import annotations

import argparse

from bdd_tf.console import say
from bdd_tf.errors import UsageError
from bdd_tf.extensions import as_options
from bdd_tf.runs import run_named
from bdd_tf.training.options import add_arguments, experiment_from

__all__ = ["add_arguments", "main"]


def main(args: argparse.Namespace) -> int:
    """Run `bdd train`; returns the exit code."""
    config = experiment_from(args)
    if config.freeze and not config.init:
        raise UsageError("--freeze 1 keeps the backbone's weights, so it needs --init with trained ones.")
    if args.loader_threads is not None and not 1 <= args.loader_threads <= 64:
        raise UsageError(f"--loader-threads must be in 1 to 64; got {args.loader_threads}.")
    run = run_named(args.run or config.default_name, args.runs_dir)
    # Imports TensorFlow: help and wrong options must not wait for it.
    from bdd_tf.training.trainer import train

    train(config, run, runs_dir=args.runs_dir, loader_threads=args.loader_threads)
    from bdd_tf.evaluation import evaluate
    from bdd_tf.figures import training

    training.training_history(run.figures / "history.png", run.history, title=run.name)
    for note in evaluate.evaluate_run(run, "validation").get("notes", []):
        say(f"warning: {note}")
    again = f"--run {run.name}{as_options(args.plugin)}"
    say(f"next: bdd evaluate {again}; bdd convert {again}")
    return 0
