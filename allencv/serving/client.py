"""
A client of `allencv serve`. It needs only Python's standard library; PIL images and arrays need
pillow and numpy.
"""

import http.client
import io
import json
import os
import time
import urllib.error
import urllib.request
import uuid
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, Dict, Iterable, List, Optional, Union, cast, overload

from allencv import AllenCVError

if TYPE_CHECKING:
    import numpy as np
    import PIL.Image

Image = Union[str, os.PathLike, bytes, "PIL.Image.Image", "np.ndarray"]
"""
A path, the bytes of an image file, a PIL image, or a uint8 array `(height, width[, channels])`.
"""

PNG_MODES = ("1", "L", "LA", "P", "RGB", "RGBA", "I;16")
"""The modes of PIL images that PNG preserves. The others are sent as TIFF."""

CONVERTED = {"HSV": "RGB", "PA": "RGBA", "RGBa": "RGBA"}
"""The modes that no file format has, and their conversions, which the server would apply too."""

PATH = (str, os.PathLike)

ABOUT_THE_IMAGE = (413, 415, 422)
"""The statuses that refuse an image rather than the request."""


class ServerError(AllenCVError, RuntimeError):
    """The server cannot be reached, does not answer, or refuses a request as a whole."""


class Client:
    """
    A client that asks a server for the labels of images.

    # Parameters

    url : the server's URL, such as "http://127.0.0.1:8000".
    timeout : seconds to wait for an answer.
    retries : how often to resend an image to a server that is too busy.
    connections : the number of images sent at a time.

    # Raises

    `ValueError` for a URL that does not begin with http:// or https://.
    """

    def __init__(
        self, url: str, timeout: float = 60.0, retries: int = 5, connections: int = 4
    ) -> None:
        if not url.startswith(("http://", "https://")):
            raise ValueError(
                f"url is {url!r}; expected one that begins with http:// or https://, such as "
                "'http://127.0.0.1:8000'"
            )
        self._url = url.rstrip("/")
        self._timeout = timeout
        self._retries = retries
        self._connections = connections

    def __repr__(self) -> str:
        return f"Client({self._url!r})"

    def labels(self) -> List[str]:
        """Return the labels of the server's model, in the order of the network's output."""
        return self._ask(urllib.request.Request(f"{self._url}/labels"))["labels"]

    @overload
    def predict(self, images: Image, top_k: Optional[int] = None) -> Dict[str, Any]: ...

    @overload
    def predict(
        self, images: Iterable[Image], top_k: Optional[int] = None
    ) -> List[Dict[str, Any]]: ...

    def predict(
        self, images: Union[Image, Iterable[Image]], top_k: Optional[int] = None
    ) -> Union[Dict[str, Any], List[Dict[str, Any]]]:
        """
        Return the answer for one image, or for each of several, in order: `label` (or `labels`) and
        `top_k`, or `error` if the server refuses the image; for a path, also the `file`. Of a
        calibrated model, also `is_unknown`, `is_answered`, and the set of labels: `labels` beside
        `label`, or `possible_labels`. PIL images and arrays are sent without loss. A list or any
        other iterable is several images.

        # Raises

        `ServerError` if the server cannot be reached, fails, or stays too busy. `OSError` for a
        file that cannot be read. `TypeError` for anything but images.
        """
        query = "" if top_k is None else f"?top_k={top_k}"
        is_several = isinstance(images, Iterable) and not isinstance(images, (*PATH, bytes))
        if not is_several or getattr(images, "ndim", 4) < 4:  # an array of several has 4 axes
            return self._predict_one(cast(Image, images), query)
        with ThreadPoolExecutor(self._connections) as threads:
            several = cast(Iterable[Image], images)
            return list(threads.map(lambda image: self._predict_one(image, query), several))

    def _predict_one(self, image: Image, query: str) -> Dict[str, Any]:
        file = _file_of(image)
        boundary = uuid.uuid4().hex.encode()
        body = (
            b"--%b\r\n"
            b'Content-Disposition: form-data; name="file"; filename="image"\r\n\r\n'
            b"%b\r\n"
            b"--%b--\r\n" % (boundary, file, boundary)
        )
        content_type = f"multipart/form-data; boundary={boundary.decode()}"
        request = urllib.request.Request(
            f"{self._url}/predict{query}", body, {"Content-Type": content_type}
        )
        answer = self._ask(request)
        answer = answer["predictions"][0] if "predictions" in answer else answer
        answer.pop("file", None)
        return {"file": os.fspath(image), **answer} if isinstance(image, PATH) else answer

    def _ask(self, request: urllib.request.Request) -> Dict[str, Any]:
        for retries_left in range(self._retries, -1, -1):
            try:
                with urllib.request.urlopen(request, timeout=self._timeout) as response:
                    return json.load(response)
            except urllib.error.HTTPError as error:
                if error.code == 429 and retries_left:
                    time.sleep(float(error.headers.get("Retry-After", 1)))
                    continue
                answer = _error_of(error)
                if error.code in ABOUT_THE_IMAGE:
                    return answer
                raise ServerError(f"{request.full_url}: {answer['error']['message']}") from None
            except (OSError, http.client.HTTPException, ValueError, RecursionError) as error:
                reason = getattr(error, "reason", error)
                raise ServerError(f"{request.full_url}: no answer ({reason})") from error
        raise AssertionError("unreachable")


def _file_of(image: Image) -> bytes:
    """Return the bytes of an image file with the same pixels."""
    if isinstance(image, bytes):
        return image
    if isinstance(image, PATH):
        return Path(image).read_bytes()
    try:
        import PIL.Image
    except ImportError:
        raise TypeError(f"{type(image).__name__} needs pillow; expected a path or bytes") from None
    if not isinstance(image, PIL.Image.Image):
        image = _from_array(image)
    if image.mode in CONVERTED:
        image = image.convert(CONVERTED[image.mode])
    data = io.BytesIO()
    kind = "PNG" if image.mode in PNG_MODES else "TIFF"
    image.save(data, kind, exif=image.getexif())
    return data.getvalue()


def _from_array(array: object) -> "PIL.Image.Image":
    import numpy as np

    from allencv.runtime.errors import ImageError
    from allencv.runtime.images import open_image

    if not isinstance(array, np.ndarray):
        raise TypeError(
            f"{type(array).__name__} is not an image; expected a path, bytes, a PIL image or an "
            "array"
        )
    channels = array.shape[2] if array.ndim == 3 else 1
    try:
        return open_image(array, {1: "L", 4: "RGBA"}.get(channels, "RGB"))
    except ImageError as error:
        raise TypeError(str(error)) from None


def _error_of(error: urllib.error.HTTPError) -> Dict[str, Any]:
    """Return the server's error, or the HTTP status if something else has answered."""
    try:
        answer = json.load(error)
        return {"error": {key: answer["error"][key] for key in ("code", "message")}}
    except (ValueError, KeyError, TypeError, RecursionError):
        return {"error": {"code": "http_error", "message": f"HTTP status {error.code}"}}
