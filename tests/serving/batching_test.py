import asyncio
import threading
import time
from pathlib import Path
from typing import Any, Callable, Iterator, List, Optional

import numpy as np
import pytest

from allencv.runtime import ImageError
from allencv.runtime.certainty import Judgement
from allencv.runtime.images import read_image
from allencv.runtime.onnx_classifier import OnnxClassifier
from allencv.serving import batching
from allencv.serving.batching import Batcher, Read
from allencv.serving.decoding import decode, open_upload
from allencv.serving.errors import RequestError
from allencv.serving.limits import Limits
from tests.runtime.tiny_bundle import LABELS
from tests.serving.conftest import COLORS, file_of, photo

FILES = {label: file_of(photo(label)) for label in COLORS}


class Gated(OnnxClassifier):
    """Classifies when the test lets it, and remembers the batches that it was given."""

    def __init__(self, bundle: Path) -> None:
        super().__init__(bundle)
        self.batches: List[int] = []
        self.started = threading.Semaphore(0)
        self.open = threading.Event()

    def probabilities(self, images: np.ndarray) -> np.ndarray:
        self.batches.append(len(images))
        self.started.release()
        assert self.open.wait(20)
        return super().probabilities(images)


@pytest.fixture
def gated(bundle: Path) -> Gated:
    return Gated(bundle)


Make = Callable[..., Batcher]


def reader(gated: Gated, limits: Limits) -> Read:
    """What `Decoders.read` does, in this process."""

    def read(file: bytes) -> np.ndarray:
        pixels = decode(open_upload(file, limits), gated.preprocessing)
        assert pixels is not None
        return pixels

    return read


@pytest.fixture
def make(gated: Gated) -> Iterator[Make]:
    made: List[Batcher] = []

    def make(read: Optional[Read] = None, **limits: Any) -> Batcher:
        all_limits = Limits(**limits)
        made.append(Batcher(gated, read or reader(gated, all_limits), all_limits))
        return made[-1]

    yield make
    gated.open.set()
    for batcher in made:
        assert batcher.close(20)


async def started(gated: Gated) -> None:
    await asyncio.to_thread(gated.started.acquire)


def label_of(judgement: Judgement) -> str:
    return LABELS[int(judgement.probabilities.argmax())]


def test_what_waits_is_classified_at_once(make: Make, gated: Gated) -> None:
    async def ask() -> List[str]:
        batcher = make(workers=1, max_batch=4)
        first = batcher.submit([FILES["red"]])
        await started(gated)
        # These six come while the only worker is busy.
        labels = ["green", "blue", "red", "red", "blue", "green"]
        others = [batcher.submit([FILES[label]])[0] for label in labels]
        assert batcher.waiting == 6
        gated.open.set()
        return [label_of(each) for each in await asyncio.gather(*first, *others)]

    assert asyncio.run(ask()) == ["red", "green", "blue", "red", "red", "blue", "green"]
    assert gated.batches == [1, 4, 2]


def test_workers_share_what_waits(
    make: Make, gated: Gated, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batching, "SLOW_SECONDS", 60)  # whatever else the machine does

    async def ask() -> None:
        batcher = make(workers=2, max_batch=8)
        for _ in range(2):
            batcher.submit([FILES["red"]])
            await started(gated)
        answers = batcher.submit([FILES["blue"]] * 6)
        gated.open.set()
        await asyncio.gather(*answers)

    asyncio.run(ask())
    assert gated.batches[:2] == [1, 1]
    assert max(gated.batches[2:]) == 3  # half of the six, and not all of them
    assert sum(gated.batches[2:]) == 6


