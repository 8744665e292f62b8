"""Describe the graph of a Keras detector, from the forensic channels to the logit, as plain data for PyTorch.

:mod:`bdd_tf.pytorch.graph_net` runs and trains the described graph. It serves float networks; BNext has PyTorch code of
its own (:mod:`bdd_tf.pytorch.bnext`).
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from bdd_tf.errors import BddError
from bdd_tf.legacy_keras import tf

#: Names of a detector's layers: the graph starts with the output of the first and ends with the last.
FIRST, LAST = "channels", "logit"
#: Settings of layers that influence the result.
_SETTINGS = (
    "filters", "kernel_size", "strides", "padding", "activation", "use_bias", "depth_multiplier", "dilation_rate",
    "groups", "momentum", "epsilon", "axis", "center", "scale", "max_value", "negative_slope", "threshold", "pool_size",
    "keepdims", "units", "rate", "target_shape", "function", "data_format", "statistics",
)  # fmt: skip


def describe_graph(model: tf.keras.Model) -> dict:
    """Describe the layers of a detector from its channels to its logit.

    Args:
        model: A detector made by :func:`bdd_tf.models.detector.build_detector`.

    Returns:
        Values for JSON: ``channels`` (number of input channels) and ``layers`` in topological order. Each layer has
        ``name``, ``kind`` (class), ``inputs`` (names; ``"channels"`` is the graph's input), ``constants`` (numeric
        arguments of an operator), ``settings`` and ``weights`` (names and shapes in Keras' order).
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
    """Append the descriptions of a network's layers, including those of nested networks.

    Args:
        model: The network.
        given: By name of an input layer, the name of the output that it receives.
        layers: The list to append to.

    Returns:
        By name of a layer, the name of the output that it provides.
    """
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
    """Return the names of a layer's inputs and the numeric arguments of its call."""
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
    """Assign weights to a detector.

    Args:
        model: The detector.
        arrays: By layer, in Keras' order and layout, for every layer with weights, including those of nested networks.

    Raises:
        BddError: If layers are missing or unexpected, or shapes differ. The message lists all problems; nothing is
            assigned then.
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
