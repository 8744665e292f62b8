"""The command `bdd`: one verb per thing a user does. Verbs load what they need, nothing more."""

from __future__ import annotations

import argparse
import importlib
import sys
from pathlib import Path

from bdd_tf import __version__
from bdd_tf.errors import BddError

#: Verb: module with ``add_arguments(parser)`` and ``main(args) -> int``, and a line of help.
VERBS = {
    "data": ("bdd_tf.datasets.check", "list, check and prepare data sets"),
    "train": ("bdd_tf.training", "train a detector; the same command resumes"),
    "evaluate": ("bdd_tf.evaluation", "metrics and figures of a trained run"),
    "convert": ("converters.keras_to_tflite", "write the .tflite file of a run"),
    "detect": ("bdd_tf.edge.detect", "which of these images are fake?"),
    "serve": ("bdd_tf.service.command", "a page to drop images on, and an HTTP API"),
    "benchmark": ("bdd_tf.benchmarking", "how fast is a file here, beside what one would pick instead?"),
    "report": (
        "bdd_tf.reporting",
        "the paper's tables and figures from stored results and runs; a comparison of two",
    ),
    "info": ("bdd_tf.information", "what a .tflite file, a run or a checkpoint holds and costs"),
}
#: Where `converters` lies in a clone; in an installed package there is none.
SOURCE_TREE = str(Path(__file__).resolve().parents[1])
_EXTRA_OF = {"tensorflow": "train", "larq": "train", "matplotlib": "train", "yaml": "train", "tqdm": "train",
             "scipy": "train", "converters": "train", "torch": "torch",
             "safetensors": "torch", "cv2": "video", "starlette": "serve", "uvicorn": "serve", "h11": "serve",
             "anyio": "serve", "python_multipart": "serve"}  # fmt: skip


def _usage() -> str:
    lines = [f"  {verb:10} {text}" for verb, (_, text) in VERBS.items()]
    return "usage: bdd VERB [options]      (bdd VERB --help)\n\n" + "\n".join(lines)


def _load(verb: str):  # noqa: ANN202 (a module)
    module = VERBS[verb][0]
    if SOURCE_TREE not in sys.path and (Path(SOURCE_TREE) / "converters" / "keras_to_tflite.py").is_file():
        sys.path.append(SOURCE_TREE)  # an editable install knows the package's folder only
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        missing = (error.name or "").split(".")[0]
        if missing == "converters":
            raise BddError(
                f"bdd {verb} is part of the source tree, not of the installed package: run it in a clone."
            ) from error
        if missing == "bdd_tf":
            raise
        extra = _EXTRA_OF.get(missing, "train")
        raise BddError(
            f"bdd {verb} needs {missing}, which is not installed: pip install 'bdd_tf[{extra}]'."
        ) from error


def main(argv: list[str] | None = None) -> int:
    """Run a verb.

    Args:
        argv: Arguments after the program's name; None: those of the process.

    Returns:
        0 done, 1 failed, 2 wrong usage.
    """
    argv = sys.argv[1:] if argv is None else argv
    if not argv or argv[0] in ("-h", "--help"):
        print(_usage(), file=sys.stdout if argv else sys.stderr)
        return 0 if argv else 2
    if argv[0] in ("-V", "--version"):
        print(__version__)
        return 0
    verb = argv[0]
    if verb not in VERBS:
        print(f"bdd: error: unknown verb {verb!r}; possible: {', '.join(VERBS)}.", file=sys.stderr)
        return 2
    try:
        module = _load(verb)
        parser = argparse.ArgumentParser(f"bdd {verb}", description=VERBS[verb][1], allow_abbrev=False)
        module.add_arguments(parser)
        try:
            args = parser.parse_args(argv[1:])
        except SystemExit as stop:
            return int(stop.code or 0)
        return module.main(args)
    except BddError as error:
        print(f"bdd: error: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("bdd: stopped.", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
