"""`bdd models`: list the bundled models, and verify files against the digests of their release."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from bdd_tf.edge.model_digests import LICENCE, BundledModel, bundled_models, digest_of, recorded_digests
from bdd_tf.edge.shipped_model import no_such_model
from bdd_tf.errors import UsageError
from bdd_tf.files import exists

_ACTIONS = ("list", "verify")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the verb."""
    parser.add_argument(
        "action", nargs="?", default="list", choices=_ACTIONS, help="list (default), or verify their digests"
    )
    parser.add_argument(
        "file", nargs="?", metavar="FILE", help="with verify: only this file, or bundled model by name"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object per model")


def main(args: argparse.Namespace) -> int:
    """List or verify the bundled models.

    Args:
        args: Arguments declared by `add_arguments`.

    Returns:
        Exit code: 0, or 1 if a file is not as it was released.

    Raises:
        UsageError: If there is no such file, or a file is given without ``verify``.
        BddError: If a file cannot be read.
    """
    if args.action == "list":
        if args.file is not None:
            raise UsageError("bdd models list takes no file; `bdd info FILE` shows what is in one.")
        for model in bundled_models():
            print(json.dumps(model.to_dict()) if args.json else _described(model))
        if not args.json:
            print(f"The weights are under their own terms: {LICENCE}.", file=sys.stderr)
        return 0
    return _verify_all(args.json) if args.file is None else _verify_file(args.file, args.json)


def _described(model: BundledModel) -> str:
    about = model.metadata
    return (
        f"{model.name}: {model.path.name}, {model.size:,} bytes, {about.get('backbone')}, input {about.get('resolution')} px, "
        f"licence {LICENCE}\n  SHA-256 {model.sha256}\n  {model.path}"
    )


def _verify_all(as_json: bool) -> int:
    models = bundled_models()
    for model in models:
        _say(as_json, model.path, model.sha256, model.recorded)
    return 0 if all(model.intact for model in models) else 1


def _verify_file(given: str, as_json: bool) -> int:
    bundled = {model.name: model for model in bundled_models()}
    path = bundled[given].path if given in bundled else Path(given)
    if not exists(path) or not path.is_file():
        raise no_such_model(path)
    digest, known = digest_of(path), recorded_digests()
    # A copy of a released file may have any name; a file with the name of one must have its bytes.
    released = known.get(path.name) or next((value for value in known.values() if value == digest), None)
    _say(as_json, path, digest, released)
    return 0 if digest == released else 1


def _say(as_json: bool, path: Path, digest: str, recorded: str | None) -> None:
    if as_json:
        print(
            json.dumps(
                {"path": str(path), "sha256": digest, "recorded": recorded, "intact": digest == recorded}
            )
        )
    elif digest == recorded:
        print(f"{path}: as released, SHA-256 {digest}")
    elif recorded is None:
        print(f"{path}: not a released file, SHA-256 {digest}")
    else:
        print(f"{path}: CHANGED: its SHA-256 is {digest}, the released one {recorded}; install bdd_tf again")
