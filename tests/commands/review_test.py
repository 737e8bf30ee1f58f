import shutil
from pathlib import Path
from typing import List

import pytest

from allencv.data.corrections import LABEL, SKIP, read_corrections
from allencv.reviewing import server
from allencv.reviewing.session import ReviewSession
from allencv.runtime.errors import InputError
from tests.conftest import run_in_process


@pytest.fixture
def command(
    trained_run: Path, cats_and_dogs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> List[str]:
    """Arguments, for images in the working directory, with an empty cache beside them."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ALLENCV_FEATURES", str(tmp_path / "cache"))
    shutil.copytree(cats_and_dogs / "test" / "Cat", "photos")
    model = str(trained_run / "model.tar.gz")
    return ["review", model, "photos", "-o", "out/corrections.csv", "--device", "cpu"]


def test_a_review_in_two_parts(
    command: List[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    Path("photos/notes.txt").write_text("none")
    Path("photos/broken.jpg").write_text("none")
    sessions: List[ReviewSession] = []

    def answer(session: ReviewSession, port: int) -> None:
        sessions.append(session)
        first, second, *_ = session._left
        session.answer(first, LABEL, [session.labels.index("fox")])
        session.answer(second, SKIP, [])

    monkeypatch.setattr(server, "serve_review", answer)
    run_in_process(*command, "--new-label", "fox")
    skipped, bad, reason, order, end = capsys.readouterr().out.splitlines()
    assert skipped == "skipped files that are not images: 1 (photos/notes.txt ...)"
    assert bad == "images that cannot be shown: 1"
    assert reason.startswith("  photos/broken.jpg: ")
    assert order == "In order: 0 images whose label may be wrong, 4 images without a label"
    assert end == "out/corrections.csv: 1 new answer, 3 images left"
    assert sessions[0].labels == ["Cat", "Dog", "fox"]

    run_in_process(*command, "--new-label", "fox")
    *_, before, end = capsys.readouterr().out.splitlines()
    assert before == "Answered before: 1 (in out/corrections.csv)"
    assert end == "out/corrections.csv: 1 new answer, 2 images left"
    saved = read_corrections("out/corrections.csv", "").of_images
    assert sorted(each.answer for each in saved.values()) == ["label", "label", "skip", "skip"]


def test_what_is_refused_first(command: List[str]) -> None:
    with pytest.raises(InputError, match=r"--output is 'c\.txt'; expected a file whose name ends"):
        run_in_process("review", "nowhere", "photos", "-o", "c.txt")
    with pytest.raises(InputError, match="nothing to review; expected images, or --labelled"):
        run_in_process("review", "nowhere", "-o", "c.csv")
    with pytest.raises(InputError, match="--new-label is empty; expected a label"):
        run_in_process("review", "nowhere", "photos", "-o", "c.csv", "--new-label", " ")
    with pytest.raises(InputError, match=r"'nowhere' gives no image"):
        run_in_process("review", "nowhere", "nowhere", "-o", "c.csv")
    with pytest.raises(InputError, match=r"--overrides is for a config, but DATA is 'photos'"):
        run_in_process(
            "review", "nowhere", "--labelled", "photos", "--overrides", "{}", "-o", "c.csv"
        )
    assert not Path("c.csv").exists()
