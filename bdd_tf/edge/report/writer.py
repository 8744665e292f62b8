"""`bdd detect --report`: write the report on the image that is scored."""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

from bdd_tf.edge.detect.records import Record
from bdd_tf.edge.detector import Detector
from bdd_tf.edge.images.crops import Cropper
from bdd_tf.edge.labels import DecisionRule
from bdd_tf.errors import UsageError
from bdd_tf.files import complete_file


class ReportWriter:
    """Writes a report.

    Args:
        path: The HTML file.
        detector: Scored the image.
        cropper: Cut the image. Its own thread must be done with it.
        rule: Decided.
        evidence: Whether the records hold what was found in the file; False if nobody looked.
    """

    def __init__(
        self, path: Path, detector: Detector, cropper: Cropper, rule: DecisionRule, *, evidence: bool
    ) -> None:
        self._path, self._detector, self._cropper, self._rule = path, detector, cropper, rule
        self._evidence = evidence

    def passing(
        self, records: Generator[Record, None, None], shown: Callable[[str], str]
    ) -> Generator[Record, None, None]:
        """Yield the records, and write the report on one that was scored before it is passed on.

        Args:
            records: Of a single image; closing this generator closes them.
            shown: Returns the name under which a path is reported.

        Raises:
            UsageError: If the file is a video.
            BddError: If the report cannot be written, or the model fails.
        """
        with closing(records):
            for record in records:
                if record.video is not None:
                    raise UsageError(f"--report is for an image, and {shown(record.path)} is a video.")
                if record.fake_probability is not None:
                    self.write(record, shown(record.path))
                yield record

    def write(self, record: Record, name: str) -> None:
        """Write the report on a record under a name; see `bdd_tf.edge.report.content.gather`."""
        # Only here: without a report, nothing of it is loaded.
        from bdd_tf.edge.report.content import gather
        from bdd_tf.edge.report.page import page

        found = gather(record, name, self._detector, self._cropper, self._rule)
        text = page(found if self._evidence else replace(found, evidence=None))
        with complete_file(self._path) as partial:
            partial.write_text(text, encoding="utf-8")
