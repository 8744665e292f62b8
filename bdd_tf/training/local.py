"""Train on several processes of this machine: `bdd train --processes N` (no TensorFlow in this process until they end)."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path

from bdd_tf.config import Experiment
from bdd_tf.console import say
from bdd_tf.errors import BddError, UsageError
from bdd_tf.runs import Run
from bdd_tf.training.cluster import VARIABLE, describe, local_addresses

#: Process id of the launcher, without which a worker ends.
PARENT = "BDD_TRAIN_PARENT"
MAX_PROCESSES = 64
#: Seconds that the workers which are left have to end by themselves when one has failed, and then to obey SIGTERM.
GRACE_SECONDS = 30.0
TERM_SECONDS = 5.0
POLL_SECONDS = 0.2


@dataclass(frozen=True)
class Job:
    """What a worker needs to know, besides the experiment and the other workers.

    Attributes:
        run: The run's folder.
        runs_dir: Folder in which ``init`` looks up run names.
        loader_threads: Threads that decode and augment images; None: the data set's default.
        plugins: Values of ``--plugin``.
        join_seconds: How long to wait for the other workers.
    """

    run: str
    runs_dir: str
    loader_threads: int | None
    plugins: tuple[str, ...]
    join_seconds: float


def check_processes(count: int) -> None:
    """Check the number of local processes.

    Raises:
        UsageError: If it is out of range, or ``TF_CONFIG`` already names the workers.
    """
    if not 1 <= count <= MAX_PROCESSES:
        raise UsageError(f"--processes must be in 1 to {MAX_PROCESSES}; got {count}.")
    if os.environ.get(VARIABLE):
        raise UsageError(
            f"--processes starts workers on this machine, but {VARIABLE} names workers already; unset one of them."
        )


def train_locally(config: Experiment, job: Job) -> None:
    """Train an experiment by ``config.workers`` processes, each on its share of the cores.

    Standard error of the chief is this process's own; that of the others goes to ``workers/`` in the run's folder. If a
    process ends with an error, or this one is interrupted, all are stopped.

    Args:
        config: The experiment.
        job: Its folder and options.

    Raises:
        BddError: If a process fails.
    """
    logs = [Run(Path(job.run)).worker_log(index) for index in range(config.workers)]
    logs[0].parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps({"config": config.to_dict(), "job": asdict(job)})
    addresses = local_addresses(config.workers)
    say(f"{config.workers} processes; those without output here write {logs[1].parent}/*.log")
    processes: list[subprocess.Popen] = []
    with ExitStack() as stack:
        stack.callback(_stop, processes)
        for index in range(config.workers):
            error = None if index == 0 else stack.enter_context(logs[index].open("wb"))
            process = subprocess.Popen(
                [sys.executable, "-m", "bdd_tf.training.worker", text],
                env={**os.environ, VARIABLE: describe(addresses, index).text, PARENT: str(os.getpid())},
                stdin=subprocess.DEVNULL,
                stdout=error,
                stderr=error,
                # Ctrl-C reaches this process alone, which stops the others.
                start_new_session=True,
            )
            processes.append(process)
            _bind(process.pid, index, config.workers)
        _wait(processes, logs)


def _bind(pid: int, index: int, count: int) -> None:
    """Give a process its share of the cores, if there are enough and the system can."""
    if not hasattr(os, "sched_setaffinity"):
        return
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) >= count:
        os.sched_setaffinity(pid, cores[index * len(cores) // count : (index + 1) * len(cores) // count])


def _wait(processes: Sequence[subprocess.Popen], logs: Sequence[Path]) -> None:
    """Wait for the end of all processes.

    Raises:
        BddError: If one fails, as soon as the others had time to say so.
    """
    while True:
        codes = [process.poll() for process in processes]
        if not any(code is None for code in codes) and not any(codes):
            return
        # Of several that end at once, one that was killed is the cause.
        failed = min((code, index) for index, code in enumerate(codes) if code) if any(codes) else None
        if failed:
            break
        time.sleep(POLL_SECONDS)
    deadline = time.monotonic() + GRACE_SECONDS
    while time.monotonic() < deadline and any(process.poll() is None for process in processes):
        time.sleep(POLL_SECONDS)
    code, index = failed
    reason = f"exit code {code}" if code > 0 else f"signal {_signal(-code)}"
    where = "its message is above" if index == 0 else f"its messages are in {logs[index]}"
    raise BddError(
        f"worker {index} of {len(processes)} ended with {reason} ({where}), and the others were stopped; the same "
        "command goes on from the last checkpoint."
    )


def _signal(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return str(number)


def _stop(processes: Sequence[subprocess.Popen]) -> None:
    """End the processes that are still there."""
    left = [process for process in processes if process.poll() is None]
    for process in left:
        process.terminate()
    deadline = time.monotonic() + TERM_SECONDS
    for process in left:
        try:
            process.wait(max(deadline - time.monotonic(), 0))
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
