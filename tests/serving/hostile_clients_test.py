"""
A server as a process of its own, and clients that mean no good: what they send costs neither the
event loop, nor the workers, nor the memory more than is promised.
"""

import base64
import contextlib
import http.client
import json
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any, Dict, List, Tuple

import pytest

from allencv.serving.connection import MAX_HEAD_BYTES, MAX_HEADERS, MAX_PIPELINED
from allencv.serving.limits import Limits
from tests.conftest import ROOT
from tests.serving.conftest import Running, Serve, file_of, photo
from tests.serving.decoders_test import FLOODS

pytestmark = pytest.mark.slow

MULTIPART = "multipart/form-data; boundary=xyz"
PART = b'--xyz\r\nContent-Disposition: form-data; name="files"; filename="a"\r\n\r\n'


def form(*files: bytes) -> bytes:
    return b"".join(PART + file + b"\r\n" for file in files) + b"--xyz--\r\n"


def ask(
    running: Running, method: str, path: str, body: bytes = b"", kind: str = MULTIPART
) -> Tuple[int, Any]:
    connection = http.client.HTTPConnection("127.0.0.1", running.port, timeout=60)
    connection.request(method, path, body or None, {"Content-Type": kind} if body else {})
    response = connection.getresponse()
    content = response.read()
    connection.close()
    return response.status, json.loads(content) if content else None


def raw(running: Running, request: bytes = b"") -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", running.port), timeout=20)
    with contextlib.suppress(OSError):
        connection.sendall(request)
    return connection


def answers_of(connection: socket.socket) -> bytes:
    """All that comes until the server closes the connection."""
    received = b""
    with contextlib.suppress(ConnectionResetError):
        while piece := connection.recv(2**16):
            received += piece
    return received


HEAD = b"POST /predict HTTP/1.1\r\nHost: a\r\nContent-Type: multipart/form-data; boundary=xyz\r\n"

REFUSED_HEADS: Dict[str, Tuple[bytes, int, str]] = {
    "many headers": (
        *(b"GET / HTTP/1.1\r\n" + b"A: b\r\n" * (MAX_HEADERS + 1) + b"\r\n", 431),
        "head_too_large",
    ),
    "a long header": (
        *(b"GET / HTTP/1.1\r\nA: " + b"b" * 2 * MAX_HEAD_BYTES + b"\r\n\r\n", 431),
        "head_too_large",
    ),
    "parameters of 900 kB": (
        *(b"POST /predict HTTP/1.1\r\nContent-Type: a/b" + b"; a=b" * 180_000, 431),
        "head_too_large",
    ),
    "a long URL": (b"GET /?" + b"a&" * 10_000 + b" HTTP/1.1\r\n\r\n", 414, "url_too_long"),
    "no HTTP": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" * 10, 400, "bad_request"),
    "HTTP/2": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400, "bad_request"),
    "CONNECT": (b"CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n\r\n", 405, "method_not_allowed"),
}


@pytest.mark.parametrize("case", REFUSED_HEADS)
def test_heads_that_are_refused(server: Running, case: str) -> None:
    request, status, code = REFUSED_HEADS[case]
    with raw(server, request) as connection:
        response = http.client.HTTPResponse(connection)
        response.begin()
        assert response.status == status
        assert json.loads(response.read())["error"]["code"] == code
        assert response.headers["Connection"] == "close"


def test_some_requests_may_be_pipelined(server: Running) -> None:
    request = b"GET /healthz HTTP/1.1\r\nHost: a\r\n"
    with raw(
        server, (request + b"\r\n") * 5 + request + b"Connection: close\r\n\r\n"
    ) as connection:
        assert answers_of(connection).count(b"HTTP/1.1 200 OK") == 6


def test_many_pipelined_requests(server: Running) -> None:
    before = server.memory()
    request = b"GET / HTTP/1.1\r\n\r\n"
    attackers = [raw(server) for _ in range(10)]
    for attacker in attackers:
        attacker.settimeout(0.2)
        with contextlib.suppress(OSError):
            attacker.sendall(request * 60_000)
    assert ask(server, "GET", "/healthz")[0] == 200
    assert server.memory() - before < 30 * 2**20
    assert MAX_PIPELINED < 100
    for attacker in attackers:
        attacker.close()


