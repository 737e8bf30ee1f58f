import copy
import io
import pickle
import re
import shutil
import sys
from pathlib import Path
from typing import Any, Dict, Iterable, List, Optional

import fsspec
import numpy as np
import pytest
import torch
from allennlp.common import Params
from allennlp.common.checks import ConfigurationError
from allennlp.data import DatasetReader, Instance, Vocabulary
from allennlp.data.data_loaders import MultiProcessDataLoader
from PIL import Image

from allencv.data import ImageDataLoader
from allencv.data.dataset_readers import HuggingFaceReader
from allencv.data.dataset_readers import huggingface_data as module
from allencv.runtime import ImageError
from tests.conftest import ROOT, write_images

datasets = pytest.importorskip("datasets")

NAMES = ["cat", "dog", "fox"]
SIZE = 7


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(autouse=True)
def offline(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(cache))
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)


def pixels(number: int) -> np.ndarray:
    array = np.random.default_rng(number).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    array[:, :, 0] = number
    return array


def encoded(number: int) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels(number)).save(file, "PNG")
    return file.getvalue()


def table(numbers: Iterable[int] = range(SIZE), **columns: Any) -> Any:
    """A dataset with the images of some numbers, whose classes are the remainders by 3."""
    numbers = list(numbers)
    features = {
        "image": datasets.Image(),
        "label": datasets.ClassLabel(names=NAMES),
        **{name: kind for name, (kind, _) in columns.items()},
    }
    content = {
        "image": [{"bytes": encoded(number), "path": None} for number in numbers],
        "label": [number % 3 for number in numbers],
        **{name: values for name, (_, values) in columns.items()},
    }
    return datasets.Dataset.from_dict(content, features=datasets.Features(features))


def number(instance: Instance) -> int:
    return int(instance["image"].as_tensor({})[0, 0, 0])


def numbers(instances: Iterable[Instance]) -> List[int]:
    return [number(instance) for instance in instances]


def labels(instances: Iterable[Instance]) -> List[Optional[str]]:
    return [instance["label"].label if "label" in instance else None for instance in instances]


def read(file_path: Any, **arguments: Any) -> List[Instance]:
    return list(HuggingFaceReader(**arguments).read(file_path))


streaming = pytest.mark.parametrize("streaming", [False, True])


# Where the data are.


@streaming
def test_a_saved_data_set(streaming: bool, tmp_path: Path) -> None:
    table().save_to_disk(tmp_path / "saved")
    params = {"type": "huggingface", "streaming": streaming}
    reader = DatasetReader.from_params(Params(params))
    instances = list(reader.read(str(tmp_path / "saved")))
    assert numbers(instances) == list(range(SIZE))
    assert labels(instances) == [NAMES[number % 3] for number in range(SIZE)]
    assert instances[5]["image"].as_tensor({}).equal(torch.from_numpy(pixels(5)).permute(2, 0, 1))
    assert instances[5]["metadata"].metadata == {"image": f"'{tmp_path / 'saved'}'[5]"}


@streaming
def test_a_parquet_file_a_glob_and_a_list(streaming: bool, tmp_path: Path) -> None:
    for part in range(3):
        table([2 * part, 2 * part + 1]).to_parquet(tmp_path / "data" / f"{part}.parquet")
    files = [tmp_path / "data" / f"{part}.parquet" for part in (2, 0)]
    for path, expected in (
        (files[0], [4, 5]),
        (str(tmp_path / "data" / "*.parquet"), [0, 1, 2, 3, 4, 5]),
        (files, [4, 5, 0, 1]),
        ({"path": "parquet", "data_files": str(files[1])}, [0, 1]),
        ({"path": str(files[1])}, [0, 1]),
        (str(tmp_path / "data"), [0, 1, 2, 3, 4, 5]),
        ({"path": str(tmp_path / "data")}, [0, 1, 2, 3, 4, 5]),
    ):
        instances = read(path, streaming=streaming)
        assert numbers(instances) == expected
        assert labels(instances) == [NAMES[number % 3] for number in expected]


