"""Train an experiment in a run folder; a run can be interrupted and resumed at any time."""

from __future__ import annotations

import math
import shutil
import time
from pathlib import Path
from typing import Any

import numpy as np

from bdd_tf import __version__
from bdd_tf.config import Experiment
from bdd_tf.console import progress_bar, say
from bdd_tf.datasets import probes
from bdd_tf.datasets.of_experiment import AnyDataSet, dataset_of
from bdd_tf.datasets.photo_set import PhotoDataSet
from bdd_tf.datasets.pipeline import DataSet
from bdd_tf.datasets.share import check_batch, rejoined
from bdd_tf.datasets.shortcuts import warnings_of
from bdd_tf.edge.labels import FAKE, REAL
from bdd_tf.errors import BddError, UsageError
from bdd_tf.files import replace_atomically
from bdd_tf.legacy_keras import tf
from bdd_tf.metrics import classification
from bdd_tf.metrics.score_files import write_json
from bdd_tf.models.detector import freeze_backbone
from bdd_tf.runs import RUNS_DIR, WORKER_LOGS, Run, check_run_folder
from bdd_tf.training.features import FeatureData, caches_features, probe_of
from bdd_tf.training.history import HISTORY, ends_early, finished_epochs, write_history
from bdd_tf.training.schedule import learning_rate, warmup_note
from bdd_tf.training.step import TrainingStep
from bdd_tf.training.weights import build, initialise_from, load_weights, save_weights
from bdd_tf.training.workers import ALONE, Workers

#: Minutes between two checkpoints within an epoch: the most that an interruption can lose.
CHECKPOINT_MINUTES = 5.0
#: Batches between two updates of the figures in the progress bar.
_REPORT_STEPS = 20
#: Settings that may change between two parts of a training.
_MAY_GROW = ("epochs", "patience")
#: Settings that may differ between workers: paths on their machines.
_PATHS = ("data_dir", "own_decoders", "init")
#: Fewest training images on which probes say something, and crops that they see.
PROBE_IMAGES, PROBE_CROPS = 1000, 4096


