"""Print and write benchmark results as a table, CSV, JSON and a figure."""

from __future__ import annotations

import csv
import io
import json
import os
import platform
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from bdd_tf.benchmark.contenders import Result


def table(results: Sequence[Result]) -> str:
    """Format results as an aligned text table."""
    lines = [("", "engine", "kernels", "threads", "median ms", "p90 ms", "ratio", "MB", "peak MiB")]
    for r in results:
        start = (r.name, r.engine, r.kernels or "-", str(r.threads))
        if r.error:
            lines.append((*start, r.error, "", "", "", ""))
            continue
        lines.append(
            (*start, f"{r.median_ms:.2f}", f"{r.p90_ms:.2f}", "-" if r.ratio is None else f"{r.ratio:.2f}",
             f"{r.bytes / 1e6:.2f}" if r.bytes else "-", "-" if r.peak_mib is None else f"{r.peak_mib:.0f}")
        )  # fmt: skip
    widths = [max(len(line[i]) for line in lines if i < 4 or line[6]) for i in range(9)]
    return "\n".join(
        "  ".join(
            text.ljust(w) if i < 3 else text.rjust(w)
            for i, (text, w) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    )


def standings(results: Sequence[Result]) -> list[str]:
    """Say for each number of threads which contenders the measured model is ahead of.

    Args:
        results: The results, those of the model first.

    Returns:
        A line per number of threads for which other contenders ran; ratios are of medians, with the model's fastest
        engine and kernels.
    """
    lines = []
    ran = [(r, r.median_ms) for r in results if r.median_ms is not None]
    for threads in sorted({r.threads for r, _ in ran}):
        own = [(median, r) for r, median in ran if r.threads == threads and r.name == results[0].name]
        others = [(r, median) for r, median in ran if r.threads == threads and r.name != results[0].name]
        if not own or not others:
            continue
        time, best = min(own, key=lambda pair: pair[0])
        ratios = sorted((time / median, r.name) for r, median in others)
        ahead = [
            f"{name} ({ratio:.{2 if ratio >= 0.1 else 3}f} of its time)"
            for ratio, name in ratios
            if ratio < 1
        ]
        behind = [f"{name} ({ratio:.2f} of its time)" for ratio, name in ratios if ratio >= 1]
        parts = [
            f"{word} {', '.join(names)}" for word, names in (("ahead of", ahead), ("behind", behind)) if names
        ]
        how = f" with {best.kernels}" if best.kernels else ""
        lines.append(f"{threads} thread{'s' * (threads > 1)}: {best.name}{how} is {'; '.join(parts)}.")
    return lines


def machine() -> str:
    """Describe this machine in a line: processor, cores, system."""
    name = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.is_file() else []
    # On x86 there is a line per core, on a Raspberry Pi one for the board.
    found = [line.partition(":")[2].strip() for line in lines if line.startswith(("model name", "Model\t"))]
    name = found[-1] if found else name
    return f"{name}, {len(os.sched_getaffinity(0))} cores, {platform.system()} {platform.machine()}"


def as_csv(results: Sequence[Result]) -> str:
    """Format results as CSV with a header."""
    text = io.StringIO()
    writer = csv.DictWriter(text, list(asdict(results[0])), lineterminator="\n")
    writer.writeheader()
    writer.writerows(asdict(r) for r in results)
    return text.getvalue()


def show(results: Sequence[Result], where: str, *, json_lines: bool, csv_lines: bool) -> None:
    """Print results as JSON lines, as CSV, or as a table below a description of the machine, with `standings`."""
    if json_lines:
        for r in results:
            print(json.dumps({k: v for k, v in asdict(r).items() if k != "error" or v is not None}))
    elif csv_lines:
        print(as_csv(results), end="")
    else:
        print("\n".join((f"{where}; batch 1, in turns", table(results), *standings(results))))


def write(results: Sequence[Result], folder: Path, title: str, about: dict | None = None) -> list[Path]:
    """Write results as JSON, CSV and a chart.

    Args:
        results: The results.
        folder: Folder for ``benchmark.json``, ``benchmark.csv`` and ``benchmark.png``; created if missing.
        title: Title of the chart.
        about: Further keys of the JSON document. ``machine`` describes this machine by default.

    Returns:
        Paths of the files. There is no chart if no contender ran.
    """
    from bdd_tf.figures.speed import latency_dots
    from bdd_tf.files import write_atomically

    folder.mkdir(parents=True, exist_ok=True)
    records = [asdict(r) for r in results]
    paths = [folder / f"benchmark.{end}" for end in ("json", "csv", "png")]
    document = {"machine": machine(), **(about or {}), "results": records}
    write_atomically(paths[0], (json.dumps(document, indent=2) + "\n").encode())
    write_atomically(paths[1], as_csv(results).encode())
    ran = [(r, r.median_ms, r.p90_ms or r.median_ms) for r in results if r.median_ms is not None]
    rows = []
    for r, median, p90 in ran:
        how = r.kernels or ("float32" if r.engine == "torch" else "xnnpack")
        threads = f"{r.threads} thread{'s' * (r.threads > 1)}"
        rows.append((f"{r.name} ({r.engine}, {how}, {threads})", median, p90))
    own = sum((r.name, r.engine) == (results[0].name, results[0].engine) for r, *_ in ran)
    if not rows:
        return paths[:2]
    latency_dots(paths[2], rows, own=own, title=title)
    return paths
