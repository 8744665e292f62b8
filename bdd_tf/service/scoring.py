"""Score one received image, in a worker thread."""

from __future__ import annotations

import base64
import time
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from bdd_tf.edge.detect.loader import preview
from bdd_tf.edge.detector import Detector
from bdd_tf.edge.evidence import find_evidence
from bdd_tf.edge.explain.explainers import create_explainer
from bdd_tf.edge.explain.explanation import Explainer
from bdd_tf.edge.explain.places import json_values
from bdd_tf.edge.images.channel_images import channel_pngs
from bdd_tf.edge.images.crops import Cropper, Score, Views
from bdd_tf.edge.images.decode import open_image
from bdd_tf.edge.images.errors import ImageError
from bdd_tf.edge.images.views import size_of
from bdd_tf.edge.stability import judged, score_with_copies, views_of_copies
from bdd_tf.errors import BddError
from bdd_tf.service.limits import Refusal
from bdd_tf.service.options import Options


class Scorer:
    """Scores images for the service.

    Args:
        detector: Scores the images; shared by all workers.
        name: Displayed name of the model.
        pixels: Maximum number of pixels of an image.
    """

    def __init__(self, detector: Detector, name: str, pixels: int) -> None:
        self._detector, self._name, self._pixels = detector, name, pixels
        self._cropper = detector.cropper()
        self._explainer: Explainer | None = None

    def __call__(
        self, content: bytearray, options: Options, arrived: float, title: str | None = None
    ) -> dict[str, Any]:
        """Score an image; with ``options.explain``, only one call at a time is allowed.

        Args:
            content: The image file.
            options: The request's options.
            arrived: Time when the upload was complete, by `time.perf_counter`.
            title: Name of the image, for the picture of its explanation.

        Returns:
            The answer of the service about this image, as JSON values.

        Raises:
            Refusal: 422, if the image cannot be read; 400, if faces cannot be found here; 500, if the model fails.
        """
        started = time.perf_counter()
        # Face finders cannot be shared by threads.
        cropper = self._cropper if options.crop is None else self._cropper_for(options)
        try:
            image = open_image(content, self._pixels)
            views = cropper(image)
            copied = views_of_copies(image, cropper) if options.check else {}
        except ImageError as error:
            raise Refusal(422, _about_crop(error)) from None
        try:
            found, copies = score_with_copies(self._detector, [(views, lambda: copied)], cropper)[0]
        except BddError as error:
            raise Refusal(500, sentence(error)) from None
        score, (width, height) = found.probability, size_of(image)
        deviation = cropper.check(views, (width, height), self._detector.trained_on)
        stability = judged(copies, found, options.decide, deviates=deviation is not None)
        reasons = (None if deviation is None else deviation.note, stability.note)
        answer: dict[str, Any] = {
            "fake_probability": score,
            "verdict": stability.settled(options.decide),
            "threshold": options.decide.threshold,
            "note": "; ".join(reason for reason in reasons if reason) or None,
            "latency_ms": _milliseconds(started),
            "queue_ms": 1000 * (started - arrived),
            "width": width,
            "height": height,
            "model": self._name,
            "model_version": self._detector.identity.version,
            "model_sha256": self._detector.identity.sha256,
        }
        if options.decide.unsure is not None:
            answer["unsure"] = list(options.decide.unsure)
        if copies:
            answer["stability"] = stability.to_dict()
        if found.box is not None:
            answer |= {"box": list(found.box), "box_probability": found.box_probability, "crops": found.views}
        if (native := views.to_dict()) is not None:
            answer["views"] = native
        try:
            evidence = find_evidence(content, image)
        except BddError as error:  # the trust list of C2PA is none
            raise Refusal(500, sentence(error)) from None
        if evidence:
            answer["evidence"] = [item.as_dict() for item in evidence]
        if options.pictures:
            files = channel_pngs(views.images[found.view])
            answer["pictures"] = {name: _data_uri(file) for name, file in files.items()}
        if options.explain:
            answer["explanation"] = self._explain(image, views, found, answer, title)
        return answer

    def _cropper_for(self, options: Options) -> Cropper:
        try:
            return self._detector.cropper(options.crop, options.max_tiles)
        except BddError as error:
            raise Refusal(400, _about_crop(error)) from None

    def _explain(
        self,
        image: Image.Image | NDArray[np.uint8],
        views: Views,
        found: Score,
        answer: dict[str, Any],
        title: str | None,
    ) -> dict[str, Any]:
        from bdd_tf.edge.explain import heat_map

        seen, rule, size = views.images[found.view], self._detector.resize, size_of(image)
        try:
            if self._explainer is None:
                self._explainer = create_explainer("occlusion", self._detector)
            explanation = self._explainer(seen)
        except BddError as error:
            raise Refusal(500, sentence(error)) from None
        values = json_values(explanation, views, found, size, rule)
        photo = heat_map.photo_of(preview(image), explanation, views, found.view, size, rule)
        picture = heat_map.draw(
            seen,
            explanation,
            answer["verdict"],
            title or "",
            found.probability,
            answer["note"],
            photo,
        )
        return {**values, "picture": _data_uri(heat_map.png(picture))}


def sentence(error: Exception) -> str:
    """Return an error's text as a sentence with a capital letter and a full stop."""
    text = str(error)
    return text[:1].upper() + text[1:].rstrip(".") + "."


def _about_crop(error: Exception) -> str:
    """Return an error's sentence with the parameter in place of the option of the command line."""
    return sentence(error).replace("--crop ", "crop=")


def _milliseconds(since: float) -> float:
    return 1000 * (time.perf_counter() - since)


def _data_uri(png: bytes) -> str:
    return "data:image/png;base64," + base64.b64encode(png).decode()
