import re
from pathlib import Path
from typing import List

import pytest

from allencv.classify.shards import (
    MOST_SIZES,
    Shard,
    compared,
    file_sizes,
    images_of,
    list_digest,
    parse_shard,
)
from allencv.runtime.errors import InputError
from allencv.runtime.image_files import ImageFile


@pytest.mark.parametrize(
    "text", ["0/16", "17/16", "a/b", "1/0", "-1/4", "1/", "/4", "1", "", "1.5/2", "1/2/3", " 1/2"]
)
def test_bad_shards_are_refused(text: str) -> None:
    with pytest.raises(InputError, match=f"^--shard is '{re.escape(text)}'; expected K/N with K"):
        parse_shard(text)


def test_a_shard_is_counted_from_one() -> None:
    assert [parse_shard(text) for text in ("1/1", "16/16")] == [Shard(1, 1), Shard(16, 16)]


def listed(count: int) -> List[ImageFile]:
    return [ImageFile(f"{number}.jpg", f"/photos/{number}.jpg") for number in range(count)]


@pytest.mark.parametrize("count", [1, 7, 8, 9, 64, 100])
@pytest.mark.parametrize("shards", [1, 2, 3, 16, 200])
@pytest.mark.parametrize("batch_size", [1, 8])
def test_the_parts_are_whole_batches_of_the_list(count: int, shards: int, batch_size: int) -> None:
    images = listed(count)
    parts = [
        images_of(Shard(number, shards), images, batch_size) for number in range(1, shards + 1)
    ]
    assert [image for part in parts for image in part] == images
    filled = [part for part in parts if part]
    assert all(len(part) % batch_size == 0 for part in filled[:-1])
    batches = [-(-len(part) // batch_size) for part in parts]
    assert max(batches) - min(batches) <= 1


def test_a_list_is_its_names_in_order() -> None:
    digests = {
        list_digest(names) for names in (["a", "b"], ["b", "a"], ["ab"], ["a"], ["a", "b", "b"], [])
    }
    assert len(digests) == 6
    # A name that is not Unicode is what a CSV file shows of it.
    assert list_digest(["caf\udce9"]) == list_digest([r"caf\udce9"])


@pytest.mark.parametrize(
    ("count", "step"), [(0, 1), (1, 1), (MOST_SIZES, 1), (MOST_SIZES + 1, 2), (10**6, 100)]
)
def test_the_sizes_of_some_images_are_compared(count: int, step: int) -> None:
    places = compared(count)
    assert list(places[:2]) == [place for place in (0, step) if place < count]
    assert len(places) <= MOST_SIZES
    assert count == 0 or count - places[-1] <= step


def test_sizes_are_those_of_the_files(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(b"12345")
    images = [ImageFile(name, str(tmp_path / name)) for name in ("a.jpg", "lost.jpg")]
    assert file_sizes(images) == [5, None]
