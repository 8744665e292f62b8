"""Train a detector in PyTorch, on a GPU, where TensorFlow is not at hand; `bdd convert --from-torch` brings it home.

On the machine with TensorFlow, pack the data and write the experiment down; then train on the other one, which needs
torch, NumPy and PyYAML and this source tree; then import::

    python -m converters.torch_pack --dataset cifake --data-dir ... --images cifake-32.npz --settings n.yaml
    python -m converters.torch_training --config n.yaml --data cifake-32.npz --output n.ckpt
    bdd convert --from-torch n.ckpt --run cifake-bnext-n

The settings are those of a config.yaml (:class:`bdd_tf.config.Experiment`). Beside them: an average of the weights
over steps is kept, and wins where validation says so; a teacher's scores may be learnt along with the labels. A killed
training goes on at the last epoch that was saved.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import math
import os
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from bdd_tf import metrics
from bdd_tf.config import Experiment
from bdd_tf.edge.labels import FAKE
from bdd_tf.errors import BddError, UsageError
from bdd_tf.models.registry import stem_stride
from bdd_tf.models.sizes import BNEXT, CLIP
from bdd_tf.schedule import learning_rate
from converters.torch_bnext import BinaryConv, Detector, Unit, sign
from converters.torch_channels import add_channels

#: Augmentations of :mod:`bdd_tf.datasets.augment` that are known here.
AUGMENTATIONS = ("flip", "vflip", "crop")
#: Training images whose statistics batch normalisation keeps at the end.
SETTLE = 12_800
#: Seconds between states that a killed training resumes from.
SAVE_SECONDS = 60.0
#: Temperature of the teacher's scores (Hinton et al., arXiv 1503.02531).
SOFTNESS = 2.0
EVALUATION_BATCH = 1000


def means_first(self: Unit, x: torch.Tensor) -> torch.Tensor:
    """:meth:`Unit.forward` with the gate's means taken first: the same function, fewer passes over memory."""
    residual = self.activation1(x) if self.attention else x
    y = self.activation2(self.norm1(self.binary_conv(sign(x + self.move.bias))))
    if self.stride == 2:
        residual, x = F.avg_pool2d(residual, 2), F.avg_pool2d(x, 2)
    mean_x, mean_y = (t.mean((2, 3), keepdim=True) for t in (x, y))
    y = self.se(self.scale * mean_x + (1 - self.scale) * mean_y) * y
    return self.norm2(y * residual if self.attention else y) + residual


class TrainedUnit(Unit):
    """A unit for training alone; comparisons use the published order of :class:`Unit`."""

    forward = means_first


def start(net: Detector) -> None:
    """Initial weights as the Keras model has them: the adapter passes RGB, latent weights are Glorot's."""
    with torch.no_grad():
        for module in net.modules():
            if isinstance(module, Unit):
                module.__class__ = TrainedUnit
            elif isinstance(module, BinaryConv):
                width, _, kernel, _ = module.weight.shape
                module.weight.normal_(0, 1 / math.sqrt(width * kernel * kernel))
        if isinstance(net.adapter, nn.Conv2d):
            net.adapter.weight.normal_(0, 0.05)
            net.adapter.weight[:, :3] = 0
            net.adapter.weight[range(3), range(3), 1, 1] = 1
            net.adapter.bias.zero_()


