"""The verb ``bdd serve``."""

from __future__ import annotations

import argparse
import dataclasses
import math
import socket
import sys
from pathlib import Path

from bdd_tf.edge.detector import Detector
from bdd_tf.edge.engines import engine_names
from bdd_tf.edge.images import MAX_PIXELS
from bdd_tf.edge.shipped import shipped_model
from bdd_tf.errors import UsageError
from bdd_tf.service.app import create_app
from bdd_tf.service.guard import Guard, Hosts, is_loopback
from bdd_tf.service.limits import MIB, Limits
from bdd_tf.service.server import bind, run

_DEFAULTS = Limits()


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the verb's arguments."""
    parser.add_argument(
        "--model", metavar="M.tflite", help="the model (default: the one shipped with bdd_tf)"
    )
    parser.add_argument(
        "--host",
        default="127.0.0.1",
        metavar="ADDRESS",
        help="address to listen on (default: 127.0.0.1, this machine alone)",
    )
    parser.add_argument(
        "--port", type=int, default=8000, metavar="N", help="0: any that is free (default: 8000)"
    )
    parser.add_argument(
        "--allow-host",
        action="append",
        default=[],
        metavar="NAME",
        help="a further name by which requests may address the service (repeatable)",
    )
    parser.add_argument(
        "--threads", type=int, default=1, metavar="N", help="CPU threads of the model (default: 1)"
    )
    parser.add_argument(
        "--workers",
        type=int,
        default=_DEFAULTS.workers,
        metavar="N",
        help="images decoded at the same time (default: %(default)s)",
    )
    parser.add_argument(
        "--queue",
        type=int,
        default=_DEFAULTS.queue,
        metavar="N",
        help="images that may wait; more are answered 503 (default: %(default)s)",
    )
    parser.add_argument(
        "--max-upload",
        type=float,
        default=_DEFAULTS.upload_bytes / MIB,
        metavar="MB",
        help="largest file, in MiB (default: %(default)g)",
    )
    parser.add_argument(
        "--max-megapixels",
        type=float,
        default=_DEFAULTS.pixels / 1e6,
        metavar="N",
        help="largest image (default and most: %(default)g; decoding one takes up to 8 bytes a pixel)",
    )
    parser.add_argument(
        "--upload-timeout",
        type=float,
        default=_DEFAULTS.upload_seconds,
        metavar="SECONDS",
        help="time for one upload (default: %(default)g)",
    )
    parser.add_argument(
        "--engine", metavar="E", help=f"what runs the model: {', '.join(engine_names())} (default: litert)"
    )


def main(args: argparse.Namespace) -> int:
    """Serve until Ctrl-C or SIGTERM.

    Args:
        args: What a parser prepared by `add_arguments` parsed.

    Returns:
        0.

    Raises:
        UsageError: If an argument makes no sense, or there is no such model or address.
        BddError: If the model cannot be used, or the port is taken.
    """
    limits = _limits(args)
    hosts = Hosts(args.host, tuple(args.allow_host))
    with Detector(args.model, engine=args.engine, num_threads=args.threads) as detector:
        name = _name(args.model)
        listening = bind(args.host, args.port)
        app = create_app(detector, name, limits)
        try:
            print(
                f"bdd: serving {name} at {_url(args.host, listening)} (Ctrl-C ends)",
                file=sys.stderr,
                flush=True,
            )
            if not is_loopback(listening.getsockname()[0]):
                print(
                    f"bdd: warning: bound to {args.host}: whoever reaches this machine may send images, unencrypted "
                    "and without a password. 127.0.0.1 is this machine alone.",
                    file=sys.stderr,
                    flush=True,
                )
            run(Guard(app, hosts, limits.linger_seconds), listening, limits)
        finally:
            listening.close()
            app.state.workers.close()
    print("bdd: ended.", file=sys.stderr)
    return 0


def _name(model: str | None) -> str:
    """As shown to people; runs all call their file model.tflite, and differ by their folder."""
    path = shipped_model() if model is None else Path(model).absolute()
    return f"{path.parent.name}/{path.name}" if path.name == "model.tflite" else path.name


def _limits(args: argparse.Namespace) -> Limits:
    ranges = {
        "--port": (args.port, 0, 65535),
        "--workers": (args.workers, 1, 64),
        "--queue": (args.queue, 0, 10_000),
        "--max-upload": (args.max_upload, 1 / 1024, 1024),
        "--max-megapixels": (args.max_megapixels, 1e-6, MAX_PIXELS / 1e6),
        "--upload-timeout": (args.upload_timeout, 0.1, 3600),
    }
    for option, (value, least, most) in ranges.items():
        # Written so that not-a-number fails as well.
        if not least <= value <= most:
            raise UsageError(f"{option} is {value:g}; it must lie between {least:g} and {most:g}.")
    upload = math.ceil(args.max_upload * MIB)
    return dataclasses.replace(
        _DEFAULTS,
        upload_bytes=upload,
        pixels=round(args.max_megapixels * 1e6),
        workers=args.workers,
        queue=args.queue,
        # At least one upload for each worker, and one that arrives meanwhile.
        buffered_bytes=max(_DEFAULTS.buffered_bytes, (args.workers + 1) * upload),
        upload_seconds=args.upload_timeout,
    )


def _url(host: str, listening: socket.socket) -> str:
    port = listening.getsockname()[1]
    return f"http://[{host}]:{port}/" if ":" in host else f"http://{host}:{port}/"
