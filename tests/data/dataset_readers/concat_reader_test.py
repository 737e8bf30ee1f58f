from copy import deepcopy
from pathlib import Path
from typing import Any, List, Tuple

import pytest
from allennlp.common import Params
from allennlp.common.checks import ConfigurationError
from allennlp.data import DatasetReader, Vocabulary
from allennlp.data.dataset_readers.dataset_reader import WorkerInfo
from allennlp.training.util import data_loaders_from_params

from allencv.data import ImageDataLoader
from allencv.data.dataset_readers import ConcatReader, ImageFolderReader, ImageTableReader
from tests.conftest import write_images

CONFIG: Any = {
    "type": "concat",
    "readers": {
        "pets": {"type": "image_folder", "transforms": [{"type": "resize", "size": [8, 8]}]},
        "posters": {
            "type": "image_table",
            "image_column": "file",
            "label_column": "label",
            "transforms": [
                {"type": "resize", "size": [8, 8]},
                {"type": "grayscale", "num_output_channels": 3},
            ],
        },
    },
}


@pytest.fixture
def paths(tmp_path: Path) -> dict:
    write_images(tmp_path / "pets", {"cat": 2, "dog": 1}, size=10)
    write_images(tmp_path / "posters", {"x": 3}, size=10)
    rows = ["x/002.jpg,fox", "x/000.jpg,cat", "x/001.jpg,fox"]
    (tmp_path / "posters" / "t.csv").write_text("\n".join(["file,label", *rows]))
    return {"pets": str(tmp_path / "pets"), "posters": str(tmp_path / "posters" / "t.csv")}


@pytest.fixture
def reader() -> DatasetReader:
    return DatasetReader.from_params(Params(deepcopy(CONFIG)))


NAMES = [
    ("cat/000.jpg", "cat", "pets"),
    ("cat/001.jpg", "cat", "pets"),
    ("dog/000.jpg", "dog", "pets"),
    ("x/002.jpg", "fox", "posters"),
    ("x/000.jpg", "cat", "posters"),
    ("x/001.jpg", "fox", "posters"),
]


def listed(instances: Any) -> List[Tuple[str, str, str]]:
    return [
        (
            "/".join(Path(each["metadata"].metadata["image"]).parts[-2:]),
            each["label"].label,
            each["metadata"].metadata["from_reader"],
        )
        for each in instances
    ]


def test_the_images_of_one_reader_after_those_of_the_other(
    reader: DatasetReader, paths: dict
) -> None:
    assert listed(reader.read(paths)) == NAMES
    assert listed(reader.read(Params(paths))) == NAMES
    assert listed(reader.read(dict(reversed(paths.items())))) == NAMES
    assert listed(reader.read({**paths, "pets": None})) == NAMES[3:]


def test_each_image_is_prepared_by_its_own_reader(reader: DatasetReader, paths: dict) -> None:
    instances = list(reader.read(paths))
    is_grey = []
    for instance in instances:
        image = instance["image"].as_tensor({})
        assert image.shape[1:] == (8, 8)
        is_grey.append(bool((image == image[:1]).all()))
    assert is_grey == [False] * 3 + [True] * 3
    # An image by itself is the first reader's.
    image = reader.text_to_instance(paths["pets"] + "/cat/000.jpg")["image"].as_tensor({})
    assert image.equal(instances[0]["image"].as_tensor({}))


@pytest.mark.parametrize("num_workers", [0, 2])
def test_in_our_data_loader(reader: DatasetReader, paths: dict, num_workers: int) -> None:
    loader = ImageDataLoader(reader, paths, batch_size=6, num_workers=num_workers)
    vocab = Vocabulary.from_instances(loader.iter_instances())
    assert set(vocab.get_token_to_index_vocabulary("labels")) == {"cat", "dog", "fox"}
    loader.index_with(vocab)
    (batch,) = loader
    assert batch["image"].shape == (6, 3, 8, 8)
    grey = batch["image"].eq(batch["image"][:, :1]).flatten(1).all(1)
    assert grey.tolist() == [False] * 3 + [True] * 3
    names = [vocab.get_token_from_index(index, "labels") for index in batch["label"].tolist()]
    assert names == [label for _, label, _ in NAMES]


@pytest.mark.parametrize("type", ["image", "multiprocess"])
def test_a_dictionary_of_paths_in_a_config(paths: dict, type: str) -> None:
    config = {
        "dataset_reader": deepcopy(CONFIG),
        "train_data_path": paths,
        "data_loader": {"type": type, "batch_size": 4, "num_workers": 2},
    }
    loader = data_loaders_from_params(Params(config))["train"]
    assert sorted(listed(loader.iter_instances())) == sorted(NAMES)


