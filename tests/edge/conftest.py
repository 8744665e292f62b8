"""The models of `edge_models`, built once per session, and images."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from bdd_tf.edge.images.views import ViewRule
from tests.edge.small_models import CROP, SIZE, build, with_metadata, with_views


@pytest.fixture(scope="session")
def binary_model():
    return build()


@pytest.fixture(scope="session")
def binary_model_on_small_map():
    """Its 3x3 binary convolution with zero padding sees 2x2 maps, which LCE's fast kernels get wrong."""
    return build(pool=4)


@pytest.fixture(scope="session")
def float_model():
    return build(binary=False)


@pytest.fixture(scope="session")
def float_file(float_model, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("model") / "float.tflite"
    path.write_bytes(with_metadata(float_model.content))
    return path


@pytest.fixture(scope="session")
def binary_file(binary_model, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("model") / "binary.tflite"
    path.write_bytes(with_metadata(binary_model.content))
    return path


@pytest.fixture(scope="session")
def views_model():
    return build(binary=False, size=CROP)


@pytest.fixture(scope="session")
def views_file(views_model, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("model") / "views.tflite"
    path.write_bytes(with_views(views_model.content, ViewRule(CROP, 5, (1.0, 1.5, 2.0))))
    return path


@pytest.fixture
def images():
    return np.random.default_rng(0).integers(0, 256, (5, SIZE, SIZE, 3), dtype=np.uint8)


@pytest.fixture
def photo():
    """A smooth picture of odd size, so that JPEG hardly changes it and each corner differs."""
    y, x = np.mgrid[0:23, 0:31]
    return np.stack([x * 8, y * 11, 255 - 4 * (x + y)], -1).astype(np.uint8)


@pytest.fixture
def save(tmp_path):
    def save(array, name, **options):
        path = tmp_path / name
        image = array if isinstance(array, Image.Image) else Image.fromarray(array)
        image.save(path, **options)
        return path

    return save
