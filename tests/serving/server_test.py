"""A server as a process of its own, and clients that are slow, greedy, many, or suddenly gone."""

import contextlib
import http.client
import json
import os
import random
import re
import socket
import threading
import time
from collections import Counter
from typing import Any, Dict, Iterator, List, Tuple

import pytest

from tests.serving.conftest import COLORS, Running, Serve, file_of, photo

pytestmark = pytest.mark.slow


def multipart(*files: bytes) -> Tuple[bytes, Dict[str, str]]:
    """The body and the headers of a request with these files."""
    parts = [
        b'--xyz\r\nContent-Disposition: form-data; name="files"; filename="photo.jpg"\r\n\r\n'
        + file
        + b"\r\n"
        for file in files
    ]
    return b"".join([*parts, b"--xyz--\r\n"]), {"Content-Type": "multipart/form-data; boundary=xyz"}


def ask(running: Running, *files: bytes) -> Tuple[int, Dict[str, Any], Dict[str, str]]:
    connection = http.client.HTTPConnection("127.0.0.1", running.port, timeout=20)
    body, headers = multipart(*files)
    connection.request("POST", "/predict", body, headers)
    response = connection.getresponse()
    content = json.loads(response.read())
    connection.close()
    return response.status, content, dict(response.headers)


def figure(running: Running, name: str) -> float:
    connection = http.client.HTTPConnection("127.0.0.1", running.port, timeout=20)
    connection.request("GET", "/metrics")
    text = connection.getresponse().read().decode()
    connection.close()
    found = re.search(rf"^{re.escape(name)} (\S+)$", text, re.M)
    return float(found[1]) if found else 0.0


def eventually(condition: Any) -> bool:
    for _ in range(100):
        if condition():
            return True
        time.sleep(0.05)
    return False


def raw(running: Running, request: bytes) -> "socket.socket":
    connection = socket.create_connection(("127.0.0.1", running.port), timeout=20)
    connection.sendall(request)
    return connection


def answer_of(connection: socket.socket) -> Tuple[int, Dict[str, Any]]:
    response = http.client.HTTPResponse(connection)
    response.begin()
    return response.status, json.loads(response.read())


HEAD = b"POST /predict HTTP/1.1\r\nHost: a\r\nContent-Type: multipart/form-data; boundary=xyz\r\n"


def test_a_large_body_is_refused_before_it_is_sent(server: Running) -> None:
    with raw(server, HEAD + b"Content-Length: 1048577\r\n\r\n") as connection:
        status, content = answer_of(connection)
    assert status == 413
    assert content["error"] == {
        "code": "body_too_large",
        "message": "the request is larger than 1 MB",
    }


def test_a_large_body_that_does_not_say_so_is_not_read_whole(server: Running) -> None:
    """A hundred megabytes in chunks, of which the client cannot get rid of more than a few."""
    chunk = b"40000\r\n" + bytes(0x40000) + b"\r\n"
    sent = 0
    with raw(server, HEAD + b"Transfer-Encoding: chunked\r\n\r\n") as connection:
        connection.settimeout(0.5)
        try:
            while sent < 400 and not _has_answer(connection):
                connection.sendall(chunk)
                sent += 1
        except OSError:
            pass
        connection.settimeout(20)
        status, content = answer_of(connection)
    assert (status, content["error"]["code"]) == (413, "body_too_large")
    assert sent < 100


def _has_answer(connection: socket.socket) -> bool:
    connection.setblocking(False)
    try:
        return bool(connection.recv(1, socket.MSG_PEEK))
    except BlockingIOError:
        return False
    finally:
        connection.settimeout(0.5)


def test_a_client_that_sends_on_sees_why_it_was_refused(server: Running) -> None:
    """`http.client` sends all of the body before it looks for an answer."""
    status, content, _ = ask(server, bytes(3 * 2**20))
    assert (status, content["error"]["code"]) == (413, "body_too_large")


@pytest.mark.parametrize("length", [b"-1", b"abc", b"1e9", b"9" * 400])
def test_lengths_that_are_none(server: Running, length: bytes) -> None:
    with raw(server, HEAD + b"Content-Length: " + length + b"\r\n\r\n") as connection:
        connection.shutdown(socket.SHUT_WR)
        assert connection.recv(1000)[:12] in (b"HTTP/1.1 400", b"HTTP/1.1 413")


def test_slow_headers_and_a_slow_body(server: Running) -> None:
    heads = (b"", b"POST /pre", b"GET / HTTP/1.1\r\nHost: a\r\nA: b")
    with contextlib.ExitStack() as open_connections:
        of_heads = [open_connections.enter_context(raw(server, head)) for head in heads]
        of_body = open_connections.enter_context(
            raw(server, HEAD + b"Content-Length: 1000\r\n\r\n--xyz")
        )
        for connection in of_heads:
            assert connection.recv(1000) == b""  # closed after the two seconds of --timeout
        status, content = answer_of(of_body)
    assert (status, content["error"]["code"]) == (408, "too_slow")


