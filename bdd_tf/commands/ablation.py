"""`make ablation`: train, evaluate and store the eight rows of the channel ablation for several seeds; resumable.

Each run is a separate process. Results that exist under any name are not computed again, and an interrupted run is resumed.
The rows that answer the main question come first, with all their seeds.
"""

from __future__ import annotations

import argparse
import dataclasses
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bdd_tf.config import Experiment
from bdd_tf.errors import BddError, UsageError, exit_code
from bdd_tf.presets import experiment
from bdd_tf.reports.ablation_groups import FIRST, ROWS, SEEDS, label
from bdd_tf.reports.parsing import read_yaml
from bdd_tf.reports.store import RESULTS_DIR, run_or_result, runs_in, settings
from bdd_tf.runs import RUNS_DIR, Run

#: A small budget, equal for all rows: the ablation compares rows.
EPOCHS = 2


@dataclass(frozen=True)
class Step:
    """One run of the ablation.

    Attributes:
        name: Name of its run folder and stored result.
        config: Its experiment.
        state: ``done``, ``evaluated`` (not yet stored) or ``to do``.
    """

    name: str
    config: Experiment
    state: str


def order(seeds: Sequence[int]) -> list[tuple[tuple[str, ...], int]]:
    """Return rows and seeds in execution order; after an interruption, every row has about the same number of seeds."""
    later = [row for row in ROWS if row not in FIRST]
    return [(row, seed) for rows in (FIRST, later) for seed in seeds for row in rows]


def plan(
    base: Experiment, seeds: Sequence[int], runs: Path, results: Path, prefix: str = "ablation"
) -> list[Step]:
    """List the steps and the state of each.

    Args:
        base: All settings except channels and seed.
        seeds: At least one.
        runs: Folder of runs.
        results: Folder of stored results.
        prefix: Prefix of the names of new runs.

    Returns:
        The steps in the order of :func:`order`.

    Raises:
        UsageError: If another experiment uses one of the names.
    """
    stored, evaluated = ([(_settings(run), run) for run in runs_in(folder) if run.metrics("test").is_file()]
                         for folder in (results, runs))  # fmt: skip
    steps = []
    for row, seed in order(seeds):
        config = dataclasses.replace(base, channels=("rgb", *row), seed=seed)
        wanted = settings(config.to_dict())
        name = f"{prefix}-{config.dataset}-{config.backbone}-{config.epochs}ep-{'-'.join(row) or 'none'}-seed{seed}"
        found = next((run for there, run in evaluated if there == wanted), None)
        if any(there == wanted for there, _ in stored):
            state = "done"
        elif found is not None:
            state, name = "evaluated", found.name
        else:
            state = "to do"
            for folder in (runs, results):
                there = _settings(Run(Path(folder) / name))
                if there is not None and there != wanted:
                    raise UsageError(
                        f"{Path(folder) / name} holds another experiment; choose other names with --prefix."
                    )
        steps.append(Step(name, config, state))
    return steps


def _settings(run: Run) -> dict | None:
    try:
        return settings(read_yaml(run.config))
    except BddError:
        return None


def _bdd(*words: object) -> None:
    command = [sys.executable, "-m", "bdd_tf.cli", *map(str, words)]
    code = subprocess.run(command, check=False).returncode
    if code:
        raise BddError(
            f"`bdd {' '.join(map(str, words))}` ended with code {code}; the same command resumes from here."
        )


def execute(step: Step, runs: Path, results: Path, *, keep_checkpoints: bool = False) -> None:
    """Train, evaluate and store a run, except for the parts that are done.

    Args:
        step: A step of :func:`plan`.
        runs: Folder of runs.
        results: Folder of stored results.
        keep_checkpoints: Keep the checkpoints; else they are deleted when the run is stored.

    Raises:
        BddError: If one of the commands fails.
    """
    run = Run(Path(runs) / step.name)
    if step.state == "to do":
        plans = Path("build") / "ablation"
        step.config.save(plans / f"{step.name}.yaml")
        _bdd("train", "--config", plans / f"{step.name}.yaml", "--run", step.name, "--runs-dir", runs)
        _bdd("evaluate", "--run", step.name, "--runs-dir", runs)
    _bdd("report", "--store", step.name, "--runs-dir", runs, "--results-dir", results)
    if step.state == "to do" and not keep_checkpoints:
        # The optimizer states of 24 runs of BNext-N take 4 GB.
        shutil.rmtree(run.checkpoints, ignore_errors=True)