@pytest.mark.parametrize(
    "extra",
    [
        b"Upgrade: h2c\r\nConnection: Upgrade, HTTP2-Settings\r\nHTTP2-Settings: AAMAAABk\r\n",
        b"Connection: upgrade\r\nUpgrade: websocket\r\n",
    ],
)
@pytest.mark.parametrize("chunked", [False, True])
@pytest.mark.parametrize("step", [10_000, 7])
def test_an_upgrade_is_ignored(server: Running, extra: bytes, chunked: bool, step: int) -> None:
    """As RFC 9110 allows. The body, and the next request, come through."""
    body = form(file_of(photo("green")))
    if chunked:
        head = HEAD + extra + b"Transfer-Encoding: chunked\r\n\r\n"
        request = head + b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)
    else:
        request = HEAD + extra + b"Content-Length: %d\r\n\r\n" % len(body) + body
    request += b"GET /healthz HTTP/1.1\r\nConnection: close\r\n\r\n"
    with raw(server) as connection:
        for start in range(0, len(request), step):
            connection.sendall(request[start : start + step])
        answers = answers_of(connection)
    assert answers.count(b"HTTP/1.1 200 OK") == 2
    assert b'"label": "green"' in answers
    assert b'{"status":"ok"}' in answers


@pytest.mark.parametrize(("size", "status"), [(1, 400), (2048, 200)])
def test_small_chunks(server: Running, size: int, status: int) -> None:
    """Each chunk costs the event loop a call. Those of a kilobyte and more are no trouble."""
    body = form(file_of(photo("green", (400, 300)), "BMP"))
    chunks = [body[start : start + size] for start in range(0, len(body), size)]
    request = HEAD + b"Connection: close\r\nTransfer-Encoding: chunked\r\n\r\n"
    request += b"".join(b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks) + b"0\r\n\r\n"
    with raw(server, request) as connection:
        assert answers_of(connection)[9:12] == str(status).encode()


def test_headers_after_the_body_are_ignored(server: Running) -> None:
    """They must not pass for headers that a proxy has checked."""
    request = b"POST /predict HTTP/1.1\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n"
    request += b"3\r\nabc\r\n0\r\nContent-Type: image/jpeg\r\n\r\n"
    with raw(server, request) as connection:
        assert b"unsupported_media_type" in answers_of(connection)


@pytest.mark.parametrize("path", ["/", "/healthz", "/readyz", "/labels", "/metrics", "/docs"])
def test_head_has_no_body(server: Running, path: str) -> None:
    with raw(
        server, b"HEAD %b HTTP/1.1\r\nConnection: close\r\n\r\n" % path.encode()
    ) as connection:
        head, _, rest = answers_of(connection).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 OK")
    assert rest == b""


def test_a_limit_on_connections(serve: Serve) -> None:
    with serve("--max-connections", 3, "--workers", 1) as running:
        held = [raw(running) for _ in range(3)]
        time.sleep(0.2)
        with raw(running) as connection:
            answer = answers_of(connection)
        assert answer.startswith(b"HTTP/1.1 503 Service Unavailable\r\n")
        assert (
            json.loads(answer.partition(b"\r\n\r\n")[2])["error"]["code"] == "too_many_connections"
        )
        held[0].close()
        time.sleep(0.2)
        assert ask(running, "GET", "/healthz")[0] == 200
        for connection in held:
            connection.close()


def test_a_client_that_does_not_read(server: Running) -> None:
    """Its connection is closed after the two seconds of --timeout; the page is small, so many."""
    with socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1024)
        connection.connect(("127.0.0.1", server.port))
        connection.settimeout(0.2)
        request = b"GET /metrics HTTP/1.1\r\n\r\n"
        end = time.monotonic() + 20
        with pytest.raises(OSError, match="(reset|Broken|abort)"):  # noqa: PT012
            while time.monotonic() < end:
                with contextlib.suppress(TimeoutError):
                    connection.sendall(request * 10)
                time.sleep(0.02)


def json_of(content: bytes) -> Tuple[bytes, str]:
    return b'{"images": [' + content, "application/json"


ATTACKS: List[Tuple[bytes, str]] = [
    json_of(b"[]," * 10_000_000 + b"[]]}"),
    json_of(b"[" * 30_000_000),
    json_of(b'"' + b"\\u0041" * 5_000_000 + b'"]}'),
    json_of(b'"' + b"1" * 31_000_000 + '\N{CAT}"]}'.encode()),
    json_of(b"1" * 30_000_000 + b"]}"),
    *[(form(flood), MULTIPART) for flood in FLOODS.values()],
    (form(b"\r\n--xy" * 5_000_000), MULTIPART),
    (form() * 3_000_000, MULTIPART),
    (PART * 300_000, MULTIPART),
    (bytes(31_000_000), "image/png"),
]


