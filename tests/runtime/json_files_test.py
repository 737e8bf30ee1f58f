import os
from pathlib import Path

import pytest

from allencv.runtime.json_files import parse_json, read_json


@pytest.mark.parametrize("text", ["[" * 100_000, "{", "", '{"a":' * 100_000])
def test_what_is_not_json_is_a_value_error(text: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"nested too deeply|Expecting"):
        parse_json(text)
    (tmp_path / "file.json").write_text(text)
    with pytest.raises(ValueError, match=r"nested too deeply|Expecting"):
        read_json(tmp_path / "file.json")


def test_a_file(tmp_path: Path) -> None:
    (tmp_path / "file.json").write_text('{"ä": [1, 2.5, null]}', encoding="utf-8")
    assert read_json(tmp_path / "file.json") == {"ä": [1, 2.5, None]}
    (tmp_path / "latin.json").write_bytes(b'"\xe4"')
    with pytest.raises(UnicodeDecodeError):
        read_json(tmp_path / "latin.json")


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.json")
    with pytest.raises(OSError, match="a named pipe"):
        read_json(tmp_path / "pipe.json")
