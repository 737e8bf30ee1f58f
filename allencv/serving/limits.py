from dataclasses import dataclass, field, fields

from allencv.runtime.cpu_count import cpu_count

CONNECTION_BYTES = 400_000
"""What a connection may hold beside a body: headers, what was read ahead, a piece of an answer."""


@dataclass(frozen=True)
class Limits:
    """
    What a server takes on before it says no. Together they bound its memory, whatever is sent: the
    bodies by `max_pending_bytes`, the queue by `max_waiting`, the connections by `max_connections`,
    and each process that decodes by `small_image_bytes` (one of them, by `large_image_bytes`).

    # Parameters

    max_body_bytes : the size of one request.
    max_pending_bytes : of all requests that are being received or answered, together.
    max_files : the images of one request.
    max_pixels : of a JPEG.
    max_other_pixels : of another format, as their decoders need several times the memory.
    max_waiting : the images that wait for a worker.
    max_batch : the images that a worker classifies at once. It takes what waits, and never waits.
    workers : the threads that classify, and the processes that decode. By default one for each core
        that this process may use.
    max_connections : the clients that are connected at a time.
    decode_seconds : the CPU time that reading one image, or one body in JSON, may take.
    body_seconds : how long the body of a request may take to arrive.
    answer_seconds : how long a request waits for its answer.

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
        """The memory that decoding an image, or parsing JSON, may take."""
        return 2**27 + 2 * self.max_body_bytes

    @property
    def large_image_bytes(self) -> int:
        """The memory that decoding a large image may take. One is decoded at a time."""
        return self.small_image_bytes + 16 * self.max_pixels

    @property
    def memory_bytes(self) -> int:
        """
        The most memory that requests can take, beside what the server and its processes need when
        nobody asks: bodies and the files taken out of them, what connections hold, and decoding.
        """
        bodies = 2 * self.max_pending_bytes
        connections = self.max_connections * CONNECTION_BYTES
        decoding = self.workers * self.small_image_bytes + 16 * self.max_pixels
        return bodies + connections + decoding
