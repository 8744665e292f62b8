"""Small autoencoders whose reconstructions of photographs serve as fakes of the same content, codec and size.

Generators end in a learned decoder, and its upsampling leaves the traces that detectors find. A reconstruction of a
photograph has such traces and shares all else with the photograph. The decoders here differ in stride, kernel,
upsampling, loss, width and bottleneck, so that no single trace stands for all.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bdd_tf.errors import BddError, UsageError, one_of
from bdd_tf.legacy_keras import tf

layers = tf.keras.layers
UPSAMPLINGS = ("nearest", "bilinear", "transposed", "shuffle")
LOSSES = ("l1", "l2", "edge", "adversarial")
#: Side of the square crops that decoders are trained on, in pixels.
TRAINING_SIDE = 48
#: Pixels that images are reflected beyond their borders before they are reconstructed.
BORDER = 16


@dataclass(frozen=True)
class DecoderSpec:
    """An autoencoder.

    Attributes:
        name: Becomes the source of its reconstructions.
        stride: Pixels per latent position, each way: 2, 4 or 8.
        upsampling: One of :data:`UPSAMPLINGS`; applied log2(stride) times.
        kernel: Side of the convolutions; of the transposed ones, where there are any.
        width: Channels.
        latent: Channels of the bottleneck.
        loss: One of :data:`LOSSES`; ``edge`` and ``adversarial`` are added to L1.
        levels: Values that a latent channel is rounded to (finite scalar quantization, Mentzer et al. 2024); 0: none.
        codes: Size of the codebook of each group of four latent channels (vector quantization, van den Oord et al.
            2017); 0: none.
    """

    name: str
    stride: int
    upsampling: str
    kernel: int = 3
    width: int = 24
    latent: int = 8
    loss: str = "l1"
    levels: int = 0
    codes: int = 0

    def __post_init__(self) -> None:
        """Refuse impossible values.

        Raises:
            UsageError: Names the value.
        """
        if self.stride not in (2, 4, 8):
            raise one_of("stride", self.stride, ("2", "4", "8"))
        if self.upsampling not in UPSAMPLINGS:
            raise one_of("upsampling", self.upsampling, UPSAMPLINGS)
        if self.loss not in LOSSES:
            raise one_of("loss", self.loss, LOSSES)
        if self.codes and self.latent % 4:
            raise UsageError(f"{self.name}: vector quantization needs a multiple of 4 latent channels.")


#: In an order in which the first few already differ in most respects.
SPECS = (
    DecoderSpec("decoder-4-transposed4", 4, "transposed", kernel=4, latent=24),
    DecoderSpec("decoder-8-nearest-edge", 8, "nearest", latent=64, loss="edge"),
    DecoderSpec("decoder-2-shuffle", 2, "shuffle", width=12, latent=8),
    DecoderSpec("decoder-4-nearest-vq", 4, "nearest", latent=32, loss="edge", codes=256),
    DecoderSpec("decoder-8-transposed4-adv", 8, "transposed", kernel=4, latent=64, loss="adversarial"),
    DecoderSpec("decoder-4-bilinear-edge", 4, "bilinear", latent=24, loss="edge"),
    DecoderSpec("decoder-2-transposed3", 2, "transposed", kernel=3, width=12, latent=8, loss="l2"),
    DecoderSpec("decoder-4-nearest-fsq", 4, "nearest", latent=24, levels=9),
    DecoderSpec("decoder-8-shuffle", 8, "shuffle", latent=64, loss="l2"),
    DecoderSpec("decoder-2-nearest", 2, "nearest", width=12, latent=8),
    DecoderSpec("decoder-4-transposed3", 4, "transposed", kernel=3, latent=20, loss="l2"),
    DecoderSpec("decoder-8-bilinear5", 8, "bilinear", kernel=5, width=16, latent=64),
)  # fmt: skip


@tf.custom_gradient
def _straight_through(x: tf.Tensor, replaced: tf.Tensor) -> tuple[tf.Tensor, Callable]:
    """The second argument, with the first one's gradient."""
    return replaced, lambda upstream: (upstream, tf.zeros_like(upstream))


