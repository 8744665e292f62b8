import numpy as np
import pytest

from bdd_tf.config import Experiment
from bdd_tf.errors import BddError, UsageError
from bdd_tf.legacy_keras import tf
from bdd_tf.models.bnext import unit
from bdd_tf.models.detector import build_detector, freeze_backbone, logits
from bdd_tf.presets import experiment
from bdd_tf.training import step
from bdd_tf.training.native import blocks, library
from tests import tiny_bnext

BATCH = 6  # no multiple of the four images that integer products take together
CASES = [
    (16, 8, 3, 1, False),
    (32, 8, 3, 2, True),
    (64, 4, 3, 1, True),
    (128, 4, 1, 1, False),
    (256, 2, 3, 1, False),
    (48, 6, 3, 2, False),
]


def unusual(model, seed=0):
    """Weights away from the values at which they start."""
    rng = np.random.default_rng(seed)
    for weight in model.trainable_weights:
        if any(word in weight.name for word in ("bias", "beta")):
            weight.assign(rng.normal(0, 0.1, weight.shape))
        elif "gamma" in weight.name:
            weight.assign(rng.uniform(0.5, 1.5, weight.shape))
        elif "mix" in weight.name:
            weight.assign(rng.uniform(0.2, 0.8, weight.shape))
    return model


@pytest.fixture(params=CASES, ids=str, scope="module")
def pair(request):
    """A unit of Keras and one of the kernels, the same input and gradient, and Keras' results."""
    channels, side, kernel, stride, attention = request.param
    # Unseeded, it happens that no image of the batch opens either of a small gate's two ReLUs.
    tf.keras.utils.set_random_seed(2)
    image = tf.keras.Input((side, side, channels))
    model = unusual(tf.keras.Model(image, unit(image, kernel, strides=stride, attention=attention, name="u")))
    ours = library.Unit(BATCH, side, side, channels, kernel, stride, attention)
    weights = [getattr(model.get_layer(f"u.{a}"), b) for a, b in library.PARAMETERS[: ours.parameters]]
    rng = np.random.default_rng(1)
    x = rng.normal(0, 1, ours.in_shape).astype(np.float32)
    dout = rng.normal(0, 1, ours.out_shape).astype(np.float32)
    arrays = [np.ascontiguousarray(w.numpy()) for w in weights]
    with tf.GradientTape() as tape:
        inputs = tf.constant(x)
        tape.watch(inputs)
        out = model(inputs, training=True)
    gradients = tape.gradient(out, [inputs, *weights], tf.constant(dout))
    return model, ours, x, dout, arrays, out.numpy(), [g.numpy() for g in gradients]


def run(ours, x, dout, arrays, **options):
    out, statistics = np.zeros(ours.out_shape, np.float32), np.zeros((4, ours.channels), np.float32)
    dx, gradients = np.zeros_like(x), [np.zeros_like(a) for a in arrays]
    ours.forward(x, arrays, out, statistics, True)
    ours.backward(x, arrays, dout, dx, gradients, **options)
    return out, statistics, [dx, *gradients]


def relative(a, b):
    return float(np.sqrt(np.mean((a - b.reshape(a.shape)) ** 2) / np.mean(a**2)))


def test_a_unit_equals_keras_forwards_and_backwards(pair):
    model, ours, x, dout, arrays, expected, gradients = pair
    out, statistics, found = run(ours, x, dout, arrays)
    assert relative(expected, out) < 1e-5
    for (layer, weight), a, b in zip((("", "x"), *library.PARAMETERS), gradients, found, strict=False):
        # The bias in front of a sigmoid sums terms that cancel.
        assert relative(a, b) < (1e-3 if weight == "bias" else 1e-4), (layer, weight)
    norm = model.get_layer("u.norm2")
    np.testing.assert_allclose(norm.moving_mean, 0.1 * statistics[2], rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(norm.moving_variance, 0.9 + 0.1 * statistics[3], rtol=1e-4)


def test_gradients_in_eight_bits_differ_little_and_are_right_on_average(pair):
    _, ours, x, dout, arrays, _, gradients = pair
    kernel = 1 + library.PARAMETERS.index(("conv", "kernel"))
    found = [run(ours, x, dout, arrays, rounding_seed=seed)[2] for seed in range(16)]
    assert relative(gradients[0], found[0][0]) < 0.02
    one = relative(gradients[kernel], found[0][kernel])
    mean = relative(gradients[kernel], np.mean([f[kernel] for f in found], axis=0))
    assert 0 < one < 0.04
    assert mean < one / 2.5  # rounding errors of sixteen seeds are independent: a quarter is left


def test_the_same_seed_gives_the_same_bits(pair):
    _, ours, x, dout, arrays, _, _ = pair
    first, again = (run(ours, x, dout, arrays, rounding_seed=7)[2] for _ in range(2))
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))


