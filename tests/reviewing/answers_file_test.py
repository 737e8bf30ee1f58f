import csv
import errno
import os
import subprocess
import sys
from pathlib import Path
from typing import Dict, List

import pytest
from allennlp.common.checks import ConfigurationError

from allencv.data.corrections import LABEL, NONE, SKIP, read_corrections
from allencv.reviewing.answers_file import AnswersFile
from allencv.runtime.errors import InputError
from tests.conftest import ROOT


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "new" / "c.csv")


def rows(path: str) -> List[Dict[str, str]]:
    with open(path) as file:
        return list(csv.DictReader(file))


def test_each_answer_is_in_the_file_at_once(path: str, tmp_path: Path) -> None:
    answers = AnswersFile(path, multi_label=False)
    assert rows(path) == []
    answers.add(str(tmp_path / "a.jpg"), LABEL, ("cat",), ("dog",))
    (row,) = rows(path)
    assert row.pop("time").endswith("+00:00")
    assert row == {"path": "../a.jpg", "answer": "label", "label": "cat", "previous": "dog"}
    answers.add(str(tmp_path / "b.jpg"), NONE, (), None)
    assert [row["answer"] for row in rows(path)] == ["label", "none"]
    assert read_corrections(path, "").of_images == answers.corrections.of_images


def test_an_existing_file_is_continued(path: str) -> None:
    first = AnswersFile(path, multi_label=True)
    first.add("/a.jpg", LABEL, ("x", "y"), ())
    first.close()
    second = AnswersFile(path, multi_label=True)
    assert second.corrections.of_images["/a.jpg"].labels == ("x", "y")
    second.add("/b.jpg", SKIP, (), None)
    assert [row["labels"] for row in rows(path)] == ['["x", "y"]', ""]


@pytest.mark.parametrize(
    "header", ["path,label,answer,previous,time", "note,path,answer,label,previous,time,by"]
)
def test_a_file_with_other_columns_is_continued(path: str, header: str) -> None:
    os.makedirs(os.path.dirname(path))
    Path(path).write_text(f"{header}\n")
    for name in ("a", "b"):
        answers = AnswersFile(path, multi_label=False)
        answers.add(f"/{name}.jpg", LABEL, ("cat",), ("dog",))
        answers.close()
    saved = read_corrections(path, "").of_images
    assert [each.path for each in saved.values()] == ["/a.jpg", "/b.jpg"]
    assert {(each.labels, each.previous) for each in saved.values()} == {(("cat",), ("dog",))}
    assert Path(path).read_text().startswith(header)


def test_undo(path: str) -> None:
    AnswersFile(path, multi_label=False).close()
    answers = AnswersFile(path, multi_label=False)
    header = Path(path).read_bytes()
    answers.add("/a.jpg", SKIP, (), None)
    with_skip = Path(path).read_bytes()
    answers.add("/a.jpg", LABEL, ("cat",), None)
    assert answers.can_undo
    assert answers.undo() == "/a.jpg"
    assert Path(path).read_bytes() == with_skip
    assert answers.corrections.of_images["/a.jpg"].answer == SKIP
    assert answers.undo() == "/a.jpg"
    assert Path(path).read_bytes() == header
    assert not answers.corrections.of_images
    assert not answers.can_undo
    assert answers.undo() is None  # what was there before this review stays


def test_two_at_once(path: str) -> None:
    answers = AnswersFile(path, multi_label=False)
    code = f"from allencv.reviewing.answers_file import AnswersFile; AnswersFile({path!r}, False)"
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert "which another 'allencv review' has open" in result.stderr
    answers.close()
    AnswersFile(path, multi_label=False)


def test_a_file_that_someone_else_changed(path: str) -> None:
    answers = AnswersFile(path, multi_label=False)
    answers.add("/a.jpg", LABEL, ("cat",), None)
    before = Path(path).read_bytes()
    for change in (
        lambda: Path(path).write_bytes(before + b"/b.jpg,none,,,t\n"),
        lambda: os.replace(_copy(path), path),  # as editors save
        lambda: os.remove(path),
    ):
        change()
        for act in (lambda: answers.add("/c.jpg", NONE, (), None), answers.undo):
            with pytest.raises(InputError, match=r"was changed by another program; stop this"):
                act()
    assert list(answers.corrections.of_images) == ["/a.jpg"]


def _copy(path: str) -> str:
    Path(f"{path}.new").write_bytes(Path(path).read_bytes())
    return f"{path}.new"


def test_a_full_disk_leaves_the_file_as_it_was(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    answers = AnswersFile(path, multi_label=False)
    answers.add("/a.jpg", LABEL, ("cat",), None)
    before = Path(path).read_bytes()
    write = os.write

    def half(descriptor: int, content: bytes) -> int:
        if len(content) > 10:
            return write(descriptor, content[:10])
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", half)
        with pytest.raises(OSError, match=r"No space left on device: '.*c\.csv'"):
            answers.add("/b.jpg", LABEL, ("a label of some length",), None)
    assert Path(path).read_bytes() == before
    answers.add("/b.jpg", LABEL, ("dog",), None)
    assert [row["label"] for row in rows(path)] == ["cat", "dog"]


def test_files_that_cannot_be_continued(path: str) -> None:
    AnswersFile(path, multi_label=True).close()
    with pytest.raises(InputError, match="has several labels an image, but the model gives one"):
        AnswersFile(path, multi_label=False)
    with open(path, "a") as file:
        file.write("/a.jpg,none,,,t")
    with pytest.raises(InputError, match="whose last line may be cut off"):
        AnswersFile(path, multi_label=True)
    Path(path).write_text("a,b\n1,2\n")
    with pytest.raises(ConfigurationError, match=r"c\.csv has the columns a, b; expected those of"):
        AnswersFile(path, multi_label=True)
    assert Path(path).read_text() == "a,b\n1,2\n"
