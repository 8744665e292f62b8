"""Small data and one small trained, converted run, shared by the tests that need them."""

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")


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
def tree(tmp_path_factory):
    # As high as the `trained` run's input, so that no resizing blurs the checkerboard; the crop has something to do.
    return write_tree(tmp_path_factory.mktemp("tree"), {"train": 100, "test": 12}, size=32, width=40)


@pytest.fixture(scope="session")
def cache(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cache")
    os.environ["BDD_CACHE"] = str(folder)
    return folder


@pytest.fixture(scope="session")
def trained(tree, cache, tmp_path_factory):
    """A run folder, trained for a few short epochs (long enough that no score hangs on one sign) on a checkerboard."""
    from bdd_tf import evaluation, training
    from bdd_tf.config import experiment
    from bdd_tf.runs import Run

    runs = tmp_path_factory.mktemp("runs")
    config = experiment(
        dataset="folder", data_dir=str(tree), resolution=32, resize="native", epochs=10, batch=16, warmup=2,
        validation_fraction=0.2,
    )  # fmt: skip
    run = Run(runs / "small")
    training.train(config, run, runs_dir=runs)
    # So few images tell a threshold for a quarter of false alarms, but none for a hundredth.
    evaluation.evaluate_run(run, "validation", bootstrap=50, false_alarms=(0.25,))
    evaluation.evaluate_run(run, "test", bootstrap=50)
    return run


@pytest.fixture(scope="session")
def converted(trained):
    """The result of `bdd convert` for that run."""
    from converters.keras_to_tflite import convert_run

    return convert_run(trained.name, trained.path.parent)
