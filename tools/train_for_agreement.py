"""Briefly trains BNext in PyTorch and imports it: `python -m tools.train_for_agreement bnext-s:224 ...`.

The published checkpoints are not available everywhere, and a net with random weights is chaotic. Here nets of the
published layout learn, on a CPU and in minutes, to tell crops of photographs from crops that went through the
`sample` data set's decoder. BNext is fully convolutional, so most of the training sees 64 px and the last stage the
resolution asked for. At the end the statistics of batch normalisation are re-estimated at that resolution.
The result is written as the reference detector writes its checkpoints and comes in by `bdd convert --from-torch`'s
function, as `runs/trained-NAME-RESOLUTION`, for `agreement.py --run`.

A killed training resumes from its last checkpoint (at most three minutes back).
"""

import argparse
import json
import math
import os
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path

# On a busy machine threads that spin while they wait take half of the time away from each other.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from bdd_tf.datasets.sample import AutoEncoder, crops_of, photographs_of
from bdd_tf.edge.labels import FAKE, REAL
from bdd_tf.files import replace_atomically, write_atomically
from bdd_tf.models.forensic_channels import ForensicChannels
from bdd_tf.presets import experiment
from bdd_tf.pytorch.bnext import BinaryConv, Detector, Unit
from bdd_tf.pytorch.network import initialise
from bdd_tf.pytorch.trainer import clip
from converters.pytorch.keras_weights import import_checkpoint

CHANNELS = ("rgb", "fft", "lbp")
VALIDATION = 60
#: A relative change of the input, about what float32 rounds by.
NUDGE = 1e-7
SAVE_SECONDS = 180
#: Images whose statistics batch normalisation keeps at the end.
SETTLE = 48

#: What a unit adds to its residual at first, in deviations: at 0 a deep net starts as its residuals alone and learns
#: from a few hundred images (arXiv 1706.02677, section 5.1). It also determines the effect of rounding: one flipped sign
#: changes 9 C numbers of a 3x3 unit of C channels, by 2/3 of this over the root of C.
RESIDUAL_GAIN = 0.0
#: Share of the learning rate that these gains have: flipped signs multiply from unit to unit, and there are many units.
GAIN_RATE = 0.3
#: Starting weights of the runs without a seed in their name.
SEED = 5


@dataclass(frozen=True)
class Stage:
    """A part of a training.

    `rate` is the peak learning rate of Adam; `images` counts the training images; `precision` is that of the passes over
    the net, ``float32`` or ``bfloat16`` (autocast): weights are float32 always.
    """

    resolution: int
    stem_stride: int
    batch: int
    steps: int
    rate: float
    images: int = 2048
    precision: str = "bfloat16"


#: Five to ten minutes for T, S and M and twenty for L on two cores with bfloat16 in hardware, nothing else running.
PLANS = {
    "bnext-t:64": [Stage(64, 2, 16, 300, 2e-3), Stage(64, 1, 16, 100, 5e-4)],
    "bnext-t:224": [Stage(64, 2, 16, 300, 2e-3), Stage(224, 2, 8, 100, 5e-4, 800)],
    "bnext-s:224": [Stage(64, 2, 32, 200, 2e-3), Stage(224, 2, 8, 80, 5e-4, 640)],
    "bnext-m:224": [Stage(64, 2, 32, 150, 1e-3), Stage(224, 2, 8, 60, 3e-4, 480)],
    "bnext-l:224": [Stage(64, 2, 32, 100, 1e-3), Stage(224, 2, 8, 40, 3e-4, 320)],
}


