"""The output files of `bdd detect`: checked before anything is scored, written when they are complete."""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, redirect_stdout

from bdd_tf.commands.detect_inputs import is_image_or_video
from bdd_tf.edge.images.formats import HEAD
from bdd_tf.edge.images.opening import read_head
from bdd_tf.errors import UsageError
from bdd_tf.files import check_output, complete_file, exists, is_file, same_file

_OPTIONS = ("output", "html", "report", "save_video", "timeline", "explain")


def check_outputs(args: argparse.Namespace, inputs: Iterable[str]) -> None:
    """Check that each output has a file of its own.

    Args:
        args: The arguments of the verb.
        inputs: Files that are read: images, lists, the model.

    Raises:
        UsageError: If two outputs are one file, or an output is an input.
    """
    outputs = {f"--{name.replace('_', '-')}": getattr(args, name) for name in _OPTIONS if getattr(args, name)}
    for (one, path), (other, another) in itertools.combinations(outputs.items(), 2):
        if same_file(path, another):
            raise UsageError(
                f"{one} and {other} are the same file, {path!r}; give each a file of its own, or leave one out."
            )
    outputs.pop("--explain", None)  # a folder; its files have names that no search for images finds
    existing = {option: path for option, path in outputs.items() if exists(path)}
    for name in inputs if existing else ():
        for option, path in existing.items():
            if exists(name) and same_file(path, name):
                raise UsageError(f"{option} is {path!r}, which is one of the inputs; choose another file.")


@contextmanager
def output(given: str | None) -> Iterator[None]:
    """Write standard output to a file that appears when it is complete, also after Ctrl-C.

    Args:
        given: The file, which `check_outputs` has checked; None to leave standard output alone.

    Raises:
        UsageError: If its folder does not exist, or it is an image or video, or no regular file.
        BddError: If it cannot be written.
    """
    path = check_output("--output", given)
    if path is None:
        yield
        return
    if is_file(path) and is_image_or_video(read_head(path, HEAD)):
        raise UsageError(f"--output is {given!r}, which is an image; it would be lost. Choose another file.")
    with (
        complete_file(path) as partial,
        partial.open("w", encoding="utf-8", newline="\n") as file,
        redirect_stdout(file),
    ):
        yield
