import copy
import hashlib
import json
import pickle
import re
from pathlib import Path
from typing import Any, Dict, Iterator, List

import numpy as np
import pytest
import torch
from allennlp.common import Params
from allennlp.common.checks import ConfigurationError
from allennlp.data import DatasetReader, Instance, Vocabulary
from allennlp.data.data_loaders import MultiProcessDataLoader
from PIL import Image
from torchvision import datasets
from torchvision.transforms.v2.functional import pil_to_tensor

from allencv.data import ImageDataLoader
from allencv.data.dataset_readers import TorchvisionDatasetReader
from allencv.data.dataset_readers import torchvision_dataset_reader as module
from allencv.runtime import ImageError
from tests.conftest import ROOT, write_images

RANDOM = np.random.default_rng(0)
CLASSES = ["airplane", "bird", "crane", "crane"]


def same(instances: List[Instance], dataset: Any) -> bool:
    """Whether the pixels are those of the data set, image for image."""
    return len(instances) == len(dataset) and all(
        instance["image"].as_tensor({}).equal(pil_to_tensor(image))
        for instance, (image, _) in zip(instances, dataset)
    )


def labels(instances: List[Instance]) -> List[str]:
    return [instance["label"].label for instance in instances]


def read(file_path: Any, **arguments: Any) -> List[Instance]:
    return list(TorchvisionDatasetReader(**arguments).read(file_path))


@pytest.fixture
def mnist(tmp_path: Path) -> Path:
    """7 images to train and 3 to test, in the files of MNIST."""
    folder = tmp_path / "MNIST" / "raw"
    folder.mkdir(parents=True)
    for split, count in (("train", 7), ("t10k", 3)):
        images = RANDOM.integers(0, 256, (count, 28, 28), dtype=np.uint8)
        for name, array in (("images-idx3", images), ("labels-idx1", np.arange(count) % 10)):
            header = bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">i4").tobytes()
            content = header + array.astype(np.uint8).tobytes()
            (folder / f"{split}-{name}-ubyte").write_bytes(content)
    return tmp_path


