import math
import random

import numpy as np
import pytest

from bdd_tf.edge.labels import centred, uncentred, verdict
from bdd_tf.edge.video import timeline_plot
from bdd_tf.edge.video.timeline import MAX_BINS, MAX_STRETCHES, Smoother, Timeline

MIDDLES = [0.0, 1e-6, 0.25, 0.5, 0.9875, 1.0]


@pytest.mark.parametrize("threshold", MIDDLES)
def test_centring_keeps_the_order_and_the_verdict_and_can_be_undone(threshold):
    scores = sorted({0.0, 1.0, threshold, *np.random.default_rng(0).random(500).tolist()})
    values = [centred(score, threshold) for score in scores]
    assert values == sorted(values)
    assert all(0 <= value <= 1 for value in values)
    for score, value in zip(scores, values, strict=True):
        assert (value >= 0.5) == (score >= threshold)
        assert uncentred(value, threshold) == pytest.approx(score, abs=1e-12)


def test_with_the_threshold_in_the_middle_centring_changes_nothing():
    for score in (0.0, 0.3, 0.5, 0.9, 1.0):
        assert centred(score, 0.5) == uncentred(score, 0.5) == score


def test_a_constant_score_stays_and_steps_may_be_split():
    smooth, once, twice = Smoother(0.7), Smoother(0.7), Smoother(0.7)
    assert {smooth(t, 0.3) for t in (0, 0.01, 5, 5)} == {0.3}
    once(0, 0.0), twice(0, 0.0)
    twice(0.4, 1.0)
    assert once(1.0, 1.0) == pytest.approx(twice(1.0, 1.0))
    assert once(2.0, 1.0) == pytest.approx(1 - math.exp(-2.0 / 0.7))


@pytest.mark.parametrize("threshold", [0.1, 0.5, 0.9875])
@pytest.mark.parametrize(("before", "after"), [(0.0, 1.0), (1.0, 0.0)])
@pytest.mark.parametrize("rate", [10, 30, 240])
def test_a_turn_is_seen_after_the_same_time_whatever_the_threshold(threshold, before, after, rate):
    smooth = Smoother(0.5, threshold)
    for i in range(3 * rate):
        start = verdict(smooth(i / rate, before), threshold)
    for i in range(3 * rate, 6 * rate):
        if verdict(smooth(i / rate, after), threshold) != start:
            break
    # The first frame of the new part counts from the one before it.
    assert (i + 1) / rate - 3 == pytest.approx(0.5 * math.log(2), abs=1.01 / rate)


def test_no_time_constant_smooths_nothing():
    smooth = Smoother(0)
    assert [smooth(t, p) for t, p in ((0, 0.1), (0.1, 0.9), (0.1, 0.2))] == [0.1, 0.9, 0.2]


def scored(count, seed=0, rate=30):
    generator = random.Random(seed)
    smooth = Smoother(0.2)
    wave = (
        (i / rate, min(1, max(0, 0.5 + 0.5 * math.sin(i / 90) + generator.gauss(0, 0.2))))
        for i in range(count)
    )
    return [(t, p, smooth(t, p)) for t, p in wave]


@pytest.mark.parametrize("count", [1, 2, 100, MAX_BINS, MAX_BINS + 1, 3 * MAX_BINS + 17])
def test_the_summary_equals_one_made_of_all_frames(count):
    frames = scored(count)
    line = Timeline(0.6)
    peaks = [line.add(*frame) for frame in frames]
    summary = line.summary()
    smoothed = [s for _, _, s in frames]
    fakes = [s >= 0.6 for s in smoothed]
    assert summary.frames == count
    assert summary.fake_probability == pytest.approx(np.mean([p for _, p, _ in frames]))
    assert summary.fake_share == pytest.approx(np.mean(fakes))
    assert summary.peak == max(smoothed)
    assert summary.peak_seconds == frames[int(np.argmax(smoothed))][0]
    assert max(i for i, is_peak in enumerate(peaks) if is_peak) == int(np.argmax(smoothed))
    starts = [i for i in range(count) if fakes[i] and not (i and fakes[i - 1])]
    ends = [i + 1 for i in range(count) if fakes[i] and not (i + 1 < count and fakes[i + 1])]
    assert [s.start for s in summary.stretches] == [frames[i][0] for i in starts]
    assert [s.end for s in summary.stretches] == [frames[min(i, count - 1)][0] for i in ends]
    assert [s.peak for s in summary.stretches] == [
        max(smoothed[a:b]) for a, b in zip(starts, ends, strict=True)
    ]


def test_memory_is_bounded_and_no_frame_is_lost():
    line = Timeline(0.5)
    for i in range(20 * MAX_BINS + 5):
        line.add(i / 1000, i % 2, i % 2)
    assert len(line.bins) <= MAX_BINS
    assert sum(b.count for b in line.bins) == 20 * MAX_BINS + 5
    assert [b.start for b in line.bins] == sorted(b.start for b in line.bins)
    summary = line.summary()
    assert len(summary.stretches) == MAX_STRETCHES
    assert len(summary.stretches) + summary.stretches_left_out == 10 * MAX_BINS + 2
    assert summary.fake_share == pytest.approx(0.5, abs=1e-3)


