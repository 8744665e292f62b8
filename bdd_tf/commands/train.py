"""`bdd train`: train a detector, or resume a training."""

from __future__ import annotations

import argparse
import dataclasses
import shlex
from pathlib import Path

from bdd_tf.config import PHOTOS, Experiment
from bdd_tf.console import say
from bdd_tf.errors import UsageError
from bdd_tf.extensions import as_options
from bdd_tf.runs import RUNS_DIR, Run, run_named
from bdd_tf.training.local import Job, check_processes, train_locally
from bdd_tf.training.options import add_arguments, experiment_from

__all__ = ["add_arguments", "main"]

_MAX_JOIN_SECONDS = 86_400


def main(args: argparse.Namespace) -> int:
    """Run `bdd train`; returns the exit code."""
    config = experiment_from(args)
    if config.freeze and not config.init:
        raise UsageError("--freeze 1 keeps the backbone's weights, so it needs --init with trained ones.")
    if args.loader_threads is not None and not 1 <= args.loader_threads <= 64:
        raise UsageError(f"--loader-threads must be in 1 to 64; got {args.loader_threads}.")
    if not 1 <= args.join_timeout <= _MAX_JOIN_SECONDS:
        raise UsageError(
            f"--join-timeout must be in 1 to {_MAX_JOIN_SECONDS} seconds; got {args.join_timeout:g}."
        )
    run = run_named(args.run or config.default_name, args.runs_dir)
    if not _train(config, run, args):
        return 0
    from bdd_tf.evaluation import evaluate
    from bdd_tf.figures import training

    training.training_history(run.figures / "history.png", run.history, title=run.name)
    for note in evaluate.evaluate_run(run, "validation").get("notes", []):
        say(f"warning: {note}")
    say(_next_commands(config, run, args))
    return 0


def _train(config: Experiment, run: Run, args: argparse.Namespace) -> bool:
    """Train alone, as one of several workers, or by several processes; return whether this process evaluates the run."""
    from bdd_tf.training import cluster as clusters

    cluster = None
    if args.processes is not None:
        check_processes(args.processes)
        if args.cluster:
            raise UsageError(
                f"--processes and --cluster {args.cluster} exclude each other; give one of them."
            )
    elif args.cluster == "slurm":
        cluster = clusters.from_slurm()
    else:
        cluster = clusters.from_environment()
        if cluster is None and args.cluster:
            raise UsageError(f"--cluster {args.cluster} needs {clusters.VARIABLE} with at least two workers.")
    count = len(cluster.addresses) if cluster else args.processes or 1
    config = dataclasses.replace(config, workers=count)
    # Imports TensorFlow: help and wrong options must not wait for it.
    from bdd_tf.training import trainer
    from bdd_tf.training.workers import grow_gpu_memory, join

    if count > 1 and cluster is None:
        # Every error of the request is found, and the images are prepared by all cores, before the processes start.
        grow_gpu_memory()
        trainer.check(config, run)
        job = Job(
            str(run.path), str(args.runs_dir), args.loader_threads, tuple(args.plugin), args.join_timeout
        )
        train_locally(config, job)
        return True
    workers = join(cluster, args.join_timeout)
    trainer.train(config, run, runs_dir=args.runs_dir, loader_threads=args.loader_threads, workers=workers)
    if not workers.chief:
        say(f"worker {workers.index} of {workers.count} has finished; worker 0 evaluates the run")
    return workers.chief


def _next_commands(config: Experiment, run: Run, args: argparse.Namespace) -> str:
    """Name the commands that evaluate and convert the run."""
    from bdd_tf.datasets.of_experiment import dataset_of

    again = f"--run {shlex.quote(args.run or run.name)}"
    if args.runs_dir != Path(RUNS_DIR):
        again += f" --runs-dir {shlex.quote(str(args.runs_dir))}"
    again += as_options(args.plugin)
    convert = f"bdd convert {again}"
    if config.dataset == PHOTOS:
        return f"next: bdd evaluate {again} --protocol photos; {convert}"
    if dataset_of(config).size("test"):
        return f"next: bdd evaluate {again}; {convert}"
    return (
        f"next: {convert}. The data set has no test split: bdd evaluate {again} --split validation, or a data set of its "
        "own with --dataset and --data-dir"
    )