def test_memory_and_the_event_loop_are_bounded_whatever_is_sent(serve: Serve) -> None:
    """All attacks at once, again and again; with what holds as many bytes as it can."""
    limits = Limits(workers=2)
    answers: List[int] = []
    delays: List[float] = []
    over = threading.Event()

    def attack(attacks: List[Tuple[bytes, str]]) -> None:
        for body, kind in attacks:
            with contextlib.suppress(OSError, http.client.HTTPException):
                answers.append(ask(running, "POST", "/predict", body, kind)[0])

    def watch() -> None:
        while not over.is_set():
            started = time.monotonic()
            assert ask(running, "GET", "/healthz")[0] == 200
            delays.append(time.monotonic() - started)
            time.sleep(0.02)

    with serve("--workers", 2, "--decode-seconds", 1) as running:
        good = form(file_of(photo("red")))
        ask(running, "POST", "/predict", good)
        before = most = running.memory_of_all()
        holding = [raw(running, HEAD + b"Content-Length: 9000000\r\n\r\n" + bytes(1_000_000))]
        holding += [raw(running, b"GET / HTTP/1.1\r\nA: " + b"b" * 60_000) for _ in range(50)]
        threads = [threading.Thread(target=attack, args=(ATTACKS[i::3],)) for i in range(3)]
        watching = threading.Thread(target=watch)
        for thread in [*threads, watching]:
            thread.start()
        while any(thread.is_alive() for thread in threads):
            most = max(most, running.memory_of_all())
            time.sleep(0.05)
        over.set()
        watching.join()
        for connection in holding:
            connection.close()
        growth = most - before
        print(f"{growth / 2**20:.0f} MB more; /healthz after {max(delays):.3f} s, {answers}")
        assert growth < limits.memory_bytes
        assert set(answers) <= {400, 413, 415, 422, 429, 503}
        assert len(answers) > len(ATTACKS) / 2
        delays.sort()
        assert delays[len(delays) // 2] < 0.5  # a busy machine; without bounds, it is seconds
        assert ask(running, "POST", "/predict", good)[0] == 200
        assert running.stop(drain=False) == 0


def test_answers_of_many_labels_are_bounded(server: Running) -> None:
    image = base64.b64encode(file_of(photo("red"))).decode()
    body = json.dumps({"images": [image] * 4}).encode()
    status, content = ask(server, "POST", "/predict?top_k=1000", body, "application/json")
    assert status == 200
    assert len(content["predictions"]) == 4


def test_it_ends_whatever_its_workers_do(serve: Serve) -> None:
    """Two images that take for ever, and clients that wait: they hear 503, and it ends with 0."""
    answers: List[int] = []
    body = form(FLOODS["JPEG of Exif segments"])

    def attack() -> None:
        answers.append(ask(running, "POST", "/predict", body)[0])

    with serve("--workers", 1, "--timeout", 2, "--decode-seconds", 10_000) as running:
        threads = [threading.Thread(target=attack) for _ in range(2)]
        for thread in threads:
            thread.start()
        time.sleep(0.5)
        started = time.monotonic()
        assert running.stop(drain=False) == 0
        assert time.monotonic() - started < 15
        for thread in threads:
            thread.join(10)
    assert answers == [503, 503]


HANGING = """
import argparse, sys, time
from allencv.runtime.onnx_classifier import OnnxClassifier
from allencv.serving import app, command

app.CLOSE_SECONDS = 0.1

class Hanging(OnnxClassifier):
    calls = 0

    def probabilities(self, images):
        Hanging.calls += 1
        if Hanging.calls > 1:  # the first one is the server's own
            time.sleep(1000)
        return super().probabilities(images)

parser = argparse.ArgumentParser()
command.add_arguments(parser)
args = parser.parse_args([sys.argv[1], "--port", "0", "--timeout", "0.3", "--workers", "1"])
command.run(args, lambda args: Hanging(args.model))
"""


def test_it_ends_while_the_network_hangs(bundle: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", HANGING, str(bundle)], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        running = Running(process.stdout.readline().split()[-1], process)
        status, content = ask(running, "POST", "/predict", form(file_of(photo("red"))))
        assert (status, content["error"]["code"]) == (503, "no_answer_in_time")
        assert running.stop(drain=False) == 0
    finally:
        process.kill()
        process.communicate()
