import asyncio
import contextlib
from dataclasses import dataclass
from typing import Callable, List, Optional

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from allencv.serving.errors import RequestError, overloaded
from allencv.serving.limits import Limits

LINGER_SECONDS = 2.0
"""
How long the rest of a refused body is thrown away before its connection is closed: a client that is
still sending when that happens may never see the answer.
"""

LARGE_BODY = 2**20
"""The bytes of a body that is put together in a thread, as that takes milliseconds."""


class Gate:
    """
    ASGI middleware around the whole application. It receives the body of a request before the
    application sees the request, and refuses it as early as that can be told: by its
    `Content-Length` before any of it has been read, otherwise when the limit is passed. It counts
    the bytes that have come of all requests under way, so that many large ones cannot fill the
    memory; what a client only says that it will send takes room from nobody.

    # Parameters

    app : what is guarded.
    limits : `max_body_bytes`, `max_pending_bytes` and `body_seconds`.
    is_full : whether the queue has no room, so that reading another body would be in vain.
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
        """The body, as the one item of a list; `None` if the client goes away first."""
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
        """Counts bytes that have come."""
        self._check_size(reserved.bytes + more)
        if self._pending_bytes + more > self._limits.max_pending_bytes:
            raise overloaded()
        self._pending_bytes += more
        reserved.bytes += more


@dataclass
class _Reserved:
    """What one request has taken of `max_pending_bytes`."""

    bytes: int = 0


def _has_body(scope: Scope) -> bool:
    """Whether a body is expected or comes. Any method may have one."""
    names = {name for name, _ in scope["headers"]}
    return scope["method"] == "POST" or not names.isdisjoint(
        {b"content-length", b"transfer-encoding"}
    )


def _content_length(scope: Scope) -> int:
    for name, value in scope["headers"]:
        if name == b"content-length":
            return int(value) if value.isdigit() else 0
    return 0


def _replay(body: List[bytes], receive: Receive) -> Receive:
    """Gives out the body, once and without keeping it, and then what the server has to say."""

    async def replay() -> Message:
        if body:
            return {"type": "http.request", "body": body.pop(), "more_body": False}
        return await receive()

    return replay


async def _refuse(error: RequestError, scope: Scope, receive: Receive, send: Send) -> None:
    """Answers a request whose body has not been read, and closes the connection."""
    response = error.as_response()
    headers = [*response.raw_headers, (b"connection", b"close")]
    await send({"type": "http.response.start", "status": response.status_code, "headers": headers})
    await send({"type": "http.response.body", "body": response.body, "more_body": True})
    with contextlib.suppress(TimeoutError, asyncio.CancelledError):  # or when the server ends
        async with asyncio.timeout(LINGER_SECONDS):
            while (await receive()).get("more_body", False):
                pass
    await send({"type": "http.response.body", "body": b""})
