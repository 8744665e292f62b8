"""The command `bdd`. Each verb is a module in `bdd_tf.commands`, imported only when that verb runs."""

from __future__ import annotations

import argparse
import gc
import importlib
import io
import os
import re
import select
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from typing import Any, NoReturn, Protocol, cast

from bdd_tf import __version__
from bdd_tf.errors import BddError, UsageError, did_you_mean, one_of

#: Verb: its line of help. The module `bdd_tf.commands.VERB`, with _ for -, has the functions of `_Verb`.
VERBS = {
    "data": "list, check and prepare data sets",
    "train": "train a detector; the same command resumes an interrupted run",
    "evaluate": "compute metrics and figures of a trained run",
    "convert": "write the .tflite file of a trained run",
    "detect": "score images, videos and cameras as real or fake",
    "score": "score millions of images on Apache Spark, into a Parquet table",
    "serve": "serve a web page for scoring images, and an HTTP API",
    "benchmark": "benchmark a .tflite file against common baselines",
    "report": "write the paper's tables and figures from stored results and runs; compare two runs",
    "runs": "list runs with their data, network, accuracy and file",
    "models": "list the bundled models, and verify their digests",
    "report-mistake": "keep a wrong verdict as a case, in a file on this machine",
    "info": "show the contents and cost of a .tflite file, a run or a checkpoint",
}
#: Verbs that build networks or read data for training: they take `--plugin`.
_PLUGIN_VERBS = ("train", "evaluate", "convert", "detect", "info", "report")
EXIT_BROKEN_PIPE = 141
#: Module that may be missing: extra of the package that installs it.
_EXTRA_OF = {
    **dict.fromkeys(("tensorflow", "larq", "matplotlib", "yaml", "tqdm", "scipy"), "train"),
    **dict.fromkeys(("torch", "safetensors"), "torch"),
    "huggingface_hub": "hub",
    "cv2": "video",
    **dict.fromkeys(("starlette", "uvicorn", "h11", "anyio", "python_multipart"), "serve"),
    **dict.fromkeys(("pyspark", "py4j", "pyarrow", "pandas"), "cluster"),
}


_NEGATIVE = r"-(\d+\.?\d*|\.\d+)(e[+-]?\d+)?|-(inf|infinity|nan)"


class _Formatter(argparse.HelpFormatter):
    """Help as wide as the terminal.

    argparse makes a formatter for each option that is declared, and asks `shutil`, which imports four kinds of archives.
    """

    def __init__(self, prog: str, *args: Any, **more: Any) -> None:
        super().__init__(prog, *args, **{"width": _columns() - 2, **more})


def _columns() -> int:
    """Width of the terminal in characters, as `shutil.get_terminal_size` finds it."""
    with suppress(KeyError, ValueError):
        if (given := int(os.environ["COLUMNS"])) > 0:
            return given
    with suppress(OSError, ValueError):  # standard output is no terminal
        return os.get_terminal_size(1).columns or 80
    return 80


def _is_negative(text: str) -> bool:
    # The first tests spare most arguments the compilation of the pattern.
    return (
        text.startswith("-")
        and not text.startswith("--")
        and re.fullmatch(_NEGATIVE, text, re.IGNORECASE) is not None
    )


class _Parser(argparse.ArgumentParser):
    """A parser whose errors are one sentence, with a suggestion and a pointer to the help."""

    def _parse_optional(self, arg_string: str) -> Any:
        """Take a negative number for a value: with an option such as ``-0``, argparse takes all of them for options."""
        if _is_negative(arg_string) and arg_string not in self._option_string_actions:
            return None
        return super()._parse_optional(arg_string)

    def error(self, message: str) -> NoReturn:
        """Raise the error for wrong arguments.

        Raises:
            UsageError: Always.
        """
        raise UsageError(f"{self._sentence(message)} `{self.prog} --help` lists all options.")

    def _sentence(self, message: str) -> str:
        unknown = re.fullmatch(r"unrecognized arguments: (.*)", message, re.DOTALL)
        if unknown:
            given = next((w for w in unknown[1].split() if w.startswith("-")), None)
            if given is None:
                return f"{unknown[1]!r} is one argument too many."
            options = [name for action in self._actions for name in action.option_strings]
            name = given.partition("=")[0]
            return f"unknown option {name!r}.{did_you_mean(name, options)}"
        choice = re.fullmatch(
            r"argument (.+?): invalid choice: (.+) \(choose from (.+)\)", message, re.DOTALL
        )
        if choice:
            possible = [word.strip().strip("'\"") for word in choice[3].split(",")]
            return str(one_of(f"value of {choice[1]}", choice[2].strip("'\""), possible))
        return message.replace("\n", " ").rstrip(".") + "."


