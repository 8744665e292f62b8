"""Backbones by name, and the stem's stride at every resolution."""

import numpy as np
import pytest

from bdd_tf.errors import UsageError
from bdd_tf.models import registry
from bdd_tf.models.bnext_sizes import BNEXT
from bdd_tf.models.detector import HEAD_LAYERS, build_detector, freeze_backbone
from bdd_tf.models.float_baselines import BASELINES
from bdd_tf.models.operation_counts import count_operations, flat_layers, is_binary
from bdd_tf.models.quicknet import QUICKNET
from bdd_tf.models.residual_baselines import RESIDUAL_BASELINES
from bdd_tf.models.vision_sizes import RESNETS, TRANSFORMERS


def test_every_size_of_every_family_is_registered_under_its_own_name():
    vision = set(TRANSFORMERS) | set(RESNETS)
    own = set(BNEXT) | set(QUICKNET) | set(BASELINES) | set(RESIDUAL_BASELINES)
    assert set(registry.BACKBONES) == own | vision
    assert set(registry.BASELINES) == set(BASELINES) | vision
    assert all(registry.backbone(name).name == name for name in registry.BACKBONES)


@pytest.mark.parametrize("name", ["", "BNext-T", "bnext_t", "resnet51", None])
def test_unknown_backbones_list_the_possible(name):
    with pytest.raises(UsageError) as caught:
        registry.backbone(name)
    assert repr(str(name)) in str(caught.value)
    for possible in registry.BACKBONES:
        assert possible in str(caught.value)


@pytest.mark.parametrize("name", sorted(registry.BACKBONES))
def test_every_resolution_fits_or_is_told_the_nearest_that_do(name):
    stage = registry.backbone(name).stage_stride
    for resolution in range(1, 300):
        try:
            stride = registry.stem_stride(name, resolution)
        except UsageError as error:
            message = str(error)
            assert f"resolution {resolution} does not fit {name}" in message
            nearest = [int(n) for n in message.split("nearest: ")[1].rstrip(".").split(",")]
            total = int(message.split("multiple of ")[1].split(";")[0])
            multiples = sorted(range(total, 400, total), key=lambda n: abs(n - resolution))
            assert multiples[0] in nearest
            assert all(n % total == 0 for n in nearest)
            assert (
                min(abs(n - resolution) for n in nearest) == abs(multiples[0] - resolution) < max(total, 16)
            )
        else:
            assert resolution % (stride * stage) == 0
            assert stride in registry.backbone(name).stem_strides


@pytest.mark.parametrize("name", sorted(registry.BACKBONES))
def test_the_sizes_named_as_nearest_are_accepted(name):
    rejected = 0
    for resolution in range(1, 300):
        try:
            registry.stem_stride(name, resolution)
            continue
        except UsageError as error:
            message = str(error)
        rejected += 1
        for near in message.split("nearest: ")[1].rstrip(".").split(","):
            registry.stem_stride(name, int(near))
    assert rejected >= 5


@pytest.mark.parametrize("name", sorted(registry.BACKBONES))
def test_the_fitting_resolution_fits_and_is_the_nearest(name):
    for resolution in range(1, 300):
        found = registry.fitting_resolution(name, resolution)
        registry.stem_stride(name, found)
        try:
            registry.stem_stride(name, resolution)
        except UsageError as error:
            near = [int(n) for n in str(error).split("nearest: ")[1].rstrip(".").split(",")]
            assert abs(found - resolution) == min(abs(n - resolution) for n in near)
        else:
            assert found == resolution


@pytest.mark.parametrize(
    ("name", "resolution", "requested", "stride"),
    [
        ("bnext-n", 32, None, 1),
        ("bnext-n", 80, None, 1),
        ("bnext-n", 96, None, 2),
        ("bnext-t", 224, None, 2),
        ("bnext-t", 32, 2, 2),
        ("bnext-t", 224, 1, 1),
        ("quicknet", 32, None, 4),
        ("quicknet", 224, 4, 4),
        ("resnet50", 32, None, 1),
        ("resnet50", 224, None, 4),
        ("vgg16", 32, None, 1),
        ("efficientnet-b0", 96, None, 2),
        ("vit-b32", 224, None, 32),
        ("clip-resnet50", 64, None, 4),
        ("resnet50-v1.5", 32, None, 1),
    ],
)
def test_the_stem_follows_the_resolution_unless_asked_otherwise(name, resolution, requested, stride):
    assert registry.stem_stride(name, resolution, requested) == stride


@pytest.mark.parametrize(
    ("name", "resolution", "requested", "message"),
    [
        ("bnext-t", 16, 2, "multiple of 32; nearest: 32"),
        ("bnext-t", 48, 2, "multiple of 32; nearest: 32, 64"),
        ("bnext-t", 224, 3, "no stem of stride 3; possible: 2, 1"),
        ("bnext-t", 224, 0, "no stem of stride 0"),
        ("quicknet", 224, 2, "no stem of stride 2; possible: 4"),
        ("quicknet", 16, None, "multiple of 32; nearest: 32"),
        ("resnet50", 224, 2, "no stem of stride 2; possible: 4, 1"),
        ("densenet121", 30, None, "multiple of 8; nearest: 24, 32"),
        ("vgg16", 240, None, "multiple of 32; nearest: 224, 256"),
        ("clip-vit-b32", 230, None, "multiple of 32; nearest: 224, 256"),
        ("bnext-t", 0, None, "nearest"),
        ("bnext-t", -32, None, "nearest"),
    ],
)
def test_impossible_stems_are_refused(name, resolution, requested, message):
    with pytest.raises(UsageError, match=message):
        registry.stem_stride(name, resolution, requested)


def test_a_detector_is_refused_before_anything_is_built():
    for arguments, message in (
        ({"resolution": 33}, "nearest: 32, 48"),
        ({"backbone": "bnext-x"}, "possible: bnext-n"),
        ({"channels": "rgb,fft,xyz"}, "possible: rgb, sobel"),
        ({"variant": "papr"}, "possible: paper, stable"),
    ):
        with pytest.raises(UsageError, match=message):
            build_detector(**arguments)


def test_a_frozen_nested_backbone_keeps_weights_and_statistics():
    """QuickNet is a model within the model: freezing must reach its layers."""
    model = build_detector("quicknet-small", 32, "rgb,lbp")
    assert sum(is_binary(layer) for layer in flat_layers(model)) == 16
    assert count_operations(model).parameters == model.count_params()
    freeze_backbone(model)
    assert {w.name.split("/")[0] for w in model.trainable_weights} == set(HEAD_LAYERS)
    before = model.get_weights()
    model(np.random.default_rng(0).integers(0, 256, (4, 32, 32, 3)).astype(np.uint8), training=True)
    for old, new in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)
