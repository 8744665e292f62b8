"""`bdd detect`: score images, videos and cameras."""

from __future__ import annotations

import argparse
import itertools
import os
import sys
import time
import warnings
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from bdd_tf.commands.detect_inputs import Inputs, is_image_or_video
from bdd_tf.commands.detect_options import add_arguments
from bdd_tf.commands.detect_outputs import check_outputs, output
from bdd_tf.commands.detect_progress import Progress
from bdd_tf.commands.detect_single import checks, report_file, threads
from bdd_tf.edge.checks import number_within, whole_number
from bdd_tf.edge.detect.explain_options import ExplainOptions
from bdd_tf.edge.detect.loader import ImageLoader
from bdd_tf.edge.detect.records import Record, choose_form, print_fake, print_line
from bdd_tf.edge.detect.score import score_paths
from bdd_tf.edge.detect.video_options import VideoOptions
from bdd_tf.edge.detector import Detector
from bdd_tf.edge.evidence import find_evidence
from bdd_tf.edge.images.find import HEAT_MAP, IMAGE_SUFFIXES, Census, LeftOut, find_images
from bdd_tf.edge.images.out_of_distribution import TrainingStatistics, summary
from bdd_tf.edge.labels import FAKE, LABELS, UNSURE, DecisionRule
from bdd_tf.edge.runtime import MAX_THREADS
from bdd_tf.edge.text import visible
from bdd_tf.edge.video.formats import VIDEO_SUFFIXES
from bdd_tf.errors import BddError, UsageError, one_of
from bdd_tf.files import exists, is_file, is_folder

if TYPE_CHECKING:
    from bdd_tf.edge.detect.fetch import Fetcher

__all__ = ["add_arguments", "main"]

EXIT_UNREADABLE = 1
EXIT_INTERRUPTED = 130
EXIT_BROKEN_PIPE = 141

#: Fetches the URLs of --fetch, if not None: tests give it a network of their own.
FETCHER: Fetcher | None = None


def main(args: argparse.Namespace) -> int:
    """Score the inputs; print results on standard output and messages on standard error.

    Args:
        args: Arguments declared by `add_arguments`.

    Returns:
        Exit code: 0 if all inputs were read, 1 if some were not, 130 after Ctrl-C, 141 if standard output was closed
        early (``| head``). Stopping a camera with Ctrl-C gives 0.

    Raises:
        UsageError: If an argument is invalid, or there is no such input, model or engine.
        BddError: If the model or camera cannot be used.
    """
    _restore_first_path(args)
    # Negated, so that NaN is refused as well.
    if args.threshold is not None and not 0 <= args.threshold <= 1:
        raise UsageError(f"--threshold is {args.threshold:g}; it must lie in [0, 1].")
    if args.false_alarms is not None:
        number_within("--false-alarms", args.false_alarms, 0, 1)
    if args.threads is not None:
        whole_number("--threads", args.threads, 1, MAX_THREADS)
    if args.null and not args.list_fakes:
        raise UsageError("--null requires --list-fakes.")
    if args.max_tiles is not None and args.crop != "tiles":
        raise UsageError("--max-tiles requires --crop tiles.")
    try:
        with Inputs(args.paths, args.from_file, _fetcher() if args.fetch else None) as inputs:
            others = (args.from_file, args.model, args.explain_reference)
            check_outputs(args, [*args.paths, *inputs.paths, *(file for file in others if file)])
            with output(args.output):
                args.paths = inputs.paths
                return _detect(args, inputs)
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        # Python flushes standard output again at exit; redirect it, so that this does not fail.
        with suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_BROKEN_PIPE


def _fetcher() -> Fetcher:
    from bdd_tf.edge.detect.fetch import Fetcher

    return FETCHER or Fetcher()


