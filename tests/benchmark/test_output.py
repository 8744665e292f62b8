"""The sentences below a benchmark's table."""

from bdd_tf.benchmark.contenders import Result
from bdd_tf.benchmark.output import standings


def row(name, threads, median, kernels=None, error=None):
    return Result(name, "litert", kernels, threads, median_ms=median, error=error)


def test_the_fastest_kernels_are_compared_with_each_competitor():
    results = [
        row("ours", 1, 5.0, "avx512"), row("ours", 1, 4.0, "avx2"), row("ours", 2, 3.0, "avx2"),
        row("slow", 1, 50.0), row("fast", 1, 2.0), row("slow", 2, 6.0),
    ]  # fmt: skip
    assert standings(results) == [
        "1 thread: ours with avx2 is ahead of slow (0.080 of its time); behind fast (2.00 of its time).",
        "2 threads: ours with avx2 is ahead of slow (0.50 of its time).",
    ]


def test_without_competitors_that_ran_nothing_is_said():
    assert standings([row("ours", 1, 5.0), row("broken", 1, None, error="no run")]) == []
    assert standings([row("ours", 1, None, error="no run"), row("other", 1, 2.0)]) == []
