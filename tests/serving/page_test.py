"""The page in a real browser. Skipped where there is no Chromium or no playwright."""

import base64
import csv
import io
import json
import re
from pathlib import Path
from typing import Any, Dict, Iterator, List

import pytest

from tests.runtime.tiny_bundle import write_bundle
from tests.serving.conftest import COLORS, MIXED, Running, Serve, file_of, photo, serving, square

api = pytest.importorskip("playwright.sync_api")
CHROMIUM = Path("/usr/bin/chromium")
ARGUMENTS = [
    "--no-sandbox",
    "--disable-dev-shm-usage",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
pytestmark = [
    pytest.mark.skipif(not CHROMIUM.exists(), reason="there is no chromium"),
    pytest.mark.slow,
]

EXPECTED = re.compile("status of 4|ERR_FAILED")
"""What the browser logs of requests that are refused, or that a test lets fail."""

DROP = """(content) => {
  const bytes = Uint8Array.from(atob(content), (each) => each.charCodeAt(0));
  const data = new DataTransfer();
  data.items.add(new File([bytes], "NAME.jpg", {type: "image/jpeg"}));
  const event = {bubbles: true, cancelable: true};
  document.body.dispatchEvent(EVENT);
}"""
EVENTS = {
    "drop": 'new DragEvent("drop", {...event, dataTransfer: data})',
    "paste": 'new ClipboardEvent("paste", {...event, clipboardData: data})',
}


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=str(CHROMIUM), args=ARGUMENTS)
        yield browser
        browser.close()


@pytest.fixture
def page(browser: Any, server: Running) -> Iterator[Any]:
    """The page, open. Nothing may go wrong in it, and nothing may be asked of another host."""
    context = browser.new_context(viewport={"width": 1000, "height": 900})
    page = context.new_page()
    wrong: List[str] = []
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on(
        "console",
        lambda message: (
            wrong.append(message.text)
            if message.type == "error" and not EXPECTED.search(message.text)
            else None
        ),
    )
    page.on(
        "request",
        lambda request: (
            None
            if request.url.startswith((server.url, "blob:", "data:"))
            else wrong.append(request.url)
        ),
    )
    page.goto(server.url)
    page.locator("#model", has_text="colours").wait_for()
    yield page
    assert not wrong
    context.close()


def wait_for_status(page: Any, text: str) -> None:
    """Wait until the status line holds the text. `expect` looks for it less often."""
    page.locator("#status", has_text=text).wait_for()


def labels_of(page: Any) -> List[str]:
    return page.locator(".label .name").all_inner_texts()


def upload(label: str, name: str = "") -> Dict[str, Any]:
    return {
        "name": name or f"{label}.jpg",
        "mimeType": "image/jpeg",
        "buffer": file_of(photo(label, (300, 200))),
    }


def test_pick(page: Any) -> None:
    page.set_input_files("#files", [upload(label) for label in COLORS])
    wait_for_status(page, "3 images done.")
    cards = page.locator(".card")
    assert labels_of(page) == list(COLORS)
    assert re.fullmatch(r"red 9\d\.\d%", cards.first.locator(".label").inner_text())
    assert cards.locator(".file").all_inner_texts() == [f"{label}.jpg" for label in COLORS]
    bars = cards.first.locator(".bars li")
    assert bars.count() == 3
    assert bars.first.inner_text().split()[0] == "red"
    assert bars.first.locator(".number").inner_text().endswith("%")
    widths = [bar.bounding_box()["width"] for bar in cards.first.locator(".fill").all()]
    assert widths[0] > 10 * widths[1]
    assert "answered in" in cards.first.locator(".time").inner_text()
    natural = "(image) => [image.complete, image.naturalWidth]"
    assert cards.first.locator("img").evaluate(natural) == [True, 300]


def test_drift_is_linked_only_for_a_calibrated_model(page: Any) -> None:
    page.locator("#about:not([hidden])").wait_for()
    links = [link.inner_text() for link in page.locator("footer a").all() if link.is_visible()]
    assert links == ["API"]


