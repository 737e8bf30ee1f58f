from pathlib import Path
from typing import Any, List, Optional

import pytest

from allencv.data.corrections import LABEL, NONE, SKIP, read_corrections
from allencv.reviewing.session import AnsweredAlready, ReviewSession
from tests.reviewing.reviews import make_session


def place(session: ReviewSession) -> Optional[int]:
    image: Any = session.view()["image"]
    return None if image is None else image["place"]


def test_what_the_page_gets(tmp_path: Path) -> None:
    session = make_session(tmp_path)
    assert session.as_json() == {
        "name": "runs/pets",
        "labels": ["cat", "dog", "fox"],
        "multi_label": False,
        "file": str(tmp_path / "corrections.csv"),
    }
    assert session.view() == {
        "image": {
            "place": 0,
            "name": "new/000.jpg",
            "title": "The title of image 0",
            "reason": "The reason of image 0.",
            "labels": [0],
            "suggestion": [1],
            "top": [{"label": 1, "probability": 0.75}, {"label": 0, "probability": 0.2}],
            "similar": [{"place": 0, "labels": [0]}, {"place": 1, "labels": [1]}],
        },
        "next": 1,
        "answered": 0,
        "total": 4,
        "can_undo": False,
    }


def test_one_image_after_the_other(tmp_path: Path) -> None:
    session = make_session(tmp_path)
    session.answer(0, LABEL, [2])
    session.answer(1, SKIP, [])
    session.answer(2, NONE, [])
    assert (place(session), session.answered, session.left) == (3, 2, 2)
    session.answer(3, LABEL, [0])
    assert place(session) == 1  # the skipped one
    session.answer(1, SKIP, [])
    assert place(session) == 1
    session.answer(1, LABEL, [0])
    view = session.view()
    assert (view["image"], view["next"], view["answered"]) == (None, None, 4)
    saved = read_corrections(session.answers.path, "").of_images
    assert {Path(key).name: (each.labels, each.previous) for key, each in saved.items()} == {
        "000.jpg": (("fox",), ("cat",)),
        "001.jpg": (("cat",), None),
        "002.jpg": ((), None),
        "003.jpg": (("cat",), None),
    }


def test_undo_shows_the_image_again(tmp_path: Path) -> None:
    session = make_session(tmp_path)
    session.answer(0, LABEL, [0])
    session.answer(1, SKIP, [])
    for expected in (1, 0):
        assert session.undo()
        assert place(session) == expected
    assert not session.undo()
    assert session.answered == 0


def test_a_review_that_goes_on(tmp_path: Path) -> None:
    session = make_session(tmp_path)
    session.answer(0, SKIP, [])
    session.answer(1, LABEL, [0])
    session.answers.close()
    session = make_session(tmp_path)
    order: List[Optional[int]] = []
    while place(session) is not None:
        order.append(place(session))
        session.answer(order[-1] or 0, NONE, [])
    assert order == [2, 3, 0]


def test_an_image_is_answered_once(tmp_path: Path) -> None:
    session = make_session(tmp_path)
    session.answer(0, LABEL, [0])
    with pytest.raises(AnsweredAlready):
        session.answer(0, NONE, [])


def test_several_labels(tmp_path: Path) -> None:
    session = make_session(tmp_path, multi_label=True)
    session.answer(0, LABEL, [2, 0])
    session.answer(1, LABEL, [])
    saved = read_corrections(session.answers.path, "").of_images
    assert [each.labels for each in saved.values()] == [("cat", "fox"), ()]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((4, NONE, []), "image is 4; expected 0 to 3"),
        ((-1, NONE, []), "image is -1; expected 0 to 3"),
        ((0, LABEL, [3]), r"labels are \[3\]; expected 0 to 2"),
        ((0, LABEL, [0, 1]), r"labels are \[0, 1\]; expected one label"),
        ((0, LABEL, []), r"labels are \[\]; expected one label"),
        ((0, LABEL, [1, 1]), r"labels are \[1, 1\]; expected each once"),
        ((0, NONE, [1]), r"answer is none with labels \[1\]; expected no labels"),
    ],
)
def test_wrong_answers(tmp_path: Path, arguments: Any, message: str) -> None:
    session = make_session(tmp_path)
    with pytest.raises(ValueError, match=message):
        session.answer(*arguments)
    assert session.answered == 0
