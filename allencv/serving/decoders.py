import asyncio
import contextlib
import json
import logging
import os
import queue
import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from typing import IO, Iterator, Tuple

import numpy as np

from allencv.runtime.classifier import Classifier
from allencv.runtime.errors import ImageError
from allencv.runtime.preprocessing import Preprocessing
from allencv.serving import decoder_process as child
from allencv.serving.decoding import damaged
from allencv.serving.errors import RequestError, too_much_work
from allencv.serving.limits import Limits
from allencv.serving.uploads import Upload, Uploads

if sys.platform == "linux":
    import fcntl

logger = logging.getLogger(__name__)

KILLED = {
    -number
    for name, number in signal.Signals.__members__.items()  # Windows has none of these
    if name in ("SIGPROF", "SIGALRM", "SIGKILL")
}
"""Exit statuses for too much time, by either clock, and for a system out of memory."""

PIPE_BYTES = 2**20
"""The size of a pipe to or from a process: the most that Linux allows. It is used when needed."""


class Decoders:
    """
    Processes that read files and JSON from clients. A process is ended and replaced when an input
    takes too long, takes too much memory, or makes a decoder crash. The server is not affected.

    # Parameters

    classifier : its `preprocessing` is applied in the processes. If it has none, the server calls
        its `preprocess` for files that a process has already decoded.
    limits : `workers` is the number of processes.
    """

    def __init__(self, classifier: Classifier, limits: Limits) -> None:
        self._classifier = classifier
        self._large_image = threading.Lock()
        preprocessing = classifier.preprocessing
        setup = {
            "limits": asdict(limits),
            "preprocessing": (
                asdict(preprocessing) if isinstance(preprocessing, Preprocessing) else None
            ),
        }
        # Separate threads: they wait for a process, and must not delay other work.
        self._json_threads = ThreadPoolExecutor(limits.workers, "json")
        self._all = [_Decoder(json.dumps(setup).encode()) for _ in range(limits.workers)]
        self._idle: queue.SimpleQueue[_Decoder] = queue.SimpleQueue()
        for decoder in self._all:
            self._idle.put(decoder)

    def start(self) -> None:
        """
        Start the processes and wait for them. Otherwise, each starts when it is first used.

        # Raises

        `RuntimeError` if one cannot be started.
        """
        for decoder in self._all:
            decoder.start()
        for decoder in self._all:
            decoder.wait_until_ready()

    def close(self) -> None:
        """End the processes, even while they work."""
        for decoder in self._all:
            decoder.close()
        self._json_threads.shutdown(wait=False, cancel_futures=True)

    def read(self, file: bytes) -> np.ndarray:
        """
        Return the pixels for the network, `(height, width, channels)`, of an untrusted file.

        # Raises

        `RequestError`, as `open_upload` and `decode`, and 422 for a file that takes too much time
        or memory.
        """
        with self._decoder() as decoder, contextlib.ExitStack() as large:
            kind, content = decoder.ask(child.IMAGE, file)
            if kind == child.LARGE_IMAGE:
                large.enter_context(self._large_image)
                kind, content = decoder.ask(child.LARGE_IMAGE, b"")
            if kind == child.CHECKED:
                return self._preprocess(file)
        shape = child.SHAPE.unpack_from(content)
        return np.frombuffer(content, np.uint8, offset=child.SHAPE.size).reshape(shape)

    def parse_json(self, body: bytes) -> Uploads:
        """
        Return the images of a JSON body.

        # Raises

        `RequestError` as `from_json`, and 422 for a body that takes too much time or memory.
        """
        with self._decoder() as decoder:
            _, content = decoder.ask(child.JSON, body)
            count, session, is_flash = json.loads(content)
            images = [Upload(decoder.receive()[1]) for _ in range(count)]
        return Uploads(images, session, is_flash)

    async def parse_json_in_thread(self, body: bytes) -> Uploads:
        """Do the same without blocking the event loop."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._json_threads, self.parse_json, body)

    @contextlib.contextmanager
    def _decoder(self) -> "Iterator[_Decoder]":
        decoder = self._idle.get()
        try:
            yield decoder
        finally:
            self._idle.put(decoder)

    def _preprocess(self, file: bytes) -> np.ndarray:
        try:
            return self._classifier.preprocess(file)
        except ImageError as error:  # not damaged: a process has decoded it
            raise RequestError(422, "not_classified", str(error)) from None
        except Exception:
            logger.exception("The transforms of the model failed for an image")
            raise RequestError(
                422, "not_classified", "the transforms of the model fail for this image"
            ) from None


def _widen(pipe: IO[bytes]) -> None:
    """Let a pipe hold an image, so that neither side wakes the other for each piece of it."""
    if sys.platform == "linux":
        with contextlib.suppress(OSError):  # the system may allow less
            fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, PIPE_BYTES)


class _Decoder:
    """A process. One thread uses it at a time; another may call `close`."""

    def __init__(self, setup: bytes) -> None:
        self._setup = setup
        self._changing = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._requests: IO[bytes]
        self._answers: IO[bytes]
        self._is_ready = False
        self._is_closed = False

    def start(self) -> None:
        with self._changing:
            if self._is_closed:
                raise RequestError(503, "shutting_down", "the server is shutting down")
            self._is_ready = False
            process = subprocess.Popen(
                [sys.executable, "-m", child.__name__],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                env={
                    **os.environ,
                    "PYTHONPATH": os.pathsep.join(sys.path),
                    "OMP_NUM_THREADS": "1",
                    "OPENBLAS_NUM_THREADS": "1",
                    "MALLOC_MMAP_THRESHOLD_": str(2**22),  # frees large images at once
                    "MALLOC_TRIM_THRESHOLD_": str(2**25),
                },
            )
            assert process.stdin is not None
            assert process.stdout is not None
            _widen(process.stdin)
            _widen(process.stdout)
            self._process, self._requests, self._answers = process, process.stdin, process.stdout

    def wait_until_ready(self) -> None:
        try:
            child.send(self._requests, child.SETUP, self._setup)
            child.receive(self._answers)
        except (EOFError, OSError):
            raise RuntimeError(f"a decoder process ended with status {self._end()}") from None
        self._is_ready = True

    def ask(self, kind: bytes, content: bytes) -> Tuple[bytes, bytes]:
        """
        Send a frame and return the answer. Raise `RequestError` if the answer is an error, or if
        the process ends or cannot be started.
        """
        try:
            if self._process is None or self._process.poll() is not None:
                self.start()
            if not self._is_ready:
                self.wait_until_ready()
        except (OSError, RuntimeError) as error:  # no memory, no processes or files left
            logger.error("A decoder process cannot be started: %s", error)
            raise RequestError(
                503, "no_decoder", "the server has no process to read images with", 1.0
            ) from None
        try:
            child.send(self._requests, kind, content)
        except OSError:
            raise self._failure() from None
        return self.receive()

    def receive(self) -> Tuple[bytes, bytes]:
        try:
            kind, content = child.receive(self._answers)
        except EOFError:
            raise self._failure() from None
        if kind == child.ERROR:
            raise RequestError(*json.loads(content))
        return kind, content

    def close(self) -> None:
        with self._changing:
            self._is_closed = True
            if self._process is not None:
                self._process.kill()
                self._process.wait()

    def _failure(self) -> RequestError:
        """Start the next process. Return the error for the client."""
        status = self._end()
        with contextlib.suppress(RequestError, OSError):  # the next request tries again
            self.start()
        if self._is_closed:
            return RequestError(503, "shutting_down", "the server is shutting down")
        if status in KILLED:
            return too_much_work()
        return damaged("the decoder failed")

    def _end(self) -> int:
        assert self._process is not None
        try:
            status = self._process.wait(1)  # usually it has already ended
        except subprocess.TimeoutExpired:
            self._process.kill()
            status = self._process.wait()
        for stream in (self._requests, self._answers):
            with contextlib.suppress(OSError):
                stream.close()
        return status
