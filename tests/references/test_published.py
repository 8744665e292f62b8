"""Imported networks equal open_clip, timm and torchvision: every block, the features of 50 photographs, and the float file.

`make test-references` runs this with the reference environment's Python in BDD_REFERENCES; `make test` leaves it out.
"""

import json
import os
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

PYTHON = os.environ.get("BDD_REFERENCES", "")
if not PYTHON:
    pytest.skip("make test-references makes the environment that this needs", allow_module_level=True)

from bdd_tf.console import say
from bdd_tf.edge.tflite.file import parse_tflite
from bdd_tf.legacy_keras import tf
from bdd_tf.training.weights import load_trained
from converters.pytorch.keras_weights import import_checkpoint
from converters.sample_images import photographs
from converters.tflite import builtin_ops

ROOT = Path(__file__).resolve().parents[2]
#: Reference -> its files with the backbone, the normalisation, the parts that are left out, and trainable parameters.
#: 25.6 M and 88.2 M are those of torchvision and timm with 1000 classes; the paper prints 25.6 M and 88.3 M.
NETWORKS = {
    "vit-b32": (("model.safetensors", "jx_vit.pth", "ViT-B_32.npz"), "vit-b32", "half", "classifier", 87_455_232),
    "vit-b32-torchvision": (("vit_b_32-d86f8d99.pth",), "vit-b32", "imagenet", "classifier", 87_455_232),
    "resnet50-v1.5": (
        ("resnet50.pth", "resnet50-11ad3fa6.pth"), "resnet50-v1.5", "imagenet", "classifier", 23_508_032,
    ),
    "clip-resnet50": (("RN50.pt", "openai/open_clip_model.safetensors"), "clip-resnet50", "clip", "text tower", 38_316_896),
    "clip-vit-b32": (
        ("ViT-B-32.pt", "vit_b_32-quickgelu-laion400m_e32.pt"), "clip-vit-b32", "clip", "text tower", 87_849_216,
    ),
    "openclip-vit-b32": (
        ("laion2B/open_clip_pytorch_model.bin", "laion2B/open_clip_model.safetensors"),
        "openclip-vit-b32", "clip", "text tower", 87_849_216,
    ),
}  # fmt: skip
BLOCK_LIMIT, FEATURE_LIMIT = 1e-5, 1e-4


@pytest.fixture(scope="module", params=NETWORKS)
def reference(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("reference")
    images = photographs(50, 224)
    np.save(folder / "images.npy", images)
    command = [
        PYTHON,
        "-m",
        "tools.references.export",
        request.param,
        str(folder / "images.npy"),
        str(folder),
    ]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    yield request.param, folder, images
    tf.keras.backend.clear_session()
    shutil.rmtree(folder)


def body(model):
    """The network from the image to its features."""
    return tf.keras.Model(model.input, model.get_layer("logit").input)


def blocks_of(model):
    """The layers whose outputs are those of the reference's blocks."""
    names = [layer.name for layer in model.layers]
    if "feature.block0.mlp.add" in names:
        return [name for name in names if name.endswith(".mlp.add")]
    return [
        name
        for name in names
        if name.startswith("feature.layer") and name.count(".") == 3 and name.endswith("relu")
    ]


def scaled(found, expected):
    return float(np.abs(found - expected).max() / np.abs(expected).max())


def test_blocks_features_and_float_file_equal_the_reference(reference, tmp_path):
    name, folder, images = reference
    files, backbone, normalisation, left_out, parameters = NETWORKS[name]
    expected = np.load(folder / "expected.npz")
    weights = []
    for number, file in enumerate(files):
        run = import_checkpoint(folder / file, f"imported{number}", tmp_path)
        about = json.loads(run.imported.read_text())
        assert any(left_out in part for part in about["left_out"]), about
        model = load_trained(run)
        weights.append(model.get_weights()[:-2])
        assert model.get_layer("normalise").statistics == normalisation
    # Every file format holds the same network.
    for other in weights[1:]:
        for one, two in zip(weights[0], other, strict=True):
            np.testing.assert_array_equal(one, two)
    trainable = sum(int(np.prod(w.shape)) for w in model.trainable_weights if not w.name.startswith("logit"))
    assert (model.name, trainable) == (backbone.replace("-", "_"), parameters)

    layers = blocks_of(model)
    inner = tf.keras.Model(model.input, [model.get_layer(layer).output for layer in layers])
    outputs = [out.numpy() for out in inner(images[:2], training=False)]
    assert len(outputs) == sum(key.startswith("block") for key in expected.files)
    worst = 0.0
    for i, out in enumerate(outputs):
        there = expected[f"block{i}"]
        worst = max(worst, scaled(out, there.transpose(0, 2, 3, 1) if there.ndim == 4 else there))
    network = body(model)
    features = np.concatenate([network(images[i : i + 10], training=False).numpy() for i in range(0, 50, 10)])
    difference = scaled(features, expected["features"])

    content = builtin_ops.float_file(network)
    assert not parse_tflite(content).custom_operators
    interpreter = tf.lite.Interpreter(model_content=content, num_threads=2)
    interpreter.allocate_tensors()
    rows = []
    for image in images:
        interpreter.set_tensor(interpreter.get_input_details()[0]["index"], image[None])
        interpreter.invoke()
        rows.append(interpreter.get_tensor(interpreter.get_output_details()[0]["index"])[0])
    converted = scaled(np.stack(rows), expected["features"])
    say(f"{name}: blocks {worst:.2g}, features {difference:.2g}, .tflite {converted:.2g} of the scale")
    assert worst <= BLOCK_LIMIT
    assert difference <= FEATURE_LIMIT
    assert converted <= FEATURE_LIMIT
