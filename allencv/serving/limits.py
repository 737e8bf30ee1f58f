from dataclasses import dataclass, field, fields

from allencv.runtime.cpu_count import cpu_count

CONNECTION_BYTES = 400_000
"""The memory of a connection beside a body: headers, data read ahead, a piece of an answer."""


@dataclass(frozen=True)
class Limits:
    """
    The limits of a server. Together they bound its memory, whatever clients send: the bodies by
    `max_pending_bytes`, the queue by `max_waiting`, the connections by `max_connections`, and each
    decoder process by `small_image_bytes` (one of them by `large_image_bytes`).

    # Parameters

    max_body_bytes : the size of one request.
    max_pending_bytes : the total size of all requests being received or answered.
    max_files : the images in one request.
    max_pixels : the pixels of a JPEG.
    max_other_pixels : the pixels of another format, whose decoder needs more memory.
    max_waiting : the images that wait for a worker.
    max_batch : the images that a worker classifies at once. It does not wait for more.
    workers : the threads that classify, and the processes that decode. By default one for each core
        that this process may use.
    max_connections : the clients connected at a time.
    decode_seconds : the CPU time to read one image or one JSON body.
    body_seconds : the time for the body of a request to arrive.
    answer_seconds : the time for the answer to a request.

    # Raises

    `ValueError` for a number that is not positive.
    """

    max_body_bytes: int = 32 * 2**20
    max_pending_bytes: int = 128 * 2**20
    max_files: int = 32
    max_pixels: int = 25_000_000
    max_other_pixels: int = 12_000_000
    max_waiting: int = 256
    max_batch: int = 8
    workers: int = field(default_factory=cpu_count)
    max_connections: int = 512
    decode_seconds: float = 3.0
    body_seconds: float = 30.0
    answer_seconds: float = 30.0

    def __post_init__(self) -> None:
        for each in fields(self):
            value = getattr(self, each.name)
            if value <= 0:
                raise ValueError(f"{each.name} is {value}; expected a positive number")

    @property
    def small_image_bytes(self) -> int:
        """The memory for decoding an image, or parsing JSON."""
        return 2**27 + 2 * self.max_body_bytes

    @property
    def large_image_bytes(self) -> int:
        """The memory for decoding a large image. One is decoded at a time."""
        return self.small_image_bytes + 16 * self.max_pixels

    @property
    def memory_bytes(self) -> int:
        """
        The most memory that requests can take, beside that of the idle server and its processes:
        bodies and the files in them, connections, and decoding.
        """
        bodies = 2 * self.max_pending_bytes
        connections = self.max_connections * CONNECTION_BYTES
        decoding = self.workers * self.small_image_bytes + 16 * self.max_pixels
        return bodies + connections + decoding