class _Verb(Protocol):
    """Interface of a module in `bdd_tf.commands`."""

    def add_arguments(self, parser: argparse.ArgumentParser) -> None: ...

    def main(self, args: argparse.Namespace) -> int: ...


def _usage() -> str:
    lines = [f"  {verb:14} {text}" for verb, text in VERBS.items()]
    return "usage: bdd VERB [options]      (bdd VERB --help)\n\n" + "\n".join(lines)


def module_of(verb: str) -> str:
    """Return the name of a verb's module."""
    return f"bdd_tf.commands.{verb.replace('-', '_')}"


def _load(verb: str) -> _Verb:
    try:
        return cast("_Verb", importlib.import_module(module_of(verb)))
    except ModuleNotFoundError as error:
        missing = (error.name or "").split(".")[0]
        if missing in ("bdd_tf", "converters"):
            raise
        extra = _EXTRA_OF.get(missing, "train")
        raise BddError(
            f"bdd {verb} needs {missing}, which is not installed: pip install 'bdd_tf[{extra}]'."
        ) from error


def add_arguments(verb: str, module: _Verb, parser: argparse.ArgumentParser) -> None:
    """Add the options of a verb: its own, and those that several verbs share."""
    module.add_arguments(parser)
    if verb in _PLUGIN_VERBS:
        parser.add_argument(
            "--plugin",
            action="append",
            default=[],
            metavar="MODULE",
            help="module or .py file that registers backbones, channels or augmentations; may be repeated "
            "(docs/extending.md)",
        )


def _reader_left() -> bool:
    """Return whether standard output is a pipe without a reader; if so, redirect it, so that the end does not fail again."""
    try:
        handle = sys.stdout.fileno()
        watch = select.poll()
        watch.register(handle, select.POLLOUT)
        left = any(event & select.POLLERR for _, event in watch.poll(0))
    except (OSError, ValueError, AttributeError):  # no real file, or no poll on this system
        return False
    if left:
        os.dup2(os.open(os.devnull, os.O_WRONLY), handle)
    return left


def _write_utf8() -> None:
    """On Windows, write UTF-8 into pipes and files: programs that read JSON or CSV expect it, whatever the code page is."""
    if sys.platform == "win32":
        for stream in (sys.stdout, sys.stderr):
            if isinstance(stream, io.TextIOWrapper) and not stream.isatty():
                stream.reconfigure(encoding="utf-8")


def main(argv: list[str] | None = None) -> int:
    """Run one verb.

    Args:
        argv: Arguments without the program name; None for those of the process.

    Returns:
        Exit code: 0 on success, 1 on failure, 2 for wrong usage, 130 after Ctrl-C, 141 if standard output was closed early
        (``| head``).
    """
    _write_utf8()
    try:
        code = _run(sys.argv[1:], _uncollected) if argv is None else _run(argv)
        sys.stdout.flush()
        return code
    except BrokenPipeError:
        if not _reader_left():
            raise
        return EXIT_BROKEN_PIPE
    except BddError as error:
        print(f"bdd: error: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("bdd: stopped.", file=sys.stderr)
        return 130


@contextmanager
def _uncollected() -> Iterator[None]:
    """Leave what a block makes to the end of the process, without collecting garbage.

    Modules live as long as the process. To look through NumPy's for garbage while they are imported, and again at exit,
    takes as long as `bdd detect` takes for an image.
    """
    collects = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        if collects:
            gc.enable()


def _run(argv: list[str], loading: Callable[[], AbstractContextManager[None]] = nullcontext) -> int:
    if not argv or argv[0] in ("-h", "--help"):
        print(_usage(), file=sys.stdout if argv else sys.stderr)
        return 0 if argv else 2
    if argv[0] in ("-V", "--version"):
        print(__version__)
        return 0
    verb = argv[0]
    if verb not in VERBS:
        raise one_of("verb", verb, tuple(VERBS))
    with loading():
        module = _load(verb)
    parser = _Parser(f"bdd {verb}", description=VERBS[verb], allow_abbrev=False, formatter_class=_Formatter)
    add_arguments(verb, module, parser)
    try:
        args = parser.parse_args(argv[1:])
    except SystemExit as stop:
        return int(stop.code or 0)
    if getattr(args, "plugin", None):
        from bdd_tf.extensions import load_plugin

        for plugin in args.plugin:
            load_plugin(plugin)
    return module.main(args)


if __name__ == "__main__":
    sys.exit(main())
