"""
The clients of benchmarks/serving.py. They upload images over open connections, on the machine of
the server, and measure their own CPU time and that of the server.
"""

import asyncio
import contextlib
import time
from typing import Awaitable, Callable, Dict, List, Sequence, Tuple

import numpy as np
import psutil
import uvloop

WARM_UP_SECONDS = 1.0

Connection = Tuple[asyncio.StreamReader, asyncio.StreamWriter]


def request_of(file: bytes) -> bytes:
    part = b'--xyz\r\nContent-Disposition: form-data; name="file"; filename="a.jpg"\r\n'
    body = part + b"Content-Type: image/jpeg\r\n\r\n" + file + b"\r\n--xyz--\r\n"
    head = (
        b"POST /predict HTTP/1.1\r\nHost: 127.0.0.1\r\n"
        b"Content-Type: multipart/form-data; boundary=xyz\r\nContent-Length: %d\r\n\r\n"
    )
    return head % len(body) + body


async def connect(port: int) -> Connection:
    return await asyncio.open_connection("127.0.0.1", port)


async def ask(connection: Connection, request: bytes) -> None:
    """Send a request and read its answer. Raise `ValueError` if the answer has no label."""
    reader, writer = connection
    writer.write(request)
    head = await reader.readuntil(b"\r\n\r\n")
    fields = dict(line.split(b": ", 1) for line in head.lower().split(b"\r\n")[1:] if line)
    content = await reader.readexactly(int(fields[b"content-length"]))
    if b" 200 " not in head[:16] or b'"label"' not in content:
        raise ValueError(f"{head[:40]!r} {content[:200]!r}")


async def ask_once(port: int, request: bytes) -> None:
    connection = await connect(port)
    try:
        await ask(connection, request)
    finally:
        connection[1].close()


def cpu_seconds(server: psutil.Process) -> float:
    """Return the CPU time of a server and all its processes."""
    total = 0.0
    for process in [server, *server.children(recursive=True)]:
        with contextlib.suppress(psutil.NoSuchProcess):
            times = process.cpu_times()
            total += times.user + times.system
    return total


Answered = Callable[[float], None]
"""Notes an answer to a request, from the time at which the request was due."""

Clients = Callable[[float, float, Answered], Sequence[Awaitable[None]]]
"""Creates clients from the begin and the end of the measurement, and what notes their answers."""


def measure(server: psutil.Process, seconds: float, clients: Clients) -> Dict[str, float]:
    """Run clients for `seconds` seconds after a warm-up, and return the measurements."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(_measured(server, seconds, clients))


async def _measured(server: psutil.Process, seconds: float, clients: Clients) -> Dict[str, float]:
    times: List[float] = []
    latencies: List[float] = []
    begin = time.perf_counter() + WARM_UP_SECONDS
    end = begin + seconds

    def answered(due: float) -> None:
        if begin <= (now := time.perf_counter()) < end:
            times.append(now)
            latencies.append(now - due)

    async def processor_times() -> Tuple[float, float]:
        await asyncio.sleep(begin - time.perf_counter())
        theirs, ours = cpu_seconds(server), time.process_time()
        await asyncio.sleep(end - time.perf_counter())
        return cpu_seconds(server) - theirs, time.process_time() - ours

    measuring = asyncio.create_task(processor_times())
    await asyncio.gather(*clients(begin, end, answered))
    server_seconds, client_seconds = await measuring
    # A slope, as answers come by the batch: their number depends on when the last one comes
    rate = float(np.polyfit(times, np.arange(len(times)), 1)[0])
    p50, p99 = np.percentile(latencies, [50, 99]) * 1000
    return {
        "requests_per_second": rate,
        "p50_ms": float(p50),
        "p99_ms": float(p99),
        "cpu_ms_per_request": 1000 * server_seconds / seconds / rate,
        "client_cpu_ms_per_request": 1000 * client_seconds / seconds / rate,
    }


def closed_loop(
    server: psutil.Process, port: int, requests: List[bytes], clients: int, seconds: float
) -> Dict[str, float]:
    """Measure with `clients` clients, each of which sends a request when it has an answer."""

    async def client(number: int, end: float, answered: Answered) -> None:
        connection = await connect(port)
        turn = number
        while (due := time.perf_counter()) < end:
            await ask(connection, requests[turn % len(requests)])
            answered(due)
            turn += 1
        connection[1].close()

    return measure(
        server,
        seconds,
        lambda begin, end, answered: [client(i, end, answered) for i in range(clients)],
    )


def open_loop(
    server: psutil.Process, port: int, requests: List[bytes], rate: float, seconds: float
) -> Dict[str, float]:
    """
    Measure with `rate` requests per second, evenly spaced, whether or not earlier ones are
    answered. The time of a request counts from when it is due.
    """
    idle: List[Connection] = []

    async def request(number: int, due: float, answered: Answered) -> None:
        await asyncio.sleep(due - time.perf_counter())
        connection = idle.pop() if idle else await connect(port)
        await ask(connection, requests[number % len(requests)])
        answered(due)
        idle.append(connection)

    return measure(
        server,
        seconds,
        lambda begin, end, answered: [
            request(i, begin - WARM_UP_SECONDS + i / rate, answered)
            for i in range(int(rate * (WARM_UP_SECONDS + seconds)))
        ],
    )