def test_a_calibrated_model(browser: Any, calibrated: Path) -> None:
    """It says in words what was decided, and why, and what it promises."""
    wrong: List[str] = []
    with serving(calibrated) as running:
        page = browser.new_context(accept_downloads=True).new_page()
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.goto(running.url)
        files = [
            {"name": f"{name}.png", "mimeType": "image/png", "buffer": square(name)}
            for name in MIXED
        ]
        page.set_input_files("#files", [*files, upload("red")])
        wait_for_status(page, "4 images done.")
        titles = page.locator(".card .label").all_inner_texts()
        assert titles[:3] == ["Unknown", "Ask a person", "red or green"]
        assert titles[3].startswith("red 9")
        assert page.locator(".card .note").all_inner_texts() == [
            "The image is unlike the training images. Most likely: red.",
            "Most likely: red. The confidence is below 70%; from there on, 99% of the answers are "
            "right.",
            "The right label is in such a set for 95% of the images.",
            "",
        ]
        page.click("#grid")
        notes = page.locator(".card .note")
        assert [note.is_visible() for note in notes.all()] == [True, True, False, False]
        tooltips = [each.get_attribute("title") for each in page.locator(".card .label").all()]
        assert tooltips[:3] == [
            f"{title}. {why}" for title, why in zip(titles, notes.all_text_contents()[:3])
        ]
        page.click("#list")
        chosen = [card.locator(".chosen").count() for card in page.locator(".card").all()]
        assert chosen == [0, 0, 2, 1]
        counts = page.locator("#counts button").all_inner_texts()
        assert [" ".join(each.split()) for each in counts] == [
            *("All 4", "red 2", "Ask a person 1", "Unknown 1")
        ]
        page.click("#promises summary")
        promises = page.locator("#promises li")
        assert promises.first.inner_text().startswith("Set of labels: for 95% of the images")
        with page.expect_download() as download:
            page.click("#save")
        text = Path(download.value.path()).read_text("utf-8-sig")
        rows = {row["path"]: row for row in csv.DictReader(io.StringIO(text))}
        assert list(rows["gold.png"])[:6] == [
            *("path", "label", "probability", "labels", "is_unknown", "is_answered")
        ]
        assert rows["gold.png"]["labels"] == "red|green"
        assert (rows["grey.png"]["is_unknown"], rows["grey.png"]["is_answered"]) == (
            "true",
            "false",
        )
        assert page.locator("footer a", has_text="Drift").is_visible()
        page.goto(f"{running.url}/docs")
        page.locator("#answer", has_text='"is_answered": true').wait_for()
    assert not wrong


def test_drop_and_paste(page: Any) -> None:
    for kind, event in EVENTS.items():
        code = DROP.replace("EVENT", event).replace("NAME", kind)
        page.evaluate(code, base64.b64encode(file_of(photo("green"))).decode())
        wait_for_status(page, f"{kind}.jpg: green, ")
        assert labels_of(page)[0] == "green"


BROKEN = {
    "empty.jpg": (b"", "The file is empty."),
    "page.jpg": (b"<html>", "This is not a supported image."),
    "cut.jpg": (file_of(photo("red"))[:-200], "The file is damaged or was cut short."),
    "large.jpg": (bytes(1_100_000), "The file is too large."),
}


def test_errors_in_words(page: Any) -> None:
    for name, (content, words) in BROKEN.items():
        page.set_input_files("#files", {"name": name, "mimeType": "image/jpeg", "buffer": content})
        wait_for_status(page, f"{name}: {words}")
        card = page.locator(".card").first  # the newest
        assert words in card.locator(".error").inner_text()
        assert card.locator(".label").inner_text() == "No answer"
        assert card.locator(".again").is_hidden()


def test_one_bad_file_among_others(page: Any) -> None:
    broken = {"name": "text.jpg", "mimeType": "image/jpeg", "buffer": b"text"}
    page.set_input_files("#files", [upload("red"), broken, upload("blue")])
    wait_for_status(page, "3 images done, 1 failed.")
    assert labels_of(page) == ["red", "blue"]
    assert page.locator(".card").nth(1).locator(".label").inner_text() == "No answer"


