import os
from pathlib import Path
from typing import Optional

import pytest
from allennlp.common.checks import ConfigurationError

from allencv.exporting.bundle_folder import check_output, new_folder
from allencv.runtime.bundle import MANIFEST


def write(folder: Path, force: bool, text: str, error: Optional[BaseException] = None) -> None:
    with new_folder(folder, force) as temporary:
        (temporary / MANIFEST).write_text(text)
        assert not (folder / MANIFEST).exists() or (folder / MANIFEST).read_text() == "old"
        if error is not None:
            raise error


def test_it_appears_when_all_is_written(tmp_path: Path) -> None:
    folder = tmp_path / "new" / "bundle"
    write(folder, False, "old")
    assert os.listdir(tmp_path / "new") == ["bundle"]
    assert (folder / MANIFEST).read_text() == "old"
    write(folder, True, "new")
    assert os.listdir(tmp_path / "new") == ["bundle"]
    assert (folder / MANIFEST).read_text() == "new"


@pytest.mark.parametrize("error", [ConfigurationError("bad"), KeyboardInterrupt()])
def test_nothing_is_left_of_what_failed(tmp_path: Path, error: BaseException) -> None:
    for force in (False, True):
        with pytest.raises(type(error)):
            write(tmp_path / "bundle", force, "new", error)
        assert os.listdir(tmp_path) == (["bundle"] if force else [])
        if not force:
            write(tmp_path / "bundle", False, "old")
    assert (tmp_path / "bundle" / MANIFEST).read_text() == "old"


def test_a_full_disk_is_an_error_about_the_bundle(tmp_path: Path) -> None:
    def fill(name: str) -> None:
        with new_folder(tmp_path / "bundle", False) as temporary:
            (temporary / "file").symlink_to("/dev/full")
            (temporary / name).write_text("a")

    for name, reason in (("file", "No space left on device"), ("no/file", "No such file or")):
        with pytest.raises(OSError, match=reason) as error:
            fill(name)
        assert error.value.filename == str(tmp_path / "bundle")
        assert not list(tmp_path.iterdir())


def test_a_bundle_is_replaced_only_when_it_is_said(tmp_path: Path) -> None:
    write(tmp_path / "bundle", False, "old")
    with pytest.raises(ConfigurationError, match=r"bundle' is already a bundle; --force replaces"):
        check_output(tmp_path / "bundle", False)
    check_output(tmp_path / "bundle", True)


@pytest.mark.parametrize("kind", ["file", "folder", "link", "dangling"])
def test_what_is_no_bundle_is_never_replaced(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "output"
    if kind == "file":
        path.write_text("a text")
    elif kind == "folder":
        path.mkdir()
    else:
        if kind == "link":
            write(tmp_path / "bundle", False, "old")
        path.symlink_to(tmp_path / "bundle")
    for force in (False, True):
        with pytest.raises(ConfigurationError, match=r"output' exists and is not a bundle; expect"):
            write(path, force, "new")
    assert os.path.lexists(path)


def test_two_exports_at_once(tmp_path: Path) -> None:
    """The second finds what the first has written meanwhile."""
    with (
        pytest.raises(ConfigurationError, match="is already a bundle"),
        new_folder(tmp_path / "bundle", False),
    ):
        write(tmp_path / "bundle", False, "old")
    assert os.listdir(tmp_path) == ["bundle"]
    assert (tmp_path / "bundle" / MANIFEST).read_text() == "old"


def test_a_place_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("a text")
    with pytest.raises(ConfigurationError, match=r"'.*' cannot be written: (Not a|File exists)"):
        write(tmp_path / "file" / "bundle", False, "new")
