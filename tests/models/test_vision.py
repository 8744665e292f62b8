"""Vision transformers and residual networks against formulas in NumPy, and their parameters, operations and conversion."""

import math

import numpy as np
import pytest
from scipy.special import erf

from bdd_tf.config import Experiment
from bdd_tf.errors import BddError, UsageError
from bdd_tf.legacy_keras import tf
from bdd_tf.models.detector import Normalise, build_detector
from bdd_tf.models.normalisation import NORMALISATIONS
from bdd_tf.models.operation_counts import count_operations
from bdd_tf.models.positions import interpolated_positions
from bdd_tf.models.vision_sizes import RESNETS, TRANSFORMERS, ResNetSize
from bdd_tf.training.weights import build, initialise_from, save_weights
from converters.pytorch.state_dict import load_state
from converters.pytorch.vision_entries import resnet_entries, transformer_entries
from tests import tiny_vision


@pytest.fixture(scope="module", autouse=True)
def tiny():
    tiny_vision.register()
    yield
    tiny_vision.unregister()


def layer_norm(x, state, key, epsilon):
    variance = x.var(-1, keepdims=True)
    return (x - x.mean(-1, keepdims=True)) / np.sqrt(variance + epsilon) * state[f"{key}.weight"] + state[
        f"{key}.bias"
    ]


def attention(q, k, v, heads):
    """q [Q, C], k and v [T, C], one head after the other."""
    size, out = q.shape[-1] // heads, []
    for h in range(heads):
        part = slice(h * size, (h + 1) * size)
        scores = q[:, part] @ k[:, part].T / math.sqrt(size)
        weights = np.exp(scores - scores.max(-1, keepdims=True))
        out.append(weights / weights.sum(-1, keepdims=True) @ v[:, part])
    return np.concatenate(out, -1)


def transformer(image, state, size):
    """The papers' formulas on one normalised image [32, 32, 3], with OpenAI's or timm's names."""
    clip = size.is_clip
    prefix = "visual.transformer.resblocks." if clip else "blocks."
    names = {
        True: (
            "visual.conv1",
            "ln_1",
            "attn.in_proj_",
            "attn.out_proj",
            "ln_2",
            "mlp.c_fc",
            "mlp.c_proj",
            "visual.ln_post",
        ),
        False: ("patch_embed.proj", "norm1", "attn.qkv.", "attn.proj", "norm2", "mlp.fc1", "mlp.fc2", "norm"),
    }[clip]
    patch, norm1, qkv, out, norm2, hidden, last, norm = names
    p = size.patch
    patches = image.reshape(4, p, 4, p, 3).transpose(0, 2, 4, 1, 3).reshape(16, -1)
    x = patches @ state[f"{patch}.weight"].reshape(size.width, -1).T
    if not clip:
        x = x + state[f"{patch}.bias"]
    token = state["visual.class_embedding" if clip else "cls_token"].reshape(1, -1)
    x = np.concatenate([token, x]) + state["visual.positional_embedding" if clip else "pos_embed"].reshape(
        17, -1
    )
    if clip:
        x = layer_norm(x, state, "visual.ln_pre", size.epsilon)
    for i in range(size.depth):

        def dense(y, key, i=i):
            key = f"{prefix}{i}.{key}"
            return y @ state[f"{key}weight"].T + state[f"{key}bias"]

        y = dense(layer_norm(x, state, f"{prefix}{i}.{norm1}", size.epsilon), qkv)
        x = x + dense(attention(*np.split(y, 3, -1), size.heads), f"{out}.")
        y = dense(layer_norm(x, state, f"{prefix}{i}.{norm2}", size.epsilon), f"{hidden}.")
        quick = size.activation == "quick_gelu"
        y = y / (1 + np.exp(-1.702 * y)) if quick else 0.5 * y * (1 + erf(y / math.sqrt(2)))
        x = x + dense(y, f"{last}.")
    x = layer_norm(x[0], state, norm, size.epsilon)
    return x @ state["visual.proj"] if clip else x


