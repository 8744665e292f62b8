"""Imported networks equal open_clip, timm and torchvision: every block, the features of 50 photographs, and the float file.

`make test-references` runs this with the reference environment's Python in BDD_REFERENCES; `make test` leaves it out.
"""

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
from converters.pytorch.checkpoint_files import read_checkpoint
from converters.pytorch.vision_import import import_vision
from converters.pytorch.vision_layouts import recognise
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


def imported(path, expected_part):
    """The network of a file, and the file's tensors in Keras' layout by layer and index."""
    tensors = read_checkpoint(path).tensors
    found = recognise(tensors, path)
    assert any(expected_part in part for part in found.left_out), found.left_out
    arrays = {(e.layer, e.index): e.layout.to_keras(found.tensors[e.key]) for e in found.entries if e.layer}
    return tensors, arrays


def test_blocks_features_and_float_file_equal_the_reference(reference):
    name, folder, images = reference
    files, backbone, normalisation, left_out, parameters = NETWORKS[name]
    expected = np.load(folder / "expected.npz")
    tensors, arrays = imported(folder / files[0], left_out)
    for file in files[1:]:  # every format holds the same network
        _, others = imported(folder / file, left_out)
        assert arrays.keys() == others.keys()
        for key, value in others.items():
            np.testing.assert_array_equal(arrays[key], value)
        del others
    model = import_vision(tensors, folder / files[0], None, None).model
    del tensors, arrays
    assert model.get_layer("normalise").statistics == normalisation
    trainable = sum(int(np.prod(w.shape)) for w in model.trainable_weights if not w.name.startswith("logit"))
    assert (model.name, trainable) == (backbone.replace("-", "_"), parameters)

    layers = blocks_of(model)
    network = body(model)
    both = tf.keras.Model(model.input, [*(model.get_layer(layer).output for layer in layers), network.output])
    outputs = [out.numpy() for out in both(images[:2], training=False)]
    assert len(layers) == sum(key.startswith("block") for key in expected.files)
    worst = 0.0
    for i, out in enumerate(outputs[:-1]):
        there = expected[f"block{i}"]
        worst = max(worst, scaled(out, there.transpose(0, 2, 3, 1) if there.ndim == 4 else there))
    features = np.concatenate([network(images[i : i + 10], training=False).numpy() for i in range(0, 50, 10)])
    difference = scaled(features, expected["features"])
    say(f"{name}: blocks {worst:.2g}, features {difference:.2g} of the scale")

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
    say(f"{name}: features of the .tflite file {converted:.2g} of the scale")
    assert worst <= BLOCK_LIMIT
    assert difference <= FEATURE_LIMIT
    assert converted <= FEATURE_LIMIT
