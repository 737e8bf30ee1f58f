import csv
import os
from pathlib import Path
from typing import List

import pytest
from allennlp.common.checks import ConfigurationError

from allencv.data.corrections import (
    LABEL,
    NONE,
    SKIP,
    Correction,
    Corrections,
    as_line,
    as_row,
    columns,
    image_key,
    read_corrections,
    source_key,
)
from allencv.data.dataset_readers.shards import ShardFile
from allencv.data.remote import RemoteImage

TIME = "2026-11-29T01:00:00+00:00"


def write(path: Path, multi_label: bool, corrections: List[Correction]) -> Corrections:
    path.parent.mkdir(exist_ok=True)
    rows = [as_row(each, str(path.parent), columns(multi_label)) for each in corrections]
    text = "".join([as_line(columns(multi_label)), *rows])
    path.write_text(text, encoding="utf-8", errors="surrogateescape")
    return read_corrections(str(path), "corrections")


def test_what_is_written_is_read(tmp_path: Path) -> None:
    corrections = [
        Correction(str(tmp_path / "data" / "a, b.jpg"), LABEL, ('the "best"',), ("cat",), TIME),
        Correction(str(tmp_path / "data" / "none.jpg"), NONE, (), None, TIME),
        Correction("/elsewhere/ä.jpg", SKIP, (), ("dog",), TIME),
        Correction(os.fsdecode(b"/elsewhere/\xff.jpg"), LABEL, ("none",), None, TIME),
        Correction("s3://bucket/a.jpg", LABEL, ("cat",), ("cat",), TIME),
        Correction("/elsewhere/Icon\r", LABEL, ("a\rb",), ("a\nb",), TIME),
    ]
    found = write(tmp_path / "out" / "c.csv", False, corrections)
    assert not found.multi_label
    assert list(found.of_images.values()) == corrections
    assert list(found.of_images) == [each.path for each in corrections]
    with open(
        tmp_path / "out" / "c.csv", encoding="utf-8", errors="surrogateescape", newline=""
    ) as file:
        rows = list(csv.DictReader(file))
    assert rows[0]["path"] == "../data/a, b.jpg"
    assert rows[0]["label"] == 'the "best"'
    assert [row["answer"] for row in rows] == [LABEL, NONE, SKIP, LABEL, LABEL, LABEL]


def test_several_labels(tmp_path: Path) -> None:
    corrections = [
        Correction("/a.jpg", LABEL, ("comedy", "a, b"), (), TIME),
        Correction("/b.jpg", LABEL, (), ("comedy",), TIME),
        Correction("/c.jpg", NONE, (), None, TIME),
    ]
    found = write(tmp_path / "c.csv", True, corrections)
    assert found.multi_label
    assert list(found.of_images.values()) == corrections


def test_a_folder_can_be_moved(tmp_path: Path) -> None:
    old, new = tmp_path / "old", tmp_path / "new"
    write(old / "c.csv", False, [Correction(str(old / "a.jpg"), LABEL, ("cat",), None, TIME)])
    old.rename(new)
    assert list(read_corrections(str(new / "c.csv"), "").of_images) == [str(new / "a.jpg")]


def test_the_answer_after_a_skip_counts(tmp_path: Path) -> None:
    skipped = Correction("/a.jpg", SKIP, (), None, TIME)
    answered = skipped._replace(answer=LABEL, labels=("cat",))
    found = write(tmp_path / "c.csv", False, [skipped, answered])
    assert found.of_images == {"/a.jpg": answered}


def test_the_key_of_an_image(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for path in ("a/b.jpg", Path("a/b.jpg"), "a/../a/./b.jpg", f"{tmp_path}/a/b.jpg"):
        assert source_key(path) == f"{tmp_path}/a/b.jpg"
    assert image_key("b.jpg", "a") == f"{tmp_path}/a/b.jpg"
    assert source_key(RemoteImage("s3://bucket/a.jpg")) == "s3://bucket/a.jpg"
    shard = ShardFile("shards/0.tar", "000.jpg")
    assert source_key(shard) == str(tmp_path / str(shard))
    assert source_key(b"") is None


HEADER = "path,answer,label,previous,time\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("path,label\n", r"c\.csv has the columns path, label; expected those of 'allencv review'"),
        ("", r"c\.csv has the columns of no name; expected"),
        (HEADER + "a.jpg,maybe,cat,,t\n", r"line 2: answer is 'maybe'; expected label, none, skip"),
        (HEADER + "a.jpg,label,,,t\n", r"line 2: label is '' and answer is 'label'; expected a la"),
        (HEADER + "a.jpg,none,cat,,t\n", r"line 2: label is 'cat' and answer is 'none'; expected "),
        (HEADER + ",label,cat,,t\n", r"line 2: path is empty; expected the path of an image"),
        (HEADER + "a.jpg,label,cat\n", r"line 2: too few or too many cells"),
        (HEADER + "a.jpg,label,cat,,t,more\n", r"line 2: too few or too many cells"),
        (
            HEADER + "a.jpg,label,cat,,t\n./a.jpg,none,,,t\n",
            r"line 3: '\./a\.jpg' has an answer in line 2, too; expected one answer to each image",
        ),
        (HEADER + 'a.jpg,label,"cat,,t\n', r"line 2: unexpected end of data; expected CSV"),
        (
            HEADER.replace("label", "labels") + "a.jpg,label,cat,,t\n",
            r"line 2: labels is 'cat'; expected a list of labels such as \[\"a\", \"b\"\]",
        ),
        (
            HEADER.replace("label", "labels") + "a.jpg,label,[1],,t\n",
            r"line 2: labels is '\[1\]'; expected a list of labels",
        ),
    ],
)
def test_what_is_wrong(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "c.csv").write_text(text)
    with pytest.raises(ConfigurationError, match=message):
        read_corrections(str(tmp_path / "c.csv"), "corrections")


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"'.*no\.csv' \(the_key\) does not exist"):
        read_corrections(str(tmp_path / "no.csv"), "the_key")