@pytest.fixture
def cifar(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """10 images to train, in five files, and 3 to test, in the files of CIFAR10."""
    folder = tmp_path / "cifar-10-batches-py"
    folder.mkdir()

    def write(name: str, content: Any) -> List[str]:
        (folder / name).write_bytes(pickle.dumps(content))
        return [name, hashlib.md5((folder / name).read_bytes()).hexdigest()]

    def batch(count: int) -> Dict[str, Any]:
        images = RANDOM.integers(0, 256, (count, 3072), dtype=np.uint8)
        return {"data": images, "labels": [number % 4 for number in range(count)]}

    train = [write(f"data_batch_{number}", batch(2)) for number in range(1, 6)]
    name, checksum = write("batches.meta", {"label_names": CLASSES})
    monkeypatch.setattr(datasets.CIFAR10, "train_list", train)
    monkeypatch.setattr(datasets.CIFAR10, "test_list", [write("test_batch", batch(3))])
    meta = {"filename": name, "key": "label_names", "md5": checksum}
    monkeypatch.setattr(datasets.CIFAR10, "meta", meta)
    return tmp_path


# The pixels and the labels are torchvision's.


@pytest.mark.parametrize("train", [True, False])
def test_mnist(train: bool, mnist: Path) -> None:
    params = {"type": "torchvision_dataset", "dataset": "MNIST", "color_mode": "L"}
    reader = DatasetReader.from_params(Params(params))
    instances = list(reader.read({"root": str(mnist), "train": train}))
    dataset = datasets.MNIST(mnist, train=train)
    assert same(instances, dataset)
    assert labels(instances) == [dataset.classes[target] for _, target in dataset]
    assert labels(instances)[:2] == ["0 - zero", "1 - one"]
    name = f'MNIST{{"root": "{mnist}", "train": {str(train).lower()}}}[1]'
    assert instances[1]["metadata"].metadata == {"image": name}


@pytest.mark.parametrize("train", [True, False])
def test_cifar(train: bool, cifar: Path) -> None:
    instances = read(cifar, dataset="CIFAR10", arguments={"train": train})
    assert same(instances, datasets.CIFAR10(cifar, train=train))
    names = ["airplane", "bird", "crane (2)", "crane (3)"]
    targets = [0, 1] * 5 if train else [0, 1, 2]
    assert labels(instances) == [names[target] for target in targets]


def test_our_colour_modes(mnist: Path) -> None:
    instance = read(mnist, dataset="MNIST")[0]
    assert instance["image"].as_tensor({}).shape == (3, 28, 28)


def test_fake_data() -> None:
    arguments = {"size": 5, "image_size": [3, 8, 9], "num_classes": 4}
    instances = read({"random_offset": 3}, dataset="FakeData", arguments=arguments)
    dataset = datasets.FakeData(5, (3, 8, 9), 4, random_offset=3)
    assert same(instances, dataset)
    assert labels(instances) == [str(int(target)) for _, target in dataset]


def test_a_data_path_goes_before_the_arguments(mnist: Path) -> None:
    reader = TorchvisionDatasetReader("MNIST", {"root": str(mnist), "train": True})
    assert len(list(reader.read({}))) == 7
    assert len(list(reader.read({"train": False}))) == 3
    assert len(list(reader.read(mnist))) == 7


def test_the_home_folder(mnist: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(mnist.parent))
    assert len(read(f"~/{mnist.name}", dataset="MNIST")) == 7


def test_max_instances(mnist: Path) -> None:
    assert len(read(mnist, dataset="MNIST", max_instances=2)) == 2


# Images that are files are read as files.


def test_image_folder(tmp_path: Path) -> None:
    write_images(tmp_path, {"cat": 2, "dog": 1}, suffix=".png")
    instances = read(tmp_path, dataset="ImageFolder")
    assert same(instances, datasets.ImageFolder(tmp_path))
    assert labels(instances) == ["cat", "cat", "dog"]
    assert instances[2]["image"].source == str(tmp_path / "dog" / "000.png")


def test_food101(tmp_path: Path) -> None:
    root = write_images(tmp_path / "food-101" / "images", {"waffles": 2, "beignets": 1})
    (root.parent / "meta").mkdir()
    listed = {"waffles": ["waffles/001", "waffles/000"], "beignets": ["beignets/000"]}
    (root.parent / "meta" / "train.json").write_text(json.dumps(listed))
    instances = read({"root": str(tmp_path), "split": "train"}, dataset="Food101")
    assert labels(instances) == ["beignets", "waffles", "waffles"]
    assert [Path(instance["image"].source).stem for instance in instances] == ["000", "000", "001"]


def test_imagenet_has_several_names_for_a_class(tmp_path: Path) -> None:
    for split in ("train", "val"):
        write_images(tmp_path / split, {"n1": 1, "n2": 1, "n3": 1})
    names = {"n1": ("tench", "Tinca tinca"), "n2": ("crane",), "n3": ("crane",)}
    torch.save((names, ["n1"]), tmp_path / "meta.bin")
    for split in ("train", "val"):
        instances = read({"root": str(tmp_path), "split": split}, dataset="ImageNet")
        assert labels(instances) == ["tench, Tinca tinca", "crane (1)", "crane (2)"]
        assert Path(instances[0]["image"].source) == tmp_path / split / "n1" / "000.jpg"


class Binary(datasets.VisionDataset):
    """Asked for other targets than it keeps, as OxfordIIITPet may be. The last has no class."""

    classes = ["cat", "dog", "fox"]

    def __init__(self, root: str, binary: bool = False) -> None:
        super().__init__(root)
        self._labels = [0, 2, -1]
        self.binary = binary

    def __len__(self) -> int:
        return 3

    def __getitem__(self, index: int) -> Any:
        return Image.new("RGB", (4, 4)), [0, 1, None][index] if self.binary else self._labels[index]


@pytest.fixture
def binary(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets, "Binary", Binary, raising=False)
    monkeypatch.setattr(datasets, "__all__", [*datasets.__all__, "Binary"])


@pytest.mark.usefixtures("binary")
def test_kept_targets_are_used_only_if_they_are_the_targets() -> None:
    class_names = [sample.label for sample in TorchvisionDatasetReader("Binary").read_samples("")]
    assert class_names == ["cat", "fox", None]
    reader = TorchvisionDatasetReader("Binary", {"binary": True})
    assert [sample.label for sample in reader.read_samples("")] == ["0", "1", None]


# Nothing is decoded, and little is sent.


def test_an_image_is_decoded_when_it_is_used(mnist: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    used: List[int] = []
    get = datasets.MNIST.__getitem__
    monkeypatch.setattr(
        datasets.MNIST, "__getitem__", lambda self, index: [used.append(index), get(self, index)][1]
    )
    instances = read(mnist, dataset="MNIST")
    assert set(used) == {0, 3, 6}  # to compare their targets
    used.clear()
    instances[2]["image"].as_tensor({})
    assert used == [2]


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> Iterator[List[str]]:
    """The data sets that have been opened."""
    module._open.cache_clear()
    names: List[str] = []
    open_dataset = module.OpenDataset.__init__

    def counting(self: Any, name: str, arguments: str) -> None:
        names.append(name)
        open_dataset(self, name, arguments)

    monkeypatch.setattr(module.OpenDataset, "__init__", counting)
    yield names
    module._open.cache_clear()


def test_an_instance_sent_to_another_process_opens_its_data_set_once(
    mnist: Path, opened: List[str]
) -> None:
    instances = read(mnist, dataset="MNIST", color_mode="L")
    assert opened == ["MNIST"]
    sent = [pickle.dumps(instance) for instance in instances]
    assert all(len(each) < 2_000 for each in sent)
    assert same([pickle.loads(each) for each in sent], datasets.MNIST(mnist))
    assert opened == ["MNIST"] * 2
    assert same(copy.deepcopy(instances), datasets.MNIST(mnist))
    assert opened == ["MNIST"] * 2


@pytest.mark.parametrize("num_workers", [0, 2])
def test_allennlps_loader(num_workers: int, mnist: Path) -> None:
    loader = MultiProcessDataLoader(
        TorchvisionDatasetReader("MNIST", color_mode="L"),
        mnist,
        batch_size=2,
        num_workers=num_workers,
    )
    loader.index_with(Vocabulary.from_instances(loader.iter_instances()))
    found = torch.cat([batch["image"] for batch in loader])
    expected = torch.stack([pil_to_tensor(image) for image, _ in datasets.MNIST(mnist)])
    assert sorted(found.tolist()) == sorted(expected.tolist())


@pytest.mark.parametrize("worker", ["thread", "process"])
def test_the_image_loader(worker: str, cifar: Path) -> None:
    reader = TorchvisionDatasetReader("CIFAR10")
    loader = ImageDataLoader(reader, cifar, batch_size=10, num_workers=2, worker=worker)
    loader.index_with(Vocabulary.from_instances(loader.iter_instances()))
    (batch,) = loader
    assert batch["image"].equal(
        torch.stack([pil_to_tensor(image) for image, _ in datasets.CIFAR10(cifar)])
    )


# Downloads.


def test_a_download_is_asked_for(mnist: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = mnist.parent / "new" / "root"
    asked: List[str] = []

    def download(dataset: Any) -> None:
        asked.append(dataset.root)
        if not dataset._check_exists():
            (root / "MNIST").symlink_to(mnist / "MNIST")

    monkeypatch.setattr(datasets.MNIST, "download", download)
    with pytest.raises(ConfigurationError, match='Dataset not found; "download": true in the'):
        read(root, dataset="MNIST")
    assert asked == []
    assert len(read(root, dataset="MNIST", download=True)) == 7
    assert asked == [str(root)]


def test_a_download_that_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def download(dataset: Any) -> None:
        raise OSError("no network\nat all")

    monkeypatch.setattr(datasets.MNIST, "download", download)
    message = rf"MNIST in '{tmp_path}' \(train_data_path.*\): no network at all$"
    with pytest.raises(ConfigurationError, match=message):
        read(tmp_path, dataset="MNIST", download=True)


# What is wrong.


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"dataset": "CIFAR"}, "dataset_reader.dataset is 'CIFAR'; expected one of CIFAR"),
        ({"dataset": "VisionDataset"}, "dataset is 'VisionDataset'; expected one of"),
        ({"dataset": "os"}, "dataset is 'os'; expected one of"),
        (
            {"dataset": "MNIST", "arguments": {"trian": True}},
            r"MNIST's arguments \(dataset_reader.arguments\) is 'trian'; expected one of train, ",
        ),
        ({"dataset": "MNIST", "arguments": {"transform": 1}}, "is 'transform'; expected one of"),
        ({"dataset": "MNIST", "arguments": {"download": 1}}, "is 'download'; expected one of"),
        ({"dataset": "ImageNet", "arguments": {"splt": 1}}, "is 'splt'; expected one of split, "),
        ({"dataset": "EMNIST", "arguments": {"splt": 1}}, "is 'splt'; expected one of split, "),
        ({"dataset": "ImageNet", "download": True}, "cannot download ImageNet: expected its files"),
        ({"datset": "MNIST"}, "'datset'; expected one of dataset"),
    ],
)
def test_a_wrong_configuration_is_refused(params: Any, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message) as caught:
        DatasetReader.from_params(Params({"type": "torchvision_dataset", **params}))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("dataset", "file_path", "message"),
    [
        ("CIFAR10", "ROOT", "CIFAR10 in 'ROOT' .*: Dataset not found or corrupted; \"download\""),
        ("MNIST", {}, "MNIST .*missing 1 required positional argument: 'root'$"),
        ("MNIST", {"root": "ROOT", "splt": 1}, r"\(train_data_path.* is 'splt'; expected one of"),
        ("EMNIST", "ROOT", "missing 1 required positional argument: 'split'$"),
        (
            "Flowers102",
            {"root": "ROOT", "split": "tset"},
            "Unknown value 'tset' for argument",
        ),
        ("ImageNet", "ROOT", "ImageNet in 'ROOT' .* You need to download it externally"),
        ("ImageFolder", "ROOT", "ImageFolder in 'ROOT' .*: Couldn't find any class folder"),
        ("MNIST", 3, "3 .*; MNIST expected a folder or a dictionary of its arguments: root, train"),
        ("FakeData", "ROOT", "'ROOT' .*; FakeData expected a dictionary .*: image_size, num_cl"),
        ("FakeData", {"size": 0}, "FakeData has no image in {'size': 0} .train_data_path"),
    ],
)
def test_a_wrong_data_path(dataset: str, file_path: Any, message: str, tmp_path: Path) -> None:
    file_path = json.loads(json.dumps(file_path).replace("ROOT", str(tmp_path)))
    message = message.replace("ROOT", str(tmp_path)).replace("{", r"\{")
    with pytest.raises(ConfigurationError, match=message) as caught:
        read(file_path, dataset=dataset)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("item", "kinds"),
    [
        ((1, {"a": 2}), "int, dict"),
        ((1, 2, 3), "int, int, int"),
        ((1, torch.zeros(40)), "int, Tensor"),
        (5, "int"),
    ],
)
@pytest.mark.usefixtures("binary")
def test_a_data_set_of_something_else(
    item: Any, kinds: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Binary, "__getitem__", lambda self, index: item)
    message = rf"dataset is 'Binary', whose item 0 is \({kinds}\); expected an image and the"
    with pytest.raises(ConfigurationError, match=message):
        read("", dataset="Binary")


