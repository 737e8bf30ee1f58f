import asyncio
import contextlib
from dataclasses import dataclass
from typing import Callable, List, Optional

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from allencv.serving.errors import RequestError, overloaded
from allencv.serving.limits import Limits

LINGER_SECONDS = 2.0
"""
How long the rest of a refused body is discarded before the connection closes: a client that is
still sending then may never see the answer.
"""

LARGE_BODY = 2**20
"""From this size in bytes on, a body is joined in a thread, as that takes milliseconds."""


class Gate:
    """
    ASGI middleware around the application. It receives the body of a request before the application
    sees the request. It refuses a large body as early as possible: by its `Content-Length` before
    reading, or else when the limit is passed. It counts the received bytes of all current requests,
    so that they cannot fill the memory; bytes that are only announced are not counted.

    # Parameters

    app : the application.
    limits : `max_body_bytes`, `max_pending_bytes` and `body_seconds`.
    is_full : whether the queue is full, so that a body is not worth reading.
    """

    def __init__(self, app: ASGIApp, limits: Limits, is_full: Callable[[], bool]) -> None:
        self._app = app
        self._limits = limits
        self._is_full = is_full
        self._pending_bytes = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not _has_body(scope):
            await self._app(scope, receive, send)
            return
        reserved = _Reserved()
        try:
            body = await self._receive_body(scope, receive, reserved)
            if body is not None:
                await self._app(scope, _replay(body, receive), send)
        except RequestError as error:
            await _refuse(error, scope, receive, send)
        finally:
            self._pending_bytes -= reserved.bytes

    async def _receive_body(
        self, scope: Scope, receive: Receive, reserved: "_Reserved"
    ) -> Optional[List[bytes]]:
        """Return the body as the one item of a list, or `None` if the client disconnects."""
        self._check_size(_content_length(scope))
        if self._is_full() and scope["method"] == "POST":
            raise overloaded()
        chunks: List[bytes] = []
        try:
            async with asyncio.timeout(self._limits.body_seconds):
                while True:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        return None
                    chunk = message.get("body", b"")
                    self._reserve(len(chunk), reserved)
                    chunks.append(chunk)
                    if not message.get("more_body", False):
                        if reserved.bytes < LARGE_BODY:
                            return [b"".join(chunks)]
                        return [await asyncio.to_thread(b"".join, chunks)]
        except TimeoutError:
            raise RequestError(
                408,
                "too_slow",
                f"the body did not arrive within {self._limits.body_seconds:g} seconds",
            ) from None

    def _check_size(self, size: int) -> None:
        if size > self._limits.max_body_bytes:
            megabytes = self._limits.max_body_bytes / 2**20
            raise RequestError(
                413, "body_too_large", f"the request is larger than {megabytes:g} MB"
            )

    def _reserve(self, more: int, reserved: "_Reserved") -> None:
        """Count received bytes."""
        self._check_size(reserved.bytes + more)
        if self._pending_bytes + more > self._limits.max_pending_bytes:
            raise overloaded()
        self._pending_bytes += more
        reserved.bytes += more


@dataclass
class _Reserved:
    """The part of `max_pending_bytes` that one request uses."""

    bytes: int = 0


def _has_body(scope: Scope) -> bool:
    """Return whether the request may have a body, whatever its method."""
    return scope["method"] == "POST" or any(
        name in (b"content-length", b"transfer-encoding") for name, _ in scope["headers"]
    )


def _content_length(scope: Scope) -> int:
    for name, value in scope["headers"]:
        if name == b"content-length":
            return int(value) if value.isdigit() else 0
    return 0


def _replay(body: List[bytes], receive: Receive) -> Receive:
    """Return the body once, without keeping it, and then the server's messages."""

    async def replay() -> Message:
        if body:
            return {"type": "http.request", "body": body.pop(), "more_body": False}
        return await receive()

    return replay


async def _refuse(error: RequestError, scope: Scope, receive: Receive, send: Send) -> None:
    """Answer a request whose body has not been read, and close the connection."""
    response = error.as_response()
    headers = [*response.raw_headers, (b"connection", b"close")]
    await send({"type": "http.response.start", "status": response.status_code, "headers": headers})
    await send({"type": "http.response.body", "body": response.body, "more_body": True})
    with contextlib.suppress(TimeoutError, asyncio.CancelledError):  # or when the server ends
        async with asyncio.timeout(LINGER_SECONDS):
            while (await receive()).get("more_body", False):
                pass
    await send({"type": "http.response.body", "body": b""})
