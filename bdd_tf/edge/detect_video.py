"""What `bdd detect` does with videos and cameras: options in, records out."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from bdd_tf.edge.capture import VIDEO_SUFFIXES, CameraFrames, FileFrames, is_video
from bdd_tf.edge.crops import Cropper
from bdd_tf.edge.detector import Detector
from bdd_tf.edge.familiarity import TrainedOn, summary
from bdd_tf.edge.files import check_output
from bdd_tf.edge.records import Record, as_json, print_line, visible
from bdd_tf.errors import BddError, UsageError


@dataclass(frozen=True)
class Plan:
    """The options that concern videos, and files to be written; checked.

    Attributes: as the options of `bdd detect` are called.
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
    def of(cls, args: argparse.Namespace) -> Plan:
        """Check options that are wrong by themselves, before anything is opened.

        Raises:
            UsageError: If one is out of range, two contradict each other, or an output cannot be written.
        """
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
                    "--every is for files; of a camera the newest frame is scored, others are dropped."
                )
        save_video = _check_save_video(args.save_video)
        timeline = check_output("--timeline", args.timeline, ".png")
        page = check_output("--html", args.html, ".html")
        _check_single(args)
        for output in (save_video, timeline, page):
            for path in args.paths:
                if output is not None and output.exists() and os.path.exists(path) and output.samefile(path):  # noqa: PTH110
                    raise UsageError(f"{output} is both to be read and to be written.")
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


def _check_save_video(given: str | None) -> Path | None:
    if given is None:
        return None
    from bdd_tf.edge.overlay import check_video_name

    check_video_name(given)
    return check_output("--save-video", given, Path(given).suffix.lower())


def _check_single(args: argparse.Namespace) -> None:
    """Refuse options that write one file or open one window for more than one video."""
    used = [f"--{o.replace('_', '-')}" for o in ("save_video", "timeline", "window") if getattr(args, o)]
    if not used or args.camera is not None:
        return
    options = " and ".join(used)
    if len(args.paths) != 1 or Path(args.paths[0]).is_dir():
        raise UsageError(f"{options} takes a single video; give one file.")
    path = Path(args.paths[0])
    if path.exists() and path.suffix.lower() not in VIDEO_SUFFIXES and not is_video(path):
        raise UsageError(f"{options} takes a video, and {path} is none.")


class Watcher:
    """Scores video files, each into one record.

    Args:
        plan: The options.
        detector: What scores.
        threshold: In [0, 1].
    """

    def __init__(self, plan: Plan, detector: Detector, threshold: float) -> None:
        self._plan = plan
        self._detector = detector
        self._threshold = threshold
        self._cropper: Cropper | None = None

    def __call__(self, path: Path) -> Record:
        """Score one video.

        Returns:
            Its record; of one that breaks off with probability and error, of one that a signal stopped
            with ``interrupted``.

        Raises:
            BddError: If the model fails or an output cannot be written.
        """
        from bdd_tf.edge import video
        from bdd_tf.edge.images import ImageError

        name = str(path)
        if self._cropper is None:  # one of its own: the reader's is in use by another thread
            self._cropper = Cropper(
                self._detector.resize, self._plan.crop, self._plan.max_tiles, self._detector.threshold
            )
        try:
            source = FileFrames(path, self._plan.every)
        except ImageError as error:
            return Record(name, error=str(error))
        except UsageError:
            raise
        except BddError as error:  # OpenCV is missing; images in the same folder can be scored all the same
            return Record(name, error=str(error))
        watched = video.watch(
            source,
            self._detector,
            threshold=self._threshold,
            cropper=self._cropper,
            smooth=self._plan.smooth,
            middle=self._detector.threshold,
            outputs=video.Outputs(
                each=_frame_printer(name) if self._plan.frames else None,
                save_video=self._plan.save_video,
                timeline=self._plan.timeline,
                window=self._plan.window,
                seconds=self._plan.seconds,
                keep_peak=self._plan.html is not None,
            ),
            title=path.name,
        )
        _tell(name, watched)
        return _record(name, watched, self._detector.trained_on, thumbnails=self._plan.html is not None)


def watch_camera(plan: Plan, detector: Detector, threshold: float) -> int:
    """Score a camera's frames until Ctrl-C, the window is closed, or ``plan.seconds`` are over.

    Prints a JSON line per scored frame, and the summary as the last one.

    Returns:
        0; 1 if the camera went away or nothing could be scored.

    Raises:
        UsageError: If ``plan.camera`` names no camera.
        BddError: If it cannot be opened, or the model fails.
    """
    from bdd_tf.edge import video
    from bdd_tf.edge.opencv import load_cv2, why_no_window

    load_cv2("--camera")
    cropper = Cropper(detector.resize, plan.crop, plan.max_tiles, detector.threshold)
    source = CameraFrames(str(plan.camera))
    window = plan.window or (not plan.headless and why_no_window() is None)
    print(
        f"bdd: {source.name}: {'q in the window or ' if window else ''}Ctrl-C ends",
        file=sys.stderr,
        flush=True,
    )
    watched = video.watch(
        source,
        detector,
        threshold=threshold,
        cropper=cropper,
        smooth=plan.smooth,
        middle=detector.threshold,
        outputs=video.Outputs(
            each=_frame_printer(source.name),
            save_video=plan.save_video,
            timeline=plan.timeline,
            window=window,
            seconds=plan.seconds,
        ),
        title=source.name,
    )
    record = _record(source.name, watched, detector.trained_on)
    print_line(as_json(record.to_dict()))
    _tell(source.name, watched)
    if detector.trained_on and record.strangeness:
        note = summary([record.strangeness.kind], 1, detector.trained_on, "video")
        print(f"bdd: note: {note}", file=sys.stderr)
    if watched.problem is not None:
        print(f"bdd: {source.name}: {watched.problem}", file=sys.stderr)
        return 1
    return 0


def _frame_printer(name: str) -> Callable[..., None]:
    def each(score) -> None:  # noqa: ANN001 (FrameScore)
        print_line(as_json({"path": name, **score.to_dict()}))

    return each


def _tell(name: str, watched) -> None:  # noqa: ANN001 (Watched)
    """The summary for people, on standard error."""
    if watched.summary.frames == 0:
        return
    speed = watched.to_dict()
    print(
        visible(
            f"bdd: {name}: {watched.summary.sentence()}; {speed['frames_per_second']:.1f} frames/s, "
            f"{speed['real_time_factor']:.2f} x real time"
        ),
        file=sys.stderr,
        flush=True,
    )


def _record(
    name: str,
    watched,  # noqa: ANN001 (Watched)
    trained_on: TrainedOn | None,
    *,
    thumbnails: bool = False,
) -> Record:
    summary = watched.summary
    thumbnail, size = None, None
    if thumbnails and watched.peak is not None:
        from bdd_tf.edge import reading

        height, width = watched.peak.shape[:2]
        strip = watched.timeline.strip(reading.THUMBNAIL, 12)
        thumbnail, size = reading.thumbnail(watched.peak, strip), (width, height)
    return Record(
        name,
        summary.fake_probability,
        summary.verdict,
        watched.problem,
        video=watched.to_dict(),
        interrupted=watched.interrupted is not None,
        thumbnail=thumbnail,
        size=size,
        strangeness=None
        if trained_on is None or watched.size is None
        else trained_on.strangeness(*watched.size),
    )