class ScalarQuantization(tf.keras.layers.Layer):
    """Bounds each channel to (-1, 1) and rounds it to one of ``levels`` values."""

    def __init__(self, levels: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.half = (levels - 1) / 2

    def call(self, x: tf.Tensor) -> tf.Tensor:
        """Float32 [B, H, W, C] to the same shape."""
        x = tf.tanh(x)
        return _straight_through(x, tf.round(x * self.half) / self.half)


class VectorQuantization(tf.keras.layers.Layer):
    """Replaces each group of four channels by the nearest code; codes follow by a loss of their own."""

    def __init__(self, codes: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.codes = codes

    def build(self, shape: tf.TensorShape) -> None:
        """One codebook for each group."""
        self.groups = int(shape[-1]) // 4
        start = tf.keras.initializers.RandomNormal(stddev=0.7, seed=1)
        self.book = self.add_weight("book", (self.groups, self.codes, 4), initializer=start)

    def call(self, x: tf.Tensor) -> tf.Tensor:
        """Float32 [B, H, W, C] to the same shape."""
        shape = tf.shape(x)
        flat = tf.transpose(tf.reshape(x, (-1, self.groups, 4)), (1, 0, 2))
        distance = tf.reduce_sum(self.book**2, axis=2)[:, None] - 2 * tf.matmul(
            flat, self.book, transpose_b=True
        )
        nearest = tf.gather(self.book, tf.argmin(distance, axis=2), batch_dims=1)
        self.add_loss(tf.reduce_mean((tf.stop_gradient(flat) - nearest) ** 2))
        self.add_loss(0.1 * tf.reduce_mean((flat - tf.stop_gradient(nearest)) ** 2))
        quantized = tf.reshape(tf.transpose(nearest, (1, 0, 2)), shape)
        return _straight_through(x, quantized)


def _half_active(x: tf.Tensor) -> tf.Tensor:
    """Swish on every second channel: the others keep a linear path, along which a decoder learns fast."""
    x, linear = tf.split(x, 2, axis=-1)
    return tf.concat((tf.nn.swish(x), linear), axis=-1)


def _convolution(x: tf.Tensor, channels: int, kernel: int, seed: int, active: bool = True) -> tf.Tensor:
    start = tf.keras.initializers.GlorotUniform(seed=seed)
    x = layers.Conv2D(channels, kernel, padding="same", kernel_initializer=start)(x)
    return layers.Lambda(_half_active)(x) if active else x


def _upsampled(x: tf.Tensor, spec: DecoderSpec, channels: int, seed: int) -> tf.Tensor:
    if spec.upsampling == "transposed":
        start = tf.keras.initializers.GlorotUniform(seed=seed)
        x = layers.Conv2DTranspose(channels, spec.kernel, 2, padding="same", kernel_initializer=start)(x)
        return layers.Lambda(_half_active)(x)
    kernel = min(spec.kernel, 5)
    if spec.upsampling == "shuffle":
        x = _convolution(x, 4 * channels, kernel, seed)
        return layers.Lambda(lambda t: tf.nn.depth_to_space(t, 2))(x)
    x = layers.UpSampling2D(2, interpolation=spec.upsampling)(x)
    return _convolution(x, channels, kernel, seed)


def build(spec: DecoderSpec, seed: int = 0) -> tf.keras.Model:
    """The autoencoder: float32 [B, H, W, 3] in [-1, 1] to the same, sides multiples of 8."""
    seeds = iter(range(1000 * (seed + 1), 1000 * (seed + 1) + 100))
    kernel = 5 if spec.kernel == 5 else 3
    image = layers.Input((None, None, 3))
    # Space to depth instead of strided convolutions: nothing is lost but what the bottleneck takes.
    x = layers.Lambda(lambda t: tf.nn.space_to_depth(t, spec.stride))(image)
    x = _convolution(x, 2 * spec.width, kernel, next(seeds))
    x = _convolution(x, 2 * spec.width, kernel, next(seeds))
    x = _convolution(x, spec.latent, 1, next(seeds), False)
    if spec.levels:
        x = ScalarQuantization(spec.levels)(x)
    if spec.codes:
        x = VectorQuantization(spec.codes)(x)
    x = _convolution(x, 2 * spec.width, kernel, next(seeds))
    x = layers.Add()([x, _convolution(x, 2 * spec.width, kernel, next(seeds))])
    stride = spec.stride
    while stride > 1:
        stride //= 2
        channels = max(spec.width * stride // 2, 16)
        x = _upsampled(x, spec, channels, next(seeds))
    return tf.keras.Model(image, _convolution(x, 3, kernel, next(seeds), False), name=spec.name)


def _critic() -> tf.keras.Model:
    """A patch discriminator with a receptive field of 11 pixels."""
    image = layers.Input((None, None, 3))
    x = layers.Conv2D(24, 3, 2, padding="same", activation="swish")(image)
    x = layers.Conv2D(32, 3, 2, padding="same", activation="swish")(x)
    return tf.keras.Model(image, layers.Conv2D(1, 1)(x))


def _edges(x: tf.Tensor) -> tf.Tensor:
    return tf.image.sobel_edges(x) / 8


def _loss(spec: DecoderSpec, image: tf.Tensor, made: tf.Tensor) -> tf.Tensor:
    if spec.loss == "l2":
        return 4 * tf.reduce_mean((image - made) ** 2)
    loss = tf.reduce_mean(tf.abs(image - made))
    if spec.loss == "edge":
        loss += 0.5 * tf.reduce_mean(tf.abs(_edges(image) - _edges(made)))
    return loss


def train(
    spec: DecoderSpec, crops: NDArray[np.uint8], updates: int = 500, batch: int = 8, seed: int = 0
) -> tf.keras.Model:
    """Train an autoencoder.

    Args:
        spec: Its description.
        crops: uint8 [N, H, W, 3], sides of at least :data:`TRAINING_SIDE`.
        updates: Optimizer steps.
        batch: Crops of :data:`TRAINING_SIDE` px per step.
        seed: Of weights and order.

    Returns:
        The model.

    Raises:
        BddError: If its loss stops being finite.
    """
    model, rng = build(spec, seed), np.random.default_rng([seed, 53])
    rate = tf.keras.optimizers.schedules.CosineDecay(3e-3, updates, alpha=0.05)
    optimizer = tf.keras.optimizers.Adam(rate, beta_2=0.99, clipnorm=1.0)
    critic = _critic() if spec.loss == "adversarial" else None
    critic_optimizer = tf.keras.optimizers.Adam(1e-3, beta_1=0.5)

    @tf.function(jit_compile=False, autograph=False)
    def step(image: tf.Tensor, adversary: tf.Tensor) -> tf.Tensor:
        with tf.GradientTape() as tape:
            made = model(image, training=True)
            loss = _loss(spec, image, made) + tf.add_n([*model.losses, tf.zeros(())])
            if critic is not None:
                loss += adversary * tf.reduce_mean(tf.nn.softplus(-critic(made)))
        variables = model.trainable_variables
        optimizer.apply_gradients(zip(tape.gradient(loss, variables), variables, strict=True))
        if critic is not None:
            with tf.GradientTape() as tape:
                judged = tf.reduce_mean(tf.nn.softplus(-critic(image)) + tf.nn.softplus(critic(made)))
            weights = critic.trainable_variables
            critic_optimizer.apply_gradients(zip(tape.gradient(judged, weights), weights, strict=True))
        return loss

    for update in range(updates):
        images = _random_crops(rng, crops, batch)
        # The critic joins once images are recognizable.
        loss = step(tf.constant(images), tf.constant(0.02 if update > updates // 3 else 0.0))
    if not np.isfinite(float(loss)):
        raise BddError(f"{spec.name} diverged after {updates} updates; try another seed.")
    return model


def _random_crops(rng: np.random.Generator, crops: NDArray[np.uint8], batch: int) -> NDArray[np.float32]:
    images = np.empty((batch, TRAINING_SIDE, TRAINING_SIDE, 3), np.float32)
    for row, i in enumerate(rng.integers(len(crops), size=batch)):
        top, left = (int(rng.integers(side - TRAINING_SIDE + 1)) for side in crops.shape[1:3])
        images[row] = crops[i, top : top + TRAINING_SIDE, left : left + TRAINING_SIDE]
    return images / 127.5 - 1


def reconstruct(model: tf.keras.Model, images: NDArray[np.uint8], batch: int = 16) -> NDArray[np.uint8]:
    """An autoencoder's output for uint8 [N, H, W, 3], the same shape.

    The images are reflected beyond their borders first, and sides become multiples of 8: no trace of the convolutions'
    zero padding is left to give a reconstruction away.
    """
    height, width = images.shape[1:3]
    padding = ((0, 0), (BORDER, BORDER + -height % 8), (BORDER, BORDER + -width % 8), (0, 0))
    made = np.empty_like(images)
    run = tf.function(model, reduce_retracing=True, autograph=False)
    for start in range(0, len(images), batch):
        padded = np.pad(images[start : start + batch], padding, mode="reflect")
        x = run(tf.constant(padded.astype(np.float32) / 127.5 - 1)).numpy()
        x = x[:, BORDER : BORDER + height, BORDER : BORDER + width]
        made[start : start + batch] = np.clip((x + 1) * 127.5 + 0.5, 0, 255).astype(np.uint8)
    return made


def psnr(images: NDArray[np.uint8], made: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Peak signal-to-noise ratio per image in dB, [N]."""
    error = np.square(images.astype(np.float32) - made).mean(axis=(1, 2, 3), dtype=np.float64)
    return 10 * np.log10(255**2 / np.maximum(error, 1e-2))


def seconds(start: float) -> str:
    """The time since ``start``, for messages."""
    return f"{time.process_time() - start:.0f} s of processor time"
