"""Packed data sets, checkpoints and resumable states of the PyTorch trainer."""

from __future__ import annotations

import argparse
import dataclasses
import json
from pathlib import Path

import numpy as np
import torch

from bdd_tf.config import Experiment
from bdd_tf.edge.labels import FAKE
from bdd_tf.errors import BddError, UsageError
from bdd_tf.files import replace_atomically
from bdd_tf.pytorch.bnext import Detector
from bdd_tf.pytorch.network import LogitWrapper, network
from bdd_tf.pytorch.trainer import Data, Training


def read_data(path: Path, device: torch.device) -> Data:
    """Load images packed by :mod:`bdd_tf.pytorch.pack` onto a device.

    Raises:
        BddError: If the file is missing, damaged, or of another kind.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            return {
                split: (
                    torch.from_numpy(file[f"{split}_images"]).to(device),
                    torch.from_numpy((file[f"{split}_labels"] == FAKE).astype(np.float32)).to(device),
                )
                for split in ("train", "validation")
            }
    except (OSError, ValueError, KeyError) as error:
        raise BddError(
            f"{path} does not hold packed images ({error}); `python -m bdd_tf.pytorch.pack` writes them."
        ) from error


def read_teacher(path: Path, device: torch.device) -> LogitWrapper:
    """Load the network of a finished training's state (``.state.pt``) as a teacher, on a device."""
    saved = torch.load(path, map_location="cpu", weights_only=True)
    net = network(Experiment.from_dict(json.loads(saved["config"])), json.loads(saved["graph"]))
    net.load_state_dict(saved["net"])
    return net.to(device, memory_format=torch.channels_last).eval().requires_grad_(False)


def save_state(path: Path, training: Training, graph: dict | None) -> None:
    """Save a training, so that it can be resumed.

    Args:
        path: File to write; replaced atomically.
        training: The training.
        graph: Graph of a backbone other than BNext.
    """
    state = {
        "net": training.net.state_dict(), "average": training.ema, "optimizer": training.optimizer.state_dict(),
        "epoch": training.epoch, "spent": training.spent, "history": json.dumps(training.history),
        "config": json.dumps(training.config.to_dict()), "graph": json.dumps(graph),
    }  # fmt: skip
    _save(state, path)


def resume(path: Path, training: Training) -> None:
    """Restore the state of a training that :func:`save_state` saved.

    Raises:
        UsageError: If it has other settings.
    """
    saved = torch.load(path, map_location=training.device, weights_only=True)
    if json.loads(saved["config"]) != training.config.to_dict():
        raise UsageError(f"{path} is the state of a training with other settings; choose another --output.")
    training.net.load_state_dict(saved["net"])
    with torch.no_grad():
        torch._foreach_copy_(training.ema, saved["average"])
    training.optimizer.load_state_dict(saved["optimizer"])
    training.epoch, training.spent = saved["epoch"], saved["spent"]
    training.history = json.loads(saved["history"])


def write_checkpoint(
    path: Path, config: Experiment, net: LogitWrapper, history: list[dict], trainer: dict, *, signs: bool
) -> None:
    """Write the trained network for `bdd convert --from-torch`.

    Args:
        path: File to write; replaced atomically.
        config: The experiment.
        net: The trained network.
        history: Rows of history.csv.
        trainer: As :func:`trainer_record` returns it.
        signs: Keep only the signs of latent weights, as +-0.5 in half precision, which compresses sixteenfold. For a float
            network: store its matrices in half precision.
    """
    inner = net.net
    # If a time limit ended the training, its schedule was that of the epochs that were completed.
    config = dataclasses.replace(config, epochs=len(history))
    about = {
        "bdd_tf": json.dumps(config.to_dict()),
        "bdd_tf_history": json.dumps(history),
        "bdd_tf_trainer": json.dumps(trainer),
    }
    if isinstance(inner, Detector):
        state = {k: v.detach().cpu().contiguous() for k, v in inner.state_dict().items()}
        if signs:
            state |= {
                k: torch.where(v < 0, -0.5, 0.5).half()
                for k, v in state.items()
                if k.endswith("binary_conv.weight")
            }
    else:
        state = {
            f"keras.{layer}.{i}": torch.from_numpy(np.ascontiguousarray(array))
            for layer, arrays in inner.arrays().items()
            for i, array in enumerate(arrays)
        }
        if signs:
            state = {k: v.half() if v.ndim > 1 else v for k, v in state.items()}
    _save({"state_dict": state, "hyper_parameters": about}, path)


def trainer_record(args: argparse.Namespace, device: torch.device) -> dict[str, str]:
    """Return the module, options and device of a training, for the run's ``trainer.json``.

    A time limit is not recorded: the number of completed epochs becomes part of the experiment.

    Args:
        args: The parsed options of :mod:`bdd_tf.pytorch.train`.
        device: The device.
    """
    options = [
        *(["--teacher", args.teacher.name, "--teacher-weight", args.teacher_weight] if args.teacher else []),
        "--average", args.average,
        *(["--precision", args.precision] if args.precision != "float32" else []),
        *(["--compile"] if args.compile else []),
        *(["--signs"] if args.signs else []),
    ]  # fmt: skip
    on_gpu = device.type == "cuda"
    return {
        "module": "bdd_tf.pytorch.train",
        "options": " ".join(map(str, options)),
        "torch": torch.__version__,
        "device": torch.cuda.get_device_name(device) if on_gpu else "CPU",
    }


def _save(value: object, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with replace_atomically(path) as temporary:
        torch.save(value, temporary)