@pytest.mark.usefixtures("binary")
def test_an_image_that_cannot_be_read(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(self: Any, index: int) -> Any:
        raise OSError("broken")

    monkeypatch.setattr(Binary, "__getitem__", fail)
    first = read("", dataset="Binary")[0]
    assert first["label"].label == "cat"
    with pytest.raises(ImageError, match=r'Binary\{"root": ""\}\[0\]: broken'):
        first["image"].as_tensor({})
    monkeypatch.delattr(Binary, "classes")
    monkeypatch.setattr(Binary, "__len__", lambda self: 2)
    with pytest.raises(ImageError, match=r"Binary\[0\]: broken"):
        read("", dataset="Binary")


@pytest.mark.usefixtures("binary")
def test_fewer_names_than_classes(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(Binary, "classes", ["cat"])
    first, second, third = read("", dataset="Binary")
    assert (labels([first, second]), "label" in third) == (["0", "2"], False)
    assert caplog.messages == [
        "Binary names 1 class but has class 2: the labels are the numbers of the classes"
    ]


def test_a_class_folder_without_an_image(tmp_path: Path) -> None:
    write_images(tmp_path, {"cat": 1, "empty": 0})
    with pytest.raises(ConfigurationError, match=f"ImageFolder in '{tmp_path}' .*classes empty"):
        read(tmp_path, dataset="ImageFolder")


def test_a_file_that_is_no_image(tmp_path: Path) -> None:
    write_images(tmp_path, {"cat": 1, "dog": 1})
    (tmp_path / "dog" / "000.jpg").write_bytes(b"text")
    _, second = read(tmp_path, dataset="ImageFolder")
    with pytest.raises(ImageError, match=f"^{tmp_path}/dog/000.jpg: not an image"):
        second["image"].as_tensor({})


# The page of the documentation.


def test_the_documentation(cifar: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = (ROOT / "docs" / "data.md").read_text(encoding="utf-8")
    section = page.split("\n## torchvision datasets\n")[1].split("\n## ")[0]
    (config,) = re.findall(r"^```jsonnet\n(.*?)^```$", section, re.DOTALL | re.MULTILINE)
    (other,) = re.findall(r"`(validation_dataset_reader: .*?)`", section, re.DOTALL)
    monkeypatch.chdir(cifar)
    (cifar / "data").symlink_to(cifar)
    (cifar / "config.jsonnet").write_text(f"{config} + {{ {other} }}")
    params = Params.from_file(str(cifar / "config.jsonnet"))
    reader = DatasetReader.from_params(params.pop("dataset_reader"))
    for key, size in (("train_data_path", 10), ("validation_data_path", 3)):
        assert len(list(reader.read(params.pop(key).as_dict()))) == size
    reader = DatasetReader.from_params(params.pop("validation_dataset_reader"))
    assert len(list(reader.read("data"))) == 3
