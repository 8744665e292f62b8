"""The progress of `bdd detect`: a bar only on terminals, and never in the way of results and messages."""

import io
import sys
import threading

import numpy as np
import pytest
from PIL import Image

from bdd_tf.cli import main
from bdd_tf.commands import detect_progress
from bdd_tf.commands.detect_progress import Progress

ERASE = "\r\x1b[K"


class Terminal(io.StringIO):
    def isatty(self):
        return True

    def lines(self):
        """What a terminal shows at the end: `ERASE` empties the line that is being written."""
        return "\n".join(line.rpartition(ERASE)[2] for line in self.getvalue().split("\n"))


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


def counted(progress):
    for thread in threading.enumerate():
        if thread.name == "bdd-count":
            thread.join()
    return progress


def test_the_line_shows_count_rate_and_time_left():
    progress = counted(Progress(count=lambda: range(5000), stream=Terminal(), clock=Clock()))
    for _ in range(1250):
        progress.step()
    assert (
        progress.line(25.0) == "[#####---------------]  25%  1,250 of 5,000 images  50.0 images/s  1:15 left"
    )
    assert progress.line(25_000.0).endswith("0.1 images/s  20:50:00 left")
    unknown = Progress(stream=Terminal(), clock=Clock())
    unknown.step()
    assert unknown.line(2.0) == "1 images  0.5 images/s"
    # More files than were counted: no share above 100 %.
    wrong = counted(Progress(count=lambda: range(1), stream=Terminal(), clock=Clock()))
    wrong.step()
    wrong.step()
    assert "%" not in wrong.line(1.0)


def test_it_is_drawn_now_and_then_and_removed_for_everything_else():
    terminal, clock = Terminal(), Clock()
    with Progress(stream=terminal, clock=clock) as progress:
        for _ in range(1000):
            clock.now += 1 / 64
            progress.step()
        assert terminal.getvalue().count(ERASE) == pytest.approx((1000 / 64 - 0.5) / (7 / 64), abs=2)
        progress.message("bdd: a\x1b: broken")
        with progress.aside():
            terminal.write("FAKE b\n")
        clock.now += 1
        progress.step()
    assert terminal.lines() == "bdd: a\\x1b: broken\nFAKE b\n"


def test_without_a_terminal_it_is_a_line_every_half_minute():
    stream, clock = io.StringIO(), Clock()
    with Progress(stream=stream, clock=clock, count=lambda: range(1000)) as progress:
        for _ in range(800):
            clock.now += 0.125
            progress.step()
            counted(progress)
    first, *others = stream.getvalue().splitlines()
    assert first.startswith("bdd: 240 ")
    assert others == [
        "bdd: 480 of 1,000 images  8.0 images/s  1:05 left",
        "bdd: 720 of 1,000 images  8.0 images/s  0:35 left",
    ]
    assert not set("\r\x1b") & set(stream.getvalue())
    with Progress(stream=stream, clock=clock, quiet=True) as progress:
        clock.now += 100
        progress.step()
    assert stream.getvalue().count("\n") == 3


def test_a_line_is_never_longer_than_the_terminal(monkeypatch):
    monkeypatch.setenv("COLUMNS", "40")
    terminal, clock = Terminal(), Clock()
    progress = counted(Progress(count=lambda: range(10**5), stream=terminal, clock=clock))
    clock.now = 1.0
    progress.step()
    assert max(map(len, terminal.getvalue().split(ERASE))) == 39


def test_a_search_that_fails_leaves_the_total_unknown():
    def broken():
        yield 1
        raise OSError("unreadable")

    progress = counted(Progress(count=broken, stream=Terminal(), clock=Clock()))
    progress.step()
    assert progress.line(1.0) == "1 images  1.0 images/s"


@pytest.mark.parametrize("why", ["terminal", "quiet", "no terminal", "dumb"])
def test_bdd_detect_draws_it_only_on_terminals_and_not_quietly(tmp_path, monkeypatch, capsys, why):
    for name in "abc":
        pixels = np.random.default_rng(0).integers(0, 256, (16, 16, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{name}.png")
    monkeypatch.setattr(detect_progress, "DELAY", 0.0)
    monkeypatch.setenv("TERM", "dumb" if why == "dumb" else "xterm")
    stream = io.StringIO() if why == "no terminal" else Terminal()
    monkeypatch.setattr(sys, "stderr", stream)
    quiet = ["--quiet"] if why == "quiet" else []
    assert main(["detect", str(tmp_path), "--model", "cifake", *quiet]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 3
    assert ("images/s" in stream.getvalue().split("bdd:")[0]) == (why == "terminal")
    if why == "terminal":
        assert stream.lines().startswith("bdd: 3 images: ")
