"""`bdd detect` for videos and cameras: score the frames, make records."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from bdd_tf.edge.detect.records import Record, as_json, print_line
from bdd_tf.edge.detect.video_options import VideoOptions
from bdd_tf.edge.detector import Detector
from bdd_tf.edge.images.crops import Cropper
from bdd_tf.edge.images.out_of_distribution import TrainingStatistics, summary
from bdd_tf.edge.labels import DecisionRule
from bdd_tf.edge.text import visible
from bdd_tf.edge.video.camera import CameraFrames
from bdd_tf.edge.video.video_file import FileFrames
from bdd_tf.errors import BddError, UsageError

if TYPE_CHECKING:
    from bdd_tf.edge.video.watch import FrameScore, VideoResult


class VideoScorer:
    """Scores video files.

    Args:
        options: The options.
        detector: Scores the frames.
        decide: Decides about scores.
    """

    def __init__(self, options: VideoOptions, detector: Detector, decide: DecisionRule) -> None:
        self._options = options
        self._detector = detector
        self._decide = decide
        self._cropper: Cropper | None = None

    def __call__(self, path: Path) -> Record:
        """Score one video.

        Returns:
            The record. If the video is truncated, it has a probability and an error; if a signal stopped it,
            ``interrupted`` is set.

        Raises:
            BddError: If the model fails or an output cannot be written.
        """
        from bdd_tf.edge.images.errors import ImageError
        from bdd_tf.edge.video.watch import Outputs, watch

        name = str(path)
        if self._cropper is None:  # croppers are not thread-safe, and the loader's runs in another thread
            self._cropper = self._detector.cropper(self._options.crop, self._options.max_tiles)
        try:
            source = FileFrames(path, self._options.every)
        except ImageError as error:
            return Record(name, error=str(error))
        except UsageError:
            raise
        except BddError as error:  # OpenCV is missing; images in the same folder can still be scored
            return Record(name, error=str(error))
        result = watch(
            source,
            self._detector,
            decide=self._decide,
            cropper=self._cropper,
            smooth=self._options.smooth,
            outputs=Outputs(
                each=_frame_printer(name) if self._options.frames else None,
                save_video=self._options.save_video,
                timeline=self._options.timeline,
                window=self._options.window,
                seconds=self._options.seconds,
                keep_peak=self._options.html is not None,
                trained_on=self._detector.trained_on,
            ),
            title=path.name,
        )
        _print_summary(name, result)
        record = _record(
            name, result, self._cropper, self._detector.trained_on, thumbnails=self._options.html is not None
        )
        return _decided(record, self._decide)


def watch_camera(options: VideoOptions, detector: Detector, decide: DecisionRule) -> int:
    """Score a camera's frames until Ctrl-C, until the window is closed, or for ``options.seconds``.

    Prints a JSON line for each frame, and the summary as the last line.

    Args:
        options: The options.
        detector: Scores the frames.
        decide: Decides about scores.

    Returns:
        Exit code: 0, or 1 if the camera was disconnected or no frame could be scored.

    Raises:
        UsageError: If ``options.camera`` is neither a number nor a device file.
        BddError: If the camera cannot be opened, or the model fails.
    """
    from bdd_tf.edge.opencv import load_cv2, why_no_window
    from bdd_tf.edge.video.watch import Outputs, watch

    load_cv2("--camera")
    cropper = detector.cropper(options.crop, options.max_tiles)
    source = CameraFrames(str(options.camera))
    window = options.window or (not options.headless and why_no_window() is None)
    print(
        f"bdd: {source.name}: {'q in the window or ' if window else ''}Ctrl-C ends",
        file=sys.stderr,
        flush=True,
    )
    result = watch(
        source,
        detector,
        decide=decide,
        cropper=cropper,
        smooth=options.smooth,
        outputs=Outputs(
            each=_frame_printer(source.name),
            save_video=options.save_video,
            timeline=options.timeline,
            window=window,
            seconds=options.seconds,
            trained_on=detector.trained_on,
        ),
        title=source.name,
    )
    record = _decided(_record(source.name, result, cropper, detector.trained_on), decide)
    record = record._replace(model=detector.identity.to_dict())
    print_line(as_json(record.to_dict()))
    _print_summary(source.name, result)
    if detector.trained_on and record.deviation:
        note = summary([record.deviation.kind], 1, detector.trained_on, "video")
        print(f"bdd: note: {note}", file=sys.stderr)
    if result.problem is not None:
        print(f"bdd: {source.name}: {result.problem}", file=sys.stderr)
        return 1
    return 0


def _frame_printer(name: str) -> Callable[[FrameScore], None]:
    def each(score: FrameScore) -> None:
        print_line(as_json({"path": name, **score.to_dict()}))

    return each


def _print_summary(name: str, result: VideoResult) -> None:
    """Print one line for the user, on standard error."""
    if result.summary.frames == 0:
        return
    speed = result.to_dict()
    print(
        visible(
            f"bdd: {name}: {result.summary.sentence()}; {speed['frames_per_second']:.1f} frames/s, "
            f"{speed['real_time_factor']:.2f} x real time"
        ),
        file=sys.stderr,
        flush=True,
    )


def _decided(record: Record, decide: DecisionRule) -> Record:
    """Return the record of a video with the verdict that its deviation leaves."""
    if record.fake_probability is None or record.deviation is None:
        return record
    label = decide(record.fake_probability, deviates=True)
    video = None if record.video is None else {**record.video, "verdict": label}
    return record._replace(verdict=label, video=video)


def _record(
    name: str,
    result: VideoResult,
    cropper: Cropper,
    trained_on: TrainingStatistics | None,
    *,
    thumbnails: bool = False,
) -> Record:
    thumbnail, size = None, None
    if thumbnails and result.peak is not None:
        from bdd_tf.edge.detect import loader
        from bdd_tf.edge.video.timeline_plot import strip

        height, width = result.peak.shape[:2]
        bar = strip(result.timeline, loader.THUMBNAIL, 12)
        thumbnail, size = loader.thumbnail(result.peak, bar), (width, height)
    deviation = None
    native = result.views is not None and result.views.native
    if native and result.views is not None and result.size is not None:
        deviation = cropper.check(result.views, result.size, trained_on)
    elif trained_on is not None and result.size is not None:
        deviation = trained_on.check(*result.size)
    return Record(
        name,
        result.summary.fake_probability,
        result.summary.verdict,
        result.problem,
        video=result.to_dict(),
        interrupted=result.interrupted is not None,
        thumbnail=thumbnail,
        size=size,
        deviation=deviation,
        views=None if result.views is None else result.views.to_dict(),
    )
