"""The application that answers requests about images with a classifier."""

import asyncio
import contextlib
import json
import re
import time
from dataclasses import asdict
from functools import partial
from importlib.resources import files
from typing import (
    Any,
    AsyncIterator,
    Awaitable,
    Callable,
    Dict,
    Iterator,
    List,
    Mapping,
    Optional,
    Sequence,
    Union,
)

import numpy as np
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import Response
from starlette.routing import request_response

from allencv import __version__
from allencv.runtime.certainty import Certainty, Judgement
from allencv.runtime.certainty.promises import promises_of
from allencv.runtime.classifier import Classifier, readable
from allencv.runtime.defaults import TOP_K
from allencv.serving import schemas
from allencv.serving.batching import Batcher
from allencv.serving.bodies import read_body
from allencv.serving.decoders import Decoders
from allencv.serving.drift import DriftWatch
from allencv.serving.errors import RequestError
from allencv.serving.gate import Gate
from allencv.serving.limits import Limits
from allencv.serving.metrics import CountRequests, Metrics
from allencv.serving.request_ids import ID_HEADER, NameRequests
from allencv.serving.root_path import BelowRootPath
from allencv.serving.uploads import Uploads, bad_request

Endpoint = Callable[[Request], Awaitable[Response]]

Outcome = Union[Judgement, RequestError]
"""What is known about an image, or what is wrong with it."""

GONE = 499
"""The status, visible only in metrics, of a request whose client disconnected."""

MAX_TOP_K = 1000
"""The most labels that an answer lists for each image."""

CLOSE_SECONDS = 2.0
"""How long the workers may finish abandoned work when the server stops."""

PAGE_HEADERS = {
    # No content from other hosts, and no inline code. Previews are `blob:` URLs.
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; "
    "img-src 'self' blob: data:; connect-src 'self'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'",
    "Cache-Control": "no-cache",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
PAGE = {
    "/": ("index.html", "text/html"),
    "/page.css": ("page.css", "text/css"),
    "/favicon.svg": ("favicon.svg", "image/svg+xml"),
    "/docs": ("docs.html", "text/html"),
    "/drift": ("drift.html", "text/html"),
    **{
        f"/{name}.js": (f"{name}.js", "text/javascript")
        for name in (
            *("page", "docs", "drift", "cards", "certainty", "elements", "example", "overview"),
        )
    },
}


def create_app(
    classifier: Classifier,
    limits: Optional[Limits] = None,
    root_path: str = "",
    cors_origins: Sequence[str] = (),
    access_log: bool = False,
) -> FastAPI:
    """
    Create the ASGI application of `allencv serve`.

    # Parameters

    classifier : the model. `limits.workers` threads call its `probabilities`.
    limits : the limits for requests; by default `Limits()`.
    root_path : the path at which a proxy shows this server, such as "/pets". Requests work with it
        and without it.
    cors_origins : the origins whose pages may call this server from a browser, such as
        "https://example.com"; "*" for any.
    access_log : whether to log a line for each request.
    """
    limits = limits or Limits()
    metrics = Metrics()
    decoders = Decoders(classifier, limits)
    drift = None
    if classifier.certainty is not None:
        drift = DriftWatch(classifier.certainty, classifier.multi_label)
    if drift is not None:
        metrics.watch_drift(drift)
    batcher = Batcher(
        classifier,
        decoders.read,
        limits,
        metrics.batch_images.observe,
        partial(_watch, drift, metrics, classifier),
    )
    metrics.watch_waiting(lambda: batcher.waiting)

    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        await asyncio.to_thread(decoders.start)
        yield
        decoders.close()  # all clients have their answers
        app.state.has_finished = await asyncio.to_thread(batcher.close, CLOSE_SECONDS)

    app = FastAPI(
        title=f"allencv: {classifier.name}",
        version=__version__,
        lifespan=lifespan,
        docs_url=None,  # FastAPI's pages load code from another host
        redoc_url=None,
    )
    app.state.is_draining = False
    app.state.has_finished = True
    add_errors(app)
    _add_predict(app, classifier, batcher, decoders, limits)
    _add_information(app, classifier, limits, metrics)
    _add_drift(app, drift, classifier)
    _add_page(app)
    paths = frozenset(getattr(route, "path", "") for route in app.routes)
    app.add_middleware(Gate, limits=limits, is_full=lambda: batcher.is_full)
    if cors_origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=cors_origins,
            allow_methods=["GET", "HEAD", "POST"],
            allow_headers=["*"],
            expose_headers=["Retry-After", ID_HEADER],
        )
    app.add_middleware(CountRequests, metrics=metrics, paths=paths)
    app.add_middleware(NameRequests, access_log=access_log)
    app.add_middleware(BelowRootPath, root_path=root_path)
    return app


class DirectRoute(APIRoute):
    """
    A route whose endpoint takes the request itself. It is described at /openapi.json as others are,
    but called without what FastAPI does for arguments: a third of the event loop's time.
    """

    def __init__(self, path: str, endpoint: Endpoint, **options: Any) -> None:
        super().__init__(path, endpoint, **options)
        self.app = request_response(endpoint)


