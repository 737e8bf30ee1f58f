import http.server
import pickle
import threading
from pathlib import Path
from typing import Any, Iterable, Iterator, List

import numpy as np
import pytest
import torch
from allennlp.common import Params
from allennlp.common.checks import ConfigurationError
from allennlp.data import DatasetReader, Instance, Token
from allennlp.data.dataset_readers import DatasetReader as AnyReader
from allennlp.data.dataset_readers.dataset_reader import WorkerInfo
from allennlp.data.fields import TextField
from allennlp.data.token_indexers import SingleIdTokenIndexer
from PIL import Image

from allencv.data.dataset_readers import ImageDatasetReader
from allencv.data.dataset_readers.image_dataset_reader import Sample
from allencv.data.transforms import CenterCrop, RandomHorizontalFlip
from allencv.runtime import ImageError

PIXELS = np.random.default_rng(0).integers(0, 256, (6, 8, 3), dtype=np.uint8)
TENSOR = torch.from_numpy(PIXELS).permute(2, 0, 1)


class ColourReader(ImageDatasetReader):
    """All that a new reader needs: "red green" is an image of each."""

    def read_samples(self, file_path: str) -> Iterable[Sample]:
        for name in file_path.split():
            yield Sample(np.asarray(Image.new("RGB", (8, 6), name)), name)


def labels(instances: Iterable[Instance]) -> List[str]:
    return [instance["label"].label for instance in instances]


def test_a_sample_becomes_an_instance() -> None:
    red, green = ColourReader().read("red green")
    assert list(red) == ["image", "label", "metadata"]
    assert red["image"].as_tensor({})[:, 0, 0].tolist() == [255, 0, 0]
    assert green["image"].as_tensor({})[:, 0, 0].tolist() == [0, 128, 0]
    assert red["label"].label == "red"
    assert red["metadata"].metadata == {"image": "ndarray"}


def test_transforms_are_applied_in_order() -> None:
    reader = ColourReader(transforms=[CenterCrop(4), lambda image: image[:, :, :2]])
    (red,) = reader.read("red")
    assert red["image"].as_tensor({}).shape == (3, 4, 2)


def test_an_instance_takes_its_transforms_along_and_not_its_reader() -> None:
    reader = ColourReader(transforms=[CenterCrop(4)])
    reader.large = b"\1" * 100_000  # type: ignore[attr-defined]
    (red,) = reader.read("red")
    sent = pickle.dumps(red)
    assert len(sent) < 10_000
    assert pickle.loads(sent)["image"].as_tensor({}).shape == (3, 4, 4)


def test_arguments_reach_the_fields() -> None:
    reader = ColourReader(color_mode="L", label_namespace="colours")
    (red,) = reader.read("red")
    assert red["image"].as_tensor({}).shape == (1, 6, 8)
    counter: Any = {"colours": {"red": 0}}
    red.count_vocab_items(counter)
    assert counter == {"colours": {"red": 1}}


def test_metadata_of_ones_own_is_added() -> None:
    instance = ImageDatasetReader().text_to_instance(PIXELS, metadata={"patient": 7})
    assert list(instance) == ["image", "metadata"]
    assert instance["metadata"].metadata == {"image": "ndarray", "patient": 7}


# What text_to_instance takes.


