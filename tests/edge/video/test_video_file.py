import os
import struct
import time

import cv2
import numpy as np
import pytest

from bdd_tf.edge.video import video_file
from bdd_tf.edge.video.camera import CameraFrames
from bdd_tf.edge.video.formats import is_video
from bdd_tf.edge.video.video_file import FileFrames, VideoError
from bdd_tf.errors import BddError, UsageError
from tests.edge.video.video_files import RATE, StandInCamera, plain, write_video


def never():
    return False


@pytest.fixture(scope="module")
def numbered(tmp_path_factory):
    """Forty lossless frames; all pixels of frame i are 5 i."""
    return write_video(tmp_path_factory.mktemp("video") / "n.avi", (plain(5 * i) for i in range(40)))


def read(path, every=1, stopped=never):
    source = FileFrames(path, every)
    try:
        return source, list(source.frames(stopped))
    finally:
        source.close()


def test_a_file_gives_every_frame_in_order_with_its_time(numbered):
    source, frames = read(numbered)
    assert [frame.index for frame in frames] == list(range(40))
    assert [int(frame.rgb()[0, 0, 0]) for frame in frames] == [5 * i for i in range(40)]
    np.testing.assert_allclose([frame.seconds for frame in frames], np.arange(40) / RATE, atol=1e-6)
    assert source.problem is None
    assert source.dropped == 0
    assert source.rate == RATE
    assert source.seconds == pytest.approx(40 / RATE)


@pytest.mark.parametrize("every", [2, 3, 7, 40, 1000])
def test_every_nth_frame_is_the_nth_frame(numbered, every):
    source, frames = read(numbered, every)
    assert [frame.index for frame in frames] == list(range(0, 40, every))
    assert [int(frame.bgr.mean()) for frame in frames] == [5 * i for i in range(0, 40, every)]
    assert source.rate == pytest.approx(RATE / every)
    assert source.problem is None


def test_colours_come_as_rgb(tmp_path):
    frame = plain(0)
    frame[:] = (250, 120, 10)
    _, frames = read(write_video(tmp_path / "c.avi", [frame] * 3))
    np.testing.assert_allclose(frames[0].rgb(), frame, atol=3)
    assert frames[0].rgb().flags["C_CONTIGUOUS"]


def test_stopping_stops_between_frames(numbered):
    seen = []
    _, frames = read(numbered, stopped=lambda: len(seen) >= 5 or seen.append(0))
    assert len(frames) == 5


