"""Measure models in processes of their own, in turns."""

from __future__ import annotations

import math
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Protocol

from bdd_tf.benchmark.contenders import Contender, Result, result_of, with_ratios
from bdd_tf.console import say
from bdd_tf.edge.benchmark import hub

#: Runs before the measurement.
_WARM_UP = 2
#: Target duration of a turn in seconds.
_SECONDS_PER_TURN = 0.05
#: Seconds after which each round is announced, not every fifth only.
_SILENCE = 10


class Channel(Protocol):
    """A connection to a process that runs a contender, here or on a device."""

    def ask(self, message: dict) -> dict:
        """Send a message and wait for the answer."""

    def close(self) -> None:
        """End the process."""


class TurnTaker(Protocol):
    """A contender that can be measured in turns: `Worker`, or LCE's tool on a device."""

    contender: Contender
    turn: int

    def run(self, runs: int, *, count: bool = True) -> None:
        """Run a number of times; the times are recorded if `count` is True."""


class LocalChannel:
    """A process on this machine that waits for its contender."""

    _process: subprocess.Popen[str]

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "bdd_tf.edge.benchmark.worker"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=_environment(),
        )  # fmt: skip

    def ask(self, message: dict) -> dict:
        """Send a message and wait for the answer."""
        return hub.ask(self._process, message)

    def close(self) -> None:
        """End the process."""
        hub.close(self._process)


class Worker:
    """A contender in a process of its own, here or on a device. It runs only on request.

    Args:
        contender: The contender.
        cores: Cores to use, fastest first; one per thread is used.
        channel: The connection to the process.
        path: Path of the file on the machine of the process; None: the contender's path.

    Attributes:
        error: Reason for a failure, or None.
        seconds: Time of each recorded run.
        peak: Peak resident memory in MiB, once it ran.
        turn: Number of runs in a turn, chosen by the warm-up.
    """

    def __init__(
        self, contender: Contender, cores: list[int], channel: Channel, path: str | None = None
    ) -> None:
        self.contender, self.turn = contender, 1
        self.error: str | None = None
        self.seconds: list[float] = []
        self.peak: float | None = None
        self._channel = channel
        message = {**asdict(contender), "cores": cores[: max(contender.threads, 1)]}
        self._ask(message if path is None else {**message, "path": path})

    def _ask(self, message: dict) -> dict:
        answer = self._channel.ask(message)
        if answer.get("error"):
            self.error = answer["error"].splitlines()[0]
            return {}
        return answer

    def run(self, runs: int, *, count: bool = True) -> None:
        """Run a number of times; without `count`, only choose the length of a turn."""
        if self.error is not None:
            return
        answer = self._ask({"runs": runs})
        if count:
            self.seconds += answer.get("seconds", [])
        elif answer:
            self.turn = int(min(max(_SECONDS_PER_TURN / max(min(answer["seconds"]), 1e-6), 1), 50))
        self.peak = answer.get("peak_mib")

    def close(self) -> None:
        """End the process."""
        self._channel.close()

    def result(self) -> Result:
        """Return the result, without the ratio."""
        return result_of(self.contender, [1e3 * s for s in self.seconds], self.peak, self.error)


def _environment() -> dict[str, str]:
    root = str(Path(__file__).resolve().parents[2])
    path = os.environ.get("PYTHONPATH")
    return {
        **os.environ,
        "PYTHONPATH": f"{root}{os.pathsep}{path}" if path else root,
        "TF_CPP_MIN_LOG_LEVEL": "3",
    }


def measure(contenders: list[Contender], rounds: int = 20) -> list[Result]:
    """Measure contenders in turns.

    Args:
        contenders: The first one is the reference of the ratios.
        rounds: Number of turns of each contender.

    Returns:
        A result per contender, in the same order.
    """
    cores = sorted(os.sched_getaffinity(0))
    workers: list[Worker] = []
    try:
        for contender in contenders:
            how = " ".join(word for word in (contender.engine, contender.kernels) if word)
            say(f"preparing {contender.name} ({how}, {contender.threads} threads)", prefix="bdd")
            workers.append(Worker(contender, cores, LocalChannel()))
        take_turns(workers, rounds)
        return with_ratios([worker.result() for worker in workers])
    finally:
        for worker in workers:
            worker.close()


def take_turns(workers: Sequence[TurnTaker], rounds: int, after: Callable[[], None] | None = None) -> None:
    """Warm up all contenders, then measure them in turns, so that other load affects all of them equally.

    Args:
        workers: The contenders.
        rounds: Number of turns of each contender.
        after: Called after each round.
    """
    for worker in workers:
        worker.run(_WARM_UP, count=False)
    said = -math.inf
    for i in range(rounds):
        if i % 5 == 0 or time.monotonic() - said > _SILENCE:
            say(f"round {i + 1} of {rounds}", prefix="bdd")
            said = time.monotonic()
        for worker in workers:
            worker.run(worker.turn)
        if after is not None:
            after()
