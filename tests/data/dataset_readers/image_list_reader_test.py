import gzip
import logging
from pathlib import Path
from typing import Any, List, Tuple

import fsspec
import pytest
from allennlp.common import Params
from allennlp.common.checks import ConfigurationError
from allennlp.data import DatasetReader

from allencv.data.dataset_readers import ImageListReader, ImageSplit
from allencv.data.remote import RemoteImage


@pytest.fixture
def root(tmp_path: Path) -> str:
    return str(tmp_path)


def write_list(root: str, text: Any) -> Path:
    path = Path(root) / "list.txt"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def read(root: str, text: Any, **arguments: Any) -> List[Tuple[str, Any]]:
    """The paths relative to the root, and the label or the labels of each."""
    path = write_list(root, text)
    return [
        (str(image).removeprefix(f"{root}/"), label if labels is None else labels)
        for image, label, labels, _ in ImageListReader(**arguments).read_samples(path)
    ]


def class_map(root: str, text: str) -> str:
    (Path(root) / "classes.txt").write_text(text, encoding="utf-8")
    return f"{root}/classes.txt"


def test_a_list_of_paddleclas(root: str) -> None:
    names = class_map(root, "0 tench, Tinca tinca\n1 goldfish\n")
    (Path(root) / "train_list.txt").write_text("b.jpg 1\na b.jpg 0\r\n\nc.jpg 1 ")
    reader = DatasetReader.from_params(Params({"type": "image_list", "class_map": names}))
    instances = list(reader.read(f"{root}/train_list.txt"))
    assert [instance["metadata"].metadata["image"] for instance in instances] == [
        f"{root}/b.jpg",
        f"{root}/a b.jpg",
        f"{root}/c.jpg",
    ]
    assert [instance["label"].label for instance in instances] == [
        "goldfish",
        "tench, Tinca tinca",
        "goldfish",
    ]


def test_labels_as_they_stand(root: str) -> None:
    assert read(root, "\ufeffa.jpg cat\n猫/Größe 1.jpg 狗\n") == [
        ("a.jpg", "cat"),
        ("猫/Größe 1.jpg", "狗"),
    ]
    assert read(root, "a.jpg\tbig cat\n", delimiter="\t") == [("a.jpg", "big cat")]
    assert read(root, "ä.jpg ö".encode("latin-1"), encoding="latin-1") == [("ä.jpg", "ö")]


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r", "\n\n  \n"])
def test_line_ends(root: str, end: str) -> None:
    text = f"a.JPG x{end}b c.jpg y{end}{end}"
    assert read(root, text) == [("a.JPG", "x"), ("b c.jpg", "y")]


def test_encodings(root: str) -> None:
    text = "Gr\u00f6\u00dfe.jpg a\nGro\u0308\u00dfe.jpg b\n"
    expected = [("Gr\u00f6\u00dfe.jpg", "a"), ("Gro\u0308\u00dfe.jpg", "b")]
    assert read(root, text.encode("utf-8-sig")) == expected
    assert read(root, text.encode("utf-16"), encoding="utf-16") == expected


@pytest.mark.parametrize("suffix", [".gz", ".bz2", ".xz"])
def test_compressed_lists(root: str, suffix: str) -> None:
    with fsspec.open(f"{root}/list.txt{suffix}", "wb", compression="infer") as file:
        file.write(b"0 cat\n")
    reader = ImageListReader(class_map=f"{root}/list.txt{suffix}")
    ((image, label, _, _),) = reader.read_samples(write_list(root, "a.jpg 0\n"))
    assert (image, label) == (f"{root}/a.jpg", "cat")
    ((image, label, _, _),) = ImageListReader().read_samples(f"{root}/list.txt{suffix}")
    assert (image, label) == (f"{root}/0", "cat")


def test_absolute_paths(root: str, caplog: pytest.LogCaptureFixture) -> None:
    text = f"{root}/a.jpg x\n/b.jpg y\na.jpg x\n"
    assert read(root, text) == [("a.jpg", "x"), ("/b.jpg", "y")]
    assert "are used once (1): 'a.jpg' in lines 1 and 3" in caplog.text


def test_names_with_backslashes(root: str) -> None:
    (Path(root) / "a\\b.jpg").touch()
    assert read(root, "a\\b.jpg x\nc\\d.jpg x\n") == [("a\\b.jpg", "x"), ("c\\d.jpg", "x")]


def test_several_labels(root: str) -> None:
    text = "a b.jpg\t0,1,1\nc.jpg\t0,0,0\n"
    assert read(root, text, multi_label=True) == [("a b.jpg", ("1", "2")), ("c.jpg", ())]
    names = class_map(root, "1 y y\n0 x\n2\tz\n")
    assert read(root, text, multi_label=True, class_map=names) == [
        ("a b.jpg", ("y y", "z")),
        ("c.jpg", ()),
    ]
    assert read(root, "a b.jpg 1,0\n", multi_label=True, delimiter=" ") == [("a b.jpg", ("0",))]