def test_a_batch_is_decoded_while_the_network_computes(make: Make, gated: Gated) -> None:
    """And no more than that. Of what is decoded, nothing is classified for those who have gone."""
    limits = Limits(workers=1, max_batch=2)
    read_file = reader(gated, limits)
    read: List[bytes] = []
    has_read_three = threading.Event()

    def noted(file: bytes) -> np.ndarray:
        pixels = read_file(file)
        read.append(file)
        if len(read) == 3:
            has_read_three.set()
        return pixels

    async def ask() -> List[str]:
        batcher = make(noted, workers=1, max_batch=2)
        first = batcher.submit([FILES["red"]])
        await started(gated)
        answers = batcher.submit([FILES[label] for label in ("blue", "green", "red", "blue")])
        assert await asyncio.to_thread(has_read_three.wait, 20)
        await asyncio.sleep(0.05)
        assert read == [FILES[label] for label in ("red", "blue", "green")]
        assert batcher.waiting == 4
        answers[0].cancel()
        gated.open.set()
        return [label_of(each) for each in await asyncio.gather(*first, *answers[1:])]

    assert asyncio.run(ask()) == ["red", "green", "red", "blue"]
    assert gated.batches == [1, 1, 2]


def test_a_bad_image_spoils_no_batch(make: Make, gated: Gated) -> None:
    async def ask() -> List[Any]:
        gated.open.set()
        answers = make(workers=1).submit([FILES["red"], b"no image", FILES["blue"]])
        return await asyncio.gather(*answers, return_exceptions=True)

    first, second, third = asyncio.run(ask())
    assert (label_of(first), label_of(third)) == ("red", "blue")
    assert isinstance(second, RequestError)
    assert second.status == 415


def test_images_of_different_sizes(make: Make, gated: Gated) -> None:
    """An archive whose transforms do not resize gives such; a batch has images of one size."""

    async def ask() -> List[str]:
        batcher = make(read_image, workers=1)
        gated._run = lambda images: [images.mean(axis=(1, 2)) / 255]  # of any size
        first = batcher.submit([FILES["red"]])
        await started(gated)
        sizes = [("blue", (30, 20)), ("green", (20, 30)), ("red", (30, 20))]
        others = batcher.submit([file_of(photo(label, size)) for label, size in sizes])
        gated.open.set()
        return [label_of(each) for each in await asyncio.gather(*first, *others)]

    assert asyncio.run(ask()) == ["red", "blue", "green", "red"]
    assert sorted(gated.batches) == [1, 1, 2]


def test_a_failure_of_the_model_is_told_and_survived(
    make: Make, gated: Gated, caplog: pytest.LogCaptureFixture
) -> None:
    async def ask() -> None:
        gated.open.set()
        batcher = make(workers=1)
        run = gated._run
        gated._run = lambda images: [run(images)[0][:0]]  # too few answers
        for answer in batcher.submit([FILES["red"], FILES["blue"]]):
            with pytest.raises(RequestError) as error:
                await answer
            assert (error.value.status, error.value.code) == (503, "model_failed")
        assert "0 answers for 1 images" in caplog.text
        gated._run = run
        assert label_of(await batcher.submit([FILES["red"]])[0]) == "red"

    asyncio.run(ask())


def test_an_image_that_the_network_fails_for_costs_others_nothing(make: Make, gated: Gated) -> None:
    async def ask() -> List[Any]:
        run = gated._run

        def fail_for_blue(images: np.ndarray) -> List[np.ndarray]:
            if images[..., 2].max() > 200:
                raise RuntimeError("too blue")
            return run(images)

        gated._run = fail_for_blue
        answers = make(workers=1).submit([FILES["green"], FILES["blue"], FILES["red"]])
        gated.open.set()
        return await asyncio.gather(*answers, return_exceptions=True)

    first, second, third = asyncio.run(ask())
    assert (label_of(first), label_of(third)) == ("green", "red")
    assert isinstance(second, RequestError)
    assert (second.status, second.code) == (422, "not_classified")


def test_there_is_an_end_to_what_may_wait(make: Make, gated: Gated) -> None:
    async def ask() -> None:
        batcher = make(workers=1, max_waiting=3)
        busy = batcher.submit([FILES["red"]])
        await started(gated)
        waiting = batcher.submit([FILES["red"]] * 2)
        with pytest.raises(RequestError) as error:
            batcher.submit([FILES["blue"]] * 2)  # all or nothing
        assert (error.value.status, batcher.waiting) == (429, 2)
        response = error.value.as_response()
        assert int(response.headers["Retry-After"]) >= 1
        waiting += batcher.submit([FILES["green"]])
        assert batcher.is_full
        gated.open.set()
        labels = [label_of(each) for each in await asyncio.gather(*busy, *waiting)]
        assert labels == ["red", "red", "red", "green"]

    asyncio.run(ask())