def _detect(args: argparse.Namespace, inputs: Inputs) -> int:
    if inputs.temporary and args.explain == "":
        raise UsageError("--explain needs a FOLDER for archives, URLs and standard input: --explain FOLDER.")
    video_options = VideoOptions.from_args(args)
    explain_options = ExplainOptions.from_args(args)
    report, check = report_file(args), checks(args)
    census = Census()
    paths: Iterable[Path] = ()
    if args.camera is None:
        paths = _not_empty(_found(inputs.local(), census.add), args.paths, census)
    model = args.model if args.run is None else _model_of_run(Path(args.runs_dir), args.run)
    with ExitStack() as stack:
        stack.enter_context(_pillow_warnings_ignored())
        detector = stack.enter_context(Detector(model, engine=args.engine, num_threads=threads(args, check)))
        decide = _decision(args, detector)
        if args.camera is not None:
            from bdd_tf.edge.detect.videos import watch_camera

            return watch_camera(video_options, detector, decide)
        cropper = detector.cropper(args.crop, args.max_tiles)
        sheet = None
        if video_options.html is not None:
            from bdd_tf.edge.detect.contact_sheet import ContactSheet

            sheet = stack.enter_context(
                ContactSheet(video_options.html, decide, detector.trained_on, detector.identity.sentence())
            )
        looks = _looks_for_evidence(args)
        loader = ImageLoader(
            cropper,
            thumbnails=sheet is not None,
            trained_on=detector.trained_on,
            previews=explain_options is not None,
            check=check,
            evidence=looks,
        )
        explain = None
        if explain_options is not None:
            from bdd_tf.edge.detect.explanations import ExplanationWriter

            run = None if args.run is None else Path(args.runs_dir) / args.run
            explain = ExplanationWriter(explain_options, detector, run)
        records = score_paths(
            detector,
            paths,
            decide,
            cropper=cropper,
            loader=inputs.loading(loader),
            score_video=_video_scorer(video_options, detector, decide),
            explain=explain,
        )
        if _form(args) == "json":
            records = _stated(records, detector)
        if report is not None:
            from bdd_tf.edge.report.writer import ReportWriter

            records = ReportWriter(report, detector, cropper, decide, evidence=looks).passing(
                records, inputs.shown
            )
        progress = Progress(quiet=args.quiet, count=lambda: _found(args.paths))
        code = _report(
            inputs.named(records), progress, sheet.add if sheet else None, detector.trained_on, args
        )
        if explain is not None and not args.quiet:
            print(visible(f"bdd: {explain.summary()}"), file=sys.stderr)
        if (left_out := census.summary()) and not args.quiet:
            hint = "; name a heat map to score it" if HEAT_MAP in census.reasons else ""
            print(visible(f"bdd: {left_out}{hint}"), file=sys.stderr)
        if sheet:
            sheet.write()
        return code


def _video_scorer(
    options: VideoOptions, detector: Detector, decide: DecisionRule
) -> Callable[[Path], Record]:
    """Return a function that scores one video; what it needs is imported with the first one."""

    @cache
    def scorer() -> Callable[[Path], Record]:
        from bdd_tf.edge.detect.videos import VideoScorer

        return VideoScorer(options, detector, decide)

    return lambda path: scorer()(path)


def _stated(records: Generator[Record, None, None], detector: Detector) -> Generator[Record, None, None]:
    """Yield records that name their model."""
    with closing(records):
        for record in records:
            yield record._replace(model=detector.identity.to_dict())


def _looks_for_evidence(args: argparse.Namespace) -> bool:
    """Whether files are walked for evidence; says so if that fails. Engine ``lce`` works without the C++ library."""
    if args.evidence is False or args.list_fakes:
        return False
    try:
        find_evidence(b"")
    except BddError as error:
        if not args.quiet:
            print(f"bdd: note: evidence is not looked for: {error}", file=sys.stderr)
        return False
    return True


def _found(paths: Iterable[str], left_out: LeftOut | None = None) -> Iterator[Path]:
    """Yield the images and videos."""
    return find_images(paths, IMAGE_SUFFIXES | VIDEO_SUFFIXES, left_out, is_image_or_video)


def _decision(args: argparse.Namespace, detector: Detector) -> DecisionRule:
    """Return the file's own rule, or that of a threshold on the command line, which leaves two verdicts."""
    if args.false_alarms is not None:
        return DecisionRule(detector.threshold_for(args.false_alarms))
    return detector.decide if args.threshold is None else DecisionRule(float(args.threshold))