@streaming
def test_a_folder_of_images(streaming: bool, tmp_path: Path) -> None:
    write_images(tmp_path / "pets", {"cat": 2, "dog": 1})
    instances = read(tmp_path / "pets", streaming=streaming)
    paths = [f"{tmp_path}/pets/{name}.jpg" for name in ("cat/000", "cat/001", "dog/000")]
    assert labels(instances) == ["cat", "cat", "dog"]
    for instance, path in zip(instances, paths):
        expected = torch.from_numpy(np.asarray(Image.open(path)).copy()).permute(2, 0, 1)
        assert instance["image"].as_tensor({}).equal(expected)
    if not streaming:  # files are read as files
        assert [instance["image"].source for instance in instances] == paths


@streaming
def test_splits(streaming: bool, tmp_path: Path) -> None:
    splits = {"train": table([0, 1, 2, 3]), "test": table([4, 5])}
    datasets.DatasetDict(splits).save_to_disk(tmp_path / "saved")
    for split, data in splits.items():
        data.to_parquet(tmp_path / "files" / f"{split}.parquet")
    for folder in ("saved", "files"):
        path = str(tmp_path / folder)
        assert numbers(read(path, split="train", streaming=streaming)) == [0, 1, 2, 3]
        # the data path goes before the argument
        test = {"path": path, "split": "test"}
        assert numbers(read(test, split="train", streaming=streaming)) == [4, 5]
        with pytest.raises(
            ConfigurationError, match=f"split of '{path}'.*is None; expected one of"
        ):
            read(path, streaming=streaming)
        with pytest.raises(ConfigurationError, match="tset.*test.*train") as caught:
            read(path, split="tset", streaming=streaming)
        assert "\n" not in str(caught.value)
    part = read(str(tmp_path / "files"), split="train[:2]")
    assert numbers(part) == [0, 1]


def test_the_home_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table().save_to_disk(tmp_path / "saved")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert len(read("~/saved")) == SIZE


# Columns.


@streaming
def test_our_colour_rules(streaming: bool, tmp_path: Path) -> None:
    file = io.BytesIO()
    Image.new("LA", (4, 4), (0, 0)).save(file, "PNG")  # transparent: white
    row = {"image": [{"bytes": file.getvalue(), "path": None}]}
    features = datasets.Features({"image": datasets.Image()})
    datasets.Dataset.from_dict(row, features).save_to_disk(tmp_path / "saved")
    (instance,) = read(tmp_path / "saved", streaming=streaming)
    assert list(instance) == ["image", "metadata"]
    assert instance["image"].as_tensor({}).equal(torch.full((3, 4, 4), 255, dtype=torch.uint8))


@streaming
def test_columns_are_chosen(streaming: bool, tmp_path: Path) -> None:
    coarse = datasets.ClassLabel(names=["tame", "wild"])
    data = table(
        [1, 2],
        coarse=(coarse, [0, 1]),
        text=(datasets.Value("string"), ["Hund", "Fuchs"]),
        year=(datasets.Value("int16"), [1999, 2000]),
        several=(datasets.List(coarse), [[0, 1], []]),
        raw=(datasets.Value("binary"), [encoded(3), encoded(4)]),
    )
    data.to_parquet(tmp_path / "a.parquet")
    for column, expected in (
        ("label", ["dog", "fox"]),
        ("coarse", ["tame", "wild"]),
        ("text", ["Hund", "Fuchs"]),
        ("year", ["1999", "2000"]),
    ):
        instances = read(tmp_path / "a.parquet", label_column=column, streaming=streaming)
        assert labels(instances) == expected
        assert numbers(instances) == [1, 2]
    arguments = {"image_column": "raw", "label_column": "several", "streaming": streaming}
    instances = read(tmp_path / "a.parquet", **arguments)
    assert [instance["labels"].labels for instance in instances] == [["tame", "wild"], []]
    assert numbers(instances) == [3, 4]


