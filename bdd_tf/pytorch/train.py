"""Train a detector with PyTorch on a GPU machine without TensorFlow; `bdd convert --from-torch` imports the result.

On the machine with TensorFlow, pack the images and write the experiment. Train on the other machine, which needs torch,
NumPy, PyYAML and this source tree. Then import the checkpoint::

    python -m bdd_tf.pytorch.pack --dataset cifake --data-dir ... --images cifake-32.npz --settings n.yaml
    python -m bdd_tf.pytorch.train --config n.yaml --data cifake-32.npz --output n.ckpt
    bdd convert --from-torch n.ckpt --run cifake-bnext-n

The settings are those of a config.yaml (:class:`bdd_tf.config.Experiment`). In addition, an exponential moving average of
the weights is kept, which replaces them if its validation AUC is higher, and the scores of a teacher can be distilled. A
training that was interrupted resumes after the last saved epoch.
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import json
import sys
from pathlib import Path

try:
    import torch
except ModuleNotFoundError:
    if __name__ != "__main__":
        raise
    sys.exit(
        "python -m bdd_tf.pytorch.train needs PyTorch: pip install torch, or pip install 'bdd_tf[torch]'."
    )

from bdd_tf import console
from bdd_tf.config import Experiment
from bdd_tf.errors import exit_code
from bdd_tf.pytorch.checkpoint import (
    read_data,
    read_teacher,
    resume,
    save_state,
    trainer_record,
    write_checkpoint,
)
from bdd_tf.pytorch.network import network
from bdd_tf.pytorch.trainer import TrainerOptions, Training


def _arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("python -m bdd_tf.pytorch.train", description=__doc__.split("\n\n")[0])
    parser.add_argument(
        "--config", type=Path, required=True, help="settings of the experiment, a config.yaml"
    )
    parser.add_argument("--data", type=Path, required=True, help="packed images, .npz")
    parser.add_argument("--output", type=Path, required=True, help="the checkpoint to write")
    parser.add_argument("--graph", type=Path, help="graph of a backbone other than BNext, .json")
    parser.add_argument("--teacher", type=Path, help="distill this finished training, a .state.pt file")
    parser.add_argument(
        "--teacher-weight", type=float, default=0.5, help="share of the distillation loss; default 0.5"
    )
    parser.add_argument(
        "--average",
        type=float,
        default=0.999,
        help="decay of the moving average of the weights; default 0.999",
    )
    parser.add_argument(
        "--precision", choices=("float32", "bfloat16"), default="float32", help="precision; default float32"
    )
    parser.add_argument("--seconds", type=float, help="time limit; the schedule is completed within it")
    parser.add_argument("--compile", action="store_true", help="generate kernels with torch.compile")
    parser.add_argument(
        "--signs", action="store_true", help="write a small checkpoint: signs of binary weights only"
    )
    parser.add_argument(
        "--device", default="cuda" if torch.cuda.is_available() else "cpu", help="default: cuda if available"
    )
    for name in ("epochs", "batch", "seed"):
        parser.add_argument(f"--{name}", type=int, help=f"override the {name} of --config")
    return parser


def run(args: argparse.Namespace) -> dict[str, float | None]:
    """Train, choose the weights and write the checkpoint; return the validation metrics of the chosen weights.

    Raises:
        UsageError: If the experiment cannot be trained with PyTorch, or the output belongs to another one.
        BddError: If a file cannot be read, or the loss is not finite.
    """
    given = {k: getattr(args, k) for k in ("epochs", "batch", "seed") if getattr(args, k) is not None}
    config = dataclasses.replace(Experiment.load(args.config), **given)
    device = torch.device(args.device)
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
    torch.backends.cudnn.benchmark = True
    graph = json.loads(args.graph.read_text()) if args.graph else None
    net = network(config, graph).to(device, memory_format=torch.channels_last)
    options = TrainerOptions(
        teacher=read_teacher(args.teacher, device) if args.teacher else None,
        distillation_weight=args.teacher_weight,
        precision=torch.bfloat16 if args.precision == "bfloat16" else None,
        ema_decay=args.average,
        seconds=args.seconds,
        compiled=args.compile,
    )
    training = Training(config, net, read_data(args.data, device), options)
    state = args.output.with_suffix(".state.pt")

    say = functools.partial(console.say, prefix=args.output.stem)

    def save() -> None:
        save_state(state, training, graph)

    if state.is_file():
        resume(state, training)
        say(f"resuming after epoch {training.epoch}")
    training.epochs(save, say)
    chosen = training.choose(say)
    training.history[-1] |= chosen
    save()
    record = trainer_record(args, device)
    write_checkpoint(args.output, config, net, training.history, record, signs=args.signs)
    say(f"{args.output}: {chosen}")
    return chosen


def main(argv: list[str] | None = None) -> int:
    """Run the command; return the exit code."""
    return exit_code(lambda: run(_arguments().parse_args(argv)), "bdd_tf.pytorch.train: error")


if __name__ == "__main__":
    sys.exit(main())
