"""`bdd report-mistake`: keep a wrong verdict as a case, in a file on this machine."""

from __future__ import annotations

import argparse
import hashlib
import re
import sys
from pathlib import Path

from bdd_tf.commands.model_options import add_engine_argument, add_model_argument
from bdd_tf.edge.detect.loader import ImageLoader
from bdd_tf.edge.detect.score import score_paths
from bdd_tf.edge.detector import Detector
from bdd_tf.edge.images.opening import read_all
from bdd_tf.edge.labels import FAKE, LABELS, REAL
from bdd_tf.edge.mistake import case_of, write_bundle
from bdd_tf.edge.text import visible
from bdd_tf.errors import BddError, UsageError
from bdd_tf.files import check_output, exists, is_folder

_TRUTHS = {"real": LABELS[REAL], "fake": LABELS[FAKE]}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the verb."""
    parser.add_argument("image", metavar="IMAGE", help="the image with the wrong verdict")
    parser.add_argument(
        "--truth", required=True, choices=tuple(_TRUTHS), help="what the image is, as far as you know"
    )
    parser.add_argument("--output", metavar="FILE.zip", help="the bundle (default: mistake-DIGEST.zip)")
    parser.add_argument(
        "--with-image", action="store_true", help="include the image file, with its name and all its metadata"
    )
    add_model_argument(parser)
    add_engine_argument(parser)


def main(args: argparse.Namespace) -> int:
    """Score the image, write the bundle and print its path; what is in it goes to standard error.

    Returns:
        Exit code 0.

    Raises:
        UsageError: For a missing image, or an impossible path of the bundle.
        BddError: For a damaged image, or a bundle that cannot be written.
    """
    image = Path(args.image)
    if not args.image or not exists(image) or is_folder(image):
        raise UsageError(f"no such image: {visible(args.image)!r}; give the path of one image file.")
    content = read_all(image)
    digest = hashlib.sha256(content).hexdigest()
    output = check_output("--output", args.output or f"mistake-{digest[:12]}.zip", ".zip")
    if output is None:
        raise AssertionError  # a path was given
    with Detector(args.model, engine=args.engine) as detector:
        cropper = detector.cropper()
        loader = ImageLoader(cropper, trained_on=detector.trained_on, check=True)
        record = next(score_paths(detector, [image], detector.decide, cropper=cropper, loader=loader))
        if record.verdict is None:
            raise BddError(f"{visible(args.image)}: {record.error}.")
        case = case_of(record, content, _TRUTHS[args.truth], detector, with_name=args.with_image)
    suffix = image.suffix.lower() if re.fullmatch(r"\.[a-z0-9]{1,8}", image.suffix.lower()) else ""
    write_bundle(output, case, content if args.with_image else None, suffix)
    print(output)
    print(_sentence(record.verdict, _TRUTHS[args.truth], with_image=args.with_image), file=sys.stderr)
    return 0


def _sentence(verdict: str, truth: str, *, with_image: bool) -> str:
    if verdict == truth:
        said = f"the verdict is {verdict}, which is right by your account; the case is kept all the same"
    else:
        said = f"the verdict is {verdict}, and the image is {truth} by your account"
    pixels = (
        "with the image file"
        if with_image
        else "without pixels or the file's name (--with-image adds the file)"
    )
    return f"bdd: {said}. The bundle holds digests, scores and the model's identity, {pixels}. Nothing was sent anywhere."