def test_a_server_that_is_gone_and_comes_back(page: Any) -> None:
    page.route("**/predict", lambda route: route.abort())
    page.set_input_files("#files", upload("blue"))
    api.expect(page.locator(".error")).to_have_text("The server cannot be reached.")
    page.unroute("**/predict")
    page.locator(".again").click()
    api.expect(page.locator(".label .name")).to_have_text("blue")
    assert page.locator(".error").inner_text() == ""


def test_a_busy_server_is_asked_again(page: Any) -> None:
    answers = iter([429, 429])

    def busy(route: Any) -> None:
        if (status := next(answers, None)) is None:
            route.continue_()
            return
        error = {"error": {"code": "overloaded", "message": "busy"}}
        route.fulfill(status=status, json=error, headers={"Retry-After": "0.01"})

    page.route("**/predict", busy)
    page.set_input_files("#files", upload("green"))
    api.expect(page.locator(".label .name")).to_have_text("green")
    assert next(answers, None) is None


def test_what_is_cleared_away_is_asked_no_more(page: Any) -> None:
    gone: List[str] = []
    page.on("requestfailed", lambda request: gone.append(request.failure))
    page.route("**/predict", lambda route: None)  # no answer comes
    page.set_input_files("#files", [upload(label) for label in COLORS])
    wait_for_status(page, "0 of 3 images done …")
    page.locator("#clear").click()
    api.expect(page.locator("#status")).to_have_text("")
    page.unroute("**/predict")
    page.set_input_files("#files", upload("blue"))
    api.expect(page.locator(".label .name")).to_have_text("blue")
    assert gone == ["net::ERR_ABORTED"] * 3


