"""BNext, a binary network with information-recoupling gates (arXiv 2211.12933), from Larq layers.

A 3x3 stem, then one block per further entry of the width list, PReLU and a global mean. A block is a
binary 3x3 unit on the incoming width and a binary 1x1 unit; where the width doubles, two 1x1 units run side
by side and their outputs are concatenated.

    size      widths                                  parameters (M)   binary MACs at 224 (G)
    bnext-n   16, 32, 64x2, 128x2, 256x6, 512x2                  7.5                    1.204
    bnext-t   32, 64, 128x2, 256x2, 512x6, 1024x2               29.8                    4.817
    bnext-s   48, 96, 192x2, 384x2, 768x6, 1536x2               67.1                   10.84
    bnext-m   48, 96, 192x4, 384x4, 768x8, 1536x4              133                     20.09
    bnext-l   64, 128, 256x4, 512x4, 1024x16, 2048x4           325                     52.15

The function is that of the published PyTorch code at temperature 0, in two details arranged differently:

* The gate reads a mean over the map of ``a x + (1 - a) y``. Taking both means first is exact and saves
  three full-size operations a unit.
* torch pads a stride-2 3x3 convolution on the left and top, TensorFlow's SAME on the right and bottom, and an
  explicit padding in front of a VALID convolution is rewritten wrongly by LCE's converter. Rotating the image
  and every 3x3 kernel by 180 degrees turns one into the other exactly at even sizes; the rotation of the
  image is a layer here, the kernels are rotated when torch weights are imported.
"""

from __future__ import annotations

from bdd_tf.errors import one_of
from bdd_tf.legacy_keras import larq as lq
from bdd_tf.legacy_keras import tf
from bdd_tf.models.sizes import BNEXT, CLIP

layers = tf.keras.layers

SQUEEZE_RATIO = 8
EPSILON = 1e-5
MOMENTUM = 0.9  # torch's 0.1


@tf.keras.utils.register_keras_serializable("bdd_tf")
class Rotate180(layers.Layer):
    """Turns [N, H, W, C] by 180 degrees (see the module's second remark)."""

    def call(self, x: tf.Tensor) -> tf.Tensor:
        """Reverse both spatial axes, one at a time: tflite-runtime 2.14 silently reverses only the first of two."""
        return tf.reverse(tf.reverse(x, axis=[1]), axis=[2])


@tf.keras.utils.register_keras_serializable("bdd_tf")
class Move(layers.Layer):
    """Learnable bias per channel in front of the sign, the threshold of the binary activation."""

    def build(self, input_shape: tf.TensorShape) -> None:
        """One bias per channel, starting at 0."""
        self.bias = self.add_weight("bias", shape=(input_shape[-1],), initializer="zeros")

    def call(self, x: tf.Tensor) -> tf.Tensor:
        """x + bias."""
        return x + self.bias


@tf.keras.utils.register_keras_serializable("bdd_tf")
class _UnitInterval(tf.keras.constraints.Constraint):
    def __call__(self, w: tf.Tensor) -> tf.Tensor:
        return tf.clip_by_value(w, 0.0, 1.0)


@tf.keras.utils.register_keras_serializable("bdd_tf")
class Mix(layers.Layer):
    """``a x + (1 - a) y`` of two [N, 1, 1, C] means with a per channel in [0, 1], starting at 0.5."""

    def build(self, input_shape: list[tf.TensorShape]) -> None:
        """One mixing weight per channel."""
        self.scale = self.add_weight(
            "scale",
            shape=(input_shape[0][-1],),
            initializer=tf.keras.initializers.Constant(0.5),
            constraint=_UnitInterval(),
        )

    def call(self, inputs: list[tf.Tensor]) -> tf.Tensor:
        """Mix input and output statistics."""
        x, y = inputs
        return self.scale * x + (1.0 - self.scale) * y


def batch_norm(name: str) -> layers.Layer:
    """Batch normalisation with the published epsilon and momentum."""
    return layers.BatchNormalization(momentum=MOMENTUM, epsilon=EPSILON, name=name)