@pytest.mark.parametrize("endless", [b"a", b"a: b\r\n", b"a:" + b" " * 1000])
def test_headers_without_end(server: Running, endless: bytes) -> None:
    before = server.memory()
    piece = endless * (2**16 // len(endless))
    sent = 0
    with raw(server, b"GET / HTTP/1.1\r\n") as connection, contextlib.suppress(OSError):
        while sent < 100 * 2**20:
            connection.sendall(piece)
            sent += len(piece)
    assert sent < 20 * 2**20  # of which most lay in the buffers of the system
    assert server.memory() - before < 20 * 2**20
    assert ask(server, file_of(photo("red")))[0] == 200


def test_slow_clients_keep_nobody_waiting(server: Running) -> None:
    slow = [raw(server, HEAD + b"Content-Length: 1000\r\n\r\n--xyz") for _ in range(50)]
    status, content, _ = ask(server, file_of(photo("red")))
    assert (status, content["predictions"][0]["label"]) == (200, "red")
    for connection in slow:
        connection.close()


def test_a_client_that_leaves_while_it_sends(server: Running) -> None:
    for _ in range(20):
        raw(server, HEAD + b"Content-Length: 1000\r\n\r\n--xyz").close()
    assert ask(server, file_of(photo("blue")))[1]["predictions"][0]["label"] == "blue"


@pytest.fixture(scope="module")
def roomy(serve: Serve) -> Iterator[Running]:
    """A server of large requests, and otherwise with the default limits."""
    with serve("--max-megabytes", 60) as running:
        yield running


def test_bytes_that_are_only_announced_take_no_room(roomy: Running) -> None:
    """Five clients say that they send 30 MB each, which is more than the 128 allowed, and wait."""
    head = HEAD + b"Content-Length: 31457280\r\n\r\n"
    idle = [raw(roomy, head) for _ in range(5)]
    assert ask(roomy, file_of(photo("red")))[0] == 200
    for connection in idle:
        connection.close()


def test_too_many_bytes_at_a_time(roomy: Running) -> None:
    """Requests are refused before memory grows: three of 60 MB are more than the 128 allowed."""
    before = roomy.memory()
    head = HEAD + b"Content-Length: 62914560\r\n\r\n"
    almost = head + bytes(62914559)
    with raw(roomy, almost) as first, raw(roomy, almost) as second:
        with raw(roomy, head) as third:
            third.settimeout(0.5)
            with contextlib.suppress(OSError):
                third.sendall(bytes(62914559))
            third.settimeout(20)
            status, content = answer_of(third)
        assert (status, content["error"]["code"]) == (429, "overloaded")
        assert roomy.memory() - before < 160 * 2**20
        first.close()
        second.close()
    assert eventually(lambda: ask(roomy, file_of(photo("red")))[0] == 200)


def large_jpeg(label: str) -> bytes:
    """Of 9 megapixels: it takes a worker some time."""
    return file_of(photo(label).resize((3000, 3000)), quality=40)


def test_what_waits_for_a_client_that_has_gone_is_dropped(serve: Serve) -> None:
    large = large_jpeg("red")
    body, _ = multipart(*[large] * 16)
    request = HEAD + b"Content-Length: %d\r\n\r\n" % len(body) + body
    with serve("--workers", 1, "--max-batch", 1) as running:
        raw(running, request).close()
        assert eventually(
            lambda: figure(running, 'allencv_requests_total{path="/predict",status="499"}') == 1
        )
        assert eventually(lambda: figure(running, "allencv_waiting_images") == 0)
        assert ask(running, file_of(photo("green")))[1]["predictions"][0]["label"] == "green"
        assert figure(running, "allencv_batch_images_sum") < 16


class Load:
    """Clients that ask as fast as they can, each for a colour that it knows."""

    def __init__(self, running: Running, clients: int, size: "tuple[int, int]" = (60, 40)) -> None:
        self.statuses: Counter = Counter()
        self.wrong: List[Any] = []
        self.told_to_leave = 0
        self._running = running
        self._over = threading.Event()
        self._files = {
            label: [file_of(photo(label, size, seed=i)) for i in range(2)] for label in COLORS
        }
        self._threads = [
            threading.Thread(target=self._ask, args=(seed,)) for seed in range(clients)
        ]

    def __enter__(self) -> "Load":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *exception: Any) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join(30)

    def _ask(self, seed: int) -> None:
        dice = random.Random(seed)
        connection = http.client.HTTPConnection("127.0.0.1", self._running.port, timeout=20)
        while not self._over.is_set():
            labels = dice.choices(list(COLORS), k=dice.randint(1, 3))
            body, headers = multipart(*[dice.choice(self._files[label]) for label in labels])
            try:
                connection.request("POST", "/predict", body, headers)
                response = connection.getresponse()
                content = json.loads(response.read())
            except (OSError, http.client.HTTPException) as error:
                self.statuses[type(error).__name__] += 1
                return
            self.statuses[response.status] += 1
            if response.status == 200:
                given = [each["label"] for each in content["predictions"]]
                if given != labels:
                    self.wrong.append((labels, given))
            if response.will_close and response.status == 200:
                self.told_to_leave += 1
                return