class Fake(nn.Module):
    """A network with the logit of FAKE as its output, [N]; the reference's detector has REAL's."""

    def __init__(self, net: nn.Module):
        super().__init__()
        self.net = net
        self.is_float = not isinstance(net, Detector)
        self.turned = 1.0 if self.is_float else -1.0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Channels [N, C, H, W] -> logits [N]."""
        return self.net(x)[:, 0] * self.turned


def network(config: Experiment, graph: dict | None = None) -> Fake:
    """An experiment's detector with its seed's initial weights.

    Args:
        config: The experiment.
        graph: Of a backbone that is no BNext: what :func:`converters.keras_graph.describe_graph` says.

    Raises:
        UsageError: If it cannot be trained here.
    """
    refused = [name for name in ("init", "freeze") if getattr(config, name)]
    if config.accumulate != 1:
        refused.append("accumulate")
    if refused:
        raise UsageError(f"{', '.join(refused)}: known to `bdd train` only; leave it out, or train there.")
    unknown = sorted(set(config.augment) - set(AUGMENTATIONS))
    if unknown:
        raise UsageError(f"augment {', '.join(unknown)}: known here are {', '.join(AUGMENTATIONS)}.")
    torch.manual_seed(config.seed)
    if config.backbone in BNEXT:
        stride = stem_stride(config.backbone, config.resolution, config.stem_stride)
        net: nn.Module = Detector(config.backbone, len(config.channels) - 1, stride)
        start(net)
    elif graph is None:
        raise UsageError(f"backbone {config.backbone} needs --graph, which converters.torch_pack writes.")
    else:
        from converters.torch_graph import GraphNet

        net = GraphNet(graph)
    return Fake(net.to(memory_format=torch.channels_last))


def augmented(images: torch.Tensor, index: torch.Tensor, names: tuple[str, ...]) -> torch.Tensor:
    """Images of a batch, changed at random as :func:`bdd_tf.datasets.augment.augment` changes them.

    Args:
        images: uint8 [n, S, S, 3], the whole split.
        index: Which of them, int64 [B].
        names: From :data:`AUGMENTATIONS`.

    Returns:
        uint8 [B, S, S, 3].
    """
    count, side = len(index), images.shape[1]
    rows = torch.arange(side, device=images.device).expand(count, side)
    columns = rows
    if "crop" in names:
        margin = max(side // 8, 1)
        shifts = (torch.rand(2, count, 1, device=images.device) * (2 * margin + 1)).long() - margin
        rows, columns = (
            torch.minimum(shifted.abs(), 2 * (side - 1) - shifted.abs())
            for shifted in (rows + shifts[0], columns + shifts[1])
        )
    if "flip" in names:
        columns = torch.where(torch.rand(count, 1, device=images.device) < 0.5, columns.flip(1), columns)
    if "vflip" in names:
        rows = torch.where(torch.rand(count, 1, device=images.device) < 0.5, rows.flip(1), rows)
    return images[index[:, None, None], rows[:, :, None], columns[:, None, :]]


def enlarged(images: torch.Tensor, side: int) -> torch.Tensor:
    """uint8 [N, S, S, 3] at a larger side, bilinear, for data packed at their own size; the same where it fits."""
    if images.shape[1] == side:
        return images
    x = images.permute(0, 3, 1, 2).float()
    x = F.interpolate(x, (side, side), mode="bilinear", align_corners=False)
    return x.add_(0.5).to(torch.uint8).permute(0, 2, 3, 1)


def clip(latent: list[torch.Tensor], mixing: list[torch.Tensor]) -> None:
    """Keep latent weights where the straight-through gradient passes, and mixing weights in [0, 1]."""
    torch._foreach_clamp_min_(latent, -CLIP)
    torch._foreach_clamp_max_(latent, CLIP)
    torch._foreach_clamp_min_(mixing, 0.0)
    torch._foreach_clamp_max_(mixing, 1.0)


class Training:
    """One experiment on one device.

    Args:
        config: The experiment.
        net: Its network, on the device.
        data: ``train`` and ``validation``, each uint8 images [n, S, S, 3] and float32 labels [n], on the device.
        teacher: Gives logits of FAKE, or None.
        weight: Of the teacher's part of the loss, in [0, 1].
        precision: Of autocast, or None for float32 (with TF32 products on a GPU).
        average: Decay of the average of weights.
        seconds: The schedule ends by then at the latest; None: with its epochs.
        compiled: Whether torch.compile makes the network's kernels.
    """

    def __init__(
        self,
        config: Experiment,
        net: Fake,
        data: dict[str, tuple[torch.Tensor, torch.Tensor]],
        *,
        teacher: Fake | None = None,
        weight: float = 0.5,
        precision: torch.dtype | None = None,
        average: float = 0.999,
        seconds: float | None = None,
        compiled: bool = False,
    ) -> None:
        self.config, self.net, self.data, self.teacher = config, net, data, teacher
        self.weight, self.precision, self.decay, self.limit = weight, precision, average, seconds
        self.images, self.labels = data["train"]
        self.device = self.images.device
        self.updates = len(self.images) // config.batch
        if not self.updates:
            raise UsageError(f"{len(self.images)} training images are less than a batch of {config.batch}.")
        fakes = float(self.labels.sum())
        reals = len(self.labels) - fakes
        self.fake_weight = reals / max(fakes, 1.0) if config.class_weights else 1.0
        self.parameters = [p for p in net.parameters() if p.requires_grad]
        self.average = [p.detach().clone() for p in self.parameters]
        self.latent = [m.weight for m in net.modules() if isinstance(m, BinaryConv)]
        self.mixing = [m.scale for m in net.modules() if isinstance(m, Unit)]
        on_gpu = self.device.type == "cuda"
        rate = torch.tensor(0.0, device=self.device) if on_gpu else 0.0
        fixed = {id(p) for p in self.latent} | {id(p) for p in self.parameters if p.ndim < 2}
        groups = [
            {"params": [p for p in self.parameters if (id(p) in fixed) == still], "weight_decay": decay}
            for still, decay in ((True, 0.0), (False, config.weight_decay))
        ]
        # epsilon 1e-7 as in Keras.
        self.optimizer = torch.optim.AdamW(
            [g for g in groups if g["params"]], rate, eps=1e-7, fused=True, capturable=on_gpu
        )
        self.index = torch.arange(config.batch, device=self.device)
        self.sums = torch.zeros(2, device=self.device)
        self.call: Callable[[torch.Tensor], torch.Tensor] = torch.compile(net) if compiled else net
        self.epoch, self.spent, self.history = 0, 0.0, []

    def _planes(self, images: torch.Tensor) -> torch.Tensor:
        images = enlarged(images, self.config.resolution)
        planes = add_channels(images, self.config.channels, self.config.variant)
        return planes.contiguous(memory_format=torch.channels_last)

    def _cast(self) -> torch.autocast:
        return torch.autocast(self.device.type, self.precision, enabled=self.precision is not None)

    def _loss(self, logit: torch.Tensor, labels: torch.Tensor, taught: torch.Tensor | None) -> torch.Tensor:
        smoothing = self.config.label_smoothing
        targets = labels * (1 - smoothing) + 0.5 * smoothing
        factor = torch.full_like(logit[:1], self.fake_weight)
        loss = F.binary_cross_entropy_with_logits(logit, targets, pos_weight=factor)
        if taught is None:
            return loss
        soft = F.binary_cross_entropy_with_logits(logit / SOFTNESS, torch.sigmoid(taught / SOFTNESS))
        return (1 - self.weight) * loss + self.weight * SOFTNESS**2 * soft

    def _update(self) -> None:
        """One step on the images of ``index``; nothing in it waits for the device, so that it can be captured."""
        labels = self.labels[self.index]
        with torch.no_grad():
            planes = self._planes(augmented(self.images, self.index, self.config.augment))
            taught = None
            if self.teacher is not None:
                # A float network loses nothing by it.
                with torch.autocast(self.device.type, torch.bfloat16, enabled=self.teacher.is_float):
                    taught = self.teacher(planes).float()
        with self._cast():
            logit = self.call(planes)
        logit = logit.float()
        loss = self._loss(logit, labels, taught)
        loss.backward()
        if self.config.clip_norm:
            nn.utils.clip_grad_norm_(self.parameters, self.config.clip_norm, foreach=True)
        self.optimizer.step()
        with torch.no_grad():
            if self.latent:
                clip(self.latent, self.mixing)
            torch._foreach_lerp_(self.average, self.parameters, 1 - self.decay)
            right = ((logit > 0) == (labels > 0.5)).float().mean()
            self.sums += torch.stack((loss.detach(), right))

    def _rate(self, update: int, elapsed: float) -> float:
        """Set the learning rate: the schedule stands where steps or time stand, whichever is further."""
        total = self.config.epochs * self.updates
        if self.limit is not None:
            update = max(update, min(int(elapsed / self.limit * total), total - 1))
        rate = learning_rate(self.config, update, self.updates)
        for group in self.optimizer.param_groups:
            if isinstance(group["lr"], torch.Tensor):
                group["lr"].fill_(rate)
            else:
                group["lr"] = rate
        return rate

    def _captured(self) -> Callable[[], None]:
        """The update as a CUDA graph: one launch instead of thousands, which take longer than their work."""
        kept = self._snapshot()
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(3):
                self.optimizer.zero_grad(set_to_none=True)
                self._update()
        torch.cuda.current_stream().wait_stream(stream)
        self.optimizer.zero_grad(set_to_none=True)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            self._update()
        self._restore(kept)
        return graph.replay

    def _snapshot(self) -> list[torch.Tensor]:
        return [t.detach().clone() for t in self._tensors()]

    def _restore(self, kept: list[torch.Tensor]) -> None:
        with torch.no_grad():
            own = self._tensors()
            for tensor, value in zip(
                own, kept + [torch.zeros_like(t) for t in own[len(kept) :]], strict=True
            ):
                tensor.copy_(value)

    def _tensors(self) -> list[torch.Tensor]:
        """What an update changes; the optimizer's state, which is 0 before the first update, last."""
        state = [v for s in self.optimizer.state.values() for v in s.values() if isinstance(v, torch.Tensor)]
        return [*self.parameters, *self.net.buffers(), *self.average, self.sums, *state]

    def epochs(self, save: Callable[[], None], say: Callable[[str], None]) -> None:
        """Train to the end, from where it stands.

        Args:
            save: Called after epochs, at most once in :data:`SAVE_SECONDS`.
            say: Takes a line of progress.
        """
        config = self.config
        began = time.monotonic() - self.spent
        self.net.train()
        update = self._captured() if self.device.type == "cuda" else self._plain
        if self.limit is not None and not self.epoch:
            began = time.monotonic()  # compiling is not training
        saved = time.monotonic()
        over = False
        while self.epoch < config.epochs and not over:
            order = torch.from_numpy(
                np.random.default_rng([config.seed, self.epoch, 0]).permutation(len(self.images))
            ).to(self.device)
            torch.manual_seed(hash((config.seed, self.epoch)) % 2**31)
            self.sums.zero_()
            done = 0
            for i in range(self.updates):
                elapsed = time.monotonic() - began
                if self.limit is not None and elapsed >= self.limit:
                    over = True
                    break
                rate = self._rate(self.epoch * self.updates + i, elapsed)
                self.index.copy_(order[i * config.batch : (i + 1) * config.batch])
                update()
                done += 1
                if i % 50 == 49 and self.device.type == "cuda":
                    torch.cuda.current_stream().synchronize()  # else the clock runs ahead of the work
            if not done:
                break
            loss, right = (self.sums / done).tolist()
            self.epoch += 1
            self.spent = time.monotonic() - began
            seen = (self.history[-1]["images"] if self.history else 0) + done * config.batch
            row = {
                "epoch": self.epoch, "images": seen, "loss": loss, "accuracy": right, "learning_rate": rate,
                **dict.fromkeys(("validation_loss", "validation_accuracy", "validation_auc")),
                "seconds": self.spent - sum(r["seconds"] for r in self.history),
            }  # fmt: skip
            last = over or self.epoch == config.epochs
            if self.epoch % 5 == 0 or self.epoch == 1 or last:
                row |= self.validate()
            self.history.append(row)
            if not math.isfinite(loss):
                raise BddError(f"the loss is {loss} in epoch {self.epoch}: lower the learning rate.")
            shown = row["validation_accuracy"]
            say(
                f"epoch {self.epoch}/{config.epochs}, loss {loss:.4f}, accuracy {right:.4f}, "
                + (f"validation {shown:.4f} AUC {row['validation_auc']:.5f}, " if shown is not None else "")
                + f"{self.spent:.0f} s, {seen / self.spent:.0f} images/s"
            )
            if time.monotonic() - saved > SAVE_SECONDS and not last:
                save()
                saved = time.monotonic()

    def _plain(self) -> None:
        self.optimizer.zero_grad(set_to_none=True)
        self._update()

    def _batches(self, split: str) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        images, labels = self.data[split]
        size = max(1, EVALUATION_BATCH * 32 * 32 // self.config.resolution**2)
        for first in range(0, len(images), size):
            yield images[first : first + size], labels[first : first + size]

    def scores(self, split: str) -> np.ndarray:
        """Logits of FAKE of a split's images, float32 [n]."""
        self.net.eval()
        with torch.inference_mode(), self._cast():
            parts = [self.net(self._planes(images)).float() for images, _ in self._batches(split)]
        self.net.train()
        return torch.cat(parts).cpu().numpy()

    def validate(self, split: str = "validation") -> dict[str, float]:
        """Loss, accuracy at 0.5 and AUC of a split, as in history.csv."""
        logits = torch.from_numpy(self.scores(split))
        labels = self.data[split][1].cpu()
        probability = torch.sigmoid(logits.double()).numpy()
        return {
            "validation_loss": float(F.binary_cross_entropy_with_logits(logits, labels)),
            "validation_accuracy": metrics.accuracy(labels.numpy().astype(int), probability),
            "validation_auc": metrics.auc(labels.numpy().astype(int), probability),
        }

    def settle(self) -> None:
        """Batch normalisation takes its statistics from training images, the weights at rest."""
        norms = [m for m in self.net.modules() if isinstance(m, nn.BatchNorm2d)]
        momenta = [norm.momentum for norm in norms]
        for norm in norms:
            norm.reset_running_stats()
            norm.momentum = None  # a plain average
        size = self.config.batch
        with torch.no_grad(), self._cast():
            for first in range(0, min(SETTLE, len(self.images) - size + 1), size):
                index = torch.arange(first, first + size, device=self.device)
                self.net(self._planes(augmented(self.images, index, self.config.augment)))
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum

    def choose(self, say: Callable[[str], None]) -> dict[str, float]:
        """Keep the last weights or their average, whichever has the higher validation AUC; returns its figures."""
        last = [p.detach().clone() for p in self.parameters]
        found = {}
        for name, values in (("last", last), ("average", self.average)):
            with torch.no_grad():
                torch._foreach_copy_(self.parameters, values)
            self.settle()
            state = {k: v.clone() for k, v in self.net.state_dict().items()}
            found[name] = (self.validate(), state)
            say(f"{name} weights: {found[name][0]}")
        best = max(found, key=lambda name: found[name][0]["validation_auc"])
        self.net.load_state_dict(found[best][1])
        return found[best][0]


def read_data(path: Path, device: torch.device) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
    """What :mod:`converters.torch_pack` wrote, on the device.

    Raises:
        BddError: If it is missing or not such a file.
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
            f"{path} does not hold packed images: {error}; converters.torch_pack writes it."
        ) from error


def write_checkpoint(
    path: Path, config: Experiment, net: Fake, history: list[dict], trainer: dict, *, signs: bool
) -> None:
    """The trained network, for `bdd convert --from-torch`.

    Args:
        path: Of the checkpoint; replaced atomically.
        config: The experiment.
        net: Trained.
        history: Rows of history.csv.
        trainer: What :func:`trainer` says.
        signs: Keep of latent weights only what counts: +-0.5 in half precision, which compresses sixteenfold.
    """
    inner = net.net
    # Where time ended the schedule, it was that of so many epochs.
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


def trainer(args: argparse.Namespace, device: torch.device) -> dict[str, str]:
    """Who trained, with which options beside the experiment, and where: for the run's ``trainer.json``.

    A time limit is not among them: the epochs that it allowed are the experiment's.
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
        "module": "converters.torch_training",
        "options": " ".join(map(str, options)),
        "torch": torch.__version__,
        "device": torch.cuda.get_device_name(device) if on_gpu else "CPU",
    }


