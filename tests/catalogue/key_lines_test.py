from typing import Any

import pytest

from allencv.catalogue.key_lines import find_fields, line_of

SOURCE = """\
local data = std.extVar("DATA");  // { a: 1 }
local reader(transforms) = {
  type: "folder",  # a comment: with a colon
  transforms: transforms,
};
local operation = { type: "apply", p: 0.5 };
{
  local hidden = 3,
  dataset_reader: reader([
    { type: "crop", size: 1 },
    { type: "flip" }, operation,
  ]),
  "validation_dataset_reader": reader([{ 'type': "eval", size: 3 + 4 }]),
  text: ||| it: { is: 1 }
  |||,
  trainer+: { /* callbacks: [] */
    optimizer:: { type: "adam", lr: 1e-3 },
    scheduler: { type: "adam" },
  },
}
"""
CONFIG = {
    "dataset_reader": {
        "type": "folder",
        "transforms": [{"type": "crop", "size": 1}, {"type": "flip"}, {"type": "apply", "p": 0.5}],
    },
    "validation_dataset_reader": {"type": "folder", "transforms": [{"type": "eval", "size": 7}]},
    "text": "it: { is: 1 }\n",
    "trainer": {"optimizer": {"type": "adam", "lr": 0.001}, "scheduler": {"type": "adam"}},
}


@pytest.mark.parametrize(
    ("path", "line"),
    [
        (("dataset_reader",), 9),
        (("dataset_reader", "type"), 3),
        (("dataset_reader", "transforms"), 4),
        (("dataset_reader", "transforms", 0, "type"), 10),
        (("dataset_reader", "transforms", 0, "size"), 10),
        (("dataset_reader", "transforms", 1), 11),
        (("dataset_reader", "transforms", 1, "type"), 11),
        (("dataset_reader", "transforms", 2, "type"), 6),
        (("dataset_reader", "transforms", 2, "p"), 6),
        (("validation_dataset_reader", "transforms", 0, "size"), 13),
        (("validation_dataset_reader", "transforms", 0, "type"), 13),
        (("trainer", "optimizer", "type"), 17),
        (("trainer", "scheduler", "type"), 18),
        (("trainer", "optimizer", "momentum"), 17),  # missing: where it should stand
        (("trainer", "num_epochs"), 16),
        (("trainer", "optimizer", "schedule", "type"), 17),
        (("dataset_reader", "transforms", 1, "p"), 11),
        (("dataset_reader", "transforms", 2), 6),
        (("model", "type"), None),
        (("model",), None),
        (("is",), None),
        (("callbacks",), None),
        (("a",), None),
    ],
)
def test_lines_of_keys(path: Any, line: Any) -> None:
    assert line_of(path, CONFIG, find_fields(SOURCE)) == line


def test_a_place_that_is_not_certain_has_no_line() -> None:
    source = "local a = { p: x };\nlocal b = { p: y };\n{ first: a, second: b }\n"
    config = {"first": {"p": 1}, "second": {"p": 2}}
    assert line_of(("second", "p"), config, find_fields(source)) is None
    values = source.replace("x", "1").replace("y", "2")
    assert line_of(("second", "p"), config, find_fields(values)) == 2
    assert line_of(("first", "p"), config, find_fields(values)) == 1
