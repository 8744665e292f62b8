"""Damaged and hostile files: no exception, bounded memory, bounded time."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import tracemalloc
import unicodedata
from pathlib import Path

from bdd_tf.edge.evidence import find_evidence
from bdd_tf.edge.evidence.item import Evidence
from tests.edge.evidence.mutations import expensive, mutated

MUTATED = 200
MOST_ITEMS, MOST_TEXT = 48, 500
#: A hundred times what they take: a machine may be busy.
MOST_SECONDS = 20

ROOT = Path(__file__).resolve().parents[3]
#: The peak of a process that walks every file, beside that of one that only makes them.
PROGRAM = """
import json, resource, sys
from bdd_tf.edge.evidence import find_evidence
from tests.edge.evidence.mutations import expensive
find_evidence(b"")
files = expensive()
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
for content in files.values():
    find_evidence(content)
print(json.dumps([before, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss]))
"""


def _check(found: tuple[Evidence, ...], name: str) -> None:
    assert len(found) <= MOST_ITEMS, name
    for item in found:
        assert len(item.says) <= MOST_TEXT, name
        assert not [
            c for c in item.says + item.where if unicodedata.category(c) in ("Cc", "Zl", "Zp", "Cs")
        ], name


def test_mutated_files_raise_nothing():
    tracemalloc.start()
    try:
        for name, content in mutated(MUTATED):
            started = time.perf_counter()
            _check(find_evidence(content), name)
            assert time.perf_counter() - started < MOST_SECONDS, name
        assert tracemalloc.get_traced_memory()[1] < 100 << 20
    finally:
        tracemalloc.stop()


def test_expensive_files_are_bounded():
    for name, content in expensive().items():
        started = time.perf_counter()
        _check(find_evidence(content), name)
        assert time.perf_counter() - started < MOST_SECONDS, name


def test_memory_is_bounded():
    """In a process of its own, whose peak is known."""
    paths = os.pathsep.join((str(ROOT), *filter(None, sys.path)))
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": paths},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    before, after = json.loads(done.stdout)
    assert after - before < 100 << 10  # KiB


def test_a_large_file_is_read_in_part(tmp_path):
    """A sparse file of 3 GB: its beginning is walked."""
    from tests.edge.evidence.containers import png, text_chunk

    path = tmp_path / "large.png"
    with path.open("wb") as file:
        file.write(png(text_chunk("Software", "GIMP")))
        file.truncate(3 << 30)
    tracemalloc.start()
    found = find_evidence(path)
    assert tracemalloc.get_traced_memory()[1] < 100 << 20
    tracemalloc.stop()
    assert {item.kind for item in found} == {"editor", "trailing_bytes"}
