"""The verb ``bdd detect``: scores images and videos from the command line, one line each."""

from __future__ import annotations

import argparse
import itertools
import os
import sys
import time
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path

from bdd_tf.edge.capture import VIDEO_SUFFIXES
from bdd_tf.edge.crops import CROPS, TILES_LIMIT, Cropper, Views, score_views
from bdd_tf.edge.detect_explain import EXPLAIN_LIMIT, Explaining, Request
from bdd_tf.edge.detector import BATCH, Detector
from bdd_tf.edge.engines import engine_names
from bdd_tf.edge.explanation import explainer_names
from bdd_tf.edge.familiarity import TrainedOn, summary
from bdd_tf.edge.images import EXPLANATION_SUFFIX, IMAGE_SUFFIXES, find_images
from bdd_tf.edge.labels import FAKE, LABELS, verdict
from bdd_tf.edge.reading import Loaded, Reader, load_ahead
from bdd_tf.edge.records import Record, choose_form, print_fake, print_line, visible
from bdd_tf.errors import UsageError, one_of

EXIT_UNREADABLE = 1
EXIT_INTERRUPTED = 130
EXIT_BROKEN_PIPE = 141


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the verb's arguments."""
    # Not required here: argparse takes a path right behind --explain for its folder (see _untangle).
    source = parser.add_mutually_exclusive_group()
    source.add_argument(
        "paths", nargs="*", default=[], metavar="PATH", help="images and videos, and folders of them"
    )
    source.add_argument(
        "--camera", metavar="C", help="watch a camera: its number (0) or device (/dev/video0)"
    )
    model = parser.add_mutually_exclusive_group()
    model.add_argument("--model", metavar="M.tflite", help="the model (default: the one shipped with bdd_tf)")
    model.add_argument("--run", metavar="NAME", help="use the model of this run, runs/NAME/model.tflite")
    parser.add_argument("--runs-dir", default="runs", metavar="DIR", help="where runs are (default: runs)")
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="print one JSON object per line")
    form.add_argument("--csv", action="store_true", help="print comma-separated values under a header")
    form.add_argument("--list-fakes", action="store_true", help="print the paths of fakes and nothing else")
    parser.add_argument(
        "-0", "--null", action="store_true", help="with --list-fakes: end paths with a zero byte (xargs -0)"
    )
    threshold = parser.add_mutually_exclusive_group()
    threshold.add_argument(
        "--threshold",
        type=float,
        metavar="T",
        help="call images fake from this score on (default: the model's)",
    )
    threshold.add_argument(
        "--false-alarms",
        type=float,
        metavar="R",
        help="use the threshold at which at most this share of real images was called fake in validation (0.01)",
    )
    parser.add_argument(
        "--crop",
        choices=CROPS,
        help="what the network sees: the file's own rule (center), tiles at its own resolution, or faces",
    )
    parser.add_argument(
        "--max-tiles",
        type=int,
        metavar="N",
        help=f"most tiles of an image, up to {TILES_LIMIT} (default: as much work as 64 of 224 px)",
    )
    parser.add_argument(
        "--html", metavar="OUT.html", help="write a contact sheet, the most fake images first"
    )
    parser.add_argument(
        "--engine", metavar="E", help=f"what runs the model: {', '.join(engine_names())} (default: litert)"
    )
    parser.add_argument("--threads", type=int, default=1, metavar="N", help="CPU threads (default: 1)")
    explaining = parser.add_argument_group("explanation")
    explaining.add_argument(
        "--explain",
        nargs="?",
        const="",
        metavar="FOLDER",
        help="draw which places speak for FAKE and which for REAL: NAME.explain.png beside each image, or in FOLDER",
    )
    explaining.add_argument(
        "--explain-by",
        choices=explainer_names(),
        help="how (default: grad-cam with --run, where weights and TensorFlow are there; else occlusion)",
    )
    explaining.add_argument(
        "--explain-limit",
        type=int,
        metavar="N",
        help=f"explain the first N images (default: {EXPLAIN_LIMIT}; 0: all)",
    )
    explaining.add_argument(
        "--explain-reference",
        metavar="PATH",
        help="images, best real and fake ones, whose mean stands in for a channel that is taken away",
    )
    video = parser.add_argument_group("video and camera")
    video.add_argument("--frames", action="store_true", help="print a JSON line for every frame too")
    video.add_argument("--every", type=int, default=1, metavar="N", help="score every N-th frame of a file")
    video.add_argument("--seconds", type=float, metavar="S", help="stop after S seconds of a video or camera")
    video.add_argument(
        "--smooth",
        type=float,
        default=0.5,
        metavar="S",
        help="smooth scores over S seconds (default: 0.5; 0: not)",
    )
    video.add_argument("--save-video", metavar="OUT.mp4", help="write the frames with the verdict on them")
    video.add_argument("--timeline", metavar="OUT.png", help="draw the scores over time")
    window = video.add_mutually_exclusive_group()
    window.add_argument("--window", action="store_true", help="show the frames (q or Esc ends)")
    window.add_argument(
        "--headless", action="store_true", help="no window (default: one for a camera, if possible)"
    )


