"""The example of the manual: it runs, and every kernel set that it names gives one score."""

import re
from pathlib import Path

import pytest

from bdd_tf.edge.runtime import available_kernels

MANUAL = Path(__file__).resolve().parents[3] / "docs" / "edge-runtime.md"


def test_the_kernel_sets_of_the_manual_agree():
    (example,) = re.findall(
        r"^```python\n([^`]*available_kernels\(\)[^`]*)^```$", MANUAL.read_text(), re.MULTILINE
    )
    found = {}
    exec(compile(example, str(MANUAL), "exec"), found)
    scores = found["scores"]
    assert tuple(scores) == available_kernels()
    assert 0.1 < scores["scalar"] < 0.9  # not saturated
    assert list(scores.values()) == pytest.approx([scores["scalar"]] * len(scores), abs=1e-5)
