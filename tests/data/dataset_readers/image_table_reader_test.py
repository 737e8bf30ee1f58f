import bz2
import functools
import gzip
import http.server
import json
import logging
import lzma
import sys
import threading
from pathlib import Path
from typing import Any, Iterator, List, Optional, Sequence, Tuple

import cached_path
import fsspec
import numpy as np
import pytest
from allennlp.common import Params
from allennlp.common.checks import ConfigurationError
from allennlp.data import DatasetReader
from PIL import Image

from allencv.data.dataset_readers import ImageSplit, ImageTableReader
from allencv.data.remote import RemoteImage
from allencv.runtime import ImageError

POSTERS = """Id,Genre,Action,Drama,Reality-TV
tt01,"['Action', 'Drama']",1,1,0
tt02,"['Drama']",0,1,0
tt03,[],0,0,0
"""
Listed = List[Tuple[str, Optional[str], Optional[Sequence[str]]]]


@pytest.fixture(autouse=True)
def _log(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)


@pytest.fixture
def root(tmp_path: Path) -> str:
    return str(tmp_path)


def write(root: str, content: Any, name: str = "table.csv") -> str:
    path = Path(root) / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return str(path)


def read(root: str, content: Any, name: str = "table.csv", **arguments: Any) -> Listed:
    """What is read: the path relative to the root, the label, the labels."""
    arguments = arguments if "image_pattern" in arguments else {"image_column": "f", **arguments}
    path = write(root, content, name)
    samples = ImageTableReader(**arguments).read_samples(path)
    return [
        (str(sample.image).removeprefix(f"{root}/"), sample.label, sample.labels)
        for sample in samples
    ]


def error_of(root: str, content: Any, name: str = "table.csv", **arguments: Any) -> str:
    """The error, after the path of the table."""
    with pytest.raises(ConfigurationError) as error:
        read(root, content, name, **arguments)
    text = str(error.value)
    assert "\n" not in text.strip('"')
    return text.replace(f"{root}/", "")


def test_instances_of_a_table_of_movie_posters(root: str, caplog: pytest.LogCaptureFixture) -> None:
    path = write(root, POSTERS, "metadata.csv")
    reader = DatasetReader.from_params(
        Params(
            {
                "type": "image_table",
                "image_pattern": "images/{Id}.png",
                "label_columns": "*",
                "ignore_columns": ["Genre"],
                "color_mode": "L",
            }
        )
    )
    (Path(root) / "images").mkdir()
    Image.fromarray(np.zeros((4, 6), np.uint8)).save(f"{root}/images/tt01.png")
    first, second, third = reader.read(path)
    assert list(first) == ["image", "labels", "metadata"]
    assert first["image"].as_tensor({}).shape == (1, 4, 6)
    assert first["metadata"].metadata == {"image": f"{root}/images/tt01.png"}
    assert [each["labels"].labels for each in (first, second, third)] == [
        ("Action", "Drama"),
        ("Drama",),
        (),
    ]
    assert [message.removeprefix(f"{path}: ") for message in caplog.messages[-5:]] == [
        "read as csv with ',' between the cells, columns Id, Genre, Action, Drama, Reality-TV",
        "3 columns of labels: Action, Drama, Reality-TV",
        "1 of 3 images have no label",
        "no image has the labels (1) Reality-TV",
        f"3 images, relative to '{root}'",
    ]
    with pytest.raises(ImageError, match="tt02.png: No such file"):
        second["image"].as_tensor({})


# Labels.


def test_one_label(root: str) -> None:
    assert read(root, "f,label\nb.jpg, cat \na.jpg,dog\n", label_column="label") == [
        ("b.jpg", "cat", None),
        ("a.jpg", "dog", None),
    ]


def test_no_labels(root: str) -> None:
    assert read(root, "f\na.jpg\nb c.jpg") == [("a.jpg", None, None), ("b c.jpg", None, None)]


def test_columns_of_labels(root: str) -> None:
    text = "f,cat,dog,size\na.jpg,1,0,7\nb.jpg,True,1.0,8\nc.jpg,False,0.0,9\n"
    assert read(root, text, label_columns=["dog", "cat"]) == [
        ("a.jpg", None, ("cat",)),
        ("b.jpg", None, ("dog", "cat")),
        ("c.jpg", None, ()),
    ]


