"""Small data and one small trained, converted run, shared by the tests that need them; how tests share the cores."""

from __future__ import annotations

import contextlib
import os
import pickle
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests import tiny_bnext

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
# `make test` sets it; the tests run `bdd` themselves, without the Makefile.
os.environ.pop("BDD_MAKE", None)
tiny_bnext.register()

#: Memory that one worker may take; TensorFlow keeps what it once had.
WORKER_BYTES = 5 * 1024**3
#: More workers than this would only build the session's fixtures more often.
MAX_WORKERS = 6
#: Beginnings of paths below this folder, the longest files first. The first makes the trained run, which takes a while, so
#: the second does without it; short files come last, so that all workers end at the same time.
LONGEST_FIRST = (
    "converters/test_convert", "training/test_resume", "training/test_trainer", "converters/tflite", "pytorch/test_bnext",
    "pytorch/", "commands/test_baseline_runs", "models/test_float_baselines", "models/", "training/", "test_notebooks",
    "datasets/", "evaluation/", "converters/", "edge/runtime", "commands/", "plugins/", "test_legacy_keras", "service/",
    "devices/", "edge/",
)  # fmt: skip


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """Return the number of workers for ``pytest -n auto``: one per core, as far as memory allows."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):  # Windows
        memory = 8 * 1024**3
    return max(1, min(cores, memory // WORKER_BYTES, MAX_WORKERS))


@pytest.hookimpl(trylast=True)
def pytest_configure(config: pytest.Config) -> None:
    """Keep the order of `pytest_collection_modifyitems`: xdist would put the files with the most tests first."""
    config.option.loadscopereorder = False


def pytest_unconfigure() -> None:
    """Remove the sources that TensorFlow's AutoGraph wrote: a worker ends before it would do so itself."""
    for name, module in list(sys.modules.items()):
        if name.startswith("__autograph_generated_file") and module.__file__:
            Path(module.__file__).unlink(missing_ok=True)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the longest folders first, so that no worker begins one when the others have finished."""

    def rank(item: pytest.Item) -> int:
        path = item.path.relative_to(Path(__file__).parent).as_posix()
        return next(
            (i for i, prefix in enumerate(LONGEST_FIRST) if path.startswith(prefix)), len(LONGEST_FIRST)
        )

    items.sort(key=rank)


def write_tree(root: Path, counts: dict[str, int], size: int = 20, seed: int = 0, width: int = 0) -> Path:
    """REAL: smooth gradients; FAKE: the same with a checkerboard. ``counts``: images per class and split."""
    rng = np.random.default_rng(seed)
    shape = (size, width or size)
    ramp = np.linspace(0, 1, size)
    for split, count in counts.items():
        for label in ("REAL", "FAKE"):
            folder = root / split / label
            folder.mkdir(parents=True)
            for i in range(count):
                a, b = rng.uniform(60, 200, (2, 3))
                image = a + (b - a) * ramp[:, None, None] * np.ones((1, shape[1], 1))
                if label == "FAKE":
                    image = image + 40 * (np.indices(shape).sum(0) % 2)[..., None] - 20
                image = np.clip(image + rng.normal(0, 2, image.shape), 0, 255).astype(np.uint8)
                Image.fromarray(image).save(folder / f"{i}.png")
    return root


@pytest.fixture(scope="session")
def make_tree():
    return write_tree


@pytest.fixture(scope="session")
def shared(tmp_path_factory) -> Path:
    """The folder of this session's files that all workers use."""
    base = tmp_path_factory.getbasetemp()
    return base.parent if "PYTEST_XDIST_WORKER" in os.environ else base


@pytest.fixture(scope="session")
def once(shared) -> Callable[[str, Callable[[Path], None]], Path]:
    """Returns ``once(name, make)``: the folder ``name`` that ``make(folder)`` fills in one worker, while others wait."""

    def once(name: str, make: Callable[[Path], None]) -> Path:
        folder, complete = shared / name, shared / f"{name}.complete"
        with (shared / f"{name}.lock").open("w") as lock:
            with contextlib.suppress(ImportError):  # Windows
                import fcntl

                fcntl.flock(lock, fcntl.LOCK_EX)
            if not complete.exists():
                shutil.rmtree(folder, ignore_errors=True)  # of a worker that failed
                folder.mkdir()
                make(folder)
                complete.touch()
        return folder

    return once


@pytest.fixture(scope="session")
def tree(once):
    # As high as the `trained` run's input, so that no resizing blurs the checkerboard; the crop has something to do.
    return once("tree", lambda folder: write_tree(folder, {"train": 100, "test": 12}, size=32, width=40))


@pytest.fixture(scope="session")
def cache(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cache")
    os.environ["BDD_CACHE"] = str(folder)
    return folder


@pytest.fixture(scope="session")
def sample_cache(once):
    """A cache that holds the data set `sample`, for reading."""
    from bdd_tf.datasets import sample

    return once("sample", sample.make)


@pytest.fixture(scope="session")
def small_experiment(tree, cache):
    """A few short epochs on a checkerboard, long enough that no score depends on a single sign."""
    from bdd_tf.presets import experiment

    return experiment(
        dataset="folder", data_dir=str(tree), backbone=tiny_bnext.NAME, resolution=32, resize="native", epochs=4,
        batch=16, warmup=2, validation_fraction=0.2,
    )  # fmt: skip


@pytest.fixture(scope="session")
def trained(small_experiment, once, tmp_path_factory):
    """The run folder of that experiment, evaluated on both splits: this worker's copy."""
    from bdd_tf.runs import Run

    def make(folder: Path) -> None:
        from bdd_tf.evaluation import evaluate
        from bdd_tf.training import trainer

        run = Run(folder / "small")
        trainer.train(small_experiment, run, runs_dir=folder)
        # So few images determine a threshold for a false positive rate of 0.25, but not for 0.01.
        evaluate.evaluate_run(run, "validation", bootstrap=50, false_alarms=(0.25,))
        evaluate.evaluate_run(run, "test", bootstrap=50)

    run = Run(tmp_path_factory.mktemp("runs") / "small")
    shutil.copytree(once("trained", make) / "small", run.path)
    return run


@pytest.fixture(scope="session")
def converted(trained, once):
    """The result of `bdd convert` for that run."""
    from bdd_tf.edge.tflite.file import parse_tflite

    def make(folder: Path) -> None:
        from converters.convert import convert_run

        output, _, *found = convert_run(trained.name, trained.path.parent)
        shutil.copy2(output, folder)
        (folder / "found.pickle").write_bytes(pickle.dumps(found))

    folder = once("converted", make)
    shutil.copy2(folder / trained.tflite.name, trained.tflite)
    operations, agreement = pickle.loads((folder / "found.pickle").read_bytes())
    return trained.tflite, parse_tflite(trained.tflite.read_bytes()), operations, agreement


@pytest.fixture(scope="module")
def browser():
    """A Chromium with one tab."""
    from tests.chromium import Browser

    with Browser() as browser:
        yield browser