def test_inference_equals_keras_and_gradients_can_be_added(pair):
    model, ours, x, dout, arrays, _, _ = pair
    averages = [
        getattr(model.get_layer(f"u.{norm}"), name).numpy()
        for norm in ("norm1", "norm2")
        for name in ("moving_mean", "moving_variance")
    ]
    out = np.zeros(ours.out_shape, np.float32)
    ours.forward(x, arrays, out, np.stack(averages), False)
    assert relative(model(x, training=False).numpy(), out) < 1e-5
    _, _, (dx, *_) = run(ours, x, dout, arrays)
    twice, gradients = dx.copy(), [np.zeros_like(a) for a in arrays]
    ours.backward(x, arrays, dout, twice, gradients, add=True)
    np.testing.assert_allclose(twice, 2 * dx, rtol=1e-5, atol=1e-6)


def test_a_whole_detector_agrees_with_keras_where_no_sign_is_near_its_threshold():
    model = unusual(build_detector(tiny_bnext.NAME, 32, "rgb,fft,lbp", "stable"))
    images = np.random.default_rng(3).integers(0, 256, (BATCH, 32, 32, 3)).astype(np.uint8)
    fused = blocks.FusedBlocks(model, BATCH)
    before = [w.numpy() for w in model.weights]
    ours = blocks.logits(model, fused, images, False).numpy()
    assert relative(logits(model)(images, training=False).numpy(), ours) < 1e-3
    # In later blocks one flipped sign changes many values; only the first layers' averages are comparable.
    blocks.logits(model, fused, images, True)
    moved = [w.numpy() for w in model.get_layer("feature.1.attention.norm1").weights]
    for weight, value in zip(model.weights, before, strict=True):
        weight.assign(value)
    logits(model)(images, training=True)
    for ours, theirs in zip(moved, model.get_layer("feature.1.attention.norm1").weights, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5)


def test_unsupported_units_fall_back_to_keras():
    assert blocks.supports(build_detector(tiny_bnext.NAME, 32, "rgb"))
    assert not blocks.supports(build_detector("quicknet-small", 64, "rgb"))
    frozen = build_detector(tiny_bnext.NAME, 32, "rgb")
    freeze_backbone(frozen)
    assert not blocks.supports(frozen)
    with pytest.raises(ValueError, match="multiple of 16"):
        library.Unit(1, 8, 8, 24, 3, 1, False)
    with pytest.raises(UsageError, match="int8, float32, keras"):
        Experiment(gradients="fp16")


def test_without_a_compiler_training_says_so_and_goes_on_in_keras(monkeypatch, capsys):
    def none(target):
        raise BddError("no C++ compiler for x86_64")

    monkeypatch.setattr(library.runtime_build, "compiler", none)
    library.library.cache_clear()
    try:
        model = build_detector(tiny_bnext.NAME, 32, "rgb")
        assert step.fused_blocks(model, experiment(dataset="sample")) is None
    finally:
        library.library.cache_clear()
    assert "several times slower: no C++ compiler" in capsys.readouterr().err
    assert step.fused_blocks(model, experiment(dataset="sample", gradients="keras")) is None


@pytest.mark.parametrize(
    ("backbone", "channels", "stride", "stem"),
    [
        (tiny_bnext.NAME, "rgb,fft,lbp", 2, "adapter"),
        (tiny_bnext.NAME, "rgb,sobel,fft,lbp", 1, "adapter"),
        (tiny_bnext.NAME, "rgb", 2, "adapter"),
        (tiny_bnext.NAME, "rgb,lbp,haar", 2, "direct"),
        ("bnext-e", "rgb,fft,lbp", 2, "adapter"),
        ("bnext-e", "rgb,fft", 4, "adapter"),
        ("bnext-e", "rgb,haar", 4, "direct"),
    ],
)
def test_the_layers_in_front_of_the_blocks_equal_keras_forwards_and_backwards(
    backbone, channels, stride, stem
):
    tf.keras.utils.set_random_seed(4)
    model = unusual(build_detector(backbone, 32, channels, "stable", stride, stem))
    front = tf.keras.Model(model.input, model.get_layer("feature.0.norm").output)
    ours = blocks._Front(model, BATCH)
    out, dout = ours.result
    rng = np.random.default_rng(5)
    images = rng.integers(0, 256, (BATCH, 32, 32, 3)).astype(np.uint8)
    dout[...] = rng.normal(0, 1, dout.shape)
    with tf.GradientTape() as tape:
        expected = front(images, training=True)
    gradients = tape.gradient(expected, ours.weights, tf.constant(dout))
    x = model.get_layer("channels")(images).numpy()
    weights = [w.numpy() for w in ours.weights]
    found = [np.zeros_like(w) for w in weights]
    ours.stem.forward(x, weights, out, ours.statistics, True)
    ours.stem.backward(x, weights, dout, found)
    assert relative(expected.numpy(), out) < 1e-5
    for weight, a, b in zip(ours.weights, gradients, found, strict=True):
        if stride == 4 and weight.name == "adapter/bias:0":  # without padding, batch normalization removes it
            assert max(np.abs(a).max(), np.abs(b).max()) < 1e-3
        else:
            assert relative(a.numpy(), b) < 1e-3
    norm = model.get_layer("feature.0.norm")
    np.testing.assert_allclose(norm.moving_mean, 0.1 * ours.statistics[0], rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(norm.moving_variance, 0.9 + 0.1 * ours.statistics[1], rtol=1e-4)
