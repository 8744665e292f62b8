"""`bdd report`: report on stored results and runs, compare runs, store a run's results."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from bdd_tf.errors import UsageError
from bdd_tf.reports import comparison, costs, side_by_side, store, tables
from bdd_tf.reports.run_summary import describe
from bdd_tf.runs import RUNS_DIR, Run, existing_run

OUTPUT = Path("build") / "report"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `bdd report`."""
    parser.add_argument(
        "--runs-dir", type=Path, default=Path(RUNS_DIR), help="folder of the runs; default runs"
    )
    parser.add_argument(
        "--results-dir",
        type=Path,
        default=Path(store.RESULTS_DIR),
        help="folder of stored results; default results",
    )
    parser.add_argument(
        "--output", type=Path, default=OUTPUT, metavar="DIR", help=f"folder of the report; default {OUTPUT}"
    )
    parser.add_argument("--image", type=Path, help="image for the figure of channels; default a photograph")
    parser.add_argument("--json", action="store_true", help="print JSON instead of Markdown")
    other = parser.add_mutually_exclusive_group()
    other.add_argument(
        "--runs",
        nargs="*",
        metavar="RUN",
        help="print these runs side by side, without the paper's tables: data, network, cost, figures, file; "
        "without a name: all runs of --runs-dir",
    )
    other.add_argument(
        "--compare",
        nargs=2,
        metavar="RUN",
        help="compare two runs on the same test images (paired bootstrap, McNemar's exact test)",
    )
    other.add_argument(
        "--store", metavar="RUN", help="copy a run's small files, without weights, to the stored results"
    )
    other.add_argument(
        "--docs", type=Path, metavar="DIR", help="write a report on the stored results only to this folder"
    )
    other.add_argument(
        "--count",
        nargs="*",
        metavar="NETWORK",
        help=f"count parameters, MACs and file sizes of these networks again, into {costs.FILE}; without a name: of all, which "
        "takes about 20 minutes",
    )
    keep = parser.add_argument_group("with --store")
    keep.add_argument(
        "--as", dest="name", metavar="NAME", help="name of the stored result; default the run's name"
    )
    keep.add_argument("--gallery", action="store_true", help="store the gallery as well")
    keep.add_argument(
        "--unevaluated", action="store_true", help="accept a run without an evaluation on the test split"
    )


def main(args: argparse.Namespace) -> int:
    """Run `bdd report`; return the exit code.

    Raises:
        UsageError: If there are no runs, or no run with a given name.
        BddError: If two runs cannot be compared, or a run cannot be stored.
    """
    if args.store is None and (args.name or args.gallery or args.unevaluated):
        raise UsageError("--as, --gallery and --unevaluated need --store RUN.")
    if args.image is not None and not args.image.is_file():
        raise UsageError(f"no such file: {args.image} (--image)")
    if args.runs is not None:
        rows = [describe(run) for run in _chosen(args)]
        print(json.dumps(rows, indent=2) if args.json else side_by_side.markdown(rows).rstrip())
        return 0
    if args.compare:
        found = comparison.compare_runs(
            *(store.run_or_result(name, args.runs_dir, args.results_dir) for name in args.compare)
        )
        print(json.dumps(found, indent=2) if args.json else comparison.markdown(found).rstrip())
        return 0
    if args.store:
        run = existing_run(args.store, args.runs_dir)
        print(
            store.store(
                run, args.results_dir, name=args.name, gallery=args.gallery, unevaluated=args.unevaluated
            )
        )
        return 0
    if args.count is not None:
        from converters.benchmark_models import baseline, untrained

        counted = costs.count(untrained, baseline, args.count)
        stored = costs.read(args.results_dir) if args.count else []
        print(costs.write(args.results_dir, costs.merged(stored, counted)))
        return 0
    # Importing matplotlib takes a second, so the modules that draw are imported only here.
    from bdd_tf.reports.document import Report

    runs = store.collect(args.results_dir, None if args.docs else args.runs_dir)
    report = Report(runs, args.results_dir, args.docs or args.output)
    target = report.write(image=args.image, figures=not args.docs)
    print(json.dumps(report.rows, indent=2) if args.json else tables.runs(report.rows).rstrip())
    print(f"wrote {target}", file=sys.stderr)
    return 0


def _chosen(args: argparse.Namespace) -> list[Run]:
    """Return the runs of --runs, each once, in the given order."""
    if args.runs:
        return [
            store.run_or_result(name, args.runs_dir, args.results_dir) for name in dict.fromkeys(args.runs)
        ]
    found = store.runs_in(args.runs_dir)
    if not found:
        raise UsageError(
            f"there are no runs in {args.runs_dir}: train one with `bdd train`, or name another --runs-dir."
        )
    return found