def test_a_model_that_gives_any_number_of_labels(
    browser: Any, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """The bars of all labels that an image has stand out, and a black image has none."""
    bundle = write_bundle(tmp_path_factory.mktemp("several") / "colours", thresholds=[0.9] * 3)
    with serving(bundle, "--workers", 1) as running:
        page = browser.new_page()
        page.goto(running.url)
        violet = photo("red").convert("RGB")
        violet.putdata([(230, 20, 230)] * (60 * 40))
        black = photo("red").point(lambda value: 0)
        for name, image in (("violet.png", violet), ("black.png", black)):
            file = {"name": name, "mimeType": "image/png", "buffer": file_of(image, "PNG")}
            page.set_input_files("#files", file)
            wait_for_status(page, f"{name}: ")
        last, first = page.locator(".card").all()
        assert first.locator(".label .name").all_inner_texts() == ["red", "blue"]
        assert first.locator(".chosen .name").all_inner_texts() == ["red", "blue"]
        shares = """(track) => {
          const [fill, tick] = track.children;
          return [parseFloat(fill.style.width), parseFloat(tick.style.left)];
        }"""
        for bar in first.locator("li").all():
            width, tick = bar.locator(".track").evaluate(shares)
            assert tick == 90
            assert (width > tick) == (bar.get_attribute("class") == "chosen")
        assert last.locator(".label").inner_text() == "None of the labels"
        assert last.locator(".chosen").count() == 0
        page.close()


def test_names_are_text(page: Any) -> None:
    name = "<img src=x onerror=alert(1)>.jpg"
    page.set_input_files("#files", upload("red", name))
    api.expect(page.locator(".card .file")).to_have_text(name)
    assert page.locator(".card .file img").count() == 0


def test_by_keyboard(page: Any) -> None:
    page.on("filechooser", lambda chooser: None)  # from now on, no window of the system opens
    page.keyboard.press("Tab")
    focused = "document.activeElement.id || document.activeElement.textContent"
    assert page.evaluate(focused) == "files"
    outline = "getComputedStyle(document.getElementById('drop')).outlineStyle"
    assert page.evaluate(outline) == "solid"  # where one is can be seen
    with page.expect_file_chooser() as chooser:
        page.keyboard.press("Enter")
    chooser.value.set_files([upload("red")])
    api.expect(page.locator(".label .name")).to_have_text("red")
    for expected in ("example", "clear"):
        page.keyboard.press("Tab")
        assert page.evaluate(focused) == expected
    page.keyboard.press("Enter")
    assert page.locator(".card").count() == 0
    assert page.evaluate(focused) == "files"  # the focus is not lost with the button


def test_for_a_screen_reader(page: Any) -> None:
    page.set_input_files("#files", upload("red"))
    api.expect(page.get_by_role("status")).to_have_text(re.compile(r"^red.jpg: red, \d+\.\d%\.$"))
    button = page.get_by_role("button", name="Choose images")
    assert button.get_attribute("aria-describedby") == "hint"
    assert (
        page.get_by_role("list", name="Results").get_by_role("heading").inner_text()[:4] == "red "
    )
    assert page.locator("html").get_attribute("lang") == "en"
    assert page.get_by_role("heading", level=1).inner_text() == "Classify images"
    hidden = [each.get_attribute("aria-hidden") for each in page.locator(".track").all()]
    assert hidden == ["true"] * 3  # the numbers beside them say the same


CONTRAST = """() => {
  const channel = (value) => value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4;
  const luminance = (color) => {
    const [r, g, b] = color.match(/[0-9.]+/g).map((each) => channel(each / 255));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const behind = (element) => {
    const color = getComputedStyle(element).backgroundColor;
    return /, 0\\)/.test(color) ? behind(element.parentElement) : color;
  };
  return [...document.querySelectorAll("h1, h2, p, span, label, button, a, summary")]
    .filter((element) => element.checkVisibility() && element.textContent.trim())
    .map((element) => {
      const pair = [luminance(getComputedStyle(element).color), luminance(behind(element))];
      return [(Math.max(...pair) + 0.05) / (Math.min(...pair) + 0.05), element.textContent];
    });
}"""


def test_text_can_be_read(page: Any) -> None:
    """The contrast that WCAG 2 asks of text, 4.5 to 1, in both colour schemes."""
    page.emulate_media(reduced_motion="reduce")
    broken = {"name": "text.jpg", "mimeType": "image/jpeg", "buffer": b"text"}
    page.set_input_files("#files", [upload("red"), broken])
    wait_for_status(page, "2 images done")
    transition = "getComputedStyle(document.getElementById('drop')).transitionProperty"
    assert page.evaluate(transition) == "none"
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
        contrasts = page.evaluate(CONTRAST)
        assert len(contrasts) > 15
        assert [each for each in contrasts if each[0] < 4.5] == [], scheme
        dark = page.evaluate("getComputedStyle(document.body).backgroundColor").split("(")[1]
        assert (int(dark.split(",")[0]) < 100) == (scheme == "dark")


def test_on_a_phone(page: Any) -> None:
    page.set_viewport_size({"width": 360, "height": 740})
    long = upload("blue", "a_name_without_any_place_to_break_it_" * 4 + ".jpg")
    page.set_input_files("#files", [upload("red"), long])
    wait_for_status(page, "2 images done.")
    assert page.evaluate("document.documentElement.scrollWidth") == 360
    for button in page.locator("button:visible, #drop").all():
        assert button.bounding_box()["height"] >= 44  # what a finger can hit
    assert page.locator("#clear").bounding_box()["height"] < 50  # its text is in one line


def test_the_api_page(page: Any, server: Running) -> None:
    page.get_by_role("link", name="API").click()
    api.expect(page.locator("#routes .route").last).to_be_visible()
    text = page.locator("main").inner_text()
    assert f"curl -F file=@photo.jpg {server.url}/predict" in text
    for route in ("POST /predict", "GET /labels", "GET /healthz", "GET /readyz", "GET /metrics"):
        assert route in text
    assert '"label": "red"' in text  # in the example of an answer
    assert "?top_k=" in text
    assert "429" in text
    assert f"curl --data-binary @photo.jpg -H 'Content-Type: image/jpeg' {server.url}" in text
    assert "the image itself" in text


def test_below_a_root_path(serve: Serve, browser: Any) -> None:
    """As a proxy shows it that passes the path on. The address without a slash leads there too."""
    with serve("--root-path", "/pets", "--workers", 1) as running:
        page = browser.new_page()
        page.goto(f"{running.url}/pets")
        page.set_input_files("#files", [upload("red")])
        wait_for_status(page, "red")
        page.get_by_role("link", name="API").click()
        api.expect(page.locator("#routes .route").last).to_be_visible()
        assert f"{running.url}/pets/predict" in page.locator("main").inner_text()
        page.close()


def test_labels_are_shown(page: Any) -> None:
    page.get_by_text("Labels (3)").click()
    assert page.locator("#labels li").all_inner_texts() == ["red", "green", "blue"]


def test_many_images(page: Any) -> None:
    """As a grid, with their counts by label, and as the table that `allencv classify` writes."""
    broken = {"name": 'a "text", not an image.jpg', "mimeType": "image/jpeg", "buffer": b"text"}
    page.set_input_files("#files", [upload("red"), upload("blue")])
    wait_for_status(page, "2 images done.")
    assert page.locator("#list").get_attribute("aria-pressed") == "true"
    names = [f"red{number}.jpg" for number in range(6)]
    page.set_input_files("#files", [*(upload("red", name) for name in names), broken])
    wait_for_status(page, "7 images done, 1 failed.")
    assert page.locator("#grid").get_attribute("aria-pressed") == "true"
    assert not page.locator(".bars").first.is_visible()
    cards = [card.bounding_box() for card in page.locator(".card").all()[:2]]
    assert cards[0]["y"] == cards[1]["y"]  # beside each other
    counts = page.locator("#counts button")
    assert counts.all_text_contents() == ["All 9", "red 7", "blue 1", "No answer 1"]
    counts.nth(2).click()
    assert page.locator(".card:visible .file").all_inner_texts() == ["blue.jpg"]
    assert page.evaluate("document.activeElement.dataset.label") == "blue"
    with page.expect_download() as download:
        page.get_by_role("button", name="Download CSV").click()
    text = download.value.path().read_text(encoding="utf-8-sig")
    rows = list(csv.DictReader(io.StringIO(text)))
    assert list(rows[0]) == [
        *("path", "label", "probability", "label_2", "probability_2"),
        *("label_3", "probability_3", "error"),
    ]
    assert [row["path"] for row in rows] == [*names, broken["name"], "red.jpg", "blue.jpg"]
    assert [row["label"] for row in rows] == ["red"] * 6 + ["", "red", "blue"]
    assert 0.9 < float(rows[0]["probability"]) < 1
    assert rows[6]["error"].startswith("This is not a supported image.")
    page.locator("#list").click()
    page.locator("#counts button").first.click()
    assert page.locator(".bars:visible").count() == 8


def test_many_and_long_labels(browser: Any, tmp_path: Path) -> None:
    """No label of a hundred is probable, so that none is a headline in bold."""
    labels = [f"label_{number}_" * (20 if number < 4 else 1) for number in range(100)]
    with serving(write_bundle(tmp_path / "many", labels), "--workers", 1) as running:
        page = browser.new_page(viewport={"width": 390, "height": 800})
        page.goto(running.url)
        page.set_input_files("#files", [upload("red"), upload("blue")])
        wait_for_status(page, "2 images done.")
        title = page.locator(".label").first
        assert title.evaluate("(each) => getComputedStyle(each).fontWeight") == "400"
        assert "no label reaches 50%" in page.locator(".note").first.inner_text()
        page.get_by_text("Labels (100)").click()
        assert page.evaluate("document.documentElement.scrollWidth") == 390
        page.close()


def test_an_example(page: Any) -> None:
    """The page draws it. The greenest part of it is a meadow."""
    page.get_by_role("button", name="Try an example").click()
    wait_for_status(page, "drawn_example.png: green, ")


def test_a_camera_where_there_is_a_finger(browser: Any, server: Running) -> None:
    context = browser.new_context(has_touch=True, is_mobile=True)
    page = context.new_page()
    page.goto(server.url)
    assert page.locator("#hint").inner_text() == "from this device"
    assert page.locator("#take").is_visible()
    page.set_input_files("#camera", [upload("red")])
    wait_for_status(page, "red.jpg: red, ")
    context.close()


def test_the_favicon(page: Any, server: Running) -> None:
    for path in ("", "docs"):
        page.goto(f"{server.url}/{path}")
        address = page.locator("link[rel=icon]").evaluate("(link) => link.href")
        assert page.evaluate(
            """(source) => new Promise((resolve) => {
              const image = new Image();
              image.onload = () => resolve(true);
              image.onerror = () => resolve(false);
              image.src = source;
            })""",
            address,
        )


def test_try_the_api(page: Any, server: Running) -> None:
    page.context.grant_permissions(["clipboard-read", "clipboard-write"], origin=server.url)
    page.goto(f"{server.url}/docs")
    page.locator("#routes .route").last.wait_for()
    send = page.get_by_role("button", name="Send", exact=True)
    for label, name in (("green", "drawn_example.png"), ("red", "red.jpg")):
        if label == "red":
            page.set_input_files("#try [type=file]", [upload("red")])
        page.get_by_label("Labels to list").fill("2")
        send.click()
        page.locator("#outcome pre", has_text=name).wait_for()
        (prediction,) = json.loads(page.locator("#outcome pre").inner_text())["predictions"]
        assert (prediction["label"], len(prediction["top_k"])) == (label, 2)
    page.get_by_role("button", name="Send GET /readyz").click()
    page.locator("#routes pre", has_text='"ready"').wait_for()
    page.locator("#body button").click()
    api.expect(page.locator("#body button")).to_have_text("Copied")
    command = page.evaluate("navigator.clipboard.readText()")
    assert command.startswith("curl --data-binary @photo.jpg")
    assert command.endswith(f"{server.url}/predict")


def test_the_commands_are_not_cut(page: Any, server: Running) -> None:
    page.set_viewport_size({"width": 390, "height": 800})
    page.goto(f"{server.url}/docs")
    page.locator("#routes .route").last.wait_for()
    for box in page.locator("main pre").all():
        assert box.evaluate("(each) => each.scrollWidth <= each.clientWidth")
    assert page.evaluate("document.documentElement.scrollWidth") == 390


def test_drift_on_a_phone(page: Any, server: Running) -> None:
    drift = {
        "images_in_window": 250,
        "windows": 24,
        "pending_images": 3,
        "alarms": 1,
        "is_alarm": False,
        "comparisons": [
            {"windows": 1, "of": "labels", "distance": 0.1, "p_value": 0.4, "is_alarm": False}
        ],
        "labels": ["cat", "automobile"],
        "counts": {
            "scores": {"calibration": [10, 10, 10], "recent": [5, 5, 20]},
            "labels": {"calibration": [15, 15], "recent": [20, 10]},
        },
    }
    page.route("**/drift.json", lambda route: route.fulfill(json=drift))
    page.set_viewport_size({"width": 390, "height": 800})
    page.goto(f"{server.url}/drift")
    page.locator("#state", has_text="6,003 images").wait_for()
    state = page.locator("#state").inner_text()
    assert state.endswith("do not differ clearly from those of the calibration; 1 earlier alarm.")
    assert page.locator(".kept").all_inner_texts() == ["last 30 images", "last 30 images"]
    assert page.locator("#labels tbody .number").all_inner_texts() == [
        *("66.7%", "50.0%", "33.3%", "50.0%")
    ]
    rows = page.locator("#labels tbody th")
    assert rows.all_inner_texts() == ["cat", "automobile"]
    # Both names are in one line.
    first, second = (rows.nth(place).bounding_box()["height"] for place in range(2))
    assert first == second
    assert page.evaluate("document.documentElement.scrollWidth") == 390
