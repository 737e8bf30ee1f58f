import errno
import os
from pathlib import Path

import pytest

from allencv.runtime.whole_files import whole_file, write_text


def test_a_new_file_gets_its_name_when_it_is_written(tmp_path: Path) -> None:
    with whole_file(tmp_path / "page.html") as temporary:
        temporary.write_text("all of it")
        assert temporary.suffix == ".html"
        assert not (tmp_path / "page.html").exists()
    assert (tmp_path / "page.html").read_text() == "all of it"
    assert os.listdir(tmp_path) == ["page.html"]


def _write_half(path: Path, failure: BaseException) -> None:
    with whole_file(path) as temporary:
        temporary.write_text("half")
        raise failure


@pytest.mark.parametrize("failure", [ValueError("no"), KeyboardInterrupt()])
def test_a_failure_leaves_what_was_there(tmp_path: Path, failure: BaseException) -> None:
    path = tmp_path / "page.html"
    path.write_text("the good page")
    with pytest.raises(type(failure)):
        _write_half(path, failure)
    assert path.read_text() == "the good page"
    assert os.listdir(tmp_path) == ["page.html"]


def test_the_error_of_a_full_disk_names_the_file(tmp_path: Path) -> None:
    path = tmp_path / "page.html"
    with pytest.raises(OSError, match="page.html") as found, whole_file(path):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    assert found.value.errno == errno.ENOSPC
    assert found.value.filename == str(path)


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError) as found:
        write_text(tmp_path / "none" / "page.html", "text")
    assert found.value.filename == str(tmp_path / "none" / "page.html")


def test_a_file_of_the_users_beside_it_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "page.html.tmp").write_text("mine")
    write_text(tmp_path / "page.html", "text")
    assert (tmp_path / "page.html.tmp").read_text() == "mine"


def test_a_link_is_followed_and_the_mode_kept(tmp_path: Path) -> None:
    (tmp_path / "real.txt").write_text("old")
    (tmp_path / "real.txt").chmod(0o640)
    (tmp_path / "link.txt").symlink_to("real.txt")
    write_text(tmp_path / "link.txt", "new")
    assert (tmp_path / "link.txt").is_symlink()
    assert (tmp_path / "real.txt").read_text() == "new"
    assert (tmp_path / "real.txt").stat().st_mode & 0o777 == 0o640


def test_what_is_no_regular_file_is_written_to(tmp_path: Path) -> None:
    write_text("/dev/null", "text")
    assert not Path("/dev/null").is_file()


def test_characters_that_are_no_unicode(tmp_path: Path) -> None:
    with pytest.raises(UnicodeEncodeError):
        write_text(tmp_path / "page.html", "caf\udce9")
    write_text(tmp_path / "page.html", "caf\udce9", errors="backslashreplace")
    assert (tmp_path / "page.html").read_text() == "caf\\udce9"


def test_a_named_pipe_needs_a_reader(tmp_path: Path) -> None:
    """Without one, opening it would wait without end."""
    path = tmp_path / "pipe"
    os.mkfifo(path)
    with pytest.raises(OSError, match="a named pipe without a reader") as found:
        write_text(path, "page")
    assert found.value.filename == str(path)
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    write_text(path, "page")
    assert os.read(reader, 100) == b"page"
    os.close(reader)
    assert os.listdir(tmp_path) == ["pipe"]
