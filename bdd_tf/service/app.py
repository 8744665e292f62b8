"""The ASGI application: routes and their handlers."""

from __future__ import annotations

import asyncio
import time
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route

from bdd_tf import __version__
from bdd_tf.edge.detector import Detector
from bdd_tf.service.form import Upload
from bdd_tf.service.limits import Buffer, Limits, Refusal, Share
from bdd_tf.service.openapi import describe
from bdd_tf.service.options import Options, most_tiles, read_options
from bdd_tf.service.page import Page, listing, start_page
from bdd_tf.service.scoring import Scorer
from bdd_tf.service.upload import problem_of, read_uploads
from bdd_tf.service.workers import ClientGone, Workers


def create_app(detector: Detector, name: str, limits: Limits | None = None) -> Starlette:
    """Create the ASGI application for a detector.

    Args:
        detector: Scores the images; shared by all workers, and not closed by the application.
        name: Displayed name of the model.
        limits: Resource limits; None for the defaults.

    Returns:
        The application. It must be wrapped in `bdd_tf.service.middleware.Guard`.
    """
    service = _Service(detector, name, limits or Limits())
    description = describe(service.model(), service.limits, most_tiles(detector))
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


class _Service:
    def __init__(self, detector: Detector, name: str, limits: Limits) -> None:
        self.limits = limits
        self.workers = Workers(limits.workers, limits.queue)
        self._detector = detector
        self._name = name
        self._score = Scorer(detector, name, limits.pixels)
        # An explanation takes about two hundred inferences: one at a time, so that a worker remains for scores.
        self._explaining = asyncio.Lock()
        self._buffer = Buffer(limits.buffered_bytes)

    def model(self) -> dict[str, Any]:
        """Return the answer of ``/api/model``."""
        metadata = self._detector.metadata
        return {
            "name": self._name,
            "backbone": metadata.get("backbone"),
            "channels": metadata.get("channels"),
            "resolution": self._detector.resize.size,
            "dataset": metadata.get("dataset"),
            "trained_on": None if self._detector.trained_on is None else self._detector.trained_on.describe(),
            "threshold": self._detector.threshold,
            "unsure": None if self._detector.unsure is None else list(self._detector.unsure),
            "labels": list(self._detector.labels),
            "engine": self._detector.engine_name,
            "max_upload_bytes": self.limits.upload_bytes,
            "max_request_bytes": self.limits.request_bytes,
            "max_images": self.limits.images,
            "max_pixels": self.limits.pixels,
            "version": __version__,
            "model_version": self._detector.identity.version,
            "model_sha256": self._detector.identity.sha256,
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
        options = read_options(request.query_params, self._detector)
        try:
            with self._buffer.share() as share:
                files = await read_uploads(request.headers, request.receive, self.limits, share)
                arrived = time.perf_counter()
                answer: dict[str, Any]
                if len(files) == 1 and not options.as_list:
                    answer = await self._one(request, files[0], options, arrived, admitted=False)
                elif len(files) > 1 and options.explain:
                    raise Refusal(
                        400, f"The option explain is for one image per request; this form has {len(files)}."
                    )
                else:
                    answer = {"images": await self._several(request, files, options, arrived, share)}
        except ClientGone:
            # The client does not read the answer; proxies log 499 in this case.
            return Response(status_code=499)
        return JSONResponse(answer)

    async def _several(
        self, request: Request, files: list[Upload], options: Options, arrived: float, share: Share
    ) -> list[dict[str, Any]]:
        """Score files one after the other, each in its turn among other requests; an error concerns only its file."""
        answers = []
        admitted = False
        for file in files:
            problem = problem_of(file, self.limits)
            answer: dict[str, Any] = {"name": file.name}
            try:
                if problem is not None:
                    raise problem
                answer |= await self._one(request, file, options, arrived, admitted=admitted)
                admitted = True
            except Refusal as refusal:
                if refusal.status == 503:
                    raise
                # It had its turn in the queue, unless it never entered.
                admitted = admitted or problem is None
                answer |= {"error": refusal.sentence, "status": refusal.status}
            answers.append(answer)
            share.give(len(file.content))
            file.content = bytearray()
        return answers

    async def _one(
        self, request: Request, file: Upload, options: Options, arrived: float, *, admitted: bool
    ) -> dict[str, Any]:
        return await self.workers.run(
            lambda: self._score(file.content, options, arrived, file.name),
            request.is_disconnected,
            admitted=admitted,
            one_by_one=self._explaining if options.explain else None,
        )


def _fixed(page: Page) -> Any:
    def endpoint(request: Request) -> Response:
        return HTMLResponse(page.html, headers={"Content-Security-Policy": page.policy})

    return endpoint


async def _refuse(request: Request, refusal: Refusal) -> Response:
    return JSONResponse({"error": refusal.sentence}, refusal.status, refusal.headers)


async def _http_error(request: Request, error: HTTPException) -> Response:
    path = request.url.path[:80]
    sentences = {
        404: f"There is nothing at {path!r}; /docs lists the endpoints.",
        405: f"The method {request.method[:20]} is not allowed at {path!r}; /docs lists the endpoints and methods.",
    }
    headers = dict(error.headers or {})
    return JSONResponse(
        {"error": sentences.get(error.status_code, str(error.detail))}, error.status_code, headers
    )


async def _unexpected(request: Request, error: Exception) -> Response:
    return JSONResponse({"error": "Internal error; the log of the service has the details."}, 500)
