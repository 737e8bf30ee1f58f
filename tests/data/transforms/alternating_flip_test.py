import itertools
import tarfile
from pathlib import Path
from typing import Any, Dict, List

import pytest
import torch
from allennlp.data import Vocabulary

from allencv.data.data_loaders import ImageDataLoader
from allencv.data.dataset_readers import ImageFolderReader, WebDatasetReader
from allencv.data.transforms import AlternatingFlip, ImageTransform, random_source
from allencv.data.transforms.image_turn import ImageTurn, image_turn
from tests.conftest import write_images

COUNT = 20
IMAGE = torch.arange(6, dtype=torch.uint8).view(1, 2, 3)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """20 images, darker on the left than on the right."""
    root = tmp_path_factory.mktemp("sides")
    write_images(root, {"cat": COUNT // 2, "dog": COUNT // 2}, size=8)
    return root


class Sided(ImageTransform):
    """Makes the left half black and the right half white."""

    is_random = False

    def __call__(self, image: torch.Tensor) -> torch.Tensor:
        sides = torch.zeros_like(image)
        sides[..., image.size(-1) // 2 :] = 255
        return sides


def make_loader(path: Any, reader: type = ImageFolderReader, **arguments: Any) -> ImageDataLoader:
    given = {"batch_size": 4, "shuffle": True, "seed": 3, **arguments}
    loader = ImageDataLoader(reader(transforms=[Sided(), AlternatingFlip()]), path, **given)
    loader.index_with(Vocabulary.from_instances(loader.iter_instances()))
    return loader


def flipped(loader: ImageDataLoader) -> Dict[str, bool]:
    """Whether each image of the next epoch is mirrored."""
    found: Dict[str, bool] = {}
    for batch in loader:
        left_is_white = batch["image"][:, 0, 0, 0] == 255
        for meta, is_flipped in zip(batch["metadata"], left_is_white.tolist()):
            found[meta["image"]] = is_flipped
    return found


def test_each_image_is_mirrored_in_every_other_epoch(folder: Path) -> None:
    loader = make_loader(folder)
    epochs = [flipped(loader) for _ in range(4)]
    assert len(epochs[0]) == COUNT
    assert 0 < sum(epochs[0].values()) < COUNT
    for before, after in itertools.pairwise(epochs):
        assert all(after[name] != before[name] for name in before)


@pytest.mark.parametrize(
    "workers",
    [{"num_workers": 0}, {"num_workers": 3}, {"num_workers": 2, "worker": "process"}],
)
def test_workers_and_resuming_change_nothing(folder: Path, workers: Dict[str, Any]) -> None:
    expected = make_loader(folder, num_workers=1)
    expected.seek(3)
    loader = make_loader(folder, **workers)
    loader.seek(3)
    assert flipped(loader) == flipped(expected)


def test_the_seed_draws_who_begins(folder: Path) -> None:
    assert flipped(make_loader(folder, seed=1)) != flipped(make_loader(folder, seed=2))


def test_streamed_images_too(folder: Path, tmp_path: Path) -> None:
    files = sorted(folder.rglob("*.jpg"))
    for shard in range(3):
        with tarfile.open(tmp_path / f"{shard}.tar", "w") as tar:
            for number, file in list(enumerate(files))[shard::3]:
                label = tmp_path / f"{number}.cls"
                label.write_text(file.parent.name)
                tar.add(file, f"{number}.jpg")
                tar.add(label, f"{number}.cls")
    loader = make_loader(tmp_path / "{0..2}.tar", WebDatasetReader, num_workers=2)
    first, second = (flipped(loader) for _ in range(2))
    assert len(first) == COUNT
    assert first == {name: not is_flipped for name, is_flipped in second.items()}


def turned(epochs: List[int], image: object = 7) -> List[bool]:
    found = []
    for epoch in epochs:
        with image_turn(ImageTurn(0, epoch, image)):
            found.append(not torch.equal(AlternatingFlip()(IMAGE), IMAGE))
    return found


def test_by_hand() -> None:
    once, twice = turned([0, 1]), turned([4, 7, 8])
    assert once in ([True, False], [False, True])
    assert twice == [once[0], once[1], once[0]]
    begins = [turned([0], image)[0] for image in range(400)]
    assert 150 < sum(begins) < 250
    mirrored = {tuple(IMAGE.flatten().tolist()), tuple(IMAGE.flip(-1).flatten().tolist())}
    with image_turn(ImageTurn(0, 0, 7)):
        assert tuple(AlternatingFlip()(IMAGE).flatten().tolist()) in mirrored


def test_outside_of_the_loader_it_draws() -> None:
    with random_source(torch.Generator().manual_seed(0)):
        drawn = [torch.equal(AlternatingFlip()(IMAGE), IMAGE) for _ in range(100)]
    assert 30 < sum(drawn) < 70
