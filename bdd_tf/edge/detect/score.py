"""Score image and video files, one record per file."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable
from contextlib import closing
from pathlib import Path

from bdd_tf.edge.detect.explanations import ExplanationWriter
from bdd_tf.edge.detect.loader import ImageLoader, Loaded, load_ahead
from bdd_tf.edge.detect.records import Record
from bdd_tf.edge.detector import Detector
from bdd_tf.edge.images.crops import Cropper, Score, Views
from bdd_tf.edge.labels import verdict
from bdd_tf.edge.view_scores import BATCH, score_views


def score_paths(
    detector: Detector,
    paths: Iterable[Path],
    threshold: float,
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
        threshold: Decision threshold, in [0, 1].
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
    with closing(load_ahead(paths, loader, most)) as batches:
        for batch in batches:
            views: list[Views] = [item.views for item in batch if item.views is not None]
            scores = iter(score_views(detector, views, cropper))
            for item in batch:
                if item.views is not None:
                    yield _image_record(item, next(scores), threshold, explain)
                elif not item.is_video:
                    yield Record(str(item.path), error=item.error)
                elif score_video is not None:
                    record = score_video(item.path)
                    yield record
                    if record.interrupted:
                        raise KeyboardInterrupt
                else:
                    yield Record(str(item.path), error="this is a video, not an image")


def _image_record(item: Loaded, score: Score, threshold: float, explain: ExplanationWriter | None) -> Record:
    explanation, problem = (None, None) if explain is None else explain(item, score)
    return Record(
        str(item.path),
        score.probability,
        verdict(score.probability, threshold),
        problem,
        explanation=explanation,
        box=score.box,
        box_probability=score.box_probability,
        crops=None if score.box is None else score.views,
        thumbnail=item.thumbnail,
        size=item.size,
        deviation=item.deviation,
        views=None if item.views is None else item.views.to_dict(),
        evidence=item.evidence,
    )