def crops(split: str, size: int, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Crops of photographs and re-created ones, in turns: uint8 [count, size, size, 3], and labels."""
    rng = np.random.default_rng([size, split == "train"])
    photographs = photographs_of(split)
    real, base = (crops_of(photographs, count // 2, rng, size, (1, 2)) for _ in range(2))
    # Always fitted on the training split's photographs: one decoder makes the fakes of both splits.
    decoder = AutoEncoder(crops_of(photographs_of("train"), 64, np.random.default_rng(size), size, (1, 2)))
    fake = np.concatenate([decoder.generate(base[i : i + 16], rng) for i in range(0, len(base), 16)])
    return np.stack([real, fake], 1).reshape(-1, size, size, 3), np.tile([REAL, FAKE], count // 2)


def fresh(name: str, stem_stride: int, seed: int) -> Detector:
    """A detector with weights to train from; latent weights small enough for signs to turn."""
    torch.manual_seed(seed)
    net = Detector(name, len(CHANNELS) - 1, stem_stride)
    initialise(net)
    with torch.no_grad():
        for module in net.modules():
            if isinstance(module, Unit):
                module.norm2.weight.fill_(RESIDUAL_GAIN)
    return net.to(memory_format=torch.channels_last)


class Data:
    """Batches of channels in torch's layout."""

    def __init__(self, stage: Stage):
        self.layer = ForensicChannels(CHANNELS, "paper")
        counts = {"train": stage.images, "validation": VALIDATION}
        self.splits = {split: crops(split, stage.resolution, count) for split, count in counts.items()}

    def __call__(self, split: str, rows: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
        images, labels = self.splits[split]
        x = torch.from_numpy(self.layer(images[rows]).numpy()).permute(0, 3, 1, 2)
        return x, torch.from_numpy((labels[rows] == REAL).astype(np.float32))

    def rows(self, step: int, batch: int) -> np.ndarray:
        """Rows of the training split for a step: chance, but always the same."""
        return np.random.default_rng(step).permutation(len(self.splits["train"][0]))[:batch]


def train_stage(name: str, net: Detector, stage: Stage, folder: Path) -> dict:
    """Train a stage to its end, resuming from its checkpoint; returns its record."""
    done = folder / f"{name}-{stage.resolution}s{stage.stem_stride}.pt"
    partial = done.with_suffix(".partial.pt")
    if done.is_file():
        saved = torch.load(done)
        if any(saved["record"].get(k) != v for k, v in asdict(stage).items()):
            sys.exit(f"{done} was trained with another plan than {stage}; remove it and the later stages")
        net.load_state_dict(saved["net"])
        return saved["record"]
    data = Data(stage)
    units = [m for m in net.modules() if isinstance(m, Unit)]
    gains = [unit.norm2.weight for unit in units]
    others = [p for p in net.parameters() if not any(p is gain for gain in gains)]
    groups = [{"params": others, "share": 1.0}, {"params": gains, "share": GAIN_RATE}]
    optimizer = torch.optim.Adam(groups, stage.rate, fused=True)
    latent = [m.weight for m in net.modules() if isinstance(m, BinaryConv)]
    mixing = [unit.scale for unit in units]
    first, seconds, right, losses = 0, 0.0, [], []
    if partial.is_file():
        saved = torch.load(partial)
        net.load_state_dict(saved["net"])
        optimizer.load_state_dict(saved["optimizer"])
        first, seconds, right, losses = (saved[k] for k in ("step", "seconds", "right", "losses"))
        del saved
        print(f"{name} {stage.resolution} px: resuming at step {first}", flush=True)
    began, before, kept = time.monotonic(), seconds, time.monotonic()
    net.train()
    for step in range(first, stage.steps):
        x, y = data("train", data.rows(step, stage.batch))
        warm = min(1.0, (step + 1) / 10)
        rate = stage.rate * warm * 0.5 * (1 + math.cos(math.pi * step / stage.steps))
        for group in optimizer.param_groups:
            group["lr"] = rate * group["share"]
        with torch.autocast("cpu", torch.bfloat16, enabled=stage.precision == "bfloat16"):
            logit = net(x)[:, 0].float()
        loss = F.binary_cross_entropy_with_logits(logit, y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        with torch.no_grad():
            clip(latent, mixing)
        right.append(float(((logit > 0) == (y > 0.5)).float().mean()))
        losses.append(loss.item())
        seconds = before + time.monotonic() - began
        if step % 10 == 9:
            print(
                f"{name} {stage.resolution} px: step {step + 1}/{stage.steps}, loss {np.mean(losses[-10:]):.3f}, "
                f"accuracy {np.mean(right[-10:]):.3f}, {seconds:.0f} s",
                flush=True,
            )
        if time.monotonic() - kept > SAVE_SECONDS and step + 1 < stage.steps:
            save(
                {
                    "net": net.state_dict(), "optimizer": optimizer.state_dict(), "step": step + 1,
                    "seconds": seconds, "right": right, "losses": losses,
                },
                partial,
            )  # fmt: skip
            kept = time.monotonic()
    del optimizer
    net.zero_grad(set_to_none=True)
    record = asdict(stage) | {
        "seconds": round(seconds),
        "seen": stage.steps * stage.batch,
        "final_train_loss": float(np.mean(losses[-10:])),
        "final_train_accuracy": float(np.mean(right[-10:])),
    }
    began = time.monotonic()
    settle(net, data, stage)
    record["settle_seconds"] = round(time.monotonic() - began)
    record |= validate(net, data)
    save({"net": net.state_dict(), "record": record}, done)
    partial.unlink(missing_ok=True)
    return record


def settle(net: Detector, data: Data, stage: Stage) -> None:
    """Re-estimate batch-normalisation statistics as averages over training images, with fixed weights."""
    norms = [m for m in net.modules() if isinstance(m, nn.BatchNorm2d)]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # a plain average
    with torch.no_grad():
        for i in range(SETTLE // stage.batch):
            net(data("train", data.rows(10_000 + i, stage.batch))[0])
    for norm in norms:
        norm.momentum = 0.1


def validate(net: Detector, data: Data) -> dict:
    """Accuracy and the logits' spread on photographs that training did not see."""
    net.eval()
    count, logits, labels, nudged = len(data.splits["validation"][0]), [], [], []
    with torch.no_grad():
        for start in range(0, count, 10):
            x, y = data("validation", np.arange(start, min(start + 10, count)))
            logits.append(net(x)[:, 0])
            labels.append(y)
            nudged.append(net(x * (1 + NUDGE * torch.randn_like(x)))[:, 0])
    logits, labels, nudged = torch.cat(logits), torch.cat(labels), torch.cat(nudged)
    net.train()
    return {
        "validation_images": count,
        "validation_accuracy": float(((logits > 0) == (labels > 0.5)).float().mean()),
        "mean_logit_real": float(logits[labels > 0.5].mean()),
        "mean_logit_fake": float(logits[labels < 0.5].mean()),
        "std_logit": float(logits.std()),
        "median_nudged": float((nudged - logits).abs().median() / logits.std()),
        "same_nudged": int(((nudged >= 0) == (logits >= 0)).sum()),
    }


def save(value: object, path: Path) -> None:
    with replace_atomically(path) as temporary:
        torch.save(value, temporary)


def export(name: str, resolution: int, net: Detector, path: Path) -> None:
    """A checkpoint as the reference detector's Lightning module writes it."""
    config = experiment(
        "paper", dataset="sample", backbone=name, resolution=resolution, channels=CHANNELS, resize="native"
    )
    about = {
        "num_classes": 2,
        "backbone": "BNext-" + name[-1].upper(),
        "freeze_backbone": False,
        "add_magnitude_channel": False,
        "add_fft_channel": True,
        "add_lbp_channel": True,
    }
    if resolution != 224:
        about["bdd_tf"] = json.dumps(config.to_dict())  # the reference knows 224 px alone
    state = {k: v.contiguous() for k, v in net.state_dict().items()}
    save({"state_dict": state, "hyper_parameters": about}, path)


def train(name: str, resolution: int, seed: int, plan: list[Stage], folder: Path, run: Path) -> None:
    """Train through all stages, export, import; the run gets a ``training.json`` with a record of each stage."""
    net, records = fresh(name, plan[0].stem_stride, seed), []
    for stage in plan:
        net.base_model.feature[0].conv1.stride = (stage.stem_stride,) * 2
        records.append(train_stage(name, net, stage, folder))
        print(json.dumps(records[-1]), flush=True)
    path = folder / f"sample_{name[-1].upper()}_{resolution}.ckpt"
    export(name, resolution, net, path)
    del net
    import_checkpoint(path, run.name, run.parent, dataset="sample")
    write_atomically(run / "training.json", json.dumps(records, indent=1).encode())


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("networks", nargs="*", help=f"of {', '.join(PLANS)}; all by default")
    parser.add_argument("--folder", type=Path, default=Path("build/agreement"), help="for checkpoints")
    parser.add_argument(
        "--seed", type=int, default=SEED, help="of the starting weights; the images stay the same"
    )
    parser.add_argument("--runs-dir", type=Path, default=Path("runs"))
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--compare", action="store_true", help="run agreement.py on each run that is there")
    args = parser.parse_args()
    unknown = [n for n in args.networks if n not in PLANS]
    if unknown:
        parser.error(f"no plan for {', '.join(unknown)}; possible: {', '.join(PLANS)}")
    torch.set_num_threads(args.threads)
    suffix = "" if args.seed == SEED else f"-seed{args.seed}"
    folder = args.folder / f"seed{args.seed}"
    folder.mkdir(parents=True, exist_ok=True)
    for network in args.networks or PLANS:
        name, _, side = network.partition(":")
        run = args.runs_dir / f"trained-{name}-{side}{suffix}"
        if not args.compare:
            if not run.exists():
                train(name, int(side), args.seed, PLANS[network], folder, run)
            continue
        # Processes of their own: each leaves its memory to the next, and the largest net needs it.
        options = [
            f"--{k}={getattr(args, k.replace('-', '_'))}" for k in ("folder", "seed", "runs-dir", "threads")
        ]
        for module, *words in (
            ["train_for_agreement", network, *options],
            ["agreement", "--tflite", "--run", run],
        ):
            subprocess.run([sys.executable, "-m", f"tools.{module}", *map(str, words)], check=True)
    return 0


if __name__ == "__main__":
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    sys.exit(main())
