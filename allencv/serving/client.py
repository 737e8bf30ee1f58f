"""A client of `allencv serve`, of Python's standard library alone."""

import http.client
import json
import os
import time
import urllib.error
import urllib.request
import uuid
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Dict, Iterable, List, Optional, Union

Image = Union[str, os.PathLike, bytes]
"""A path, or the bytes of an image file."""


ABOUT_THE_IMAGE = (413, 415, 422)
"""The statuses that refuse an image, and not the request."""


class ServerError(RuntimeError):
    """The server cannot be reached, does not answer, or refuses a request as a whole."""


class Client:
    """
    Asks a server for the labels of images.

    # Parameters

    url : of the server, such as "http://127.0.0.1:8000".
    timeout : seconds to wait for an answer.
    retries : how often an image is sent again to a server that says that it is too busy.
    connections : how many images are sent at a time.
    """

    def __init__(
        self, url: str, timeout: float = 60.0, retries: int = 5, connections: int = 4
    ) -> None:
        self._url = url.rstrip("/")
        self._timeout = timeout
        self._retries = retries
        self._connections = connections

    def labels(self) -> List[str]:
        return self._ask(urllib.request.Request(f"{self._url}/labels"))["labels"]

    def predict(self, images: Iterable[Image], top_k: Optional[int] = None) -> List[Dict[str, Any]]:
        """
        An answer for each image, in their order: `label` (or `labels`) and `top_k`, or `error` for
        one that the server refuses; and the `file` that was given.

        # Raises

        `ServerError` if the server cannot be reached, fails, or stays too busy. `OSError` for a
        file that cannot be read.
        """
        query = "" if top_k is None else f"?top_k={top_k}"
        with ThreadPoolExecutor(self._connections) as threads:
            return list(threads.map(lambda image: self._predict_one(image, query), images))

    def _predict_one(self, image: Image, query: str) -> Dict[str, Any]:
        file = image if isinstance(image, bytes) else Path(image).read_bytes()
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
        return answer if isinstance(image, bytes) else {"file": os.fspath(image), **answer}

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
            except (OSError, http.client.HTTPException, ValueError) as error:
                reason = getattr(error, "reason", error)
                raise ServerError(f"{request.full_url}: no answer ({reason})") from error
        raise AssertionError("unreachable")


def _error_of(error: urllib.error.HTTPError) -> Dict[str, Any]:
    """What the server says; or else, where something else has answered, its status."""
    try:
        answer = json.load(error)
        return {"error": {key: answer["error"][key] for key in ("code", "message")}}
    except (ValueError, KeyError, TypeError):
        return {"error": {"code": "http_error", "message": f"HTTP status {error.code}"}}
