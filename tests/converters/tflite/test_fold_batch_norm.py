"""Gains and biases behind gates act on vectors, and the function stays what it was."""

from collections import Counter

import numpy as np
import pytest

from bdd_tf.edge.engines import create_engine
from bdd_tf.edge.tflite.file import parse_tflite
from bdd_tf.legacy_keras import tf
from bdd_tf.models.bnext import block, unit
from bdd_tf.models.operation_counts import flat_layers
from converters.tflite import builtin_ops
from converters.tflite.fold_batch_norm import fold

SIDE, CHANNELS = 8, 32
layers = tf.keras.layers


def ready(x, y):
    """A model of all weights random, on bytes so that its inputs are those of a detector."""
    model = tf.keras.Model(x, y)
    rng = np.random.default_rng(1)
    for layer in flat_layers(model):
        values = [rng.uniform(0.2, 1.5, w.shape) for w in layer.get_weights()]
        if "conv" in layer.name and "norm" not in layer.name:
            values = [rng.normal(0, 1, w.shape) for w in layer.get_weights()]
        if layer.name.endswith((".reduce", ".expand")):
            values = [rng.normal(0, 0.2, w.shape) for w in layer.get_weights()]
        if layer.name.endswith(".mix"):
            values = [rng.uniform(0, 1, w.shape) for w in layer.get_weights()]
        layer.set_weights(values)
    return model


def start():
    x = tf.keras.Input((SIDE, SIDE, 3), dtype=tf.uint8)
    cast = layers.Lambda(lambda t: tf.cast(t, tf.float32) / 255)(x)
    return x, layers.Conv2D(CHANNELS, 3, padding="same", name="stem_conv")(cast)


def convert(model):
    import larq_compute_engine as lce

    with builtin_ops.saved_model(model) as folder:
        return lce.convert_saved_model(folder)


def images(count=6):
    return np.random.default_rng(2).integers(0, 256, (count, SIDE, SIDE, 3)).astype(np.uint8)


def outputs(content, engine="lce"):
    return np.asarray(create_engine(parse_tflite(content), engine).run(images()))


def on_maps(content, *names):
    """How many operators of these names read a map and a constant per channel."""
    graph = parse_tflite(content).subgraphs[0]
    count = 0
    for op in graph.operators:
        tensors = [graph.tensors[i] for i in op.inputs if i >= 0]
        vector = any(
            t.nbytes and t.shape and t.shape[-1] > 3 and t.nbytes == 4 * t.shape[-1] for t in tensors
        )
        whole = any(not t.nbytes and len(t.shape) == 4 and t.shape[1] * t.shape[2] > 1 for t in tensors)
        count += op.name in names and vector and whole
    return count


def agree(before, after, engine="lce"):
    one, other = outputs(before, engine), outputs(after, engine)
    np.testing.assert_allclose(other, one, atol=2e-5 * np.abs(one).max())


def bnext_like():
    """Every form of unit: plain and attention, with a stride, side by side, and a plain one behind a plain one."""
    x, y = start()
    y = block(y, CHANNELS, strides=1, attention=True, name="a")
    y = block(y, CHANNELS, strides=1, attention=False, name="b")
    y = block(y, 2 * CHANNELS, strides=2, attention=False, name="c")
    y = block(y, 2 * CHANNELS, strides=2, attention=True, name="d")
    y = layers.PReLU(shared_axes=[1, 2], name="last")(y)
    return ready(x, layers.GlobalAveragePooling2D()(y))


@pytest.fixture(scope="module")
def network():
    return convert(bnext_like())


@pytest.mark.parametrize("engine", ["lce", "litert"])
def test_gains_and_most_biases_leave_the_maps_and_nothing_else_changes(network, engine):
    folded = fold(network)
    agree(network, folded, engine)
    assert on_maps(network, "MUL") == 9
    assert on_maps(folded, "MUL") == 0
    # A threshold in front of each sign stays, and what a PReLU reads: of block b, and of the last.
    assert on_maps(network, "ADD") == 18
    assert on_maps(folded, "ADD") == 11
    before, after = (
        Counter(op.name for op in parse_tflite(c).subgraphs[0].operators) for c in (network, folded)
    )
    del before["ADD"], after["ADD"]
    assert before == after


def test_folding_again_changes_nothing(network):
    once = fold(network)
    assert fold(once) == once


def test_a_file_without_such_forms_keeps_its_operators():
    x, y = start()
    y = layers.Conv2D(8, 3, activation="relu", name="conv_b")(y)
    content = convert(ready(x, layers.GlobalAveragePooling2D()(y)))
    names = [[op.name for op in parse_tflite(c).subgraphs[0].operators] for c in (content, fold(content))]
    assert names[0] == names[1]
    np.testing.assert_array_equal(outputs(content), outputs(fold(content)))


def gated(y):
    mean = layers.GlobalAveragePooling2D(keepdims=True)(y)
    return layers.Multiply()([y, layers.Conv2D(CHANNELS, 1, activation="sigmoid", name="conv_gate")(mean)])


def biased(y):
    return layers.BatchNormalization(name="norm")(y)


@pytest.mark.parametrize(
    "reader",
    [
        lambda y: layers.ReLU()(y),
        lambda y: y * y,
        lambda y: tf.nn.max_pool2d(y, 2, 2, "VALID"),
        # At borders fewer are averaged: no constant comes through.
        lambda y: tf.nn.avg_pool2d(y, 3, 1, "SAME"),
        lambda y: tf.reduce_mean(y, axis=[1], keepdims=True),
        lambda y: tf.reduce_mean(y, axis=[1, 2], keepdims=True),
        lambda y: tf.concat([y, y], axis=1),
        lambda y: tf.transpose(y, [0, 2, 1, 3]),
    ],
    ids=["relu", "square", "max-pool", "same-pool", "mean-of-rows", "mean", "concat-of-rows", "transpose"],
)
def test_a_bias_stays_where_its_reader_needs_it(reader):
    x, y = start()
    content = convert(ready(x, layers.Lambda(reader)(biased(gated(y)))))
    folded = fold(content)
    agree(content, folded)
    assert on_maps(content, "MUL") == 1
    assert on_maps(folded, "MUL") == 0


def test_the_output_itself_has_its_bias_and_a_value_read_twice_keeps_its_gain():
    x, y = start()
    product = gated(y)
    content = convert(ready(x, biased(product)))
    agree(content, fold(content))
    content = convert(ready(x, layers.Add()([biased(product), product])))
    agree(content, fold(content))
    assert on_maps(fold(content), "MUL") == 1


def test_equal_constants_share_a_buffer():
    x, y = start()
    for i in range(3):
        y = unit(y, 1, name=f"u{i}")
    model = ready(x, layers.GlobalAveragePooling2D()(y))
    for layer in flat_layers(model):
        if layer.name.endswith(".prelu"):
            layer.set_weights([np.full(w.shape, 0.3) for w in layer.get_weights()])
    content = convert(model)
    assert len(fold(content)) < len(content)
    agree(content, fold(content))
