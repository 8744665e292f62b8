"""Files of transformers and of CLIP's ResNet: builtin operators, Keras' values, int8 weights, normalisation in the metadata."""

import json

import numpy as np
import pytest

from bdd_tf.config import Experiment
from bdd_tf.edge import Detector
from bdd_tf.edge.tflite.file import parse_tflite
from bdd_tf.edge.tflite.metadata import METADATA_NAME, embed_metadata
from bdd_tf.models.normalisation import NORMALISATIONS
from bdd_tf.runs import Validated
from bdd_tf.training.weights import build
from converters import verify
from converters.convert import metadata
from converters.sample_images import photographs, update_bn
from converters.tflite import builtin_ops
from tests import tiny_vision

#: LiteRT runs what our own interpreter does not cover.
pytest.importorskip("ai_edge_litert")


@pytest.fixture(scope="module", autouse=True)
def tiny():
    tiny_vision.register()
    yield
    tiny_vision.unregister()


@pytest.mark.parametrize("name", ["tiny-vit", "tiny-clip", "tiny-clip-resnet"])
def test_files_hold_builtin_operators_and_score_like_keras(name, tmp_path):
    side = 64 if "resnet" in name else 32
    config = Experiment(backbone=name, channels=("rgb",), resolution=side)
    model, images = build(config), photographs(16, side)
    update_bn(model, photographs(16, side, seed=1))
    # Initial kernels are so small that all scores are equal; these are not.
    rng = np.random.default_rng(0)
    for weight in model.weights:
        if weight.shape.rank == 2:
            weight.assign(rng.normal(0, 0.5 / weight.shape[0] ** 0.5, weight.shape))
    content = builtin_ops.float_file(model)
    parsed = parse_tflite(content)
    assert not parsed.custom_operators
    assert {"SOFTMAX", "BATCH_MATMUL"} <= set(verify.operator_counts(parsed))
    exact = verify.compare(model, content, images, 0.5)
    assert exact.largest < 1e-5
    assert np.ptp(verify.file_scores(content, images)) > 1e-3

    smaller = builtin_ops.int8_file(model, images)
    assert verify.compare(model, smaller, images, 0.5).median < 0.02
    largest = max(parse_tflite(smaller).subgraphs[0].tensors, key=lambda tensor: len(tensor.data))
    assert largest.dtype == "int8" or len(smaller) < len(content)

    about = metadata(config, Validated(), None, trained=False)
    mean, deviation = NORMALISATIONS[config.statistics]
    assert about["normalisation"] == {"mean": list(mean), "std": list(deviation)}
    path = tmp_path / "model.tflite"
    path.write_bytes(embed_metadata(content, METADATA_NAME, json.dumps(about).encode()))
    with Detector(path) as detector:
        scores = [float(x) for x in detector.predict(list(images))]
    np.testing.assert_allclose(scores, verify.file_scores(content, images), atol=1e-6)


def test_metadata_of_imagenets_normalisation_is_unchanged():
    assert "normalisation" not in metadata(Experiment(), Validated(), None, trained=False)