def main(args: argparse.Namespace) -> int:
    """Score the images that ``args.paths`` names: results on standard output, all else on standard error.

    Args:
        args: What a parser prepared by `add_arguments` parsed.

    Returns:
        0 when all images were read, 1 when some could not be, 130 after Ctrl-C, 141 when standard output was
        closed early (``| head``). A camera that was stopped by Ctrl-C is 0.

    Raises:
        UsageError: If the threshold or rate of false alarms, the model, the engine, the paths or options make no sense.
        BddError: If the model or camera cannot be used.
    """
    _untangle(args)
    threshold = args.threshold
    # Written so that not-a-number fails as well.
    if threshold is not None and not 0 <= threshold <= 1:
        raise UsageError(f"--threshold is {threshold:g}; it must lie in [0, 1].")
    if args.null and not args.list_fakes:
        raise UsageError("--null belongs to --list-fakes.")
    try:
        from bdd_tf.edge import detect_video

        plan = detect_video.Plan.of(args)
        request = Request.of(args)
        paths: Iterable[Path] = ()
        if args.camera is None:
            pictures = _Counter()
            found = find_images(args.paths, IMAGE_SUFFIXES | VIDEO_SUFFIXES, pictures)
            paths = _some(found, args.paths)
        model = args.model if args.run is None else _model_of_run(Path(args.runs_dir), args.run)
        with ExitStack() as stack:
            stack.enter_context(_quiet_pillow())
            detector = stack.enter_context(Detector(model, engine=args.engine, num_threads=args.threads))
            if args.false_alarms is not None:
                threshold = detector.threshold_for(args.false_alarms)
            elif threshold is None:
                threshold = detector.threshold
            if args.camera is not None:
                return detect_video.watch_camera(plan, detector, threshold)
            cropper = Cropper(detector.resize, args.crop, args.max_tiles, detector.threshold)
            watcher = detect_video.Watcher(plan, detector, threshold)
            sheet = None
            if plan.html is not None:
                from bdd_tf.edge.contact_sheet import ContactSheet

                sheet = stack.enter_context(ContactSheet(plan.html, threshold))
            reader = Reader(cropper, thumbnails=sheet is not None, trained_on=detector.trained_on)
            explaining = None
            if request is not None:
                run = None if args.run is None else Path(args.runs_dir) / args.run
                explaining = Explaining(request, detector, threshold, run)
            records = score_paths(
                detector, paths, threshold, cropper=cropper, reader=reader, watch=watcher, explain=explaining
            )
            code = _report(records, _printer(args), sheet.add if sheet else None, detector.trained_on)
            if explaining is not None:
                print(visible(f"bdd: {explaining.summary()}"), file=sys.stderr)
            if pictures.count:
                print(
                    f"bdd: {pictures.count} files called *{EXPLANATION_SUFFIX} were taken for pictures of --explain "
                    "and left out; give their names to score them",
                    file=sys.stderr,
                )
            if sheet:
                sheet.write()
            return code
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        # Python flushes standard output once more at exit; let that go nowhere, and quietly.
        with suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_BROKEN_PIPE


def score_paths(
    detector: Detector,
    paths: Iterable[Path],
    threshold: float,
    *,
    cropper: Cropper | None = None,
    reader: Callable[[Path], Loaded] | None = None,
    watch: Callable[[Path], Record] | None = None,
    explain: Explaining | None = None,
) -> Iterator[Record]:
    """Score images one batch after the other, while a thread reads ahead; memory stays flat.

    Args:
        detector: What scores.
        paths: Image and video files, any number; consumed lazily.
        threshold: Score in [0, 1] from which on an image is called fake.
        cropper: What the network sees of an image; None: what the file's own rule leaves.
        reader: Reads and cuts a file, in the thread; None: no thumbnails, and nothing is said to be strange.
        watch: Scores a video; None: videos are errors.
        explain: Explains images; its reader must tell their sizes.

    Yields:
        One record per path, in order.

    Raises:
        KeyboardInterrupt: After the record of a video that was stopped by a signal.
    """
    cropper = cropper or Cropper(detector.resize)
    reader = reader or Reader(cropper)
    # The tiles of an image may be many times what one view is.
    most = 2 if cropper.how == "tiles" else 2 * BATCH
    with closing(load_ahead(paths, reader, most)) as batches:
        for batch in batches:
            views: list[Views] = [item.views for item in batch if item.views is not None]
            scores = iter(score_views(detector, views, cropper))
            for item in batch:
                path = str(item.path)
                if item.views is not None:
                    score = next(scores)
                    explanation, problem = (None, None) if explain is None else explain(item, score)
                    yield Record(
                        path,
                        score.probability,
                        verdict(score.probability, threshold),
                        problem,
                        explanation=explanation,
                        box=score.box,
                        box_probability=score.box_probability,
                        crops=None if score.box is None else score.views,
                        thumbnail=item.thumbnail,
                        size=item.size,
                        strangeness=item.strangeness,
                    )
                elif not item.is_video:
                    yield Record(path, error=item.error)
                elif watch is not None:
                    record = watch(item.path)
                    yield record
                    if record.interrupted:
                        raise KeyboardInterrupt
                else:
                    yield Record(path, error="this is a video, not an image")


