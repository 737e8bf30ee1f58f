import json
import re
from pathlib import Path
from typing import List, Optional, Tuple

import pytest
from allennlp.common.checks import ConfigurationError

import allencv.plugin  # noqa: F401
from allencv.catalogue import Mistake, check_file
from tests.experiments import experiment
from tests.recipes import CONFIGS, external_variables

VARIABLES = {"NETWORK": "small", "EPOCHS": "2", "WEIGHTS": "null"}


@pytest.mark.parametrize("file", CONFIGS, ids=lambda file: file.stem)
def test_the_shipped_configs_have_no_mistakes(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in external_variables(file):
        monkeypatch.setenv(name, VARIABLES.get(name, "no-such-folder"))
    assert [mistake.message for mistake in check_file(str(file))] == []


def written(folder: Path, text: str) -> str:
    file = folder / "config.jsonnet"
    file.write_text(text)
    return str(file)


def places(mistakes: List[Mistake]) -> List[Tuple[Optional[int], str]]:
    return [(mistake.line, mistake.key) for mistake in mistakes]


def test_a_change_of_a_shipped_config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (file,) = [file for file in CONFIGS if file.stem == "digits"]
    text = (
        file.read_text().replace('"one_cycle"', '"x"').replace("batch_size: 180", "batch_sise: 1")
    )
    number = 1 + text[: text.index("batch_sise")].count("\n")
    monkeypatch.setenv("DATA", "data")
    assert places(check_file(written(tmp_path, text))) == [
        (number, "validation_data_loader.batch_sise")
    ]


def test_every_misspelt_key_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With its line; that of the object around it if it is the "type" that is missing then."""
    (file,) = [file for file in CONFIGS if file.stem == "digits"]
    monkeypatch.setenv("DATA", "data")
    lines = file.read_text().splitlines()
    count = 0
    for number, line in enumerate(lines, start=1):
        code = line.split("//")[0]
        for key in re.finditer(r"\b\w+(?=:)", code):
            misspelt = f"{line[: key.end()]}x{line[key.end() :]}"
            text = "\n".join([*lines[: number - 1], misspelt, *lines[number:]])
            mistakes = check_file(written(tmp_path, text))
            at_type = key[0] == "type" and all("lacks type" in each.message for each in mistakes)
            assert mistakes, misspelt
            assert at_type or number in {each.line for each in mistakes}, misspelt
            count += 1
    assert count > 30


def test_syntax(tmp_path: Path) -> None:
    (mistake,) = check_file(written(tmp_path, "{\n  a: 1\n  b: 2,\n}\n"))
    assert (mistake.kind, mistake.line) == ("jsonnet", 3)
    assert mistake.message == "expected a comma before next field."


def test_what_cannot_be_evaluated(tmp_path: Path) -> None:
    (mistake,) = check_file(written(tmp_path, "local x = { a: 1 };\n{\n  b: x.b,\n}\n"))
    assert (mistake.kind, mistake.line) == ("jsonnet", 3)
    assert mistake.message == "field does not exist: b"
    (mistake,) = check_file(written(tmp_path, '{\n  a: import "no-such-file",\n}\n'))
    assert mistake.line == 2
    assert "no-such-file" in mistake.message


def test_variables_that_are_not_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SET", "1")
    for name in ("FIRST", "SECOND"):
        monkeypatch.delenv(name, raising=False)
    text = (
        'local first = std.extVar("FIRST");\n// std.extVar("COMMENT")\n'
        "{ a: std.extVar('SECOND'), b: std.extVar(\"SET\"), c: first }\n"
    )
    first, second = check_file(written(tmp_path, text))
    assert (first.line, second.line) == (1, 3)
    assert first.message.startswith("the variable FIRST is not set; expected it before the command")
    assert "SECOND" in second.message


def test_overrides(tmp_path: Path) -> None:
    config = written(tmp_path, json.dumps(experiment(tmp_path), indent=2))
    assert check_file(config, '{"trainer.num_epochs": 1}') == []
    mistakes = check_file(config, '{"trainer.num_epochs": "1", "model": {"type": "x"}}')
    assert places(mistakes) == [(None, "model.type"), (None, "trainer.num_epochs")]
    assert mistakes[1].message == 'trainer.num_epochs is "1"; expected int'


@pytest.mark.parametrize(
    "overrides", ["nonsense", "[1]", '{"trainer.num_epochs.deeper": 1}', '{"a.b.c": 1}']
)
def test_overrides_that_do_not_fit(overrides: str, tmp_path: Path) -> None:
    config = written(tmp_path, json.dumps(experiment(tmp_path)))
    with pytest.raises(ConfigurationError, match="--overrides is '.*', which does not fit"):
        check_file(config, overrides)


def test_no_such_file(tmp_path: Path) -> None:
    for path in (tmp_path / "none.jsonnet", tmp_path):
        with pytest.raises(ConfigurationError, match=f"CONFIG is '{path}'; expected the path of"):
            check_file(str(path))
