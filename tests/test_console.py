"""Progress on standard error: a bar on a terminal, lines elsewhere."""

import io
import sys
import time

import pytest

from bdd_tf import console
from bdd_tf.console import progress_bar


class Terminal(io.StringIO):
    def isatty(self):
        return True


def drawn(monkeypatch, stream, term="xterm", **options):
    monkeypatch.setattr(sys, "stderr", stream)
    monkeypatch.setenv("TERM", term)
    with progress_bar(40, "img", "epoch 1/2", **options) as bar:
        bar.set_postfix(loss="0.5", refresh=False)
        for _ in range(4):
            time.sleep(0.002)
            bar.update(10)
    return stream.getvalue()


@pytest.mark.parametrize("term", ["xterm", "dumb"])
def test_a_log_gets_lines_without_carriage_returns(monkeypatch, term):
    monkeypatch.setattr(console, "LOG_INTERVAL", 0)
    text = drawn(monkeypatch, Terminal() if term == "dumb" else io.StringIO(), term)
    assert not set("\r\x1b|") & set(text)
    lines = text.splitlines()
    assert len(lines) == len(set(lines)) >= 3
    assert all(line.startswith("epoch 1/2: ") and "loss=0.5" in line for line in lines)
    assert lines[-1].startswith("epoch 1/2: 100%, 40 of 40 img, ")


def test_a_log_gets_no_lines_of_short_work(monkeypatch):
    assert drawn(monkeypatch, io.StringIO()) == ""


def test_a_terminal_gets_a_bar(monkeypatch):
    text = drawn(monkeypatch, Terminal())
    assert "\repoch 1/2: " in text
    assert "|" in text
    assert drawn(monkeypatch, Terminal(), disable=True) == ""
