import dataclasses
import inspect

import numpy as np
import pytest

from bdd_tf.datasets import codecs, degrade
from bdd_tf.datasets.conditions import CONDITIONS, apply_condition, crop_under
from bdd_tf.datasets.degrade import HARD_FACTOR, LARGEST_FACTOR, Degradation, apply, draw
from bdd_tf.errors import UsageError
from tests.datasets import photo_archive

IMAGE = photo_archive.picture(np.random.default_rng(1))
NOTHING = Degradation(96, rescale=0, hard=0, codec=0, blur=0, noise=0, cutout=0, grey=0, jitter=0, mask=0)


def plans(chain, count=2000, side=144, short=400.0):
    return [draw(np.random.default_rng([7, i]), chain, side, side, short) for i in range(count)]


def test_the_draw_does_not_know_the_class():
    assert set(inspect.signature(draw).parameters) == {"rng", "chain", "height", "width", "short_side"}
    assert "label" not in inspect.getsource(degrade)


@pytest.mark.parametrize("size", [96, 128])
@pytest.mark.parametrize("side", [128, 144, 600])
def test_crops_have_their_size_whatever_the_image(size, side):
    image = photo_archive.picture(np.random.default_rng(2), side)
    chain = Degradation(size)
    for i, plan in enumerate(plans(chain, 60, side, 500.0)):
        made = apply(image, plan, size)
        assert made.shape == (size, size, 3), i
        assert made.dtype == np.uint8


def test_each_step_occurs_as_often_as_it_should():
    drawn, chain = plans(Degradation()), Degradation()
    shares = {
        "codec": np.mean([bool(p.codecs) for p in drawn]),
        "blur": np.mean([p.blur > 0 for p in drawn]),
        "noise": np.mean([p.noise > 0 for p in drawn]),
        "cutout": np.mean([bool(p.cutout) for p in drawn]),
        "mask": np.mean([p.mask is not None for p in drawn]),
    }
    for name, share in shares.items():
        assert share == pytest.approx(getattr(chain, name), abs=0.04), name
    rounds = [p for p in drawn if p.codecs]
    assert np.mean([len(p.codecs) == 2 for p in rounds]) == pytest.approx(chain.second, abs=0.04)
    all_codecs = [c for p in drawn for c in p.codecs]
    assert np.mean([not c.subsampling for c in all_codecs]) == pytest.approx(chain.webp, abs=0.04)
    assert {c.quality for c in all_codecs} == set(range(30, 96))
    assert {p.filter for p in drawn} == set(codecs.FILTERS)
    assert {p.turns for p in drawn} == {0, 1, 2, 3}


@pytest.mark.parametrize("short", [130.0, 250.0, 512.0, 900.0, 4000.0])
def test_factors_lead_into_the_range_where_the_pixels_allow(short):
    chain = Degradation(128, rescale=1, hard=0)
    factors = np.array([plan.factor for plan in plans(chain, 500, 144, short)])
    assert factors.min() >= 129 / 144 - 1e-9
    assert factors.max() <= LARGEST_FACTOR + 1e-9
    assert len(np.unique(factors)) > 100
    if 230 <= short <= 600:
        assert (short * factors).min() >= 200 - 1e-6
        assert (short * factors).max() <= 1000 + 1e-6
    hard = [plan.factor for plan in plans(Degradation(128, rescale=0, hard=1), 500, 144, short)]
    assert min(hard) >= HARD_FACTOR - 1e-9
    assert max(hard) <= 1


def test_without_steps_a_crop_is_a_turned_part_of_the_image_off_the_grid():
    seen = set()
    for plan in plans(NOTHING, 300):
        made = apply(IMAGE, plan, 96)
        upright = np.rot90(made, -plan.turns)
        upright = upright[:, ::-1] if plan.flip else upright
        rows, columns = np.nonzero((IMAGE[:49, :49] == upright[0, 0]).all(axis=2))
        found = zip(rows, columns, strict=True)
        places = [(r, c) for r, c in found if np.array_equal(IMAGE[r : r + 96, c : c + 96], upright)]
        assert len(places) == 1
        seen.add((places[0][0] % 8, places[0][1] % 8))
    assert len(seen) > 50  # of 64 offsets


def test_the_last_codecs_grid_lies_anywhere_in_the_crop():
    chain = dataclasses.replace(NOTHING, codec=1.0, quality=(30, 30), webp=0, second=0)
    phases = set()
    for i, plan in enumerate(plans(chain, 120)):
        made = apply(photo_archive.picture(np.random.default_rng(i)), plan, 96).astype(np.float32)
        steps = np.abs(np.diff(made.mean(axis=2), axis=1)).mean(axis=0)
        phases.add(int(np.argmax([steps[phase::8].mean() for phase in range(8)])))
    assert len(phases) == 8


