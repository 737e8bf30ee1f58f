import os
import socket
from pathlib import Path

import pytest

from allencv.data.fields.image_field import load_image
from allencv.data.inspection import examine
from allencv.runtime.errors import ImageError
from allencv.runtime.images import read_image
from allencv.runtime.regular_files import open_regular
from tests.conftest import write_images


@pytest.fixture
def endless(tmp_path: Path) -> "dict[str, str]":
    """What is no regular file, and what it is called. To open the pipe would wait for ever."""
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "link.png").symlink_to("pipe.png")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(tmp_path / "socket.png"))
    (tmp_path / "zero.png").symlink_to("/dev/zero")
    kinds = {"pipe": "a named pipe", "link": "a named pipe", "socket": "a socket"}
    kinds["zero"] = "a device"
    return {str(tmp_path / f"{name}.png"): kind for name, kind in kinds.items()}


def test_what_may_have_no_end_is_refused_by_name(endless: "dict[str, str]") -> None:
    for path, kind in endless.items():
        reason = f"{kind}, not a regular file"
        with pytest.raises(OSError, match=reason) as refused:
            open_regular(path)
        assert refused.value.filename == path
        for read in (read_image, load_image):
            with pytest.raises(ImageError) as error:
                read(path)
            assert str(error.value) == f"{path}: {reason}"
        assert examine(path).error == reason


def test_a_regular_file_is_read_through_a_link_too(tmp_path: Path) -> None:
    write_images(tmp_path, {"a": 1})
    (tmp_path / "link").symlink_to("a/000.jpg")
    with open_regular(tmp_path / "link") as file:
        assert file.read() == (tmp_path / "a" / "000.jpg").read_bytes()


def test_a_folder_and_a_missing_file_are_left_to_open(tmp_path: Path) -> None:
    with pytest.raises(IsADirectoryError):
        open_regular(tmp_path)
    with pytest.raises(FileNotFoundError):
        open_regular(tmp_path / "none")