@tf.custom_gradient
def _prelu(x: tf.Tensor, alpha: tf.Tensor) -> tuple[tf.Tensor, object]:
    positive = x > 0.0

    def gradient(dy: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        by_slope = tf.reduce_sum(dy * tf.minimum(x, 0.0), axis=[0, 1, 2])
        return tf.where(positive, dy, alpha * dy), tf.reshape(by_slope, tf.shape(alpha))

    return tf.where(positive, x, alpha * x), gradient


@tf.keras.utils.register_keras_serializable("bdd_tf")
class PReLU(layers.PReLU):
    """Keras' PReLU, the same values, with half its passes over memory while training.

    Outside training it keeps Keras' own graph, which the converter recognises as one PRELU operator.
    """

    def call(self, x: tf.Tensor, training: bool | None = None) -> tf.Tensor:
        """x where positive, else alpha x."""
        return _prelu(x, self.alpha) if training else super().call(x)


def prelu(name: str) -> layers.Layer:
    """PReLU with a slope per channel, starting at torch's 0.25."""
    return PReLU(alpha_initializer=tf.keras.initializers.Constant(0.25), shared_axes=[1, 2], name=name)


def binary_conv(filters: int, kernel: int, strides: int, name: str) -> layers.Layer:
    """Sign of the input times sign of the weights, zero padding, no bias."""
    return lq.layers.QuantConv2D(
        filters,
        kernel,
        strides=strides,
        padding="same",
        use_bias=False,
        input_quantizer=lq.quantizers.SteSign(clip_value=CLIP),
        # The constraint keeps the weights where the straight-through gradient passes: no mask needed.
        kernel_quantizer=lq.quantizers.SteSign(clip_value=None),
        kernel_constraint=lq.constraints.WeightClip(clip_value=CLIP),
        kernel_initializer="glorot_normal",
        name=name,
    )


def unit(x: tf.Tensor, kernel: int, *, strides: int = 1, attention: bool = False, name: str) -> tf.Tensor:
    """A binary convolution with its gate and residual.

    ``y = PReLU(BN(conv(sign(x + move))))``, ``gate = sigmoid(W2 relu(W1 mix(mean x, mean y)))`` and
    ``BN2(gate y) + r``; in the attention form ``r = PReLU(x)`` multiplies as well: ``BN2(gate y r) + r``.

    Args:
        x: [N, H, W, C] float32.
        kernel: 3 or 1.
        strides: 1, or 2 with a 2x2 mean pool on the residual.
        attention: Whether the residual multiplies (element-wise attention).
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

    # Four dimensions throughout: with [N, C] the converter would drop the reshape in front of the product,
    # and a file whose batch was resized would multiply along the wrong axis.
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
    """A 3x3 unit, then one 1x1 unit, or two side by side where the width doubles.

    Args:
        x: [N, H, W, C] float32.
        filters: Output channels, C or 2 C.
        strides: Stride of the 3x3 unit.
        attention: Form of the 3x3 unit.
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
    """BNext without its classifier.

    Args:
        x: [N, H, W, 3] float32, normalised RGB; H and W multiples of 16 times the stem's stride.
        size: A key of :data:`BNEXT`.
        stem_stride: 2 for 224 px, 1 for small images.

    Returns:
        [N, C] float32 features.

    Raises:
        UsageError: For an unknown size.
    """
    if size not in BNEXT:
        raise one_of("backbone", size, tuple(BNEXT))
    widths = BNEXT[size].widths
    x = Rotate180(name="feature.rotate")(x)
    x = layers.Conv2D(
        widths[0], 3, strides=stem_stride, padding="same", use_bias=False, name="feature.0.conv"
    )(x)
    x = batch_norm("feature.0.norm")(x)
    for i in range(1, len(widths)):
        # The published rule: the first block keeps the size though its width doubles.
        strides = 2 if i > 1 and widths[i] != widths[i - 1] else 1
        x = block(x, widths[i], strides=strides, attention=i % 2 == 0, name=f"feature.{i}")
    x = prelu("feature.prelu")(x)
    return layers.GlobalAveragePooling2D(name="feature.mean")(x)