def test_the_same_key_makes_the_same_pixels():
    chain = Degradation(96)
    one, same = (degrade.degrade(IMAGE, 400, chain, (1, 2, 3)) for _ in range(2))
    assert np.array_equal(one, same)
    for key in ((2, 2, 3), (1, 3, 3), (1, 2, 4)):
        assert not np.array_equal(one, degrade.degrade(IMAGE, 400, chain, key))


def test_the_image_itself_stays_untouched():
    before = IMAGE.copy()
    for plan in plans(Degradation(128), 100):
        apply(IMAGE, plan, 128)
    assert np.array_equal(before, IMAGE)


def test_light_edits_keep_grey_grey_and_a_mask_hides():
    grey = np.repeat(IMAGE[..., :1], 3, axis=2)
    chain = dataclasses.replace(NOTHING, jitter=1.0)
    for plan in plans(chain, 30):
        made = apply(grey, plan, 96).astype(int)
        assert np.ptp(made, axis=2).max() <= 1
    chain = dataclasses.replace(NOTHING, mask=1.0)
    hidden = [(apply(IMAGE, plan, 96) == 0).all(axis=2).mean() for plan in plans(chain, 100)]
    assert 0.3 < np.mean(hidden) < 0.55


def test_small_images_are_padded_by_reflection():
    padded = codecs.pad(IMAGE[:40, :50], 96)
    assert padded.shape == (96, 96, 3)
    assert np.array_equal(padded[28:68, 23:73], IMAGE[:40, :50])
    assert np.array_equal(padded[27, 23:73], IMAGE[0, :50])
    assert codecs.pad(IMAGE, 96) is IMAGE


def test_codecs_keep_images_and_name_what_is_broken():
    for made in (codecs.jpeg(IMAGE, 95, "4:4:4"), codecs.webp(IMAGE, 95)):
        assert made.shape == IMAGE.shape
        assert np.abs(made.astype(int) - IMAGE).mean() < 10
    with pytest.raises(Exception, match=r"x\.jpg cannot be decoded"):
        codecs.decode(b"nothing", "x.jpg")
    flat = np.zeros((40, 60, 3), np.uint8) + np.array([250, 10, 60], np.uint8)
    assert np.abs(codecs.jpeg(flat, 95).astype(int) - flat).max() < 6  # red stays red
    for filter in codecs.FILTERS:
        assert codecs.resize(flat, 20, 10, filter).shape == (10, 20, 3)


def test_impossible_chains_are_refused():
    for values in ({"size": 8}, {"blur": 1.5}, {"quality": (90, 30)}, {"short_side": (0, 100)}):
        with pytest.raises(UsageError):
            Degradation(**values)
    assert Degradation.light(96).noise == 0


def test_a_share_of_the_images_is_only_coded_once():
    hides = dataclasses.replace(NOTHING, mask=1, codec=0)
    share = dataclasses.replace(hides, clean=0.4)
    image = np.full((144, 144, 3), 128, np.uint8)
    # A hidden patch is black; an image that is only coded has no black pixel.
    masked = [(degrade.degrade(image, 400, share, (5, i)) == 0).any() for i in range(400)]
    assert np.mean(masked) == pytest.approx(0.6, abs=0.08)
    # Without a share nothing is drawn for it: earlier trainings keep their pixels.
    chain = Degradation(96)
    expected = apply(IMAGE, draw(np.random.default_rng([5, 1]), chain, 144, 144, 400), 96)
    np.testing.assert_array_equal(degrade.degrade(IMAGE, 400, chain, (5, 1)), expected)


@pytest.mark.parametrize("condition", CONDITIONS)
@pytest.mark.parametrize("side", [90, 144, 700])
def test_conditions_are_the_same_every_time_and_give_crops_of_one_size(condition, side):
    image = photo_archive.picture(np.random.default_rng(3), side)
    one, same = (crop_under(image, condition, 128, 5, 11) for _ in range(2))
    assert one.shape == (128, 128, 3)
    assert np.array_equal(one, same)
    assert not np.array_equal(one, crop_under(image, condition, 128, 5, 12))


def test_conditions_change_sizes_as_they_say():
    sizes = {name: apply_condition(IMAGE, name, 0, 0).shape[0] for name in CONDITIONS}
    assert 137 <= sizes["clean"] <= 143
    assert sizes["half"] in range(68, 73)
    assert sizes["upscale"] > 200
    with pytest.raises(UsageError, match="unknown condition"):
        apply_condition(IMAGE, "jpeg71", 0, 0)
