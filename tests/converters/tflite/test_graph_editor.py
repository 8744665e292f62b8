"""A rewritten file: the same function, aligned constants, no duplicates."""

import numpy as np
import pytest
from flatbuffers.number_types import UOffsetTFlags

from bdd_tf.edge.engines import create_engine
from bdd_tf.edge.tflite.file import parse_tflite
from bdd_tf.legacy_keras import tf
from converters.tflite import builtin_ops
from converters.tflite.graph_editor import pack, rewrite

from tensorflow.lite.python import schema_py_generated as schema  # isort: skip

DATA = 4  # of a buffer's fields


@pytest.fixture(scope="module")
def content():
    import larq_compute_engine as lce

    image = tf.keras.Input((8, 8, 3), dtype=tf.uint8)
    x = tf.cast(image, tf.float32) / 255
    for i in range(4):
        y = tf.keras.layers.Conv2D(3, 3, padding="same", bias_initializer="normal")(x)
        x = tf.tanh(y) * 0.5 + tf.nn.relu(y) * (i + 2.0)
    model = tf.keras.Model(image, tf.reduce_mean(x, axis=[1, 2, 3])[:, None])
    with builtin_ops.saved_model(model) as folder:
        return lce.convert_saved_model(folder)


def places_of_constants(file):
    """Where the data of each buffer begins."""
    model = schema.Model.GetRootAs(file, 0)
    tables = [model.Buffers(i)._tab for i in range(model.BuffersLength())]
    return [t.Vector(UOffsetTFlags.py_type(t.Offset(DATA))) for t in tables if t.Offset(DATA)]


def test_constants_begin_where_the_format_wants_them(content):
    places = places_of_constants(rewrite(content))
    assert len(places) > 8
    assert not any(place % 16 for place in places)


def test_the_function_stays_and_the_file_shrinks(content):
    again = rewrite(content)
    assert len(again) < len(content)
    images = np.random.default_rng(0).integers(0, 256, (5, 8, 8, 3)).astype(np.uint8)
    for engine in ("lce", "litert"):
        one, other = (create_engine(parse_tflite(c), engine).run(images) for c in (content, again))
        np.testing.assert_array_equal(one, other)


def test_writing_again_changes_nothing(content):
    once = rewrite(content)
    assert rewrite(once) == once


def attributes(model):
    return str([vars(op.builtinOptions) for op in model.subgraphs[0].operators if op.builtinOptions])


def test_all_that_an_operator_says_of_itself_is_kept(content):
    model = schema.ModelT.InitFromPackedBuf(content, 0)
    before = attributes(model)
    written = schema.ModelT.InitFromPackedBuf(pack(model, len(content)), 0)
    assert attributes(written) == before
    assert "padding" in before