def test_several_labels_in_one_column(root: str, caplog: pytest.LogCaptureFixture) -> None:
    text = "f,tags\na.jpg,red|a b\nb.jpg,\nc.jpg, blue \n"
    assert read(root, text, labels_column="tags", labels_delimiter="|") == [
        ("a.jpg", None, ["red", "a b"]),
        ("b.jpg", None, []),
        ("c.jpg", None, ["blue"]),
    ]
    assert f"{root}/table.csv: 1 of 3 images have no label" in caplog.messages


def test_several_labels_as_pandas_writes_lists(root: str) -> None:
    text = "f,tags\na.jpg,\"['a b', 'red']\"\nb.jpg,[]\nc.jpg,\"['red']\"\n"
    for arguments in ({}, {"labels_delimiter": ","}):
        assert read(root, text, labels_column="tags", **arguments) == [
            ("a.jpg", None, ["a b", "red"]),
            ("b.jpg", None, []),
            ("c.jpg", None, ["red"]),
        ]


def test_one_label_in_columns_of_0_and_1(root: str) -> None:
    text = "f,cat,dog,size\na.jpg,1,0,7\nb.jpg,0.0,1.0,8\n"
    arguments = {"label_columns": ["cat", "dog"], "one_hot": True}
    assert read(root, text, **arguments) == [("a.jpg", "cat", None), ("b.jpg", "dog", None)]
    for flags, number in (("1,1", 2), ("0,0", 0)):
        assert error_of(root, f"{text}c.jpg,{flags},9\n", **arguments) == (
            f"table.csv, line 4: cat is '{flags[0]}'; expected exactly one 1 in the row "
            f"(one_hot is true), not {number} (dataset_reader.label_columns)"
        )


SPLITS = "f,l,part\na.jpg,x,train\nb.jpg,y, val\nc.jpg,y,train\nd.jpg,,test\n"


def read_split(root: str, part: Any, **arguments: Any) -> List[str]:
    reader = ImageTableReader(image_column="f", split_column="part", **arguments)
    samples = reader.read_samples({"path": write(root, SPLITS), "split": part})
    return [str(sample.image).removeprefix(f"{root}/") for sample in samples]


def test_a_column_that_says_the_split(root: str) -> None:
    assert read_split(root, "train", label_column="l") == ["a.jpg", "c.jpg"]
    assert read_split(root, "val", label_column="l") == ["b.jpg"]
    assert read_split(root, None) == ["a.jpg", "b.jpg", "c.jpg", "d.jpg"]
    with pytest.raises(ConfigurationError, match="1 line without a label in column l: line 5"):
        read_split(root, "test", label_column="l")
    with pytest.raises(ConfigurationError, match="'valid'; expected one of val, test, train"):
        read_split(root, "valid")
    for path in ("table.csv", {"path": "table.csv"}):
        with pytest.raises(ConfigurationError, match="expected the keys path and split, such as"):
            ImageTableReader(image_column="f", split_column="part").read_samples(path)


def test_images_held_out_of_one_split(root: str) -> None:
    of = {"path": f"{root}/table.csv", "split": "train"}
    split = ImageSplit("validation", 0.5, "stratified", of=of)
    assert len(read_split(root, "train", split=split)) == 1
    assert read_split(root, "test", split=split) == ["d.jpg"]


def test_the_column_of_the_split_is_no_label(root: str) -> None:
    path = write(root, "f,x,y,part\na.jpg,1,0,train\n")
    reader = ImageTableReader(image_column="f", label_columns="*", split_column="part")
    (sample,) = reader.read_samples({"path": path, "split": "train"})
    assert sample.labels == ("x",)


def test_a_pattern_of_several_columns(root: str) -> None:
    text = "kind,no\ncat,7\ndog,12\n"
    arguments = {"image_pattern": "{kind}/{no:0>3}.{{x}}.jpg", "label_column": "kind"}
    assert read(root, text, **arguments) == [
        ("cat/007.{x}.jpg", "cat", None),
        ("dog/012.{x}.jpg", "dog", None),
    ]


# Formats.