def residual(image, state, size):
    """Convolutions with torch's symmetric padding, from the tensors by their names."""
    prefix = "visual." if size.is_clip else ""

    def convolved(x, conv, norm, stride=1):
        kernel = state[f"{prefix}{conv}.weight"].transpose(2, 3, 1, 0)
        pad = len(kernel) // 2
        x = np.pad(x, ((0, 0), (pad, pad), (pad, pad), (0, 0)))
        x = tf.nn.conv2d(x.astype(np.float32), kernel, stride, "VALID").numpy().astype(np.float64)
        scale, shift, mean, variance = (
            state[f"{prefix}{norm}.{p}"] for p in ("weight", "bias", "running_mean", "running_var")
        )
        return (x - mean) / np.sqrt(variance + 1e-5) * scale + shift

    def halved(x):
        n, h, w, c = x.shape
        return x.reshape(n, h // 2, 2, w // 2, 2, c).mean((2, 4))

    def relu(x):
        return np.maximum(x, 0)

    x = image[None]
    if size.is_clip:
        for i, stride in ((1, 2), (2, 1), (3, 1)):
            x = relu(convolved(x, f"conv{i}", f"bn{i}", stride))
        x = halved(x)
    else:
        x = relu(convolved(x, "conv1", "bn1", 2))
        x = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)), constant_values=-np.inf)
        x = tf.nn.max_pool2d(x.astype(np.float32), 3, 2, "VALID").numpy().astype(np.float64)
    for stage, blocks in enumerate(size.blocks, start=1):
        for block in range(blocks):
            key, stride = f"layer{stage}.{block}", 2 if stage > 1 and not block else 1
            y = relu(convolved(x, f"{key}.conv1", f"{key}.bn1"))
            y = relu(convolved(y, f"{key}.conv2", f"{key}.bn2", 1 if size.is_clip else stride))
            if size.is_clip and stride == 2:
                y, x = halved(y), halved(x)
            y = convolved(y, f"{key}.conv3", f"{key}.bn3")
            if not block:
                x = convolved(x, f"{key}.downsample.0", f"{key}.downsample.1", 1 if size.is_clip else stride)
            x = relu(x + y)
    if not size.is_clip:
        return x.mean((1, 2))[0]
    tokens = x.reshape(-1, x.shape[-1])
    tokens = (
        np.concatenate([tokens.mean(0, keepdims=True), tokens])
        + state["visual.attnpool.positional_embedding"]
    )

    def dense(y, part):
        key = f"visual.attnpool.{part}_proj"
        return y @ state[f"{key}.weight"].T + state[f"{key}.bias"]

    pooled = attention(dense(tokens[:1], "q"), dense(tokens, "k"), dense(tokens, "v"), size.heads)
    return dense(pooled, "c")[0]


@pytest.mark.parametrize("name", tiny_vision.SIZES)
def test_features_equal_the_formulas(name):
    size, side = tiny_vision.SIZES[name], 64 if isinstance(tiny_vision.SIZES[name], ResNetSize) else 32
    state = tiny_vision.state_of(name)
    stem = None if name != "tiny-resnet" else 4
    model = build_detector(name, side, ("rgb",), stem_stride=stem)
    load_state(model, state, tiny_vision.entries_of(name))
    images = np.random.default_rng(1).integers(0, 256, (3, side, side, 3)).astype(np.uint8)
    found = tf.keras.Model(model.input, model.get_layer("logit").input)(images, training=False).numpy()
    mean, deviation = NORMALISATIONS[size.normalisation]
    function = residual if isinstance(size, ResNetSize) else transformer
    state = {
        key: value.astype(np.float64) if value.dtype == np.float32 else value for key, value in state.items()
    }
    for image, features in zip(images, found, strict=True):
        expected = function((image / 255 - np.array(mean)) / np.array(deviation), state, size)
        np.testing.assert_allclose(features, expected, atol=2e-5 * np.abs(expected).max())


@pytest.mark.parametrize(
    ("name", "tokens", "parameters"),
    [
        # With a classifier of 1000 classes: 88.2 M (768,000 weights and 1,000 biases more), as timm and torchvision state.
        ("vit-b32", 50, 87_455_232),
        # At 384 px, 88,297,192 with the classifier: the paper's 88.3 M.
        ("vit-b32", 145, 88_297_192 - 769_000),
        ("clip-vit-b32", 50, 87_849_216),
        ("openclip-vit-b32", 50, 87_849_216),
        ("resnet50-v1.5", 0, 25_557_032 - 2_049_000),
        ("clip-resnet50", 50, 38_316_896),
    ],
)
def test_the_published_sizes_have_the_published_parameters(name, tokens, parameters):
    if name in TRANSFORMERS:
        library = "clip" if TRANSFORMERS[name].is_clip else "timm"
        entries = transformer_entries(TRANSFORMERS[name], library, tokens)
    else:
        entries = resnet_entries(RESNETS[name], tokens)
    counted = [
        e for e in entries if not e.key.endswith(("running_mean", "running_var", "num_batches_tracked"))
    ]
    assert sum(math.prod(e.shape) for e in counted) == parameters