def test_no_labels(root: str) -> None:
    (Path(root) / " b c.jpg").touch()
    assert read(root, "a.jpg\r\n b c.jpg\n\n", labelled=False) == [
        ("a.jpg", None),
        (" b c.jpg", None),
    ]


def test_image_root_and_remote_lists(root: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", root)
    assert read(root, "a.jpg x", image_root="~/images") == [("images/a.jpg", "x")]
    with fsspec.open("memory://lists/list.txt", "w") as file:
        file.write("a.jpg 0\n")
    with fsspec.open("memory://lists/classes.txt", "w") as file:
        file.write("0 cat\n")
    reader = ImageListReader(class_map="memory://lists/classes.txt")
    ((image, label, _, _),) = reader.read_samples("memory://lists/list.txt")
    assert (image, label) == (RemoteImage("memory://lists/a.jpg"), "cat")


def test_repeated_lines(root: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    assert read(root, "a.jpg 1\nb.jpg 1\na.jpg 1\n") == [("a.jpg", "1"), ("b.jpg", "1")]
    assert caplog.messages == [
        f"{root}/list.txt: repeated images are used once (1): 'a.jpg' in lines 1 and 3"
    ]


def test_split(root: str) -> None:
    text = "".join(f"{number}.jpg {number % 3}\n" for number in range(30))
    train, validation = (
        read(root, text, split=ImageSplit(part, 0.3, "stratified"))
        for part in ("train", "validation")
    )
    assert sorted(label for _, label in validation) == ["0"] * 3 + ["1"] * 3 + ["2"] * 3
    assert sorted(train + validation) == sorted(read(root, text))


@pytest.mark.parametrize(
    ("text", "arguments", "message"),
    [
        ("\n \n", {}, "list.txt is empty; expected a line for each image"),
        (
            "a.jpg 0\nb.jpg\nc.jpg \n 0\n",
            {},
            "list.txt: lines without a label (3 of 4): 2 ('b.jpg'), 3 ('c.jpg '), 4 (' 0'); "
            "expected a path, ' ' (dataset_reader.delimiter) and a label, or labelled false",
        ),
        (
            "a.jpg\t0\n",
            {},
            "list.txt: lines without a label (1 of 1): 1 ('a.jpg\\t0'); expected a path, ' ' "
            "(dataset_reader.delimiter) and a label, or labelled false",
        ),
        (
            "a.jpg 0\n\nb.jpg 1\na.jpg 1\n",
            {},
            "list.txt: the same image with different labels (1): 'a.jpg' in lines 1 and 4 (0 and "
            "1); expected each image once",
        ),
        (
            "a.jpg 0\nmy photo.jpg\t1\n",
            {},
            "list.txt, line 2: the label is 'photo.jpg\\t1', after ' ' (dataset_reader.delimiter); "
            "expected no file name in it, for 'my'",
        ),
        (
            "my photo.JPG,1\n",
            {},
            "list.txt, line 1: the label is 'photo.JPG,1', after ' ' (dataset_reader.delimiter); "
            "expected no file name in it, for 'my'",
        ),
        (
            "a.jpg 0\ncat\\b.jpg 0\n",
            {},
            "list.txt, line 2: 'cat\\b.jpg' does not exist; expected a path with '/' and no "
            "backslash between folders, and no space around it",
        ),
        (
            "a.jpg 0\nb.jpg 7\n",
            {"class_map": "0 cat\n1 dog\n"},
            "list.txt, line 2: the label (dataset_reader.class_map) is '7'; expected one of 0, 1 "
            "for 'b.jpg'",
        ),
        (
            "a.jpg\t0,1\n\nb.jpg\t0,1,1\n",
            {"multi_label": True},
            "list.txt, line 3: 3 labels, '0,1,1'; expected 2 of 0 or 1, as many as the first line "
            "has, for 'b.jpg'",
        ),
        (
            "a.jpg\t0,1\n",
            {"multi_label": True, "class_map": "0 cat\n1 dog\n2 fox\n"},
            "list.txt, line 1: 2 labels, '0,1'; expected 3 of 0 or 1, as many as "
            "dataset_reader.class_map has, for 'a.jpg'",
        ),
        (
            "a.jpg\t0,x\n",
            {"multi_label": True, "class_map": "0 cat\n1 dog\n"},
            "list.txt, line 1: 'x' for the label 'dog'; expected 0 or 1 "
            "(dataset_reader.multi_label) for 'a.jpg'",
        ),
        (
            "a.jpg\t0,1\n",
            {"multi_label": True, "class_map": "1 cat\n2 dog\n"},
            "classes.txt: dataset_reader.class_map has the ids 2; expected 0 to 1 for multi_label, "
            "each once",
        ),
        (
            "a.jpg 0\n",
            {"class_map": "0 cat\n1\n"},
            "classes.txt, line 2: '1' has no name; expected a different id and name for each "
            "class (dataset_reader.class_map)",
        ),
        (
            "a.jpg 0\n",
            {"class_map": "0 cat\n\n0 dog\n"},
            "classes.txt, line 3: '0 dog' repeats an id or a name; expected a different id and "
            "name for each class (dataset_reader.class_map)",
        ),
        (
            "a.jpg 0\n",
            {"class_map": "0 cat\n1 cat\n"},
            "classes.txt, line 2: '1 cat' repeats an id or a name; expected a different id and "
            "name for each class (dataset_reader.class_map)",
        ),
        (
            "a.jpg 0\n",
            {"class_map": "\n"},
            "classes.txt is empty; expected a line 'id name' for each class",
        ),
        (
            b"a.jpg 0\n\xc3\xa4.jpg 0\n\xe4.jpg 0\n",
            {},
            "list.txt, line 3: b'\\xe4' is not utf-8 (invalid continuation byte); "
            "set dataset_reader.encoding to the encoding of the file",
        ),
        (
            "a.jpg 0\nb.jpg 0\n",
            {"check_files": True, "image_root": "nowhere"},
            "list.txt: images that do not exist (2 of 2): 'nowhere/a.jpg' in line 1, "
            "'nowhere/b.jpg' in line 2; expected them relative to 'nowhere' "
            "(dataset_reader.image_root)",
        ),
    ],
)
def test_bad_lists(root: str, text: Any, arguments: Any, message: str) -> None:
    if "class_map" in arguments:
        arguments = {**arguments, "class_map": class_map(root, arguments["class_map"])}
    with pytest.raises(ConfigurationError) as error:
        read(root, text, **arguments)
    assert str(error.value).replace(f"{root}/", "") == message


def test_bad_paths(root: str) -> None:
    with pytest.raises(ConfigurationError, match=r"'x.txt' \(train_data_path.* does not exist"):
        ImageListReader().read_samples("x.txt")
    with pytest.raises(ConfigurationError, match=r"'x.txt' \(dataset_reader.class_map\) does not "):
        read(root, "a.jpg 0", class_map="x.txt")
    with pytest.raises(ConfigurationError, match=r"the path is \['a'\]; expected the text of a pa"):
        ImageListReader().read_samples(["a"])
    (Path(root) / "cut.txt.gz").write_bytes(gzip.compress(b"a.jpg 0" * 99)[:-5])
    with pytest.raises(
        ConfigurationError, match=r"cut.txt.gz' .* cannot be read \(Compressed file"
    ):
        ImageListReader().read_samples(f"{root}/cut.txt.gz")


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"delimiter": ""}, "delimiter is ''; expected a space or a tab"),
        ({"labelled": False, "class_map": "x"}, "class_map is 'x' and labelled is false"),
        ({"labelled": False, "multi_label": True}, "multi_label is True and labelled is false"),
        ({"multilabel": True}, "'multilabel'; expected one of multi_label"),
    ],
)
def test_wrong_arguments(params: Any, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        DatasetReader.from_params(Params({"type": "image_list", **params}))


@pytest.mark.parametrize(
    ("text", "arguments", "message"),
    [
        (
            "image label\na.jpg 0\nb.jpg 1\n",
            {},
            "lines without the path of an image (1 of 3): 1 ('image label'); expected a path and a "
            "label in each line: remove a header and comments",
        ),
        (
            "a.jpg 0\n# the dogs\nb.jpg 1\n",
            {},
            "lines without the path of an image (1 of 3): 2 ('# the dogs'); expected a path and a "
            "label in each line: remove a header and comments",
        ),
        (
            "path\na.jpg\n",
            {"labelled": False},
            "lines without the path of an image (1 of 2): 1 ('path'); expected a path in each "
            "line: remove a header and comments",
        ),
    ],
)
def test_headers_and_comments(root: str, text: str, arguments: Any, message: str) -> None:
    with pytest.raises(ConfigurationError) as error:
        read(root, text, **arguments)
    assert error.value.message == f"{root}/list.txt: {message}"


@pytest.mark.parametrize(
    ("line", "delimiter", "label"),
    [("c.JPG polar bear", " ", "polar bear"), ("c.jpg,New York, NY", ",", "New York, NY")],
)
def test_a_label_with_the_delimiter_in_it(root: str, line: str, delimiter: str, label: str) -> None:
    text = f"a.jpg{delimiter}fox\n{line}\n"
    with pytest.raises(ConfigurationError) as error:
        read(root, text, delimiter=delimiter)
    assert error.value.message == (
        f"{root}/list.txt, line 2: the label {label!r} has {delimiter!r} in it "
        "(dataset_reader.delimiter); expected another character between path and label, such as a "
        "tab"
    )
    image = line.partition(delimiter)[0]
    assert len(read(root, f"a.jpg\tfox\n{image}\t{label}\n", delimiter="\t")) == 2


def test_names_without_a_suffix_are_images(root: str) -> None:
    """All of them, or one whose file is there."""
    assert [label for _, label in read(root, "a 0\nb 1\n")] == ["0", "1"]
    (Path(root) / "scan").touch()
    assert [label for _, label in read(root, "a.jpg 0\nscan 1\n")] == ["0", "1"]
