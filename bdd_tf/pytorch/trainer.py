"""The training loop in PyTorch."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from bdd_tf.config import Experiment
from bdd_tf.errors import BddError, UsageError
from bdd_tf.metrics import classification
from bdd_tf.models.bnext_sizes import CLIP
from bdd_tf.pytorch.augment import augmented, enlarged
from bdd_tf.pytorch.batch_norm import update_bn
from bdd_tf.pytorch.bnext import BinaryConv, Unit
from bdd_tf.pytorch.channels import add_channels
from bdd_tf.pytorch.cuda_graph import capture
from bdd_tf.pytorch.loss import Loss
from bdd_tf.pytorch.network import LogitWrapper
from bdd_tf.training.schedule import learning_rate

#: Number of training images on which the final batch norm statistics are estimated.
UPDATE_BN_IMAGES = 12_800
#: Shortest time in seconds between two saved states of a training.
SAVE_SECONDS = 60.0
#: Batch size of an evaluation at 32 px; larger images have proportionally smaller batches.
EVALUATION_BATCH = 1000
#: An epoch is validated if it is the first, the last, or a multiple of this number.
_VALIDATE_EVERY = 5
#: Steps between synchronisations with the GPU. Without them the clock would run ahead of the work.
_SYNCHRONISE_EVERY = 50

#: ``train`` and ``validation``, each uint8 images [n, S, S, 3] and float32 labels [n] (1: FAKE), on the device.
Data = dict[str, tuple[torch.Tensor, torch.Tensor]]


@dataclass(frozen=True)
class TrainerOptions:
    """Options of a training that are not part of the experiment.

    Attributes:
        teacher: Network whose logits are distilled, on the device; None: no distillation.
        distillation_weight: Share of the distillation loss, in [0, 1].
        precision: dtype of autocast; None: float32 (with TF32 matrix products on a GPU).
        ema_decay: Decay of the exponential moving average (EMA) of the weights.
        seconds: Time limit, within which the learning rate schedule is completed; None: no limit.
        compiled: Whether torch.compile generates the network's kernels.
    """

    teacher: LogitWrapper | None = None
    distillation_weight: float = 0.5
    precision: torch.dtype | None = None
    ema_decay: float = 0.999
    seconds: float | None = None
    compiled: bool = False


def clip(latent: list[torch.Tensor], mixing: list[torch.Tensor]) -> None:
    """Clip latent weights to the range of the straight-through gradient, and mixing weights to [0, 1], in place."""
    torch._foreach_clamp_min_(latent, -CLIP)
    torch._foreach_clamp_max_(latent, CLIP)
    torch._foreach_clamp_min_(mixing, 0.0)
    torch._foreach_clamp_max_(mixing, 1.0)


def make_optimizer(
    config: Experiment, parameters: list[torch.Tensor], latent: list[torch.Tensor]
) -> torch.optim.AdamW:
    """Make AdamW with the settings of the Keras optimizer.

    Args:
        config: The experiment.
        parameters: All trainable weights.
        latent: Latent weights of binary convolutions. Neither these nor vectors decay.
    """
    on_gpu = parameters[0].device.type == "cuda"
    rate = torch.tensor(0.0, device=parameters[0].device) if on_gpu else 0.0
    undecayed = {id(p) for p in latent} | {id(p) for p in parameters if p.ndim < 2}
    groups = [
        {"params": [p for p in parameters if (id(p) in undecayed) == without], "weight_decay": decay}
        for without, decay in ((True, 0.0), (False, config.weight_decay))
    ]
    # Keras' default epsilon is 1e-7, torch's is 1e-8.
    return torch.optim.AdamW(
        [g for g in groups if g["params"]], rate, eps=1e-7, fused=True, capturable=on_gpu
    )


class Training:
    """The training of one experiment on one device.

    Args:
        config: The experiment.
        net: Its network, on the device.
        data: Its images and labels.
        options: Further options.

    Attributes:
        ema: Exponential moving average of the weights, in the order of the network's parameters.
        epoch: Number of finished epochs.
        spent: Training time in seconds.
        history: A row of history.csv per finished epoch.

    Raises:
        UsageError: If there are fewer training images than a batch needs.
    """

    def __init__(
        self, config: Experiment, net: LogitWrapper, data: Data, options: TrainerOptions | None = None
    ) -> None:
        self.config, self.net, self.data, self.options = config, net, data, options or TrainerOptions()
        self.images, self.labels = data["train"]
        self.device = self.images.device
        self.updates = len(self.images) // config.batch
        if not self.updates:
            raise UsageError(f"{len(self.images)} training images are less than a batch of {config.batch}.")
        fakes = float(self.labels.sum())
        fake_weight = (len(self.labels) - fakes) / max(fakes, 1.0) if config.class_weights else 1.0
        self.loss = Loss(fake_weight, config.label_smoothing, self.options.distillation_weight)
        self.parameters = [p for p in net.parameters() if p.requires_grad]
        self.ema = [p.detach().clone() for p in self.parameters]
        self.latent = [m.weight for m in net.modules() if isinstance(m, BinaryConv)]
        self.mixing = [m.scale for m in net.modules() if isinstance(m, Unit)]
        self.optimizer = make_optimizer(config, self.parameters, self.latent)
        self.index = torch.arange(config.batch, device=self.device)
        #: Sums of loss and accuracy over the steps of an epoch.
        self.sums = torch.zeros(2, device=self.device)
        self.call: Callable[[torch.Tensor], torch.Tensor] = (
            torch.compile(net) if self.options.compiled else net
        )
        self.epoch, self.spent = 0, 0.0
        self.history: list[dict] = []

    def epochs(self, save: Callable[[], None], say: Callable[[str], None]) -> None:
        """Train until the end, starting after the last finished epoch.

        Args:
            save: Saves the state. Called after an epoch, at most once in :data:`SAVE_SECONDS`.
            say: Prints a line of progress.

        Raises:
            BddError: If the loss is not finite.
        """
        began = time.monotonic() - self.spent
        self.net.train()
        update = self._plain
        if self.device.type == "cuda":
            update = capture(self._update, self._clear_gradients, self._state)
        if self.options.seconds is not None and not self.epoch:
            began = time.monotonic()  # the time limit does not include compilation
        saved = time.monotonic()
        over = False
        while self.epoch < self.config.epochs and not over:
            steps, rate, over = self._run_epoch(update, began)
            if not steps:
                break
            last = over or self.epoch + 1 == self.config.epochs
            say(self._finish_epoch(steps, rate, time.monotonic() - began, last))
            if time.monotonic() - saved > SAVE_SECONDS and not last:
                save()
                saved = time.monotonic()

    def _run_epoch(self, update: Callable[[], None], began: float) -> tuple[int, float, bool]:
        """Run the steps of an epoch; return their number, the last learning rate, and whether the time is over."""
        order = torch.from_numpy(
            np.random.default_rng([self.config.seed, self.epoch, 0]).permutation(len(self.images))
        ).to(self.device)
        torch.manual_seed(hash((self.config.seed, self.epoch)) % 2**31)
        self.sums.zero_()
        batch, limit, rate = self.config.batch, self.options.seconds, 0.0
        for i in range(self.updates):
            elapsed = time.monotonic() - began
            if limit is not None and elapsed >= limit:
                return i, rate, True
            rate = self._set_rate(self.epoch * self.updates + i, elapsed)
            self.index.copy_(order[i * batch : (i + 1) * batch])
            update()
            if i % _SYNCHRONISE_EVERY == _SYNCHRONISE_EVERY - 1 and self.device.type == "cuda":
                torch.cuda.current_stream().synchronize()
        return self.updates, rate, False

    def _finish_epoch(self, steps: int, rate: float, spent: float, last: bool) -> str:
        """Validate if it is due and add a row to the history; return a line of progress."""
        loss, accuracy = (self.sums / steps).tolist()
        self.epoch += 1
        self.spent = spent
        seen = (self.history[-1]["images"] if self.history else 0) + steps * self.config.batch
        row = {
            "epoch": self.epoch, "images": seen, "loss": loss, "accuracy": accuracy, "learning_rate": rate,
            **dict.fromkeys(("validation_loss", "validation_accuracy", "validation_auc")),
            "seconds": spent - sum(r["seconds"] for r in self.history),
        }  # fmt: skip
        if self.epoch % _VALIDATE_EVERY == 0 or self.epoch == 1 or last:
            row |= self.validate()
        self.history.append(row)
        if not math.isfinite(loss):
            raise BddError(f"the loss is {loss} in epoch {self.epoch}: lower the learning rate.")
        validated = row["validation_accuracy"]
        return (
            f"epoch {self.epoch}/{self.config.epochs}, loss {loss:.4f}, accuracy {accuracy:.4f}, "
            + (
                f"validation {validated:.4f} AUC {row['validation_auc']:.5f}, "
                if validated is not None
                else ""
            )
            + f"{spent:.0f} s, {seen / spent:.0f} images/s"
        )

    def _plain(self) -> None:
        self._clear_gradients()
        self._update()

    def _clear_gradients(self) -> None:
        self.optimizer.zero_grad(set_to_none=True)

    def _update(self) -> None:
        """Run one step on the images of ``index``. It never waits for the device, so that it can be captured."""
        labels = self.labels[self.index]
        teacher = self.options.teacher
        with torch.no_grad():
            channels = self._input(augmented(self.images, self.index, self.config.augment))
            taught = None
            if teacher is not None:
                # bfloat16 flips signs of a binary teacher; a float teacher is accurate enough in it.
                with torch.autocast(self.device.type, torch.bfloat16, enabled=teacher.is_float):
                    taught = teacher(channels).float()
        with self._autocast():
            logit = self.call(channels)
        logit = logit.float()
        loss = self.loss(logit, labels, taught)
        loss.backward()
        if self.config.clip_norm:
            nn.utils.clip_grad_norm_(self.parameters, self.config.clip_norm, foreach=True)
        self.optimizer.step()
        with torch.no_grad():
            if self.latent:
                clip(self.latent, self.mixing)
            torch._foreach_lerp_(self.ema, self.parameters, 1 - self.options.ema_decay)
            accuracy = ((logit > 0) == (labels > 0.5)).float().mean()
            self.sums += torch.stack((loss.detach(), accuracy))

    def _state(self) -> list[torch.Tensor]:
        """Return the tensors that a step changes; the optimizer's, which are 0 before the first step, come last."""
        state = [v for s in self.optimizer.state.values() for v in s.values() if isinstance(v, torch.Tensor)]
        return [*self.parameters, *self.net.buffers(), *self.ema, self.sums, *state]

    def _set_rate(self, step: int, elapsed: float) -> float:
        """Set and return the learning rate, at the position of the schedule that steps or time have reached."""
        total, limit = self.config.epochs * self.updates, self.options.seconds
        if limit is not None:
            step = max(step, min(int(elapsed / limit * total), total - 1))
        rate = learning_rate(self.config, step, self.updates)
        for group in self.optimizer.param_groups:
            if isinstance(group["lr"], torch.Tensor):
                group["lr"].fill_(rate)
            else:
                group["lr"] = rate
        return rate

    def _input(self, images: torch.Tensor) -> torch.Tensor:
        """Map images uint8 [N, S, S, 3] to the network's input: RGB and channels, float32 [N, C, R, R]."""
        images = enlarged(images, self.config.resolution)
        channels = add_channels(images, self.config.channels, self.config.variant)
        return channels.contiguous(memory_format=torch.channels_last)

    def _autocast(self) -> torch.autocast:
        precision = self.options.precision
        return torch.autocast(self.device.type, precision, enabled=precision is not None)

    def _batches(self, split: str) -> Iterator[torch.Tensor]:
        images, _ = self.data[split]
        size = max(1, EVALUATION_BATCH * 32 * 32 // self.config.resolution**2)
        for first in range(0, len(images), size):
            yield images[first : first + size]

    def scores(self, split: str) -> np.ndarray:
        """Return the logits of FAKE, float32 [n], of a split's images."""
        self.net.eval()
        with torch.inference_mode(), self._autocast():
            parts = [self.net(self._input(images)).float() for images in self._batches(split)]
        self.net.train()
        return torch.cat(parts).cpu().numpy()

    def validate(self, split: str = "validation") -> dict[str, float | None]:
        """Return a split's loss, accuracy at threshold 0.5 and AUC, with the keys of history.csv."""
        logits = torch.from_numpy(self.scores(split))
        labels = self.data[split][1].cpu()
        probability = torch.sigmoid(logits.double()).numpy()
        return {
            "validation_loss": float(F.binary_cross_entropy_with_logits(logits, labels)),
            "validation_accuracy": classification.accuracy(labels.numpy().astype(int), probability),
            "validation_auc": classification.auc(labels.numpy().astype(int), probability),
        }

    def update_bn(self) -> None:
        """Re-estimate the batch norm statistics on augmented training images, with the present weights."""
        size = self.config.batch

        def batches() -> Iterator[torch.Tensor]:
            for first in range(0, min(UPDATE_BN_IMAGES, len(self.images) - size + 1), size):
                index = torch.arange(first, first + size, device=self.device)
                yield self._input(augmented(self.images, index, self.config.augment))

        with self._autocast():
            update_bn(self.net, batches())

    def choose(self, say: Callable[[str], None]) -> dict[str, float | None]:
        """Keep the last weights or their EMA, whichever has the higher validation AUC; return its metrics."""
        last = [p.detach().clone() for p in self.parameters]
        found = {}
        for name, values in (("last", last), ("EMA", self.ema)):
            with torch.no_grad():
                torch._foreach_copy_(self.parameters, values)
            self.update_bn()
            state = {k: v.clone() for k, v in self.net.state_dict().items()}
            found[name] = (self.validate(), state)
            say(f"{name} weights: {found[name][0]}")
        best = max(found, key=lambda name: found[name][0]["validation_auc"] or 0.0)
        self.net.load_state_dict(found[best][1])
        return found[best][0]
