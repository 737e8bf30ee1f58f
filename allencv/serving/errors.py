import math
from http import HTTPStatus
from typing import Dict, Optional

from starlette.responses import JSONResponse

from allencv.runtime.errors import AllenCVError


class RequestError(AllenCVError):
    """
    A request, or an image of one, that is not answered as asked. The client is told as
    `{"error": {"code": ..., "message": ...}}`.

    # Parameters

    status : of HTTP.
    code : the same for all errors of a kind, for programs.
    message : one line, for people. It says what was expected, and names no part of this program.
    retry_after : seconds after which the same request may be answered.
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
        """The whole answer, for a connection that is closed after it."""
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
    return RequestError(
        429, "overloaded", "the server has as much to do as it can take; try again", retry_after
    )


def too_much_work() -> RequestError:
    return RequestError(
        422, "too_much_work", "reading it takes more time or memory than the server allows"
    )
