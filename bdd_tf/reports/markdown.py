"""Format values as Markdown tables, which are readable in a terminal as well."""

from __future__ import annotations

from bdd_tf.reports.parsing import escaped

#: Cell of an unknown value.
ABSENT = "–"


def percent(value: float | None, interval: list[float] | None = None) -> str:
    """Format a value in [0, 1] as a percentage with two decimals, and its interval in brackets."""
    if value is None:
        return ABSENT
    ends = f" [{100 * interval[0]:.2f}, {100 * interval[1]:.2f}]" if interval else ""
    return f"{100 * value:.2f}{ends}"


def count(value: float | None) -> str:
    """Format a count; from a million on with a unit."""
    if value is None:
        return ABSENT
    for unit, factor in (("G", 1e9), ("M", 1e6)):
        if value >= factor:
            return f"{value / factor:.2f} {unit}"
    return f"{value:,}"


def cell(value: object) -> str:
    """Format a value from a file, or an unknown one, as a cell."""
    return ABSENT if value is None else escaped(value)


def megabytes(size: float | None) -> str:
    """Format a size in bytes as MB with two decimals."""
    return ABSENT if size is None else f"{size / 1e6:.2f}"


def latency_ms(found: dict | None) -> str:
    """Format a latency (`bdd_tf.reports.latency.Latency.to_dict`) in ms, with its threads unless there is one."""
    if found is None:
        return ABSENT
    return f"{found['median_ms']:.2f}" + ("" if found["threads"] == 1 else f" ({found['threads']} threads)")


def table(header: list[str], rows: list[list[str]], numbers_from: int) -> str:
    """Format a Markdown table.

    Args:
        header: Titles of the columns.
        rows: Cells of each row.
        numbers_from: Index of the first right-aligned column.
    """
    widths = [max(3, *(len(row[i]) for row in [header, *rows])) for i in range(len(header))]

    def line(cells: list[str]) -> str:
        padded = (
            c.rjust(w) if i >= numbers_from else c.ljust(w)
            for i, (c, w) in enumerate(zip(cells, widths, strict=True))
        )
        return f"| {' | '.join(padded)} |"

    rule = ("-" * (w - 1) + ":" if i >= numbers_from else "-" * w for i, w in enumerate(widths))
    return "\n".join([line(header), f"| {' | '.join(rule)} |", *map(line, rows)])
