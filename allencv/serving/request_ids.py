import logging
import random
import re
import time
from urllib.parse import quote

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from allencv.serving.errors import RequestError

ID_HEADER = "X-Request-ID"
HEADER_NAME = ID_HEADER.lower().encode()

logger = logging.getLogger("allencv.access")


class NameRequests:
    """
    ASGI middleware that gives each request an id, for the answer's header `X-Request-ID` and the
    log. An id from the client or a proxy is kept. Errors in the server are logged and answered with
    500 here.

    # Parameters

    access_log : whether to log a line for each request: the client, the method, the path, the
        status, the time in seconds and the id.
    """

    def __init__(self, app: ASGIApp, access_log: bool = False) -> None:
        self._app = app
        self._access_log = access_log

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = time.perf_counter()
        request_id = _given_id(scope) or f"{random.getrandbits(128):032x}"
        status = 0

        async def send_with_id(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message["headers"], (HEADER_NAME, request_id.encode())]
            await send(message)

        try:
            await self._app(scope, receive, send_with_id)
        except Exception:
            logger.exception("Request %s failed", request_id)
            if status:  # too late for another answer; the connection is closed
                raise
            error = RequestError(500, "internal_error", "the server failed")
            await error.as_response()(scope, receive, send_with_id)
        finally:
            if self._access_log:
                client = scope["client"][0] if scope.get("client") else "-"
                seconds = time.perf_counter() - started
                # Quoted, so that a path cannot add lines to the log
                path = quote(scope["path"][:200])
                logger.info(
                    "%s %s %s %d %.3f s %s",
                    *(client, scope["method"], path, status, seconds, request_id),
                )


def _given_id(scope: Scope) -> str:
    for name, value in scope["headers"]:
        if name == HEADER_NAME:
            text = value.decode("latin-1")
            return text if re.fullmatch(r"[A-Za-z0-9._:+/=-]{1,128}", text) else ""
    return ""
