import asyncio
import math
import signal
import socket
import threading
from functools import partial
from types import FrameType
from typing import List, Optional

import uvicorn
from fastapi import FastAPI
from starlette.types import Message, Receive, Scope, Send

from allencv.serving.connection import Connection
from allencv.serving.errors import RequestError
from allencv.serving.limits import Limits

DRAIN_SECONDS = 1.0
"""How long a server that is told to stop still accepts new requests."""

FINISH_SECONDS = 20
"""How long it may then finish accepted requests, at most. `answer_seconds` may be less."""

PIECE = 2**16
"""
The bytes of an answer that are passed to the connection at a time. It waits for slow clients, so
that memory does not hold a copy of the answer for each of them.
"""


class Server(uvicorn.Server):
    """
    A server that runs until the process gets SIGTERM or SIGINT, and then finishes the accepted
    requests. For a second it continues to accept requests, but `/readyz` fails, and each answer
    closes its connection: a client that is sending its next request still gets an answer. A second
    signal ends this phase. Requests not answered after `FINISH_SECONDS` get 503.

    # Parameters

    app : the application from `create_app`.
    limits : `answer_seconds`, and the limits of a `Connection`.
    greeting : printed when the server is ready.
    """

    def __init__(self, app: FastAPI, limits: Limits, greeting: str) -> None:
        self._app = app
        self._greeting = greeting
        config = uvicorn.Config(
            self._answer,
            interface="asgi3",
            http=partial(Connection, limits=limits),  # type: ignore[arg-type]
            ws="none",
            lifespan="on",
            proxy_headers=False,  # no answer depends on the client's address
            access_log=False,
            log_level="warning",
            server_header=False,
            timeout_keep_alive=30,
            timeout_graceful_shutdown=min(math.ceil(limits.answer_seconds), FINISH_SECONDS),
        )
        super().__init__(config)

    async def startup(self, sockets: Optional[List[socket.socket]] = None) -> None:
        await super().startup(sockets)
        print(self._greeting, flush=True)

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        has_begun = False

        async def send_on(message: Message) -> None:
            nonlocal has_begun
            if message["type"] == "http.response.start":
                has_begun = True
                if self._app.state.is_draining:
                    message["headers"] = [*message["headers"], (b"connection", b"close")]
            elif message["type"] == "http.response.body":
                body = message.get("body", b"")
                while len(body) > PIECE:
                    await _send_if_open(send, {**message, "body": body[:PIECE], "more_body": True})
                    body = body[PIECE:]
                message = {**message, "body": body}
            await _send_if_open(send, message)

        try:
            await self._app(scope, receive, send_on)
        except asyncio.CancelledError:
            if scope["type"] != "http":
                raise
            if not has_begun:
                error = RequestError(503, "shutting_down", "the server is shutting down")
                await error.as_response()(scope, receive, send_on)
            # Otherwise the client gets a partial answer, and uvicorn logs this.

    def handle_exit(self, sig: int, frame: Optional[FrameType]) -> None:
        """Begin to stop. Unlike uvicorn, do not raise the signal again at the end."""
        if self._app.state.is_draining:
            self.force_exit = self.should_exit and sig == signal.SIGINT
            self.should_exit = True
            return
        self._app.state.is_draining = True
        timer = threading.Timer(DRAIN_SECONDS, setattr, (self, "should_exit", True))
        timer.daemon = True
        timer.start()


async def _send_if_open(send: Send, message: Message) -> None:
    """Send a part of an answer. If the client has just gone, uvloop raises; asyncio ignores it."""
    try:
        await send(message)
    except RuntimeError as error:
        if "the handler is closed" not in str(error):
            raise
