import base64
import binascii
import json
import re
from dataclasses import dataclass
from typing import Any, Dict, Iterator, List, NoReturn, Optional, Tuple
from urllib.parse import unquote

from python_multipart.multipart import parse_options_header

from allencv.serving.errors import RequestError
from allencv.serving.limits import Limits

FILE_FIELDS = ("file", "files", "image", "images")
"""The multipart fields that images are taken from."""

MAX_OTHER_FIELDS = 8
"""Other multipart fields are ignored, up to this many."""

MAX_OPTIONS = 2000
"""The most characters of a header with options. Parsing takes quadratic time."""

EXTENDED_NAME = re.compile(
    r";\s*filename\*\s*=\s*\"?(?P<charset>utf-8|iso-8859-1)'[^']*'(?P<name>[^;\"\s]*)",
    re.IGNORECASE,
)
"""A name in the form of RFC 5987. Some clients send only this, though RFC 7578 forbids it."""

MAX_PART_HEAD = 4000
"""The most bytes of the headers of a part of a multipart body."""

PIECE = 2**20
"""
The bytes that are searched in one call. Such a call blocks the interpreter, and with it the event
loop.
"""


@dataclass
class Upload:
    """An image of a request: the bytes of the file, and its name, if sent."""

    file: bytes
    name: Optional[str] = None


@dataclass
class Uploads:
    """The images of a request. A request in the format of Flash's client may have a `session`."""

    images: List[Upload]
    session: Optional[str] = None
    is_flash: bool = False


def from_multipart(options: Dict[str, bytes], body: bytes, limits: Limits) -> Uploads:
    """
    Return the files in a multipart body: the parts in one of `FILE_FIELDS`, with or without a file
    name. `options` are those of the content type.

    # Raises

    `RequestError`: 400 for a malformed body, 413 for too many files, 415 for a file in base64.
    """
    boundary = options.get("boundary", b"")
    if not 0 < len(boundary) <= 200:
        raise bad_request("no boundary in the content type multipart/form-data")
    images: List[Upload] = []
    others = 0
    for head, content in _parts(body, b"--" + boundary):
        field, name = _field_and_name(head)
        if field not in FILE_FIELDS:
            if name is not None:
                raise bad_request(
                    f"a file in the field {field[:100]!r}; expected one of {', '.join(FILE_FIELDS)}"
                )
            others += 1
            if others > MAX_OTHER_FIELDS:
                raise bad_request(f"more than {MAX_OTHER_FIELDS} fields that are not files")
            continue
        if len(images) == limits.max_files:
            raise too_many(limits)
        images.append(Upload(content, name))
    return Uploads(images)


def _parts(body: bytes, boundary: bytes) -> Iterator[Tuple[bytes, bytes]]:
    """Yield the headers and the content of each part of a multipart body."""
    delimiter = b"\r\n" + boundary
    at = len(boundary) if body.startswith(boundary) else _end_of(body, delimiter, 0)
    while not body.startswith(b"--", at):
        line_end = body.find(b"\r\n", at, at + 100)
        if line_end < 0 or body[at:line_end].strip(b" \t"):
            raise bad_request("the multipart body has a boundary that is not on its own line")
        head_end = body.find(b"\r\n\r\n", line_end, line_end + MAX_PART_HEAD)
        if head_end < 0:
            raise bad_request("the multipart body has a part whose headers have no end")
        next_at = _end_of(body, delimiter, head_end + 4)
        yield (
            body[line_end + 2 : head_end],
            body[head_end + 4 : next_at - len(delimiter)],
        )
        at = next_at


def _end_of(body: bytes, delimiter: bytes, start: int) -> int:
    """Return where the next delimiter ends."""
    for at in range(start, len(body), PIECE):
        found = body.find(delimiter, at, at + PIECE + len(delimiter))
        if found >= 0:
            return found + len(delimiter)
    raise bad_request("the multipart body is cut short")