def test_operations_count_every_token_and_both_products_of_attention():
    counts = count_operations(build_detector("tiny-clip", 32, ("rgb",)))
    width, tokens = 16, 17
    dense = tokens * 12 * width * width
    expected = 16 * 8 * 8 * 3 * width + 2 * (dense + 2 * tokens * tokens * width) + width * 12 + 12
    assert counts.float_macs == expected
    assert counts.binary_macs == 0


def test_positions_are_interpolated_to_another_resolution(tmp_path):
    config = Experiment(backbone="tiny-vit", channels=("rgb",), resolution=32)
    donor = build(config)
    save_weights(donor, tmp_path / "run" / "model.weights.h5")
    config.save(tmp_path / "run" / "config.yaml")
    other = Experiment(backbone="tiny-vit", channels=("rgb",), resolution=64)
    model = build(other)
    assert initialise_from(model, "run", tmp_path) == len(model.weights)
    old, new = (m.get_layer("feature.tokens").weights[0].numpy() for m in (donor, model))
    assert (old.shape, new.shape) == ((17, 16), (65, 16))
    np.testing.assert_array_equal(old[0], new[0])
    np.testing.assert_allclose(new, interpolated_positions(old, 65))


def test_interpolation_keeps_constants_and_slopes_and_refuses_other_grids():
    rows = np.arange(7, dtype=np.float32)[:, None] * np.ones((1, 7), np.float32)
    embedding = np.concatenate([[[5.0, 5.0]], np.stack([np.full(49, 2.0), rows.reshape(-1)], -1)]).astype(
        np.float32
    )
    found = interpolated_positions(embedding, 1 + 14 * 14)
    np.testing.assert_allclose(found[:, 0], [5, *[2] * 196], rtol=1e-6)
    middle = found[1:, 1].reshape(14, 14)[4:10, 3]
    np.testing.assert_allclose(np.diff(middle), 0.5, atol=1e-5)
    np.testing.assert_allclose(interpolated_positions(embedding, 50), embedding, atol=1e-6)
    for count, tokens in ((50, 52), (51, 50), (1, 5)):
        with pytest.raises(BddError, match="square grid"):
            interpolated_positions(np.zeros((count, 2), np.float32), tokens)


def test_the_backbone_brings_its_normalisation_and_an_experiment_may_name_another():
    assert Experiment(backbone="tiny-clip", channels=("rgb",)).statistics == "clip"
    assert Experiment(channels=("rgb",)).statistics == "imagenet"
    config = Experiment(backbone="tiny-vit", channels=("rgb",), normalisation="imagenet")
    assert build(config).get_layer("normalise").statistics == "imagenet"
    with pytest.raises(UsageError, match="possible: imagenet, clip, half"):
        Experiment(normalisation="imagnet")
    with pytest.raises(UsageError, match="direct stem"):
        Experiment(stem="direct", normalisation="clip")
    x = np.full((1, 1, 1, 3), 0.75, np.float32)
    np.testing.assert_allclose(Normalise("half")(x), 0.5 * np.ones((1, 1, 1, 3)), rtol=1e-6)


def test_weights_of_another_normalisation_are_refused_with_the_setting_to_add(tmp_path):
    config = Experiment(backbone="tiny-vit", channels=("rgb",), normalisation="imagenet")
    save_weights(build(config), tmp_path / "run" / "model.weights.h5")
    config.save(tmp_path / "run" / "config.yaml")
    with pytest.raises(UsageError, match="add --set normalisation=imagenet"):
        initialise_from(build(Experiment(backbone="tiny-vit", channels=("rgb",))), "run", tmp_path)


def test_a_model_survives_serialisation():
    model = build_detector("tiny-clip-resnet", 64, ("rgb",))
    again = tf.keras.Model.from_config(model.get_config())
    again.set_weights(model.get_weights())
    images = np.random.default_rng(2).integers(0, 256, (2, 64, 64, 3)).astype(np.uint8)
    np.testing.assert_array_equal(model(images), again(images))
