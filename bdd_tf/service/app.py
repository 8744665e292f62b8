"""The application: routes and what they answer."""

from __future__ import annotations

import base64
import time
from dataclasses import dataclass
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route

from bdd_tf import __version__
from bdd_tf.edge.detector import Detector
from bdd_tf.edge.images import ImageError, load_sized
from bdd_tf.edge.labels import verdict
from bdd_tf.edge.pictures import pictures
from bdd_tf.errors import BddError
from bdd_tf.service.limits import Buffer, Limits, Refusal
from bdd_tf.service.openapi import describe
from bdd_tf.service.page import Page, listing, start_page
from bdd_tf.service.upload import read_upload
from bdd_tf.service.work import ClientGone, Workers

_YES_NO = {"1": True, "true": True, "0": False, "false": False}


def create_app(detector: Detector, name: str, limits: Limits | None = None) -> Starlette:
    """Make the ASGI application around a detector.

    Args:
        detector: What scores; shared by all workers, and not closed by the application.
        name: The model's name, as shown.
        limits: How much is taken on; None for the defaults.

    Returns:
        The application; `bdd_tf.service.guard.Guard` belongs around it.
    """
    service = _Service(detector, name, limits or Limits())
    description = describe(service.model(), service.limits)
    routes = [
        Route("/", _fixed(start_page())),
        Route("/api/detect", service.detect, methods=["POST"]),
        Route("/api/model", service.show_model),
        Route("/healthz", service.health),
        Route("/openapi.json", lambda _: JSONResponse(description)),
        Route("/docs", _fixed(listing(description))),
    ]
    handlers: dict[Any, Any] = {Refusal: _refuse, HTTPException: _http_error, Exception: _unexpected}
    app = Starlette(routes=routes, exception_handlers=handlers)
    app.state.workers = service.workers
    return app


@dataclass(frozen=True)
class _Options:
    threshold: float
    pictures: bool


class _Service:
    def __init__(self, detector: Detector, name: str, limits: Limits) -> None:
        self.limits = limits
        self.workers = Workers(limits.workers, limits.queue)
        self._detector = detector
        self._trained_on = detector.trained_on
        self._name = name
        self._buffer = Buffer(limits.buffered_bytes)

    def model(self) -> dict[str, Any]:
        """What is said about the model."""
        metadata = self._detector.metadata
        return {
            "name": self._name,
            "backbone": metadata.get("backbone"),
            "channels": metadata.get("channels"),
            "resolution": self._detector.resize.size,
            "dataset": metadata.get("dataset"),
            "trained_on": None if self._trained_on is None else self._trained_on.describe(),
            "threshold": self._detector.threshold,
            "labels": list(self._detector.labels),
            "engine": self._detector.engine_name,
            "max_upload_bytes": self.limits.upload_bytes,
            "max_pixels": self.limits.pixels,
            "version": __version__,
        }

    async def show_model(self, request: Request) -> Response:
        return JSONResponse(self.model())

    async def health(self, request: Request) -> Response:
        return JSONResponse(
            {
                "status": "ok",
                "running": self.workers.running,
                "waiting": self.workers.waiting,
                "workers": self.limits.workers,
                "queue": self.limits.queue,
            }
        )

    async def detect(self, request: Request) -> Response:
        options = self._options(request)
        try:
            with self._buffer.share() as share:
                content = await read_upload(request.headers, request.receive, self.limits, share)
                arrived = time.perf_counter()
                answer = await self.workers.run(
                    lambda: self._score(content, options, arrived), request.is_disconnected
                )
        except ClientGone:
            # Nobody reads this; 499 is what proxies write down for it.
            return Response(status_code=499)
        return JSONResponse(answer)

    def _options(self, request: Request) -> _Options:
        given = request.query_params
        unknown = [key for key in given if key not in ("threshold", "pictures")]
        if unknown:
            raise Refusal(400, f"Unknown option {unknown[0][:80]!r}; possible: threshold, pictures.")
        threshold = self._detector.threshold
        if "threshold" in given:
            try:
                threshold = float(given["threshold"])
            except ValueError:
                threshold = float("nan")
            if not 0 <= threshold <= 1:
                raise Refusal(
                    400, f"The threshold is {given['threshold'][:80]!r}; it must be a number in [0, 1]."
                )
        wanted = given.get("pictures", "0").lower()
        if wanted not in _YES_NO:
            raise Refusal(400, f"The option pictures is {wanted[:80]!r}; possible: 1, 0.")
        return _Options(threshold, _YES_NO[wanted])

    def _score(self, content: bytearray, options: _Options, arrived: float) -> dict[str, Any]:
        started = time.perf_counter()
        try:
            image, (width, height) = load_sized(content, self._detector.resize, self.limits.pixels)
        except ImageError as error:
            raise Refusal(422, _sentence(error)) from None
        try:
            score = float(self._detector.predict_batch(image[None])[0])
        except BddError as error:
            raise Refusal(500, _sentence(error)) from None
        strange = None
        if self._trained_on is not None:
            strange = self._trained_on.strangeness(width, height, image)
        answer: dict[str, Any] = {
            "fake_probability": score,
            "verdict": verdict(score, options.threshold),
            "threshold": options.threshold,
            "note": None if strange is None else strange.note,
            "latency_ms": _milliseconds(started),
            "queue_ms": 1000 * (started - arrived),
            "width": width,
            "height": height,
            "model": self._name,
        }
        if options.pictures:
            answer["pictures"] = {
                name: "data:image/png;base64," + base64.b64encode(file).decode()
                for name, file in pictures(image).items()
            }
        return answer


def _milliseconds(since: float) -> float:
    return 1000 * (time.perf_counter() - since)


def _sentence(error: Exception) -> str:
    text = str(error)
    return text[:1].upper() + text[1:].rstrip(".") + "."


def _fixed(page: Page) -> Any:
    def endpoint(request: Request) -> Response:
        return HTMLResponse(page.html, headers={"Content-Security-Policy": page.policy})

    return endpoint


async def _refuse(request: Request, refusal: Refusal) -> Response:
    return JSONResponse({"error": refusal.sentence}, refusal.status, refusal.headers)


async def _http_error(request: Request, error: HTTPException) -> Response:
    path = request.url.path[:80]
    sentences = {
        404: f"There is nothing at {path!r}; /docs lists what there is.",
        405: f"{request.method[:20]} is not possible at {path!r}; /docs lists what is.",
    }
    headers = dict(error.headers or {})
    return JSONResponse(
        {"error": sentences.get(error.status_code, str(error.detail))}, error.status_code, headers
    )


async def _unexpected(request: Request, error: Exception) -> Response:
    return JSONResponse({"error": "The service failed; its log says where."}, 500)