def _save(value: object, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    torch.save(value, temporary)
    os.replace(temporary, path)


def _teacher(path: Path, device: torch.device) -> Fake:
    saved = torch.load(path, map_location="cpu", weights_only=True)
    net = network(Experiment.from_dict(json.loads(saved["config"])), json.loads(saved["graph"]))
    net.load_state_dict(saved["net"])
    return net.to(device, memory_format=torch.channels_last).eval().requires_grad_(False)


def _arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "python -m converters.torch_training", description=__doc__.split("\n\n")[0]
    )
    parser.add_argument("--config", type=Path, required=True, help="a config.yaml")
    parser.add_argument("--data", type=Path, required=True, help="packed images, .npz")
    parser.add_argument("--output", type=Path, required=True, help="checkpoint to write")
    parser.add_argument("--graph", type=Path, help="JSON of a backbone that is no BNext")
    parser.add_argument("--teacher", type=Path, help=".state.pt of a finished training")
    parser.add_argument("--teacher-weight", type=float, default=0.5)
    parser.add_argument("--average", type=float, default=0.999, help="decay of the average of weights")
    parser.add_argument("--precision", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument("--seconds", type=float, help="end the schedule by then")
    parser.add_argument("--compile", action="store_true", help="torch.compile")
    parser.add_argument("--signs", action="store_true", help="a small checkpoint: signs and half floats")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    for name in ("epochs", "batch", "seed"):
        parser.add_argument(f"--{name}", type=int, help="instead of the config's")
    return parser


def run(args: argparse.Namespace) -> dict[str, float]:
    """Train, choose, write; returns the chosen weights' figures on validation."""
    given = {k: getattr(args, k) for k in ("epochs", "batch", "seed") if getattr(args, k) is not None}
    config = dataclasses.replace(Experiment.load(args.config), **given)
    device = torch.device(args.device)
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
    torch.backends.cudnn.benchmark = True
    graph = json.loads(args.graph.read_text()) if args.graph else None
    net = network(config, graph).to(device, memory_format=torch.channels_last)
    precision = torch.bfloat16 if args.precision == "bfloat16" else None
    training = Training(
        config, net, read_data(args.data, device),
        teacher=_teacher(args.teacher, device) if args.teacher else None, weight=args.teacher_weight,
        precision=precision, average=args.average, seconds=args.seconds, compiled=args.compile,
    )  # fmt: skip
    name, path = args.output.stem, args.output.with_suffix(".state.pt")

    def say(text: str) -> None:
        print(f"{name}: {text}", file=sys.stderr, flush=True)

    def save() -> None:
        _save(
            {
                "net": net.state_dict(), "average": training.average, "optimizer": training.optimizer.state_dict(),
                "epoch": training.epoch, "spent": training.spent, "history": json.dumps(training.history),
                "config": json.dumps(config.to_dict()), "graph": json.dumps(graph),
            },
            path,
        )  # fmt: skip

    if path.is_file():
        saved = torch.load(path, map_location=device, weights_only=True)
        if json.loads(saved["config"]) != config.to_dict():
            raise UsageError(f"{path} belongs to other settings; give --output another name.")
        net.load_state_dict(saved["net"])
        with torch.no_grad():
            torch._foreach_copy_(training.average, saved["average"])
        training.optimizer.load_state_dict(saved["optimizer"])
        training.epoch, training.spent = saved["epoch"], saved["spent"]
        training.history = json.loads(saved["history"])
        say(f"resuming after epoch {training.epoch}")
    training.epochs(save, say)
    chosen = training.choose(say)
    training.history[-1] |= chosen
    save()
    write_checkpoint(args.output, config, net, training.history, trainer(args, device), signs=args.signs)
    say(f"{args.output}: {chosen}")
    return chosen


def main(argv: list[str] | None = None) -> int:
    """Run the command; returns the exit code."""
    try:
        run(_arguments().parse_args(argv))
    except BddError as error:
        print(f"torch_training: {error}", file=sys.stderr)
        return 2 if isinstance(error, UsageError) else 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
