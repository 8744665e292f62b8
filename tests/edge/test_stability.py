"""Degraded copies of an image, and verdicts that do not survive them."""

import json

import numpy as np
import pytest
from PIL import Image

from bdd_tf.edge.detector import Detector
from bdd_tf.edge.images.crops import Score
from bdd_tf.edge.labels import UNSURE, DecisionRule
from bdd_tf.edge.stability import COPIES, SHIFT, degraded, judged, score_with_copies, views_of_copies
from bdd_tf.edge.tflite.metadata import VIEWS_FORMAT
from tests.edge.detect_command import run_detect
from tests.edge.small_models import with_metadata

BAND = DecisionRule(0.5, (0.3, 0.7))
PLAIN = DecisionRule(0.5)


def copies_with(*scores):
    return {name: Score(score) for name, score in zip(COPIES, scores, strict=True)}


def test_the_copies_are_what_their_names_say(photo):
    copies = degraded(photo)
    assert tuple(copies) == COPIES
    height, width = photo.shape[:2]
    assert copies["jpeg80"].size == (width, height)
    assert 0 < np.abs(np.asarray(copies["jpeg80"], int) - photo).max() < 40
    assert copies["scale075"].size == (round(0.75 * width), round(0.75 * height))
    np.testing.assert_array_equal(np.asarray(copies["shift3"]), photo[SHIFT:, SHIFT:])


def test_the_given_image_stays_as_it_is(photo):
    image = Image.fromarray(photo)
    degraded(image)
    np.testing.assert_array_equal(np.asarray(image), photo)


@pytest.mark.parametrize("side", [1, 3, 4])
def test_tiny_images_have_the_copies_that_are_possible(side):
    copies = degraded(np.zeros((side, 9, 3), np.uint8))
    assert ("shift3" in copies) == (side > SHIFT)
    assert all(min(copy.size) >= 1 for copy in copies.values())


@pytest.mark.parametrize(("rule", "stands"), [(PLAIN, "FAKE"), (BAND, UNSURE)])
def test_a_verdict_that_flips_is_unsure_with_a_band_and_noted_without(rule, stands):
    found = judged(copies_with(0.9, 0.2, 0.95), Score(0.9), rule)
    assert found.flips
    assert found.settled(rule) == stands
    assert found.note == "its verdict is not stable: FAKE as it is, REAL for scale075 (0.2000)"
    assert found.spread == pytest.approx(0.75)


def test_a_steady_verdict_stands():
    for rule in (PLAIN, BAND):
        found = judged(copies_with(0.9, 0.8, 0.95), Score(0.9), rule)
        assert (found.flips, found.settled(rule), found.note) == (False, "FAKE", None)


def test_an_unsure_image_stays_unsure_without_a_note():
    found = judged(copies_with(0.9, 0.1, 0.5), Score(0.5), BAND)
    assert (found.settled(BAND), found.note) == (UNSURE, None)


def test_copies_have_the_scores_that_they_have_alone(views_file, save):
    rng = np.random.default_rng(2)
    path = save(rng.integers(0, 256, (60, 70, 3), dtype=np.uint8), "a.png")
    with Detector(views_file) as detector:
        cropper = detector.cropper()
        image = Image.open(path)
        views, copies = cropper(image), views_of_copies(image, cropper)
        [(score, found)] = score_with_copies(detector, [(views, lambda copies=copies: copies)], cropper)
        assert score.probability == pytest.approx(detector.predict(path)[0], abs=1e-6)
        alone = {name: detector.predict(np.asarray(copy))[0] for name, copy in degraded(image).items()}
        assert {name: s.probability for name, s in found.items()} == pytest.approx(alone, abs=1e-6)


def test_a_single_image_is_checked_unless_it_must_not_be(float_file, save, tmp_path, photo, capsys):
    one, two = save(photo, "a.png"), save(photo[::-1], "b.png")

    def keys(*arguments):
        out = run_detect(capsys, *arguments, "--model", float_file, "--json")[1]
        return [list(json.loads(line)) for line in out.splitlines()]

    first = ["path", "fake_probability", "verdict", "error", "note"]
    assert keys(one) == [[*first, "stability", "model"]]
    assert keys(one, "--no-check") == [[*first, "model"]]
    assert keys(one, two) == [[*first, "model"]] * 2
    assert keys(one, two, "--check") == [[*first, "stability", "model"]] * 2
    assert keys(tmp_path, "--crop", "center") == keys(one, two, "--crop", "center")
    assert "stability" not in keys(one, "--crop", "center")[0]


def test_the_check_changes_no_score_and_flips_become_unsure(float_model, save, photo, tmp_path, capsys):
    image, model = save(photo, "a.png"), tmp_path / "m.tflite"
    model.write_bytes(with_metadata(float_model.content))
    plain = json.loads(run_detect(capsys, image, "--model", model, "--json", "--no-check")[1])
    checked = json.loads(run_detect(capsys, image, "--model", model, "--json")[1])
    assert checked["fake_probability"] == plain["fake_probability"]
    scores = checked["stability"]["scores"]
    apart = max(scores.values(), key=lambda score: abs(score - plain["fake_probability"]))
    assert apart != plain["fake_probability"]
    # An end of the band between the image and the copy that differs most.
    low, high = sorted((plain["fake_probability"], apart))
    middle = (low + high) / 2
    band = [middle, 1.0] if plain["fake_probability"] < apart else [0.0, middle]
    model.write_bytes(with_metadata(float_model.content, format=VIEWS_FORMAT, unsure=band))
    assert (
        json.loads(run_detect(capsys, image, "--model", model, "--json", "--no-check")[1])["verdict"]
        != UNSURE
    )
    flipped = json.loads(run_detect(capsys, image, "--model", model, "--json")[1])
    assert flipped["verdict"] == UNSURE
    assert "not stable" in flipped["note"]


def test_a_camera_is_not_checked(float_file, capsys):
    from bdd_tf.errors import UsageError

    with pytest.raises(UsageError, match="not for a camera"):
        run_detect(capsys, "--camera", "0", "--check", "--model", float_file)