@streaming
def test_files_that_others_have_written(streaming: bool, tmp_path: Path) -> None:
    """Structs of bytes and path without a word of what they are, and columns of paths."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    for place in range(2):
        (tmp_path / f"{place}.png").write_bytes(encoded(10 + place))
    paths = [str(tmp_path / f"{place}.png") for place in range(2)]
    rows = {
        "struct": [{"bytes": encoded(place), "path": "a.png"} for place in range(2)],
        "path": paths,
    }
    pq.write_table(pa.table(rows), tmp_path / "a.parquet")
    for column, expected in (("struct", [0, 1]), ("path", [10, 11])):
        instances = read(tmp_path / "a.parquet", image_column=column, streaming=streaming)
        assert numbers(instances) == expected


@streaming
def test_rows_without_a_label(streaming: bool, tmp_path: Path) -> None:
    data = table([0, 1, 2]).remove_columns("label")
    data = data.add_column("label", [-1, None, 2]).cast_column(
        "label", datasets.ClassLabel(names=NAMES)
    )
    data.save_to_disk(tmp_path / "saved")
    assert labels(read(tmp_path / "saved", streaming=streaming)) == [None, None, "fox"]


# Shares of the data.


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five files of 5, 4, 3, 2 and 1 rows, which are numbered from 0 to 14."""
    folder, first = tmp_path_factory.mktemp("numbered") / "files", 0
    for part in range(5):
        table(range(first, first + 5 - part)).to_parquet(folder / f"{part}.parquet")
        first += 5 - part
    return folder


def shares(count: int, path: Path, **arguments: Any) -> List[List[int]]:
    reader = HuggingFaceReader(**arguments)
    return [
        [
            number(reader.text_to_instance(*sample))
            for sample in reader.read_shard(path, place, count)
        ]
        for place in range(count)
    ]


@streaming
@pytest.mark.parametrize("count", [1, 3, 5, 6, 20])
@pytest.mark.parametrize("max_instances", [None, 7])
def test_nothing_is_read_twice_and_nothing_is_lost(
    streaming: bool, count: int, max_instances: Optional[int], files: Path
) -> None:
    found = shares(count, files, streaming=streaming, max_instances=max_instances)
    assert sorted(each for share in found for each in share) == list(range(max_instances or 15))
    assert all(share == sorted(share) for share in found)


def test_whole_files_are_divided_if_there_are_enough(files: Path) -> None:
    assert shares(2, files, streaming=True)[1] == [5, 6, 7, 8, 12, 13]
    assert shares(6, files, streaming=True)[1] == [1, 7, 13]


@streaming
@pytest.mark.parametrize("num_workers", [0, 2])
def test_allennlps_loader(streaming: bool, num_workers: int, files: Path) -> None:
    loader = MultiProcessDataLoader(
        HuggingFaceReader(streaming=streaming), files, batch_size=4, num_workers=num_workers
    )
    loader.index_with(Vocabulary.from_instances(loader.iter_instances()))
    found = [each for batch in loader for each in batch["image"][:, 0, 0, 0].tolist()]
    assert sorted(found) == list(range(15))


@pytest.mark.parametrize("worker", ["thread", "process"])
def test_the_image_loader(worker: str, files: Path) -> None:
    loader = ImageDataLoader(
        HuggingFaceReader(), files, batch_size=15, num_workers=2, worker=worker
    )
    loader.index_with(Vocabulary.from_instances(loader.iter_instances()))
    (batch,) = loader
    assert batch["image"][:, 0, 0, 0].tolist() == list(range(15))


# Nothing is decoded, and little is sent.


