"""The options of `bdd detect`."""

from __future__ import annotations

import argparse

from bdd_tf.commands.model_options import add_engine_argument, add_model_argument
from bdd_tf.edge.detect.explain_options import EXPLAIN_LIMIT
from bdd_tf.edge.explain.explainers import explainer_names
from bdd_tf.edge.images.crops import CROPS, TILES_LIMIT


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the verb."""
    _add_input_arguments(parser)
    _add_output_arguments(parser)
    _add_decision_arguments(parser)
    _add_explain_arguments(parser.add_argument_group("explanation"))
    _add_video_arguments(parser.add_argument_group("video and camera"))


def _add_input_arguments(parser: argparse.ArgumentParser) -> None:
    # PATH is optional here, because argparse takes a path that follows --explain as its value (see
    # _restore_first_path); main() checks that there is an input.
    parser.add_argument(
        "--from-file",
        metavar="LIST",
        help="score the paths in this file too, one per line, without lines that begin with # (-: standard input)",
    )
    parser.add_argument(
        "--fetch",
        action="store_true",
        help="fetch URLs (http, https) of up to 64 MiB from public addresses, within 30 s each",
    )
    source = parser.add_mutually_exclusive_group()
    source.add_argument(
        "paths",
        nargs="*",
        default=[],
        metavar="PATH",
        help="images, videos, and folders, globs and archives of them; -: standard input; URLs with --fetch",
    )
    source.add_argument(
        "--camera", metavar="C", help="score a camera: its number (0) or device file (/dev/video0)"
    )
    model = parser.add_mutually_exclusive_group()
    add_model_argument(model)
    model.add_argument("--run", metavar="NAME", help="use the model of this run, runs/NAME/model.tflite")
    parser.add_argument(
        "--runs-dir", default="runs", metavar="DIR", help="folder of the runs (default: runs)"
    )
    add_engine_argument(parser)
    parser.add_argument(
        "--threads",
        type=int,
        metavar="N",
        help="CPU threads (default: 1; 2 for the copies of a single image)",
    )


def _add_output_arguments(parser: argparse.ArgumentParser) -> None:
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="print one JSON object per line")
    form.add_argument("--csv", action="store_true", help="print comma-separated values with a header")
    form.add_argument("--list-fakes", action="store_true", help="print only the paths of fakes")
    parser.add_argument(
        "-0", "--null", action="store_true", help="with --list-fakes: end paths with a zero byte (xargs -0)"
    )
    parser.add_argument(
        "--evidence",
        action=argparse.BooleanOptionalAction,
        help="print what the metadata of each image says, in text and CSV (default: in JSON and HTML, and as text for a "
        "single image); --no-evidence: do not look for it",
    )
    parser.add_argument("--output", metavar="FILE", help="write the results to this file")
    parser.add_argument("--sort", action="store_true", help="print the highest scores first, at the end")
    parser.add_argument(
        "--quiet", action="store_true", help="no summary and no notes, only errors and results"
    )
    parser.add_argument(
        "--html", metavar="OUT.html", help="write a contact sheet, sorted by score, highest first"
    )
    parser.add_argument(
        "--report",
        metavar="OUT.html",
        help="write a report on one image for people: verdict in words, heat map, stability, evidence, digests",
    )


def _add_decision_arguments(parser: argparse.ArgumentParser) -> None:
    threshold = parser.add_mutually_exclusive_group()
    threshold.add_argument(
        "--threshold",
        type=float,
        metavar="T",
        help="decision threshold: scores of at least T are FAKE, all others REAL, never UNSURE (default: the model's)",
    )
    threshold.add_argument(
        "--false-alarms",
        type=float,
        metavar="R",
        help="use the threshold whose false positive rate on the validation split is at most R, e.g. 0.01",
    )
    parser.add_argument(
        "--crop",
        choices=CROPS,
        help="parts to score: the resized centre (as in training), tiles at the network's resolution, or faces",
    )
    parser.add_argument(
        "--max-tiles",
        type=int,
        metavar="N",
        help=f"maximum number of tiles per image, up to {TILES_LIMIT} (default: the cost of 64 tiles of 224 px)",
    )
    parser.add_argument(
        "--check",
        action=argparse.BooleanOptionalAction,
        help="score a re-saved, a smaller and a shifted copy too: does the verdict change? (default: for a single image)",
    )


def _add_explain_arguments(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--explain",
        nargs="?",
        const="",
        metavar="FOLDER",
        help="write a heat map of the evidence for FAKE and REAL: NAME.explain.png next to each image, or in FOLDER",
    )
    group.add_argument(
        "--explain-by",
        choices=explainer_names(),
        help="method (default: grad-cam for a --run with weights if TensorFlow is installed, else occlusion)",
    )
    group.add_argument(
        "--explain-limit",
        type=int,
        metavar="N",
        help=f"explain only the first N images (default: {EXPLAIN_LIMIT}; 0: all)",
    )
    group.add_argument(
        "--explain-reference",
        metavar="PATH",
        help="reference images (ideally both real and fake); their mean replaces an ablated channel",
    )


def _add_video_arguments(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--frames", action="store_true", help="also print a JSON line for each frame")
    group.add_argument("--every", type=int, default=1, metavar="N", help="score every N-th frame of a file")
    group.add_argument("--seconds", type=float, metavar="S", help="stop after S seconds of video")
    group.add_argument(
        "--smooth",
        type=float,
        default=0.5,
        metavar="S",
        help="time constant for smoothing the scores, in seconds (default: 0.5; 0: no smoothing)",
    )
    group.add_argument(
        "--save-video", metavar="OUT.mp4", help="write the frames with the verdict drawn on them"
    )
    group.add_argument("--timeline", metavar="OUT.png", help="plot the scores over time")
    window = group.add_mutually_exclusive_group()
    window.add_argument(
        "--window", action="store_true", help="show the frames in a window (q or Esc closes it)"
    )
    window.add_argument(
        "--headless", action="store_true", help="open no window (default: a window for a camera, if possible)"
    )
