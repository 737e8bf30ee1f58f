from dataclasses import dataclass, field, fields

from allencv.runtime.cores import cores


@dataclass(frozen=True)
class Limits:
    """
    What a server takes on before it says no. Together they bound its memory, whatever is sent: the
    bodies by `max_pending_bytes`, the decoded images by the pixels (only one large image is decoded
    at a time), the queue by `max_waiting`.

    # Parameters

    max_body_bytes : the size of one request.
    max_pending_bytes : of all requests that are being received or answered, together.
    max_files : the images of one request.
    max_pixels : of a JPEG.
    max_other_pixels : of another format, as their decoders need several times the memory.
    max_waiting : the images that wait for a worker.
    max_batch : the images that a worker classifies at once. It takes what waits, and never waits.
    workers : the threads that decode and classify. By default one for each core that this process
        may use.
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
    workers: int = field(default_factory=cores)
    body_seconds: float = 30.0
    answer_seconds: float = 30.0

    def __post_init__(self) -> None:
        for each in fields(self):
            value = getattr(self, each.name)
            if value <= 0:
                raise ValueError(f"{each.name} is {value}; expected a positive number")
