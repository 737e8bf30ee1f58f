import json
from pathlib import Path
from typing import Any, Dict, List

import pytest
from allennlp.common.checks import ConfigurationError

from allencv.fitting.table_columns import FoundTable, TableColumns, find_columns
from tests.conftest import write_images


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_images(tmp_path, {"images": 4, "photos/of cats": 4}, suffix=".png")


def table(folder: Path, content: Any, name: str = "table.csv", **given: str) -> FoundTable:
    """What is found in a table with a text or bytes."""
    data = content if isinstance(content, bytes) else content.encode()
    (folder / name).write_bytes(data)
    return find_columns(str(folder / name), TableColumns(**given))


def found(folder: Path, header: str, *rows: str, **given: str) -> Dict[str, Any]:
    """The arguments of the reader."""
    reader = table(folder, "\n".join([header, *rows]) + "\n", **given).reader
    assert reader.pop("type") == "image_table"
    return reader


ROWS = [f"images/00{i}.png,{'ab'[i % 2]}" for i in range(4)]
PLAIN = "\n".join(["image,label", *ROWS])
READER = {"type": "image_table", "image_column": "image", "label_column": "label"}


def test_paths_relative_to_the_table(folder: Path) -> None:
    rows = [f"{i},images/00{i}.png,{'cat' if i else 'dog'}" for i in range(4)]
    assert found(folder, "number,file,species", *rows) == {
        "image_column": "file",
        "label_column": "species",
    }


def test_names_without_a_suffix_in_a_folder_beside(folder: Path) -> None:
    rows = [f"00{i},{i % 2},1" for i in range(4)]
    assert found(folder, "Id,Action,Drama", *rows) == {
        "image_pattern": "{Id}.png",
        "image_root": str(folder / "images"),
        "label_columns": "*",
    }


@pytest.mark.parametrize("start", ["https://example.org", "file:///photos"])
def test_urls_are_images_if_the_user_says_so(start: str, folder: Path) -> None:
    text = "\n".join(["url,label", *(f"{start}/{row}" for row in ROWS)])
    with pytest.raises(ConfigurationError, match="has URLs, such as .*--image-column url reads"):
        table(folder, text)
    result = table(folder, text, image_column="url")
    assert result.reader == {**READER, "image_column": "url"}


def test_names_go_before_cells(folder: Path) -> None:
    rows = [f"images/00{i}.png,images/00{i}.png,{'ab'[i % 2]}" for i in range(4)]
    result = table(folder, "\n".join(["mask,image,label", *rows]))
    assert result.reader == READER
    assert result.notes == [
        "images: column image (--image-column, --image-root); also in mask",
        "label: column label, 2 classes (--label-column); one per image (--task)",
        "columns that are not used: mask",
    ]


def test_what_the_user_says_goes_first(folder: Path) -> None:
    rows = [f"images/00{i}.png,00{i}.png,{i % 2},{'ab'[i % 2]}" for i in range(4)]
    header = "first,second,label,other"
    given = {"image_column": "second", "label_column": "other"}
    reader = found(folder, header, *rows, **given, image_root=str(folder / "photos/of cats"))
    assert reader == {
        "image_column": "second",
        "image_root": str(folder / "photos/of cats"),
        "label_column": "other",
    }


def test_a_column_of_splits(folder: Path) -> None:
    rows = [f"images/00{i}.png,{'ab'[i % 2]},{'train' if i < 2 else 'val'}" for i in range(4)]
    content = "\n".join(["image,label,split", *rows])
    result = table(folder, content)
    assert result.reader == {**READER, "split_column": "split"}
    assert result.splits == {"train": "train", "validation": "val"}
    assert "splits: column split, train 2, val 2 (--split-column)" in result.notes
    ignoring = table(folder, content, split_column="none")
    assert (ignoring.reader, ignoring.splits) == (READER, {})
    assert ignoring.notes[-1] == "columns that are not used: split"


