"""The workers of a training as one: sums over all of them.

`tf.distribute.MultiWorkerMirroredStrategy` connects the workers and notices a dead one; its all-reduce is all that the
training uses of it. The variables are ordinary ones, of which every worker holds equal copies. Under the strategy's scope
Keras would average moving statistics in its own way, each checkpoint would need all workers, and the native kernels'
``numpy_function`` would run inside of a replica's context. A sum in the right place is simpler, and equals by construction
one process that accumulates gradients (:mod:`bdd_tf.training.step`).
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np

from bdd_tf.console import say
from bdd_tf.datasets.share import Share
from bdd_tf.edge.standard_error import without_lines
from bdd_tf.errors import BddError, UsageError
from bdd_tf.legacy_keras import tf
from bdd_tf.training.cluster import JOIN_SECONDS, VARIABLE, Cluster, bounded

#: What TensorFlow raises in the workers that are left when one ends.
_LOST = (
    tf.errors.UnavailableError, tf.errors.AbortedError, tf.errors.CancelledError, tf.errors.DeadlineExceededError,
    tf.errors.FailedPreconditionError,
)  # fmt: skip
#: Messages of TensorFlow's server, which precede any log level.
_NOISE = re.compile(
    rb"absl::InitializeLog|grpc_server_lib|coordination_service_agent|server_chttp2|context_distributed_manager"
)


class Workers:
    """A process that trains alone; :class:`_Group` is one of several.

    Attributes:
        share: Which of the batches are this worker's.
    """

    share = Share()

    @property
    def count(self) -> int:
        """Number of workers."""
        return self.share.count

    @property
    def index(self) -> int:
        """Number of this worker, from 0."""
        return self.share.index

    @property
    def chief(self) -> bool:
        """Whether this worker writes the run folder."""
        return self.index == 0

    def total(self, values: tf.Tensor) -> tf.Tensor:
        """Add up a tensor of equal shape and dtype over all workers, in a graph or eagerly; all get the same bits."""
        return values

    def of_chief(self, variables: Sequence[tf.Variable]) -> None:
        """Give variables the chief's values."""

    def agree(self, yes: bool) -> bool:
        """Return the chief's answer."""
        return yes

    def gather(self, values: np.ndarray) -> list[np.ndarray]:
        """Return the arrays of all workers, in their order.

        Args:
            values: Any 1-D array, of this worker's own length.
        """
        return [values]

    def check_equal(self, text: str, what: str) -> None:
        """Check that all workers have the same text.

        Raises:
            UsageError: In all workers, if one has another; names it.
        """

    @contextmanager
    def together(self) -> Iterator[None]:
        """Turn the end of another worker into a sentence, within a ``with`` block.

        Raises:
            BddError: If a worker ends or its connection breaks.
        """
        yield


#: The workers of an ordinary training.
ALONE = Workers()


