"""Training in PyTorch: the same channels, a run that learns, resumes and comes home whole."""

import dataclasses
import itertools
import json
from types import SimpleNamespace

import cv2
import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="pip install -e .[torch]")

from bdd_tf.config import Experiment
from bdd_tf.datasets import augment as augmenting
from bdd_tf.datasets.sample import crops_of, photographs_of
from bdd_tf.edge.labels import FAKE
from bdd_tf.errors import BddError, UsageError
from bdd_tf.models.channel_names import CHANNELS, VARIANTS, depth
from bdd_tf.models.detector import logits
from bdd_tf.models.forensic_channels import add_channels
from bdd_tf.presets import experiment
from bdd_tf.pytorch import augment, channels, network, train, trainer
from bdd_tf.pytorch.pack import main as pack_main
from bdd_tf.training.history import read_history
from bdd_tf.training.weights import load_trained
from converters.pytorch.keras_weights import import_checkpoint
from tests import tiny_bnext


@pytest.fixture(autouse=True)
def quiet():
    torch.set_num_threads(2)


def sobel_of_opencv(images, variant):
    """The Sobel channel in double precision."""
    grey = [cv2.cvtColor(image, cv2.COLOR_BGR2GRAY) for image in images]
    gradients = [[cv2.Sobel(g, cv2.CV_64F, x, 1 - x, ksize=7) for x in (0, 1)] for g in grey]
    magnitude = np.stack([np.hypot(*pair) for pair in gradients])
    return magnitude / 255 if variant == "paper" else np.log1p(magnitude) / np.log1p(163200 * np.sqrt(2))


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("side", [32, 64])
def test_channels_are_those_of_keras(variant, side):
    images = crops_of(photographs_of("test"), 6, np.random.default_rng(3), side, (1, 2))
    images[0] = 0
    images[1] = 255
    ours = channels.add_channels(torch.from_numpy(images), CHANNELS, variant).numpy().transpose(0, 2, 3, 1)
    keras = add_channels(images, CHANNELS, variant).numpy()
    assert ours.shape == keras.shape
    # Each is held to OpenCV: torch's first float32 root in a process can be 3e-4 off.
    exact = sobel_of_opencv(images, variant)
    for who, found in (("PyTorch", ours), ("Keras", keras)):
        np.testing.assert_allclose(
            found[..., 3], exact, atol=2e-6, rtol=2e-6, err_msg=f"Sobel channel of {who}"
        )
    names = [name for name in CHANNELS for _ in range(depth([name]))]
    assert ours.shape[-1] == len(names)
    for i, name in enumerate(names):
        if name == "fft":
            # ln(|F| + 1e-9) has a cliff where a bin is empty but for rounding.
            strong = keras[..., i] > (0 if variant == "paper" else -1)
            np.testing.assert_allclose(ours[..., i][strong], keras[..., i][strong], atol=2e-5)
        else:
            # Haar details are sums of up to 48 rounded products of 255, scaled by 1/16.
            tolerance = 1e-5 if name == "haar" else 2e-6
            np.testing.assert_allclose(ours[..., i], keras[..., i], atol=tolerance, rtol=2e-6)


def test_augmentation_moves_as_the_pipelines_does():
    """Every result is one of those that the pipeline's own function makes of that image."""
    side, margin = 8, 1
    images = np.random.default_rng(0).integers(0, 256, (2, side, side, 3), np.uint8)
    possible = {}
    for flip in (0.0, 0.9):
        for row in range(2 * margin + 1):
            for column in range(2 * margin + 1):
                numbers = np.full((2, augmenting.DRAWS), 0.9, np.float32)
                numbers[:, 0] = flip
                numbers[:, 3], numbers[:, 4] = (np.array([row, column]) + 0.5) / (2 * margin + 1)
                for k, image in enumerate(augmenting.augment(images, numbers, ("flip", "crop"))):
                    possible.setdefault(k, set()).add(image.tobytes())
    index = torch.tensor([0, 1] * 200)
    changed = augment.augmented(torch.from_numpy(images), index, ("flip", "crop")).numpy()
    for k in (0, 1):
        seen = {image.tobytes() for image in changed[k::2]}
        assert seen == possible[k], "the same set, all of it"


