"""Float rivals: networks of keras.applications without classifier, trained from scratch inside the same detector.

The architectures are Keras' own, with random weights; what is changed, by the layers' configurations, is this:

* The small-image form (a stem of stride 1, as for BNext). Published strides of 32 would leave one position of a
  32 px image. ResNet50 and DenseNet121: first convolution with stride 1, no max pool behind it (the usual form for
  CIFAR; the 7x7 kernel stays). VGG16, whose first convolutions have stride 1: without the first of its five max pools.
  MobileNets and EfficientNet: first convolution with stride 1. Weights have the same shapes in both forms.
* Batch normalisation has BNext's momentum, 0.9, for Keras' 0.99 and 0.999: a training of a few thousand steps is too
  short for those.
* VGG16, which has no batch normalisation, starts from He's initialisation (arXiv 1502.01852) for Glorot's, whose
  signal fades by half every two layers of ReLU.
* EfficientNet's own scaling of the input is left out, since the detector normalises, and so is its stochastic depth: it
  would draw other numbers after a resumption, and a resumed run is to equal one that was never stopped.

Multiply-adds (without adapter) and parameters at 224 px, and in the small-image form at 32 px, with one logit:

    name                 parameters (M)   MACs at 224 (G)   MACs at 32 (G)   map at 32
    resnet50                      23.59             3.856            1.230         4x4
    vgg16                         14.72            15.347            1.134         2x2
    densenet121                    7.04             2.833            0.896         4x4
    mobilenetv2                    2.26             0.299            0.0244        2x2
    mobilenetv3-small              0.94             0.0549           0.0049        2x2
    mobilenetv3-large              3.00             0.214            0.0189        2x2
    efficientnet-b0                4.05             0.385            0.0320        2x2

Keras' ResNet50 is the paper's, with the stride in the first 1x1 convolution of a stage; 4.1 G is said of the later form
with the stride in the 3x3. The classifiers are left out: VGG16's dense layers (0.12 G, 124 M parameters) and
MobileNetV3's hidden one.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field

from bdd_tf.errors import one_of
from bdd_tf.legacy_keras import tf
from bdd_tf.models.bnext import MOMENTUM

layers = tf.keras.layers

#: Size at which keras.applications are built before their form is changed; any multiple of 32 does.
_BUILT_AT = 224


@dataclass(frozen=True)
class Rival:
    """A network of keras.applications and its small-image form.

    Attributes:
        application: Name of its function in keras.applications.
        small: Changes for a stem of stride 1: by layer, values of its configuration, or None to leave it out.
        options: Arguments of the function.
        always: Changes in both forms.
        convolutions: Values of the configuration of every convolution.
    """

    application: str
    small: dict[str, dict | None]
    options: dict = field(default_factory=dict)
    always: dict[str, dict | None] = field(default_factory=dict)
    convolutions: dict = field(default_factory=dict)


_V3 = {"include_preprocessing": False}
RIVALS = {
    "resnet50": Rival("ResNet50", {"conv1_conv": {"strides": (1, 1)}, "pool1_pad": None, "pool1_pool": None}),
    "vgg16": Rival("VGG16", {"block1_pool": None}, convolutions={"kernel_initializer": "he_normal"}),
    # The two paddings have no names of their own, see _named.
    "densenet121": Rival(
        "DenseNet121", {"conv1/conv": {"strides": (1, 1)}, "zero_padding2d_1": None, "pool1": None}
    ),
    "mobilenetv2": Rival("MobileNetV2", {"Conv1": {"strides": (1, 1)}}),
    "mobilenetv3-small": Rival("MobileNetV3Small", {"Conv": {"strides": (1, 1)}}, _V3),
    "mobilenetv3-large": Rival("MobileNetV3Large", {"Conv": {"strides": (1, 1)}}, _V3),
    "efficientnet-b0": Rival(
        "EfficientNetB0",
        {"stem_conv_pad": {"padding": ((1, 1), (1, 1))}, "stem_conv": {"strides": (1, 1)}},
        {"drop_connect_rate": 0.0},
        {"rescaling": None, "normalization": None},
    ),
}


def rival(x: tf.Tensor, name: str, *, stem_stride: int) -> tf.Tensor:
    """A rival's features.

    Args:
        x: [N, H, W, 3] float32, normalised RGB; H and W as :func:`bdd_tf.models.registry.stem_stride` has them.
        name: A key of :data:`RIVALS`.
        stem_stride: 1 for the small-image form, anything else for the published one.

    Returns:
        [N, C] float32 features, the mean over the map.

    Raises:
        UsageError: For an unknown name.
    """
    if name not in RIVALS:
        raise one_of("backbone", name, tuple(RIVALS))
    chosen = RIVALS[name]
    function = getattr(tf.keras.applications, chosen.application)
    published = function(
        include_top=False, weights=None, input_shape=(_BUILT_AT, _BUILT_AT, 3), **chosen.options
    )
    changes = {**chosen.always, **(chosen.small if stem_stride == 1 else {})}
    change = _Change(changes, chosen.convolutions, published.layers)
    network = tf.keras.models.clone_model(published, layers.Input(x.shape[1:]), change)
    return layers.GlobalAveragePooling2D(name="feature.mean")(network(x))


class _Change:
    """Makes the copy of a layer, changed as a rival's entry says.

    Args:
        changes: By layer, values of its configuration, or None to leave it out.
        convolutions: Values of the configuration of every convolution.
        those: All layers of the network.
    """

    def __init__(
        self, changes: dict[str, dict | None], convolutions: dict, those: list[layers.Layer]
    ) -> None:
        self.changes, self.convolutions = changes, convolutions
        self.names = _named(those)
        missing = set(changes) - set(self.names.values())
        assert not missing, f"keras.applications has no layer {missing} any more"

    def __call__(self, layer: layers.Layer) -> layers.Layer:
        name, config = self.names[layer.name], layer.get_config()
        # "feature", as BNext's: by it `bdd train --init` knows what belongs to the backbone.
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


def _named(those: list[layers.Layer]) -> dict[str, str]:
    """Names of layers; where Keras gave one, numbered over all models of a process, it is numbered from 0 here."""
    names, seen = {}, Counter()
    for layer in those:
        kind = re.fullmatch(r"(zero_padding2d|rescaling|normalization)(_\d+)?", layer.name)
        if kind is None:
            names[layer.name] = layer.name
            continue
        number = seen[kind[1]]
        seen[kind[1]] += 1
        names[layer.name] = f"{kind[1]}_{number}" if number else kind[1]
    return names
