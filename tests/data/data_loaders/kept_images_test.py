import multiprocessing
from typing import List

import pytest
import torch

from allencv.data.data_loaders.kept_images import DTYPES, KeptImages, bytes_of


def test_a_forked_process_shares_its_images() -> None:
    kept = KeptImages(2, 10_000)
    image = torch.full((3, 4, 5), 9)
    process = multiprocessing.get_context("fork").Process(target=kept.put, args=(1, image))
    process.start()
    process.join()
    assert kept.get(0) is None
    found = kept.get(1)
    assert found is not None
    assert torch.equal(found, image)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("channels_last", [False, True])
def test_kept_images(dtype: torch.dtype, channels_last: bool) -> None:
    image = torch.arange(24).to(dtype).view(2, 3, 4)
    if channels_last:
        image = image.permute(1, 2, 0).contiguous().permute(2, 0, 1)
    kept = KeptImages(3, 1024)
    assert kept.get(1) is None
    assert kept.put(1, image)
    assert kept.put(1, image + 1)  # the first stays
    assert kept.put(0, image + 2)
    for place, expected in ((1, image), (0, image + 2)):
        found = kept.get(place)
        assert found is not None
        assert found.dtype == dtype
        assert found.stride() == image.stride()
        assert torch.equal(found, expected)
    assert kept.get(2) is None


def test_no_more_than_the_capacity() -> None:
    image = torch.zeros(3, 8, 8, dtype=torch.uint8)
    assert bytes_of(image) == 192
    kept = KeptImages(3, 2 * 192)
    assert [kept.put(place, image) for place in range(3)] == [True, True, False]
    assert kept.get(2) is None
    assert not kept.put(2, torch.zeros(8, 8))
    assert not kept.put(2, torch.zeros(1, 1, 1, dtype=torch.bool))


def test_a_copy_on_a_device_makes_the_batches() -> None:
    images = [torch.full((3, 2, 2), number, dtype=torch.uint8) for number in range(4)]
    kept = KeptImages(4, 1024, torch.device("cpu"))
    for place in range(3):
        kept.put(place, images[place])

    def batch(places: List[int]) -> torch.Tensor:
        found = kept.batch(places)
        assert found is not None
        return found

    assert torch.equal(batch([2, 0]), torch.stack([images[2], images[0]]))
    here = kept.get(0)
    assert here is not None
    here.fill_(9)  # the copy stays as it is
    assert torch.equal(batch([0, 1]), torch.stack(images[:2]))
    assert kept.batch([0, 3]) is None
    kept.put(3, images[3])  # now all images are kept, and are copied again
    assert torch.equal(batch([3, 0]), torch.stack([images[3], here]))
    here.fill_(8)
    assert batch([0]).unique().tolist() == [9]


def test_images_that_come_later_are_taken_from_this_memory() -> None:
    kept = KeptImages(100, 10_000, torch.device("cpu"))
    for place in range(3):
        kept.put(place, torch.full((1, 2, 2), place))
        found = kept.batch([place])
        assert found is not None
        assert found.unique().tolist() == [place]
