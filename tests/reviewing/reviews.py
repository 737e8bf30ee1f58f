from contextlib import contextmanager
from pathlib import Path
from threading import Thread
from typing import Iterator, List, Optional, Sequence

import httpx

from allencv.data.corrections import Labels
from allencv.reviewing import server
from allencv.reviewing.answers_file import AnswersFile
from allencv.reviewing.session import Picture, QueuedImage, ReviewSession
from allencv.serving.server import Server
from tests.conftest import write_images

LABELS = ["cat", "dog", "fox"]


def make_session(
    folder: Path, labels: Sequence[str] = tuple(LABELS), multi_label: bool = False, images: int = 4
) -> ReviewSession:
    """
    A review of `images` images: the first has the first label, the others have none. Two images
    with labels are similar to each. The answers are in `corrections.csv`.
    """
    write_images(folder, {"new": images, "known": 2}, size=30)
    pictures = []
    for number in range(images):
        file = str(folder / "new" / f"{number:03d}.jpg")
        given: Optional[Labels] = (labels[0],) if number == 0 else None
        pictures.append(Picture(file, f"new/{number:03d}.jpg", file, None, given))
    known: List[Picture] = []
    for number in range(2):
        file = str(folder / "known" / f"{number:03d}.jpg")
        known.append(Picture(file, file, file, None, (labels[number],)))
    queue = [
        QueuedImage(
            picture,
            f"The title of image {number}",
            f"The reason of image {number}.",
            (labels[1],),
            [
                {"label": labels[1], "probability": 0.75},
                {"label": labels[0], "probability": 0.2},
            ],
            [0, 1],
        )
        for number, picture in enumerate(pictures)
    ]
    answers = AnswersFile(str(folder / "corrections.csv"), multi_label)
    return ReviewSession("runs/pets", labels, multi_label, queue, known, answers)


@contextmanager
def served(session: ReviewSession) -> Iterator[str]:
    """Serve a review in a thread, as the command does, and give its address."""
    started: List[Server] = []

    class Started(Server):
        def __init__(self, *arguments: object) -> None:
            super().__init__(*arguments)  # type: ignore[arg-type]
            started.append(self)

    original, server.Server = server.Server, Started  # type: ignore[misc]
    thread = Thread(target=server.serve_review, args=(session,), daemon=True)
    try:
        thread.start()
        while not (started and started[0].started):
            thread.join(0.01)
        yield started[0]._greeting.split()[4]
    finally:
        server.Server = original  # type: ignore[misc]
        started[0].should_exit = True
        thread.join(20)
        session.answers.close()


@contextmanager
def client_of(session: ReviewSession) -> Iterator[httpx.Client]:
    with served(session) as url, httpx.Client(base_url=url) as client:
        yield client