LOAD_SECONDS = float(os.environ.get("ALLENCV_LOAD_SECONDS", "1.5"))
"""How long the server has far too much to do. A minute shows more, and takes longer."""


def test_far_more_requests_than_it_can_take(serve: Serve) -> None:
    """
    32 clients with large photographs, where three may wait, ask for ten times what the server can
    do: each answer is right, and the others hear 429.
    """
    options = ("--workers", 1, "--max-waiting", 3, "--max-files", 3)
    with serve(*options) as running:
        ask(running, file_of(photo("red")))
        before = running.memory()
        with Load(running, 32, size=(1500, 1000)) as load:
            time.sleep(LOAD_SECONDS)
            assert eventually(lambda: load.statuses[200] > 10)
        assert set(load.statuses) == {200, 429}
        assert load.statuses[429] > 9 * load.statuses[200]
        assert not load.wrong
        growth = running.memory() - before
        print(f"{LOAD_SECONDS:g} s: {dict(load.statuses)}, {growth / 2**20:.1f} MB more")
        assert growth < 50 * 2**20
        assert figure(running, "allencv_waiting_images") == 0
        assert ask(running, file_of(photo("red")))[0] == 200


def test_many_clients_get_their_own_answers(roomy: Running) -> None:
    with Load(roomy, 16) as load:
        time.sleep(1)
    assert set(load.statuses) == {200}
    assert not load.wrong


def test_it_finishes_what_it_has_accepted(serve: Serve) -> None:
    answers: List[Any] = []
    with serve("--workers", 1, "--max-batch", 1) as running:
        request = (running, *[large_jpeg("blue")] * 8)
        asking = threading.Thread(target=lambda: answers.append(ask(*request)))
        asking.start()
        assert eventually(lambda: figure(running, "allencv_waiting_images") > 3)
        assert running.stop() == 0
        asking.join(20)
        output = running.process.stderr.read() if running.process.stderr else ""
    ((status, content, headers),) = answers
    assert status == 200
    assert [each["label"] for each in content["predictions"]] == ["blue"] * 8
    assert headers["connection"] == "close"
    assert "Traceback" not in output


def test_nobody_is_cut_off_when_it_ends_and_it_says_so(serve: Serve) -> None:
    with serve() as running:
        with Load(running, 8) as load:
            assert eventually(lambda: load.statuses[200] > 20)
            running.process.terminate()
            time.sleep(0.2)
            connection = http.client.HTTPConnection("127.0.0.1", running.port, timeout=20)
            connection.request("GET", "/readyz")
            response = connection.getresponse()
            assert response.status == 503
            assert json.loads(response.read())["error"]["code"] == "shutting_down"
            assert running.process.wait(20) == 0
        assert set(load.statuses) == {200}
        assert not load.wrong
        assert load.told_to_leave == 8


@pytest.mark.parametrize("drain", [True, False])
def test_clients_that_are_still_sending_and_reading_when_it_ends(serve: Serve, drain: bool) -> None:
    """
    One is refused in the middle of its body, or just after, and one does not read its answers; the
    log has no traceback of them.
    """
    head = b"POST /predict HTTP/1.1\r\nContent-Type: image/jpeg\r\nContent-Length: 1000\r\n\r\nabc"
    with serve("--timeout", 1, "--workers", 1) as running, socket.socket() as reading:
        reading.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1024)
        reading.connect(("127.0.0.1", running.port))
        reading.setblocking(False)
        end = time.monotonic() + 5
        with contextlib.suppress(OSError):
            while time.monotonic() < end:
                reading.send(b"GET /metrics HTTP/1.1\r\n\r\n" * 10)
        with raw(running, head) as sending:
            assert running.stop(drain) == 0
            assert sending.recv(2**16)[9:12] in (b"408", b"503")
        assert running.process.stderr is not None
        assert "Traceback" not in running.process.stderr.read()