def test_an_empty_timeline_has_no_verdict():
    line = Timeline(0.5)
    line.skip(1.0)
    summary = line.summary()
    assert (summary.frames, summary.unscored, summary.fake_probability, summary.verdict) == (0, 1, None, None)
    assert "none of which" in summary.sentence()
    assert timeline_plot.plot(line, "x").size == (1200, 360)
    assert timeline_plot.strip(line, 10, 3).size == (10, 3)


def coloured(image, left, right, top=48, bottom=316):
    """Share of reddish pixels in a part of the picture between two times' positions."""
    part = np.asarray(image, np.int16)[top:bottom, left:right]
    return float((part[..., 0] - part[..., 2] > 15).mean())


@pytest.mark.parametrize("threshold", [0.5, 0.99])
def test_the_picture_shades_the_fake_part(threshold):
    line, smooth = Timeline(threshold, threshold), Smoother(0.1, threshold)
    for i in range(300):
        line.add(i / 30, float(i >= 150), smooth(i / 30, float(i >= 150)))
    image = timeline_plot.plot(line, "a\x1b[2J\nb" * 40, 10.0)
    x = [round(64 + (1200 - 24 - 64) * seconds / 10) for seconds in (0.2, 4.8, 5.3, 9.8)]
    assert coloured(image, x[0], x[1]) < 0.01
    assert coloured(image, x[2], x[3]) > 0.9
    strip = np.asarray(timeline_plot.strip(line, 100, 4), np.int16)
    assert (strip[:, :48, 1] > strip[:, :48, 0]).all()
    assert (strip[:, 54:, 0] > strip[:, 54:, 1]).all()


@pytest.mark.parametrize("seconds", [0.001, 0.3, 59, 61, 4000, 90000, 1e7])
def test_every_length_of_time_gets_a_picture(seconds):
    line = Timeline(0.3)
    for i in range(50):
        line.add(seconds * i / 50, 0.5, 0.5)
    assert timeline_plot.plot(line, "t", seconds).size == (1200, 360)
    assert seconds / timeline_plot._tick(seconds) <= 10.01
    assert seconds < 0.05 or seconds / timeline_plot._tick(seconds) >= 1


@pytest.mark.parametrize("threshold", [0.0, 1e-6, 0.006, 0.2, 0.5, 0.6027, 0.9875, 0.999999, 1.0])
def test_the_score_axis_has_regular_ticks_at_round_scores(threshold):
    ticks = timeline_plot.score_ticks(threshold)
    assert ticks[0] == 0
    assert ticks[-1] == 1
    assert threshold in ticks
    places = [centred(tick, threshold) for tick in ticks]
    assert min(np.diff(places)) > 0.08  # labels do not touch
    for half in ([t for t in ticks if t < threshold], [t for t in ticks if t > threshold]):
        steps = np.diff(half)
        if len(steps):
            assert steps == pytest.approx(steps[0], rel=1e-6)
            assert f"{steps[0]:.0e}"[0] in "125"
            assert half[-1] / steps[0] == pytest.approx(round(half[-1] / steps[0]), abs=0.01)


@pytest.mark.parametrize("seconds", [1e6, 4e6, 1e7])
def test_the_time_axis_of_weeks_has_whole_days(seconds):
    days = timeline_plot._tick(seconds) / 86400
    assert f"{days:.0e}"[0] in "125"
    assert days == round(days)


def test_the_title_of_the_picture_shows_the_name_as_it_is():
    line = Timeline(0.5)
    line.add(0.0, 0.2, 0.2)
    pictures = {timeline_plot.plot(line, name).tobytes() for name in ("ä.mp4", "ö.mp4", "🎉.mp4", "🎂.mp4")}
    assert len(pictures) == 4


def test_with_a_band_frames_between_its_ends_are_unsure():
    line = Timeline(0.5, 0.5, (0.3, 0.7))
    scores = [0.1, 0.3, 0.31, 0.5, 0.69, 0.7, 0.9, 0.95]
    for i, score in enumerate(scores):
        line.add(float(i), score, score)
    summary = line.summary(8.0)
    assert (summary.fake_share, summary.unsure_share) == (3 / 8, 3 / 8)
    assert [(stretch.start, stretch.end) for stretch in summary.stretches] == [(5.0, 8.0)]
    assert summary.verdict == "UNSURE"
    assert summary.to_dict()["unsure_share"] == 3 / 8
    assert "unsure 37.5%" in summary.sentence()
    plain = Timeline(0.5)
    plain.add(0.0, 0.5, 0.5)
    assert "unsure_share" not in plain.summary().to_dict()
    unusual = Timeline(0.5, 0.5, (0.3, 0.7))
    unusual.add(0.0, 0.95, 0.95, deviates=True)
    assert (unusual.summary().fake_share, unusual.summary().unsure_share) == (0, 1)


def test_unsure_parts_of_the_bar_are_grey():
    line = Timeline(0.5, 0.5, (0.3, 0.7))
    for i, score in enumerate((0.1, 0.5, 0.9)):
        line.add(float(i), score, score)
    line.end = 3.0
    bar = timeline_plot.strip(line, 90, 4)
    colours = [bar.getpixel((x, 2)) for x in (15, 45, 75)]
    assert len(set(colours)) == 3
    red, green, blue = colours[1]
    assert max(red, green, blue) - min(red, green, blue) < 20
