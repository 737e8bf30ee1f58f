"""The local web application of `allencv review`."""

import io
from importlib.resources import files
from typing import List, Literal

from fastapi import FastAPI
from PIL import Image
from pydantic import BaseModel, ConfigDict
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.responses import Response

from allencv.data.fields.image_field import load_image
from allencv.data.inspection import as_picture
from allencv.reviewing.session import AnsweredAlready, Picture, ReviewSession
from allencv.runtime import ImageError
from allencv.runtime.errors import InputError
from allencv.serving.app import PAGE_HEADERS, add_errors, json_response
from allencv.serving.errors import RequestError
from allencv.serving.gate import Gate
from allencv.serving.limits import Limits

HOSTS = ["127.0.0.1", "localhost"]
"""The names that a browser may call this server by. Pages of other hosts cannot pose as it."""
LIMITS = Limits(max_body_bytes=2**20)
LARGE, SMALL, QUALITY = 1024, 160, 90
"""The longest side of an image and of a similar one, in pixels, and the quality as JPEG."""
PAGE = {
    "": ("reviewing", "index.html", "text/html"),
    "review.css": ("reviewing", "review.css", "text/css"),
    "review.js": ("reviewing", "review.js", "text/javascript"),
    "page.css": ("serving", "page.css", "text/css"),
    "elements.js": ("serving", "elements.js", "text/javascript"),
    "favicon.svg": ("serving", "favicon.svg", "image/svg+xml"),
}


class Answer(BaseModel):
    """The answer to an image: its place in the queue, and the places of the labels."""

    model_config = ConfigDict(extra="forbid")

    image: int
    answer: Literal["label", "none", "skip"]
    labels: List[int] = []


def create_review_app(session: ReviewSession, token: str) -> FastAPI:
    """
    Create the ASGI application of `allencv review`. All paths begin with the `token`, so that other
    users of the machine and other web pages cannot reach them.
    """
    app = FastAPI(title=f"allencv review: {session.name}", openapi_url=None)
    app.state.is_draining = False
    add_errors(app)
    _add_page(app, token)
    _add_review(app, session, token)
    _add_images(app, session, token)
    app.add_middleware(Gate, limits=LIMITS, is_full=lambda: False)
    app.add_middleware(TrustedHostMiddleware, allowed_hosts=HOSTS, www_redirect=False)
    return app


def _add_page(app: FastAPI, token: str) -> None:
    def add(path: str, content: bytes, media_type: str) -> None:
        async def file() -> Response:
            return Response(content, media_type=media_type, headers=PAGE_HEADERS)

        app.get(path)(file)

    for name, (part, file, media_type) in PAGE.items():
        content = (files(f"allencv.{part}") / "page" / file).read_bytes()
        add(f"/{token}/{name}", content, media_type)


def _add_review(app: FastAPI, session: ReviewSession, token: str) -> None:
    # Coroutines: one answer is saved after the other.
    @app.get(f"/{token}/session")
    async def about() -> Response:
        return json_response(session.as_json())

    @app.get(f"/{token}/view")
    async def view() -> Response:
        return json_response(session.view())

    @app.post(f"/{token}/answers")
    async def answer(given: Answer) -> Response:
        try:
            session.answer(given.image, given.answer, given.labels)
        except AnsweredAlready:
            message = "this image has an answer already; the page shows the next one"
            raise RequestError(409, "answered_already", message) from None
        except (InputError, OSError) as error:
            raise _not_saved(error) from None
        except ValueError as error:
            raise RequestError(400, "bad_request", str(error)) from None
        return json_response(session.view())

    @app.post(f"/{token}/undo")
    async def undo() -> Response:
        try:
            session.undo()
        except (InputError, OSError) as error:
            raise _not_saved(error) from None
        return json_response(session.view())


def _not_saved(error: Exception) -> RequestError:
    reason = getattr(error, "strerror", None) or str(error)
    return RequestError(500, "not_saved", f"the answer was not saved: {reason}")


def _add_images(app: FastAPI, session: ReviewSession, token: str) -> None:
    @app.get(f"/{token}/images/{{place}}")
    def image(place: int) -> Response:
        if not 0 <= place < len(session.queue):
            raise RequestError(404, "not_found", f"no image {place}")
        return _jpeg(session.queue[place].picture, LARGE)

    @app.get(f"/{token}/similar/{{place}}")
    def similar(place: int) -> Response:
        if not 0 <= place < len(session.labelled):
            raise RequestError(404, "not_found", f"no image {place}")
        return _jpeg(session.labelled[place], SMALL)


def _jpeg(picture: Picture, side: int) -> Response:
    """Return an image as JPEG, which every browser shows, at most `side` pixels high and wide."""
    source = picture.source
    try:
        if callable(source):
            source = source()
        image = as_picture(load_image(source, "RGB", value_range=picture.value_range))
    except ImageError as error:
        raise RequestError(404, "unreadable", str(error)) from None
    image.thumbnail((side, side), Image.Resampling.LANCZOS)
    file = io.BytesIO()
    image.save(file, "JPEG", quality=QUALITY)
    return Response(file.getvalue(), media_type="image/jpeg", headers=PAGE_HEADERS)