def bad_files(folder, good, lossy):
    content, mp4 = good.read_bytes(), lossy.read_bytes()
    written = {
        "empty.mp4": b"",
        "junk.mp4": np.random.default_rng(0).bytes(5000),
        "image.mp4": b"\xff\xd8\xff\xe0" + bytes(100),
        "playlist.mp4": b"#EXTM3U\n#EXTINF:1,\nfile:///etc/passwd\n",
        "heic.mp4": b"\0\0\0\x18ftypheic" + bytes(100),
        "no-index.mp4": mp4[: len(mp4) // 2],
        "head-only.avi": content[:300],
        "head-and-junk.mp4": mp4[:40] + np.random.default_rng(1).bytes(4000),
    }
    for name, bytes_ in written.items():
        (folder / name).write_bytes(bytes_)
    (folder / "folder.mp4").mkdir()
    os.mkfifo(folder / "pipe.mp4")
    return [*written, "folder.mp4", "pipe.mp4", "missing.mp4", "nul\0.mp4"]


def test_broken_files_are_one_sentence_each(tmp_path, numbered):
    lossy = write_video(tmp_path / "l.mp4", [plain(i) for i in range(30)])
    said = {}
    for name in bad_files(tmp_path, numbered, lossy):
        try:
            source, frames = read(tmp_path / name)
            assert frames == [], name
            said[name] = source.problem
        except VideoError as error:
            said[name] = str(error)
    assert all(text and "\n" not in text for text in said.values()), said
    assert "empty" in said["empty.mp4"]
    for name in ("junk.mp4", "image.mp4", "playlist.mp4", "heic.mp4"):
        assert "known format" in said[name]
    for name in ("no-index.mp4", "head-and-junk.mp4", "head-only.avi"):
        assert "damaged or truncated" in said[name]
    assert "folder" in said["folder.mp4"]
    assert "regular" in said["pipe.mp4"]
    assert said["missing.mp4"] == "no such file"


def test_a_truncated_video_gives_its_readable_frames_and_a_note(tmp_path, numbered):
    noise = np.random.default_rng(0).integers(0, 256, (40, 32, 48, 3), dtype=np.uint8)
    content = write_video(tmp_path / "whole.avi", noise).read_bytes()
    cut = tmp_path / "cut.avi"
    cut.write_bytes(content[: int(0.6 * len(content))])
    source, frames = read(cut)
    assert 5 < len(frames) < 40
    assert "truncated" in source.problem
    assert f"{len(frames) / RATE:.2f} s of the {40 / RATE:.2f} s" in source.problem
    # Being told to stop is no damage.
    stopped, _ = read(numbered, stopped=iter([False] * 3 + [True]).__next__)
    assert stopped.problem is None


def test_damaged_data_in_the_middle_never_raises(tmp_path):
    content = write_video(tmp_path / "a.mp4", (plain(i * 4, 64, 64) for i in range(60))).read_bytes()
    random = np.random.default_rng(0)
    for number in range(20):
        noisy = bytearray(content)
        for at in random.integers(48, len(content), 30):
            noisy[at] = random.integers(256)
        path = tmp_path / f"{number}.mp4"
        path.write_bytes(noisy)
        try:
            _, frames = read(path)
        except VideoError:
            continue
        times = [frame.seconds for frame in frames]
        assert times == sorted(times)
        assert all(np.isfinite(times))


@pytest.mark.parametrize("codec", ["mp4v", "MJPG"])
def test_damage_in_the_middle_is_told(tmp_path, codec):
    noise = np.random.default_rng(0).integers(0, 256, (60, 48, 64, 3), dtype=np.uint8)
    path = write_video(tmp_path / ("v.mp4" if codec == "mp4v" else "v.avi"), noise, codec)
    content = bytearray(path.read_bytes())
    middle = len(content) // 2
    content[middle : middle + len(content) // 20] = bytes(len(content) // 20)
    path.write_bytes(content)
    source, frames = read(path)
    assert 5 < len(frames) < 60
    assert "damaged" in source.problem


def test_lying_headers_do_not_matter(tmp_path, numbered):
    content = bytearray(numbered.read_bytes())
    at = content.find(b"avih") + 8
    struct.pack_into("<I", content, at + 16, 2**31 - 1)  # frames
    struct.pack_into("<I", content, at, 0)  # microseconds a frame
    path = tmp_path / "lie.avi"
    path.write_bytes(content)
    source, frames = read(path)
    assert len(frames) == 40
    assert 0.01 <= source.rate <= 1000


def test_too_large_frames_are_refused_before_they_are_read(numbered, monkeypatch):
    monkeypatch.setattr(video_file, "MAX_FRAME_PIXELS", 48 * 32 - 1)
    with pytest.raises(VideoError, match="48x32 pixels, more than the limit"):
        FileFrames(numbered)


def test_names_that_are_no_text_or_look_like_addresses(tmp_path, numbered, monkeypatch):
    for name in (b"\xff\xfe.avi", b"a.\xff", "grüße\n.avi".encode(), b"http:%3d.avi", b"concat:a|b.avi"):
        path = tmp_path / os.fsdecode(name)
        path.write_bytes(numbered.read_bytes())
        assert len(read(path)[1]) == 40
    monkeypatch.chdir(tmp_path)
    assert len(read("concat:a|b.avi")[1]) == 40


@pytest.mark.parametrize("suffix", [".mp4", ".avi", ".m3u8", ""])
def test_playlists_are_not_followed(tmp_path, suffix):
    segment = write_video(tmp_path / "s.ts", (plain(9) for _ in range(30)), "MPG1")
    texts = {
        "hls": f"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n{segment}\n#EXT-X-ENDLIST\n",
        "concat": "ffconcat version 1.0\nfile s.ts\n",
    }
    for name, text in texts.items():
        path = tmp_path / f"{name}{suffix}"
        path.write_text(text)
        if suffix in (".m3u8", ""):  # OpenCV by itself would, or this would show nothing
            assert cv2.VideoCapture(str(path), cv2.CAP_FFMPEG).isOpened()
        with pytest.raises(VideoError, match="known format"):
            FileFrames(path)


def test_videos_are_known_by_their_first_bytes(tmp_path, numbered, save, photo):
    for suffix, codec in ((".mp4", "mp4v"), (".ts", "MPG1"), (".mpg", "MPG1")):
        assert is_video(write_video(tmp_path / f"v{suffix}", [plain(1)] * 30, codec))
    assert is_video(numbered)
    for name in ("p.png", "p.jpg", "p.webp", "p.gif", "p.bmp", "p.tif", "p.avif"):
        assert not is_video(save(photo, name))
    assert not is_video(tmp_path / "missing")
    assert not is_video(tmp_path)


def test_a_number_of_frames_below_one_is_wrong_usage(numbered):
    with pytest.raises(UsageError, match="at least 1"):
        FileFrames(numbered, 0)


def test_a_slow_reader_of_a_camera_gets_the_newest_frame():
    camera = StandInCamera(interval=0.002)
    source = CameraFrames(0, camera)
    frames = []
    for frame in source.frames(lambda: len(frames) >= 8):
        frames.append(frame)
        # Slower than five frames of the camera, however busy the machine is.
        deadline = time.monotonic() + 20
        while camera.grabbed < frame.index + 6 and time.monotonic() < deadline:
            time.sleep(0.005)
        # No older than the frames that the camera delivered meanwhile.
        newest = camera.grabbed
    source.close()
    indices = [frame.index for frame in frames]
    assert indices == sorted(set(indices))
    gaps = np.diff(indices[1:])
    assert (gaps >= 3).all(), indices
    assert indices[-1] <= newest
    assert all(int(frame.bgr[0, 0, 0]) == frame.index % 256 for frame in frames)
    assert source.problem is None
    # Every grabbed frame was delivered, dropped, or is still queued.
    assert camera.grabbed - len(frames) - source.dropped in (0, 1)
    assert camera.released.is_set()


def test_a_quick_reader_of_a_camera_gets_every_frame():
    camera = StandInCamera(interval=0.02)
    source = CameraFrames(0, camera)
    frames = []
    for frame in source.frames(lambda: len(frames) >= 10):
        frames.append(frame.index)
    source.close()
    assert frames[-1] - frames[0] <= 13
    assert source.dropped <= 5  # on a machine that does other work


@pytest.mark.parametrize(
    ("frames", "then", "words"),
    [
        (6, None, "unplugged"),
        (6, "raise", "driver is upset"),
        (6, "hang", "no frame came"),
        (0, None, "another program"),
    ],
)
def test_a_camera_that_goes_away_is_told(frames, then, words):
    camera = StandInCamera(frames=frames, then=then)
    source = CameraFrames(0, camera, stalled=0.4)
    began = time.monotonic()
    seen = list(source.frames(never))
    assert time.monotonic() - began < 5
    assert len(seen) <= frames
    assert (len(seen) > 0) == (frames > 0)
    assert words in source.problem
    source.close()
    # While a driver hangs in read, release would crash; otherwise the device is given back.
    assert camera.released.is_set() == (then != "hang")
    camera.free.set()


@pytest.mark.parametrize(
    "device", ["rtsp://host/x", "http://x", "", "-1", "12345", "video.mp4", "../dev/video0"]
)
def test_a_camera_is_a_number_or_a_device_file(device):
    with pytest.raises(UsageError, match="--camera"):
        CameraFrames(device)


def test_cameras_that_do_not_exist_are_named():
    with pytest.raises(BddError, match="no camera /dev/video977") as caught:
        CameraFrames("977")
    assert caught.value.exit_code == 1
    with pytest.raises(BddError, match="cannot be opened"):
        CameraFrames("/dev/null")
