import shutil
from pathlib import Path

from allencv.certainty.overlap import count_shared


def test_the_same_file_by_any_path(tmp_path: Path) -> None:
    names = []
    for name in "abc":
        (tmp_path / name).write_text(name)
        names.append(str(tmp_path / name))
    (tmp_path / "link").symlink_to(tmp_path / "a")
    assert count_shared(names, [str(tmp_path / "link")]) == 1
    assert count_shared(names, [f"{tmp_path}/../{tmp_path.name}/b", str(tmp_path / "c")]) == 2
    assert count_shared(names, []) == 0


def test_copies_count(tmp_path: Path) -> None:
    for name, text in {"a": "one", "b": "two", "c": "three"}.items():
        (tmp_path / name).write_text(text)
    shutil.copy(tmp_path / "a", tmp_path / "copy")
    names = [str(tmp_path / name) for name in "abc"]
    assert count_shared(names, [str(tmp_path / "copy")]) == 1
    (tmp_path / "copy").write_text("six")  # the same size, another content
    assert count_shared(names, [str(tmp_path / "copy")]) == 0


def test_names_that_are_no_files() -> None:
    assert count_shared(["a.tar/1", "a.tar/2"], ["a.tar/2", "b.tar/1"]) == 1