def _report(
    records: Generator[Record, None, None],
    progress: Progress,
    collect: Callable[[Record], None] | None,
    trained_on: TrainingStatistics | None,
    args: argparse.Namespace,
) -> int:
    """Print records as they arrive, or sorted at the end, then a summary; return the exit code.

    Ctrl-C ends the records: what was scored is printed, and the summary too.
    """
    printer = _printer(args)
    total = fakes = unsure = unreadable = incomplete = 0
    deviations: list[str] = []
    doubtful = 0  # fakes among them
    noun = "image"
    started = time.perf_counter()
    interrupted = False
    kept: list[Record] = []
    with progress, closing(records):
        try:
            for record in records:
                total += 1
                fakes += record.verdict == LABELS[FAKE]
                unsure += record.verdict == UNSURE
                unreadable += record.verdict is None
                incomplete += record.verdict is not None and record.error is not None
                if record.video is not None:
                    noun = "file"
                if record.error is not None:
                    progress.message(f"bdd: {record.path}: {record.error}")
                if args.sort:
                    kept.append(record._replace(thumbnail=None))
                else:
                    with progress.aside():
                        printer(record)
                if collect:
                    collect(record)
                if record.deviation is not None:
                    deviations.append(record.deviation.kind)
                    doubtful += record.verdict == LABELS[FAKE]
                progress.step()
        except KeyboardInterrupt:
            interrupted = True
    for record in sorted(
        kept, key=lambda r: -1.0 if r.fake_probability is None else r.fake_probability, reverse=True
    ):
        printer(record)
    code = EXIT_INTERRUPTED if interrupted else EXIT_UNREADABLE if unreadable or incomplete else 0
    if args.quiet:
        return code
    seconds = time.perf_counter() - started
    rate = f"; {total / max(seconds, 1e-9):.1f} {noun}s/s" if total > unreadable else ""
    print(
        f"bdd: {'stopped after ' if interrupted else ''}{total} {noun}{'s' if total != 1 else ''}: {fakes} fake, "
        f"{total - unreadable - fakes - unsure} real, {f'{unsure} unsure, ' if unsure else ''}"
        f"{unreadable} unreadable{f', {incomplete} incomplete' if incomplete else ''}{rate}",
        file=sys.stderr,
    )
    if trained_on is not None and (note := summary(deviations, total - unreadable, trained_on, noun)):
        among = f" {doubtful} of the {fakes} called FAKE are among them." if fakes and args.list_fakes else ""
        print(f"bdd: note: {note}{among}", file=sys.stderr)
    return code


def _form(args: argparse.Namespace) -> str:
    return "csv" if args.csv else "json" if args.json or args.frames else "text"


def _printer(args: argparse.Namespace) -> Callable[[Record], None]:
    """Return the function that prints a record in the selected format."""
    if args.list_fakes:
        return lambda record: print_fake(record, null=args.null)
    form_name = _form(args)
    form = choose_form(
        form_name,
        crop=args.crop is not None,
        explain=args.explain is not None,
        notes=not args.quiet,
        evidence=_shows_evidence(args, form_name),
    )

    def show(record: Record) -> None:
        # In text format, errors appear only on standard error.
        if record.fake_probability is not None or form_name != "text":
            print_line(form(record))

    return show


def _shows_evidence(args: argparse.Namespace, form: str) -> bool:
    """Whether text and CSV include evidence: on request, and as text for a single image."""
    if args.evidence is not None:
        return bool(args.evidence)
    return form == "text" and not args.quiet and len(args.paths) == 1 and is_file(args.paths[0])


def _restore_first_path(args: argparse.Namespace) -> None:
    """Move an input path that argparse took as the folder of --explain back to the paths.

    Raises:
        UsageError: If there is no input.
    """
    if args.explain and args.camera is None:
        given = Path(args.explain)
        # Existing files, and names with the suffix of an image or video, are inputs; other names are output folders.
        named = given.suffix.lower() in IMAGE_SUFFIXES | VIDEO_SUFFIXES
        if not args.paths or (not is_folder(given) and (exists(given) or named)):
            args.paths, args.explain = [args.explain, *args.paths], ""
    if not args.paths and args.camera is None and args.from_file is None:
        raise UsageError("give images, videos or folders of them, or --camera.")


def _not_empty(paths: Iterator[Path], given: list[str], census: Census) -> Iterator[Path]:
    """Return the paths.

    Raises:
        UsageError: If there are none.
    """
    first = next(paths, None)
    if first is None:
        raise UsageError(
            f"no images found in {', '.join(given)}; looked for files that end in "
            f"{', '.join(sorted(IMAGE_SUFFIXES))} (images) or {', '.join(sorted(VIDEO_SUFFIXES))} (videos), or begin like "
            f"one; {census.summary() or 'there are no files'}."
        )
    return itertools.chain([first], paths)


def _model_of_run(runs: Path, name: str) -> Path:
    folder = runs / name
    if not name or not folder.is_dir():
        known = sorted(path.name for path in runs.iterdir() if path.is_dir()) if runs.is_dir() else []
        if not known:
            raise UsageError(f"no such run: {folder}; there are no runs in {runs} (`bdd train` makes one).")
        raise one_of("run", name, known)
    model = folder / "model.tflite"
    if not model.exists():
        raise UsageError(f"the run {name!r} has no model.tflite yet: bdd convert --run {name}")
    return model


@contextmanager
def _pillow_warnings_ignored() -> Iterator[None]:
    """Ignore Pillow's warnings about unusual files; if a file cannot be decoded, Pillow raises an exception."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"PIL\.")
        yield