def _add_predict(
    app: FastAPI, classifier: Classifier, batcher: Batcher, decoders: Decoders, limits: Limits
) -> None:
    async def predict(request: Request) -> Response:
        started = time.perf_counter()
        top_k = _top_k(request)
        # The gate has received the whole body.
        body = (await request.receive())["body"]
        try:
            async with asyncio.timeout(limits.answer_seconds):
                uploads = await read_body(request.headers, body, decoders, limits)
                del body
                answers = batcher.submit([upload.file for upload in uploads.images])
                outcomes = await _outcomes(answers, request)
        except TimeoutError:
            raise RequestError(
                503,
                "no_answer_in_time",
                f"no answer within {limits.answer_seconds:g} seconds",
                1.0,
            ) from None
        if outcomes is None:
            return Response(status_code=GONE)
        answered = list(_answered(outcomes))
        if len(outcomes) * min(top_k, len(classifier.labels)) <= MAX_TOP_K:
            answer = _answer(classifier, uploads, answered, top_k, started)
        else:
            answer = await asyncio.to_thread(_answer, classifier, uploads, answered, top_k, started)
        return Response(answer, media_type="application/json")

    app.router.add_api_route(
        "/predict",
        predict,
        methods=["POST"],
        route_class_override=DirectRoute,
        summary="Classify images",
        description="Send one image as the body, or several as multipart files or as base64 in "
        "JSON. Among several images, each one that cannot be read gets an error as its answer.",
        responses={
            200: {"model": Union[schemas.Predictions, schemas.FlashAnswer]},
            **schemas.ERRORS,
        },
        openapi_extra={
            "requestBody": schemas.REQUEST_BODY,
            "parameters": [schemas.TOP_K_PARAMETER],
        },
    )
    # The path that clients of other servers use
    app.add_route("/predictions/", predict, methods=["POST"], include_in_schema=False)


async def _outcomes(
    answers: "List[asyncio.Future[Judgement]]", request: Request
) -> Optional[List[Union[Judgement, BaseException]]]:
    """
    Wait for answers or exceptions, one for each image. Return `None` if the client
    disconnects first; its remaining images are not classified.
    """
    everything = asyncio.gather(*answers, return_exceptions=True)
    gone = asyncio.ensure_future(request.receive())  # returns when the client disconnects
    try:
        await asyncio.wait((everything, gone), return_when=asyncio.FIRST_COMPLETED)
        return everything.result() if everything.done() else None
    finally:
        gone.cancel()
        for answer in answers:
            answer.cancel()


def _answered(outcomes: Sequence[Union[Judgement, BaseException]]) -> Iterator[Outcome]:
    """Yield the outcomes, or raise the first error that is not one image's among several."""
    for outcome in outcomes:
        if isinstance(outcome, RequestError) and len(outcomes) > 1 and outcome.status < 500:
            yield outcome
        elif isinstance(outcome, BaseException):
            raise outcome
        else:
            yield outcome


def _answer(
    classifier: Classifier,
    uploads: Uploads,
    outcomes: Sequence[Outcome],
    top_k: int,
    started: float,
) -> str:
    if uploads.is_flash:
        answer = _record(classifier, outcomes[0], None, top_k)
        outputs = answer["labels"] if classifier.multi_label else answer["label"]
        return _json_text({"session": uploads.session, "result": {"outputs": outputs}})
    # One at a time: a long list in a single call would block the interpreter.
    predictions = ", ".join(
        _json_text(_record(classifier, outcome, upload.name, top_k))
        for outcome, upload in zip(outcomes, uploads.images, strict=True)
    )
    seconds = round(time.perf_counter() - started, 6)
    return f'{{"predictions": [{predictions}], "seconds": {seconds}}}'


def _record(
    classifier: Classifier, outcome: Outcome, name: Optional[str], top_k: int
) -> Dict[str, object]:
    record: Dict[str, object] = {} if name is None else {"file": name}
    if isinstance(outcome, RequestError):
        return {**record, **outcome.as_json()}
    return {**record, **readable(classifier, outcome, top_k)}


def _top_k(request: Request) -> int:
    text = request.query_params.get("top_k", str(TOP_K))
    if not re.fullmatch("[1-9][0-9]{0,8}", text):
        raise bad_request("top_k is not a positive number")
    if int(text) > MAX_TOP_K:
        raise bad_request(f"top_k is {text}; expected at most {MAX_TOP_K}")
    return int(text)