def test_max_instances(paths: dict) -> None:
    readers: Any = {
        "pets": ImageFolderReader(max_instances=2),
        "posters": ImageTableReader(image_column="file", label_column="label"),
    }
    expected = NAMES[:2] + NAMES[3:]
    assert listed(ConcatReader(readers).read(paths)) == expected
    assert listed(ConcatReader(readers, max_instances=3).read(paths)) == expected[:3]


def test_workers_and_ranks_share_the_images(paths: dict, monkeypatch: pytest.MonkeyPatch) -> None:
    found = []
    for worker in range(2):
        reader = DatasetReader.from_params(Params(deepcopy(CONFIG)))
        reader._set_worker_info(WorkerInfo(2, worker))
        found.append(listed(reader.read(paths)))
    assert found == [NAMES[::2], NAMES[1::2]]
    monkeypatch.setattr("allennlp.common.util.is_distributed", lambda: True)
    monkeypatch.setattr("torch.distributed.get_world_size", lambda: 2)
    for rank in range(2):
        monkeypatch.setattr("torch.distributed.get_rank", lambda rank=rank: rank)
        reader = DatasetReader.from_params(Params(deepcopy(CONFIG)))
        assert listed(reader.read(paths)) == NAMES[rank::2]


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("folder", "the path is 'folder'; expected a dictionary with a path for each of "),
        (["a"], r"the path is \['a'\]; expected .* pets, posters"),
        ({"pet": "a"}, "a key of the paths for dataset_reader.readers is 'pet'; expected .* pets"),
        (
            {"pets": "a"},
            "the paths are for pets; expected one for posters of dataset_reader.readers",
        ),
        ({}, "the paths are for no reader; expected one for pets, posters of "),
    ],
)
def test_wrong_paths(reader: DatasetReader, path: Any, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        list(reader.read(path))


def test_the_error_of_a_reader_is_that_of_the_concat_reader(
    reader: DatasetReader, paths: dict
) -> None:
    Path(paths["posters"]).write_text("file;label\nx/000.jpg;cat\n")
    with pytest.raises(ConfigurationError, match=r"t.csv: the header is .*expected delimiter ';'"):
        list(reader.read(paths))
    with pytest.raises(ConfigurationError, match=r"'nowhere' .* does not exist"):
        list(reader.read({**paths, "pets": "nowhere"}))
    with pytest.raises(ConfigurationError, match=r"the path is \['a'\]; expected the text of a pa"):
        list(reader.read({**paths, "pets": ["a"]}))


def test_readers_with_their_own_splits(paths: dict) -> None:
    config = deepcopy(CONFIG)
    found = []
    for part in ("train", "validation"):
        for each in config["readers"].values():
            each["split"] = {"part": part, "by": "stratified", "fold": 0, "folds": 3}
        reader = DatasetReader.from_params(Params(deepcopy(config)))
        found.append(listed(reader.read(paths)))
    assert sorted(found[0] + found[1]) == sorted(NAMES)
    assert {name for _, _, name in found[1]} == {"pets", "posters"}


def test_images_that_two_readers_read(paths: dict) -> None:
    """Each dataset has its own; `allencv check-data` finds copies in all."""
    readers: Any = {name: ImageFolderReader() for name in ("a", "b")}
    both = {"a": paths["pets"], "b": paths["pets"]}
    assert [name for _, _, name in listed(ConcatReader(readers).read(both))] == ["a"] * 3 + [
        "b"
    ] * 3


@pytest.mark.parametrize(
    ("readers", "message"),
    [
        ({}, "dataset_reader.readers is empty; expected one or more"),
        (
            {"a": {"type": "image_folder"}, "b": {"type": "image_folder", "color_mode": "L"}},
            "dataset_reader.readers.b.color_mode is 'L'; expected 'RGB', as readers.a has",
        ),
        (
            {"a": {"type": "image_folder"}, "b": {"type": "babi"}},
            "dataset_reader.readers.b is a .*; expected a reader of images",
        ),
        ({"a": CONFIG}, "dataset_reader.readers.a is a ConcatReader; expected a reader of images"),
        ({"a": {"type": "image_foldr"}}, "image_foldr"),
    ],
)
def test_wrong_arguments(readers: Any, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        DatasetReader.from_params(Params({"type": "concat", "readers": deepcopy(readers)}))