class Trainer:
    """The training of one run.

    Args:
        config: The experiment.
        run: Its folder.
        data: Its data set.
        runs_dir: Folder in which ``init`` looks up run names.
        workers: The workers that train together; the chief alone writes to the folder.

    Attributes:
        steps: Rounds of an epoch: one batch of every worker.

    Raises:
        UsageError: If ``init`` does not fit.
    """

    def __init__(
        self, config: Experiment, run: Run, data: AnyDataSet, runs_dir: Path, workers: Workers = ALONE
    ):
        self.config, self.run, self.workers = config, run, workers
        self.data: AnyDataSet | FeatureData = data
        self.images = config.batch * workers.count
        self.steps = data.size("train") // self.images
        self.updates = max(self.steps // config.accumulate, 1)
        self.model = build(config, training=True)
        if config.init and workers.chief:  # the others get the chief's weights
            count = initialise_from(self.model, config.init, runs_dir)
            say(f"initialised {count} weights from {config.init}")
        if config.freeze:
            freeze_backbone(self.model)
        #: The network that is trained: the detector, or its classifier alone if the features are cached.
        self.trained = self.model
        # Several workers get the weights that the features depend on later.
        if caches_features(config) and isinstance(data, DataSet) and workers.count == 1:
            self.trained = probe_of(self.model)
            self.data = FeatureData(data, self.model, config)
        train = data.counts["train"]
        self.step = TrainingStep(
            config, self.trained, train[REAL] / max(train[FAKE], 1) if config.class_weights else 1.0, workers
        )
        self.state = self.step.state
        self.checkpoint = tf.train.Checkpoint(
            model=self.trained,
            optimizer=self.step.optimizer,
            state=self.state,
            sums=self.step.sums,
            average=self.step.average,
            rate=self.step.rate,
        )
        self.manager = tf.train.CheckpointManager(self.checkpoint, str(run.checkpoints), max_to_keep=2)

    def restore(self) -> None:
        """Continue from the newest checkpoint, if there is one.

        Raises:
            BddError: If the run is finished and its checkpoints were removed, so that more epochs cannot follow.
        """
        if not self.manager.latest_checkpoint and self.run.weights.is_file():
            raise BddError(
                f"{self.run.checkpoints} holds no state from which {self.run.name} could go on; start a new run from its "
                f"weights: --init {self.run.name} --run NAME."
            )
        if self.manager.latest_checkpoint:
            self.checkpoint.restore(self.manager.latest_checkpoint).assert_existing_objects_matched()
            epoch, step = int(self.state.epoch), int(self.state.step)
            say(f"resuming {self.run.name} at epoch {epoch + 1}, batch {step} of {self.steps}")

    def fit(self) -> list[dict]:
        """Train up to the last epoch and write the best epoch's weights.

        Returns:
            The history: one dict per epoch with the keys of :data:`bdd_tf.training.history.HISTORY`.

        Raises:
            BddError: If the loss is no longer finite.
        """
        chief = self.workers.chief
        if chief:
            self.restore()
        self.workers.of_chief(self._variables())
        done = finished_epochs(self.run) if chief else []
        history = [r for r in done if r["epoch"] <= int(self.state.epoch)]
        writer = tf.summary.create_file_writer(str(self.run.tensorboard)) if chief else None
        for epoch in range(int(self.state.epoch), self.config.epochs):
            if self.workers.agree(ends_early(history, self.config.patience)):
                say(
                    f"no better validation AUC in {self.config.patience} epochs (--patience): the training ends"
                )
                break
            self._train_epoch(epoch)
            self._finish_epoch(epoch, history, writer)
        if chief:
            load_weights(self.model, self.run.best_weights)
            with replace_atomically(self.run.weights) as temporary:
                shutil.copyfile(self.run.best_weights, temporary)
        return history

    def _variables(self) -> list[tf.Variable]:
        """All that a checkpoint holds, which a worker gets from the chief at the start."""
        step, state = self.step, self.state
        counters = [state.epoch, state.step, state.loss_sum, state.correct, state.images, state.seconds]
        return [*self.model.weights, *step.optimizer.variables(), *step.sums, *step.average, *counters]

    def _train_epoch(self, epoch: int) -> None:
        config, state = self.config, self.state
        first = int(state.step)
        batches = self.data.train_batches(
            config.batch,
            seed=config.seed,
            epoch=epoch,
            skip=first * self.workers.count,
            augment=config.augment,
            share=self.workers.share,
        )
        began = saved = time.monotonic()
        before = float(state.seconds)
        with self._bar(epoch, first) as bar:
            for index, (images, labels) in enumerate(batches, start=first):
                last = index + 1 == self.steps
                update = epoch * self.updates + index // config.accumulate
                self.step.rate.assign(learning_rate(config, update, self.updates))
                applied = (index + 1) % config.accumulate == 0 or last
                self.step.update(images, labels, applied)
                state.step.assign(index + 1)
                bar.update(self.images)
                if index % _REPORT_STEPS == 0 or last:
                    self._report(bar, epoch, (index + 1) * self.images)
                due = not last and time.monotonic() - saved > CHECKPOINT_MINUTES * 60
                # The sums of other workers are not in the chief's checkpoint: several save when there are none.
                if due and self.workers.chief and (applied or self.workers.count == 1):
                    state.seconds.assign(before + time.monotonic() - began)
                    self.manager.save()
                    saved = time.monotonic()
        state.seconds.assign(before + time.monotonic() - began)

    def _bar(self, epoch: int, first: int) -> Any:
        return progress_bar(
            self.steps * self.images,
            "img",
            f"epoch {epoch + 1}/{self.config.epochs}",
            initial=first * self.images,
            disable=not self.workers.chief,
        )

    def _report(self, bar: Any, epoch: int, seen: int) -> None:
        loss, correct = float(self.state.loss_sum) / seen, int(self.state.correct) / seen
        if not math.isfinite(loss):
            raise BddError(
                f"the loss became {loss} in epoch {epoch + 1}; lower the learning rate (--learning-rate) or set "
                f"--clip-norm 1."
            )
        bar.set_postfix(loss=f"{loss:.4f}", acc=f"{correct:.4f}", refresh=False)

    def scores(self, split: str) -> tuple[np.ndarray, np.ndarray]:
        """Score a split with the current weights. Each worker scores its share of the batches, and all get the result.

        Returns:
            Logits [N] float32 and labels [N] int, in the data set's order.
        """
        parts = [
            (self.step.score(images).numpy()[:, 0], labels.numpy()[:, 0])
            for images, labels in self.data.eval_batches(split, self.config.batch, self.workers.share)
        ]
        none = np.zeros(0, np.float32)
        columns = (np.concatenate([none, *(p[k] for p in parts)]) for k in (0, 1))
        logit, labels = (rejoined(self.workers.gather(column), self.config.batch) for column in columns)
        return logit, labels.astype(int)

    def _finish_epoch(self, epoch: int, history: list[dict], writer: tf.summary.SummaryWriter | None) -> None:
        with self.step.averaged():
            row = self._measure(epoch)
            better = all((row["validation_auc"] or 0) > (r["validation_auc"] or 0) for r in history)
            if writer and better:
                if self.trained is not self.model:
                    self.model.get_layer("logit").set_weights(self.trained.get_layer("logit").get_weights())
                save_weights(self.model, self.run.best_weights)
        history.append(row)
        speed = _speed(self.steps * self.images, float(self.state.seconds))
        if writer:
            write_history(self.run.history, history)
            with writer.as_default(step=epoch + 1):
                for key in HISTORY[1:]:
                    tf.summary.scalar(key, row[key] if row[key] is not None else math.nan)
            writer.flush()
        self.state.next_epoch()
        if writer:
            self.manager.save()
        auc = row["validation_auc"]
        say(
            f"epoch {epoch + 1}: loss {row['loss']:.4f}, accuracy {row['accuracy']:.4f}; validation accuracy "
            f"{row['validation_accuracy']:.4f}, AUC {'n/a' if auc is None else f'{auc:.4f}'}{speed}"
        )

    def _measure(self, epoch: int) -> dict[str, Any]:
        """The epoch's row of the history; scores the validation split."""
        state, seen = self.state, self.steps * self.images
        logit, labels = self.scores("validation")
        return {
            "epoch": epoch + 1,
            "images": int(state.images),
            "loss": float(state.loss_sum) / seen,
            "accuracy": int(state.correct) / seen,
            "learning_rate": float(self.step.rate),
            "validation_loss": float(self.step.loss(labels[:, None].astype(np.float32), logit[:, None])),
            "validation_accuracy": float(np.mean((logit >= 0) == (labels == FAKE))),
            "validation_auc": classification.auc(labels, logit),
            "seconds": round(float(state.seconds), 1),
        }


def _speed(images: int, seconds: float) -> str:
    """Return the speed of an epoch for its message, nothing if no time was measured."""
    return f"; {images / seconds:.0f} images/s" if seconds > 0 else ""


def train(
    config: Experiment,
    run: Run,
    *,
    runs_dir: Path = Path(RUNS_DIR),
    loader_threads: int | None = None,
    workers: Workers = ALONE,
) -> list[dict]:
    """Train an experiment in a run folder, or resume its training. More epochs than before continue a finished run.

    Args:
        config: The experiment.
        run: Its folder; created if missing, resumed if it holds the same experiment.
        runs_dir: Folder in which ``init`` looks up run names.
        loader_threads: Threads that decode and augment images; None: the data set's default.
        workers: The workers that train together, as many as ``config.workers`` says. All call this function.

    Returns:
        The history: one dict per epoch with the keys of :data:`bdd_tf.training.history.HISTORY`. Workers other than the
        chief return the epochs of this call.

    Raises:
        UsageError: If the folder holds another experiment, or for wrong data paths.
        BddError: If another worker ends.
    """
    if config.workers != workers.count:
        raise UsageError(
            f"the experiment has workers: {config.workers}, and {workers.count} are here (--processes, TF_CONFIG)."
        )
    with workers.together():
        return _train(config, run, runs_dir, loader_threads, workers)


def check(config: Experiment, run: Run, *, chief: bool = True) -> AnyDataSet:
    """Check what a training needs, before anything is written in the run's folder.

    Args:
        config: The experiment.
        run: Its folder.
        chief: Whether the folder is looked at.

    Returns:
        The data set, with its images prepared.

    Raises:
        UsageError: If the folder holds another experiment, or for wrong data paths.
    """
    if chief:
        _check_folder(config, run)
    data = dataset_of(config, need={"train": config.batch})
    check_batch(data.size("train"), "train", config.batch, config.workers)
    return data


def _train(
    config: Experiment, run: Run, runs_dir: Path, loader_threads: int | None, workers: Workers
) -> list[dict]:
    data = check(config, run, chief=workers.chief)
    if loader_threads is not None:
        data.loader_threads = loader_threads
    for split in ("train", "validation"):
        if not data.size(split):
            raise UsageError(f"data set {config.dataset} has no images in its {split} split.")
    tf.config.experimental.enable_op_determinism()
    trainer = Trainer(config, run, data, runs_dir, workers)
    settings = {k: v for k, v in config.to_dict().items() if k not in _PATHS}
    workers.check_equal(f"{__version__} {data.fingerprint} {settings}", "settings or images")
    done: list[dict] = []
    if workers.chief:
        config.save(run.config)
        done = finished_epochs(run)
    enough = len(done) >= config.epochs or ends_early(done, config.patience)
    if workers.agree(run.weights.is_file() and enough):
        say(f"{run.name} is already trained ({run.weights}); more --epochs continue it.")
        return done
    if workers.chief:
        _say_start(config, run, data, trainer)
    earlier = _results_of(run) if run.weights.is_file() and workers.chief else []
    history = trainer.fit()
    if earlier:
        say(f"{', '.join(earlier)}: of the weights before these epochs; evaluate and convert again")
    return history


def _say_start(config: Experiment, run: Run, data: AnyDataSet, trainer: Trainer) -> None:
    """Print the data of a training, and warnings; probe photographs."""
    say(
        f"training {config.backbone} on {config.dataset}: {data.size('train')} images, validation "
        f"{data.size('validation')}, {config.resolution} px, channels {','.join(config.channels)}; {run.path}"
    )
    if isinstance(data, PhotoDataSet):
        _probe(data, run)
    if isinstance(data, DataSet) and config.dataset in ("folder", "manifest"):
        for warning in warnings_of(data.entries):
            say(f"warning: {warning}")
    if note := warmup_note(config, trainer.updates):
        say(note)
    left = data.size("train") - trainer.steps * trainer.images
    if config.workers > 1:
        say(
            f"{config.workers} workers: {trainer.images} images per round"
            + (f"; each epoch leaves out {left} of {data.size('train')}, which fill none" if left else "")
        )


def _results_of(run: Run) -> list[str]:
    """Names of the files that hold results of a run's present weights."""
    paths = (run.tflite, *sorted(run.path.glob("metrics-*.json")))
    return [path.name for path in paths if path.is_file() and path != run.metrics("validation")]


def _probe(data: PhotoDataSet, run: Run) -> None:
    """Print and store what simple probes reach on the crops of this training, once per run."""
    if run.probes.is_file():
        return
    if data.size("train") < PROBE_IMAGES or len(data.batches.fold.train) < PROBE_IMAGES:
        say(f"fewer than {PROBE_IMAGES} training images: no probes for shortcuts")
        return
    say("probing the crops for shortcuts (bdd data probe photos)")
    found = probes.report(data.batches, min(data.size("train"), PROBE_CROPS))
    write_json(run.probes, found)
    for line in probes.table(found).splitlines():
        say(line)


def _check_folder(config: Experiment, run: Run) -> None:
    check_run_folder(run)
    if run.config.is_file():
        there = Experiment.load(run.config)
        old, new = there.to_dict(), config.to_dict()
        if {key for key in new if old[key] != new[key]} - set(_MAY_GROW):
            changes = "; ".join(f"{k}: {old[k]} there, {new[k]} now" for k in new if old[k] != new[k])
            raise UsageError(
                f"run {run.name} exists with other settings ({changes}); choose another name with --run, "
                f"--init {run.name} to start from its weights, or remove {run.path}."
            )
        done = len(finished_epochs(run))
        if config.epochs < min(done, there.epochs):
            raise UsageError(f"run {run.name} has {done} epochs already; give more with --epochs.")
        if config.epochs != there.epochs:
            decay = config.schedule != "constant" and config.schedule_epochs is None
            say(
                f"{run.name} goes on to {config.epochs} epochs instead of {there.epochs}"
                + ("; the learning rate follows the schedule of all of them" if decay else "")
            )
    elif run.path.exists() and any(path.name != WORKER_LOGS for path in run.path.iterdir()):
        raise UsageError(f"{run.path} exists and is not a run folder; choose another name with --run.")