def _add_information(
    app: FastAPI, classifier: Classifier, limits: Limits, metrics: Metrics
) -> None:
    certainty = None
    if classifier.certainty is not None:
        certainty = _promised(classifier.certainty, classifier.multi_label)

    @app.head("/labels", include_in_schema=False)
    @app.get(
        "/labels",
        summary="List the labels and the limits",
        responses={200: {"model": schemas.Labels}},
    )
    async def labels() -> Response:
        return json_response(
            {
                "name": classifier.name,
                "multi_label": classifier.multi_label,
                "labels": classifier.labels,
                "thresholds": classifier.thresholds,
                "certainty": certainty,
                "limits": {
                    "max_body_bytes": limits.max_body_bytes,
                    "max_files": limits.max_files,
                },
            }
        )

    @app.head("/healthz", include_in_schema=False)
    @app.get("/healthz", summary="Check that the process is alive")
    async def healthz() -> schemas.Status:
        return schemas.Status(status="ok")

    @app.head("/readyz", include_in_schema=False)
    @app.get("/readyz", summary="Check that the server is ready for requests")
    async def readyz() -> schemas.Status:
        if app.state.is_draining:
            raise RequestError(503, "shutting_down", "the server is shutting down")
        return schemas.Status(status="ready")

    @app.api_route("/flashserve/alive", methods=["GET", "HEAD"], include_in_schema=False)
    @app.api_route("/gridserve/alive", methods=["GET", "HEAD"], include_in_schema=False)
    async def alive() -> schemas.Alive:
        return schemas.Alive()

    @app.head("/metrics", include_in_schema=False)
    @app.get("/metrics", summary="Get the metrics for Prometheus", response_class=Response)
    async def figures() -> Response:
        return metrics.as_response()


def _watch(
    drift: Optional[DriftWatch], metrics: Metrics, classifier: Classifier, judgement: Judgement
) -> None:
    """Count an answer."""
    if drift is None or judgement.unknown_score is None:
        return
    metrics.count_decisions(judgement)
    if classifier.thresholds is None:
        labels = [int(judgement.probabilities.argmax())]
    else:
        labels = np.flatnonzero(judgement.probabilities > classifier.thresholds).tolist()
    drift.add(judgement.unknown_score, labels)


def _add_drift(app: FastAPI, drift: Optional[DriftWatch], classifier: Classifier) -> None:
    @app.head("/drift.json", include_in_schema=False)
    @app.get(
        "/drift.json",
        summary="Compare the images of this server with those of the calibration",
        responses={200: {"model": schemas.Drift}, 404: {"model": schemas.Error}},
    )
    async def counts() -> Response:
        if drift is None:
            raise RequestError(
                404, "not_calibrated", "the model is not calibrated; see 'allencv calibrate'"
            )
        compared = [
            {**asdict(each), "is_alarm": each.is_alarm} for _, each in sorted(drift.last.items())
        ]
        return json_response(
            {
                "images_in_window": drift.window,
                "windows": drift.windows,
                "pending_images": drift.pending,
                "alarms": drift.alarms,
                "is_alarm": drift.is_alarm,
                "comparisons": compared,
                "labels": classifier.labels,
                "counts": {
                    of: {"calibration": expected, "recent": given}
                    for of, (expected, given) in drift.counts().items()
                },
            }
        )


def _promised(certainty: Certainty, multi_label: bool) -> Dict[str, object]:
    """Return what a calibrated model promises, without the paths of its images."""
    sets, selection, unknown = certainty.sets, certainty.selection, certainty.unknown
    return schemas.Certainty(
        promises=promises_of(certainty),
        images=certainty.images,
        calibrates_probabilities=certainty.scaling is not None,
        sets=None
        if sets is None
        else schemas.Sets(
            key="possible_labels" if multi_label else "labels",
            level=sets.levels[0],
            by_class=sets.by_class,
        ),
        answered=None
        if selection is None
        else schemas.Answered(
            target_accuracy=selection.target_accuracy,
            certainty=selection.certainty,
            least_confidence=selection.least_confidence,
            coverage=selection.coverage,
        ),
        unknown=None
        if unknown is None
        else schemas.Unknown(score=unknown.kind, known_share=unknown.known_share),
    ).model_dump()


def _add_page(app: FastAPI) -> None:
    def add(path: str, content: bytes, media_type: str) -> None:
        async def file() -> Response:
            return Response(content, media_type=media_type, headers=PAGE_HEADERS)

        app.api_route(path, methods=["GET", "HEAD"], include_in_schema=False)(file)

    folder = files("allencv.serving") / "page"
    for path, (name, media_type) in PAGE.items():
        add(path, (folder / name).read_bytes(), media_type)


def add_errors(app: FastAPI) -> None:
    """Give all errors the same form, without details of this program."""

    @app.exception_handler(RequestError)
    async def request_error(request: Request, error: RequestError) -> Response:
        return error.as_response()

    @app.exception_handler(HTTPException)
    async def http_error(request: Request, error: HTTPException) -> Response:
        code = {404: "not_found", 405: "method_not_allowed"}.get(error.status_code, "bad_request")
        response = RequestError(error.status_code, code, error.detail).as_response()
        response.headers.update(error.headers or {})
        return response

    @app.exception_handler(RequestValidationError)
    async def validation_error(request: Request, error: RequestValidationError) -> Response:
        return RequestError(400, "bad_request", "the request is malformed").as_response()


def json_response(content: Mapping[str, object]) -> Response:
    return Response(_json_text(content), media_type="application/json")


def _json_text(content: Mapping[str, object]) -> str:
    # A label may be a folder name that is not Unicode: JSON in ASCII can hold it, UTF-8 cannot.
    return json.dumps(content, allow_nan=False)
