import asyncio
from typing import Any, List, Optional

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from allencv.serving.errors import RequestError
from allencv.serving.limits import Limits

MAX_HEAD_BYTES = 2**16
"""The largest request line and headers of a request, in bytes."""

MAX_HEADERS = 100

MAX_URL_BYTES = 2**13

MAX_MARK_BYTES = 2**17
"""
The bytes that a body may send beside its content: the marks of its chunks. Each chunk costs a call;
this is enough for chunks of 2 kB in the largest body.
"""

PIECE = 2**14
"""The bytes parsed at a time. Limits are checked after each piece."""

MAX_PIPELINED = 16
"""The requests on a connection that may wait for an earlier answer."""


class Connection(HttpToolsProtocol):
    """
    uvicorn's HTTP/1.1 connection, with limits. uvicorn keeps all headers and requests that it
    receives, and an answer until the client has read it. This connection closes when they are too
    long or too many, or when the client stalls.

    An `Upgrade` header is ignored, as RFC 9110 allows. The parser would drop the request's body.

    # Parameters

    limits : `body_seconds` for headers to arrive, `answer_seconds` for a client to continue
        reading, and `max_connections`.
    """

    def __init__(self, *arguments: Any, limits: Limits, **keywords: Any) -> None:
        super().__init__(*arguments, **keywords)
        self._limits = limits
        self._head_bytes = 0
        self._max_bytes = MAX_HEAD_BYTES
        self._reading: Optional[asyncio.TimerHandle] = None
        self._writing: Optional[asyncio.TimerHandle] = None
        self._refusal: Optional[RequestError] = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        if len(self.connections) > self._limits.max_connections:
            error = RequestError(503, "too_many_connections", "too many connections", 1.0)
            transport.write(error.as_bytes())
            transport.close()
            return
        self._start_timer()

    def connection_lost(self, exc: Optional[Exception]) -> None:
        self._stop_timer()
        self.resume_writing()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        self._unset_keepalive_if_required()
        try:
            for start in range(0, len(data), PIECE):
                piece = data[start : start + PIECE]
                self._head_bytes += len(piece)
                self._feed(piece)
                if self._head_bytes > self._max_bytes:
                    is_head = self._max_bytes == MAX_HEAD_BYTES
                    self._refuse(_head_too_large() if is_head else _too_many_chunks())
        except (httptools.HttpParserError, RequestError):
            self.send_400_response("not a valid HTTP request")

    def _feed(self, data: bytes) -> None:
        """Parse the data, and call the methods below."""
        while True:
            try:
                self.parser.feed_data(data)
                return
            except httptools.HttpParserUpgrade as upgrade:
                # The parser has stopped after the headers: give it these again without "Upgrade".
                rest = data[upgrade.args[0] :]
                head = self._head_without_upgrade()
                self.parser = httptools.HttpRequestParser(self)
                self.parser.feed_data(head)
                data = rest

    def _head_without_upgrade(self) -> bytes:
        method, version = self.parser.get_method(), self.parser.get_http_version()
        lines: List[bytes] = [b"%b %b HTTP/%b" % (method, self.url, version.encode())]
        lines += [
            b"%b: %b" % (name, value)
            for name, value in self.headers
            if name not in (b"upgrade", b"connection", b"http2-settings")
        ]
        if any(name == b"connection" and b"close" in value.lower() for name, value in self.headers):
            lines.append(b"connection: close")
        return b"\r\n".join([*lines, b"", b""])

    def send_400_response(self, msg: str) -> None:
        error = self._refusal or RequestError(400, "bad_request", msg)
        if not self.transport.is_closing():
            self.transport.write(error.as_bytes())
            self.transport.close()

    def _refuse(self, error: RequestError) -> None:
        """Stop parsing and close the connection."""
        self._refusal = error
        raise error

    def on_message_begin(self) -> None:
        if len(self.pipeline) >= MAX_PIPELINED:
            self._refuse(
                RequestError(400, "bad_request", f"more than {MAX_PIPELINED} requests at a time")
            )
        super().on_message_begin()
        self._head_bytes = 0
        self._max_bytes = MAX_HEAD_BYTES
        self._start_timer()

    def on_url(self, url: bytes) -> None:
        super().on_url(url)
        if len(self.url) > MAX_URL_BYTES:
            self._refuse(
                RequestError(414, "url_too_long", f"a URL of more than {MAX_URL_BYTES} bytes")
            )

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._max_bytes == MAX_MARK_BYTES:
            return  # after the body: it must not be taken for a header before it
        super().on_header(name, value)
        if len(self.headers) > MAX_HEADERS or len(name) + len(value) > MAX_HEAD_BYTES:
            self._refuse(_head_too_large())

    def on_headers_complete(self) -> None:
        if self.parser.get_method() == b"CONNECT":
            self._refuse(RequestError(405, "method_not_allowed", "CONNECT is not supported"))
        if self.parser.should_upgrade():  # `_feed` handles this
            return
        self._stop_timer()
        self._head_bytes = 0
        self._max_bytes = MAX_MARK_BYTES
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        self._head_bytes -= len(body)
        super().on_body(body)

    def on_message_complete(self) -> None:
        if not self.parser.should_upgrade():
            super().on_message_complete()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._writing = self.loop.call_later(self._limits.answer_seconds, self.transport.abort)

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._writing is not None:
            self._writing.cancel()
            self._writing = None

    def _start_timer(self) -> None:
        self._stop_timer()
        self._reading = self.loop.call_later(self._limits.body_seconds, self.transport.close)

    def _stop_timer(self) -> None:
        if self._reading is not None:
            self._reading.cancel()
            self._reading = None


def _head_too_large() -> RequestError:
    return RequestError(
        431,
        "head_too_large",
        f"headers of more than {MAX_HEAD_BYTES // 1024} kB, or more than {MAX_HEADERS} of them",
    )


def _too_many_chunks() -> RequestError:
    return RequestError(400, "bad_request", "the chunks of the body are too small")
