import math
import os
import signal
import threading
import time
from pathlib import Path

import cv2
import numpy as np
import pytest

from bdd_tf.edge.images.box import Box
from bdd_tf.edge.images.crops import Cropper
from bdd_tf.edge.labels import DecisionRule, verdict
from bdd_tf.edge.video import overlay
from bdd_tf.edge.video.camera import CameraFrames
from bdd_tf.edge.video.frames import Frame
from bdd_tf.edge.video.overlay import Caption, VideoFile, draw
from bdd_tf.edge.video.video_file import FileFrames
from bdd_tf.edge.video.watch import Outputs, watch
from bdd_tf.errors import BddError, UsageError
from tests.edge.video.video_files import RATE, Brightness, StandInCamera, plain, write_video


def see(source, detector=None, outputs=None, how=None, **options):
    detector = detector or Brightness()
    options.setdefault("decide", DecisionRule(detector.threshold))
    cropper = Cropper(detector.resize, how, threshold=detector.threshold)
    return watch(source, detector, cropper=cropper, outputs=outputs or Outputs(), **options)


@pytest.fixture(scope="module")
def spliced(tmp_path_factory):
    """Five seconds of dark, then five of bright frames, with noise that crosses the threshold now and then."""
    random = np.random.default_rng(0)
    levels = np.where(np.arange(300) < 150, 70, 190) + random.normal(0, 45, 300)
    frames = (plain(int(np.clip(level, 0, 255))) for level in levels)
    return write_video(tmp_path_factory.mktemp("video") / "spliced.avi", frames)


@pytest.mark.parametrize("threshold", [0.5, 0.4])
def test_the_smoothed_verdict_turns_at_the_splice_and_is_steadier_than_the_raw_one(spliced, threshold):
    scores = []
    watched = see(FileFrames(spliced), Brightness(threshold=threshold), Outputs(each=scores.append))
    assert [score.frame for score in scores] == list(range(300))
    truth = ["REAL"] * 150 + ["FAKE"] * 150
    turned = next(s.seconds for s in scores if s.verdict == "FAKE")
    assert 5.0 < turned < 5.0 + 0.5 * math.log(2) + 0.3
    wrong = [
        sum(verdict(value, threshold) != true for value, true in zip(values, truth, strict=True))
        for values in ([s.smoothed for s in scores], [s.fake_probability for s in scores])
    ]
    assert wrong[0] < 0.5 * wrong[1]
    (stretch,) = watched.summary.stretches
    assert stretch.start == turned
    assert stretch.end == pytest.approx(10.0)
    values = watched.to_dict()
    assert values["frames"] == 300
    assert values["real_time_factor"] == pytest.approx(10 / watched.elapsed, rel=0.01)


def test_every_nth_frame_changes_the_summary_little(spliced):
    every, third = see(FileFrames(spliced)).summary, see(FileFrames(spliced, 3)).summary
    assert third.frames == 100
    assert third.seconds == pytest.approx(10.0, abs=0.1)
    assert third.fake_probability == pytest.approx(every.fake_probability, abs=0.05)
    assert third.stretches[0].start == pytest.approx(every.stretches[0].start, abs=0.4)


def test_the_peak_frame_is_kept_if_asked_for(tmp_path):
    path = write_video(tmp_path / "p.avi", [plain(10)] * 20 + [plain(240)] + [plain(10)] * 20)
    assert see(FileFrames(path)).peak is None
    watched = see(FileFrames(path), outputs=Outputs(keep_peak=True))
    assert watched.peak.mean() == pytest.approx(240, abs=2)
    assert watched.summary.peak_seconds == pytest.approx(20 / RATE)


def test_seconds_limit_the_watched_part(spliced):
    watched = see(FileFrames(spliced), outputs=Outputs(seconds=2.5))
    assert watched.summary.frames == 75
    assert watched.summary.seconds == 2.5
    assert watched.problem is None


