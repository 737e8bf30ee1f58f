from pathlib import Path
from typing import Any, Dict, List

import pytest

from allencv.classify.partial_output import UnfinishedRun, file_stamp
from allencv.runtime.errors import InputError
from allencv.runtime.image_files import ImageFile

HEADER = {"model": "abc", "--top-k": 2, "thresholds": None}


@pytest.fixture
def images(tmp_path: Path) -> List[ImageFile]:
    files = [tmp_path / f"{name}.jpg" for name in "abcd"]
    for file in files:
        file.write_text(file.name)
    return [ImageFile(file.name, str(file)) for file in files]


def record(image: ImageFile, **answer: Any) -> Dict[str, Any]:
    return {"path": image.name, "stamp": file_stamp(image.file), **answer}


@pytest.fixture
def part(tmp_path: Path, images: List[ImageFile]) -> str:
    """Of a run that has answered for b and a, and could not for c."""
    unfinished = UnfinishedRun(str(tmp_path / "out.part"), HEADER, False)
    assert not any(map(unfinished.has, images))
    unfinished.add([record(images[1], label="B"), record(images[0], label="A")])
    unfinished.add([record(images[2], error="bad")])
    unfinished.close()
    return str(tmp_path / "out.part")


def test_a_run_goes_on(part: str, images: List[ImageFile]) -> None:
    unfinished = UnfinishedRun(part, HEADER, False)
    assert [unfinished.has(image) for image in images] == [True, True, False, False]
    unfinished.add([record(images[3], label="D"), record(images[2], label="C")])
    answers = list(unfinished.records(images))
    assert answers == [{"path": image.name, "label": image.name[0].upper()} for image in images]
    unfinished.remove()
    assert not Path(part).exists()


def test_an_image_that_has_changed_is_done_again(part: str, images: List[ImageFile]) -> None:
    Path(images[0].file).write_text("another")
    Path(images[1].file).unlink()
    unfinished = UnfinishedRun(part, HEADER, False)
    assert not any(map(unfinished.has, images))
    unfinished.close()


@pytest.mark.parametrize("left", [0, 1, 20])
def test_a_line_that_was_cut_is_dropped(part: str, images: List[ImageFile], left: int) -> None:
    data = Path(part).read_bytes()
    lines = data.splitlines(keepends=True)
    Path(part).write_bytes(b"".join(lines[:2]) + lines[2][:left])
    for _ in range(2):  # what is added follows a whole line
        unfinished = UnfinishedRun(part, HEADER, False)
        assert [unfinished.has(image) for image in images[:2]] == [_ == 1, True]
        unfinished.add([record(images[0], label="A")])
        unfinished.close()


@pytest.mark.parametrize("left", [0, 5])
def test_a_file_that_was_hardly_begun_begins_anew(part: str, left: int) -> None:
    whole = Path(part).read_bytes()
    Path(part).write_bytes(whole[:left])
    UnfinishedRun(part, HEADER, False).close()
    assert Path(part).read_bytes() == whole.splitlines(keepends=True)[0]


def test_another_run_is_refused_unless_it_is_to_restart(part: str, images: List[ImageFile]) -> None:
    before = Path(part).read_bytes()
    for header, reason in (
        ({**HEADER, "model": "abd"}, "has another model; "),
        ({**HEADER, "--top-k": 3, "model": "d"}, "has another model and has --top-k 2, not 3; "),
        ({"model": "abc"}, "is unknown here; "),
    ):
        with pytest.raises(InputError, match=f"of a run that {reason}.* or start .* --restart$"):
            UnfinishedRun(part, header, False)
        assert Path(part).read_bytes() == before
    unfinished = UnfinishedRun(part, {**HEADER, "model": "abd"}, True)
    assert not any(map(unfinished.has, images))
    unfinished.close()


def test_a_file_of_another_kind_is_kept(tmp_path: Path) -> None:
    (tmp_path / "out.part").write_text("somebody's text")
    with pytest.raises(InputError, match="is of a run that is unknown here"):
        UnfinishedRun(str(tmp_path / "out.part"), HEADER, False)
    with pytest.raises(InputError, match="is not a file of an interrupted run; expected another"):
        UnfinishedRun(str(tmp_path / "out.part"), HEADER, True)
    assert (tmp_path / "out.part").read_text() == "somebody's text"


def test_two_runs_do_not_write_the_same_file(part: str) -> None:
    pytest.importorskip("fcntl")
    first = UnfinishedRun(part, HEADER, False)
    before = Path(part).read_bytes()
    with pytest.raises(InputError, match=r"out.part' is being written by another run"):
        UnfinishedRun(part, HEADER, True)
    assert Path(part).read_bytes() == before
    first.close()
    UnfinishedRun(part, HEADER, False).close()
