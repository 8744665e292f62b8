"""The options of the verbs that score images with one model."""

from __future__ import annotations

import argparse

from bdd_tf.edge.engines import engine_names


def add_model_argument(parser: argparse._ActionsContainer) -> None:
    """Add ``--model``."""
    parser.add_argument(
        "--model",
        metavar="M.tflite",
        help="model file, or the name of a bundled model: photos, cifake (default: the first of these)",
    )


def add_engine_argument(parser: argparse._ActionsContainer) -> None:
    """Add ``--engine``."""
    parser.add_argument(
        "--engine",
        metavar="E",
        help=f"inference engine: {', '.join(engine_names())} (default: auto, which is native for files that it covers, "
        "else litert)",
    )