def test_memory_does_not_grow_with_the_number_of_frames(tmp_path):
    path = write_video(tmp_path / "long.avi", (plain(i % 256, 16, 16) for i in range(4000)))
    page, resident = os.sysconf("SC_PAGE_SIZE"), {}

    def each(score):
        if score.frame in (500, 3999):
            resident[score.frame] = int(Path("/proc/self/statm").read_text().split()[1]) * page

    see(FileFrames(path), outputs=Outputs(each=each, timeline=tmp_path / "t.png", keep_peak=True))
    assert resident[3999] - resident[500] < 6 * 2**20


@pytest.mark.parametrize(("number", "name"), [(signal.SIGINT, "SIGINT"), (signal.SIGTERM, "SIGTERM")])
def test_a_signal_ends_a_video_cleanly(spliced, tmp_path, number, name):
    before = signal.getsignal(number)
    signal.signal(number, signal.default_int_handler)
    try:
        outputs = Outputs(
            each=lambda score: score.frame == 40 and os.kill(os.getpid(), number),
            save_video=tmp_path / "o.mp4",
            timeline=tmp_path / "t.png",
        )
        watched = see(FileFrames(spliced), outputs=outputs)
        assert watched.interrupted == number
        assert watched.summary.frames == 41
        assert watched.problem is None
        assert signal.getsignal(number) is signal.default_int_handler
    finally:
        signal.signal(number, before)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["o.mp4", "t.png"]
    assert cv2.VideoCapture(str(tmp_path / "o.mp4")).get(cv2.CAP_PROP_FRAME_COUNT) == 41


def test_the_second_signal_ends_it_at_once(spliced, tmp_path):
    def each(score):
        if score.frame == 3:
            os.kill(os.getpid(), signal.SIGINT)
            os.kill(os.getpid(), signal.SIGINT)

    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            see(FileFrames(spliced), outputs=Outputs(each=each, save_video=tmp_path / "o.mp4"))
    finally:
        signal.signal(signal.SIGINT, before)
    assert list(tmp_path.iterdir()) == []


def test_other_threads_watch_too(spliced):
    results = []
    thread = threading.Thread(target=lambda: results.append(see(FileFrames(spliced)).summary))
    thread.start()
    thread.join(20)
    assert results == [see(FileFrames(spliced)).summary]


def test_an_error_leaves_no_files_and_closes_the_source(spliced, tmp_path):
    class Failing(Brightness):
        def predict_batch(self, images):
            raise BddError("the runtime is upset")

    with pytest.raises(BddError, match="upset"):
        see(
            FileFrames(spliced),
            Failing(),
            Outputs(save_video=tmp_path / "o.mp4", timeline=tmp_path / "t.png"),
        )
    assert list(tmp_path.iterdir()) == []


def test_a_camera_is_watched_until_it_is_unplugged(tmp_path):
    camera = StandInCamera(interval=0.002, frames=200)

    class Slow(Brightness):
        def predict_batch(self, images):
            time.sleep(0.02)
            return super().predict_batch(images)

    scores = []
    outputs = Outputs(each=scores.append, save_video=tmp_path / "o.mp4")
    watched = see(CameraFrames(0, camera, stalled=0.5), Slow(), outputs)
    assert "unplugged" in watched.problem
    assert watched.interrupted is None
    assert len(scores) == watched.summary.frames < 100
    assert watched.summary.dropped + watched.summary.frames == 200
    assert camera.released.is_set()
    # Frames that came late were left out, those shown are the ones of their time: the file lasts as long.
    saved = cv2.VideoCapture(str(tmp_path / "o.mp4"))
    length = saved.get(cv2.CAP_PROP_FRAME_COUNT) / saved.get(cv2.CAP_PROP_FPS)
    assert length == pytest.approx(scores[-1].seconds, abs=0.15)


