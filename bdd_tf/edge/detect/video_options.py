"""The options of `bdd detect` for videos and cameras, apart from the modules that score them: they are checked in every call."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import NamedTuple

from bdd_tf.edge.video.formats import VIDEO_SUFFIXES, is_video
from bdd_tf.errors import UsageError
from bdd_tf.files import check_output, exists, is_folder


class VideoOptions(NamedTuple):
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
