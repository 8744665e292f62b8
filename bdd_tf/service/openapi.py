"""Description of the API in OpenAPI 3.1."""

from __future__ import annotations

from typing import Any

from bdd_tf import __version__
from bdd_tf.edge.images.crops import CROPS
from bdd_tf.edge.labels import LABELS
from bdd_tf.service.limits import Limits

_NUMBER = {"type": "number"}
_COUNT = {"type": "integer", "minimum": 0}
_TEXT = {"type": "string"}
_PROBABILITY = {"type": "number", "minimum": 0, "maximum": 1}
_SWITCH = {"enum": ["0", "1", "false", "true"], "default": "0"}
_BINARY = {"type": "string", "format": "binary"}


def describe(model: dict[str, Any], limits: Limits, tiles: int) -> dict[str, Any]:
    """Return the OpenAPI document of a service.

    Args:
        model: Answer of ``/api/model``.
        limits: Limits of the service.
        tiles: Largest value of ``max_tiles``.

    Returns:
        JSON values.
    """
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "bdd: real or AI-made?",
            "version": __version__,
            "description": f"Scores images with the model {model['name']}. Images are not stored. Errors have the form "
            '{"error": "a sentence"}.',
        },
        "paths": {
            "/api/detect": {"post": _detect(model, limits, tiles)},
            "/api/model": {"get": _get("model", "The model, and the limits of the service.", "Model")},
            "/healthz": {"get": _get("health", "Status and load of the service.", "Health")},
        },
        "components": {"schemas": _schemas()},
    }


def _detect(model: dict[str, Any], limits: Limits, tiles: int) -> dict[str, Any]:
    refusals = {
        "400": f"The request contains no image or more than {limits.images}, the form is damaged, an option is unknown "
        "or not available, or the Host header is not allowed.",
        "403": "The request comes from a page of another origin.",
        "408": f"The upload took more than {limits.upload_seconds:g} seconds, or paused for "
        f"{limits.pause_seconds:g}.",
        "413": f"A single file is larger than {limits.upload_bytes:,} bytes, or all files together are larger than "
        f"{limits.request_bytes:,}.",
        "415": "The Content-Type is not one of those listed.",
        "422": f"A single file is not an image, is damaged, or has more than {limits.pixels:,} pixels.",
        "500": "The model failed.",
    }
    responses: dict[str, Any] = {
        "200": _answer(
            "The score of a single image. Of several images, or with list=1: an object with the key images, a list with "
            "one entry per file in the order of the form. An entry has the name of the file and either its score or its "
            "error; a file that cannot be scored does not affect the others.",
            "Detection",
            "Detections",
        )
    }
    responses |= {status: _answer(text, "Error") for status, text in refusals.items()}
    responses["503"] = _answer(
        "All workers are busy and the queue is full; retry after the given time.", "Error"
    ) | {"headers": {"Retry-After": {"description": "Seconds.", "schema": _COUNT}}}
    return {
        "operationId": "detect",
        "summary": "Score images",
        "description": "Scores one image (JPEG, PNG, WebP, GIF, BMP, TIFF or AVIF), sent as the request body or as a "
        f"file of a form, or up to {limits.images} images as files of a form. curl -F image=@photo.jpg, "
        "curl -H 'Content-Type: image/jpeg' --data-binary @photo.jpg, or curl -F image=@a.jpg -F image=@b.png.",
        "parameters": [
            _option(
                "threshold",
                "Decision threshold: scores of at least this value are FAKE.",
                _PROBABILITY | {"default": model["threshold"]},
            ),
            _option(
                "crop",
                "Parts to score, as bdd detect --crop: the answer includes box (left, top, width and height of the "
                "highest one, in pixels), box_probability and crops (their number). faces needs OpenCV.",
                {"enum": list(CROPS)},
            ),
            _option(
                "max_tiles",
                f"With crop=tiles, the maximum number of tiles, from 1 to {tiles}.",
                {"type": "integer", "minimum": 1, "maximum": tiles, "default": tiles},
            ),
            _option(
                "explain",
                "1: the answer includes an explanation (evidence for FAKE and REAL) with a picture. It takes about 200 "
                "inferences, one explanation at a time, and is possible for a single image per request.",
                _SWITCH,
            ),
            _option("list", "1: the answer is a list even for a single image.", _SWITCH),
            _option(
                "pictures",
                "1: the answer includes images of the network's input (of several crops, the highest one): input, fft, lbp.",
                _SWITCH,
            ),
        ],
        "requestBody": {
            "required": True,
            "content": {
                "multipart/form-data": {
                    "schema": {
                        "type": "object",
                        "required": ["image"],
                        "properties": {"image": {"type": "array", "items": _BINARY}},
                    }
                },
                "image/*": {"schema": _BINARY},
                "application/octet-stream": {"schema": _BINARY},
            },
        },
        "responses": responses,
    }


