import math
from http import HTTPStatus
from typing import Dict, Optional

from starlette.responses import JSONResponse

from allencv import AllenCVError


class RequestError(AllenCVError):
    """
    An error of a request, or of an image in it. The client gets
    `{"error": {"code": ..., "message": ...}}`.

    # Parameters

    status : the HTTP status.
    code : the kind of error, for programs.
    message : one line, for people. It says what was expected, without details of this program.
    retry_after : seconds after which the same request may succeed.
    """

    def __init__(
        self, status: int, code: str, message: str, retry_after: Optional[float] = None
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message
        self.retry_after = retry_after

    def as_json(self) -> Dict[str, Dict[str, str]]:
        return {"error": {"code": self.code, "message": self.message}}

    def as_bytes(self) -> bytes:
        """Return the whole answer, for a connection to be closed."""
        response = self.as_response()
        lines = [b"HTTP/1.1 %d %b" % (self.status, HTTPStatus(self.status).phrase.encode())]
        lines += [b"%b: %b" % header for header in response.raw_headers]
        return b"\r\n".join([*lines, b"connection: close", b"", bytes(response.body)])

    def as_response(self) -> JSONResponse:
        headers = {}
        if self.retry_after is not None:
            headers["Retry-After"] = str(max(1, math.ceil(self.retry_after)))
        return JSONResponse(self.as_json(), self.status, headers)


def overloaded(retry_after: float = 1.0) -> RequestError:
    return RequestError(429, "overloaded", "the server is too busy; try again later", retry_after)


def too_much_work() -> RequestError:
    return RequestError(
        422, "too_much_work", "reading it takes more time or memory than the server allows"
    )
