"""Layers of transformers: dense layers per token, scaled dot-product attention, layer normalisation, position embedding.

All are written in operators that LiteRT runs with a fixed number of tokens and any batch size, without dynamic shapes.
"""

from __future__ import annotations

from typing import Any

from bdd_tf.legacy_keras import tf

#: Standard deviation of the initial weights (truncated normal), as in BERT and the ViT of timm.
INITIAL_DEVIATION = 0.02


def initializer() -> tf.keras.initializers.Initializer:
    """Return the initializer of kernels and embeddings; its seed is the global one."""
    return tf.keras.initializers.TruncatedNormal(stddev=INITIAL_DEVIATION)


@tf.keras.utils.register_keras_serializable("bdd_tf")
class TokenDense(tf.keras.layers.Dense):
    """A dense layer for each token.

    Keras' own layer would compute the shape at run time, with an operator for each step.

    Shape:
        [N, T, C] -> [N, T, units]
    """

    def call(self, x: tf.Tensor) -> tf.Tensor:
        """Multiply all tokens of the batch by the kernel at once."""
        _, tokens, width = x.shape
        flat = tf.matmul(tf.reshape(x, [-1, width]), self.kernel)
        if self.use_bias:
            flat = tf.nn.bias_add(flat, self.bias)
        return tf.reshape(flat, [-1, tokens, self.units])


@tf.keras.utils.register_keras_serializable("bdd_tf")
class ScaledDotProductAttention(tf.keras.layers.Layer):
    """softmax(q k^T / sqrt(d)) v in several heads (arXiv 1706.03762, equation 1), without weights.

    Args:
        heads: Number of heads; a divisor of C. d = C / heads.

    Shape:
        Queries [N, Q, C], keys [N, T, C], values [N, T, C] -> [N, Q, C]
    """

    def __init__(self, heads: int = 1, **kwargs: Any):
        super().__init__(**kwargs)
        self.heads = heads

    def call(self, inputs: list[tf.Tensor]) -> tf.Tensor:
        """Compute the attention of each head and concatenate the heads."""
        query, key, value = (self._split(x) for x in inputs)
        size = query.shape[-1]
        weights = tf.nn.softmax(tf.matmul(query * size**-0.5, key, transpose_b=True))
        mixed = tf.transpose(tf.matmul(weights, value), [0, 2, 1, 3])
        return tf.reshape(mixed, [-1, mixed.shape[1], self.heads * size])

    def _split(self, x: tf.Tensor) -> tf.Tensor:
        """[N, T, C] -> [N, heads, T, d]."""
        _, tokens, width = x.shape
        return tf.transpose(tf.reshape(x, [-1, tokens, self.heads, width // self.heads]), [0, 2, 1, 3])

    def macs(self) -> int:
        """Return the multiply-accumulates of both products for one image."""
        (_, queries, width), (_, keys, _), _ = self.input_shape
        return 2 * int(queries) * int(keys) * int(width)

    def get_config(self) -> dict:
        """Return the configuration, for serialisation."""
        return {**super().get_config(), "heads": self.heads}


@tf.keras.utils.register_keras_serializable("bdd_tf")
class LayerNorm(tf.keras.layers.Layer):
    """Layer normalisation over the last axis (arXiv 1607.06450), computed in float32.

    Keras' own layer uses the operator of batch normalisation on a reshaped tensor, for which a file needs dynamic shapes.

    Args:
        epsilon: Added to the variance.

    Shape:
        [N, ..., C] -> [N, ..., C]
    """

    def __init__(self, epsilon: float = 1e-5, **kwargs: Any):
        super().__init__(**kwargs)
        self.epsilon = epsilon

    def build(self, shape: tf.TensorShape) -> None:
        """Create scale and shift, [C] each."""
        self.gamma = self.add_weight("gamma", shape[-1:], initializer="ones")
        self.beta = self.add_weight("beta", shape[-1:], initializer="zeros")

    def call(self, x: tf.Tensor) -> tf.Tensor:
        """Compute (x - mean) / sqrt(variance + epsilon) * gamma + beta."""
        wide = tf.cast(x, tf.float32)
        centred = wide - tf.reduce_mean(wide, -1, keepdims=True)
        variance = tf.reduce_mean(tf.square(centred), -1, keepdims=True)
        normal = centred * tf.math.rsqrt(variance + self.epsilon)
        return tf.cast(normal * tf.cast(self.gamma, tf.float32) + tf.cast(self.beta, tf.float32), x.dtype)

    def get_config(self) -> dict:
        """Return the configuration, for serialisation."""
        return {**super().get_config(), "epsilon": self.epsilon}


@tf.keras.utils.register_keras_serializable("bdd_tf")
class PositionEmbedding(tf.keras.layers.Layer):
    """Adds a learnt embedding to each token, and with ``class_token`` puts a learnt token in front of them first.

    Args:
        class_token: Whether to add the token.

    Shape:
        [N, T, C] -> [N, T + 1, C] with a class token, else [N, T, C]
    """

    def __init__(self, class_token: bool = True, **kwargs: Any):
        super().__init__(**kwargs)
        self.class_token = class_token

    def build(self, shape: tf.TensorShape) -> None:
        """Create the embedding, and the class token [C]."""
        _, tokens, width = shape
        self.position = self.add_weight(
            "position_embedding", (tokens + self.class_token, width), initializer=initializer()
        )
        if self.class_token:
            self.token = self.add_weight("class_token", (width,), initializer=initializer())

    def call(self, x: tf.Tensor) -> tf.Tensor:
        """Add the embedding, and to a first token of zeros the class token."""
        added = tf.convert_to_tensor(self.position)
        if self.class_token:
            x = tf.pad(x, [[0, 0], [1, 0], [0, 0]])
            added += tf.pad(self.token[None], [[0, added.shape[0] - 1], [0, 0]])
        return x + added

    def get_config(self) -> dict:
        """Return the configuration, for serialisation."""
        return {**super().get_config(), "class_token": self.class_token}


@tf.keras.utils.register_keras_serializable("bdd_tf")
class MeanTokenFirst(tf.keras.layers.Layer):
    """Makes tokens of a map and puts their mean in front of them.

    Shape:
        [N, H, W, C] -> [N, H W + 1, C]
    """

    def call(self, x: tf.Tensor) -> tf.Tensor:
        """Concatenate the mean and the tokens."""
        _, height, width, channels = x.shape
        tokens = tf.reshape(x, [-1, height * width, channels])
        return tf.concat([tf.reduce_mean(tokens, 1, keepdims=True), tokens], 1)


@tf.keras.utils.register_keras_serializable("bdd_tf")
def quick_gelu(x: tf.Tensor) -> tf.Tensor:
    """Compute x * sigmoid(1.702 x), with which OpenAI trained CLIP."""
    return x * tf.sigmoid(1.702 * x)


@tf.keras.utils.register_keras_serializable("bdd_tf")
def gelu(x: tf.Tensor) -> tf.Tensor:
    """Compute x * Phi(x) with the error function (arXiv 1606.08415)."""
    return tf.nn.gelu(x)


#: Activations by name.
ACTIVATIONS = {"gelu": gelu, "quick_gelu": quick_gelu}
