import asyncio
from typing import Mapping

from allencv.serving.decoders import Decoders
from allencv.serving.errors import RequestError
from allencv.serving.limits import Limits
from allencv.serving.uploads import (
    FILE_FIELDS,
    Upload,
    Uploads,
    bad_request,
    from_json,
    from_multipart,
    header_options,
)

SMALL_BODY = 2**16
"""The largest body that is parsed in the event loop, in bytes. Larger ones would block it."""


async def read_body(
    headers: Mapping[str, str], body: bytes, decoders: Decoders, limits: Limits
) -> Uploads:
    """
    Return the images in the body of a request: multipart, JSON, or the image itself.

    # Raises

    `RequestError`: 400 for a malformed body, 413 for too many images, 415 for another content type
    or a content encoding, 422 for JSON that takes too much time or memory.
    """
    encoding = headers.get("content-encoding", "identity")
    if encoding.strip().lower() != "identity":
        raise RequestError(
            415,
            "unsupported_media_type",
            f"the body has the content encoding {encoding[:20]!r}; send it without encoding",
        )
    kind, options = header_options(headers.get("content-type", ""), "Content-Type")
    if kind.startswith("image/") or kind == "application/octet-stream":
        return Uploads([Upload(body)])
    if kind == "multipart/form-data":
        if len(body) <= SMALL_BODY:
            uploads = from_multipart(options, body, limits)
        else:
            uploads = await asyncio.to_thread(from_multipart, options, body, limits)
    elif kind == "application/json":
        if len(body) <= SMALL_BODY:
            uploads = from_json(body, limits)
        else:
            uploads = await decoders.parse_json_in_thread(body)
    else:
        raise RequestError(
            415,
            "unsupported_media_type",
            "expected the content type multipart/form-data, application/json or that of an image",
        )
    if not uploads.images:
        raise bad_request(f"no image; expected files in the field '{FILE_FIELDS[0]}'")
    return uploads
