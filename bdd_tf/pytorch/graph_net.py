"""Run and train the graph of a Keras detector in PyTorch.

:class:`GraphNet` interprets the output of :func:`bdd_tf.pytorch.keras_graph.describe_graph` layer by layer, with the
arithmetic of Keras, including its asymmetric SAME padding and its constants. Weights are converted without loss in both
directions.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from bdd_tf.models.normalisation import NORMALISATIONS
from bdd_tf.pytorch.bnext import initialise_adapter


def _same(x: torch.Tensor, kernel: list[int], strides: list[int], value: float = 0.0) -> torch.Tensor:
    """Apply TensorFlow's SAME padding; of an odd padding the larger part is at the right and the bottom."""
    pads = []
    for size, k, s in zip(x.shape[:1:-1], kernel[::-1], strides[::-1], strict=True):
        total = max((math.ceil(size / s) - 1) * s + k - size, 0)
        pads += [total // 2, total - total // 2]
    return F.pad(x, pads, value=value) if any(pads) else x


class _Conv(nn.Module):
    """Conv2D and DepthwiseConv2D. Keras' kernels are [H, W, in, out], depthwise ones [H, W, in, multiplier]."""

    def __init__(self, layer: dict) -> None:
        super().__init__()
        settings = layer["settings"]
        self.depthwise = layer["kind"] == "DepthwiseConv2D"
        height, width, into, out = layer["weights"][0]["shape"]
        self.groups = into if self.depthwise else settings.get("groups", 1)
        shape = (into * out, 1, height, width) if self.depthwise else (out, into, height, width)
        self.weight = nn.Parameter(torch.empty(shape))
        # Glorot's uniform distribution with Keras' fans; for a depthwise kernel they are in * area, multiplier * area.
        limit = math.sqrt(6 / (height * width * (into + out)))
        nn.init.uniform_(self.weight, -limit, limit)
        self.bias = nn.Parameter(torch.zeros(shape[0])) if settings["use_bias"] else None
        self.strides, self.kernel = settings["strides"], [height, width]
        self.dilation = settings.get("dilation_rate", [1, 1])
        self.same = settings["padding"] == "same"
        self.then = _activation(settings["activation"])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.same:
            reach = [(k - 1) * d + 1 for k, d in zip(self.kernel, self.dilation, strict=True)]
            x = _same(x, reach, self.strides)
        y = F.conv2d(x, self.weight, self.bias, self.strides, 0, self.dilation, self.groups)
        return self.then(y)

    def arrays(self) -> list[torch.Tensor]:
        """Return kernel and bias in Keras' layout."""
        kernel = self.weight.permute(2, 3, 1, 0)
        if self.depthwise:
            # In [H, W, 1, in * multiplier] the outputs of each input channel are adjacent.
            kernel = kernel.reshape(*self.kernel, self.groups, -1)
        return [kernel, *([self.bias] if self.bias is not None else [])]


class _Dense(nn.Module):
    def __init__(self, layer: dict) -> None:
        super().__init__()
        into, out = layer["weights"][0]["shape"]
        self.weight = nn.Parameter(torch.empty(out, into))
        nn.init.xavier_uniform_(self.weight)
        self.bias = nn.Parameter(torch.zeros(out)) if layer["settings"]["use_bias"] else None
        self.then = _activation(layer["settings"]["activation"])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.then(F.linear(x, self.weight, self.bias))

    def arrays(self) -> list[torch.Tensor]:
        """Return kernel and bias in Keras' layout."""
        return [self.weight.T, *([self.bias] if self.bias is not None else [])]


class _BatchNorm(nn.BatchNorm2d):
    """Batch normalisation. The running variance is unbiased, as in torch; Keras' is smaller by the factor (n - 1) / n."""

    def __init__(self, layer: dict) -> None:
        settings = layer["settings"]
        super().__init__(
            layer["weights"][0]["shape"][0], eps=settings["epsilon"], momentum=1 - settings["momentum"]
        )
        if not (settings["center"] and settings["scale"]):
            raise ValueError(f"unsupported batch normalisation without centre or scale: {layer['name']}")

    def arrays(self) -> list[torch.Tensor]:
        """Return gamma, beta, mean and variance."""
        return [self.weight, self.bias, self.running_mean, self.running_var]


class _Pool(nn.Module):
    def __init__(self, layer: dict) -> None:
        super().__init__()
        settings = layer["settings"]
        self.size, self.strides = settings["pool_size"], settings["strides"]
        self.largest, self.same = layer["kind"] == "MaxPooling2D", settings["padding"] == "same"
        if self.same and not self.largest:
            raise ValueError(f"unsupported average pooling with SAME padding: {layer['name']}")

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if not self.largest:
            return F.avg_pool2d(x, self.size, self.strides)
        return F.max_pool2d(
            _same(x, self.size, self.strides, -math.inf) if self.same else x, self.size, self.strides
        )


class _Normalise(nn.Module):
    """Normalise as `bdd_tf.models.detector.Normalise` does, with ImageNet's statistics if the graph names none."""

    def __init__(self, layer: dict) -> None:
        super().__init__()
        mean, deviation = NORMALISATIONS[layer["settings"].get("statistics", "imagenet")]
        scale = 1.0 / np.array(deviation, np.float32)
        for name, values in (("factor", scale), ("shift", np.array(mean, np.float32) * scale)):
            self.register_buffer(name, torch.from_numpy(values).view(1, 3, 1, 1), persistent=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * self.factor - self.shift


class _Function(nn.Module):
    def __init__(self, function: Callable[..., torch.Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, *x: torch.Tensor) -> torch.Tensor:
        return self.function(*x)


_ACTIVATIONS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "linear": lambda x: x,
    "relu": F.relu,
    "sigmoid": torch.sigmoid,
    "swish": F.silu,
    "silu": F.silu,
    "hard_sigmoid": lambda x: torch.clamp(0.2 * x + 0.5, 0.0, 1.0),  # defined by Keras 2; torch's differs
}


def _activation(name: str) -> Callable[[torch.Tensor], torch.Tensor]:
    if name not in _ACTIVATIONS:
        raise ValueError(f"unsupported activation {name}; supported: {', '.join(_ACTIVATIONS)}")
    return _ACTIVATIONS[name]


def _relu(layer: dict) -> nn.Module:
    settings = layer["settings"]
    if float(settings["negative_slope"]) or float(settings["threshold"]):
        raise ValueError(f"unsupported ReLU with slope or threshold: {layer['name']}")
    most = settings["max_value"]
    return _Function(F.relu if most is None else lambda x: torch.clamp(x, 0.0, float(most)))


def _operator(layer: dict) -> nn.Module:
    """Make a binary operator on two tensors, or on a tensor and a number."""
    function, constants = layer["settings"]["function"], list(layer["constants"].values())
    known = {"__operators__.add": torch.add, "math.add": torch.add, "math.multiply": torch.mul}
    if function not in known or len(constants) + len(layer["inputs"]) != 2:
        raise ValueError(f"unsupported operator {function}: {layer['name']}")
    return _Function(lambda *x: known[function](*x, *constants))


def _product(*x: torch.Tensor) -> torch.Tensor:
    return math.prod(x[1:], start=x[0])


def _zero_padding(layer: dict) -> nn.Module:
    (top, bottom), (left, right) = layer["settings"]["padding"]
    return _Function(lambda x: F.pad(x, (left, right, top, bottom)))


def _mean(layer: dict) -> nn.Module:
    keep = bool(layer["settings"].get("keepdims"))
    return _Function(lambda x: x.mean((2, 3), keepdim=keep))


def _reshape(layer: dict) -> nn.Module:
    shape = layer["settings"]["target_shape"]
    if len(shape) != 3 or shape[:2] != [1, 1]:
        raise ValueError(f"unsupported reshape to {shape}: {layer['name']}")
    return _Function(lambda x: x.reshape(len(x), -1, 1, 1))


_KINDS: dict[str, Callable[[dict], nn.Module]] = {
    "Conv2D": _Conv,
    "DepthwiseConv2D": _Conv,
    "Dense": _Dense,
    "BatchNormalization": _BatchNorm,
    "MaxPooling2D": _Pool,
    "AveragePooling2D": _Pool,
    "Normalise": _Normalise,
    "ZeroPadding2D": _zero_padding,
    "GlobalAveragePooling2D": _mean,
    "Reshape": _reshape,
    "ReLU": _relu,
    "TFOpLambda": _operator,
    "Activation": lambda layer: _Function(_activation(layer["settings"]["activation"])),
    "Add": lambda layer: _Function(lambda *x: sum(x[1:], start=x[0])),
    "Multiply": lambda layer: _Function(_product),
    "Concatenate": lambda layer: _Function(lambda *x: torch.cat(x, 1)),
    "Dropout": lambda layer: nn.Dropout(layer["settings"]["rate"]),
}


class GraphNet(nn.Module):
    """A Keras graph with new initial weights; maps float [N, C, H, W] to the logit of FAKE [N, 1].

    Args:
        graph: As :func:`bdd_tf.pytorch.keras_graph.describe_graph` returns it.

    Raises:
        ValueError: If it contains an unsupported layer or setting.
    """

    def __init__(self, graph: dict) -> None:
        super().__init__()
        self.layers = nn.ModuleList()
        self.names, self.inputs = [], []
        for layer in graph["layers"]:
            if layer["kind"] not in _KINDS:
                raise ValueError(
                    f"unsupported layer {layer['kind']}: {layer['name']}; supported: {', '.join(_KINDS)}"
                )
            self.layers.append(_KINDS[layer["kind"]](layer))
            self.names.append(layer["name"])
            self.inputs.append(layer["inputs"])
        if "adapter" in self.names:
            initialise_adapter(self.layers[self.names.index("adapter")].weight)
        self.last_use = {name: i for i, inputs in enumerate(self.inputs) for name in inputs}

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Run the layers; release each output after its last use."""
        known = {"channels": x}
        for i, (name, inputs, layer) in enumerate(zip(self.names, self.inputs, self.layers, strict=True)):
            known[name] = layer(*(known[n] for n in inputs))
            for n in set(inputs):
                if self.last_use[n] == i:
                    del known[n]
        return known[self.names[-1]]

    def arrays(self) -> dict[str, list[np.ndarray]]:
        """Return the weights by layer, float32, in Keras' order and layout."""
        return {
            name: [a.detach().float().cpu().numpy() for a in layer.arrays()]
            for name, layer in zip(self.names, self.layers, strict=True)
            if hasattr(layer, "arrays")
        }
