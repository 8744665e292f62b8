"""The verb ``bdd detect``: scores images from the command line, one line each."""

from __future__ import annotations

import argparse
import itertools
import json
import os
import queue
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bdd_tf.edge.detector import BATCH, Detector
from bdd_tf.edge.engines import engine_names
from bdd_tf.edge.images import IMAGE_SUFFIXES, ImageError, ResizeRule, find_images, load_image
from bdd_tf.edge.labels import FAKE, LABELS, verdict
from bdd_tf.errors import UsageError, one_of

EXIT_UNREADABLE = 1
EXIT_INTERRUPTED = 130
EXIT_BROKEN_PIPE = 141

_COLUMNS = ("path", "fake_probability", "verdict", "error")


@dataclass(frozen=True)
class Record:
    """What is known about one image: a probability with its verdict, or an error.

    Attributes:
        path: As found.
        fake_probability: In [0, 1]; None if the image could not be read.
        verdict: ``"REAL"`` or ``"FAKE"``; None if the image could not be read.
        error: One sentence; None if all went well.
    """

    path: str
    fake_probability: float | None = None
    verdict: str | None = None
    error: str | None = None


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the verb's arguments."""
    parser.add_argument("paths", nargs="+", metavar="PATH", help="image files, and folders of them")
    model = parser.add_mutually_exclusive_group()
    model.add_argument("--model", metavar="M.tflite", help="the model (default: the one shipped with bdd_tf)")
    model.add_argument("--run", metavar="NAME", help="use the model of this run, runs/NAME/model.tflite")
    parser.add_argument("--runs-dir", default="runs", metavar="DIR", help="where runs are (default: runs)")
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="print one JSON object per line")
    form.add_argument("--csv", action="store_true", help="print comma-separated values under a header")
    parser.add_argument(
        "--threshold",
        type=float,
        metavar="T",
        help="call images fake from this score on (default: the model's)",
    )
    parser.add_argument(
        "--engine", metavar="E", help=f"what runs the model: {', '.join(engine_names())} (default: litert)"
    )
    parser.add_argument("--threads", type=int, default=1, metavar="N", help="CPU threads (default: 1)")


def main(args: argparse.Namespace) -> int:
    """Score the images that ``args.paths`` names: results on standard output, all else on standard error.

    Args:
        args: What a parser prepared by `add_arguments` parsed.

    Returns:
        0 when all images were read, 1 when some could not be, 130 after Ctrl-C, 141 when standard output was
        closed early (``| head``).

    Raises:
        UsageError: If the threshold, the model, the engine or the paths make no sense.
        BddError: If the model cannot be used.
    """
    threshold = args.threshold
    # Written so that not-a-number fails as well.
    if threshold is not None and not 0 <= threshold <= 1:
        raise UsageError(f"--threshold is {threshold:g}; it must lie in [0, 1].")
    try:
        paths = _some(find_images(args.paths), args.paths)
        model = args.model if args.run is None else _model_of_run(Path(args.runs_dir), args.run)
        with Detector(model, engine=args.engine, num_threads=args.threads) as detector, _quiet_pillow():
            if threshold is None:
                threshold = detector.threshold
            return _detect(detector, paths, threshold, _form(args), records_errors=args.json or args.csv)
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        # Python flushes standard output once more at exit; let that go nowhere, and quietly.
        with suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_BROKEN_PIPE


def score_paths(detector: Detector, paths: Iterable[Path], threshold: float) -> Iterator[Record]:
    """Score images one batch after the other, while a thread reads ahead; memory stays flat.

    Args:
        detector: What scores.
        paths: Image files, any number; consumed lazily.
        threshold: Score in [0, 1] from which on an image is called fake.

    Yields:
        One record per path, in order.
    """
    with closing(_load_ahead(paths, detector.resize)) as batches:
        for batch in batches:
            readable = [image for _, image in batch if isinstance(image, np.ndarray)]
            scores = iter(detector.predict_batch(np.stack(readable)) if readable else ())
            for path, image in batch:
                if isinstance(image, np.ndarray):
                    score = float(next(scores))
                    yield Record(str(path), score, verdict(score, threshold))
                else:
                    yield Record(str(path), error=str(image))


