"""Score image and video files, one record per file."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

from bdd_tf.edge.detect.loader import ImageLoader, Loaded, load_ahead
from bdd_tf.edge.detect.records import Record
from bdd_tf.edge.detector import Detector
from bdd_tf.edge.images.crops import Cropper, Score
from bdd_tf.edge.labels import DecisionRule
from bdd_tf.edge.stability import judged, score_with_copies
from bdd_tf.edge.view_scores import BATCH

if TYPE_CHECKING:
    from bdd_tf.edge.detect.explanations import ExplanationWriter


def score_paths(
    detector: Detector,
    paths: Iterable[Path],
    decide: DecisionRule,
    *,
    cropper: Cropper | None = None,
    loader: Callable[[Path], Loaded] | None = None,
    score_video: Callable[[Path], Record] | None = None,
    explain: ExplanationWriter | None = None,
) -> Generator[Record, None, None]:
    """Score files in batches while a thread loads the next ones. Memory does not depend on their number.

    Args:
        detector: Scores the images.
        paths: Any number of image and video files; consumed lazily.
        decide: Decides about scores.
        cropper: Cuts the images; None for the model's own rule.
        loader: Loads and crops one file, in the thread; None for a loader without thumbnails and without
            out-of-distribution check.
        score_video: Scores one video; None to report videos as errors.
        explain: Explains scored images; requires a loader that records the images' sizes.

    Yields:
        One record per path, in order.

    Raises:
        KeyboardInterrupt: After the record of a video that a signal stopped.
    """
    cropper = cropper or Cropper(detector.rule)
    loader = loader or ImageLoader(cropper)
    # The tiles of a single image may take as much memory as many images without tiles.
    most = 2 if cropper.how == "tiles" else 2 * BATCH
    with closing(load_ahead(paths, loader, most, detector.prepare)) as batches:
        for batch in batches:
            images = [(item.views, item.copies) for item in batch if item.views is not None]
            scores = iter(score_with_copies(detector, images, cropper))
            for item in batch:
                if item.views is not None:
                    score, copies = next(scores)
                    yield _image_record(item, score, copies, decide, explain)
                elif not item.is_video:
                    yield Record(str(item.path), error=item.error)
                elif score_video is not None:
                    record = score_video(item.path)
                    yield record
                    if record.interrupted:
                        raise KeyboardInterrupt
                else:
                    yield Record(str(item.path), error="this is a video, not an image")


def _image_record(
    item: Loaded,
    score: Score,
    copies: dict[str, Score],
    decide: DecisionRule,
    explain: ExplanationWriter | None,
) -> Record:
    found = judged(copies, score, decide, deviates=item.deviation is not None)
    label = found.settled(decide)
    explanation, problem = (None, None) if explain is None else explain(item, score, label)
    return Record(
        str(item.path),
        score.probability,
        label,
        problem,
        explanation=explanation,
        box=score.box,
        box_probability=score.box_probability,
        crops=None if score.box is None else score.views,
        thumbnail=item.thumbnail,
        size=item.size,
        deviation=item.deviation,
        views=None if item.views is None else item.views.to_dict(),
        stability=found if copies else None,
        evidence=item.evidence,
    )
