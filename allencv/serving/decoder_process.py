"""
The process that reads files from clients: `python -m allencv.serving.decoder_process`, started by
`Decoders`. A file can make a decoder work for minutes or take gigabytes. This process ends itself
after its time limit, and the system enforces its memory limit.

Both sides send frames: a letter for the kind, eight bytes for the length, and the content. The
first frame is the setup; its answer is READY.
"""

import contextlib
import functools
import json
import os
import signal
import struct
import sys
from typing import IO, Any, Dict, Iterator, Optional, Tuple

from PIL import AvifImagePlugin

from allencv.runtime.preprocessing import Preprocessing
from allencv.serving.decoding import LARGE, decode, open_upload
from allencv.serving.errors import RequestError, too_much_work
from allencv.serving.limits import Limits
from allencv.serving.uploads import from_json

SETUP, READY, IMAGE, JSON, ERROR = b"S", b"R", b"I", b"J", b"E"
LARGE_IMAGE = b"L"
"""Asks for permission to decode a large image. The answer is a frame of any kind."""
PIXELS = b"P"
"""The shape as three numbers of four bytes, and the pixels."""
CHECKED = b"C"
"""The image can be decoded within the limits."""
UPLOADS, FILE = b"U", b"F"
"""The content of a JSON body: the number of images and the session; then each image."""

HEADER = struct.Struct(">cQ")
SHAPE = struct.Struct(">III")

HEADER_SHARE = 0.25
"""The share of the time for an image's header, which can have a million entries."""

WAIT_FACTOR = 4
"""The limit of wall-clock time, as a multiple of the limit of CPU time."""


def send(stream: IO[bytes], kind: bytes, *parts: bytes) -> None:
    """Write a frame."""
    stream.write(HEADER.pack(kind, sum(map(len, parts))))
    for part in parts:
        stream.write(part)
    stream.flush()


def receive(stream: IO[bytes]) -> Tuple[bytes, bytes]:
    """Read a frame. Raise `EOFError` if the other side has ended."""
    head = stream.read(HEADER.size)
    if len(head) < HEADER.size:
        raise EOFError
    kind, length = HEADER.unpack(head)
    content = stream.read(length)
    if len(content) < length:
        raise EOFError
    return kind, content


def main() -> None:
    # Signals to the whole process group are for the server, which ends this process.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    requests, answers = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    AvifImagePlugin.DEFAULT_MAX_THREADS = 1
    with contextlib.suppress(EOFError, BrokenPipeError):
        setup = json.loads(receive(requests)[1])
        reader = _Reader(requests, answers, setup)
        send(answers, READY)
        silence = os.open(os.devnull, os.O_WRONLY)  # C libraries print about damaged files
        os.dup2(silence, 1)
        os.dup2(silence, 2)
        while True:
            reader.answer(*receive(requests))


class _Reader:
    def __init__(self, requests: IO[bytes], answers: IO[bytes], setup: Dict[str, Any]) -> None:
        self._requests = requests
        self._answers = answers
        self._limits = Limits(**setup["limits"])
        self._preprocessing: Optional[Preprocessing] = None
        if setup["preprocessing"] is not None:
            self._preprocessing = Preprocessing(**setup["preprocessing"])
        self._most_memory = _data_memory() + self._limits.large_image_bytes

    def answer(self, kind: bytes, content: bytes) -> None:
        try:
            if kind == IMAGE:
                self._answer_image(content)
            else:
                self._answer_json(content)
        except RequestError as error:
            failure = error
        except MemoryError:
            failure = too_much_work()
        else:
            return
        text = json.dumps([failure.status, failure.code, failure.message])
        send(self._answers, ERROR, text.encode())

    def _answer_image(self, content: bytes) -> None:
        with self._limited(self._limits.small_image_bytes, HEADER_SHARE):
            image = open_upload(content, self._limits)
        memory = self._limits.small_image_bytes
        if image.width * image.height > LARGE:
            send(self._answers, LARGE_IMAGE)
            receive(self._requests)
            memory = self._limits.large_image_bytes
        with self._limited(memory):
            pixels = decode(image, self._preprocessing)
        if pixels is None:
            send(self._answers, CHECKED)
        else:
            send(self._answers, PIXELS, SHAPE.pack(*pixels.shape), pixels.tobytes())

    def _answer_json(self, content: bytes) -> None:
        with self._limited(self._limits.small_image_bytes):
            uploads = from_json(content, self._limits)
        about = [len(uploads.images), uploads.session, uploads.is_flash]
        send(self._answers, UPLOADS, json.dumps(about).encode())
        for upload in uploads.images:
            send(self._answers, FILE, upload.file)

    @contextlib.contextmanager
    def _limited(self, memory: int, share: float = 1.0) -> Iterator[None]:
        """Allow `memory` more bytes, and end the process after this share of its time."""
        seconds = share * self._limits.decode_seconds
        if sys.platform == "win32":  # Windows has no such limits
            yield
            return
        _limit_memory(min(_data_memory() + memory, self._most_memory), self._most_memory)
        signal.setitimer(signal.ITIMER_PROF, seconds)
        signal.setitimer(signal.ITIMER_REAL, WAIT_FACTOR * seconds)
        try:
            yield
        finally:
            signal.setitimer(signal.ITIMER_PROF, 0)
            signal.setitimer(signal.ITIMER_REAL, 0)
            _limit_memory(self._most_memory, self._most_memory)


def _limit_memory(most: int, ever: int) -> None:
    if sys.platform == "linux":
        import resource

        resource.setrlimit(resource.RLIMIT_DATA, (most, ever))


def _data_memory() -> int:
    """Return the bytes that count towards the memory limit."""
    if sys.platform != "linux":
        return 0
    return int(os.pread(_statm(), 200, 0).split()[5]) * os.sysconf("SC_PAGE_SIZE")


@functools.cache
def _statm() -> int:
    """Open the file once, as it is read for every image."""
    return os.open("/proc/self/statm", os.O_RDONLY)


if __name__ == "__main__":
    main()
