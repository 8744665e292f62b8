"""A Keras detector's graph as plain data, from the forensic channels to the logit: PyTorch runs and trains it.

:mod:`converters.torch_graph` is the other side. BNext has PyTorch code of its own (:mod:`converters.torch_bnext`);
this is for the float networks beside it.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from bdd_tf.errors import BddError
from bdd_tf.legacy_keras import tf

#: Between these layers of a detector; the first one's output is the graph's input.
FIRST, LAST = "channels", "logit"
#: Settings of layers that decide what they compute.
_SETTINGS = (
    "filters", "kernel_size", "strides", "padding", "activation", "use_bias", "depth_multiplier", "dilation_rate",
    "groups", "momentum", "epsilon", "axis", "center", "scale", "max_value", "negative_slope", "threshold", "pool_size",
    "keepdims", "units", "rate", "target_shape", "function", "data_format",
)  # fmt: skip


def describe_graph(model: tf.keras.Model) -> dict:
    """The layers of a detector from its channels to its logit.

    Args:
        model: As :func:`bdd_tf.models.detector.build_detector` makes it.

    Returns:
        Plain data for JSON: ``channels`` (of the input) and ``layers`` in an order in which they can be run, each with
        ``name``, ``kind`` (class), ``inputs`` (names; ``"channels"`` is the graph's input), ``constants`` (arguments
        of an operator that are numbers), ``settings`` and ``weights`` (names and shapes in Keras' order).
    """
    layers: list[dict] = []
    names = _walk(model, {}, layers)
    assert LAST in names
    kept = [entry for entry in layers if entry["inputs"]]
    found = [entry["name"] for entry in kept]
    assert len(set(found)) == len(found), "two layers of one name"
    after = found.index(LAST) + 1
    return {"channels": int(model.get_layer(FIRST).output.shape[-1]), "layers": kept[:after]}


def _walk(model: tf.keras.Model, given: Mapping[str, str], layers: list[dict]) -> dict[str, str]:
    """Add a network's layers; returns under which name each layer's output is known, nested networks resolved."""
    config = model.get_config()
    known: dict[str, str] = {}
    for entry in config["layers"]:
        name, kind = entry["name"], entry["class_name"].rpartition(">")[2]
        layer = model.get_layer(name)
        nodes = entry["inbound_nodes"]
        if not nodes:
            known[name] = given.get(name, "")
            continue
        inputs, constants = _arguments(nodes[0], known)
        if name == FIRST:
            known[name] = FIRST
        elif isinstance(layer, tf.keras.Model):
            inner = layer.get_config()
            (source,) = (n for n, *_ in inner["input_layers"])
            outputs = _walk(layer, {source: inputs[0]}, layers)
            known[name] = outputs[inner["output_layers"][0][0]]
        else:
            settings = entry["config"]
            layers.append(
                {
                    "name": name,
                    "kind": kind,
                    "inputs": [i for i in inputs if i],
                    "constants": constants,
                    "settings": {k: _plain(settings[k]) for k in _SETTINGS if k in settings},
                    "weights": [
                        {
                            "name": w.name.rpartition("/")[2].partition(":")[0],
                            "shape": [int(n) for n in w.shape],
                        }
                        for w in layer.weights
                    ],
                }
            )
            known[name] = name
    return known


def _arguments(node: list | dict, known: Mapping[str, str]) -> tuple[list[str], dict]:
    """Where a layer's inputs come from, and the numbers that an operator was called with."""
    calls = node if isinstance(node[0], list) else [node]
    inputs = [known[call[0]] for call in calls]
    constants = {
        k: v for k, v in calls[0][3].items() if isinstance(v, int | float) and not isinstance(v, bool)
    }
    for value in calls[0][3].values():
        if isinstance(value, list) and len(value) >= 3 and value[0] in known:
            inputs.append(known[value[0]])
    return inputs, constants


def _plain(value: object) -> object:
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    return value


def load_arrays(model: tf.keras.Model, arrays: Mapping[str, list[np.ndarray]]) -> None:
    """Put weights into a detector.

    Args:
        model: The detector.
        arrays: By layer, in Keras' order and shapes; every layer with weights, nested ones too.

    Raises:
        BddError: If a layer is missing or unexpected, or a shape differs; everything in one message, nothing assigned.
    """
    layers = {layer.name: layer for layer in model._flatten_layers() if _own_weights(layer)}
    wrong = [f"missing: {name}" for name in layers if name not in arrays]
    wrong += [f"unexpected: {name}" for name in arrays if name not in layers]
    for name in layers:
        shapes = [tuple(a.shape) for a in arrays.get(name, ())]
        wanted = [tuple(w.shape) for w in layers[name].weights]
        if name in arrays and shapes != wanted:
            wrong.append(f"{name}: shapes {shapes} instead of {wanted}")
    if wrong:
        more = f"; and {len(wrong) - 8} more" if len(wrong) > 8 else ""
        raise BddError(f"the weights do not fit this {model.name}: " + "; ".join(wrong[:8]) + more + ".")
    for name, layer in layers.items():
        layer.set_weights(arrays[name])


def _own_weights(layer: tf.keras.layers.Layer) -> bool:
    return bool(layer.weights) and not isinstance(layer, tf.keras.Model)