_Loaded = tuple[Path, "np.ndarray | ImageError"]


def _load_ahead(paths: Iterable[Path], rule: ResizeRule) -> Iterator[list[_Loaded]]:
    """Batches of whatever has been read meanwhile, at least one image each, so that the first is not late."""
    loaded: queue.Queue[_Loaded | BaseException | None] = queue.Queue(maxsize=2 * BATCH)
    stop = threading.Event()

    def put(item: _Loaded | BaseException | None) -> None:
        while not stop.is_set():
            with suppress(queue.Full):
                return loaded.put(item, timeout=0.1)
        return None

    def read() -> None:
        try:
            for path in paths:
                if stop.is_set():
                    return
                try:
                    put((path, load_image(path, rule)))
                except ImageError as error:
                    put((path, error))
            put(None)
        except BaseException as error:
            put(error)

    thread = threading.Thread(target=read, name="bdd-read-ahead", daemon=True)
    thread.start()
    try:
        more = True
        while more:
            batch: list[_Loaded] = []
            item = loaded.get()
            while True:
                if item is None:
                    more = False
                    break
                if isinstance(item, BaseException):
                    raise item
                batch.append(item)
                if len(batch) == BATCH:
                    break
                try:
                    item = loaded.get_nowait()
                except queue.Empty:
                    break
            if batch:
                yield batch
    finally:
        stop.set()


def _detect(
    detector: Detector,
    paths: Iterable[Path],
    threshold: float,
    form: Callable[[Record], str],
    *,
    records_errors: bool,
) -> int:
    counts = {None: 0, **dict.fromkeys(LABELS, 0)}
    started = time.perf_counter()
    with _Progress() as progress, closing(score_paths(detector, paths, threshold)) as records:
        for record in records:
            counts[record.verdict] += 1
            if record.error is not None:
                progress.message(f"bdd: {record.path}: {record.error}")
            if record.error is None or records_errors:
                _print(form(record))
                # At once, for whoever reads the pipe line by line.
                sys.stdout.flush()
            progress.step()
    seconds = time.perf_counter() - started
    total, unreadable = sum(counts.values()), counts[None]
    print(
        f"bdd: {total} image{'s' if total != 1 else ''}: {counts[LABELS[FAKE]]} fake, "
        f"{total - unreadable - counts[LABELS[FAKE]]} real, {unreadable} unreadable; "
        f"{total / max(seconds, 1e-9):.1f} images/s",
        file=sys.stderr,
    )
    return EXIT_UNREADABLE if unreadable else 0


def _form(args: argparse.Namespace) -> Callable[[Record], str]:
    if args.json:
        return _as_json
    if args.csv:
        _print(",".join(_COLUMNS))
        return _as_csv
    return _as_text


def _as_text(record: Record) -> str:
    return f"{record.verdict}  {record.fake_probability:.4f}  {_visible(record.path)}"


def _as_json(record: Record) -> str:
    # ASCII only: bytes of a file name that are no UTF-8 become \udcXX escapes, which json.loads turns back.
    return json.dumps({column: getattr(record, column) for column in _COLUMNS})


def _as_csv(record: Record) -> str:
    values = (getattr(record, column) for column in _COLUMNS)
    return ",".join("" if value is None else _csv_field(str(value)) for value in values)


def _csv_field(text: str) -> str:
    if any(character in text for character in ',"\r\n') or text != text.strip():
        return '"' + text.replace('"', '""') + '"'
    return text


def _visible(text: str) -> str:
    """Text on one line and without control characters, which a file name may hold to deceive a terminal."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def _print(line: str) -> None:
    # What the terminal's encoding lacks, and bytes of file names that are no UTF-8, are shown as escapes.
    encoding = sys.stdout.encoding or "utf-8"
    sys.stdout.write(line.encode(encoding, "backslashreplace").decode(encoding) + "\n")


def _some(paths: Iterator[Path], given: list[str]) -> Iterator[Path]:
    first = next(paths, None)
    if first is None:
        raise UsageError(
            f"no images found in {', '.join(given)}; looked for files that end in "
            f"{', '.join(sorted(IMAGE_SUFFIXES))}."
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
        print(_visible(text), file=sys.stderr, flush=True)
