"""The job of `bdd score`: chunks of images become folders of a Parquet table, one after the other."""

from __future__ import annotations

import datetime
import json
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from bdd_tf import __version__
from bdd_tf.cluster import chunks, inputs
from bdd_tf.cluster.columns import TYPES
from bdd_tf.cluster.frames import ARROW, paths_frame, score_bytes, score_paths_column, score_tar_files
from bdd_tf.cluster.hadoop import Hadoop, escaped
from bdd_tf.cluster.options import DATE, Options, check_output, shared, store_of
from bdd_tf.cluster.progress import Progress, Summary, every
from bdd_tf.cluster.remote import contents_of, remote_files
from bdd_tf.cluster.session import explained
from bdd_tf.cluster.worker import check
from bdd_tf.errors import BddError, UsageError, one_of

TASKS_PER_CORE = 4
MOST_PER_TASK = 2000
"""Images of one task: what a lost executor costs at most on each core."""
ROWS_OF_PATHS = 500
"""Paths of one Arrow batch."""
ROWS_OF_BYTES = 32
"""Images of one Arrow batch, if they travel to the workers: they are in memory together."""


class Job:
    """Scores the inputs and writes the table.

    Args:
        spark: The session.
        options: Options of the job.
        found: The inputs, if they are local; None to look for them with Spark.
        say: Prints a message.
        progress: Called after each chunk, and every second within one.
    """

    def __init__(
        self,
        spark: Any,
        options: Options,
        found: inputs.Input | None,
        say: Callable[[str], None],
        progress: Callable[[Progress], None],
    ) -> None:
        self._spark, self._options, self._say, self._progress = spark, options, say, progress
        self._hadoop = Hadoop(spark)
        self._store = store_of(options.output, self._hadoop)
        self._plan = chunks.Plan(self._store)
        self._found = found or inputs.remote_input(self._hadoop, list(options.given))
        self._columns: inputs.Columns | None = None
        self._errors: dict[str, int] = {}

    def run(self) -> Summary:
        """Do the work.

        Raises:
            UsageError: If an input or option is wrong.
            BddError: If Spark fails.
        """
        continues = check_output(self._store, self._options)
        self._check_columns()
        with self._store.locked():
            try:
                return self._run(continues)
            except (BddError, KeyboardInterrupt):
                raise
            except Exception as error:
                raise explained(error) from error

    def _run(self, continues: bool) -> Summary:
        if not continues:
            model = self._options.model
            facts = {"model": model.digest, "name": model.name, **shared(self._options)}
            self._store.write(chunks.JOB, json.dumps({**facts, "version": __version__}).encode())
        self._store.remove(chunks.STAGING)
        self._make_plan()
        pending = self._plan.pending()
        scored, seconds = 0, 0.0
        if pending:
            self._check_workers(pending[0])
            scored, seconds = self._score(pending)
        return self._summary(scored, seconds)

    def _check_columns(self) -> None:
        found, by = self._found, self._options.partition_by
        known: list[str] = []
        if found.kind in (inputs.CSV, inputs.PARQUET):
            try:
                types = inputs.read_table(self._spark, found).dtypes
            except Exception as error:
                raise explained(error) from error
            self._columns = inputs.columns_of(types, self._options.column)
            used = {*TYPES, "chunk", self._columns.source}
            known = [
                name for name, _ in types if name not in used and self._columns.source != f"{name}.bytes"
            ]
        elif self._options.column is not None:
            raise UsageError(f"--column is for tables, and the input is {found.kind}; leave it out.")
        if by not in (DATE, "verdict", *known):
            raise one_of("column of --partition-by", by, (DATE, "verdict", *known))

    def _make_plan(self) -> None:
        self._say(f"input: {self._describe()}")
        planned = self._plan.make(self._entries(), self._size())
        if left_out := self._found.census.summary():
            self._say(left_out)
        if planned.repeated:
            self._say(f"{planned.repeated:,} {self._noun}s were listed more than once; each is scored once")
        if planned.outdated:
            self._say(f"{len(planned.outdated)} chunks are scored again, because files changed since")
        if planned.images == 0:
            raise UsageError(
                f"no {self._noun}s found in {', '.join(self._options.given)} ({self._found.census.summary() or 'it is empty'}); "
                "check the path."
            )
        self._say(
            f"{planned.images:,} {self._noun}s in {len(self._plan.counts):,} chunks"
            + (f", {len(planned.complete):,} of them complete" if planned.complete else "")
        )

    def _describe(self) -> str:
        columns = self._columns
        if columns is None:
            return self._found.kind
        return f"{self._found.kind} with {columns.holds} in the column {columns.source}"

    @property
    def _by_file(self) -> bool:
        """Whether entries are files with several images."""
        return self._found.kind == inputs.SHARDS or (
            self._columns is not None and self._columns.holds == inputs.BYTES
        )

    @property
    def _noun(self) -> str:
        return "file" if self._by_file else "image"

    @property
    def _carried(self) -> str | None:
        """The column of the table by which the output is partitioned."""
        by = self._options.partition_by
        return None if by in (DATE, "verdict") else by

    def _size(self) -> int:
        return max(1, self._options.chunk // inputs.IMAGES_PER_FILE) if self._by_file else self._options.chunk

    def _entries(self) -> Iterator[chunks.Entry]:
        found, columns = self._found, self._columns
        if columns is not None and columns.holds == inputs.PATHS:
            from pyspark.sql import functions as F

            value = F.lit(None) if self._carried is None else F.col(f"`{self._carried}`").cast("string")
            table = inputs.read_table(self._spark, found).select(F.col(f"`{columns.source}`"), value)
            return inputs.table_paths(table.toLocalIterator(), self._hadoop)
        if found.kind == inputs.CSV:
            raise UsageError("a CSV table holds paths, no bytes of images; name the column with --column.")
        if found.remote:
            return remote_files(self._spark, found)
        return inputs.local_files(found) if self._by_file else inputs.local_images(found)

    @property
    def _cores(self) -> int:
        """Cores of the executors; those of a cluster register one after the other."""
        return max(1, int(self._spark.sparkContext.defaultParallelism))

    def _check_workers(self, number: int) -> None:
        """Run a small task on the executors, so that a worker that cannot score fails before anything is written."""
        entry = next(self._plan.entries(number))
        example = (
            None if entry.size is None or inputs.is_remote(entry.path) else str(Path(entry.path).absolute())
        )
        model = self._options.model
        cores = self._cores
        tasks = self._spark.range(0, cores, 1, cores)
        with self._waiting():
            rows = tasks.mapInPandas(
                lambda frames: check(frames, model, example), "version string, problem string"
            ).collect()
        for row in rows:
            if row.version != __version__:
                raise BddError(
                    f"a Spark worker has bdd_tf {row.version}, and the driver {__version__}; install the same version on both."
                )
            if row.problem is not None:
                raise BddError(
                    f"a Spark worker cannot score: {row.problem}; every worker needs the package and the same folders as "
                    "this machine."
                )

    def _score(self, pending: list[int]) -> tuple[int, float]:
        from pyspark.sql import functions as F

        counts = self._plan.counts
        resumed = sum(counts.values()) - sum(counts[number] for number in pending)
        started, scored, done = time.monotonic(), 0, resumed
        today = datetime.datetime.now(datetime.timezone.utc).date().isoformat()
        staging = f"{chunks.STAGING}/{uuid.uuid4().hex}"

        def report(finished: int, within: int) -> None:
            self._progress(
                Progress(
                    len(counts) - len(pending) + finished,
                    len(counts),
                    done + within,
                    sum(counts.values()),
                    resumed,
                    time.monotonic() - started,
                    self._noun,
                )
            )

        for position, number in enumerate(pending):
            frame = self._rows_of(number)
            if self._options.partition_by == DATE:
                frame = frame.withColumn(DATE, F.lit(today))
            name = f"{staging}/{chunks.output_folder(number)}"
            with self._within(partial(self._part, report, position, counts[number])):
                frame.write.partitionBy(self._options.partition_by).parquet(self._store.uri(name))
            facts = self._examined(number, name)
            target = chunks.output_folder(number)
            self._store.remove(target)  # of a process that was killed before the chunk was complete
            self._store.move(name, target)
            self._plan.complete(number, facts)
            scored += facts["images"]
            done += counts[number]
            report(position + 1, 0)
        self._store.remove(chunks.STAGING)
        return scored, time.monotonic() - started

    def _rows_of(self, number: int) -> Any:
        """Return the data frame with the rows of a chunk; it is computed when it is written."""
        model, entries = self._options.model, list(self._plan.entries(number))
        keep = [self._carried] if self._carried else []
        remote = [entry for entry in entries if inputs.is_remote(entry.path) and entry.size is not None]
        local = [entry for entry in entries if entry not in remote] if remote else entries
        step = max(1, min(MOST_PER_TASK, -(-len(entries) // (self._cores * TASKS_PER_CORE))))
        if self._columns is not None and self._by_file:
            table = inputs.read_table(self._spark, self._found, [entry.path for entry in entries])
            frame = score_bytes(table, self._columns, model, keep)
        elif self._found.kind == inputs.SHARDS:
            frame = contents_of(self._spark, remote) if remote else paths_frame(self._spark, local, None, 1)
            frame = score_tar_files(frame, model, remote=bool(remote))
        else:
            parts = []
            if local:
                parts.append(
                    score_paths_column(paths_frame(self._spark, local, self._carried, step), model, keep)
                )
            if remote:
                files = contents_of(self._spark, remote)
                if keep:
                    values = paths_frame(self._spark, remote, self._carried, step, text=True)
                    files = files.join(values, "path")
                parts.append(score_bytes(files, inputs.Columns(inputs.BYTES, "content", "path"), model, keep))
            frame = parts[0] if len(parts) == 1 else parts[0].unionByName(parts[1])
        # The setting of the moment when the rows are computed counts.
        self._spark.conf.set(ARROW, str(ROWS_OF_BYTES if self._by_file or remote else ROWS_OF_PATHS))
        return frame

    def _examined(self, number: int, name: str) -> dict[str, Any]:
        """Count the rows that were written, and compare with the plan; also count errors by reason."""
        from pyspark.sql import functions as F

        # With a schema given, Spark need not read one first.
        reader = self._spark.read.schema("verdict string, error string")
        table = reader.parquet(escaped(self._store.uri(name)))
        found = table.groupBy(
            "verdict", F.expr("CASE WHEN verdict IS NULL THEN error END").alias("error")
        ).count()
        rows = found.collect()
        facts = {
            "images": sum(row["count"] for row in rows),
            "verdicts": {row.verdict: row["count"] for row in rows if row.verdict is not None},
            "model": self._options.model.digest,
        }
        for row in rows:
            if row.verdict is None:
                self._errors[str(row.error)] = self._errors.get(str(row.error), 0) + row["count"]
        expected = self._plan.counts[number]
        if not self._by_file and facts["images"] != expected:
            raise BddError(
                f"chunk {number} has {facts['images']:,} rows instead of {expected:,}, so it was not taken over; files may "
                "have been moved meanwhile: --resume scores it again."
            )
        return facts

    def _summary(self, scored: int, seconds: float) -> Summary:
        images, verdicts = 0, Counter[str]()
        for facts in self._plan.facts():
            images += int(facts.get("images", 0))
            verdicts.update(facts.get("verdicts", {}))
        example = max(self._errors.items(), key=lambda pair: pair[1], default=None)
        return Summary(images, dict(verdicts), example, scored, seconds)

    @staticmethod
    def _part(report: Callable[[int, int], None], finished: int, count: int, share: float) -> None:
        report(finished, int(share * count))

    @contextmanager
    def _within(self, report: Callable[[float], None]) -> Iterator[None]:
        """Report the share of a chunk that is done, every second, in a thread."""
        tracker = self._spark.sparkContext.statusTracker()

        def share() -> float:
            stages = [tracker.getStageInfo(stage) for stage in tracker.getActiveStageIds()]
            tasks = sum(stage.numTasks for stage in stages if stage)
            return sum(stage.numCompletedTasks for stage in stages if stage) / tasks if tasks else 0.0

        with every(1.0, lambda: report(share())):
            yield

    @contextmanager
    def _waiting(self) -> Iterator[None]:
        """Say that there are no executors, if that takes longer than usual."""
        context = self._spark.sparkContext
        if context.master.startswith("local["):
            yield
            return

        def look() -> None:
            if context._jsc.sc().getExecutorMemoryStatus().size() <= 1:  # the driver alone
                self._say(
                    "waiting for executors: are workers registered at the master, with enough free cores and memory?"
                )

        with every(20.0, look):
            yield
