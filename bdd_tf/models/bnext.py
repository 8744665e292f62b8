"""BNext, a binary network with information-recoupling gates (arXiv 2211.12933), from Larq layers.

A stem (3x3; 4x4 in bnext-e), one block per further entry of the width list, PReLU and a global mean. A block is a binary
3x3 unit on the incoming width and a binary 1x1 unit. If the width doubles, two 1x1 units run in parallel and their outputs
are concatenated.

    size      widths                                  parameters (M)   binary MACs at 224 (G)
    bnext-n   16, 32, 64x2, 128x2, 256x6, 512x2                  7.5                    1.204
    bnext-t   32, 64, 128x2, 256x2, 512x6, 1024x2               29.8                    4.817
    bnext-s   48, 96, 192x2, 384x2, 768x6, 1536x2               67.1                   10.84
    bnext-m   48, 96, 192x4, 384x4, 768x8, 1536x4              133                     20.09
    bnext-l   64, 128, 256x4, 512x4, 1024x16, 2048x4           325                     52.15

The network computes the same function as the published PyTorch code at temperature 0, with two differences in the order
of operations:

* The gate takes the mean over the map of ``a x + (1 - a) y``. Here the means of x and y are taken first. This is exact
  and saves three full-size operations per unit.
* torch pads a stride-2 3x3 convolution on the left and top, TensorFlow's SAME on the right and bottom. An explicit
  padding in front of a VALID convolution is no alternative: LCE's converter rewrites it wrongly. If the image and every
  3x3 kernel are rotated by 180 degrees, both paddings agree exactly at even sizes. A layer rotates the image; the import
  of torch weights rotates the kernels.
"""

from __future__ import annotations

from bdd_tf.errors import one_of
from bdd_tf.legacy_keras import larq as lq
from bdd_tf.legacy_keras import tf
from bdd_tf.models.bnext_sizes import BNEXT, CLIP

layers = tf.keras.layers

SQUEEZE_RATIO = 8
EPSILON = 1e-5
MOMENTUM = 0.9  # torch's 0.1


@tf.keras.utils.register_keras_serializable("bdd_tf")
class Rotate180(tf.keras.layers.Layer):
    """Rotates [N, H, W, C] by 180 degrees; the module's docstring explains why."""

    def call(self, x: tf.Tensor) -> tf.Tensor:
        """Reverse both spatial axes, one at a time: tflite-runtime 2.14 silently reverses only the first of two."""
        return tf.reverse(tf.reverse(x, axis=[1]), axis=[2])


@tf.keras.utils.register_keras_serializable("bdd_tf")
class Move(tf.keras.layers.Layer):
    """Learnable bias per channel before the sign: the threshold of the binary activation."""

    def build(self, input_shape: tf.TensorShape) -> None:
        """Create one bias per channel, initially 0."""
        self.bias = self.add_weight("bias", shape=(input_shape[-1],), initializer="zeros")

    def call(self, x: tf.Tensor) -> tf.Tensor:
        """Add the bias."""
        return x + self.bias


@tf.keras.utils.register_keras_serializable("bdd_tf")
class _UnitInterval(tf.keras.constraints.Constraint):
    def __call__(self, w: tf.Tensor) -> tf.Tensor:
        return tf.clip_by_value(w, 0.0, 1.0)


@tf.keras.utils.register_keras_serializable("bdd_tf")
class Mix(tf.keras.layers.Layer):
    """``a x + (1 - a) y`` of two means [N, 1, 1, C], with one a in [0, 1] per channel, initially 0.5."""

    def build(self, input_shape: list[tf.TensorShape]) -> None:
        """Create one mixing weight per channel."""
        self.scale = self.add_weight(
            "scale",
            shape=(input_shape[0][-1],),
            initializer=tf.keras.initializers.Constant(0.5),
            constraint=_UnitInterval(),
        )

    def call(self, inputs: list[tf.Tensor]) -> tf.Tensor:
        """Mix the means of input and output."""
        x, y = inputs
        return self.scale * x + (1.0 - self.scale) * y


def batch_norm(name: str) -> tf.keras.layers.Layer:
    """Return a batch normalisation layer with the published epsilon and momentum."""
    return layers.BatchNormalization(momentum=MOMENTUM, epsilon=EPSILON, name=name)


