import json

from allencv.features.search import Query, Search, SimilarImage
from allencv.reporting.search_text import as_json_lines, as_text

FOUND = Search(
    [
        Query(
            "a.jpg",
            "a.jpg",
            [
                SimilarImage("猫/1.jpg", "猫/1.jpg", "猫", 0.98765432),
                SimilarImage("d\x1b.jpg", "d\x1b.jpg", None, -0.5),
            ],
        ),
        Query("b.jpg", "b.jpg", [], "b.jpg: not an image"),
        Query("c.jpg", "c.jpg", [SimilarImage("x.jpg", "x.jpg", None, 1.0)]),
    ],
    2,
    {},
    [],
)


def test_a_table_for_each_image() -> None:
    assert as_text(FOUND) == (
        "a.jpg\n"
        "  0.988  猫  猫/1.jpg\n"
        " -0.500      d\\x1b.jpg\n"
        "\n"
        "b.jpg: not an image\n"
        "\n"
        "c.jpg\n"
        "  1.000  x.jpg"
    )


def test_a_line_of_json_for_each_image() -> None:
    first, second, third = map(json.loads, as_json_lines(FOUND).splitlines())
    assert first == {
        "path": "a.jpg",
        "similar": [
            {"path": "猫/1.jpg", "label": "猫", "similarity": 0.987654},
            {"path": "d\x1b.jpg", "label": None, "similarity": -0.5},
        ],
    }
    assert second == {"path": "b.jpg", "error": "b.jpg: not an image"}
    assert third["similar"][0]["similarity"] == 1
