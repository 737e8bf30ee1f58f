"""The page in a real browser. Skipped where there is no Chromium or no playwright."""

from pathlib import Path
from typing import Any, Callable, Iterator, List

import pytest

from allencv.data.corrections import read_corrections
from allencv.reviewing.session import ReviewSession
from tests.reviewing.reviews import make_session, served

api = pytest.importorskip("playwright.sync_api")
CHROMIUM = Path("/usr/bin/chromium")
ARGUMENTS = ["--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu", "--no-first-run"]
pytestmark = [
    pytest.mark.skipif(not CHROMIUM.exists(), reason="there is no chromium"),
    pytest.mark.slow,
]
MANY = [f"{animal} {number}" for animal in ("tabby cat", "red fox", "owl") for number in range(300)]


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=str(CHROMIUM), args=ARGUMENTS)
        yield browser
        browser.close()


@pytest.fixture
def opened(browser: Any) -> Iterator[Callable[[ReviewSession], Any]]:
    """Open the page of a review. Nothing may go wrong in it, or be asked of another host."""
    wrong: List[str] = []
    closing: List[Any] = []

    def open_page(session: ReviewSession, width: int = 1000) -> Any:
        server = served(session)
        url = server.__enter__()
        context = browser.new_context(viewport={"width": width, "height": 844})
        closing.extend([context, server])
        page = context.new_page()
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on(
            "console",
            lambda message: (
                wrong.append(message.text)
                if message.type == "error" and "status of" not in message.text
                else None
            ),
        )
        page.on("request", lambda each: each.url.startswith(url) or wrong.append(each.url))
        page.goto(url)
        wait(page)
        return page

    yield open_page
    for each in closing:
        each.close() if hasattr(each, "close") else each.__exit__(None, None, None)
    assert not wrong


def wait(page: Any) -> None:
    """Wait until the page has the server's answer, and shows it."""
    page.locator("#image[aria-busy=false]").wait_for(state="attached")


def press(page: Any, *keys: str) -> None:
    """Press keys, each when the page has shown what the one before did."""
    for key in keys:
        page.keyboard.press(key)
        wait(page)


def answers(session: ReviewSession) -> List[Any]:
    saved = read_corrections(session.answers.path, "").of_images
    return [each.labels or each.answer for each in saved.values()]


def test_everything_with_the_keyboard(tmp_path: Path, opened: Callable) -> None:
    session = make_session(tmp_path)
    page = opened(session)
    assert page.inner_text("#title") == "The title of image 0"
    assert page.inner_text("#reason") == "The reason of image 0."
    press(page, "3", "Enter", "x", "u", "s")
    assert page.inner_text("#count") == "2 of 4 images answered"
    assert page.inner_text("#name") == "new/003.jpg"
    press(page, "1", "x")  # the last one, and the one that was skipped
    assert page.is_visible("#done")
    assert answers(session) == [("fox",), ("dog",), "none", ("cat",)]
    assert page.inner_text("#done code.file") == session.answers.path
    assert page.is_disabled("#accept")
    press(page, "u", "k")  # it has no label to keep
    assert page.inner_text("#name") == "new/002.jpg"


def test_the_label_in_the_data_can_be_kept(tmp_path: Path, opened: Callable) -> None:
    session = make_session(tmp_path)
    page = opened(session)
    assert page.inner_text("#choices li:nth-child(1)").split("\n")[1] == "cat in the data"
    press(page, "k")
    assert answers(session) == [("cat",)]
    assert page.is_hidden("#keep")


def test_the_mouse_does_not_take_the_enter_key(tmp_path: Path, opened: Callable) -> None:
    session = make_session(tmp_path)
    page = opened(session)
    page.click("#none")
    wait(page)
    press(page, "Enter")
    assert answers(session) == ["none", ("dog",)]


def test_several_labels_are_switched(tmp_path: Path, opened: Callable) -> None:
    session = make_session(tmp_path, multi_label=True)
    page = opened(session)
    assert page.inner_text("#accept span") == "Save: dog"
    press(page, "3", "1", "2")
    pressed = "#choices [aria-pressed=true]"
    assert [each.split("\n")[1] for each in page.locator(pressed).all_inner_texts()] == [
        "cat in the data",
        "fox",
    ]
    press(page, "Enter", "2", "Enter")
    assert answers(session)[0] == ("cat", "fox")
    saved = list(read_corrections(session.answers.path, "").of_images.values())
    assert (saved[1].answer, saved[1].labels) == ("label", ())


def test_one_of_many_labels_is_found_by_typing(tmp_path: Path, opened: Callable) -> None:
    session = make_session(tmp_path, MANY)
    page = opened(session)
    assert page.locator("#choices button").count() == 2
    press(page, "/", *"fox 12")
    assert page.inner_text("#choices li:first-child").split("\n")[0] == "red fox 12"
    assert page.inner_text("#more") == "11 of 900 labels; Enter takes the first"
    press(page, "Enter", "2")
    assert answers(session) == [("red fox 12",), ("tabby cat 0",)]
    press(page, "/", "z", "z", "Enter", "Escape", "Enter")
    assert answers(session)[2] == ("tabby cat 1",)


def test_another_window_and_an_error(tmp_path: Path, opened: Callable) -> None:
    session = make_session(tmp_path)
    page = opened(session)
    session.answer(0, "none", [])
    press(page, "3")
    assert "has an answer already" in page.inner_text("#error")
    assert page.inner_text("#name") == "new/001.jpg"
    Path(session.answers.path).write_text("")
    press(page, "3")
    assert "the answer was not saved" in page.inner_text("#error")
    assert page.inner_text("#name") == "new/001.jpg"


def test_a_phone(tmp_path: Path, opened: Callable) -> None:
    page = opened(make_session(tmp_path, MANY[:25]), width=390)
    assert page.evaluate("document.documentElement.scrollWidth") == 390
    sizes = page.evaluate(
        "[...document.querySelectorAll('button')].filter((each) => each.offsetParent)"
        ".map((each) => each.offsetHeight)"
    )
    assert min(sizes) >= 40