@pytest.mark.parametrize(
    ("name", "content", "arguments"),
    [
        ("a.tsv", "f\tl\na,b.jpg\tcat\n", {}),
        ("A.CSV", 'f,l\n"a,b.jpg",cat\n', {}),
        ("a.csv", "f;l\na,b.jpg;cat\n", {"delimiter": ";"}),
        ("a.txt", "f\tl\na,b.jpg\tcat\n", {"format": "tsv"}),
        ("a.txt", "f|l\na,b.jpg|cat\n", {"format": "csv", "delimiter": "|"}),
        ("a.jsonl", '{"f": "a,b.jpg", "l": "cat", "x": 1}\n\n', {}),
        ("a.csv", '\ufeff\r\n"f", l \r\n"a,b.jpg",cat\r\n\r\n', {}),
        ("a.csv", 'f,l\n"a,b.jpg",cat\n'.encode("utf-16"), {"encoding": "utf-16"}),
        ("a.csv", '\ufefff,l\n"a,b.jpg",cat\n'.encode("utf-16-le"), {}),
        ("a.csv", '\ufefff,l\n"a,b.jpg",cat\n'.encode("utf-16-be"), {}),
        ("a.csv", 'f,l\n"a,b.jpg",cat\n'.encode("utf-32"), {}),
        ("a.csv", 'f,l\r"a,b.jpg",cat\r', {}),
        ("a.csv", 'f,l\r\r\n"a,b.jpg",cat\r\r\n', {}),
        ("a.jsonl", '\r{"f": "a,b.jpg", "l": "cat"}\r', {}),
        ("a.csv", 'f,l\n"a,b.jpg",cat\n\n  \n\t\n', {}),
        ("a.csv.gz", gzip.compress(b'f,l\n"a,b.jpg",cat\n', mtime=0), {}),
        ("a.tsv.bz2", bz2.compress(b"f\tl\na,b.jpg\tcat\n"), {}),
        ("a.JSONL.XZ", lzma.compress(b'{"f": "a,b.jpg", "l": "cat"}'), {}),
        ("a.gz", gzip.compress(b'f,l\n"a,b.jpg",cat\n', mtime=0), {"format": "csv"}),
    ],
)
def test_formats(root: str, name: str, content: Any, arguments: Any) -> None:
    assert read(root, content, name, label_column="l", **arguments) == [("a,b.jpg", "cat", None)]


def test_other_encodings(root: str) -> None:
    text = "f,l\nGröße.jpg,Übergröße\n"
    expected: Listed = [("Größe.jpg", "Übergröße", None)]
    assert read(root, text, label_column="l") == expected
    assert read(root, text.encode("latin-1"), label_column="l", encoding="latin-1") == expected


def test_json_lines_hold_lists_and_numbers(root: str) -> None:
    rows = [{"f": "a.jpg", "l": ["x", 2], "n": 3}, {"f": "b.jpg", "l": [], "n": 4}]
    text = "\n".join(map(json.dumps, rows))
    assert read(root, text, "a.jsonl", labels_column="l") == [
        ("a.jpg", None, ["x", "2"]),
        ("b.jpg", None, []),
    ]
    arguments = {"image_pattern": "{n:03d}.jpg", "label_column": "n"}
    assert read(root, text, "a.jsonl", **arguments) == [
        ("003.jpg", "3", None),
        ("004.jpg", "4", None),
    ]


def test_parquet(root: str) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    columns = {
        "f": ["a.jpg", "b.jpg", "c.jpg"],
        "l": ["x", None, "y"],
        "x": [1, 0, 1],
        "y": [True, False, False],
        "z": [[], ["p"], ["p", "q"]],
    }
    parquet.write_table(pyarrow.table(columns), f"{root}/a.parquet", row_group_size=2)
    path = f"{root}/a.parquet"

    def labels(**arguments: Any) -> List[Any]:
        reader = ImageTableReader(image_column="f", **arguments)
        return [sample.labels for sample in reader.read_samples(path)]

    assert labels(label_columns=["x", "y"]) == [("x", "y"), (), ("x",)]
    assert labels(labels_column="z") == [[], ["p"], ["p", "q"]]
    with pytest.raises(ConfigurationError, match="1 row without a label in column l: row 2 .None"):
        labels(label_column="l")
    content = Path(path).read_bytes()
    assert "a.parquet: not a Parquet file: " in error_of(root, "f,l\n", "a.parquet")
    assert "cut.parquet: not a Parquet file: " in error_of(root, content[:-30], "cut.parquet")
    damaged = content[:10] + b"?" * 30 + content[40:]
    assert error_of(root, damaged, "b.parquet").startswith("b.parquet: damaged after row 0: ")
    parquet.write_table(pyarrow.table(columns).slice(0, 0), path)
    empty = Path(path).read_bytes()
    assert error_of(root, empty, "a.parquet") == (
        "a.parquet has no rows; expected one for each image"
    )
    assert len(read(root, gzip.compress(content), "a.parquet.gz")) == 3
    with pytest.raises(ConfigurationError, match="'nothing.parquet' .* does not exist"):
        ImageTableReader(image_column="f").read_samples("nothing.parquet")


