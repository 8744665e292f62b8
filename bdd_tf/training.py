"""`bdd train`: from a data set to trained weights in a run folder; resumable at any moment."""

from __future__ import annotations

import argparse
import csv
import dataclasses
import io
import math
import os
import shutil
import sys
import time
from pathlib import Path

import numpy as np

from bdd_tf import metrics
from bdd_tf.channels import check_variant, parse_channels
from bdd_tf.config import Experiment, experiment, write_atomically
from bdd_tf.datasets.pipeline import DataSet, load_dataset
from bdd_tf.edge.labels import FAKE, REAL
from bdd_tf.errors import BddError, UsageError
from bdd_tf.legacy_keras import tf
from bdd_tf.models import fused, registry
from bdd_tf.models.detector import build_detector, freeze_backbone, logits, seed_everything
from bdd_tf.optimizer import AdamW
from bdd_tf.runs import RUNS_DIR, Run, read_history, run_named, trained_weights
from bdd_tf.schedule import learning_rate

HISTORY = (
    "epoch",
    "images",
    "loss",
    "accuracy",
    "learning_rate",
    "validation_loss",
    "validation_accuracy",
    "validation_auc",
    "seconds",
)
#: Minutes between checkpoints inside an epoch: what a kill costs at most.
CHECKPOINT_MINUTES = 5.0


def say(text: str) -> None:
    """A message for the person at the terminal, on standard error."""
    print(text, file=sys.stderr, flush=True)


def build(config: Experiment) -> tf.keras.Model:
    """The experiment's detector with its seed's initial weights."""
    seed_everything(config.seed)
    return build_detector(
        config.backbone, config.resolution, config.channels, config.variant, config.stem_stride
    )


def load_trained(run: Run, config: Experiment | None = None) -> tf.keras.Model:
    """The trained detector of a run.

    Raises:
        BddError: If it has no weights yet, or they do not belong to its configuration.
    """
    config = config or Experiment.load(run.config)
    path = trained_weights(run)
    model = build(config)
    load_weights(model, path)
    return model


