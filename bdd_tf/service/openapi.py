"""The API's description, OpenAPI 3.1."""

from __future__ import annotations

from typing import Any

from bdd_tf import __version__
from bdd_tf.edge.labels import LABELS
from bdd_tf.service.limits import Limits

_NUMBER = {"type": "number"}
_COUNT = {"type": "integer", "minimum": 0}
_TEXT = {"type": "string"}
_PROBABILITY = {"type": "number", "minimum": 0, "maximum": 1}
_BINARY = {"type": "string", "format": "binary"}


def describe(model: dict[str, Any], limits: Limits) -> dict[str, Any]:
    """The OpenAPI document of a service.

    Args:
        model: What ``/api/model`` answers.
        limits: The service's.

    Returns:
        JSON values.
    """
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "bdd: real or AI-made?",
            "version": __version__,
            "description": f"Scores images with the model {model['name']}. Nothing that is sent is kept. Errors are "
            '{"error": "a sentence"}.',
        },
        "paths": {
            "/api/detect": {"post": _detect(model, limits)},
            "/api/model": {"get": _get("model", "The model, and what the service takes.", "Model")},
            "/healthz": {"get": _get("health", "Whether the service is up, and how busy.", "Health")},
        },
        "components": {"schemas": _schemas()},
    }


def _detect(model: dict[str, Any], limits: Limits) -> dict[str, Any]:
    refusals = {
        "400": "No image in the request, several, a damaged form, an unknown option, or a Host header that is not "
        "the service's.",
        "403": "Asked by a page from elsewhere.",
        "408": f"The upload took more than {limits.upload_seconds:g} seconds, or paused for "
        f"{limits.pause_seconds:g}.",
        "413": f"The file is larger than {limits.upload_bytes:,} bytes.",
        "415": "The Content-Type is none of those listed.",
        "422": f"The file is no image, is damaged, or has more than {limits.pixels:,} pixels.",
        "500": "The model failed.",
    }
    responses: dict[str, Any] = {"200": _answer("The score.", "Detection")}
    responses |= {status: _answer(text, "Error") for status, text in refusals.items()}
    responses["503"] = _answer("All workers are busy and the queue is full; ask again.", "Error") | {
        "headers": {"Retry-After": {"description": "Seconds.", "schema": _COUNT}}
    }
    return {
        "operationId": "detect",
        "summary": "Score one image",
        "description": "Scores one image: JPEG, PNG, WebP, GIF, BMP, TIFF or AVIF, as the body or as the one file of "
        "a form. curl -F image=@photo.jpg, or curl -H 'Content-Type: image/jpeg' --data-binary @photo.jpg.",
        "parameters": [
            _option(
                "threshold",
                "Scores from here on are called FAKE.",
                _PROBABILITY | {"default": model["threshold"]},
            ),
            _option(
                "pictures",
                "1: the answer carries pictures, as the network sees the image: input, fft, lbp.",
                {"enum": ["0", "1", "false", "true"], "default": "0"},
            ),
        ],
        "requestBody": {
            "required": True,
            "content": {
                "multipart/form-data": {
                    "schema": {"type": "object", "required": ["image"], "properties": {"image": _BINARY}}
                },
                "image/*": {"schema": _BINARY},
                "application/octet-stream": {"schema": _BINARY},
            },
        },
        "responses": responses,
    }


def _schemas() -> dict[str, Any]:
    data_uri = {"type": "string", "pattern": "^data:image/png;base64,"}
    nullable = {"type": ["string", "null"]}
    pictures = _object({"input": data_uri, "fft": data_uri, "lbp": data_uri})
    return {
        "Detection": _object(
            {
                "fake_probability": _PROBABILITY,
                "verdict": {"enum": list(LABELS)},
                "threshold": _PROBABILITY,
                "note": nullable
                | {
                    "description": "What sets the image apart from the model's training images: the verdict says little."
                },
                "latency_ms": _NUMBER | {"description": "Decoding, resizing and the network."},
                "queue_ms": _NUMBER | {"description": "Waiting for a worker, before that."},
                "width": _COUNT | {"description": "Of the image that was sent, upright, in pixels."},
                "height": _COUNT,
                "model": _TEXT,
            },
            {"pictures": pictures},
        ),
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


def _answer(text: str, schema: str) -> dict[str, Any]:
    reference = {"$ref": f"#/components/schemas/{schema}"}
    return {"description": text, "content": {"application/json": {"schema": reference}}}