def test_nobody_classifies_for_those_who_have_gone(make: Make, gated: Gated) -> None:
    async def ask() -> None:
        batcher = make(workers=1)
        first = batcher.submit([FILES["red"]])
        await started(gated)
        gone = batcher.submit([FILES["blue"]] * 2)
        stays = batcher.submit([FILES["green"]])
        for answer in gone:
            answer.cancel()
        gated.open.set()
        assert label_of((await asyncio.gather(*first, *stays))[1]) == "green"

    asyncio.run(ask())
    assert gated.batches == [1, 1]


def test_closing_finishes_what_waits(make: Make, gated: Gated) -> None:
    async def ask() -> None:
        batcher = make(workers=1)
        answers = batcher.submit([FILES["red"]])
        await started(gated)
        answers += batcher.submit([FILES["blue"]] * 3)
        closing = asyncio.create_task(asyncio.to_thread(batcher.close, 20))
        await asyncio.sleep(0.05)
        assert not closing.done()
        with pytest.raises(RequestError):
            batcher.submit([FILES["red"]])
        gated.open.set()
        await closing
        labels = [label_of(each) for each in await asyncio.gather(*answers)]
        assert labels == ["red", "blue", "blue", "blue"]

    asyncio.run(ask())


def test_closing_has_an_end(make: Make, gated: Gated) -> None:
    """Whatever a worker does: here it waits for the test, and could wait forever."""

    async def ask() -> None:
        batcher = make(workers=1)
        batcher.submit([FILES["red"]])
        await started(gated)
        assert not await asyncio.to_thread(batcher.close, 0.1)

    asyncio.run(ask())


def test_numbers_that_are_not_finite_are_the_error_of_one_image(make: Make, gated: Gated) -> None:
    async def ask() -> List[Any]:
        run = gated._run
        gated._run = lambda images: np.where(
            images.mean(axis=(1, 2, 3))[:, None] < 1, np.float32("nan"), run(images)
        )
        black = file_of(photo("red").point(lambda value: 0))
        answers = make(workers=1).submit([FILES["green"], black, FILES["blue"]])
        gated.open.set()
        return await asyncio.gather(*answers, return_exceptions=True)

    first, second, third = asyncio.run(ask())
    assert (label_of(first), label_of(third)) == ("green", "blue")
    assert isinstance(second, RequestError)
    assert (second.status, second.code) == (422, "not_finite")


def test_a_size_that_the_network_does_not_take(make: Make, gated: Gated) -> None:
    """A model whose transforms do not resize may say so, with an `ImageError`."""

    async def ask() -> None:
        def refuse(images: np.ndarray) -> np.ndarray:
            raise ImageError("the network does not take images of 60 x 40 pixels")

        gated._run = refuse
        gated.open.set()
        with pytest.raises(RequestError, match="60 x 40") as error:
            await make(workers=1).submit([FILES["red"]])[0]
        assert (error.value.status, error.value.code) == (422, "odd_shape")

    asyncio.run(ask())


def test_others_do_not_wait_for_slow_images(
    make: Make, gated: Gated, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker that had to decode for long classifies what it has before it takes more."""

    async def ask() -> None:
        monkeypatch.setattr(batching, "SLOW_SECONDS", 0.05)

        def slow(file: bytes) -> np.ndarray:
            time.sleep(0.06)
            return read_image(file)

        gated._run = lambda images: [images.mean(axis=(1, 2)) / 255]
        gated.open.set()
        await asyncio.gather(*make(slow, workers=1, max_batch=4).submit([FILES["red"]] * 3))

    asyncio.run(ask())
    assert gated.batches == [1, 1, 1]
