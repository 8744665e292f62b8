"""The options of `bdd detect --explain`, apart from the module that explains: they are checked in every call."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import NamedTuple

from bdd_tf.errors import UsageError
from bdd_tf.files import exists

EXPLAIN_LIMIT = 100
"""Default number of images to explain; each takes about two hundred inferences."""


class ExplainOptions(NamedTuple):
    """Validated options of ``--explain``.

    Attributes:
        folder: Output folder; None to write each heat map next to its image.
        by: Name of the explainer; None to select one automatically.
        limit: Maximum number of images to explain; None for no limit.
        reference: Reference image, or folder of them, for `bdd_tf.edge.explain.channels.ablate`.
    """

    folder: Path | None = None
    by: str | None = None
    limit: int | None = EXPLAIN_LIMIT
    reference: Path | None = None

    @classmethod
    def from_args(cls, args: argparse.Namespace) -> ExplainOptions | None:
        """Validate the options before any file is opened.

        Returns:
            The options; None without ``--explain``.

        Raises:
            UsageError: If a value is out of range, or an option requires another one that is missing.
        """
        if args.explain is None:
            for option in ("explain_by", "explain_limit", "explain_reference"):
                if getattr(args, option) is not None:
                    raise UsageError(f"--{option.replace('_', '-')} requires --explain.")
            return None
        if args.camera is not None:
            raise UsageError("--explain is for images, not for a camera.")
        limit = EXPLAIN_LIMIT if args.explain_limit is None else args.explain_limit
        if limit < 0:
            raise UsageError(f"--explain-limit is {limit}; it must be at least 0 (0: all).")
        reference = None if args.explain_reference is None else Path(args.explain_reference)
        # An empty path is no path, although `Path` takes it for this folder.
        if reference is not None and not exists(args.explain_reference):
            raise UsageError(f"--explain-reference is {args.explain_reference!r}, which does not exist.")
        if args.explain_by == "grad-cam" and args.run is None:
            raise UsageError("--explain-by grad-cam needs a run's Keras weights: give --run NAME.")
        return cls(Path(args.explain) if args.explain else None, args.explain_by, limit or None, reference)
