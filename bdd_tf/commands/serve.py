"""`bdd serve`: a web page and an HTTP API for scoring images."""

from __future__ import annotations

import argparse
import dataclasses
import math
import socket
import sys

from bdd_tf.commands.model_options import add_engine_argument, add_model_argument
from bdd_tf.edge.checks import whole_number
from bdd_tf.edge.detector import Detector
from bdd_tf.edge.images.errors import MAX_PIXELS
from bdd_tf.edge.runtime import MAX_THREADS
from bdd_tf.errors import UsageError
from bdd_tf.service.app import create_app
from bdd_tf.service.limits import MIB, Limits
from bdd_tf.service.middleware import Guard, Hosts, is_loopback
from bdd_tf.service.server import bind, run

_DEFAULTS = Limits()
#: Options that limit the service: name, type, default, name of the value, help.
_LIMITS = (
    ("--workers", int, _DEFAULTS.workers, "N", "images processed at the same time (default: %(default)s)"),
    (
        "--queue",
        int,
        _DEFAULTS.queue,
        "N",
        "maximum number of waiting images; further requests receive 503 (default: %(default)s)",
    ),
    (
        "--max-upload",
        float,
        _DEFAULTS.upload_bytes / MIB,
        "MB",
        "maximum file size, in MiB (default: %(default)g)",
    ),
    (
        "--max-request",
        float,
        None,
        "MB",
        f"maximum size of all files of a request together, in MiB (default: {_DEFAULTS.request_bytes / MIB:g}, or "
        "--max-upload if that is larger)",
    ),
    (
        "--max-megapixels",
        float,
        _DEFAULTS.pixels / 1e6,
        "N",
        "maximum image size (default and upper limit: %(default)g; decoding takes up to 8 bytes per pixel)",
    ),
    (
        "--upload-timeout",
        float,
        _DEFAULTS.upload_seconds,
        "SECONDS",
        "time limit for one upload (default: %(default)g)",
    ),
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the verb."""
    add_model_argument(parser)
    parser.add_argument(
        "--host",
        default="127.0.0.1",
        metavar="ADDRESS",
        help="address to listen on (default: 127.0.0.1, only reachable from this machine)",
    )
    parser.add_argument(
        "--port",
        type=int,
        default=8000,
        metavar="N",
        help="port to listen on (default: 8000; 0: any free port)",
    )
    parser.add_argument(
        "--allow-host",
        action="append",
        default=[],
        metavar="NAME",
        help="additional host name that requests may use for the service (repeatable)",
    )
    parser.add_argument(
        "--threads", type=int, default=1, metavar="N", help="CPU threads per inference (default: 1)"
    )
    for option, kind, default, metavar, text in _LIMITS:
        parser.add_argument(option, type=kind, default=default, metavar=metavar, help=text)
    add_engine_argument(parser)


def main(args: argparse.Namespace) -> int:
    """Serve until Ctrl-C or SIGTERM.

    Args:
        args: Arguments declared by `add_arguments`.

    Returns:
        Exit code 0.

    Raises:
        UsageError: If an argument is invalid, or there is no such model or address.
        BddError: If the model cannot be used, or the port is in use.
    """
    whole_number("--threads", args.threads, 1, MAX_THREADS)
    limits = _limits(args)
    hosts = Hosts(args.host, tuple(args.allow_host))
    with Detector(args.model, engine=args.engine, num_threads=args.threads) as detector:
        name = detector.identity.name
        listening = bind(args.host, args.port)
        app = create_app(detector, name, limits)
        try:
            print(
                f"bdd: serving {name} at {_url(args.host, listening)} (Ctrl-C stops)",
                file=sys.stderr,
                flush=True,
            )
            if not is_loopback(listening.getsockname()[0]):
                print(
                    f"bdd: warning: bound to {args.host}: anyone who can reach this machine can send images, without "
                    "encryption or a password. Use --host 127.0.0.1 to accept requests from this machine alone.",
                    file=sys.stderr,
                    flush=True,
                )
            run(Guard(app, hosts, limits.linger_seconds), listening, limits)
        finally:
            listening.close()
            app.state.workers.close()
    print("bdd: stopped.", file=sys.stderr)
    return 0


def _limits(args: argparse.Namespace) -> Limits:
    together = args.max_request
    if together is None:
        together = max(_DEFAULTS.request_bytes / MIB, args.max_upload)
    ranges = {
        "--port": (args.port, 0, 65535),
        "--workers": (args.workers, 1, 64),
        "--queue": (args.queue, 0, 10_000),
        "--max-upload": (args.max_upload, 1 / 1024, 1024),
        "--max-request": (together, 1 / 1024, 1024),
        "--max-megapixels": (args.max_megapixels, 1e-6, MAX_PIXELS / 1e6),
        "--upload-timeout": (args.upload_timeout, 0.1, 3600),
    }
    for option, (value, least, most) in ranges.items():
        # Negated, so that NaN is refused as well.
        if not least <= value <= most:
            raise UsageError(f"{option} is {value:g}; it must lie between {least:g} and {most:g}.")
    upload, request = math.ceil(args.max_upload * MIB), math.ceil(together * MIB)
    return dataclasses.replace(
        _DEFAULTS,
        upload_bytes=upload,
        request_bytes=request,
        pixels=round(args.max_megapixels * 1e6),
        workers=args.workers,
        queue=args.queue,
        # Room for one upload per worker and another one that arrives at the same time.
        buffered_bytes=max(_DEFAULTS.buffered_bytes, (args.workers + 1) * upload, 2 * request),
        upload_seconds=args.upload_timeout,
    )


def _url(host: str, listening: socket.socket) -> str:
    port = listening.getsockname()[1]
    return f"http://[{host}]:{port}/" if ":" in host else f"http://{host}:{port}/"