@pytest.fixture(scope="module")
def packed(tmp_path_factory):
    """Smooth REAL and checkered FAKE images, settings and their files."""
    folder = tmp_path_factory.mktemp("packed")
    rng = np.random.default_rng(1)
    arrays = {}
    for split, count in (("train", 192), ("validation", 64)):
        labels = (np.arange(count) % 2).astype(np.uint8)
        levels = rng.integers(60, 190, (count, 1, 1, 3)) + rng.integers(-4, 5, (count, 16, 16, 3))
        checks = 40 * (np.indices((16, 16)).sum(0) % 2)[None, ..., None]
        levels = levels + checks * (labels == FAKE)[:, None, None, None]
        arrays |= {f"{split}_images": levels.clip(0, 255).astype(np.uint8), f"{split}_labels": labels}
    np.savez(folder / "images.npz", **arrays)
    config = experiment(
        "scratch", dataset="sample", backbone=tiny_bnext.NAME, resolution=16, epochs=6, batch=16, warmup=5,
        augment=("flip", "crop"),
    )  # fmt: skip
    config.save(folder / "n.yaml")
    return folder


def command(folder, output, *more):
    return train.main(
        ["--config", str(folder / "n.yaml"), "--data", str(folder / "images.npz"), "--output", str(output),
         "--device", "cpu", *map(str, more)]
    )  # fmt: skip


def scores_of(state_path, images):
    saved = torch.load(state_path, weights_only=True)
    net = network.network(Experiment.from_dict(json.loads(saved["config"])))
    net.load_state_dict(saved["net"])
    with torch.no_grad():
        return net.eval()(channels.add_channels(torch.from_numpy(images), ("rgb", "fft", "lbp"), "stable"))


def test_a_training_learns_and_comes_home(packed, tmp_path):
    assert command(packed, tmp_path / "a.ckpt", "--average", 0.9) == 0
    run = import_checkpoint(tmp_path / "a.ckpt", "a", tmp_path / "runs")
    history = read_history(run.history)
    assert [row["epoch"] for row in history] == [1, 2, 3, 4, 5, 6]
    assert history[-1]["images"] == 6 * 192
    assert history[-1]["validation_auc"] > 0.9
    assert dataclasses.replace(Experiment.load(run.config)).augment == ("flip", "crop")
    with np.load(packed / "images.npz") as file:
        images = file["validation_images"]
    keras = logits(load_trained(run)).predict(images, verbose=0)[:, 0]
    ours = scores_of(tmp_path / "a.state.pt", images).numpy()
    assert np.median(np.abs(keras - ours)) < 1e-4 * ours.std()


def test_signs_alone_are_the_same_network(packed, tmp_path):
    assert command(packed, tmp_path / "a.ckpt", "--epochs", 1) == 0
    assert command(packed, tmp_path / "b.ckpt", "--epochs", 1, "--signs") == 0
    assert (tmp_path / "b.ckpt").stat().st_size < 0.7 * (tmp_path / "a.ckpt").stat().st_size
    with np.load(packed / "images.npz") as file:
        images = file["validation_images"]
    one, two = (
        load_trained(import_checkpoint(tmp_path / f"{n}.ckpt", n, tmp_path / "runs")).predict(
            images, verbose=0
        )
        for n in "ab"
    )
    np.testing.assert_array_equal(one, two)


def test_a_stopped_training_goes_on_to_the_same_end(packed, tmp_path, monkeypatch):
    assert command(packed, tmp_path / "whole.ckpt", "--epochs", 3) == 0
    monkeypatch.setattr(trainer, "SAVE_SECONDS", -1.0)
    plain, calls = trainer.Training._plain, []

    def killed(self):
        calls.append(None)
        if len(calls) > 18:  # in the middle of the second epoch
            raise KeyboardInterrupt
        plain(self)

    with monkeypatch.context() as patch:
        patch.setattr(trainer.Training, "_plain", killed)
        with pytest.raises(KeyboardInterrupt):
            command(packed, tmp_path / "stopped.ckpt", "--epochs", 3)
    assert command(packed, tmp_path / "stopped.ckpt", "--epochs", 3) == 0
    one, two = (
        torch.load(tmp_path / f"{n}.ckpt", weights_only=True)["state_dict"] for n in ("whole", "stopped")
    )
    assert all(torch.equal(one[key], two[key]) for key in one)


