"""Files with TensorFlow Lite's builtin operators only: float networks, and exports of binary ones that need no delegate.

A binary convolution becomes a float convolution with weights and inputs of +1 and -1, which is the same function. An
int8 file computes everything up to the normalisation in float32: the spectrum spans several decades and the texture
patterns are comparisons, and neither survives 256 levels. TensorFlow's converter quantizes a whole model or none of it,
so the file is assembled from a float and an int8 file.
"""

from __future__ import annotations

import copy
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np

from bdd_tf.legacy_keras import tf
from bdd_tf.models.attention import LayerNorm
from bdd_tf.models.operation_counts import flat_layers
from converters.tflite.graph_editor import pack

from tensorflow.lite.python import schema_py_generated as schema  # isort: skip

#: Name of the last layer that an int8 file computes in float32.
_LAST_FLOAT_LAYER = "normalise"
_OUTPUT = "fake_probability"


@contextmanager
def saved_model(model: tf.keras.Model, around: Callable | None = None) -> Iterator[str]:
    """Write a model's inference graph as a SavedModel with any batch size, to a temporary folder.

    Args:
        model: One input, one output. The output is named ``fake_probability``.
        around: Makes a context manager from the model, which is active during tracing.

    Yields:
        Path of the folder, which is deleted afterwards.
    """
    image = tf.TensorSpec([None, *model.input_shape[1:]], model.inputs[0].dtype, name="image")
    function = tf.function(lambda image: {_OUTPUT: model(image, training=False)}, [image], autograph=False)
    # model.save would trace every layer twice: a minute instead of seconds.
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
    """Convert a detector to float32 with TensorFlow's converter.

    Args:
        model: uint8 [N, S, S, 3] -> float32 [N, 1]. Binary convolutions become float ones.

    Returns:
        A .tflite file with batch size 1 and without metadata.
    """
    with saved_model(model) as folder:
        return tf.lite.TFLiteConverter.from_saved_model(folder).convert()


def int8_file(model: tf.keras.Model, images: np.ndarray) -> bytes:
    """Convert a detector with int8 weights and activations in the backbone and classifier.

    Of a transformer only the weights are int8, and the activations of a product are rounded when it is computed: fixed ranges
    for layer normalisation and the few large activations of a transformer lose too much (arXiv 2208.07339).

    Args:
        model: uint8 [N, S, S, 3] -> float32 [N, 1].
        images: uint8 [N, S, S, 3], real images that the quantization ranges of the activations are measured on.

    Returns:
        A .tflite file without metadata. Its input is uint8 and its output float32, as in every file of ours.
    """
    front, back = split_at_normalise(model)
    between = np.concatenate([front(images[i : i + 16], training=False) for i in range(0, len(images), 16)])
    with saved_model(back) as folder:
        converter = tf.lite.TFLiteConverter.from_saved_model(folder)
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        if not any(isinstance(layer, LayerNorm) for layer in flat_layers(model)):
            converter.representative_dataset = lambda: ([x[None]] for x in between)
            converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
        quantized = converter.convert()
    return join(float_file(front), quantized)


def split_at_normalise(model: tf.keras.Model) -> tuple[tf.keras.Model, tf.keras.Model]:
    """Split a detector behind its input normalisation: forensic channels and adapter, then backbone and classifier."""
    normalised = model.get_layer(_LAST_FLOAT_LAYER).output
    return tf.keras.Model(model.input, normalised), tf.keras.Model(normalised, model.output)


def join(front: bytes, back: bytes) -> bytes:
    """Concatenate two files: the output of the first becomes the input of the second.

    Args:
        front: A .tflite file with one graph and one output.
        back: A .tflite file with one graph, whose only input has the type and shape of that output.

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

    def renumbered(index: int) -> int:
        return int(index) if index < 0 else seam if index == entry else int(index) + tensors

    for op in more.operators:
        op.opcodeIndex += codes
        op.inputs, op.outputs = [renumbered(i) for i in op.inputs], [renumbered(i) for i in op.outputs]
    graph.operators += more.operators
    graph.outputs = [renumbered(i) for i in more.outputs]
    for signature in first.signatureDefs or []:
        signature.outputs = copy.deepcopy(second.signatureDefs[0].outputs)
        for out in signature.outputs:
            out.tensorIndex = renumbered(out.tensorIndex)
    # The converter's other metadata describes one half only.
    first.metadata = [entry for entry in first.metadata or [] if entry.name == b"min_runtime_version"]
    return pack(first, len(front) + len(back))
