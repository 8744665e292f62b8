"""`bdd detect` for videos and cameras: check the options, score the frames, make records."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from bdd_tf.edge.detect.records import Record, as_json, print_line
from bdd_tf.edge.detector import Detector
from bdd_tf.edge.images.crops import Cropper
from bdd_tf.edge.images.out_of_distribution import TrainingStatistics, summary
from bdd_tf.edge.labels import DecisionRule
from bdd_tf.edge.text import visible
from bdd_tf.edge.video.camera import CameraFrames
from bdd_tf.edge.video.video_file import VIDEO_SUFFIXES, FileFrames, is_video
from bdd_tf.errors import BddError, UsageError
from bdd_tf.files import check_output, exists, is_folder

if TYPE_CHECKING:
    from bdd_tf.edge.video.watch import FrameScore, VideoResult


@dataclass(frozen=True)
class VideoOptions:
    """Validated options for videos, and paths of output files.

    The attributes have the names of the command-line options.
    """

    camera: str | None
    crop: str | None
    max_tiles: int | None
    every: int
    seconds: float | None
    smooth: float
    frames: bool
    save_video: Path | None
    timeline: Path | None
    html: Path | None
    window: bool
    headless: bool

    @classmethod
    def from_args(cls, args: argparse.Namespace) -> VideoOptions:
        """Validate the options before any file is opened.

        Raises:
            UsageError: If a value is out of range, options contradict each other, or an output cannot be written.
        """
        _check_values(args)
        save_video = _check_save_video(args.save_video)
        timeline = check_output("--timeline", args.timeline, ".png")
        page = check_output("--html", args.html, ".html")
        _check_single_input(args)
        _check_frames(args)
        return cls(
            camera=args.camera,
            crop=args.crop,
            max_tiles=args.max_tiles,
            every=args.every,
            seconds=args.seconds,
            smooth=args.smooth,
            frames=args.frames or args.camera is not None,
            save_video=save_video,
            timeline=timeline,
            html=page,
            window=args.window,
            headless=args.headless,
        )


def _check_values(args: argparse.Namespace) -> None:
    if args.every < 1:
        raise UsageError(f"--every is {args.every}; it must be at least 1.")
    if args.seconds is not None and not 0 < args.seconds < float("inf"):
        raise UsageError(f"--seconds is {args.seconds:g}; it must be a number above 0.")
    if not 0 <= args.smooth < float("inf"):
        raise UsageError(f"--smooth is {args.smooth:g}; it must be a number of seconds, at least 0.")
    if args.frames and (args.csv or args.list_fakes):
        raise UsageError("--frames prints JSON lines; leave --csv and --list-fakes out.")
    if args.camera is not None:
        for option in ("csv", "list_fakes", "html"):
            if getattr(args, option):
                raise UsageError(f"--{option.replace('_', '-')} is for files, not for a camera.")
        if args.every != 1:
            raise UsageError(
                "--every is for files; of a camera the latest frame is scored, others are dropped."
            )


def _check_save_video(given: str | None) -> Path | None:
    if given is None:
        return None
    from bdd_tf.edge.video.overlay import check_video_name

    check_video_name(given)
    return check_output("--save-video", given, Path(given).suffix.lower())


def _check_single_input(args: argparse.Namespace) -> None:
    """Refuse options for one output file or window if there is more than one input, or an image."""
    used = [f"--{o.replace('_', '-')}" for o in ("save_video", "timeline", "window") if getattr(args, o)]
    if not used or args.camera is not None:
        return
    options = " and ".join(used)
    if len(args.paths) != 1 or is_folder(args.paths[0]):
        raise UsageError(f"{options} takes a single video; give one file.")
    if _is_other_file(args.paths[0]):
        raise UsageError(f"{options} takes a video, but {args.paths[0]} is not a video.")


def _check_frames(args: argparse.Namespace) -> None:
    """Refuse --frames if no input can be or hold a video."""
    if not args.frames or args.camera is not None or not all(_is_other_file(path) for path in args.paths):
        return
    several = f"none of the {len(args.paths)} inputs is one"
    raise UsageError(
        f"--frames takes videos, but {f'{args.paths[0]} is not a video' if len(args.paths) == 1 else several}."
    )


def _is_other_file(given: str) -> bool:
    """Return whether a path is that of a file that exists and is no video."""
    path = Path(given)
    video = path.suffix.lower() in VIDEO_SUFFIXES
    return not video and exists(path) and not is_folder(path) and not is_video(path)


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
    record = replace(record, model=detector.identity.to_dict())
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
    return replace(record, verdict=label, video=video)


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
