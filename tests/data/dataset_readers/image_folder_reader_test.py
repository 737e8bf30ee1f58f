import io
import os
import shutil
from pathlib import Path
from typing import Any, List, Tuple

import fsspec
import numpy as np
import pytest
from allennlp.common import Params
from allennlp.common.checks import ConfigurationError
from allennlp.data import DatasetReader
from PIL import Image

from allencv.data.dataset_readers import ImageFolderReader, ImageSplit, image_folder_reader
from allencv.runtime import ImageError

FORMATS = ["JPEG", "PNG", "GIF", "BMP", "TIFF", "WEBP", "PPM", "TGA", "ICO"]


def encoded(format: str = "JPEG") -> bytes:
    file = io.BytesIO()
    Image.fromarray(np.full((16, 16, 3), 90, np.uint8)).save(file, format)
    return file.getvalue()


def make(root: Path, *names: str, content: bytes = encoded()) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)
    return root


def read(root: Path, **arguments: object) -> List[Tuple[str, str]]:
    """The file of each instance, as it stands under the root, and its label."""
    reader = ImageFolderReader(**arguments)
    return [
        (os.path.relpath(instance["image"].source, root), instance["label"].label)
        for instance in reader.read(root)
    ]


@pytest.mark.parametrize("name", ["image_folder", "image_classification_directory"])
def test_a_folder_for_each_class(name: str, tmp_path: Path) -> None:
    make(tmp_path, "cat/1.jpg", "dog/2.jpg", "dog/1.jpg")
    reader = DatasetReader.from_params(Params({"type": name}))
    instances = list(reader.read(str(tmp_path)))
    assert [instance["label"].label for instance in instances] == ["cat", "dog", "dog"]
    assert instances[0]["metadata"].metadata == {"image": str(tmp_path / "cat" / "1.jpg")}
    assert instances[0]["image"].as_tensor({}).shape == (3, 16, 16)


def test_the_order_is_sorted_whatever_the_order_of_creation(tmp_path: Path) -> None:
    names = ["b/10.jpg", "a/2.jpg", "B/1.jpg", "a/10.jpg", "b/9.jpg", "a/1.jpg"]
    expected = [(name, name[0]) for name in sorted(names)]
    for number, ordered in enumerate((names, names[::-1])):
        make(tmp_path / str(number), *ordered)
        assert read(tmp_path / str(number)) == expected


def test_recursive_reads_the_folders_below(tmp_path: Path) -> None:
    make(tmp_path, "cat/2.jpg", "cat/a/1.jpg", "cat/a/b/1.jpg", "dog/c/1.jpg")
    assert read(tmp_path, recursive=True) == [
        ("cat/2.jpg", "cat"),
        ("cat/a/1.jpg", "cat"),
        ("cat/a/b/1.jpg", "cat"),
        ("dog/c/1.jpg", "dog"),
    ]


def test_folders_that_are_not_read_are_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    make(tmp_path, "cat/2.jpg", "cat/a/1.jpg", "dog/1.jpg")
    assert read(tmp_path) == [("cat/2.jpg", "cat"), ("dog/1.jpg", "dog")]
    assert caplog.messages == [
        f'{tmp_path}: without "recursive": true folders inside of class folders are not used (1): '
        "cat/a"
    ]


# Which files are images.


@pytest.mark.parametrize("format", FORMATS)
def test_the_content_counts_and_not_the_suffix(format: str, tmp_path: Path) -> None:
    make(tmp_path, "cat/a.dat", "cat/b", "cat/c.JPG", content=encoded(format))
    assert [path for path, _ in read(tmp_path)] == ["cat/a.dat", "cat/b", "cat/c.JPG"]
    for instance in ImageFolderReader().read(tmp_path):
        assert instance["image"].as_tensor({}).shape[0] == 3


def test_a_text_named_jpg_fails_when_it_is_decoded(tmp_path: Path) -> None:
    make(tmp_path, "cat/a.jpg", content=b"this is a text")
    (instance,) = ImageFolderReader().read(tmp_path)
    with pytest.raises(ImageError, match=f"{tmp_path}/cat/a.jpg: not an image"):
        instance["image"].as_tensor({})


