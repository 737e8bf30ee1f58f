import json
import shutil
from pathlib import Path
from typing import List

import pytest

from allencv.runtime.errors import InputError
from tests.conftest import run_in_process


@pytest.fixture
def command(
    trained_run: Path, cats_and_dogs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> List[str]:
    """Arguments, for images in the working directory, with an empty cache beside them."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ALLENCV_FEATURES", str(tmp_path / "cache"))
    shutil.copytree(cats_and_dogs / "test", "photos")
    model = str(trained_run / "model.tar.gz")
    return ["search", model, "photos/Cat/000.jpg", "--in", "photos", "--device", "cpu"]


def test_it_prints_the_images(command: List[str], capsys: pytest.CaptureFixture) -> None:
    Path("photos/notes.txt").write_text("none")
    for name in "abcd":
        Path(f"photos/Cat/{name}.jpg").write_text("none")
    run_in_process(*command, "-n", "2")
    others, broken, *errors, query, first, second = capsys.readouterr().out.splitlines()
    assert others == "skipped files that are not images: 1 (photos/notes.txt ...)"
    assert broken == "images that cannot be compared: 4"
    assert [error.partition(":")[0] for error in errors] == [
        f"  photos/Cat/{name}.jpg" for name in "abc"
    ]
    assert query == "photos/Cat/000.jpg"
    assert first.split()[1:] == ["Cat", first.split()[2]]
    assert float(first.split()[0]) >= float(second.split()[0])


def test_it_writes_files(command: List[str], capsys: pytest.CaptureFixture) -> None:
    run_in_process(*command, "-n", "2", "-o", "out/page.html")
    assert capsys.readouterr().out == "out/page.html: 1 image compared with 8 images\n"
    assert Path("out/page.html").read_text().count("<img") == 3
    run_in_process(*command, "-o", "found.jsonl")
    (line,) = Path("found.jsonl").read_text().splitlines()
    assert len(json.loads(line)["similar"]) == 7


def test_other_outputs_are_refused_first(command: List[str]) -> None:
    for output in ("page.png", "."):
        with pytest.raises(InputError, match=r"--output is '.*'; expected a file whose name ends"):
            run_in_process("search", "nowhere", "a.jpg", "--in", "b", "-o", output)
