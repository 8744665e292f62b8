"""The example of docs/extending.md, from training to the converted file, and the errors of plug-ins."""

import importlib
import re
import sys
from pathlib import Path

import numpy as np
import pytest

import bdd_tf
from bdd_tf import entry_points, extensions
from bdd_tf.cli import main
from bdd_tf.datasets import augment
from bdd_tf.edge.detector import Detector
from bdd_tf.errors import BddError, UsageError
from bdd_tf.models import channel_names, registry

PAGE = Path(__file__).parents[1] / "docs" / "extending.md"
NAMES = ("rgb", "lbp", "saturation")


@pytest.fixture(autouse=True)
def forgotten(monkeypatch):
    """Forget what a test registers."""
    tables = (registry.BACKBONES, channel_names.REGISTERED, augment.REGISTERED)
    saved = [dict(table) for table in tables]
    monkeypatch.setattr(entry_points, "_loaded", set())
    yield
    for table, content in zip(tables, saved, strict=True):
        table.clear()
        table.update(content)
    for name in [n for n in sys.modules if n.startswith("bdd_plugin_")]:
        del sys.modules[name]


@pytest.fixture
def mine(tmp_path):
    code = re.search(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    path = tmp_path / "mine.py"
    path.write_text(code[1])
    return path


def test_the_documented_plugin_trains_converts_and_detects(mine, tmp_path, make_tree, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    data = make_tree(tmp_path / "data", {"train": 24, "validation": 8, "test": 4}, size=32)
    options = ["--plugin", "./mine.py", "--run", "mine"]
    train = [
        "--data-dir",
        str(data),
        "--resolution",
        "32",
        "--backbone",
        "tiny",
        "--channels",
        "saturation,lbp,rgb",
    ]
    assert (
        main(["train", *options, *train, "--augment", "flip,speckle", "--epochs", "1", "--batch", "8"]) == 0
    )
    assert "next: bdd evaluate --run mine --plugin ./mine.py;" in capsys.readouterr().err
    assert main(["convert", *options]) == 0
    detector = Detector(tmp_path / "runs" / "mine" / "model.tflite")
    assert tuple(detector.metadata["channels"]) == NAMES
    images = np.random.default_rng(0).integers(0, 256, (6, 32, 32, 3), np.uint8)
    keras = bdd_tf.load(tmp_path / "runs" / "mine").predict(images, verbose=0)[:, 0]
    from bdd_tf.runs import Run, validated

    logit = np.log(keras / (1 - keras)) / validated(Run(tmp_path / "runs" / "mine")).temperature
    np.testing.assert_allclose(detector.predict(list(images)), 1 / (1 + np.exp(-logit)), atol=2e-3)

    # The stored run names the backbone; without the plug-in it is unknown, and nothing of the run is executed.
    registry.BACKBONES.pop("tiny")
    assert main(["evaluate", "--run", "mine"]) == 2
    assert "unknown backbone 'tiny'" in capsys.readouterr().err
    image = next((data / "test" / "REAL").iterdir())
    assert main(["detect", str(image), "--run", "mine", "--explain", str(tmp_path / "maps")]) == 0
    assert "explaining by occlusion: unknown backbone 'tiny'" in capsys.readouterr().err
    assert len(list((tmp_path / "maps").iterdir())) == 1


def test_registered_channels_come_last_in_an_order_that_does_not_depend_on_registration(mine):
    for name in ("zebra", "apple"):
        bdd_tf.register_channel(name, lambda x: x[..., :2], depth=2)
    assert channel_names.parse_channels("zebra,haar,apple,rgb") == ("rgb", "haar", "apple", "zebra")
    assert channel_names.depth(("rgb", "haar", "apple")) == 11


def test_an_augmentation_depends_on_seed_epoch_and_position_only(mine):
    extensions.load_plugin(str(mine))
    images = np.full((6, 16, 16, 3), 100, np.uint8)
    numbers = augment.draws(3, 1, 6)
    whole = augment.augment(images, numbers, ("speckle",))
    parts = [augment.augment(images[i : i + 2], numbers[i : i + 2], ("speckle",)) for i in (0, 2, 4)]
    np.testing.assert_array_equal(whole, np.concatenate(parts))
    assert len({image.tobytes() for image in whole}) == 6
    assert (images == 100).all()


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: bdd_tf.register_backbone("bnext-n", print, stage_stride=4), "already"),
        (lambda: bdd_tf.register_channel("rgb", print), "already"),
        (lambda: bdd_tf.register_augmentation("flip", print), "already"),
        (lambda: bdd_tf.register_channel("Über", print), "lower-case"),
        (lambda: bdd_tf.register_channel("a,b", print), "lower-case"),
        (lambda: bdd_tf.register_channel("deep", print, depth=0), "at least 1"),
        (lambda: bdd_tf.register_backbone("net", print, stage_stride=0), "at least 1"),
        (lambda: bdd_tf.register_augmentation("none", 3), "function"),
    ],
)
def test_wrong_registrations_are_refused(call, words):
    with pytest.raises(UsageError, match=words):
        call()


def test_a_channel_or_augmentation_of_another_shape_is_named():
    from bdd_tf.legacy_keras import tf
    from bdd_tf.models.forensic_channels import add_channels

    bdd_tf.register_channel("wide", lambda x: x, depth=1)
    with pytest.raises(BddError, match=r"channel wide returned shape .* depth 1"):
        add_channels(tf.zeros([1, 8, 8, 3]), ("rgb", "wide"))
    bdd_tf.register_augmentation("halved", lambda image, random: image[::2])
    with pytest.raises(BddError, match="augmentation halved returned uint8"):
        augment.augment(np.zeros((1, 8, 8, 3), np.uint8), augment.draws(0, 0, 1), ("halved",))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("x = 1\nraise ValueError('no')", r"failed \(p.py, line 2\): ValueError: no"),
        ("import there_is_no_such_module", r"failed \(p.py, line 1\): ModuleNotFoundError"),
        ("def broken(:", "failed.*SyntaxError"),
        ("import bdd_tf\nbdd_tf.register_channel('rgb', print)", "already"),
    ],
)
def test_errors_inside_a_plugin_are_one_sentence(text, words, tmp_path, capsys):
    path = tmp_path / "p.py"
    path.write_text(text)
    assert main(["train", "--plugin", str(path), "--dataset", "sample"]) in (1, 2)
    err = capsys.readouterr().err
    assert re.search(words, err), err
    assert "Traceback" not in err


@pytest.mark.parametrize("given", ["./absent.py", "absent_module"])
def test_a_missing_plugin_is_named(given, capsys):
    assert main(["info", "--plugin", given, "x"]) == 2
    assert given in capsys.readouterr().err


def test_installed_packages_announce_theirs_by_entry_points(tmp_path, monkeypatch):
    (tmp_path / "announced.py").write_text(
        "import bdd_tf\ndef register():\n    bdd_tf.register_backbone('announced', print, stage_stride=4)\n"
    )
    info = tmp_path / "announced-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: announced\nVersion: 1\n")
    (info / "entry_points.txt").write_text("[bdd_tf.backbones]\nannounced = announced:register\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    importlib.invalidate_caches()
    assert registry.backbone("announced").stage_stride == 4
    with pytest.raises(UsageError, match=r"unknown backbone 'other'; possible: .*announced"):
        registry.backbone("other")
