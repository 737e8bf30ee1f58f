"""What a loader costs, seen from outside the Python objects: the memory of its process."""

import sys
from pathlib import Path

import pytest

from tests.conftest import Run, write_images

START = """
import sys
import torch
from allennlp.data import Vocabulary
from allencv.data import ImageDataLoader
from allencv.data.dataset_readers import ImageDatasetReader, ImageFolderReader
from allencv.data.dataset_readers.image_dataset_reader import Sample
from allencv.data.transforms import TrainLight

def used():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4096
"""

EPOCHS = """
loader = ImageDataLoader(
    ImageFolderReader(transforms=[TrainLight(96)]), sys.argv[1], 8, shuffle=True, num_workers=2
)
loader.index_with(Vocabulary.from_instances(loader.iter_instances()))
loader.another_epoch_follows = True
for epoch in range(20):
    for batch in loader:
        batch["image"].float()
    print(used())
"""

MILLION = """
class Reader(ImageDatasetReader):
    def read_samples(self, file_path):
        for number in range(1_000_000):
            label = f"n{number % 1000:08d}"
            yield Sample(f"/data/imagenet/train/{label}/{label}_{number}.JPEG", label)

before = used()
loader = ImageDataLoader(Reader(), "anywhere", 64, shuffle=True, num_workers=2)
loader.index_with(Vocabulary.from_instances(loader.iter_instances()))
keys = [job for job, _ in zip(loader._jobs(0, 0), range(3))]
print(used() - before)
"""


pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")


def test_memory_is_flat_over_20_epochs(run: Run, tmp_path: Path) -> None:
    write_images(tmp_path, {"cat": 20, "dog": 20}, size=100)
    used = [int(line) for line in run("python", "-c", START + EPOCHS, tmp_path).stdout.split()]
    assert len(used) == 20
    # What the allocator keeps settles in the first epochs.
    assert used[-1] - used[4] < 10 * 2**20


@pytest.mark.exhaustive
def test_a_million_paths(run: Run) -> None:
    grown = int(run("python", "-c", START + MILLION, fresh=True).stdout)
    assert grown / 1_000_000 < 300
