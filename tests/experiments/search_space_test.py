import json
from typing import Any

import pytest
from allennlp.common.checks import ConfigurationError

from allencv.experiments.search_space import as_text, search_space, value_at

pytest.importorskip("optuna")


def test_outer_keys_come_first() -> None:
    """So that a value of an inner key goes into the outer value."""
    space = {"a.b.c": {"uniform": [0, 1]}, "a": [{"b": {}}, {"b": {"d": 1}}]}
    assert [each.key for each in search_space(space)] == ["a", "a.b.c"]


@pytest.mark.parametrize(
    ("given", "value", "other"),
    [
        ([0, "x", {"type": "adamw", "lr": 1}], {"lr": 1, "type": "adamw"}, 1),
        ([True, False], False, 0),
        ({"uniform": [0, 0.5]}, 0, 0.6),
        ({"log_uniform": [1e-5, 1e-2]}, 1e-5, "1e-5"),
        ({"integer": [2, 8]}, 8, 2.5),
        ({"integer": [2, 8]}, 3, None),
    ],
)
def test_a_value_and_its_parameter(given: Any, value: Any, other: Any) -> None:
    (searched,) = search_space({"key": given})
    param = searched.param_of(value)
    assert param is not None
    assert searched.distribution()._contains(param)
    assert searched.value_of(param) == value
    assert searched.param_of(other) is None


def test_what_is_proposed_is_in_the_range() -> None:
    import optuna

    space = search_space(
        {"a": {"log_uniform": [1e-4, 1e-1]}, "b": {"integer": [1, 3]}, "c": [[1], [2]]}
    )
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    found = [study.ask({each.key: each.distribution() for each in space}) for _ in range(60)]
    values = {
        each.key: [each.value_of(trial.params[each.key]) for trial in found] for each in space
    }
    assert sum(1e-4 <= rate < 10**-2.5 for rate in values["a"]) in range(20, 41)  # a half
    assert set(values["b"]) == {1, 2, 3}
    assert {json.dumps(value) for value in values["c"]} == {"[1]", "[2]"}


@pytest.mark.parametrize(
    ("space", "message"),
    [
        ([], r"--space is \[\]; expected an object"),
        ({}, r"--space is {}; expected an object"),
        ({"a": 3}, r"--space: a is 3; expected a list of values, or one of {"),
        ({"a": {"normal": [0, 1]}}, "expected a list of values, or one of"),
        ({"a": {"uniform": [0, 1], "log": True}}, "expected a list of values, or one of"),
        ({"a": {"uniform": [0, 1, 2]}}, "expected a list of values, or one of"),
        ({"a": [5]}, r"a is \[5\]; expected two values or more. Set a single one with -o"),
        ({"a": [1, 2, 1]}, "with 1 twice; expected each value once"),
        ({"a": {"uniform": [0, "1"]}}, 'with the limit "1"; expected numbers'),
        ({"a": {"uniform": [False, True]}}, "with the limit false; expected numbers"),
        ({"a": {"integer": [0, 1.5]}}, "with the limit 1.5; expected integers"),
        ({"a": {"uniform": [1, 0]}}, "expected the lower limit first"),
        ({"a": {"integer": [1, 1]}}, "expected the lower limit first"),
        ({"a": {"log_uniform": [0, 1]}}, "expected limits above 0"),
    ],
)
def test_what_is_no_space(space: Any, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        search_space(space)


def test_a_value_of_a_config() -> None:
    config = {"a": [{"b": 1}, {"b": None}]}
    assert value_at(config, "a.0.b") == 1
    assert [value_at(config, key) for key in ("a.1.b", "a.2.b", "a.b", "a.0.b.c", "z")] == [
        None
    ] * 5


def test_values_in_a_table() -> None:
    values = [0.00012345678, 3, "max", True, {"type": "adamw"}]
    assert [as_text(value) for value in values] == [
        *("0.0001235", "3", "max", "true", '{"type": "adamw"}')
    ]