class _Group(Workers):
    """One of several workers.

    Args:
        strategy: The connected strategy.
        share: This worker's part.
    """

    def __init__(self, strategy: tf.distribute.Strategy, share: Share):
        self._strategy, self.share = strategy, share
        self._traced: dict[tuple, tf.types.experimental.ConcreteFunction] = {}

    def total(self, values: tf.Tensor) -> tf.Tensor:
        def add(part: tf.Tensor) -> tf.Tensor:
            # `identity` puts the tensor on the replica's device.
            return tf.distribute.get_replica_context().all_reduce(
                tf.distribute.ReduceOp.SUM, tf.identity(part)
            )

        return self._strategy.run(add, args=(values,))

    def _total(self, values: tf.Tensor) -> tf.Tensor:
        """:meth:`total` outside of a graph."""
        key = (values.dtype, tuple(values.shape))
        if key not in self._traced:
            function = tf.function(self.total, autograph=False)
            self._traced[key] = function.get_concrete_function(tf.TensorSpec(values.shape, values.dtype))
        return self._traced[key](values)

    def of_chief(self, variables: Sequence[tf.Variable]) -> None:
        by_type: dict[tf.DType, list[tf.Variable]] = {}
        for variable in variables:
            by_type.setdefault(variable.dtype, []).append(variable)
        for kind, same in by_type.items():
            flat = tf.concat([tf.reshape(variable, [-1]) for variable in same], axis=0)
            sizes = [int(np.prod(variable.shape)) for variable in same]
            total = self._total(flat if self.chief else tf.zeros_like(flat))
            for variable, part in zip(same, tf.split(tf.cast(total, kind), sizes), strict=True):
                variable.assign(tf.reshape(part, variable.shape))

    def agree(self, yes: bool) -> bool:
        return bool(self._total(tf.constant(int(yes and self.chief), tf.int64)))

    def gather(self, values: np.ndarray) -> list[np.ndarray]:
        lengths = np.zeros(self.count, np.int64)
        lengths[self.index] = len(values)
        lengths = self._total(tf.constant(lengths)).numpy()
        ends = np.cumsum(lengths)
        everything = np.zeros(ends[-1], values.dtype)
        everything[ends[self.index] - len(values) : ends[self.index]] = values
        # Each place has one value that is not 0, so that the sum is exact.
        return np.split(self._total(tf.constant(everything)).numpy(), ends[:-1])

    def check_equal(self, text: str, what: str) -> None:
        digest = np.frombuffer(hashlib.sha256(text.encode()).digest()[:8], np.int64) >> 8
        found = [int(part[0]) for part in self.gather(digest)]
        others = [str(number) for number, value in enumerate(found) if value != found[0]]
        if others:
            raise UsageError(
                f"worker {', '.join(others)} of {self.count} has other {what} than worker 0; start all workers with the "
                "same options, data and version."
            )

    @contextmanager
    def together(self) -> Iterator[None]:
        try:
            yield
        except tf.errors.OpError as error:
            if not isinstance(error, _LOST) and "ollective" not in str(error):
                raise
            raise BddError(
                f"worker {self.index} of {self.count} stops, because another one ended or cannot be reached any more; "
                "start all workers with the same command again: the run goes on from its last checkpoint."
            ) from None


def join(cluster: Cluster | None, seconds: float = JOIN_SECONDS) -> Workers:
    """Connect to the other workers; call it before TensorFlow computes anything.

    Args:
        cluster: The workers; None: this process trains alone.
        seconds: How long to wait for the others. A process that waits in vain ends with a message and exit code 1
            (:func:`bdd_tf.training.cluster.bounded`).

    Returns:
        The workers, all of which are there.

    Raises:
        BddError: If this worker's port cannot be used.
    """
    if cluster is None:
        return ALONE
    share = Share(cluster.index, len(cluster.addresses))
    os.environ[VARIABLE] = cluster.text
    _take_gpu(cluster)
    say(
        f"worker {share.index} of {share.count} at {cluster.addresses[share.index]} waits for the others, at most "
        f"{seconds:.0f} s"
    )
    try:
        with bounded(cluster, seconds), without_lines(_NOISE):
            group = _Group(tf.distribute.MultiWorkerMirroredStrategy(), share)
            with group.together():
                group.agree(True)
    except tf.errors.UnknownError as error:
        raise BddError(
            f"worker {share.index} cannot listen at {cluster.addresses[share.index]} ({error.message}): another process "
            f"uses the port, or the address is not this machine's; correct {VARIABLE}."
        ) from None
    return group


def grow_gpu_memory() -> None:
    """Leave the memory of the GPUs to other processes until this one needs some."""
    for device in tf.config.list_physical_devices("GPU"):
        tf.config.experimental.set_memory_growth(device, True)


def _take_gpu(cluster: Cluster) -> None:
    """Use one GPU per worker: the workers of a host divide its GPUs."""
    devices = tf.config.list_physical_devices("GPU")
    if devices:
        tf.config.set_visible_devices(devices[cluster.same_host % len(devices)], "GPU")