def _schemas() -> dict[str, Any]:
    nullable = {"type": ["string", "null"]}
    detection, more = _detection()
    name = nullable | {
        "description": "Name of the file as sent (filename* or filename); null if there is none."
    }
    failure = _object({"name": name, "error": _TEXT, "status": _COUNT})
    return {
        "Detection": _object(detection, more),
        "Detections": _object(
            {"images": {"type": "array", "items": {"anyOf": [_ref("NamedDetection"), _ref("Failure")]}}}
        ),
        "NamedDetection": _object({"name": name} | detection, more),
        "Failure": failure
        | {
            "description": "Of a file that cannot be scored; status as for a single image: 400, 413, 422 or 500."
        },
        "Model": _object(
            {
                "name": _TEXT,
                "backbone": nullable,
                "channels": {"type": ["array", "null"], "items": _TEXT},
                "resolution": _COUNT,
                "dataset": nullable,
                "trained_on": nullable,
                "threshold": _PROBABILITY,
                "labels": {"const": list(LABELS)},
                "engine": _TEXT,
                "max_upload_bytes": _COUNT,
                "max_request_bytes": _COUNT,
                "max_images": _COUNT,
                "max_pixels": _COUNT,
                "version": _TEXT,
            }
        ),
        "Health": _object(
            {
                "status": {"const": "ok"},
                "running": _COUNT,
                "waiting": _COUNT,
                "workers": _COUNT,
                "queue": _COUNT,
            }
        ),
        "Error": _object({"error": _TEXT}),
    }


def _detection() -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the required and the optional properties of the answer about one image."""
    data_uri = {"type": "string", "pattern": "^data:image/png;base64,"}
    nullable = {"type": ["string", "null"]}
    views = _object({"crops": _COUNT, "padded": {"type": "boolean"}, "featureless": {"type": "boolean"}})
    box = {"type": "array", "items": {"type": "integer"}}
    evidence = {
        "type": "array",
        "items": _object(dict.fromkeys(("kind", "says", "where", "strength"), _TEXT)),
    }
    required = {
        "fake_probability": _PROBABILITY,
        "verdict": {"enum": list(LABELS)},
        "threshold": _PROBABILITY,
        "note": nullable
        | {"description": "Deviation from the training images; if present, the verdict is unreliable."},
        "latency_ms": _NUMBER | {"description": "Time for decoding, resizing or cutting, and inference."},
        "queue_ms": _NUMBER | {"description": "Time spent waiting for a worker."},
        "width": _COUNT | {"description": "Width of the upright image, in pixels."},
        "height": _COUNT | {"description": "Height of the upright image, in pixels."},
        "model": _TEXT,
    }
    explanation = _object(
        {
            "picture": data_uri,
            "box": box | {"description": "Region with the strongest evidence, in pixels."},
            "method": _TEXT,
            "logit": _NUMBER,
            "box_logit_change": _NUMBER,
            "channels": {"type": "object"},
            "channels_left_out": nullable,
            "channel_reference": nullable,
        },
        {"views": {"type": "array", "items": {"type": "object"}}},
    )
    return required, {
        "box": box
        | {"description": "With crop: left, top, width and height of the highest part, in pixels."},
        "box_probability": _PROBABILITY | {"description": "With crop: score of that part alone."},
        "crops": _COUNT | {"description": "With crop: number of parts scored."},
        "pictures": _object({"input": data_uri, "fft": data_uri, "lbp": data_uri}),
        "views": views | {"description": "Of a model that scores native crops: those of this image."},
        "evidence": evidence
        | {
            "description": "Statements of the file's metadata, if there are some; the score does not depend on them."
        },
        "explanation": explanation | {"description": "With explain: as bdd detect --explain --json."},
    }


def _object(required: dict[str, Any], optional: dict[str, Any] | None = None) -> dict[str, Any]:
    return {
        "type": "object",
        "required": list(required),
        "properties": required | (optional or {}),
        "additionalProperties": False,
    }


def _option(name: str, text: str, schema: dict[str, Any]) -> dict[str, Any]:
    return {"name": name, "in": "query", "required": False, "description": text, "schema": schema}


def _get(name: str, text: str, schema: str) -> dict[str, Any]:
    return {
        "operationId": name,
        "summary": text,
        "description": text,
        "responses": {"200": _answer(text, schema)},
    }


def _answer(text: str, *schemas: str) -> dict[str, Any]:
    references = [_ref(schema) for schema in schemas]
    schema = references[0] if len(references) == 1 else {"anyOf": references}
    return {"description": text, "content": {"application/json": {"schema": schema}}}


def _ref(schema: str) -> dict[str, Any]:
    return {"$ref": f"#/components/schemas/{schema}"}
