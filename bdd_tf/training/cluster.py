"""The workers of a training as the environment describes them: ``TF_CONFIG``, SLURM, or local processes. No TensorFlow."""

from __future__ import annotations

import faulthandler
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bdd_tf.console import say
from bdd_tf.errors import UsageError

VARIABLE = "TF_CONFIG"
#: Seconds that a worker waits at the start for the others.
JOIN_SECONDS = 300.0
#: Tasks of ``TF_CONFIG`` that train, in the order in which TensorFlow numbers them.
_JOBS = ("chief", "worker")
_ADDRESS = re.compile(r"(?P<host>[^\s:/]+|\[[0-9A-Fa-f:]+\]):(?P<port>\d{1,5})")
#: Most workers; a larger number is a mistake.
MAX_WORKERS = 1024
_EXAMPLE = '{"cluster": {"worker": ["HOST:PORT", "HOST:PORT"]}, "task": {"type": "worker", "index": 0}}'


@dataclass(frozen=True)
class Cluster:
    """Addresses of all workers, and which of them this process is.

    Attributes:
        addresses: ``HOST:PORT`` of every worker; the first one is the chief, which writes the run folder.
        index: This process's place among them.
        text: Value of ``TF_CONFIG`` for TensorFlow.
    """

    addresses: tuple[str, ...]
    index: int
    text: str

    @property
    def same_host(self) -> int:
        """Number of workers before this one on its host: which of the host's GPUs is this worker's."""
        host = self.addresses[self.index].rpartition(":")[0]
        return sum(address.rpartition(":")[0] == host for address in self.addresses[: self.index])


def describe(addresses: tuple[str, ...], index: int) -> Cluster:
    """Return the cluster of workers at these addresses."""
    task = {"type": "worker", "index": index}
    return Cluster(addresses, index, json.dumps({"cluster": {"worker": list(addresses)}, "task": task}))


def from_environment(environment: Mapping[str, str] | None = None) -> Cluster | None:
    """Read ``TF_CONFIG``, as Kubernetes' training operator and others set it.

    Args:
        environment: Variables by name; None: those of the process.

    Returns:
        The cluster; None without the variable, or if it names no more than this process.

    Raises:
        UsageError: For text that is no JSON, and for values that describe no training.
    """
    text = (os.environ if environment is None else environment).get(VARIABLE, "").strip()
    if not text:
        return None
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        raise UsageError(f"{VARIABLE} is no JSON: {_short(text)}; it should look like {_EXAMPLE}.") from None
    cluster, task = (value.get(key) if isinstance(value, dict) else None for key in ("cluster", "task"))
    if not cluster and isinstance(value, dict):
        return None  # TensorFlow, too, takes it for a single machine
    if not isinstance(cluster, dict) or not isinstance(task, dict):
        raise UsageError(f"{VARIABLE} needs the objects cluster and task: {_EXAMPLE}; got {_short(text)}.")
    others = sorted(str(job) for job in cluster if job not in _JOBS)
    if others:
        raise UsageError(
            f"{VARIABLE} has tasks of type {', '.join(others)}; a training has {' and '.join(_JOBS)} only."
        )
    lists = {job: _addresses(job, cluster[job]) for job in _JOBS if job in cluster}
    job, index = task.get("type"), task.get("index")
    if isinstance(index, str) and index.isascii() and index.isdigit():  # some operators quote it
        index = int(index)
    if not isinstance(job, str) or job not in lists or isinstance(index, bool) or not isinstance(index, int):
        raise UsageError(
            f"the task of {VARIABLE} must be one of the cluster, such as "
            f'{{"type": "worker", "index": 0}}; got {_short(json.dumps(task))}.'
        )
    if not 0 <= index < len(lists[job]):
        raise UsageError(
            f"{VARIABLE} has {len(lists[job])} tasks of type {job}, so its index is 0 to {len(lists[job]) - 1}; got {index}."
        )
    return _cluster(lists, job, index, text)


def _cluster(lists: dict[str, tuple[str, ...]], job: str, index: int, text: str) -> Cluster | None:
    addresses = tuple(address for known in _JOBS for address in lists.get(known, ()))
    if len(set(addresses)) < len(addresses):
        raise UsageError(f"{VARIABLE} gives an address to two workers: {', '.join(addresses)}.")
    if len(addresses) > MAX_WORKERS:
        raise UsageError(f"{VARIABLE} has {len(addresses)} workers; at most {MAX_WORKERS} train together.")
    if len(lists.get("chief", ())) > 1:
        raise UsageError(f"{VARIABLE} has {len(lists['chief'])} chiefs; there is one.")
    if len(addresses) == 1:
        return None
    before = len(lists.get("chief", ())) if job == "worker" else 0
    return Cluster(addresses, before + index, text)