def test_parquet_with_the_bytes_of_images(root: str) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    bytes_ = b"\xff\xd8" + bytes(10_000)
    for images in ([bytes_], [{"bytes": bytes_, "path": "a.jpg"}]):
        parquet.write_table(pyarrow.table({"f": images}), f"{root}/a.parquet")
        with pytest.raises(ConfigurationError) as error:
            ImageTableReader(image_column="f").read_samples(f"{root}/a.parquet")
        assert len(str(error.value)) < 400
        assert str(error.value).endswith(
            'expected the path of an image (the reader "huggingface" takes their bytes) '
            "(dataset_reader.image_column)"
        )


def test_without_pyarrow(root: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    assert 'pip install "pyarrow>=17"' in error_of(root, "", "a.parquet")


# Where images are.


def test_image_root(root: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", root)
    text = "f\na.jpg\n/b.jpg\nmemory://c.jpg\n"
    write(root, text, "t.csv")
    found = ImageTableReader(image_column="f", image_root="~/images").read_samples("~/t.csv")
    assert [sample.image for sample in found] == [
        f"{root}/images/a.jpg",
        "/b.jpg",
        RemoteImage("memory://c.jpg"),
    ]


@pytest.fixture
def web(root: str, tmp_path_factory: pytest.TempPathFactory, monkeypatch: Any) -> Iterator[str]:
    """The URL of a server of the files in the root."""
    monkeypatch.setattr(cached_path.common, "CACHE_DIRECTORY", tmp_path_factory.mktemp("cache"))
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=root)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, args=[0.05], daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def test_a_table_behind_http(root: str, web: str) -> None:
    write(root, gzip.compress(b"f\nx/a.png\nb.png\n"), "t.csv.gz")
    (Path(root) / "x").mkdir()
    Image.fromarray(np.full((2, 3, 3), 7, np.uint8)).save(f"{root}/x/a.png", "PNG")
    first, second = ImageTableReader(image_column="f").read(f"{web}/t.csv.gz")
    assert first["metadata"].metadata == {"image": f"{web}/x/a.png"}
    assert first["image"].as_tensor({}).shape == (3, 2, 3)
    with pytest.raises(ImageError, match=f"^{web}/b.png: cannot be fetched "):
        second["image"].as_tensor({})
    with pytest.raises(ConfigurationError, match=r"no.csv' \(train_data_path.* does not exist"):
        ImageTableReader(image_column="f").read_samples(f"{web}/no.csv")


def test_a_table_by_a_file_url(root: str) -> None:
    write(root, "f\na.jpg\n")
    (sample,) = ImageTableReader(image_column="f").read_samples(f"file://{root}/table.csv")
    assert sample.image == RemoteImage(f"file://{root}/a.jpg")


def test_a_remote_table_and_its_images(root: str) -> None:
    with fsspec.open("memory://posters/t.csv", "w") as file:
        file.write("f\na.png\nb.png\n")
    with fsspec.open("memory://posters/a.png", "wb") as file:
        Image.fromarray(np.full((2, 3, 3), 7, np.uint8)).save(file, "PNG")
    first, second = ImageTableReader(image_column="f").read("memory://posters/t.csv")
    assert first["metadata"].metadata == {"image": "memory://posters/a.png"}
    assert first["image"].as_tensor({}).tolist() == np.full((3, 2, 3), 7).tolist()
    with pytest.raises(ImageError, match="^memory://posters/b.png: "):
        second["image"].as_tensor({})
    with pytest.raises(
        ConfigurationError, match="images that do not exist .1 of 2.: 'memory://post"
    ):
        ImageTableReader(image_column="f", check_files=True).read_samples("memory://posters/t.csv")
    for path in ("memory://nothing.csv", "nosuch://a.csv"):
        with pytest.raises(ConfigurationError, match=f"'{path}' .*; expected a file"):
            ImageTableReader(image_column="f").read_samples(path)


def test_check_files(root: str) -> None:
    text = "f\n" + "".join(f"{number}.jpg\n" for number in range(15))
    assert len(read(root, text)) == 15
    (Path(root) / "3.jpg").touch()
    assert error_of(root, text, check_files=True) == (
        "table.csv: images that do not exist (14 of 15): "
        + ", ".join(f"'{n}.jpg' in line {n + 2}" for n in (0, 1, 2, 4, 5, 6, 7, 8, 9, 10))
        + f" and 4 more; expected them relative to '{root}' (dataset_reader.image_root)"
    )


def test_split(root: str) -> None:
    text = "f,l\n" + "".join(f"{number}.jpg,{'ab'[number % 2]}\n" for number in range(20))
    parts = [
        read(root, text, label_column="l", split=ImageSplit(part, 0.2, "stratified"))
        for part in ("train", "validation")
    ]
    assert [len(part) for part in parts] == [16, 4]
    assert sorted(parts[0] + parts[1]) == sorted(read(root, text, label_column="l"))
    assert sorted(label for _, label, _ in parts[1]) == ["a", "a", "b", "b"]


def test_a_split_goes_by_the_path_relative_to_the_root(root: str) -> None:
    def held_out(prefix: str, image_root: Optional[str] = None) -> List[str]:
        text = "f\n" + "".join(f"{prefix}{number}.jpg\n" for number in range(30))
        found = read(root, text, image_root=image_root, split=ImageSplit("validation"))
        return [Path(image).name for image, _, _ in found]

    assert held_out("") == held_out("./") == held_out(f"{root}/") == held_out("", "memory://x")
    assert held_out("") != held_out("images/")


# What is wrong with a table.


def test_images_that_are_listed_again(root: str, caplog: pytest.LogCaptureFixture) -> None:
    text = 'f,t\na.jpg,x|y\nb.jpg,"x\n"\na.jpg,y|x\n./b.jpg,x\n'
    found = read(root, text, labels_column="t", labels_delimiter="|")
    assert found == [("a.jpg", None, ["x", "y"]), ("b.jpg", None, ["x"])]
    assert caplog.messages[-2] == (
        f"{root}/table.csv: repeated images are used once (2): 'a.jpg' in lines 2 "
        "and 5, 'b.jpg' in lines 3 and 6"
    )


def test_an_absolute_and_a_relative_path_of_one_image(
    root: str, caplog: pytest.LogCaptureFixture
) -> None:
    text = f"f,l\na.jpg,x\n{root}/a.jpg,x\n"
    assert read(root, text, label_column="l") == [("a.jpg", "x", None)]
    assert "are used once (1): 'a.jpg' in lines 2 and 3" in caplog.text
    text = f"f,l\n{root}/y/../a.jpg,x\na.jpg,y\n"
    assert "(1): 'a.jpg' in lines 2 and 3 (x and y)" in error_of(root, text, label_column="l")


def test_paths_of_windows(root: str) -> None:
    for path in ("cat\\1.jpg", "C:\\pets\\1.jpg"):
        assert error_of(root, f"f\n1.jpg\n{path}\n") == (
            f"table.csv, line 3: '{path}' does not exist; expected a path with '/' and no "
            "backslash between folders, and no space around it"
        )


def test_space_around_a_path(root: str) -> None:
    assert error_of(root, "l,f\nx, 1.jpg\n").startswith("table.csv, line 2: ' 1.jpg' does not")
    (Path(root) / " 1.jpg").touch()
    assert read(root, "l,f\nx, 1.jpg\n") == [(" 1.jpg", None, None)]


def test_one_class_and_labels_of_several_words(root: str) -> None:
    text = 'f,l\na.jpg, big  cat \nb.jpg,"big  cat"\n'
    assert {label for _, label, _ in read(root, text, label_column="l")} == {"big  cat"}


def test_images_with_different_labels(root: str) -> None:
    text = "f,l\na.jpg,x\nb.jpg,x\na.jpg,y\nb.jpg,z\n"
    assert error_of(root, text, label_column="l") == (
        "table.csv: the same image with different labels (2): 'a.jpg' in lines 2 and 4 (x and y), "
        "'b.jpg' in lines 3 and 5 (x and z); expected each image once"
    )
    text = "f,x,y\na.jpg,1,0\na.jpg,0,0\n"
    assert "(['x'] and ())" in error_of(root, text, label_columns="*").replace("[]", "()")


ONE = {"label_column": "l"}
STAR = {"label_columns": "*"}
TAGS = {"labels_column": "l", "labels_delimiter": "|"}


@pytest.mark.parametrize(
    ("content", "arguments", "message"),
    [
        ("", {}, "table.csv is empty; expected a header and a row for each image"),
        ("\n\n", {}, "table.csv is empty; expected a header and a row for each image"),
        ("f,l\n", ONE, "table.csv has no rows; expected one for each image"),
        (
            "name,path,lable\na,b,c\n",
            {"image_column": "path", "label_column": "label"},
            "table.csv: dataset_reader.label_column is 'label'; expected one of lable, name, path",
        ),
        (
            "id\na\n",
            {"image_pattern": "{Id}.jpg"},
            "table.csv: dataset_reader.image_pattern is 'Id'; expected one of id",
        ),
        (
            "f,x\na,1\n",
            {**STAR, "ignore_columns": ["g"]},
            "table.csv: dataset_reader.ignore_columns is 'g'; expected one of f, x",
        ),
        (
            "f;l\na.jpg;cat\n",
            ONE,
            "table.csv: the header is 'f;l', with dataset_reader.delimiter ',' between the "
            "columns; expected delimiter ';'",
        ),
        (
            "f,l\na.jpg,cat\n",
            {**ONE, "delimiter": "\t"},
            "table.csv: the header is 'f,l', with dataset_reader.delimiter '\\t' between the "
            "columns; expected delimiter ','",
        ),
        (
            "f,l,f\na,b,c\n",
            ONE,
            "table.csv, line 1: the header has f more than once; expected a different name for "
            "each column",
        ),
        (
            'f,l\n"a\nb.jpg","c\n\nd"\n\ne.jpg\n',
            ONE,
            "table.csv, line 7: 1 cells; expected 2, as in the header (dataset_reader.delimiter is "
            "',')",
        ),
        (
            "f,l\na.jpg,cat\nb, c.jpg,dog\n",
            ONE,
            "table.csv, line 3: 3 cells; expected 2, as in the header (dataset_reader.delimiter is "
            "',')",
        ),
        (
            "f,l\na.jpg,cat\n,,\n",
            ONE,
            "table.csv, line 3: 3 cells; expected 2, as in the header (dataset_reader.delimiter is "
            "',')",
        ),
        (
            "a.jpg,cat\nb.jpg,dog\n",
            ONE,
            "table.csv: dataset_reader.image_column is 'f'; expected one of a.jpg, cat",
        ),
        (
            f"f,y\na,{'x' * 500}\n",
            STAR,
            f"table.csv, line 2: y is '{'x' * 37}...{'x' * 38}'; expected 0 or 1; ignore_columns "
            "leaves out columns that are not labels (dataset_reader.label_columns)",
        ),
        (
            "f,l\na,b\rc\r\nd,e\r\n",
            ONE,
            "table.csv, line 3: 1 cells; expected 2, as in the header (dataset_reader.delimiter is "
            "','); a carriage return (\\r) alone also ends a line",
        ),
        (
            "f,l\na,b\n".encode("utf-16-le"),
            ONE,
            "table.csv contains zero bytes, unlike text in utf-8; expected the encoding of the "
            "file in dataset_reader.encoding, such as utf-16-le",
        ),
        (
            "f,l\na,['b']\n",
            ONE,
            "table.csv, line 2: l is \"['b']\"; expected one label "
            "(labels_column reads lists) (dataset_reader.label_column)",
        ),
        ('f,l\na,"b\nc,d\n', ONE, "table.csv, line 2: unexpected end of data"),
        ('f,l\na,b\n"c"x,d\n', ONE, "table.csv, line 3: ',' expected after '\"'"),
        (
            "f,l\na,b\nc, \n",
            ONE,
            "table.csv: 1 line without a label in column l: line 3 (' '); expected a label in "
            'each, or dataset_reader.missing_labels "skip" to leave them out, or "keep" to use a '
            "word such as NaN as a label",
        ),
        (
            "f,l\n,b\n",
            ONE,
            "table.csv, line 2: f is ''; expected the path of an image "
            "(dataset_reader.image_column)",
        ),
        (
            "f,g\n,b\n",
            {"image_pattern": "{g}{f}"},
            "table.csv, line 2: f is ''; expected a part of the path of an image "
            "(dataset_reader.image_pattern)",
        ),
        (
            "f\nb\n",
            {"image_pattern": "{f:03d}"},
            "table.csv, line 2: f is 'b'; expected a value that '03d' can format (Unknown format "
            "code 'd' for object of type 'str') (dataset_reader.image_pattern)",
        ),
        (
            "f,x,y\na,1,0\nb,1,2\n",
            {"label_columns": ["x", "y"]},
            "table.csv, line 3: y is '2'; expected 0 or 1 (dataset_reader.label_columns)",
        ),
        (
            "f,name,y\na,Anna,0\n",
            STAR,
            "table.csv, line 2: name is 'Anna'; expected 0 or 1; ignore_columns leaves out columns "
            "that are not labels (dataset_reader.label_columns)",
        ),
        (
            ",f,y\n0,a,0\n",
            STAR,
            'table.csv: column 1 has no name; expected the name of a label, or "" in '
            "dataset_reader.ignore_columns",
        ),
        (
            "f\na\n",
            STAR,
            'table.csv: dataset_reader.label_columns "*" finds no column besides f; expected one '
            "for each label",
        ),
        (
            "f,l\na,x|\n",
            TAGS,
            "table.csv, line 2: l is 'x|'; expected different labels with '|' between them "
            "(dataset_reader.labels_column)",
        ),
        (
            "f,l\na,x|y| x\n",
            TAGS,
            "table.csv, line 2: l is 'x|y| x'; expected different labels with '|' between them "
            "(dataset_reader.labels_column)",
        ),
        (
            "f,l\na,x\n",
            {"labels_column": "l"},
            "table.csv, line 2: l is 'x'; expected a list, or text and "
            "dataset_reader.labels_delimiter (dataset_reader.labels_column)",
        ),
        (
            b"f,l\na,b\nc,d\n" + "ä".encode("latin-1") + b",e\n",
            ONE,
            "table.csv, line 4: b'\\xe4' is not utf-8 (invalid continuation byte); "
            "set dataset_reader.encoding to the encoding of the file",
        ),
        (
            b"\xef\xbb\xbff,l\n\xc3\xa4,b\n\xff,e\n",
            ONE,
            "table.csv, line 3: b'\\xff' is not utf-8 (invalid start byte); "
            "set dataset_reader.encoding to the encoding of the file",
        ),
        (
            "f\na\n",
            {"encoding": "utf-9"},
            "dataset_reader.encoding is 'utf-9'; expected one that Python knows, such as utf-8, "
            "latin-1 or utf-16",
        ),
    ],
)
def test_bad_tables(root: str, content: Any, arguments: Any, message: str) -> None:
    assert error_of(root, content, **arguments) == message


@pytest.mark.parametrize(
    ("content", "arguments", "message"),
    [
        ("\n", {}, "a.jsonl is empty; expected a JSON object for each image"),
        (
            '{"f": "a"}\n{"f": }\n',
            {},
            "a.jsonl, line 2: not JSON: Expecting value: line 1 column 7",
        ),
        ('{"f": "a"}\n["b"]\n', {}, "a.jsonl, line 2: ['b']; expected a JSON object"),
        ('{"f": "a", "l": "x"}\n{"f": "b"}\n', ONE, "a.jsonl: 1 line without a label in column l"),
        ('{"f": "a", "l": ["x"]}', ONE, "a.jsonl, line 1: l is ['x']; expected a label"),
        ('{"f": "a", "x": 1}\n{"f": "b"}\n', STAR, "a.jsonl, line 2: x is None; expected 0 or 1"),
        ('{"f": "a", "x": [1]}\n', STAR, "a.jsonl, line 1: x is [1]; expected 0 or 1"),
        ('[{"f": "a"}]', {}, "a.jsonl, line 1: [{'f': 'a'}]; expected a JSON object"),
        (
            '{"f": "a", "l": 1, "l": 2}',
            {},
            "a.jsonl, line 1: not JSON: a key is repeated: f, l, l",
        ),
        ('{"f": "a"}\n{"f": "b', {}, "a.jsonl, line 2: not JSON: Unterminated string"),
        ('{"f": 3}\n', {}, "a.jsonl, line 1: f is 3; expected the path of an image"),
        ('{"f": "a"}\n', {"delimiter": ";"}, "dataset_reader.delimiter is ';' for a.jsonl, which"),
    ],
)
def test_bad_json_lines(root: str, content: str, arguments: Any, message: str) -> None:
    assert error_of(root, content, "a.jsonl", **arguments).startswith(message)


def test_bad_files(root: str) -> None:
    assert error_of(root, "f\n", "table.xls") == (
        "table.xls has the suffix '.xls'; expected .csv, .tsv, .parquet, .pq, .jsonl, .ndjson, or "
        "dataset_reader.format with one of csv, jsonl, parquet, tsv"
    )
    reader = ImageTableReader(image_column="f", format="csv")
    keys = "(train_data_path, validation_data_path or test_data_path)"
    for path, reason in (("nothing.csv", "does not exist"), (root, "is a folder")):
        with pytest.raises(ConfigurationError) as error:
            reader.read_samples(path)
        assert f"'{path}' {keys} {reason}; expected a file" in str(error.value)
    cut = gzip.compress(b"f\na.jpg\n" * 100)[:-5]
    assert "t.csv.gz' (train_data_path" in error_of(root, cut, "t.csv.gz")
    assert "cannot be read (Compressed file ended" in error_of(root, cut, "t.csv.gz")
    assert "cannot be read (Not a gzipped file" in error_of(root, "f\n", "t.csv.gz")
    with pytest.raises(
        ConfigurationError, match="the path is {'a': 1}; expected the text of a path"
    ):
        reader.read_samples({"a": 1})


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({}, "image_column is None and image_pattern is None; expected exactly one"),
        ({"image_column": "a", "image_pattern": "b"}, "expected exactly one of them"),
        ({"image_pattern": "a.jpg"}, "'a.jpg'; expected names of columns in braces"),
        ({"image_pattern": "{}.jpg"}, "'{}.jpg'; expected names of columns in braces"),
        ({"image_pattern": "{Id.jpg"}, "'{Id.jpg'; expected a pattern: expected '}'"),
        ({"image_pattern": "{Id!r}"}, "'{Id!r}'; expected names of columns in braces"),
        (
            {"image_column": "a", "label_column": "b", "labels_column": "c"},
            "dataset_reader has label_column and labels_column; expected at most one of them",
        ),
        ({"image_column": "a", "label_columns": "b"}, "label_columns is 'b'; expected a list or"),
        ({"image_column": "a", "label_columns": []}, r"label_columns is \[\]; expected a list or"),
        ({"image_column": "a", "labels_delimiter": "|"}, "which only works with labels_column"),
        (
            {"image_column": "a", "missing_labels": "skip"},
            "only works with label_column and labels_column",
        ),
        ({"image_column": "a", "label_column": "b", "missing_labels": "x"}, "is 'x'; expected one"),
        ({"image_column": "a", "ignore_columns": ["b"]}, "which only works with label_columns"),
        ({"image_column": "a", "labels_column": "b", "labels_delimiter": ""}, "delimiter is ''"),
        ({"image_column": "a", "format": "xls"}, "format is 'xls'; expected one of csv, jsonl"),
        ({"image_column": "a", "delimiter": ", "}, "delimiter is ', '; expected one character"),
        ({"image_column": "a", "split": {"part": "test"}}, "split.part is 'test'; expected one of"),
        ({"image_colum": "a"}, "'image_colum'; expected one of image_column"),
    ],
)
def test_wrong_arguments(params: Any, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        DatasetReader.from_params(Params({"type": "image_table", **params}))


def test_a_column_with_a_dot_in_its_name(root: str) -> None:
    assert read(root, "a.b[0]\nx\n", image_pattern="{a.b[0]}.jpg") == [("x.jpg", None, None)]


MISSING = "f,l\na,cat\nb,\nc,NaN\nd,n/a\ne,nan cat\n"


def test_missing_labels_end_reading(root: str) -> None:
    assert error_of(root, MISSING, label_column="l").startswith(
        "table.csv: 3 lines without a label in column l: line 3 (''), line 4 ('NaN'), "
        "line 5 ('n/a'); expected a label in each"
    )
    several = error_of(root, MISSING, labels_column="l", labels_delimiter=" ")
    assert "2 lines without a label in column l: line 4 ('NaN'), line 5" in several
    assert "1 line without a label in column l: line 3 ('')" in error_of(
        root, MISSING, label_column="l", missing_labels="keep"
    )


def test_missing_labels_are_left_out(root: str, caplog: pytest.LogCaptureFixture) -> None:
    one = read(root, MISSING, label_column="l", missing_labels="skip")
    assert one == [("a", "cat", None), ("e", "nan cat", None)]
    assert "3 lines without a label in column l are left out: line 3 ('')" in caplog.text
    arguments = {"labels_column": "l", "labels_delimiter": " ", "missing_labels": "skip"}
    several = read(root, MISSING, **arguments)
    assert several == [("a", None, ["cat"]), ("b", None, []), ("e", None, ["nan", "cat"])]


def test_words_for_missing_labels_are_kept_as_labels(root: str) -> None:
    found = read(root, "f,l\na,NA\nb,US\n", label_column="l", missing_labels="keep")
    assert found == [("a", "NA", None), ("b", "US", None)]