def _report(
    records: Iterator[Record],
    printer: Callable[[Record], None],
    collect: Callable[[Record], None] | None,
    trained_on: TrainedOn | None,
) -> int:
    """Print records, and what came of them at the end; returns the exit code."""
    total = fakes = unreadable = incomplete = 0
    strange: list[str] = []
    noun = "image"
    started = time.perf_counter()
    with _Progress() as progress, closing(records):
        for record in records:
            total += 1
            fakes += record.verdict == LABELS[FAKE]
            unreadable += record.verdict is None
            incomplete += record.verdict is not None and record.error is not None
            if record.video is not None:
                noun = "file"
            if record.error is not None:
                progress.message(f"bdd: {record.path}: {record.error}")
            printer(record)
            if collect:
                collect(record)
            if record.strangeness is not None:
                strange.append(record.strangeness.kind)
            progress.step()
    seconds = time.perf_counter() - started
    print(
        f"bdd: {total} {noun}{'s' if total != 1 else ''}: {fakes} fake, {total - unreadable - fakes} real, "
        f"{unreadable} unreadable{f', {incomplete} incomplete' if incomplete else ''}; "
        f"{total / max(seconds, 1e-9):.1f} {noun}s/s",
        file=sys.stderr,
    )
    if trained_on is not None and (note := summary(strange, total - unreadable, trained_on, noun)):
        print(f"bdd: note: {note}", file=sys.stderr)
    return EXIT_UNREADABLE if unreadable or incomplete else 0


def _printer(args: argparse.Namespace) -> Callable[[Record], None]:
    if args.list_fakes:
        return lambda record: print_fake(record, null=args.null)
    form_name = "csv" if args.csv else "json" if args.json or args.frames else "text"
    form = choose_form(form_name, crop=args.crop is not None, explain=args.explain is not None)

    def show(record: Record) -> None:
        # In plain text errors are said on standard error only.
        if record.fake_probability is not None or form_name != "text":
            print_line(form(record))

    return show


def _untangle(args: argparse.Namespace) -> None:
    """Give back the path that argparse took for --explain's folder.

    Raises:
        UsageError: If there is nothing to score.
    """
    if args.explain and args.camera is None:
        given = Path(args.explain)
        # A folder that is to be made has a name of its own; what exists as a file, or is called like one, is a path.
        named = given.suffix.lower() in IMAGE_SUFFIXES | VIDEO_SUFFIXES
        if not args.paths or (not given.is_dir() and (given.exists() or named)):
            args.paths, args.explain = [args.explain, *args.paths], ""
    if not args.paths and args.camera is None:
        raise UsageError("give images, videos or folders of them, or --camera.")


class _Counter:
    """Counts what it is told."""

    count = 0

    def __call__(self, path: Path) -> None:
        self.count += 1


def _some(paths: Iterator[Path], given: list[str]) -> Iterator[Path]:
    first = next(paths, None)
    if first is None:
        raise UsageError(
            f"no images found in {', '.join(given)}; looked for files that end in "
            f"{', '.join(sorted(IMAGE_SUFFIXES))} (images) or {', '.join(sorted(VIDEO_SUFFIXES))} (videos)."
        )
    return itertools.chain([first], paths)


def _model_of_run(runs: Path, name: str) -> Path:
    folder = runs / name
    if not folder.is_dir():
        known = sorted(path.name for path in runs.iterdir() if path.is_dir()) if runs.is_dir() else []
        if not known:
            raise UsageError(f"no such run: {folder}; there are no runs in {runs} (`bdd train` makes one).")
        raise one_of("run", name, known)
    model = folder / "model.tflite"
    if not model.exists():
        raise UsageError(f"the run {name!r} has no model.tflite yet: bdd convert --run {name}")
    return model


@contextmanager
def _quiet_pillow() -> Iterator[None]:
    """Silence Pillow's remarks about odd files; what makes a file unreadable is an error all the same."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"PIL\.")
        yield


class _Progress:
    """A progress bar on standard error, if that is a terminal, results go elsewhere and tqdm is installed."""

    def __enter__(self) -> _Progress:
        self._bar = None
        if sys.stderr.isatty() and not sys.stdout.isatty():
            with suppress(ImportError):
                from tqdm import tqdm

                self._bar = tqdm(unit="image", file=sys.stderr, leave=False)
        return self

    def __exit__(self, *exception: object) -> None:
        if self._bar is not None:
            self._bar.close()

    def step(self) -> None:
        if self._bar is not None:
            self._bar.update()

    def message(self, text: str) -> None:
        if self._bar is not None:
            self._bar.clear()
        print(visible(text), file=sys.stderr, flush=True)
