"""`bdd score`: score millions of images on Apache Spark."""

from __future__ import annotations

import argparse
import sys
import time

from bdd_tf.cluster.functions import load_model
from bdd_tf.cluster.inputs import is_remote, local_input
from bdd_tf.cluster.job import Job
from bdd_tf.cluster.options import DATE, Options, check_output, store_of
from bdd_tf.cluster.progress import Progress, Summary
from bdd_tf.cluster.session import started
from bdd_tf.commands.detect_progress import duration
from bdd_tf.console import LOG_INTERVAL, has_bars, say
from bdd_tf.edge.checks import whole_number
from bdd_tf.edge.labels import LABELS
from bdd_tf.edge.text import visible
from bdd_tf.errors import UsageError

EXIT_INTERRUPTED = 130


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    add = parser.add_argument
    add(
        "--input",
        required=True,
        nargs="+",
        metavar="PATH",
        help="images, folders, patterns; a Parquet or CSV table of paths, a Parquet table with image bytes, or tar files; "
        "on this machine, or on s3a://, gs://, hdfs://",
    )
    add("--output", required=True, metavar="FOLDER", help="a new folder for the Parquet table")
    add(
        "--master",
        help="local[2], local-cluster[2,1,1024], spark://HOST:PORT, yarn, k8s://...; default: all cores",
    )
    add("--model", help="a .tflite file, or the name of a bundled model")
    add("--chunk", type=int, default=100_000, metavar="N", help="images that are committed together (100000)")
    add(
        "--partition-by",
        default=DATE,
        metavar="COLUMN",
        help="date (of the run, the default), verdict, or a column of the table",
    )
    add("--column", help="column of paths or image bytes of a table; default: path, or the only one")
    add("--evidence", action="store_true", help="search the files for evidence of their origin as well")
    add("--resume", action="store_true", help="complete the output: chunks that are complete are skipped")
    add("--wheel", metavar="FILE", help="wheel of bdd_tf for workers that lack it (make wheels)")


def main(args: argparse.Namespace) -> int:
    """Score the inputs and write the table; messages go to standard error.

    Args:
        args: Arguments declared by `add_arguments`.

    Returns:
        Exit code: 0 if every image has its row, be it one with an error; 130 after Ctrl-C.

    Raises:
        UsageError: If an argument is wrong, or the output exists.
        BddError: If Spark cannot be used.
    """
    chunk = whole_number("--chunk", args.chunk, 1, 10_000_000)
    model = load_model(args.model, evidence=args.evidence)
    options = Options(
        tuple(args.input), args.output, model, chunk, args.partition_by, args.resume, args.column
    )
    remote = [is_remote(path) for path in args.input]
    if any(remote) and not all(remote):
        raise UsageError(
            "the inputs are partly of this machine, partly of another file system; run `bdd score` for each."
        )
    # What needs no Spark is checked first: Spark takes seconds to start.
    found = None if any(remote) else local_input(args.input)
    if not is_remote(args.output):
        check_output(store_of(args.output), options)
    begun = time.monotonic()
    try:
        with started(args.master, args.wheel) as spark:
            _say(f"Spark {spark.version} at {spark.sparkContext.master} in {time.monotonic() - begun:.1f} s")
            summary = Job(spark, options, found, _say, _Printer()).run()
    except KeyboardInterrupt:
        _say("stopped; the same command with --resume continues after the last complete chunk.")
        return EXIT_INTERRUPTED
    _report(summary)
    return 0


class _Printer:
    """Prints the progress: a line after each chunk, and within long ones now and then."""

    def __init__(self) -> None:
        self._last, self._chunks = time.monotonic(), -1
        self._interval = 5 if has_bars(sys.stderr) else LOG_INTERVAL

    def __call__(self, progress: Progress) -> None:
        now = time.monotonic()
        if progress.chunks == self._chunks and now - self._last < self._interval:
            return
        if self._chunks < 0 and progress.images == progress.resumed:
            self._chunks = progress.chunks
            return
        self._last, self._chunks = now, progress.chunks
        _say(line(progress))


def line(progress: Progress) -> str:
    """Return the state of a job as text: chunks, images, rate, and the time left."""
    done = progress.images - progress.resumed
    rate = done / max(progress.seconds, 1e-9)
    left = (progress.all_images - progress.images) / max(rate, 1e-9)
    return (
        f"{progress.chunks:,} of {progress.all_chunks:,} chunks, {progress.images:,} of {progress.all_images:,} "
        f"{progress.noun}s  {rate:.1f} {progress.noun}s/s  {duration(left) if done else '?'} left"
    )


def _report(summary: Summary) -> None:
    rate = f"; {summary.scored / summary.seconds:.1f} images/s" if summary.scored else ""
    unreadable = summary.images - sum(summary.verdicts.values())
    counts = {**dict.fromkeys(reversed(LABELS), 0), **summary.verdicts}
    verdicts = ", ".join(f"{count:,} {name.lower()}" for name, count in counts.items())
    _say(f"{summary.images:,} images: {verdicts}, {unreadable:,} unreadable{rate}")
    if unreadable:
        share = unreadable / summary.images
        example = f", most often: {summary.example[0]} ({summary.example[1]:,})" if summary.example else ""
        _say(
            f"{unreadable:,} images ({share:.1%}) could not be read; select the rows WHERE error IS NOT NULL for "
            f"their paths and reasons{example}"
        )


def _say(text: str) -> None:
    say(visible(text), "bdd")
