from pathlib import Path
from typing import Any, Dict

import pytest
from allennlp.common.checks import ConfigurationError

from allencv.fitting.table_columns import TableColumns, find_columns
from tests.conftest import write_images


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_images(tmp_path, {"images": 4, "photos/of cats": 4}, suffix=".png")


def found(folder: Path, header: str, *rows: str, **given: str) -> Dict[str, Any]:
    (folder / "table.csv").write_text("\n".join([header, *rows]) + "\n")
    reader, _ = find_columns(str(folder / "table.csv"), TableColumns(**given))
    assert reader.pop("type") == "image_table"
    return reader


def test_paths_relative_to_the_table(folder: Path) -> None:
    rows = [f"{i},images/00{i}.png,cat" for i in range(4)]
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


def test_other_columns_than_those_of_0_and_1_are_left_out(folder: Path) -> None:
    rows = [f"00{i}.png,the {i}th,{i % 2},1.0" for i in range(4)]
    reader = found(folder, "file,Title,Action,Drama", *rows)
    assert reader["ignore_columns"] == ["Title"]


def test_several_labels_in_a_cell(folder: Path) -> None:
    rows = ["000.png,cat|dog", "001.png,cat", "002.png,dog|cat", "003.png,dog"]
    reader = found(folder, "file,tags", *rows)
    assert reader["labels_column"] == "tags"
    assert reader["labels_delimiter"] == "|"


def test_a_label_of_two_words_is_one(folder: Path) -> None:
    rows = [f"00{i}.png,{name}" for i, name in enumerate(["polar bear", "red fox"] * 2)]
    assert found(folder, "file,label", *rows)["label_column"] == "label"


def test_what_the_user_says_goes_first(folder: Path) -> None:
    rows = [f"images/00{i}.png,00{i}.png,{i % 2},b" for i in range(4)]
    header = "first,second,label,other"
    given = {"image_column": "second", "label_column": "other"}
    reader = found(folder, header, *rows, **given, image_root=str(folder / "photos/of cats"))
    assert reader == {
        "image_column": "second",
        "image_root": str(folder / "photos/of cats"),
        "label_column": "other",
    }


@pytest.mark.parametrize(
    ("header", "given", "message"),
    [
        ("file,one,two", {}, "the labels may be in any of one, two; expected --label-column"),
        ("file,label,x", {"label_column": "y"}, "--label-column is 'y'; .* has file, label, x"),
        ("file,label,x", {"image_column": "x"}, "no column of x has paths of images"),
    ],
)
def test_what_cannot_be_told(folder: Path, header: str, given: Any, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        found(folder, header, *[f"00{i}.png,{i}a,{i}b" for i in range(4)], **given)


def test_no_rows(folder: Path) -> None:
    with pytest.raises(ConfigurationError, match="has no row; expected one for each image"):
        found(folder, "file,label")