@streaming
def test_an_image_is_decoded_by_us_and_when_it_is_used(
    streaming: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table().save_to_disk(tmp_path / "saved")

    def fail(*args: Any, **kwargs: Any) -> None:
        raise AssertionError

    monkeypatch.setattr(datasets.Image, "decode_example", fail)
    instances = read(tmp_path / "saved", streaming=streaming)
    assert numbers(instances) == list(range(SIZE))


def test_an_instance_sent_to_another_process_opens_its_data_set_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table().save_to_disk(tmp_path / "saved")
    module._open.cache_clear()
    instances = read(tmp_path / "saved")
    loaded: List[Dict[str, Any]] = []
    load = module.load
    monkeypatch.setattr(
        module,
        "load",
        lambda arguments, streaming: [loaded.append(arguments), load(arguments, streaming)][1],
    )
    sent = [pickle.dumps(instance) for instance in instances]
    assert all(len(each) < 2_000 for each in sent)
    assert numbers(pickle.loads(each) for each in sent) == list(range(SIZE))
    assert numbers(copy.deepcopy(instances)) == list(range(SIZE))
    assert loaded == [{"path": str(tmp_path / "saved")}]
    module._open.cache_clear()


# What is wrong.


@pytest.mark.parametrize(
    ("file_path", "message"),
    [
        (
            "ROOT/saved",
            r"'ROOT/saved' \(train_data_path.*\) does not exist; expected a folder or a",
        ),
        ("ROOT/a.parquet", "'ROOT/a.parquet'"),
        ("ROOT/*.parquet", r"'ROOT/\*.parquet' \(train_data_path"),
        ("ROOT/empty", "'ROOT/empty'"),
        ("nobody/nothing", r"'nobody/nothing' \(train_data_path"),
        ("ROOT/broken/a.parquet", r"'ROOT/broken/a.parquet' \(train_data_path"),
        (3, "3 .*; expected a folder, the name of a dataset, files .parquet, .arrow, or a dict"),
        ([], "expected a folder"),
        ({}, "expected a folder"),
        (
            {"path": "ROOT", "splt": "a"},
            r"a key of a data path \(.*\) is 'splt'; expected one of s",
        ),
    ],
)
@streaming
def test_a_wrong_data_path(file_path: Any, message: str, streaming: bool, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "a.parquet").write_bytes(b"PAR1 and no more")
    if isinstance(file_path, str):
        file_path = file_path.replace("ROOT", str(tmp_path))
    message = message.replace("ROOT", str(tmp_path))
    with pytest.raises(ConfigurationError, match=message) as caught:
        read(file_path, streaming=streaming)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"image_column": "imag"}, "image_column for 'ROOT' is 'imag'; expected one of image, "),
        ({"label_column": "labl"}, "label_column for 'ROOT' is 'labl'; expected one of label, "),
        ({"image_column": "label"}, "image_column is 'label'; expected a column of images.*label"),
        ({"label_column": "image"}, "label_column is 'image'; expected class labels, texts or int"),
        ({"label_column": "weight"}, r"is 'weight'; expected .*weight \(float32\)"),
        ({}, "label_column for 'ROOT' is None; expected one of label, other"),
        ({"split": "test"}, "split 'test' of 'ROOT' .* does not exist; it holds no splits"),
    ],
)
@streaming
def test_wrong_columns(arguments: Any, message: str, streaming: bool, tmp_path: Path) -> None:
    data = table(
        [0],
        weight=(datasets.Value("float32"), [1.0]),
        other=(datasets.ClassLabel(names=NAMES), [0]),
    )
    data.save_to_disk(tmp_path / "saved")
    message = message.replace("ROOT", str(tmp_path / "saved"))
    with pytest.raises(ConfigurationError, match=message) as caught:
        read(tmp_path / "saved", streaming=streaming, **arguments)
    assert "\n" not in str(caught.value)