def test_every_kind_of_image_gives_the_same_instance(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    Image.fromarray(PIXELS).save(path)
    reader = ImageDatasetReader(transforms=[CenterCrop([6, 4])])
    for image, name in (
        (str(path), str(path)),
        (path, str(path)),
        (path.read_bytes(), "bytes"),
        (Image.fromarray(PIXELS), "Image"),
        (PIXELS, "ndarray"),
        (TENSOR, "Tensor"),
    ):
        instance = reader.text_to_instance(image)
        assert instance["image"].as_tensor({}).equal(TENSOR[:, :, 2:6])
        assert instance["metadata"].metadata == {"image": name}
        assert "label" not in instance


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The address of a web server with the image `a.png`; downloads are kept in `tmp_path`."""
    monkeypatch.setattr("allennlp.common.file_utils.CACHE_DIRECTORY", str(tmp_path / "cache"))
    folder = tmp_path / "site"
    folder.mkdir()
    Image.fromarray(PIXELS).save(folder / "a.png")

    class Handler(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *args: Any) -> None:
            super().__init__(*args, directory=str(folder))

        def log_message(self, *args: Any) -> None: ...

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as site:
        threading.Thread(target=site.serve_forever, args=[0.01]).start()
        yield f"http://127.0.0.1:{site.server_port}"
        site.shutdown()


def test_a_url_is_downloaded_into_allennlps_cache(server: str, tmp_path: Path) -> None:
    instance = ImageDatasetReader().text_to_instance(f"{server}/a.png", "cat")
    assert instance["metadata"].metadata == {"image": f"{server}/a.png"}
    assert instance["image"].as_tensor({}).equal(TENSOR)
    assert Path(instance["image"].source).parent == tmp_path / "cache"


def test_a_url_that_cannot_be_downloaded_is_an_image_error(server: str) -> None:
    for url in (f"{server}/b.png", "nothing://a.png"):
        with pytest.raises(ImageError, match=f"{url}: "):
            ImageDatasetReader().text_to_instance(url)


# The arguments.


def test_from_params() -> None:
    reader = DatasetReader.from_params(
        Params(
            {
                "type": "image_folder",
                "transforms": [
                    {"type": "random_horizontal_flip", "p": 1},
                    {"type": "center_crop", "size": 2},
                ],
                "color_mode": "L",
                "max_instances": 3,
            }
        )
    )
    assert [type(each).__name__ for each in reader.transforms] == [
        "RandomHorizontalFlip",
        "CenterCrop",
    ]
    assert isinstance(reader.transforms[0], RandomHorizontalFlip)
    assert (reader.color_mode, reader.max_instances) == ("L", 3)


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"color_mod": "L"}, "'color_mod'; expected one of color_mode, "),
        ({"color_mode": "rgb"}, "dataset_reader.color_mode is 'rgb'; expected one of .*RGB"),
        ({"max_instances": 0}, "dataset_reader.max_instances is 0; expected at least 1"),
        ({"transforms": [{"type": "center_crob", "size": 2}]}, "center_crop"),
        ({"transforms": [{"type": "center_crop", "sise": 2}]}, "'sise'; expected one of size"),
    ],
)
def test_a_wrong_configuration_is_refused(params: Any, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        DatasetReader.from_params(Params({"type": "image_folder", **params}))


# Shares of the data.

COLOURS = ["red", "green", "blue", "white", "black", "pink", "gold"]


def shares(reader: AnyReader, num_workers: int) -> List[List[str]]:
    found = []
    for worker in range(num_workers):
        reader._set_worker_info(WorkerInfo(num_workers, worker))
        found.append(labels(reader.read(" ".join(COLOURS))))
    return found


@pytest.mark.parametrize("max_instances", [None, 5])
def test_allennlps_workers_share_the_images(max_instances: int) -> None:
    first, second, third = shares(ColourReader(max_instances=max_instances), 3)
    assert sorted(first + second + third) == sorted(COLOURS[:max_instances])
    assert first == COLOURS[:max_instances][::3]


@pytest.mark.parametrize("max_instances", [None, 5])
def test_the_ranks_of_distributed_training_share_the_images(
    max_instances: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = []
    for rank in range(2):
        monkeypatch.setattr("allennlp.common.util.is_distributed", lambda: True)
        monkeypatch.setattr("torch.distributed.get_world_size", lambda: 2)
        monkeypatch.setattr("torch.distributed.get_rank", lambda rank=rank: rank)
        found += [ColourReader(max_instances=max_instances)]
        found[-1] = labels(found[-1].read(" ".join(COLOURS)))
    assert found == [COLOURS[:max_instances][::2], COLOURS[:max_instances][1::2]]


class CaptionReader(ColourReader):
    """With the token indexers where AllenNLP wants them."""

    def text_to_instance(self, *sample: Any) -> Instance:
        instance = super().text_to_instance(*sample)
        instance.add_field("caption", TextField([Token("a"), Token(sample[1])]))
        return instance

    def apply_token_indexers(self, instance: Instance) -> None:
        instance["caption"].token_indexers = {"tokens": SingleIdTokenIndexer()}


def test_token_indexers_are_applied() -> None:
    (red,) = CaptionReader().read("red")
    assert list(red["caption"].token_indexers) == ["tokens"]


@pytest.mark.parametrize(
    ("label", "said"),
    [
        (
            "caf\udce9",
            r"the label 'caf\xe9' of pets/caf\xe9/1.jpg cannot be kept",
        ),
        ("a\rb", "it has a line break"),
        (" ", "the label ' ' of"),
        ("@@UNKNOWN@@", "AllenNLP uses @@UNKNOWN@@ for something else"),
    ],
)
def test_a_label_that_a_vocabulary_cannot_write_is_refused(label: str, said: str) -> None:
    reader = ImageDatasetReader()
    for labels in ({"label": label}, {"labels": ["cat", label]}):
        with pytest.raises(ConfigurationError) as error:
            reader.text_to_instance(f"pets/{label}/1.jpg", **labels)
        assert said in str(error.value)
        assert str(error.value).isprintable()


@pytest.mark.parametrize("namespace", ["", "a/b", "*labels", ".labels", "labels.txt", "a\nb"])
def test_a_namespace_that_cannot_be_a_file_is_refused(namespace: str) -> None:
    with pytest.raises(ConfigurationError, match="dataset_reader.label_namespace is .*; expected"):
        ImageDatasetReader(label_namespace=namespace)