@pytest.mark.parametrize("delimiter", [";", "\t", "|"])
def test_other_delimiters(folder: Path, delimiter: str) -> None:
    result = table(folder, PLAIN.replace(",", delimiter))
    assert result.reader == {**READER, "delimiter": delimiter}
    assert result.notes[0] == f"cells: {delimiter!r} between them (--delimiter)"


@pytest.mark.parametrize(
    ("name", "content", "given"),
    [
        ("t.csv", "\ufeff" + PLAIN, {}),
        ("t.csv", PLAIN.encode("utf-16"), {}),
        ("t.csv", PLAIN.replace("\n", "\r"), {}),
        ("t.csv", PLAIN.replace("\n", "\r\n"), {}),
        ("t.csv", '"' + PLAIN.replace(",", '","').replace("\n", '"\n"') + '"', {}),
        ("t.tsv", PLAIN.replace(",", "\t"), {}),
        ("t.csv", PLAIN.replace("a\n", "é\n").encode("cp1252"), {"encoding": "cp1252"}),
        ("t.csv", PLAIN.replace(",", "~"), {"delimiter": "~"}),
        ("t.jsonl", "\n".join(json.dumps({"image": r[:-2], "label": r[-1]}) for r in ROWS), {}),
    ],
)
def test_unusual_tables(folder: Path, name: str, content: Any, given: Any) -> None:
    reader = table(folder, content, name, **given).reader
    assert reader == {**READER, **given}


def test_a_table_without_a_header_would_lose_a_row(folder: Path) -> None:
    for rows in (ROWS, [row.removeprefix("images/").replace(".png", "") for row in ROWS]):
        with pytest.raises(
            ConfigurationError, match=r"the first line has the image '.*000.*'; exp"
        ):
            table(folder, "\n".join(rows))


def test_paths_of_windows(folder: Path) -> None:
    for before, after, shown in (
        ("/", "\\", "images\\000.png"),
        ("images/", "C:\\pets\\", "C:\\pets\\000.png"),
    ):
        with pytest.raises(ConfigurationError) as error:
            table(folder, PLAIN.replace(before, after))
        assert error.value.message.endswith(
            f"table.csv: the paths in column image have backslashes between folders, such as "
            f"'{shown}'; expected '/', and paths relative to the table or to --image-root: replace "
            "them in the table"
        )


def test_a_tab_may_be_typed_as_in_a_shell(folder: Path) -> None:
    reader = table(folder, PLAIN.replace(",", "\t"), delimiter=r"\t").reader
    assert reader == {**READER, "delimiter": "\t"}
    for delimiter in ("", ";;"):
        with pytest.raises(ConfigurationError, match=f"--delimiter is '{delimiter}'; expected one"):
            table(folder, PLAIN, delimiter=delimiter)


@pytest.mark.parametrize(
    ("header", "given", "message"),
    [
        ("file,label,x", {"label_column": "y"}, "--label-column is 'y'; .* has file, label, x"),
        ("file,label,x", {"split_column": "y"}, "--split-column is 'y'; .* has file, label, x"),
        ("file,label,x", {"image_column": "x"}, "no column of x has paths of images"),
    ],
)
def test_what_is_not_there(folder: Path, header: str, given: Any, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        found(folder, header, *[f"00{i}.png,{i}a,{i}b" for i in range(4)], **given)


def test_no_rows(folder: Path) -> None:
    rows: List[str] = []
    with pytest.raises(ConfigurationError, match="has no row; expected one for each image"):
        found(folder, "file,label", *rows)


def test_another_delimiter_is_named_where_there_is_one_column(folder: Path) -> None:
    with pytest.raises(ConfigurationError) as error:
        table(folder, PLAIN.replace(",", " "))
    assert error.value.message.endswith(
        "expected --image-column and --image-root, or --delimiter for the separator of the cells"
    )


def test_paths_that_are_not_there_are_shown(folder: Path) -> None:
    with pytest.raises(
        ConfigurationError, match=r"paths of images that exist, such as '/gone/\w+\.jpg', in "
    ):
        table(folder, "file,label\n/gone/a.jpg,x\n/gone/b.jpg,y\n")