@tf.custom_gradient
def _prelu(x: tf.Tensor, alpha: tf.Tensor) -> tuple[tf.Tensor, object]:
    positive = x > 0.0

    def gradient(dy: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        by_slope = tf.reduce_sum(dy * tf.minimum(x, 0.0), axis=[0, 1, 2])
        return tf.where(positive, dy, alpha * dy), tf.reshape(by_slope, tf.shape(alpha))

    return tf.where(positive, x, alpha * x), gradient


@tf.keras.utils.register_keras_serializable("bdd_tf")
class PReLU(tf.keras.layers.PReLU):
    """Keras' PReLU with half of its memory passes in training, and equal values.

    At inference it keeps Keras' own graph, which the converter recognises as one PRELU operator.
    """

    def call(self, x: tf.Tensor, training: bool | None = None) -> tf.Tensor:
        """Return x where it is positive, else alpha x."""
        return _prelu(x, self.alpha) if training else super().call(x)


def prelu(name: str) -> tf.keras.layers.Layer:
    """Return a PReLU layer with one slope per channel, initially 0.25 as in torch."""
    return PReLU(alpha_initializer=tf.keras.initializers.Constant(0.25), shared_axes=[1, 2], name=name)


def binary_conv(filters: int, kernel: int, strides: int, name: str) -> tf.keras.layers.Layer:
    """Return a convolution of signs: sign(input) * sign(weights), zero padding, no bias."""
    return lq.layers.QuantConv2D(
        filters,
        kernel,
        strides=strides,
        padding="same",
        use_bias=False,
        input_quantizer=lq.quantizers.SteSign(clip_value=CLIP),
        # The constraint keeps the weights inside the range of the straight-through gradient, which needs no mask then.
        kernel_quantizer=lq.quantizers.SteSign(clip_value=None),
        kernel_constraint=lq.constraints.WeightClip(clip_value=CLIP),
        kernel_initializer="glorot_normal",
        name=name,
    )


def unit(x: tf.Tensor, kernel: int, *, strides: int = 1, attention: bool = False, name: str) -> tf.Tensor:
    """Build a unit: a binary convolution with its gate and residual.

    ``y = PReLU(BN(conv(sign(x + move))))``, ``gate = sigmoid(W2 relu(W1 mix(mean x, mean y)))`` and
    ``BN2(gate y) + r``; in the attention form ``r = PReLU(x)`` multiplies as well: ``BN2(gate y r) + r``.

    Args:
        x: [N, H, W, C] float32.
        kernel: 3 or 1.
        strides: 1, or 2 with a 2x2 mean pool on the residual.
        attention: Whether the residual also multiplies (element-wise attention).
        name: Prefix of the layers' names.

    Returns:
        [N, H / strides, W / strides, C] float32.
    """
    filters = x.shape[-1]
    residual = prelu(f"{name}.residual_prelu")(x) if attention else x
    if strides == 2:
        residual = layers.AveragePooling2D(2, name=f"{name}.pool")(residual)

    y = Move(name=f"{name}.move")(x)
    y = binary_conv(filters, kernel, strides, f"{name}.conv")(y)
    y = batch_norm(f"{name}.norm1")(y)
    y = prelu(f"{name}.prelu")(y)

    # The means keep four dimensions. With [N, C] the converter would drop the reshape before the product, and a file
    # with a resized batch would multiply along the wrong axis.
    mean_x = layers.GlobalAveragePooling2D(keepdims=True, name=f"{name}.mean_in")(x)
    mean_y = layers.GlobalAveragePooling2D(keepdims=True, name=f"{name}.mean_out")(y)
    gate = Mix(name=f"{name}.mix")([mean_x, mean_y])
    gate = layers.Conv2D(filters // SQUEEZE_RATIO, 1, activation="relu", name=f"{name}.reduce")(gate)
    gate = layers.Conv2D(filters, 1, activation="sigmoid", name=f"{name}.expand")(gate)

    y = layers.Multiply(name=f"{name}.gate")([y, gate])
    if attention:
        y = layers.Multiply(name=f"{name}.attend")([y, residual])
    y = batch_norm(f"{name}.norm2")(y)
    return layers.Add(name=f"{name}.add")([y, residual])


def block(x: tf.Tensor, filters: int, *, strides: int, attention: bool, name: str) -> tf.Tensor:
    """Build a block: a 3x3 unit, then one 1x1 unit, or two in parallel if the width doubles.

    Args:
        x: [N, H, W, C] float32.
        filters: Output channels, C or 2 C.
        strides: Stride of the 3x3 unit.
        attention: Whether the 3x3 unit has the attention form.
        name: Prefix of the layers' names.

    Returns:
        [N, H / strides, W / strides, filters] float32.
    """
    width = x.shape[-1]
    x = unit(x, 3, strides=strides, attention=attention, name=f"{name}.attention")
    if filters == width:
        return unit(x, 1, name=f"{name}.ffn")
    halves = [unit(x, 1, name=f"{name}.ffn_{side}") for side in (1, 2)]
    return layers.Concatenate(name=f"{name}.concat")(halves)


def bnext(x: tf.Tensor, size: str, *, stem_stride: int = 2) -> tf.Tensor:
    """Build BNext without its classifier.

    Args:
        x: [N, H, W, C] float32, normalised; H and W multiples of the stem's stride times that of the blocks.
        size: A key of :data:`BNEXT`.
        stem_stride: One of the size's ``stem_strides``: by default the first at 96 px and above, the last below.

    Returns:
        [N, C] float32 features.

    Raises:
        UsageError: For an unknown size.
    """
    if size not in BNEXT:
        raise one_of("backbone", size, tuple(BNEXT))
    widths, blocks, kernel = BNEXT[size].widths, BNEXT[size].blocks, BNEXT[size].stem_kernel
    x = Rotate180(name="feature.rotate")(x)
    x = layers.Conv2D(
        widths[0], kernel, strides=stem_stride, padding="same", use_bias=False, name="feature.0.conv"
    )(x)
    x = batch_norm("feature.0.norm")(x)
    for spec in blocks:
        x = block(x, spec.out, strides=spec.stride, attention=spec.attention, name=f"feature.{spec.number}")
    x = prelu("feature.prelu")(x)
    return layers.GlobalAveragePooling2D(name="feature.mean")(x)
