"""`bdd report`: the paper's tables and figures from stored results and runs, and the comparison of two runs."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from bdd_tf.errors import UsageError
from bdd_tf.reports import comparison, costs, store, tables
from bdd_tf.runs import RUNS_DIR, existing_run

OUTPUT = Path("build") / "report"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `bdd report`."""
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
        "--output", type=Path, default=OUTPUT, metavar="DIR", help=f"where the report goes; default {OUTPUT}"
    )
    parser.add_argument("--image", type=Path, help="image whose channels are shown; default a photograph")
    parser.add_argument("--json", action="store_true", help="print JSON instead of Markdown")
    other = parser.add_mutually_exclusive_group()
    other.add_argument(
        "--compare",
        nargs=2,
        metavar="RUN",
        help="compare two runs on the same test images (paired bootstrap, McNemar's exact test)",
    )
    other.add_argument(
        "--store", metavar="RUN", help="keep a run's small files in the folder of stored results; no weights"
    )
    other.add_argument(
        "--docs", type=Path, metavar="DIR", help="write the report there, from stored results alone"
    )
    other.add_argument(
        "--count", action="store_true", help=f"count networks anew into {costs.FILE}; takes about 20 minutes"
    )
    keep = parser.add_argument_group("with --store")
    keep.add_argument("--as", dest="name", metavar="NAME", help="another name than the run's")
    keep.add_argument("--gallery", action="store_true", help="keep its gallery as well")
    keep.add_argument(
        "--unevaluated", action="store_true", help="even without an evaluation on the test split"
    )


def main(args: argparse.Namespace) -> int:
    """Run `bdd report`; returns the exit code.

    Raises:
        UsageError: If there are no runs, or none of a given name.
        BddError: If two runs cannot be compared, or a run cannot be stored.
    """
    if args.store is None and (args.name or args.gallery or args.unevaluated):
        raise UsageError("--as, --gallery and --unevaluated go with --store RUN.")
    if args.image is not None and not args.image.is_file():
        raise UsageError(f"--image {args.image}: there is no such file.")
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
    if args.count:
        print(costs.write(args.results_dir, costs.count()))
        return 0
    # Pictures need matplotlib, which takes a second to load: only where they are drawn.
    from bdd_tf.reports.document import Report

    runs = store.collect(args.results_dir, None if args.docs else args.runs_dir)
    report = Report(runs, args.results_dir, args.docs or args.output)
    target = report.write(image=args.image, figures=not args.docs)
    print(json.dumps(report.rows, indent=2) if args.json else tables.runs(report.rows).rstrip())
    print(f"wrote {target}", file=sys.stderr)
    return 0
