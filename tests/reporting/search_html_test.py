import base64
import io
import re
from pathlib import Path

import pytest
from PIL import Image

from allencv.features.search import Query, Search, SimilarImage
from allencv.reporting.search_html import as_html
from tests.reporting.run_html_test import Page


@pytest.fixture
def found(tmp_path: Path) -> Search:
    red, blue, gone = (str(tmp_path / name) for name in ("red.png", "<b>blue.png", "gone.png"))
    Image.new("RGB", (400, 100), "red").save(red)
    Image.new("RGB", (10, 20), "blue").save(blue)
    similar = [
        SimilarImage(blue, blue, "<i>", 0.75),
        SimilarImage(gone, gone, None, 0.5),
        SimilarImage("red.png", red, None, 0.25),
    ]
    queries = [Query(red, red, similar), Query("c.jpg", "c.jpg", [], "c.jpg: not an image")]
    return Search(queries, 3, {str(number): f"{number}: empty" for number in range(201)}, [])


def test_the_page_shows_the_images(found: Search) -> None:
    html = as_html(found)
    page = Page(html)
    assert not page.open
    assert "The most similar of 3 images." in page.text
    for text in ("<i>, 0.750", "<b>blue.png", "0.500", "the file is gone", "c.jpg: not an image"):
        assert text in page.text
    assert "1 of 3 images shown here has no picture, because the file is no longer" in page.text
    assert f"was computed: {found.queries[0].similar[1].file}. If you moved" in page.text
    assert "Images that could not be compared (201) 0: empty" in page.text
    assert "199: empty and 1 more" in page.text
    assert [attributes["title"] for tag, attributes in page.tags if tag == "figure"] == [
        *(found.queries[0].path, *(each.path for each in found.queries[0].similar)),
    ]
    uris = re.findall(r'src="data:image/jpeg;base64,([^"]+)"', html)
    pictures = [Image.open(io.BytesIO(base64.b64decode(uri))) for uri in uris]
    assert [picture.size for picture in pictures] == [(200, 50), (100, 200), (200, 50)]
    red, green, blue = pictures[1].getpixel((5, 5))
    assert (red < 10, green < 10, blue > 245) == (True, True, True)


def test_without_errors_none_are_listed(found: Search) -> None:
    assert "could not be compared" not in as_html(found._replace(errors={}))


def test_pictures_of_moved_data_are_missed_on_the_page(found: Search, tmp_path: Path) -> None:
    (tmp_path / "red.png").rename(tmp_path / "moved.png")
    text = Page(as_html(found)).text
    assert "2 of 3 images shown here have no picture" in text
    assert "the folder in which it ran" in text
    (query, other) = found.queries
    whole = found._replace(queries=[query._replace(similar=query.similar[:1]), other])
    (tmp_path / "moved.png").rename(tmp_path / "red.png")
    assert "no picture" not in Page(as_html(whole)).text
