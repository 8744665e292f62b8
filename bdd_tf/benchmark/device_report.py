"""Describe the device of a benchmark: cores, temperature, throttling, and the slowest operators."""

from __future__ import annotations

import hashlib
from dataclasses import asdict
from pathlib import Path

from bdd_tf.devices.probe import Conditions, Facts


def throttling(facts: Facts, conditions: list[Conditions]) -> list[str]:
    """Return the reasons why the device ran slower than it can, as phrases; empty if there were none.

    Args:
        facts: The device.
        conditions: Its conditions during the measurement.
    """
    found = [word for c in conditions for word in c.throttled]
    capped = {
        core: limit
        for c in conditions
        for core, limit in c.limits.items()
        if limit < facts.cores.get(core, 0)
    }
    found += [f"core {core} capped at {limit / 1e6:.2f} of {facts.cores[core] / 1e6:.2f} GHz"
              for core, limit in sorted(capped.items())]  # fmt: skip
    return list(dict.fromkeys(found))


def describe_device(
    facts: Facts, conditions: list[Conditions], cores: list[int], *, pinned: bool, tool: Path | None
) -> tuple[list[str], dict]:
    """Describe a device and its conditions during a benchmark.

    Args:
        facts: The device.
        conditions: Its conditions, read before and during the measurement.
        cores: The cores that were used, fastest first.
        pinned: Whether programs were pinned to these cores.
        tool: LCE's benchmark tool, if it was used.

    Returns:
        Lines for the user, and the keys ``machine`` and ``device`` of the JSON document.
    """
    speeds = ", ".join(
        f"{n}" + (f" ({facts.cores[n] / 1e6:.2f} GHz)" if facts.cores[n] else "") for n in cores
    )
    celsius = [c.celsius for c in conditions if c.celsius is not None]
    reasons = throttling(facts, conditions)
    readable = any(c.limits or c.throttled or c.has_been for c in conditions)
    lines = [
        f"cores: {speeds}, the fastest of {len(facts.cores)}" + ("" if pinned else "; not pinned"),
        f"temperature: {celsius[0]:.0f} °C before, {max(celsius):.0f} °C at most" if celsius else "temperature: not readable",
        "throttled: " + (", ".join(reasons) if reasons else "no" if readable else "not readable"),
    ]  # fmt: skip
    about_tool = None
    if tool is not None:
        digest = hashlib.sha256(tool.read_bytes()).hexdigest()
        lines.append(f"LCE's tool: {tool}, SHA-256 {digest[:16]}...")
        about_tool = {"file": str(tool), "sha256": digest}
    data = {
        "machine": facts.name,
        "device": {
            "lce_tool": about_tool,
            "machine": facts.machine, "android": facts.android, "pinned": pinned, "cores": cores,
            "celsius_before": celsius[0] if celsius else None, "celsius_most": max(celsius) if celsius else None,
            "throttled": reasons if readable else None, "conditions": [asdict(c) for c in conditions],
        },
    }  # fmt: skip
    return lines, data


def slowest_operators(operators: dict[str, list[dict]], most: int = 8) -> list[str]:
    """Return the profile of the first contender that has one, as lines.

    Args:
        operators: By contender, the fields of `bdd_tf.devices.lce_output.Operator` per kind, slowest first.
        most: Largest number of kinds to list.
    """
    for name, kinds in operators.items():
        if kinds:
            lines = [f"operators of {name}, profiled in a separate run:"]
            lines += [
                f"  {k['milliseconds']:9.3f} ms {k['percent']:5.1f} %  {k['count']:4d} {k['kind']}"
                for k in kinds[:most]
            ]
            return lines
    return []