def test_frames_without_a_face_are_not_scored(tmp_path):
    astronaut = pytest.importorskip("skimage.data").astronaut()[:320, 60:380]
    grey = np.full_like(astronaut, 128)
    mixed = write_video(tmp_path / "m.avi", [grey] * 4 + [astronaut] * 5 + [grey] * 3)
    scores = []
    watched = see(
        FileFrames(mixed), how="faces", outputs=Outputs(each=scores.append, save_video=tmp_path / "o.avi")
    )
    assert [s.fake_probability is not None for s in scores] == [False] * 4 + [True] * 5 + [False] * 3
    assert {s.verdict for s in scores[:4]} == {None}
    assert scores[-1].smoothed == scores[8].smoothed
    assert (watched.summary.frames, watched.summary.unscored, watched.problem) == (5, 7, None)
    none = see(FileFrames(write_video(tmp_path / "n.avi", [grey] * 4)), how="faces")
    assert none.summary.fake_probability is None
    assert "none of its 4 frames could be scored: no face" in none.problem


CAPTION = Caption("FAKE", 0.75, 0.6, 0.5, 1.5, 29.7, Box(2, 3, 10, 10))


@pytest.mark.parametrize("shape", [(480, 640), (32, 32), (33, 47), (1, 1), (1, 5000), (300, 2), (1080, 1920)])
@pytest.mark.parametrize("caption", [CAPTION, Caption(None, None, None, 0.5, 0.0, 1.0)])
def test_captions_fit_every_frame_and_leave_it_alone(shape, caption):
    frame = np.random.default_rng(0).integers(0, 256, (*shape, 3), dtype=np.uint8)
    before = frame.copy()
    image = draw(frame, caption)
    np.testing.assert_array_equal(frame, before)
    assert image.dtype == np.uint8
    assert image.shape[0] % 2 == image.shape[1] % 2 == 0
    times = max(1, image.shape[0] // shape[0])
    # Below the caption are the frame's own pixels.
    if min(shape) >= 32:
        bottom = frame.repeat(times, 0).repeat(times, 1)[: image.shape[0], : image.shape[1]][-times:]
        np.testing.assert_array_equal(image[-times:], bottom)


def test_the_bar_is_as_long_as_the_probability():
    for probability in (0.0, 0.3, 1.0):
        caption = Caption("FAKE", probability, 0.5, 0.9, 0, 30)
        image = draw(plain(0, 480, 640), caption).astype(int)
        # Its row is where the grey of its ground, or its own red, reaches from side to side.
        red, grey = image[..., 2] - image[..., 0] > 100, (image == 150).all(2)
        reddest = red[(red | grey).sum(1).argmax()].sum()
        assert reddest == pytest.approx(probability * 630, abs=12)


def test_a_saved_video_keeps_time_whatever_the_frames_come_at(tmp_path):
    for name, times in {
        "even.mp4": np.arange(60) / 30,
        "uneven.avi": np.array([0, 0.01, 0.5, 1.4, 1.41, 2.0]),
    }.items():
        file = VideoFile(tmp_path / name, 30)
        for seconds in times:
            file.write(plain(200, 64, 64), seconds)
        file.close()
        count = cv2.VideoCapture(str(tmp_path / name)).get(cv2.CAP_PROP_FRAME_COUNT)
        assert count == round(times[-1] * 30) + 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["even.mp4", "uneven.avi"]


def test_a_saved_video_may_have_any_name(tmp_path):
    folder = tmp_path / os.fsdecode(b"\xff")
    folder.mkdir()
    for name in (b"\xfe.mp4", b"a\nb.avi", b"http:x.mp4", b"50%d.mp4"):
        file = VideoFile(folder / os.fsdecode(name), 30)
        file.write(plain(1, 64, 64), 0)
        file.close()
        assert FileFrames(folder / os.fsdecode(name)).seconds == pytest.approx(1 / 30)
    assert len(list(folder.iterdir())) == 4


def test_a_time_stamp_far_ahead_does_not_fill_the_disk(tmp_path):
    file = VideoFile(tmp_path / "o.mp4", 30)
    for seconds in (0.0, 3000.0, 3000.1):
        file.write(plain(200, 64, 64), seconds)
    file.close()
    assert cv2.VideoCapture(str(tmp_path / "o.mp4")).get(cv2.CAP_PROP_FRAME_COUNT) < 400


def test_frames_that_change_their_size_fit_the_file(tmp_path):
    file = VideoFile(tmp_path / "o.avi", 30)
    for i, side in enumerate((64, 32, 100)):
        file.write(plain(200, side, side), i / 30)
    file.close()
    capture = cv2.VideoCapture(str(tmp_path / "o.avi"))
    assert [capture.read()[1].shape for _ in range(3)] == [(64, 64, 3)] * 3


def test_a_video_that_cannot_be_written_is_told(tmp_path):
    with pytest.raises(UsageError, match=r"\.mp4 or \.avi"):
        VideoFile(tmp_path / "o.webm", 30)
    file = VideoFile(tmp_path / "nowhere" / "o.mp4", 30)
    with pytest.raises(BddError, match="cannot be written"):
        file.write(plain(1), 0)
    VideoFile(tmp_path / "o.mp4", 30).close()
    assert list(tmp_path.iterdir()) == []


def test_a_saved_video_replaces_the_target_of_a_link_and_no_pipe(tmp_path):
    os.mkfifo(tmp_path / "pipe.avi")
    (tmp_path / "link.avi").symlink_to("o.avi")
    with pytest.raises(UsageError, match="is a pipe, not a regular file"):
        VideoFile(tmp_path / "pipe.avi", 30).write(plain(1), 0)
    for finish in (VideoFile.discard, VideoFile.close):
        file = VideoFile(tmp_path / "link.avi", 30)
        file.write(plain(200, 64, 64), 0)
        finish(file)
        assert (tmp_path / "link.avi").is_symlink()
        assert (tmp_path / "o.avi").exists() == (finish is VideoFile.close)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["link.avi", "o.avi", "pipe.avi"]


class FakeScreen:
    """The part of cv2 that shows windows; closed after some frames."""

    WND_PROP_VISIBLE = 4
    WINDOW_NORMAL = WINDOW_KEEPRATIO = WINDOW_GUI_NORMAL = 0

    def __init__(self, frames, key):
        self.frames, self.key, self.shown, self.gone = frames, key, 0, False

    def namedWindow(self, title, flags):
        assert self.shown == 0

    def resizeWindow(self, title, width, height):
        assert 0 < width <= 1280
        assert 0 < height <= 720

    def imshow(self, title, image):
        assert image.dtype == np.uint8
        self.shown += 1

    def waitKey(self, milliseconds):
        return ord(self.key) if self.key and self.shown >= self.frames else -1

    def getWindowProperty(self, title, what):
        return 0 if self.shown >= self.frames and not self.key else 1

    def destroyWindow(self, title):
        self.gone = True


@pytest.mark.parametrize("key", ["q", None])
def test_closing_the_window_ends_the_video(spliced, monkeypatch, key):
    screen = FakeScreen(5, key)
    load = overlay.load_cv2
    monkeypatch.setattr(overlay, "load_cv2", lambda need: screen if need == "a window" else load(need))
    monkeypatch.setattr(overlay, "why_no_window", lambda: None)
    watched = see(FileFrames(spliced), outputs=Outputs(window=True))
    assert screen.shown == 5
    assert watched.summary.frames == 5 + (key is None)
    assert screen.gone


def test_without_windows_one_is_refused(spliced):
    if "GUI:                           NONE" not in cv2.getBuildInformation():
        pytest.skip("this OpenCV has windows")
    with pytest.raises(BddError, match="no window can be shown: this build"):
        see(FileFrames(spliced), outputs=Outputs(window=True))


def test_frames_know_their_colours():
    frame = Frame(0, 0.0, np.uint8([[[1, 2, 3]]]))
    assert frame.rgb().tolist() == [[[3, 2, 1]]]