def _addresses(job: str, value: Any) -> tuple[str, ...]:
    if not isinstance(value, list) or not value:
        raise UsageError(f"{VARIABLE}: {job} must be a list of HOST:PORT; got {_short(json.dumps(value))}.")
    for address in value:
        match = _ADDRESS.fullmatch(address) if isinstance(address, str) else None
        if match is None or not 0 < int(match["port"]) < 65536:
            raise UsageError(f"{VARIABLE}: {job} has {_short(json.dumps(address))}, which is no HOST:PORT.")
    return tuple(value)


def _short(text: str) -> str:
    return repr(text if len(text) <= 80 else f"{text[:77]}...")


def from_slurm(port: int = 8888) -> Cluster | None:
    """Read the environment of a SLURM step, by TensorFlow's `SlurmClusterResolver`.

    SLURM binds the GPUs itself (``srun --gpus-per-task 1``).

    Args:
        port: Port of the first worker of every node; further ones on a node count up.

    Returns:
        The cluster; None for a step of one task.

    Raises:
        UsageError: Outside of a SLURM step.
    """
    from bdd_tf.legacy_keras import tf

    try:
        # Without the counts the resolver calls nvidia-smi, and fails where there is none.
        resolver = tf.distribute.cluster_resolver.SlurmClusterResolver(
            port_base=port, gpus_per_node=MAX_WORKERS, gpus_per_task=1, auto_set_gpu=False
        )
        addresses = tuple(resolver.cluster_spec().as_dict()["worker"])
        index = int(resolver.task_id)
    except (RuntimeError, KeyError, ValueError, TypeError) as error:
        raise UsageError(
            f"--cluster slurm needs the variables of a SLURM step ({error}); start the command with srun."
        ) from None
    return describe(addresses, index) if len(addresses) > 1 else None


def local_addresses(count: int) -> tuple[str, ...]:
    """Return so many free addresses on the loopback interface."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return tuple(f"127.0.0.1:{one.getsockname()[1]}" for one in sockets)


def silent(cluster: Cluster) -> list[str]:
    """Return the workers that accept no connection within two seconds, as ``worker 1 (HOST:PORT)``."""

    def answers(address: str) -> bool:
        host, _, port = address.rpartition(":")
        try:
            socket.create_connection((host.strip("[]"), int(port)), timeout=2).close()
        except OSError:
            return False
        return True

    with ThreadPoolExecutor(64) as pool:
        found = list(pool.map(answers, cluster.addresses))
    return [f"worker {number} ({cluster.addresses[number]})" for number, here in enumerate(found) if not here]


#: Seconds after its time in which a worker that waits has ended: the workers that are missing are found out in them.
LAST_SECONDS = 5.0


@contextmanager
def bounded(cluster: Cluster, seconds: float) -> Iterator[None]:
    """Wait for the other workers within a ``with`` block, but not for ever.

    TensorFlow holds the interpreter's lock while it waits, so that neither a thread nor Ctrl-C could interrupt it. Another
    process prints the message, a timer of the interpreter that needs no lock ends this process with exit code 1, and Ctrl-C
    ends it without asking the interpreter.

    Args:
        cluster: The workers.
        seconds: How long to wait.
    """
    code = [sys.executable, "-m", "bdd_tf.training.cluster"]
    given = [json.dumps(cluster.addresses), str(cluster.index), str(seconds)]
    main = threading.current_thread() is threading.main_thread()
    with Path(os.devnull).open("w") as nowhere:
        watch = subprocess.Popen([*code, *given], stdin=subprocess.DEVNULL)
        faulthandler.dump_traceback_later(seconds + LAST_SECONDS, exit=True, file=nowhere)
        before = signal.signal(signal.SIGINT, signal.SIG_DFL) if main else None
        try:
            yield
        finally:
            if main:
                signal.signal(signal.SIGINT, before)
            faulthandler.cancel_dump_traceback_later()
            watch.kill()
            watch.wait()


def _watch(cluster: Cluster, seconds: float) -> None:
    """Name the missing workers when the time is over, unless the parent has ended."""
    parent, deadline = os.getppid(), time.monotonic() + seconds
    while time.monotonic() < deadline:
        time.sleep(min(1.0, max(deadline - time.monotonic(), 0.0)))
        if os.getppid() != parent:
            return
    missing = ", ".join(silent(cluster)) or "the others, though all accept connections"
    say(
        f"bdd: error: worker {cluster.index} of {len(cluster.addresses)} has waited {seconds:g} s for {missing}; start "
        f"all workers within that time, and check {VARIABLE}, the network and --join-timeout."
    )


if __name__ == "__main__":
    _watch(describe(tuple(json.loads(sys.argv[1])), int(sys.argv[2])), float(sys.argv[3]))