def test_a_teacher_is_learnt_from(packed, tmp_path):
    assert command(packed, tmp_path / "t.ckpt", "--epochs", 1) == 0
    for name, weight in (("w0", 0.0), ("w1", 1.0)):
        options = ("--epochs", 1, "--teacher", tmp_path / "t.state.pt", "--teacher-weight", weight)
        assert command(packed, tmp_path / f"{name}.ckpt", *options) == 0
    assert command(packed, tmp_path / "none.ckpt", "--epochs", 1) == 0
    none, zero, one = (
        torch.load(tmp_path / f"{n}.ckpt", weights_only=True)["state_dict"]["fc.weight"]
        for n in ("none", "w0", "w1")
    )
    assert torch.equal(none, zero)
    assert not torch.equal(none, one)


def test_time_ends_the_schedule(packed, tmp_path, monkeypatch):
    ticks = itertools.count()  # a tenth of a second each, however busy the machine is
    monkeypatch.setattr(trainer, "time", SimpleNamespace(monotonic=lambda: next(ticks) / 10))
    assert command(packed, tmp_path / "a.ckpt", "--epochs", 1000, "--seconds", 6) == 0
    history = json.loads(
        torch.load(tmp_path / "a.ckpt", weights_only=True)["hyper_parameters"]["bdd_tf_history"]
    )
    assert 1 < len(history) < 10
    assert history[-1]["learning_rate"] < 2e-4
    assert history[-1]["validation_auc"] is not None


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"init": "x"}, "init"),
        ({"accumulate": 2}, "accumulate"),
        ({"augment": ("jitter",)}, "jitter"),
        ({"backbone": "resnet50"}, "--graph"),
        ({"batch": 500}, "less than a batch"),
    ],
)
def test_untrainable_experiments_are_refused_with_a_reason(packed, tmp_path, capsys, change, words):
    dataclasses.replace(Experiment.load(packed / "n.yaml"), **change).save(tmp_path / "n.yaml")
    (tmp_path / "images.npz").write_bytes((packed / "images.npz").read_bytes())
    assert command(tmp_path, tmp_path / "a.ckpt") == 2
    assert words in capsys.readouterr().err
    assert not (tmp_path / "a.ckpt").exists()


def test_other_settings_do_not_continue_a_training(packed, tmp_path, capsys):
    assert command(packed, tmp_path / "a.ckpt", "--epochs", 1) == 0
    assert command(packed, tmp_path / "a.ckpt", "--epochs", 2) == 2
    assert "other settings" in capsys.readouterr().err


def test_no_packed_images_are_said(packed, tmp_path, capsys):
    (tmp_path / "images.npz").write_bytes(b"nothing")
    (tmp_path / "n.yaml").write_bytes((packed / "n.yaml").read_bytes())
    assert command(tmp_path, tmp_path / "a.ckpt") == 1
    assert "packed images" in capsys.readouterr().err


def test_a_damaged_history_is_refused(packed, tmp_path):
    assert command(packed, tmp_path / "a.ckpt", "--epochs", 1) == 0
    saved = torch.load(tmp_path / "a.ckpt", weights_only=True)
    saved["hyper_parameters"]["bdd_tf_history"] = '[{"epoch": "x"}]'
    torch.save(saved, tmp_path / "b.ckpt")
    with pytest.raises(BddError, match="history"):
        import_checkpoint(tmp_path / "b.ckpt", "b", tmp_path / "runs")
    assert not (tmp_path / "runs" / "b").exists()


def test_packing_names_missing_arguments(capsys):
    assert pack_main(["--dataset", "sample"]) == 2
    assert "--images" in capsys.readouterr().err
    assert pack_main(["--dataset", "sample", "--graph", "x.json"]) == 2
    assert "no graph" in capsys.readouterr().err


def test_an_experiment_is_refused_for_a_reason(packed):
    with pytest.raises(UsageError):
        network.network(dataclasses.replace(Experiment.load(packed / "n.yaml"), freeze=True, init="x"))