def load_weights(model: tf.keras.Model, path: Path) -> None:
    """Load a ``.weights.h5`` file into the same architecture.

    Raises:
        BddError: If the file is damaged or belongs to another architecture.
    """
    try:
        model.load_weights(path)
    except (OSError, ValueError, KeyError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise BddError(f"{path} does not hold weights of this {model.name}: {reason}") from error


def save_weights(model: tf.keras.Model, path: Path) -> None:
    """Write ``.weights.h5`` to a temporary file, then rename."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.parent / f".{os.getpid()}.tmp.weights.h5"
    try:
        model.save_weights(temporary)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def initialise_from(model: tf.keras.Model, source: str, runs_dir: Path) -> int:
    """Take over weights of equal name and shape from another run.

    Args:
        model: The fresh detector.
        source: A run's name or folder, or a ``.weights.h5`` file beside which its ``config.yaml`` lies.
        runs_dir: Where run names are looked up.

    Returns:
        Number of weights taken over.

    Raises:
        UsageError: If there is no such source, or nothing in it fits the backbone.
    """
    path = Path(source)
    run = Run(path.parent) if path.suffix == ".h5" else run_named(source, runs_dir)
    if not run.config.is_file():
        raise UsageError(
            f"INIT={source}: no such run ({run.config} is missing); give a run's name, its folder, or a "
            f".weights.h5 file beside its config.yaml."
        )
    config = Experiment.load(run.config)
    donor = build(config)
    load_weights(donor, path if path.suffix == ".h5" else trained_weights(run))
    have = {w.name: w for w in donor.weights}
    taken = [w for w in model.weights if w.name in have and w.shape == have[w.name].shape]
    backbone = [w for w in taken if w.name.startswith("feature") or "quick_net" in w.name]
    if not backbone:
        raise UsageError(
            f"INIT={source} holds a {config.backbone}, none of whose weights fit; use the same backbone."
        )
    for weight in taken:
        weight.assign(have[weight.name])
    return len(taken)


class _State(tf.Module):
    """Where a run stands, as variables that a checkpoint holds beside weights and optimizer."""

    def __init__(self) -> None:
        super().__init__()
        self.epoch = tf.Variable(0, dtype=tf.int64)
        self.step = tf.Variable(0, dtype=tf.int64)
        self.loss_sum = tf.Variable(0.0, dtype=tf.float64)
        self.correct = tf.Variable(0, dtype=tf.int64)
        self.images = tf.Variable(0, dtype=tf.int64)
        self.seconds = tf.Variable(0.0, dtype=tf.float64)

    def next_epoch(self) -> None:
        self.epoch.assign_add(1)
        for variable in (self.step, self.loss_sum, self.correct, self.seconds):
            variable.assign(tf.zeros_like(variable))


class Trainer:
    """One run: its network, optimizer, data and state.

    Args:
        config: The experiment.
        run: Its folder.
        data: Its data set.
        runs_dir: Where ``init`` looks up run names.
    """

    def __init__(self, config: Experiment, run: Run, data: DataSet, runs_dir: Path):
        self.config, self.run, self.data = config, run, data
        train = data.counts["train"]
        self.steps = data.size("train") // config.batch
        if self.steps < 1:
            raise UsageError(
                f"batch {config.batch} is larger than the training split ({data.size('train')} images); "
                f"give a smaller one with BATCH=."
            )
        self.updates = max(self.steps // config.accumulate, 1)
        self.model = build(config)
        if config.init:
            say(
                f"initialised {initialise_from(self.model, config.init, runs_dir)} weights from {config.init}"
            )
        if config.freeze:
            freeze_backbone(self.model)
        self.logits = logits(self.model)
        self.blocks = fused_blocks(self.model, config)
        self.rate = tf.Variable(config.learning_rate, dtype=tf.float32)
        self.optimizer = AdamW(
            learning_rate=lambda: self.rate, weight_decay=config.weight_decay, decay_filter=_decays
        )
        self.state = _State()
        self.positive_weight = train[REAL] / max(train[FAKE], 1) if config.class_weights else 1.0
        variables = self.model.trainable_variables
        self.sums = [tf.Variable(tf.zeros_like(v)) for v in variables] if config.accumulate > 1 else []
        # The optimizer's slots must exist before a checkpoint is restored into them.
        self.optimizer._create_all_weights(variables)
        self.checkpoint = tf.train.Checkpoint(
            model=self.model, optimizer=self.optimizer, state=self.state, sums=self.sums, rate=self.rate
        )
        self.manager = tf.train.CheckpointManager(self.checkpoint, str(run.checkpoints), max_to_keep=2)
        self._update = tf.function(self._update_step)
        self._score = tf.function(self._score_step)

    def _loss(self, labels: tf.Tensor, logit: tf.Tensor) -> tf.Tensor:
        smooth = self.config.label_smoothing
        targets = labels * (1 - smooth) + 0.5 * smooth
        return tf.reduce_mean(
            tf.nn.weighted_cross_entropy_with_logits(
                targets, logit, tf.constant(self.positive_weight, tf.float32)
            )
        )

    def _update_step(self, images: tf.Tensor, labels: tf.Tensor, apply: bool) -> None:
        variables = self.model.trainable_variables
        if self.blocks:
            logit = fused.logits(self.model, self.blocks, images, True, self.state.images + self.config.seed)
        else:
            logit = self.logits(images, training=True)
        loss = self._loss(labels, logit)
        # Summed in pairs: AddN over three or more adds first whichever buffer is free to be overwritten,
        # which depends on the timing of threads even under op determinism, and a run could not be repeated.
        gradients = tf.gradients(loss, variables, aggregation_method=tf.AggregationMethod.EXPERIMENTAL_TREE)
        if self.sums:
            gradients = [s.assign_add(g) for s, g in zip(self.sums, gradients, strict=True)]
            gradients = [g / self.config.accumulate for g in gradients]
        if apply:
            if self.config.clip_norm:
                gradients, _ = tf.clip_by_global_norm(gradients, self.config.clip_norm)
            self.optimizer.apply_gradients(zip(gradients, variables, strict=True))
            for s in self.sums:
                s.assign(tf.zeros_like(s))
        count = tf.shape(labels, out_type=tf.int64)[0]
        self.state.loss_sum.assign_add(tf.cast(loss, tf.float64) * tf.cast(count, tf.float64))
        self.state.correct.assign_add(tf.reduce_sum(tf.cast((logit > 0) == (labels > 0.5), tf.int64)))
        self.state.images.assign_add(count)

    def _score_step(self, images: tf.Tensor) -> tf.Tensor:
        if not self.blocks:
            return self.logits(images, training=False)
        count = tf.shape(images)[0]  # the last batch may be smaller than what the kernels were made for
        images = tf.pad(images, [[0, self.config.batch - count], [0, 0], [0, 0], [0, 0]])
        images = tf.ensure_shape(images, (self.config.batch, *self.model.input.shape[1:]))
        return fused.logits(self.model, self.blocks, images, False)[:count]

    def restore(self) -> None:
        """Continue from the newest checkpoint, if there is one."""
        if self.manager.latest_checkpoint:
            self.checkpoint.restore(self.manager.latest_checkpoint).assert_existing_objects_matched()
            epoch, step = int(self.state.epoch), int(self.state.step)
            say(f"resuming {self.run.name} at epoch {epoch + 1}, batch {step} of {self.steps}")

    def _train_epoch(self, epoch: int) -> None:
        from tqdm import tqdm

        config, state = self.config, self.state
        first = int(state.step)
        batches = self.data.train_batches(
            config.batch, seed=config.seed, epoch=epoch, skip=first, augment=config.augment
        )
        began = saved = time.monotonic()
        before = float(state.seconds)
        terminal = sys.stderr.isatty()
        with tqdm(
            total=self.steps * config.batch,
            initial=first * config.batch,
            unit="img",
            desc=f"epoch {epoch + 1}/{config.epochs}",
            mininterval=0.5 if terminal else 30,
            maxinterval=0.5 if terminal else 30,
            dynamic_ncols=terminal,
        ) as bar:
            for index, (images, labels) in enumerate(batches, start=first):
                last = index + 1 == self.steps
                apply = (index + 1) % config.accumulate == 0 or last
                update = epoch * self.updates + index // config.accumulate
                self.rate.assign(learning_rate(config, update, self.updates))
                self._update(images, labels, apply)
                state.step.assign(index + 1)
                bar.update(config.batch)
                if index % 20 == 0 or last:
                    seen = (index + 1) * config.batch
                    loss, right = float(state.loss_sum) / seen, int(state.correct) / seen
                    if not math.isfinite(loss):
                        raise BddError(
                            f"the loss became {loss} in epoch {epoch + 1}; lower the learning rate "
                            f"(--learning-rate) or set --clip-norm 1."
                        )
                    bar.set_postfix(loss=f"{loss:.4f}", acc=f"{right:.4f}", refresh=False)
                if not last and time.monotonic() - saved > CHECKPOINT_MINUTES * 60:
                    state.seconds.assign(before + time.monotonic() - began)
                    self.manager.save()
                    saved = time.monotonic()
        state.seconds.assign(before + time.monotonic() - began)

    def scores(self, split: str) -> tuple[np.ndarray, np.ndarray]:
        """Logits and labels of a split, float32 and int, in the data set's order."""
        parts = [
            (self._score(images).numpy()[:, 0], labels.numpy()[:, 0])
            for images, labels in self.data.eval_batches(split, self.config.batch)
        ]
        return np.concatenate([p[0] for p in parts]), np.concatenate([p[1] for p in parts]).astype(int)

    def _finish_epoch(self, epoch: int, history: list[dict], writer: tf.summary.SummaryWriter) -> None:
        state, seen = self.state, self.steps * self.config.batch
        logit, labels = self.scores("validation")
        row = {
            "epoch": epoch + 1,
            "images": int(state.images),
            "loss": float(state.loss_sum) / seen,
            "accuracy": int(state.correct) / seen,
            "learning_rate": float(self.rate),
            "validation_loss": float(self._loss(labels[:, None].astype(np.float32), logit[:, None])),
            "validation_accuracy": float(np.mean((logit >= 0) == (labels == FAKE))),
            "validation_auc": metrics.auc(labels, logit),
            "seconds": round(float(state.seconds), 1),
        }
        if all((row["validation_auc"] or 0) > (r["validation_auc"] or 0) for r in history):
            save_weights(self.model, self.run.best_weights)
        history.append(row)
        write_history(self.run.history, history)
        with writer.as_default(step=epoch + 1):
            for key in HISTORY[1:]:
                tf.summary.scalar(key, row[key] if row[key] is not None else math.nan)
        writer.flush()
        state.next_epoch()
        self.manager.save()
        auc = row["validation_auc"]
        say(
            f"epoch {epoch + 1}: loss {row['loss']:.4f}, accuracy {row['accuracy']:.4f}; validation accuracy "
            f"{row['validation_accuracy']:.4f}, AUC {'n/a' if auc is None else f'{auc:.4f}'}; "
            f"{seen / max(row['seconds'], 1e-9):.0f} images/s"
        )

    def fit(self) -> list[dict]:
        """Train to the last epoch.

        Returns:
            The history, a dict per epoch with the keys of :data:`HISTORY`.
        """
        self.restore()
        history = [r for r in finished_epochs(self.run) if r["epoch"] <= int(self.state.epoch)]
        writer = tf.summary.create_file_writer(str(self.run.tensorboard))
        for epoch in range(int(self.state.epoch), self.config.epochs):
            self._train_epoch(epoch)
            self._finish_epoch(epoch, history, writer)
        load_weights(self.model, self.run.best_weights)
        shutil.copyfile(self.run.best_weights, self.run.path / ".model.tmp")
        os.replace(self.run.path / ".model.tmp", self.run.weights)
        return history


def fused_blocks(model: tf.keras.Model, config: Experiment) -> fused.FusedBlocks | None:
    """The kernels that train a detector's blocks, or None where Keras does; says so where that is not by choice."""
    if config.gradients == "keras" or not fused.supports(model):
        return None
    try:
        return fused.FusedBlocks(model, config.batch, exact=config.gradients == "float32")
    except BddError as error:
        say(f"training without the C++ kernels, several times slower: {error}")
        return None


def _decays(name: str) -> bool:
    """Whether a variable decays: float kernels only (see :class:`bdd_tf.optimizer.AdamW`)."""
    leaf = name.split("/")[-1].split(":")[0]
    return (
        leaf in ("kernel", "depthwise_kernel") and ".conv/" not in name
    ) or "feature.0.conv/kernel" in name


def finished_epochs(run: Run) -> list[dict]:
    """What a run's history holds so far, with all of :data:`HISTORY`; empty before the first epoch ends."""
    rows = read_history(run.history) if run.history.is_file() else []
    return [{key: row.get(key) for key in HISTORY} for row in rows]


def write_history(path: Path, rows: list[dict]) -> None:
    """Write history.csv atomically."""
    text = io.StringIO()
    table = csv.DictWriter(text, HISTORY, lineterminator="\n")
    table.writeheader()
    table.writerows(rows)
    write_atomically(path, text.getvalue().encode())


def train(config: Experiment, run: Run, *, runs_dir: Path = Path(RUNS_DIR)) -> list[dict]:
    """Train an experiment in a run folder, from where it stands to its end.

    Args:
        config: The experiment.
        run: Its folder; made if missing, resumed if it holds the same experiment.
        runs_dir: Where ``init`` looks up run names.

    Returns:
        The history, a dict per epoch.

    Raises:
        UsageError: If the folder holds another experiment, or for bad data paths.
    """
    if run.config.is_file():
        there = Experiment.load(run.config)
        if there != config:
            old, new = there.to_dict(), config.to_dict()
            changes = "; ".join(f"{k}: {old[k]} there, {new[k]} now" for k in new if old[k] != new[k])
            raise UsageError(
                f"run {run.name} exists with other settings ({changes}); give this one another name with RUN=, "
                f"or remove {run.path}."
            )
    elif run.path.exists() and any(run.path.iterdir()):
        raise UsageError(f"{run.path} exists and is no run folder; choose another name with RUN=.")
    # Everything that can be wrong with the request is found before anything is written, the cheap first.
    registry.stem_stride(config.backbone, config.resolution, config.stem_stride)
    parse_channels(config.channels)
    check_variant(config.variant)
    data = load_dataset(
        config.dataset,
        rule=config.rule,
        data_dir=config.data_dir,
        validation_fraction=config.validation_fraction,
        train_fraction=config.train_fraction,
    )
    for split in ("train", "validation"):
        if not data.size(split):
            raise UsageError(f"data set {config.dataset} has no images in its {split} split.")
    tf.config.experimental.enable_op_determinism()
    trainer = Trainer(config, run, data, runs_dir)
    config.save(run.config)
    done = finished_epochs(run)
    if run.weights.is_file() and len(done) >= config.epochs:
        say(f"{run.name} is already trained ({run.weights}).")
        return done
    say(
        f"training {config.backbone} on {config.dataset}: {data.size('train')} images, validation "
        f"{data.size('validation')}, {config.resolution} px, channels {','.join(config.channels)}; {run.path}"
    )
    return trainer.fit()


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `bdd train`: the fields of an experiment."""
    parser.add_argument("--dataset", help="data set (bdd data list); default cifake")
    parser.add_argument("--data-dir", help="folder, archive or CSV with the data")
    parser.add_argument("--backbone", help="e.g. bnext-n, bnext-t, quicknet, resnet50; default bnext-n")
    parser.add_argument("--channels", help="rgb and any of sobel, fft, lbp; default rgb,fft,lbp")
    parser.add_argument("--variant", help="channel formulas: paper or stable")
    parser.add_argument("--resolution", type=int, help="side of the input in pixels")
    parser.add_argument(
        "--stem-stride", type=int, help="1, 2 or 4, as the backbone has it; default by resolution"
    )
    parser.add_argument("--resize", help="native or reference")
    parser.add_argument("--epochs", type=int)
    parser.add_argument("--batch", type=int, help="images per gradient")
    parser.add_argument("--accumulate", type=int, help="gradients per update")
    parser.add_argument("--learning-rate", type=float)
    parser.add_argument("--warmup", type=int, help="updates of rising learning rate")
    parser.add_argument("--weight-decay", type=float)
    parser.add_argument("--clip-norm", type=float)
    parser.add_argument("--label-smoothing", type=float)
    parser.add_argument("--train-fraction", type=float, help="share of the training images to use")
    parser.add_argument("--augment", help="comma-separated: flip, vflip, rot90, crop, jitter; none")
    parser.add_argument("--init", help="run, or .weights.h5 file, to start from")
    parser.add_argument("--freeze", type=int, choices=(0, 1), help="1: train adapter and classifier only")
    parser.add_argument(
        "--gradients", help="int8, float32 or keras: who computes a BNext's gradients, and how"
    )
    parser.add_argument("--seed", type=int)
    parser.add_argument(
        "--preset", help="scratch, paper, or a row of the paper's tables (paper-cifake-t ...)"
    )
    parser.add_argument("--config", type=Path, help="a config.yaml to start from instead of a preset")
    parser.add_argument("--run", help="name of the run; default from data set, backbone, channels and size")
    parser.add_argument("--runs-dir", type=Path, default=Path(RUNS_DIR))


_FIELDS = (
    "dataset data_dir backbone variant resolution stem_stride resize epochs batch accumulate learning_rate warmup "
    "weight_decay clip_norm label_smoothing train_fraction init gradients seed"
).split()


def experiment_from(args: argparse.Namespace) -> Experiment:
    """The experiment that the options describe.

    Raises:
        UsageError: For impossible options.
    """
    given = {name: getattr(args, name) for name in _FIELDS if getattr(args, name) is not None}
    if args.channels is not None:
        given["channels"] = parse_channels(args.channels)
    if args.augment is not None:
        given["augment"] = tuple(a for a in args.augment.split(",") if a and a != "none")
    if args.freeze is not None:
        given["freeze"] = bool(args.freeze)
    if args.config is None:
        return experiment(args.preset, **given)
    if args.preset is not None:
        raise UsageError("--config and --preset both say where to start from; give one of them.")
    return dataclasses.replace(Experiment.load(args.config), **given)


def main(args: argparse.Namespace) -> int:
    """Run `bdd train`; returns the exit code."""
    config = experiment_from(args)
    if config.freeze and not config.init:
        raise UsageError("FREEZE=1 keeps the backbone as it is, so it needs INIT= with trained weights.")
    run = run_named(args.run or config.default_name, args.runs_dir)
    train(config, run, runs_dir=args.runs_dir)
    from bdd_tf import evaluation, figures

    figures.training_history(run.figures / "history.png", run.history, title=run.name)
    evaluation.evaluate_run(run, "validation")
    say(f"next: make evaluate RUN={run.name}; make convert RUN={run.name}")
    return 0
