import base64
import binascii
import json
import re
from dataclasses import dataclass
from typing import Any, AsyncGenerator, List, Optional

from python_multipart.multipart import parse_options_header
from starlette.datastructures import Headers
from starlette.formparsers import MultiPartException, MultiPartParser

from allencv.serving.errors import RequestError
from allencv.serving.limits import Limits

FILE_FIELDS = ("file", "files", "image", "images")
"""The multipart fields that images are taken from."""

MAX_OTHER_FIELDS = 8
"""Multipart fields that are not files are ignored, up to this many."""


@dataclass
class Upload:
    """An image of a request: the bytes of the file, and the name it was sent with, if any."""

    file: bytes
    name: Optional[str] = None


@dataclass
class Uploads:
    """The images of a request. One in the form of Flash's client has a `session`."""

    images: List[Upload]
    session: Optional[Any] = None
    is_flash: bool = False


async def parse_uploads(content_type: str, body: bytes, limits: Limits) -> Uploads:
    """
    Takes the images out of the body of a request: multipart with any number of files, or JSON with
    base64, `{"images": [...]}` or Flash's `{"session": ..., "payload": {"inputs": {"data": ...}}}`.

    # Raises

    `RequestError`: 400 for what cannot be understood, 413 for too many files, 415 for another
    content type.
    """
    kind, _ = parse_options_header(content_type)
    if kind == b"multipart/form-data":
        uploads = Uploads(await _from_multipart(content_type, body, limits.max_files))
    elif kind == b"application/json":
        uploads = _from_json(body)
    else:
        raise RequestError(
            415,
            "unsupported_media_type",
            "expected the content type multipart/form-data or application/json",
        )
    if not uploads.images:
        raise _bad_request(f"no image; expected files in the field '{FILE_FIELDS[0]}'")
    if len(uploads.images) > limits.max_files:
        raise _too_many(limits.max_files)
    return uploads


class _InMemory(MultiPartParser):
    """Starlette's parser, which keeps files in memory, as the body is, and knows its end."""

    spool_max_size = 2**62
    has_ended = False

    def on_end(self) -> None:
        self.has_ended = True


async def _from_multipart(content_type: str, body: bytes, max_files: int) -> List[Upload]:
    async def stream() -> AsyncGenerator[bytes, None]:
        yield body

    parser = _InMemory(
        Headers({"content-type": content_type}),
        stream(),
        max_files=max_files,
        max_fields=MAX_OTHER_FIELDS,
    )
    try:
        form = await parser.parse()
    except MultiPartException as error:
        if error.message.startswith("Too many files"):
            raise _too_many(max_files) from None
        raise _bad_request(error.message) from None
    if not parser.has_ended:
        raise _bad_request("the multipart body is cut short")
    images = []
    for field, value in form.multi_items():
        if isinstance(value, str):
            continue
        if field not in FILE_FIELDS:
            raise _bad_request(
                f"a file in the field {field[:100]!r}; expected one of {', '.join(FILE_FIELDS)}"
            )
        # The name is only ever shown to who sent it; a path is cut down to its last part.
        name = re.split(r"[/\\]", value.filename or "")[-1][:255]
        images.append(Upload(value.file.read(), name))
    return images


def _from_json(body: bytes) -> Uploads:
    try:
        content = json.loads(body)
    except (ValueError, RecursionError):
        raise _bad_request("the body is not valid JSON") from None
    if not isinstance(content, dict):
        raise _bad_request("the body is not a JSON object")
    if "payload" in content:
        try:
            image = content["payload"]["inputs"]["data"]
        except (KeyError, TypeError, IndexError):
            raise _bad_request("no base64 text at payload.inputs.data") from None
        return Uploads([_from_base64(image, "payload.inputs.data")], content.get("session"), True)
    images = content.get("images")
    if not isinstance(images, list):
        raise _bad_request('expected {"images": ["<base64>", ...]}')
    return Uploads([_from_base64(image, f"images[{i}]") for i, image in enumerate(images)])


def _from_base64(text: Any, key: str) -> Upload:
    """Also of a `data:` URL, which is what browsers make of a file."""
    if not isinstance(text, str):
        raise _bad_request(f"{key} is not a text; expected an image file in base64")
    if text.startswith("data:"):
        text = text.partition(",")[2]
    try:
        return Upload(base64.b64decode(text, validate=True))
    except (binascii.Error, ValueError):
        raise _bad_request(f"{key} is not base64") from None


def _bad_request(message: str) -> RequestError:
    return RequestError(400, "bad_request", message)


def _too_many(max_files: int) -> RequestError:
    return RequestError(413, "too_many_files", f"more than {max_files} images in a request")
