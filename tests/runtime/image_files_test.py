import json
import os
import re
import sys
from pathlib import Path
from typing import List

import pyarrow
import pytest
from pyarrow import parquet

from allencv.runtime.errors import InputError
from allencv.runtime.image_files import ImageFile, list_images
from tests.conftest import write_images


@pytest.fixture
def photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory, with `photos/Cat/000.jpg` and so on."""
    write_images(tmp_path / "photos", {"Dog": 2, "Cat": 2})
    write_images(tmp_path, {"photos": 1})
    monkeypatch.chdir(tmp_path)
    return tmp_path / "photos"


def names(*paths: str, column: str = "path") -> List[str]:
    return [image.name for image in list_images(paths, column).images]


IN_ORDER = [
    "photos/000.jpg",
    "photos/Cat/000.jpg",
    "photos/Cat/001.jpg",
    "photos/Dog/000.jpg",
    "photos/Dog/001.jpg",
]


@pytest.mark.parametrize("given", ["photos", "photos/", "./photos", "{}"])
def test_a_folder_gives_its_images_sorted(photos: Path, given: str) -> None:
    given = given.format(photos)
    prefix = given.rstrip("/")
    assert names(given) == [name.replace("photos", prefix, 1) for name in IN_ORDER]


def test_in_a_folder_content_counts_where_the_name_says_nothing(photos: Path) -> None:
    (photos / "Cat" / "000.jpg").rename(photos / "Cat" / "photo")
    (photos / "Cat" / "empty.png").touch()
    (photos / "notes.txt").write_text("of the day")
    (photos / ".hidden.jpg").touch()
    (photos / ".thumbnails").mkdir()
    (photos / ".thumbnails" / "a.jpg").touch()
    (photos / "Cat" / "@eaDir").mkdir()
    (photos / "Cat" / "@eaDir" / "a.jpg").touch()
    os.mkfifo(photos / "pipe.jpg")
    listed = list_images(["photos"], "path")
    assert [image.name for image in listed.images] == [
        "photos/000.jpg",
        "photos/Cat/001.jpg",
        "photos/Cat/empty.png",
        "photos/Cat/photo",
        *IN_ORDER[3:],
    ]
    assert listed.others == ["photos/notes.txt", "photos/pipe.jpg", "photos/Cat/@eaDir"]


def test_a_pattern_gives_what_it_matches_sorted(photos: Path) -> None:
    assert names("photos/*/*1.jpg") == ["photos/Cat/001.jpg", "photos/Dog/001.jpg"]
    assert names("photos/[CD]*") == IN_ORDER[1:]
    assert names("photos/**/*.jpg") == IN_ORDER
    (photos / "[a].jpg").touch()
    assert names("photos/[a].jpg") == ["photos/[a].jpg"]


def test_the_order_is_that_of_the_arguments_and_nothing_comes_twice(photos: Path) -> None:
    paths = ["photos/Dog/001.jpg", "photos", str(photos / "Cat" / "000.jpg"), "photos/Dog"]
    listed = list_images(paths, "path")
    expected = ["photos/Dog/001.jpg", *IN_ORDER[:4]]
    assert listed.images == [ImageFile(name, name) for name in expected]
    assert listed.repeated == 4  # in "photos", by its whole path, and the two of "photos/Dog"


def write_table(path: Path, column: str, cells: List[str]) -> None:
    rows = [{"number": number, column: cell} for number, cell in enumerate(cells)]
    if path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    elif path.suffix == ".txt":
        path.write_text("\ufeff" + "\n\n".join(cells) + "\n")
    elif path.suffix == ".parquet":
        parquet.write_table(pyarrow.Table.from_pylist(rows), path)
    else:
        delimiter = "\t" if path.suffix == ".tsv" else ","
        lines = [delimiter.join(map(str, row.values())) for row in rows]
        path.write_text("\ufeff" + "\n".join([f"number{delimiter} {column}", *lines, ""]))


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".txt", ".jsonl", ".parquet"])
def test_a_table_gives_its_paths_relative_to_itself(photos: Path, suffix: str) -> None:
    whole = str(photos / "Dog" / "000.jpg")
    cells = ["Cat/001.jpg", whole, "nowhere.jpg", "Cat/000.jpg", "Cat/001.jpg"]
    write_table(photos / f"list{suffix}", "file", cells)
    listed = list_images([f"photos/list{suffix}"], "file")
    assert [image.name for image in listed.images] == cells[:4]
    files = ["photos/Cat/001.jpg", whole, "photos/nowhere.jpg", "photos/Cat/000.jpg"]
    assert [image.file for image in listed.images] == files
    assert listed.repeated == 1


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
def test_bad_cells_and_columns_are_named(photos: Path, suffix: str) -> None:
    table = photos / f"list{suffix}"
    write_table(table, "file", ["Cat/000.jpg", " "])
    with pytest.raises(InputError, match=f"list{suffix}.*'number', 'file'; expected a column "):
        list_images([str(table)], "path")
    with pytest.raises(InputError, match=f"list{suffix}, line .: ' ' in the column 'file'; expect"):
        list_images([str(table)], "file")


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("nowhere/a.jpg", "'nowhere/a.jpg' gives no image; expected a file, a folder"),
        ("photos/*.png", "'photos/*.png' gives no image"),
        ("empty", "'empty' gives no image"),
        ("empty.txt", "'empty.txt' gives no image"),
        ("bad.txt", "'bad.txt' cannot be read: 'utf-8' codec can't decode"),
        ("bad.jsonl", "bad.jsonl, line 2: not JSON"),
        ("list.jsonl", "list.jsonl, line 1: expected a JSON object"),
        ("bad.csv", "'bad.csv' cannot be read: 'utf-8' codec can't decode"),
        ("bad.parquet", "'bad.parquet' is not a Parquet file: "),
        ("pipe.csv", "'pipe.csv' cannot be read: a named pipe, not a regular file"),
        ("pipe.*", "'pipe.csv' cannot be read: a named pipe, not a regular file"),
    ],
)
def test_what_gives_no_image_is_named(photos: Path, path: str, message: str) -> None:
    Path("empty").mkdir()
    Path("bad.jsonl").write_text('{"path": "photos/000.jpg"}\n{"path": \n')
    Path("list.jsonl").write_text("[1]\n")
    Path("empty.txt").touch()
    for name in ("bad.csv", "bad.txt"):
        Path(name).write_bytes(b"path\n\xff\xfe\n")
    Path("bad.parquet").write_text("PAR0")
    os.mkfifo("pipe.csv")
    with pytest.raises(InputError, match=f"^{re.escape(message)}"):
        list_images(["photos", path], "path")


def test_one_name_for_two_files_is_refused(photos: Path) -> None:
    for table in (photos / "Cat" / "list.csv", photos / "Dog" / "list.csv"):
        table.write_text("path\n000.jpg\n")
    with pytest.raises(InputError, match=r"'000.jpg' is the name of .*Cat/000.jpg and of .*Dog/00"):
        list_images(["photos/Cat/list.csv", "photos/Dog/list.csv"], "path")


def test_a_folder_in_itself_is_refused(photos: Path) -> None:
    (photos / "Cat" / "again").symlink_to(photos)
    with pytest.raises(InputError, match=r"'photos/Cat/again' is a link to a folder that contains"):
        list_images(["photos"], "path")


def test_links_that_lead_nowhere_are_listed(photos: Path) -> None:
    """Each gets an error of its own."""
    (photos / "Cat" / "broken.jpg").symlink_to("lost.jpg")
    (photos / "Cat" / "itself.jpg").symlink_to("itself.jpg")
    (photos / "Cat" / "linked.jpg").symlink_to("000.jpg")
    expected = ["000", "001", "broken", "itself", "linked"]
    assert names("photos/Cat") == [f"photos/Cat/{name}.jpg" for name in expected]


def test_files_come_before_folders_in_the_order_of_characters(tmp_path: Path) -> None:
    for name in ("b/1.jpg", "B.jpg", "a/1.jpg", "a.jpg", "10.jpg", "9.jpg", "a.b/1.jpg", "é.jpg"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    found = [os.path.relpath(name, tmp_path) for name in names(str(tmp_path))]
    files = ["10.jpg", "9.jpg", "B.jpg", "a.jpg", "é.jpg"]
    assert found == [*files, "a/1.jpg", "a.b/1.jpg", "b/1.jpg"]


def test_parquet_needs_pyarrow(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_table(photos / "list.parquet", "path", ["000.jpg"])
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    monkeypatch.delitem(sys.modules, "pyarrow.parquet")
    with pytest.raises(InputError, match=r"Parquet needs pyarrow.*pip install \"pyarrow>="):
        list_images(["photos/list.parquet"], "path")