def test_several_columns_of_images(tmp_path: Path) -> None:
    data = table([0], left=(datasets.Image(), [{"bytes": encoded(1), "path": None}]))
    data.save_to_disk(tmp_path / "saved")
    with pytest.raises(
        ConfigurationError, match="image_column .* is None; expected one of image, "
    ):
        read(tmp_path / "saved")
    assert numbers(read(tmp_path / "saved", image_column="left")) == [1]


def test_no_column_of_images(tmp_path: Path) -> None:
    table([0]).remove_columns("image").save_to_disk(tmp_path / "saved")
    with pytest.raises(
        ConfigurationError, match="image_column is None; expected a column of images"
    ):
        read(tmp_path / "saved")


@streaming
def test_an_image_that_is_missing(streaming: bool, tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows = {"image": [None, {"bytes": None, "path": str(tmp_path / "none.png")}]}
    pq.write_table(pa.table(rows), tmp_path / "a.parquet")
    arguments: Dict[str, Any] = {"image_column": "image", "streaming": streaming}
    first, second = read(tmp_path / "a.parquet", **arguments)
    with pytest.raises(ImageError, match=r"a.parquet'\[0\]: no image; the row holds "):
        first["image"].as_tensor({})
    with pytest.raises(ImageError, match=f"{tmp_path}/none.png: No such file"):
        second["image"].as_tensor({})


@streaming
def test_bad_labels(streaming: bool, tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    def error(label: Any) -> str:
        data = {"image": [encoded(0)] * 2, "label": ["cat", label]}
        pq.write_table(pa.table(data), tmp_path / "a.parquet")
        with pytest.raises(ConfigurationError) as error:
            read(
                tmp_path / "a.parquet",
                image_column="image",
                label_column="label",
                streaming=streaming,
            )
        return str(error.value)

    place = f"'{tmp_path}/a.parquet'[1]: the label is"
    assert error(" ") == (
        f"{place} ' ' (dataset_reader.label_column): expected a text that is not empty"
    )
    # A class of which there is no name.
    table([0, 1]).to_parquet(tmp_path / "b.parquet")
    content = pq.read_table(tmp_path / "b.parquet")
    wrong = content.set_column(1, content.schema.field(1), pa.array([0, 5]))
    pq.write_table(wrong, tmp_path / "b.parquet")
    with pytest.raises(ConfigurationError, match=r"b.parquet'\[1\]: the label is 5 .*: Invalid "):
        read(tmp_path / "b.parquet", streaming=streaming)


@streaming
def test_space_around_a_label(streaming: bool, tmp_path: Path) -> None:
    data = table([1, 2], text=(datasets.Value("string"), [" big cat ", "Größe"]))
    data.to_parquet(tmp_path / "a.parquet")
    found = read(tmp_path / "a.parquet", label_column="text", streaming=streaming)
    assert labels(found) == ["big cat", "Größe"]


def test_a_file_that_stands_there_twice(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    (tmp_path / "1.png").write_bytes(encoded(1))
    path = str(tmp_path / "1.png")
    arguments: Any = {"image_column": "path", "label_column": "label"}

    def write(labels: List[str]) -> Path:
        rows = {"path": [path, path], "label": labels}
        file = tmp_path / f"{labels[1]}.parquet"
        pq.write_table(pa.table(rows), file)
        return file

    (instance,) = read(write(["x", "x"]), **arguments)
    assert instance["image"].source == path
    assert f"are used once (1): '{path}' in rows 0 and 1" in caplog.text
    with pytest.raises(
        ConfigurationError, match=r"different labels \(1\): .*rows 0 and 1 \(x and y"
    ):
        read(write(["x", "y"]), **arguments)


def test_an_empty_data_set(tmp_path: Path) -> None:
    table([]).save_to_disk(tmp_path / "saved", num_shards=1)
    with pytest.raises(
        ConfigurationError, match=r"saved' \(train_data.*\) has no rows; expected o"
    ):
        read(tmp_path / "saved")


@streaming
def test_hidden_and_other_files_in_a_folder_of_images(streaming: bool, tmp_path: Path) -> None:
    write_images(tmp_path / "pets", {"cat": 1, "dog": 1})
    write_images(tmp_path / "pets", {"dog": 2}, suffix=".JPG")
    for name in ("cat/.DS_Store", "cat/Thumbs.db", "cat/._000.jpg", ".x/1.jpg"):
        (tmp_path / "pets" / name).parent.mkdir(exist_ok=True)
        (tmp_path / "pets" / name).write_bytes(b"text")
    assert labels(read(tmp_path / "pets", streaming=streaming)) == ["cat", "dog", "dog", "dog"]


@streaming
def test_a_file_of_a_metadata_table_that_is_missing(streaming: bool, tmp_path: Path) -> None:
    (tmp_path / "1.png").write_bytes(encoded(1))
    (tmp_path / "metadata.csv").write_text("file_name,l\n1.png,cat\n2.png,dog\n")
    first, second = read(tmp_path, label_column="l", streaming=streaming)
    assert number(first) == 1
    with pytest.raises(ImageError, match=r"/2.png: No such file"):
        second["image"].as_tensor({})


@pytest.mark.parametrize("url", ["memory://hf/a.parquet", "file://ROOT/a.parquet"])
@streaming
def test_a_file_behind_a_url(
    url: str, streaming: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", False)  # these are on no network
    url = url.replace("ROOT", str(tmp_path))
    table([3, 4]).to_parquet(tmp_path / "a.parquet")
    fsspec.filesystem("memory").pipe("/hf/a.parquet", (tmp_path / "a.parquet").read_bytes())
    assert numbers(read(url, streaming=streaming)) == [3, 4]


def test_a_stream_that_breaks(files: Path, tmp_path: Path) -> None:
    shutil.copytree(files, tmp_path / "files")
    broken = tmp_path / "files" / "3.parquet"
    broken.write_bytes(b"?" * 100 + broken.read_bytes()[100:])
    with pytest.raises((ImageError, ConfigurationError), match="files"):
        read(tmp_path / "files", streaming=True)


def test_without_the_library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)
    reader = HuggingFaceReader()  # to predict, the library is not needed
    assert number(reader.text_to_instance(encoded(3))) == 3
    with pytest.raises(ConfigurationError, match='needs pip install "datasets>=5.0"'):
        list(reader.read("nobody/nothing"))


def test_a_wrong_configuration_is_refused() -> None:
    params = Params({"type": "huggingface", "colum": "image"})
    with pytest.raises(ConfigurationError, match="'colum'; expected one of "):
        DatasetReader.from_params(params)


# The page of the documentation.


def test_the_documentation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = (ROOT / "docs" / "data.md").read_text(encoding="utf-8")
    section = page.split("\n## Hugging Face datasets\n")[1].split("\n## ")[0]
    (config,) = re.findall(r"^```jsonnet\n(.*?)^```$", section, re.DOTALL | re.MULTILINE)
    monkeypatch.chdir(tmp_path)
    for split, count in (("train", 4), ("test", 3)):
        values = [number % 2 for number in range(count)]
        fine = (datasets.ClassLabel(names=["apple", "bear"]), values)
        path = tmp_path / "uoft-cs" / "cifar100" / f"{split}.parquet"
        table(range(count), fine_label=fine).to_parquet(path)
    (tmp_path / "config.jsonnet").write_text(config)
    params = Params.from_file(str(tmp_path / "config.jsonnet"))
    for reader_key, path_key, expected in (
        ("dataset_reader", "train_data_path", ["apple", "bear"] * 2),
        ("validation_dataset_reader", "validation_data_path", ["apple", "bear", "apple"]),
    ):
        reader = DatasetReader.from_params(params.pop(reader_key))
        assert labels(reader.read(params.pop(path_key))) == expected