def _arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "python -m bdd_tf.commands.ablation", description=str(__doc__).split("\n", 1)[0]
    )
    parser.add_argument(
        "--like", metavar="RUN", help="a run, stored result or config.yaml with the common settings"
    )
    parser.add_argument("--preset", help="preset with the common settings; default scratch")
    parser.add_argument("--dataset")
    parser.add_argument("--data-dir")
    parser.add_argument("--backbone")
    parser.add_argument("--resolution", type=int)
    parser.add_argument("--epochs", type=int, help=f"default {EPOCHS}, or the value of --like or --preset")
    parser.add_argument("--batch", type=int)
    parser.add_argument(
        "--train-fraction", type=float, help="fraction of the training images that all runs use"
    )
    parser.add_argument("--seeds", default=",".join(map(str, SEEDS)), help="default %(default)s")
    parser.add_argument("--prefix", default="ablation", help="prefix of the runs' names")
    parser.add_argument(
        "--keep-checkpoints", action="store_true", help="do not delete the checkpoints of stored runs"
    )
    parser.add_argument("--dry-run", action="store_true", help="only print the steps")
    parser.add_argument("--runs-dir", type=Path, default=Path(RUNS_DIR))
    parser.add_argument("--results-dir", type=Path, default=Path(RESULTS_DIR))
    return parser


def base_experiment(args: argparse.Namespace) -> Experiment:
    """Build the settings that all runs share.

    Raises:
        UsageError: For invalid options.
    """
    names = ("dataset", "data_dir", "backbone", "resolution", "epochs", "batch", "train_fraction")
    given = {name: getattr(args, name) for name in names if getattr(args, name) is not None}
    if args.like is None:
        if args.preset is None:
            given.setdefault("epochs", EPOCHS)
        return experiment(args.preset, **given)
    if args.preset is not None:
        raise UsageError("--like and --preset exclude each other; give one of them.")
    path = Path(args.like)
    if not path.is_file():
        path = run_or_result(args.like, args.runs_dir, args.results_dir).config
    return dataclasses.replace(Experiment.load(path), **given)


def seeds_of(text: str) -> list[int]:
    """Parse seeds.

    Raises:
        UsageError: If they are not distinct whole numbers.
    """
    words = [word.strip() for word in text.split(",")]
    if not all(word.isdigit() for word in words) or len({*map(int, words)}) < len(words):
        raise UsageError(f"--seeds takes different whole numbers, e.g. --seeds 5,6,7; got {text!r}.")
    return [int(word) for word in words]


def _run(args: argparse.Namespace) -> None:
    steps = plan(base_experiment(args), seeds_of(args.seeds), args.runs_dir, args.results_dir, args.prefix)
    for number, step in enumerate(steps, 1):
        print(f"ablation {number} of {len(steps)}: {label(step.config.channels[1:])}, seed {step.config.seed}: "
              f"{step.name}: {step.state}", file=sys.stderr, flush=True)  # fmt: skip
        if step.state != "done" and not args.dry_run:
            execute(step, args.runs_dir, args.results_dir, keep_checkpoints=args.keep_checkpoints)


def main(argv: list[str] | None = None) -> int:
    """Run the ablation; returns the exit code."""
    args = _arguments().parse_args(argv)
    try:
        return exit_code(lambda: _run(args), "ablation")
    except KeyboardInterrupt:
        print("ablation: stopped; the same command resumes from here.", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