def _field_and_name(head: bytes) -> Tuple[str, Optional[str]]:
    """Return the field of a part, and the name of its file, if any."""
    headers = _headers(head)
    encoding = headers.get("content-transfer-encoding", "binary")
    if encoding.lower() not in ("7bit", "8bit", "binary"):
        raise RequestError(
            415,
            "unsupported_media_type",
            f"a part has the transfer encoding {encoding[:20]!r}; send the file without encoding",
        )
    disposition = headers.get("content-disposition", "")
    _, options = header_options(disposition, "Content-Disposition")
    if "name" not in options:
        raise bad_request("the multipart body has a part without a name")
    if "filename" in options:
        name = _text(options["filename"])
    elif found := EXTENDED_NAME.search(disposition):
        name = unquote(found["name"], found["charset"], "replace")
    else:
        return _text(options["name"]), None
    # The name is only shown to its sender; of a path, only the last part is kept.
    return _text(options["name"]), re.split(r"[/\\]", name)[-1][:255]


def _headers(head: bytes) -> Dict[str, str]:
    """Return the headers of a part by lower-case name. An indented line continues a header."""
    lines = re.sub(r"\r\n[ \t]+", " ", head.decode("latin-1")).split("\r\n")
    headers = (line.partition(":") for line in lines)
    return {name.strip().lower(): value.strip() for name, _, value in headers}


def header_options(value: str, header: str) -> Tuple[str, Dict[str, bytes]]:
    """
    Return the value of a header and its options, such as the boundary of a content type. Raise
    `RequestError` 400 if the header is too long.
    """
    if len(value) > MAX_OPTIONS:
        raise bad_request(f"the header {header} is longer than {MAX_OPTIONS} characters")
    kind, options = parse_options_header(value)
    return kind.decode("latin-1").strip(), {
        key.decode("latin-1").strip().lower(): option for key, option in options.items()
    }


def _text(option: bytes) -> str:
    try:
        return option.decode("utf-8")
    except UnicodeDecodeError:
        return option.decode("latin-1")


def from_json(body: bytes, limits: Limits) -> Uploads:
    """
    Return the images of a JSON body with base64: `{"images": [...]}`, or Flash's
    `{"session": ..., "payload": {"inputs": {"data": ...}}}`.

    # Raises

    `RequestError`: 400 for a malformed body, 413 for too many images.
    """
    try:
        content = json.loads(body, parse_constant=_refuse_constant)
    except (ValueError, RecursionError):
        raise bad_request("the body is not valid JSON") from None
    if not isinstance(content, dict):
        raise bad_request("the body is not a JSON object")
    if "payload" in content:
        return _from_flash(content)
    images = content.get("images")
    if not isinstance(images, list):
        raise bad_request('expected {"images": ["<base64>", ...]}')
    if not images:
        raise bad_request('"images" is empty; expected images in base64')
    if len(images) > limits.max_files:
        raise too_many(limits)
    return Uploads([_from_base64(image, f"images[{i}]") for i, image in enumerate(images)])


def _from_flash(content: Dict[str, Any]) -> Uploads:
    try:
        image = content["payload"]["inputs"]["data"]
    except (KeyError, TypeError, IndexError):
        raise bad_request("no base64 text at payload.inputs.data") from None
    session = content.get("session")
    if session is not None and not isinstance(session, str):
        raise bad_request("session is not a string")
    return Uploads([_from_base64(image, "payload.inputs.data")], session, is_flash=True)


def _refuse_constant(name: str) -> NoReturn:
    """Refuse NaN, Infinity and -Infinity: Python reads them, but JSON has none."""
    raise ValueError(name)


def _from_base64(text: object, key: str) -> Upload:
    """Decode base64, or a `data:` URL as browsers make it."""
    if not isinstance(text, str):
        raise bad_request(f"{key} is not a string; expected an image file in base64")
    if text.startswith("data:"):
        text = text.partition(",")[2]
    try:
        return Upload(base64.b64decode(text, validate=True))
    except (binascii.Error, ValueError):
        raise bad_request(f"{key} is not base64") from None


def bad_request(message: str) -> RequestError:
    return RequestError(400, "bad_request", message)


def too_many(limits: Limits) -> RequestError:
    return RequestError(413, "too_many_files", f"more than {limits.max_files} images in a request")
