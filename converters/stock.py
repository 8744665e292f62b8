"""Files for stock runtimes, without Larq's operators: from float networks, and twins of binary ones.

A binary convolution becomes an ordinary one of signs, the same function. An int8 file keeps what stands in front of the
backbone in float32: the spectrum spans decades and the texture patterns are comparisons, neither survives 256 levels. It
is put together from two files, since the converter quantizes all of one or nothing.
"""

from __future__ import annotations

import copy
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np

from bdd_tf.legacy_keras import tf
from converters.rewriting import pack

from tensorflow.lite.python import schema_py_generated as schema  # isort: skip

#: The last layer that stays in float32.
_BORDER = "normalise"
_OUTPUT = "fake_probability"


@contextmanager
def saved_model(model: tf.keras.Model, around: Callable | None = None) -> Iterator[str]:
    """A model's graph for inference as a SavedModel of any batch, in a folder that goes away afterwards.

    Args:
        model: One input, one output, which becomes ``fake_probability``.
        around: Gives a context manager for the time of tracing.

    Yields:
        The folder.
    """
    image = tf.TensorSpec([None, *model.input_shape[1:]], model.inputs[0].dtype, name="image")
    function = tf.function(lambda image: {_OUTPUT: model(image, training=False)}, [image])
    # Not model.save: it traces every layer twice and takes a minute where this takes seconds.
    module = tf.Module()
    module.variables_kept = model.variables
    with tempfile.TemporaryDirectory() as folder:
        if around is None:
            traced = function.get_concrete_function()
        else:
            with around(model):
                traced = function.get_concrete_function()
        tf.saved_model.save(module, folder, signatures=traced)
        yield folder


def float_file(model: tf.keras.Model) -> bytes:
    """A detector with TensorFlow's own converter, all float32.

    Args:
        model: uint8 [N, S, S, 3] -> float32 [N, 1]; binary layers become float ones of signs.

    Returns:
        A .tflite file without metadata, its batch 1.
    """
    with saved_model(model) as folder:
        return tf.lite.TFLiteConverter.from_saved_model(folder).convert()


def int8_file(model: tf.keras.Model, images: np.ndarray) -> bytes:
    """A detector whose backbone and classifier compute in int8, weights and activations.

    Args:
        model: A detector.
        images: uint8 [N, S, S, 3], real images that the ranges of activations are taken from.

    Returns:
        A .tflite file without metadata, uint8 in and float32 out as all others.
    """
    front, back = _halves(model)
    between = np.concatenate([front(images[i : i + 16], training=False) for i in range(0, len(images), 16)])
    with saved_model(back) as folder:
        converter = tf.lite.TFLiteConverter.from_saved_model(folder)
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        converter.representative_dataset = lambda: ([x[None]] for x in between)
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
        quantized = converter.convert()
    return join(float_file(front), quantized)


def int8_weights_file(model: tf.keras.Model) -> bytes:
    """A detector with int8 weights in the backbone, whose activations are rounded to int8 anew for each image.

    Args:
        model: A detector. Signs and their weights are exact in int8.

    Returns:
        A .tflite file without metadata, uint8 in and float32 out as all others.
    """
    front, back = _halves(model)
    with saved_model(back) as folder:
        converter = tf.lite.TFLiteConverter.from_saved_model(folder)
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        quantized = converter.convert()
    return join(float_file(front), quantized)


def _halves(model: tf.keras.Model) -> tuple[tf.keras.Model, tf.keras.Model]:
    border = model.get_layer(_BORDER).output
    return tf.keras.Model(model.input, border), tf.keras.Model(border, model.output)


def join(front: bytes, back: bytes) -> bytes:
    """One file that runs two, one after the other.

    Args:
        front: A .tflite file of one graph and one output.
        back: Another one, whose one input has that output's type and shape.

    Returns:
        A file with the input of `front` and the output of `back`.
    """
    first, second = (schema.ModelT.InitFromPackedBuf(content, 0) for content in (front, back))
    graph, more = first.subgraphs[0], second.subgraphs[0]
    codes, buffers, tensors = len(first.operatorCodes), len(first.buffers), len(graph.tensors)
    first.operatorCodes += second.operatorCodes
    first.buffers += second.buffers
    for tensor in more.tensors:
        tensor.buffer = tensor.buffer + buffers if tensor.buffer else 0
    graph.tensors += more.tensors
    seam, entry = int(graph.outputs[0]), int(more.inputs[0])

    def moved(index: int) -> int:
        return int(index) if index < 0 else seam if index == entry else int(index) + tensors

    for op in more.operators:
        op.opcodeIndex += codes
        op.inputs, op.outputs = [moved(i) for i in op.inputs], [moved(i) for i in op.outputs]
    graph.operators += more.operators
    graph.outputs = [moved(i) for i in more.outputs]
    for signature in first.signatureDefs or []:
        signature.outputs = copy.deepcopy(second.signatureDefs[0].outputs)
        for out in signature.outputs:
            out.tensorIndex = moved(out.tensorIndex)
    # What the converter remembers of itself belongs to each half alone.
    first.metadata = [entry for entry in first.metadata or [] if entry.name == b"min_runtime_version"]
    return pack(first, len(front) + len(back))
