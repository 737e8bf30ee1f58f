from contextlib import contextmanager
from pathlib import Path
from typing import IO, Iterator, List

import pytest
from allennlp.common.checks import ConfigurationError

from allencv.data import remote
from allencv.data.dataset_readers.files import each_file_read_once, read_bytes, read_text


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> List[str]:
    """The names of the files that were opened."""
    names: List[str] = []

    @contextmanager
    def counted(path: str) -> Iterator[IO[bytes]]:
        names.append(Path(path).name)
        with open(path, "rb") as file:
            yield file

    monkeypatch.setattr(remote, "open_file", counted)
    return names


def test_files_are_kept_inside_alone(tmp_path: Path, opened: List[str]) -> None:
    first, second = tmp_path / "first.txt", tmp_path / "second.txt"
    first.write_text("a")
    second.write_text("b")
    with each_file_read_once():
        with each_file_read_once():  # nested, before anything was read
            assert read_text(str(first), "utf-8") == "a"
        first.write_text("changed")
        assert read_bytes(str(first)) == b"a"
        assert read_bytes(str(second)) == b"b"
        assert opened == ["first.txt", "second.txt"]
    assert read_bytes(str(first)) == b"changed"
    assert read_bytes(str(first)) == b"changed"
    assert opened[2:] == ["first.txt"] * 2


def test_a_file_that_cannot_be_read_is_tried_again(tmp_path: Path, opened: List[str]) -> None:
    file = tmp_path / "table.csv"
    with each_file_read_once():
        with pytest.raises(
            ConfigurationError, match="table.csv' .* does not exist; expected a file"
        ):
            read_bytes(str(file))
        file.write_text("a")
        assert read_bytes(str(file)) == b"a"
        with pytest.raises(ConfigurationError), each_file_read_once():
            read_bytes(str(tmp_path / "missing.csv"))
        assert read_bytes(str(file)) == b"a"
    assert read_bytes(str(file)) == b"a"
    assert opened == ["table.csv", "table.csv", "missing.csv", "table.csv"]
