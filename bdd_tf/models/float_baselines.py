"""Float baselines: networks of keras.applications without classifier, trained from random weights in the same detector.

The architectures are Keras' own. These changes are made in the layers' configurations:

* The small-image form (a stem of stride 1, as for BNext). The published stride of 32 would leave one position of a 32 px
  image. ResNet50 and DenseNet121: first convolution with stride 1, no max pool after it (the usual form for CIFAR; the
  7x7 kernel stays). VGG16, whose first convolutions already have stride 1: without the first of its five max pools.
  MobileNets and EfficientNet: first convolution with stride 1. Weights have the same shapes in both forms.
* Batch normalisation has BNext's momentum, 0.9, instead of Keras' 0.99 and 0.999, which need more than the few thousand
  steps of a training here.
* VGG16, which has no batch normalisation, uses He initialisation (arXiv 1502.01852). With Keras' default, Glorot, the
  signal halves every two ReLU layers.
* EfficientNet's input scaling is removed, because the detector normalises. Its stochastic depth is removed because a
  resumed run must equal an uninterrupted one, and the random stream of the depth would differ after a resumption.

Multiply-adds (without adapter) and parameters at 224 px, and in the small-image form at 32 px, with one logit:

    name                 parameters (M)   MACs at 224 (G)   MACs at 32 (G)   map at 32
    resnet50                      23.59             3.856            1.230         4x4
    vgg16                         14.72            15.347            1.134         2x2
    densenet121                    7.04             2.833            0.896         4x4
    mobilenetv2                    2.26             0.299            0.0244        2x2
    mobilenetv3-small              0.94             0.0549           0.0049        2x2
    mobilenetv3-large              3.00             0.214            0.0189        2x2
    efficientnet-b0                4.05             0.385            0.0320        2x2

Keras' ResNet50 follows the paper: the stride is in the first 1x1 convolution of a stage. The often quoted 4.1 G belong to
the later form with the stride in the 3x3 convolution. The counts exclude the classifiers, such as VGG16's dense layers
(0.12 G, 124 M parameters) and MobileNetV3's hidden layer.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field

from bdd_tf.errors import one_of
from bdd_tf.legacy_keras import tf
from bdd_tf.models.bnext import MOMENTUM

layers = tf.keras.layers

#: Resolution at which keras.applications builds the network before it is changed; any multiple of 32 works.
_BUILT_AT = 224


@dataclass(frozen=True)
class Baseline:
    """A network of keras.applications and its small-image form.

    Attributes:
        application: Name of its function in keras.applications.
        small: Changes for a stem of stride 1: layer -> configuration values, or None to remove the layer.
        options: Arguments of the function.
        always: Changes in both forms, like ``small``.
        convolutions: Configuration values of every convolution.
    """

    application: str
    small: dict[str, dict | None]
    options: dict = field(default_factory=dict)
    always: dict[str, dict | None] = field(default_factory=dict)
    convolutions: dict = field(default_factory=dict)


_V3 = {"include_preprocessing": False}
BASELINES = {
    "resnet50": Baseline(
        "ResNet50", {"conv1_conv": {"strides": (1, 1)}, "pool1_pad": None, "pool1_pool": None}
    ),
    "vgg16": Baseline("VGG16", {"block1_pool": None}, convolutions={"kernel_initializer": "he_normal"}),
    # Keras numbers the two padding layers, see _named.
    "densenet121": Baseline(
        "DenseNet121", {"conv1/conv": {"strides": (1, 1)}, "zero_padding2d_1": None, "pool1": None}
    ),
    "mobilenetv2": Baseline("MobileNetV2", {"Conv1": {"strides": (1, 1)}}),
    "mobilenetv3-small": Baseline("MobileNetV3Small", {"Conv": {"strides": (1, 1)}}, _V3),
    "mobilenetv3-large": Baseline("MobileNetV3Large", {"Conv": {"strides": (1, 1)}}, _V3),
    "efficientnet-b0": Baseline(
        "EfficientNetB0",
        {"stem_conv_pad": {"padding": ((1, 1), (1, 1))}, "stem_conv": {"strides": (1, 1)}},
        {"drop_connect_rate": 0.0},
        {"rescaling": None, "normalization": None},
    ),
}


def baseline(x: tf.Tensor, name: str, *, stem_stride: int) -> tf.Tensor:
    """Build a baseline without its classifier.

    Args:
        x: [N, H, W, 3] float32, normalised RGB; H and W must fit :func:`bdd_tf.models.registry.stem_stride`.
        name: A key of :data:`BASELINES`.
        stem_stride: 1 for the small-image form; any other value for the published form.

    Returns:
        [N, C] float32 features, the mean over the map.

    Raises:
        UsageError: For an unknown name.
    """
    if name not in BASELINES:
        raise one_of("backbone", name, tuple(BASELINES))
    chosen = BASELINES[name]
    function = getattr(tf.keras.applications, chosen.application)
    published = function(
        include_top=False, weights=None, input_shape=(_BUILT_AT, _BUILT_AT, 3), **chosen.options
    )
    changes = {**chosen.always, **(chosen.small if stem_stride == 1 else {})}
    change = _Change(changes, chosen.convolutions, published.layers)
    network = tf.keras.models.clone_model(published, layers.Input(x.shape[1:]), change)
    return layers.GlobalAveragePooling2D(name="feature.mean")(network(x))


class _Change:
    """Copies a layer with the changes of a baseline's entry.

    Args:
        changes: Layer -> configuration values, or None to remove the layer.
        convolutions: Configuration values of every convolution.
        network: All layers of the network.
    """

    def __init__(
        self, changes: dict[str, dict | None], convolutions: dict, network: list[tf.keras.layers.Layer]
    ) -> None:
        self.changes, self.convolutions = changes, convolutions
        self.names = _named(network)
        missing = set(changes) - set(self.names.values())
        assert not missing, f"keras.applications has no layer {missing} any more"

    def __call__(self, layer: tf.keras.layers.Layer) -> tf.keras.layers.Layer:
        name, config = self.names[layer.name], layer.get_config()
        # The prefix "feature", as in BNext, tells `bdd train --init` which weights belong to the backbone.
        if layer.weights:
            config["name"] = f"feature.{name}"
        if name in self.changes:
            change = self.changes[name]
            if change is None:
                return layers.Activation("linear", name=config["name"])
            config |= change
        if isinstance(layer, layers.BatchNormalization):
            config["momentum"] = MOMENTUM
        if isinstance(layer, layers.Conv2D):
            config |= self.convolutions
        return type(layer).from_config(config)


def _named(network: list[tf.keras.layers.Layer]) -> dict[str, str]:
    """Map Keras' layer names to stable ones. Keras numbers unnamed layers over the whole process; here from 0."""
    names: dict[str, str] = {}
    seen: Counter[str] = Counter()
    for layer in network:
        kind = re.fullmatch(r"(zero_padding2d|rescaling|normalization)(_\d+)?", layer.name)
        if kind is None:
            names[layer.name] = layer.name
            continue
        number = seen[kind[1]]
        seen[kind[1]] += 1
        names[layer.name] = f"{kind[1]}_{number}" if number else kind[1]
    return names
