"""The options of `bdd detect` that belong to a single image: ``--check`` and ``--report``."""

from __future__ import annotations

import argparse
from pathlib import Path

from bdd_tf.edge.video.formats import VIDEO_SUFFIXES
from bdd_tf.errors import UsageError
from bdd_tf.files import check_output, is_folder, usable_cores


def is_single(args: argparse.Namespace) -> bool:
    """Return whether the command names one file; an archive was unpacked, so that it is a folder by now."""
    return args.camera is None and len(args.paths) == 1 and not is_folder(args.paths[0])


def checks(args: argparse.Namespace) -> bool:
    """Return whether degraded copies are scored, too.

    By default they are for a single image that is scored by the model's own rule: with ``--crop``, a copy may have
    hundreds of parts.

    Raises:
        UsageError: For a camera, whose frames are not checked.
    """
    if args.check and args.camera is not None:
        raise UsageError("--check is for images, not for a camera.")
    return (is_single(args) and args.crop is None) if args.check is None else bool(args.check)


def threads(args: argparse.Namespace, check: bool) -> int:
    """Return the number of threads: as given, else 2 for a single image with its copies, if there are two cores."""
    if args.threads is not None:
        return int(args.threads)
    return min(2, usable_cores()) if check and is_single(args) else 1


def report_file(args: argparse.Namespace) -> Path | None:
    """Return the checked path of the report; None without ``--report``.

    Raises:
        UsageError: If there are several inputs, or a folder, an archive, a video or a camera; or if the file cannot be
            written.
    """
    path = check_output("--report", args.report, ".html")
    if path is None:
        return None
    if not is_single(args):
        raise UsageError(
            "--report is for a single image; give one file (--html writes a contact sheet of several)."
        )
    if Path(args.paths[0]).suffix.lower() in VIDEO_SUFFIXES:
        raise UsageError(
            "--report is for an image, not for a video (--timeline plots the scores of a video)."
        )
    return path
