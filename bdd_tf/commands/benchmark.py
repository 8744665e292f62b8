"""`bdd benchmark`: measure a .tflite file against common baselines."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from bdd_tf.benchmark.choices import compatible, installed, model_of, parse_names, selected, thread_counts
from bdd_tf.benchmark.contenders import BASELINES, BINARY, MORE_BASELINES, OTHERS, Result, contenders_of
from bdd_tf.benchmark.options import BenchmarkOptions, DeviceOptions
from bdd_tf.benchmark.output import machine, show, write
from bdd_tf.benchmark.worker import measure
from bdd_tf.config import Experiment
from bdd_tf.console import say
from bdd_tf.edge.runtime import available_kernels
from bdd_tf.edge.shipped_model import model_path
from bdd_tf.errors import BddError, UsageError

_THREADS = "1,2"
_ROUNDS = 20
#: Load average above which times are unreliable.
_BUSY = 0.5


class Converters:
    """`converters.benchmark_models`, imported on first use: measuring a file on a device needs no TensorFlow."""

    def untrained(self, backbone: str, resolution: int, channels: tuple[str, ...]) -> Path:
        """See `bdd_tf.benchmark.contenders.ModelMaker`."""
        from converters.benchmark_models import untrained

        return untrained(backbone, resolution, channels)

    def baseline(self, name: str, resolution: int) -> Path:
        """See `bdd_tf.benchmark.contenders.ModelMaker`."""
        from converters.benchmark_models import baseline

        return baseline(name, resolution)

    def float_export(self, config: Experiment) -> Path:
        """See `bdd_tf.benchmark.contenders.ModelMaker`."""
        from converters.benchmark_models import float_export

        return float_export(config)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `bdd benchmark`."""
    parser.add_argument(
        "--model",
        metavar="F.tflite",
        help="the file to measure, or a bundled model: photos, cifake; default: BNext-T at 224 px with random weights",
    )
    parser.add_argument(
        "--device", default="local", metavar="WHERE",
        help="local (this machine), adb or adb:SERIAL (a phone), ssh:user@host[:port] (a board); default local",
    )  # fmt: skip
    parser.add_argument(
        "--threads",
        metavar="N[,N]",
        help="thread counts; default 1,2, on a device 1,2,4 up to its number of cores",
    )
    parser.add_argument(
        "--kernels", metavar="K[,K]", help="kernel sets of our delegate; default: all except scalar"
    )
    parser.add_argument(
        "--against", metavar="NAME[,NAME]",
        help=f"competitors: {', '.join((*OTHERS, *BINARY, *BASELINES, *MORE_BASELINES))}, all or none; default: all that are "
        "installed, on a device lce, float and the MobileNets",
    )  # fmt: skip
    parser.add_argument(
        "--rounds", type=int, help="number of turns of each contender; default 20, on a device 10"
    )
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="print a JSON object per contender")
    form.add_argument("--csv", action="store_true", help="print CSV, a row per contender")
    parser.add_argument(
        "--output", type=Path, metavar="DIR", help="also write benchmark.json, .csv and .png to this folder"
    )
    device = parser.add_argument_group("on a device")
    device.add_argument(
        "--device-python",
        metavar="PATH",
        help="ssh: a Python on the device with numpy and LiteRT; default python3",
    )
    device.add_argument(
        "--device-folder",
        metavar="DIR",
        help="folder on the device for temporary files; default /data/local/tmp (adb) or /tmp (ssh)",
    )


def _options(args: argparse.Namespace, kernels: list[str] | None) -> BenchmarkOptions:
    """Parse the options that both kinds of measurement have.

    Raises:
        UsageError: If one is malformed.
    """
    if args.rounds is not None and args.rounds < 1:
        raise UsageError("--rounds takes a positive whole number, e.g. --rounds 20.")
    threads = thread_counts(args.threads) if args.threads else None
    model = None if args.model is None else model_path(args.model)
    return BenchmarkOptions(model, threads, kernels, args.against, args.rounds)


def _write(
    args: argparse.Namespace, results: Sequence[Result], title: str, about: dict | None = None
) -> None:
    """Write the files of ``--output``, if it was given."""
    if args.output is not None:
        for made in write(results, args.output, title, about):
            print(made, file=sys.stderr)


def _on_device(args: argparse.Namespace) -> int:
    from bdd_tf.benchmark.on_device import measure_on_device

    # Which kernel sets are possible is known only once the device is reached.
    kernels = [k.strip() for k in args.kernels.split(",") if k.strip()] if args.kernels else None
    where = DeviceOptions(args.device, args.device_folder, args.device_python)
    found = measure_on_device(_options(args, kernels), where, Converters())
    show(found.results, found.machine, json_lines=args.json, csv_lines=args.csv)
    print("\n".join(found.lines), file=sys.stderr if args.json or args.csv else sys.stdout)
    _write(args, found.results, f"{found.path.stem}: {found.machine}", found.about)
    # A baseline that fails is a row of the table; the model itself must run.
    failed = [r for r in found.results if r.error and r.name == found.path.stem]
    if failed:
        raise BddError(f"{found.path} did not run on {found.device} ({failed[0].engine}): {failed[0].error}")
    return 0


def _on_this_machine(args: argparse.Namespace) -> int:
    if args.device_python or args.device_folder:
        raise UsageError("--device-python and --device-folder need --device ssh:user@host or adb.")
    possible = available_kernels()
    kernels = parse_names(args.kernels, "kernel set", possible) if args.kernels else None
    options = _options(args, kernels or [k for k in possible if k != "scalar"] or ["scalar"])
    others = selected(options.against, installed(), installed())
    path, model = model_of(options.model, Converters())
    others = compatible(others, options.against, model)
    if (load := os.getloadavg()[0]) > _BUSY:
        say(f"this machine is busy (load {load:.1f}): ratios are valid, times are not.", prefix="bdd")
    threads = options.threads or thread_counts(_THREADS)
    contenders = contenders_of(path, model, threads, options.kernels or [], others, Converters())
    results = measure(contenders, options.rounds or _ROUNDS)
    show(results, machine(), json_lines=args.json, csv_lines=args.csv)
    _write(args, results, f"{path.stem}: {machine()}")
    if results[0].error:
        raise BddError(f"{path} did not run: {results[0].error}")
    return 0


def main(args: argparse.Namespace) -> int:
    """Run `bdd benchmark`; return the exit code.

    Raises:
        UsageError: If an option is malformed or does not suit the machine.
        BddError: If the model does not run, or the device cannot be reached.
    """
    return _on_this_machine(args) if args.device == "local" else _on_device(args)