def test_what_is_not_used_is_named_in_warnings(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    make(tmp_path, "cat/1.jpg", "dog/1.jpg")
    make(tmp_path, "README.md", "labels.csv", "cat/notes.txt", "dog/Thumbs.db", content=b"text")
    (tmp_path / "fox").mkdir()
    assert read(tmp_path) == [("cat/1.jpg", "cat"), ("dog/1.jpg", "dog")]
    assert [message.removeprefix(f"{tmp_path}: ") for message in caplog.messages] == [
        "files beside the class folders are not used (2): README.md, labels.csv",
        "files that are not images are not used (2): cat/notes.txt, dog/Thumbs.db",
        "class folders without an image are not used (1): fox",
    ]


def test_a_long_warning_is_cut(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    make(tmp_path, "cat/1.jpg")
    make(tmp_path, *(f"{number:02d}.txt" for number in range(30)))
    read(tmp_path)
    assert caplog.messages[0].endswith("08.txt, 09.txt and 20 more")


def test_folders_of_other_programs(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    make(tmp_path, "cat/1.jpg", "cat/@eaDir/1.jpg/SYNOPHOTO_THUMB_M.jpg", "dog/1.jpg")
    make(tmp_path, "__MACOSX/cat/._1.jpg", "@eaDir/x.jpg", "dog/.ipynb_checkpoints/1.jpg")
    for recursive in (False, True):
        caplog.clear()
        found = read(tmp_path, recursive=recursive)
        assert found == [("cat/1.jpg", "cat"), ("dog/1.jpg", "dog")]
        assert caplog.messages[0] == (
            f"{tmp_path}: folders of other programs are not used (4): @eaDir, __MACOSX, "
            "cat/@eaDir, dog/.ipynb_checkpoints"
        )


def test_labels_in_the_names_of_files(tmp_path: Path) -> None:
    make(tmp_path, "great_pyrenees_12.jpg", "Bengal_1.jpg", "more/Bengal_2.jpg")
    assert read(tmp_path, label_pattern=r"([^/]+)_[0-9]+\.jpg$") == [
        ("Bengal_1.jpg", "Bengal"),
        ("great_pyrenees_12.jpg", "great_pyrenees"),
        ("more/Bengal_2.jpg", "Bengal"),
    ]
    assert read(tmp_path, label_pattern="^(.)", include=["more/*"]) == [("more/Bengal_2.jpg", "m")]
    with pytest.raises(ConfigurationError) as error:
        read(tmp_path, label_pattern="([A-Z].*)_")
    assert str(error.value).strip("'\"") == (
        f"{tmp_path}: dataset_reader.label_pattern '([A-Z].*)_' finds no label in 1 of 3 paths: "
        "great_pyrenees_12.jpg; expected one in each (exclude leaves images out)"
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"label_pattern": "("}, "label_pattern is '[(]'; expected a regular expression: "),
        ({"label_pattern": "a_.*"}, "is 'a_[.][*]', with 0 groups; expected one, in parentheses"),
        ({"label_pattern": "(a)(b)"}, "with 2 groups; expected one"),
        ({"label_pattern": "(a)", "labelled": False}, "and labelled is false; expected one of"),
    ],
)
def test_what_is_no_pattern_of_labels(arguments: Any, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        ImageFolderReader(**arguments)


def test_a_split_of_one_folder_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = [f"{label}/{number}.jpg" for label in ("cat", "dog") for number in range(5)]
    make(tmp_path / "train", *names)
    make(tmp_path / "test", *names)
    monkeypatch.chdir(tmp_path)
    split = ImageSplit("validation", 0.2, "stratified", of="train")
    reader = ImageFolderReader(split=split)
    for path in ("train", tmp_path / "train", "test/../train/"):
        assert len(list(reader.read_samples(path))) == 2
    assert len(list(reader.read_samples("test"))) == 10


def test_hidden_files_are_passed_over(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    make(tmp_path, "cat/1.jpg", "cat/.1.jpg", "cat/.git/1.jpg", ".cache/1.jpg", ".DS_Store")
    assert read(tmp_path, recursive=True) == [("cat/1.jpg", "cat")]
    assert caplog.messages == []


def test_names_in_any_language(tmp_path: Path) -> None:
    make(tmp_path, "der Hund/Größe 1.jpg", "猫/a b.jpg")
    assert read(tmp_path) == [("der Hund/Größe 1.jpg", "der Hund"), ("猫/a b.jpg", "猫")]
    for instance in ImageFolderReader().read(tmp_path):
        assert instance["image"].as_tensor({}).shape == (3, 16, 16)


def test_names_that_cannot_be_printed_are_logged(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    make(tmp_path, "cat/1.jpg")
    (tmp_path / "cat" / os.fsdecode(b"caf\xe9.txt")).write_bytes(b"text")
    assert read(tmp_path) == [("cat/1.jpg", "cat")]
    assert caplog.messages[0].encode().endswith(rb"not used (1): cat/caf\udce9.txt")


def test_numbers_and_look_alikes_are_classes_of_their_own(tmp_path: Path) -> None:
    """Labels are the names of the folders, letter for letter, in sorted order."""
    composed, decomposed = "Gr\u00f6\u00dfe", "Gro\u0308\u00dfe"
    folders = ["10", "9", "Cat", composed, decomposed, "cat"]
    make(tmp_path, *(f"{name}/1.JPG" for name in folders))
    assert [label for _, label in read(tmp_path)] == sorted(folders)


def test_what_macos_and_windows_leave_behind(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    make(tmp_path, "cat/1.jpg")
    make(tmp_path, ".DS_Store", "cat/._1.jpg", "__MACOSX/cat/._1.jpg", content=b"\0\5\x16\7")
    make(tmp_path, "cat/desktop.ini", "Thumbs.db", content=b"text")
    assert read(tmp_path, recursive=True) == [("cat/1.jpg", "cat")]
    assert [message.partition(": ")[2] for message in caplog.messages] == [
        "files beside the class folders are not used (1): Thumbs.db",
        "folders of other programs are not used (1): __MACOSX",
        "files that are not images are not used (1): cat/desktop.ini",
    ]


def test_a_link_to_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    make(tmp_path, "cat/1.jpg")
    (tmp_path / "cat" / "2.jpg").symlink_to("nowhere")
    (tmp_path / "cat" / "3").symlink_to("nowhere")
    _, instance = ImageFolderReader().read(tmp_path)
    assert caplog.messages == [f"{tmp_path}: files that are not images are not used (1): cat/3"]
    with pytest.raises(ImageError, match=r"cat/2.jpg: No such file"):
        instance["image"].as_tensor({})


def test_a_circle_of_links(tmp_path: Path) -> None:
    make(tmp_path, "cat/a/1.jpg")
    (tmp_path / "cat" / "a" / "again").symlink_to(tmp_path / "cat")
    with pytest.raises(
        ConfigurationError, match=r"cat/a/again' .* is a link to a folder that contains"
    ):
        read(tmp_path, recursive=True)
    (tmp_path / "cat" / "a" / "again").unlink()
    (tmp_path / "cat" / "self").symlink_to("self")
    with pytest.raises(ConfigurationError, match=r"cat' .* cannot be read: .*symbolic links"):
        read(tmp_path)


def test_links_are_followed(tmp_path: Path) -> None:
    make(tmp_path / "data", "cat/1.jpg")
    make(tmp_path / "elsewhere", "1.jpg")
    (tmp_path / "data" / "dog").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "data" / "cat" / "2.jpg").symlink_to(tmp_path / "elsewhere" / "1.jpg")
    assert read(tmp_path / "data") == [
        ("cat/1.jpg", "cat"),
        ("cat/2.jpg", "cat"),
        ("dog/1.jpg", "dog"),
    ]


def test_max_instances(tmp_path: Path) -> None:
    make(tmp_path, "cat/1.jpg", "cat/2.jpg", "dog/1.jpg", "dog/2.jpg")
    assert read(tmp_path, max_instances=3) == [
        ("cat/1.jpg", "cat"),
        ("cat/2.jpg", "cat"),
        ("dog/1.jpg", "dog"),
    ]


def test_the_home_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    make(tmp_path, "pets/cat/1.jpg")
    assert len(list(ImageFolderReader().read("~/pets"))) == 1


# What is wrong with a path.


def test_a_wrong_path_is_answered_with_what_is_there(tmp_path: Path) -> None:
    make(tmp_path, "train/cat/1.jpg", "val/cat/1.jpg")
    for wrong, hint in {
        "valid": f"; did you mean '{tmp_path / 'val'}'?",
        "validation": f"; did you mean '{tmp_path / 'val'}'?",
        "tarin": f"; did you mean '{tmp_path / 'train'}'?",
        "valid/cat": f"; did you mean '{tmp_path / 'val'}'?",
        "holdout": "",
    }.items():
        with pytest.raises(ConfigurationError) as error:
            read(tmp_path / wrong)
        assert str(error.value) == (
            f"'{tmp_path / wrong}' (train_data_path, validation_data_path or test_data_path) "
            f"does not exist: '{tmp_path}' holds the folders train, val{hint}"
        )


def test_a_relative_path_that_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(
        ConfigurationError, match=f"'data/train'.*'{tmp_path}' holds the folders no"
    ):
        read(Path("data/train"))


def test_a_file_is_no_folder(tmp_path: Path) -> None:
    make(tmp_path, "data.zip")
    with pytest.raises(ConfigurationError, match=r"data.zip'.* is a file; expected a folder"):
        read(tmp_path / "data.zip")
    with pytest.raises(ConfigurationError, match=r"^'' \(.* is empty; expected a folder"):
        read("")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("names", "holds"),
    [([], "nothing"), (["1.jpg", "2.jpg"], "1.jpg, 2.jpg"), (["train/cat/1.jpg"], "train")],
)
def test_a_folder_without_images_in_class_folders(
    names: List[str], holds: str, tmp_path: Path
) -> None:
    make(tmp_path, *names)
    with pytest.raises(ConfigurationError) as error:
        read(tmp_path)
    assert str(error.value) == (
        f"no images in '{tmp_path}' (train_data_path, validation_data_path or test_data_path): "
        f"expected a folder of images for each class, such as '{tmp_path}/cat/001.jpg'; it holds "
        f"{holds}"
    )


def test_a_file_that_vanishes_is_an_image_error(tmp_path: Path) -> None:
    make(tmp_path, "cat/1.jpg")
    (instance,) = ImageFolderReader().read(tmp_path)
    shutil.rmtree(tmp_path / "cat")
    with pytest.raises(ImageError, match=r"cat/1.jpg: No such file"):
        instance["image"].as_tensor({})


# Folders without labels, patterns, parts, and folders elsewhere.


def listed(root: Path, **arguments: object) -> List[str]:
    samples = ImageFolderReader(**arguments).read_samples(root)
    return [str(sample.image).removeprefix(f"{root}/") for sample in samples]


def test_a_folder_without_labels(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    make(tmp_path, "2.jpg", "10.jpg", "a/1.jpg", "a/b/3.jpg")
    make(tmp_path, "notes.txt", content=b"text")
    reader = ImageFolderReader(labelled=False)
    instances = list(reader.read(tmp_path))
    assert [list(instance) for instance in instances] == [["image", "metadata"]] * 2
    assert caplog.messages == [
        f'{tmp_path}: without "recursive": true folders inside of the folder are not used (1): a',
        f"{tmp_path}: files that are not images are not used (1): notes.txt",
    ]
    assert listed(tmp_path, labelled=False) == ["10.jpg", "2.jpg"]
    assert listed(tmp_path, labelled=False, recursive=True) == [
        "10.jpg",
        "2.jpg",
        "a/1.jpg",
        "a/b/3.jpg",
    ]
    with pytest.raises(ConfigurationError, match=r"no images in .*: expected images in it; it hol"):
        listed(make(tmp_path / "x", "cat/1.jpg"), labelled=False)


def test_include_and_exclude(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    make(tmp_path, "cat/1.jpg", "cat/1.JPG", "cat/1_mask.jpg", "cat/a/2.jpg", "dog/1.png")
    make(tmp_path, "notes.txt", content=b"text")
    caplog.set_level("INFO")
    assert listed(tmp_path, recursive=True, include=["*.jpg", "dog/?.png"]) == [
        "cat/1.jpg",
        "cat/1_mask.jpg",
        "cat/a/2.jpg",
        "dog/1.png",
    ]
    assert caplog.messages == [f"{tmp_path}: include and exclude leave out 1 files"]
    assert listed(tmp_path, exclude=["*_mask.*", "dog/*"]) == ["cat/1.JPG", "cat/1.jpg"]
    assert listed(tmp_path, include=["cat/1*"], exclude=["*.jpg"]) == ["cat/1.JPG"]
    with pytest.raises(ConfigurationError, match="it holds cat, dog, notes.txt; include and excl"):
        listed(tmp_path, include=["*.tiff"])


def test_a_split_of_a_folder(tmp_path: Path) -> None:
    make(tmp_path, *(f"{name}/{number}.jpg" for name in ("cat", "dog") for number in range(10)))
    split = {"fraction": 0.3, "by": "stratified"}
    parts = []
    for part in ("train", "validation"):
        params = Params({"type": "image_folder", "split": {"part": part, **split}})
        reader = DatasetReader.from_params(params)
        parts.append([sample.image for sample in reader.read_samples(tmp_path)])
    assert [len(part) for part in parts] == [14, 6]
    assert sum("cat" in path for path in parts[1]) == 3
    assert sorted(parts[0] + parts[1]) == [f"{tmp_path}/{name}" for name in listed(tmp_path)]
    # It depends on nothing above the folder.
    shutil.copytree(tmp_path, tmp_path.parent / "copy")
    copied = [str(sample.image) for sample in reader.read_samples(tmp_path.parent / "copy")]
    assert [path.rsplit("/", 2)[1:] for path in copied] == [
        path.rsplit("/", 2)[1:] for path in parts[1]
    ]


@pytest.mark.parametrize("protocol", ["file", "memory"])
def test_a_folder_behind_a_url(
    protocol: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    names = ["cat/2.jpg", "cat/.1.jpg", "cat/a/1.jpg", "dog/Größe 1", "dog/x.txt"]
    url = f"{protocol}://{tmp_path}"
    for name in names:
        with fsspec.open(f"{url}/{name}", "wb", auto_mkdir=True) as file:
            file.write(b"text" if name == "dog/x.txt" else encoded())
    for root in (url, f"{url}/"):
        instances = list(ImageFolderReader(recursive=True).read(root))
        assert [
            (instance["metadata"].metadata["image"], instance["label"].label)
            for instance in instances
        ] == [
            (f"{url}/cat/2.jpg", "cat"),
            (f"{url}/cat/a/1.jpg", "cat"),
            (f"{url}/dog/Größe 1", "dog"),
        ]
        assert instances[2]["image"].as_tensor({}).shape == (3, 16, 16)
        assert f"{url}: files that are not images are not used (1): dog/x.txt" in caplog.messages
    with pytest.raises(ConfigurationError, match=f"'{url}/x' .* does not exist; expected a folder"):
        ImageFolderReader().read_samples(f"{url}/x")
    with pytest.raises(ConfigurationError, match="'nosuch://x' .* cannot be read"):
        ImageFolderReader().read_samples("nosuch://x")


@pytest.mark.parametrize("path", [None, 3, {"cat": "a"}, ["a", "b"]])
def test_what_is_no_path(path: object) -> None:
    with pytest.raises(ConfigurationError, match=r"the path is .*; expected the text of a path or"):
        ImageFolderReader().read_samples(path)


@pytest.mark.parametrize("patterns", ["*.jpg", []])
def test_patterns_are_a_list(patterns: object) -> None:
    with pytest.raises(ConfigurationError, match=r"include is .*; expected a list of patterns"):
        ImageFolderReader(include=patterns)


def test_images_that_take_a_package_are_warned_of(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(image_folder_reader, "READ_SUFFIXES", {".jpg"})
    make(tmp_path, "cat/1.jpg", "cat/2.jpg", "dog/1.jpg", "dog/IMG_1.HEIC")
    assert len(ImageFolderReader().read_samples(tmp_path)) == 4
    assert caplog.messages == [
        f"{tmp_path}: images that cannot be read (1): dog/IMG_1.HEIC. Each is a HEIC photograph, "
        "which needs a package: pip install pillow-heif"
    ]
