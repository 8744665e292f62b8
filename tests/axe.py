"""axe-core, which examines the accessibility of a page: its source, and its findings."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.chromium import Browser

VERSION = "4.10.2"


def axe_source(folder: Path) -> str:
    """The source of axe-core, from npm; the test is skipped where it cannot be installed."""
    npm = shutil.which("npm")
    if npm is None:
        pytest.skip("no npm here")
    done = subprocess.run(
        [npm, "install", "--silent", "--no-audit", "--no-fund", "--ignore-scripts", f"axe-core@{VERSION}"],
        cwd=folder, capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    if done.returncode:
        pytest.skip(f"axe-core cannot be installed by npm: {done.stderr.strip()[:200]}")
    return (folder / "node_modules" / "axe-core" / "axe.min.js").read_text()


def faults(page: Browser, source: str) -> object:
    """Rule, impact and elements of each fault of the open page."""
    page.evaluate(f"(() => {{ {source}; globalThis.axe = axe ?? window.axe; }})()")
    return page.evaluate(
        "axe.run().then((r) => r.violations.map((v) => [v.id, v.impact, v.nodes.map((n) => n.html)]))"
    )
