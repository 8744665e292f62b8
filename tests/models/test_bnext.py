"""The whole of BNext against its published composition, and its published sizes."""

import numpy as np
import pytest

from bdd_tf.errors import UsageError
from bdd_tf.legacy_keras import tf
from bdd_tf.models import bnext
from bdd_tf.models.detector import build_detector
from bdd_tf.models.operation_counts import count_operations, flat_layers, is_binary
from tests import tiny_bnext

#: Published: all weights with a one-unit head (M), binary MACs at 224 (G).
PUBLISHED = {
    "bnext-n": (7.5, 1.204),
    "bnext-t": (29.8, 4.817),
    "bnext-s": (67.1, 10.84),
    "bnext-m": (133, 20.09),
    "bnext-l": (325, 52.15),
}


def counts(widths: tuple[int, ...], side: int) -> tuple[int, int, int]:
    """Binary convolutions, their weights and their MACs, from the widths alone and the side of the stem's map."""
    convolutions = weights = macs = 0
    for i in range(1, len(widths)):
        incoming, outgoing = widths[i - 1 : i + 1]
        if i > 1 and incoming != outgoing:
            side //= 2
        for kernel in (9, *[1] * (outgoing // incoming)):
            convolutions += 1
            weights += kernel * incoming**2
            macs += kernel * incoming**2 * side**2
    return convolutions, weights, macs


def unit_parameters(c: int, kernel: int, attention: bool) -> int:
    """Move, convolution, two norms of four vectors, slope(s), mix and the gate's two layers with biases."""
    squeezed = c // 8
    return c + kernel * c * c + 8 * c + (2 if attention else 1) * c + c + 2 * c * squeezed + squeezed + c


def parameters(widths: tuple[int, ...], stem_kernel: int = 3) -> int:
    total = 3 * stem_kernel**2 * widths[0] + 4 * widths[0] + 2 * widths[-1] + 1
    for i in range(1, len(widths)):
        incoming, outgoing = widths[i - 1 : i + 1]
        total += unit_parameters(incoming, 9, i % 2 == 0)
        total += outgoing // incoming * unit_parameters(incoming, 1, False)
    return total


def unit_of_last_digit(published: float) -> float:
    return 10.0 ** -len(str(published).partition(".")[2])


@pytest.mark.parametrize("size", sorted(PUBLISHED))
def test_the_published_table_follows_from_the_widths(size):
    weights, macs = PUBLISHED[size]
    widths = bnext.BNEXT[size].widths
    assert abs(counts(widths, 112)[2] / 1e9 - macs) <= 0.501 * unit_of_last_digit(macs)
    # Published weights are partly cut, partly rounded (29.87 -> 29.8, 324.7 -> 325).
    assert abs(parameters(widths) / 1e6 - weights) < unit_of_last_digit(weights)


@pytest.mark.parametrize(
    ("size", "resolution", "stem_stride"),
    [
        ("bnext-n", 32, 1),
        ("bnext-e", 32, 2),
        ("bnext-e", 96, 4),
        (tiny_bnext.NAME, 32, 2),
        (tiny_bnext.NAME, 64, 2),
    ],
)
def test_the_built_network_matches_its_widths(size, resolution, stem_stride):
    model = build_detector(size, resolution, "rgb", stem_stride=stem_stride)
    convolutions, weights, macs = counts(bnext.BNEXT[size].widths, resolution // stem_stride)
    found = count_operations(model)
    assert sum(is_binary(layer) for layer in flat_layers(model)) == convolutions
    assert (found.binary_weights, found.binary_macs) == (weights, macs)
    assert found.parameters == parameters(bnext.BNEXT[size].widths, bnext.BNEXT[size].stem_kernel)
    assert found.channel_macs == 0


# --- the composition, in NumPy and in torch's orientation ---------------------------------------------------


def torch_conv(x: np.ndarray, kernel: np.ndarray, stride: int) -> np.ndarray:
    """Zeros on every side, half as many as the kernel exceeds the stride, then every stride-th position from the top left:
    torch's Conv2d."""
    k = kernel.shape[0]
    p = max(k - stride + 1, 0) // 2
    x = np.pad(x.astype(np.float64), ((0, 0), (p, p), (p, p), (0, 0)))
    height, width = ((n - k) // stride + 1 for n in x.shape[1:3])
    out = np.zeros((len(x), height, width, kernel.shape[3]))
    for row in range(k):
        for column in range(k):
            view = x[:, row : row + stride * height : stride, column : column + stride * width : stride]
            out += view[:, :height, :width] @ kernel[row, column].astype(np.float64)
    return out


def turned(x: np.ndarray) -> np.ndarray:
    return x[:, ::-1, ::-1]


class Reference:
    """The published forward pass on a Keras model's weights, its 3x3 kernels rotated back."""

    def __init__(self, model: tf.keras.Model):
        self.weights = {layer.name: [w.numpy() for w in layer.weights] for layer in model.layers}

    def kernel(self, name: str) -> np.ndarray:
        return self.weights[name][0][::-1, ::-1]

    def norm(self, x: np.ndarray, name: str) -> np.ndarray:
        gamma, beta, mean, variance = self.weights[name]
        return gamma * (x - mean) / np.sqrt(variance.astype(np.float64) + 1e-5) + beta

    def prelu(self, x: np.ndarray, name: str) -> np.ndarray:
        return np.where(x > 0, x, self.weights[name][0] * x)

    def stem(self, x: np.ndarray, stride: int) -> np.ndarray:
        return self.norm(torch_conv(x, self.kernel("feature.0.conv"), stride), "feature.0.norm")

    def unit(self, x: np.ndarray, stride: int, attention: bool, name: str) -> np.ndarray:
        signs = np.where(x + self.weights[f"{name}.move"][0] >= 0, 1, -1)
        kernel = np.where(self.kernel(f"{name}.conv") >= 0, 1, -1)
        y = self.prelu(self.norm(torch_conv(signs, kernel, stride), f"{name}.norm1"), f"{name}.prelu")
        r = self.prelu(x, f"{name}.residual_prelu") if attention else x
        if stride == 2:
            x, r = (
                (v[:, ::2, ::2] + v[:, 1::2, ::2] + v[:, ::2, 1::2] + v[:, 1::2, 1::2]) / 4 for v in (x, r)
            )
        a = self.weights[f"{name}.mix"][0]
        mean = (a * x + (1 - a) * y).mean(axis=(1, 2), keepdims=True)
        (w1, b1), (w2, b2) = self.weights[f"{name}.reduce"], self.weights[f"{name}.expand"]
        y = y / (1 + np.exp(-(np.maximum(mean @ w1[0, 0] + b1, 0) @ w2[0, 0] + b2)))
        return self.norm(y * r if attention else y, f"{name}.norm2") + r

    def block(self, x: np.ndarray, widths: tuple[int, ...], i: int) -> np.ndarray:
        stride = 2 if i > 1 and widths[i] != widths[i - 1] else 1
        x = self.unit(x, stride, i % 2 == 0, f"feature.{i}.attention")
        if widths[i] == widths[i - 1]:
            return self.unit(x, 1, False, f"feature.{i}.ffn")
        return np.concatenate([self.unit(x, 1, False, f"feature.{i}.ffn_{s}") for s in (1, 2)], axis=-1)


@pytest.mark.parametrize(
    ("size", "stem_stride", "reductions"),
    [
        ("bnext-n", 1, (1, 1, 2, 2, 4, 4, 8, 8, 8, 8, 8, 8, 16, 16)),
        ("bnext-e", 2, (1, 1, 2, 2, 4, 4, 4)),
        ("bnext-e", 4, (1, 1, 2, 2, 4, 4, 4)),
        (tiny_bnext.NAME, 2, (1, 1, 2, 4, 4)),
    ],
)
def test_every_stage_is_the_published_one(size, stem_stride, reductions):
    """Stage by stage, each fed with what Keras gives: a sign flipped by rounding must not cascade."""
    widths = bnext.BNEXT[size].widths
    rng = np.random.default_rng(stem_stride)
    image = tf.keras.Input((32, 32, 3))
    model = tf.keras.Model(image, bnext.bnext(image, size, stem_stride=stem_stride))
    for w in model.weights:
        kind = w.name.split("/")[-1].split(":")[0]
        low, high = {
            "kernel": (-0.5, 0.5), "scale": (0, 1), "moving_variance": (20, 40), "gamma": (0.5, 1.5),
        }.get(kind, (-0.5, 0.5))  # fmt: skip
        w.assign(rng.uniform(low, high, w.shape))
    last = {i: "ffn" if widths[i] == widths[i - 1] else None for i in range(1, len(widths))}
    ends = [model.get_layer("feature.0.norm").output]
    ends += [
        model.get_layer(f"feature.{i}.{'ffn.add' if kind else 'concat'}").output for i, kind in last.items()
    ]
    x = rng.normal(size=(2, 32, 32, 3)).astype(np.float32)
    features, *stages = (v.numpy() for v in tf.keras.Model(image, [model.output, *ends])(x))

    reference = Reference(model)
    np.testing.assert_allclose(turned(stages[0]), reference.stem(x, stem_stride), atol=1e-4)
    sides = [s.shape[1] for s in stages]
    assert sides == [32 // stem_stride // d for d in reductions]
    for i in range(1, len(widths)):
        # float32, as Keras sees it: the signs of x + move are then the same bit by bit.
        expected = reference.block(turned(stages[i - 1]), widths, i)
        np.testing.assert_allclose(turned(stages[i]), expected, rtol=1e-3, atol=1e-3 * np.abs(expected).max())
    expected = reference.prelu(stages[-1], "feature.prelu").mean(axis=(1, 2))
    np.testing.assert_allclose(features, expected, rtol=1e-4, atol=1e-4)


def test_the_sign_of_zero_is_plus_one():
    x = np.zeros((1, 4, 4, 8), np.float32)
    conv = bnext.binary_conv(8, 1, 1, "c")
    conv(x)
    conv.set_weights([np.zeros((1, 1, 8, 8), np.float32)])
    np.testing.assert_array_equal(conv(x).numpy(), np.full((1, 4, 4, 8), 8.0))


def test_gradients_pass_the_sign_up_to_the_published_clip():
    conv = bnext.binary_conv(1, 1, 1, "c")
    x = tf.Variable(
        np.array([-2.0, -1.51, -1.49, -0.1, 0, 1.49, 1.51, 2]).reshape(1, 1, 8, 1), dtype=tf.float32
    )
    conv(x)
    conv.set_weights([np.full((1, 1, 1, 1), 0.7, np.float32)])
    with tf.GradientTape() as tape:
        y = tf.reduce_sum(conv(x))
    np.testing.assert_array_equal(tape.gradient(y, x).numpy().ravel(), [0, 0, 1, 1, 1, 1, 0, 0])


def test_constraints_keep_latent_weights_and_mixing_weights_in_range():
    image = tf.keras.Input((4, 4, 8))
    model = tf.keras.Model(image, bnext.unit(image, 3, name="u"))
    for layer, low, high in (("u.conv", -1.5, 1.5), ("u.mix", 0, 1)):
        weight = model.get_layer(layer).weights[0]
        pushed = weight.constraint(tf.linspace(-3.0, 3.0, 7)).numpy()
        np.testing.assert_allclose(pushed, np.clip(np.linspace(-3, 3, 7), low, high))
    np.testing.assert_array_equal(model.get_layer("u.mix").scale.numpy(), 0.5)


def test_the_prelu_is_keras_own_at_zero_and_in_a_training_graph():
    x = tf.constant(np.array([-3.0, -0.0, 0.0, 1e-30, 5]).reshape(1, 1, 5, 1), tf.float32)
    ours, keras = bnext.prelu("p"), tf.keras.layers.PReLU(shared_axes=[1, 2])
    ours(x), keras(x)
    for slope in (-0.5, 0.0, 0.25, 2.0):
        results = []
        for layer in (ours, keras):
            layer.set_weights([np.full((1, 1, 1), slope, np.float32)])

            @tf.function
            def run(x, layer=layer):
                with tf.GradientTape() as tape:
                    tape.watch(x)
                    y = layer(x, training=True) if layer is ours else layer(x)
                    loss = tf.reduce_sum(y * tf.range(1.0, 6.0)[None, None, :, None])
                return y, *tape.gradient(loss, [x, layer.alpha])

            results.append([v.numpy() for v in run(x)])
        # The slope at exactly zero is a convention; away from it both must agree.
        (y, dx, da), (y_keras, dx_keras, da_keras) = results
        np.testing.assert_array_equal(y, y_keras)
        np.testing.assert_array_equal(da, da_keras)
        np.testing.assert_array_equal(dx.ravel()[[0, 3, 4]], dx_keras.ravel()[[0, 3, 4]])


def test_unknown_sizes_are_refused():
    with pytest.raises(
        UsageError, match=r"'bnext-x'.*possible: bnext-n, bnext-t, bnext-s, bnext-m, bnext-l, bnext-e"
    ):
        bnext.bnext(tf.keras.Input((32, 32, 3)), "bnext-x")
