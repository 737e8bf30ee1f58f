import math
import signal
import threading
from functools import partial
from types import FrameType
from typing import Optional

import uvicorn
from fastapi import FastAPI
from starlette.types import Message, Receive, Scope, Send

from allencv.serving.connection import Connection
from allencv.serving.limits import Limits

DRAIN_SECONDS = 1.0
"""How long a server that is told to end still takes new requests."""


class Server(uvicorn.Server):
    """
    Runs an application until the process is told to end (SIGTERM or SIGINT), and then finishes what
    it has accepted. For a second it goes on as before, but `/readyz` says no, and each answer
    closes its connection: a client that is just sending its next request is answered, and not cut
    off. A second signal cuts this short.

    # Parameters

    app : what `create_app` made.
    limits : `body_seconds`, which the headers of a request may take too, and `answer_seconds`.
    """

    def __init__(self, app: FastAPI, limits: Limits) -> None:
        self._app = app
        config = uvicorn.Config(
            self._close_while_draining,
            interface="asgi3",
            http=partial(Connection, head_seconds=limits.body_seconds),  # type: ignore[arg-type]
            ws="none",
            lifespan="on",
            proxy_headers=False,  # no answer depends on who asks
            access_log=False,
            log_level="warning",
            server_header=False,
            timeout_keep_alive=30,
            timeout_graceful_shutdown=math.ceil(limits.answer_seconds),
        )
        super().__init__(config)

    async def _close_while_draining(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_and_close(message: Message) -> None:
            if message["type"] == "http.response.start" and self._app.state.is_draining:
                message["headers"] = [*message["headers"], (b"connection", b"close")]
            await send(message)

        await self._app(scope, receive, send_and_close)

    def handle_exit(self, sig: int, frame: Optional[FrameType]) -> None:
        """Unlike uvicorn's, it does not raise the signal again after all has been finished."""
        if self._app.state.is_draining:
            self.force_exit = self.should_exit and sig == signal.SIGINT
            self.should_exit = True
            return
        self._app.state.is_draining = True
        timer = threading.Timer(DRAIN_SECONDS, setattr, (self, "should_exit", True))
        timer.daemon = True
        timer.start()
