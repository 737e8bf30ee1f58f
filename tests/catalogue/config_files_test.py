import json
import logging
import os
import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import List, Optional, Tuple

import pytest
from allennlp.common.checks import ConfigurationError

import allencv.plugin  # noqa: F401
from allencv.catalogue import READER_KEYS, Mistake, check_file, read_config
from tests.configs import experiment
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


@pytest.mark.slow
def test_every_misspelt_key_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Once, with its line. Its nearest name stands for it in the rest of the config."""
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
            assert [each.line for each in mistakes] == [number], (misspelt, mistakes)
            assert mistakes[0].nearest == key[0]
            assert f"; did you mean {key[0]}?" in mistakes[0].message
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
    assert first.message == (
        'the environment variable FIRST is not set, and std.extVar("FIRST") reads it; expected it '
        "before the command: FIRST=VALUE allencv ..., or for all commands: export FIRST=VALUE"
    )
    assert "SECOND" in second.message


def test_a_variable_of_an_imported_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("INNER", raising=False)
    (tmp_path / "other.libsonnet").write_text('{ a: std.extVar("INNER") }')
    (mistake,) = check_file(written(tmp_path, 'import "other.libsonnet"'))
    assert mistake.message.startswith("the environment variable INNER is not set")


def test_a_mistake_in_a_function_is_told_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (file,) = [file for file in CONFIGS if file.stem == "digits"]
    monkeypatch.setenv("DATA", "data")
    text = file.read_text().replace("color_mode:", "colormode:")
    (mistake,) = check_file(written(tmp_path, text))
    assert mistake.key == "dataset_reader.colormode"
    assert "did you mean color_mode?" in mistake.message
    assert mistake.message.endswith(" (also validation_dataset_reader.colormode)")
    config = written(tmp_path, json.dumps(experiment(tmp_path)))
    overrides = {"data_loader.batch_size": -1, "validation_data_loader": {"batch_size": -1}}
    mistakes = check_file(config, json.dumps(overrides))  # these have no line
    assert places(mistakes) == [
        (None, "data_loader.batch_size"),
        (None, "validation_data_loader.batch_size"),
    ]


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


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "this is empty"),
        (b" \n", "this is empty"),
        (bytes(range(256)), "this is not UTF-8 text"),
        (b"{}\0", "this is not UTF-8 text"),
        (None, "there is none"),
    ],
)
def test_no_config(content: Optional[bytes], reason: str, tmp_path: Path) -> None:
    file = tmp_path / "config.jsonnet"
    if content is not None:
        file.write_bytes(content)
    for read in (check_file, read_config):
        with pytest.raises(ConfigurationError) as error:
            read(str(file))
        expected = "expected the path of an experiment config file"
        assert str(error.value) == f"CONFIG is '{file}'; {expected}, and {reason}"


def test_a_folder(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=f"CONFIG is '{tmp_path}'; .* this is a folder"):
        read_config(str(tmp_path))


def test_a_config_that_is_read(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    content = experiment(tmp_path)
    config = written(tmp_path, json.dumps(content))
    assert read_config(config).as_dict() == content
    assert caplog.messages == []
    changed = read_config(config, '{"trainer.num_epochs": 7}')
    assert changed["trainer"]["num_epochs"] == 7
    read_config(config, '{"validation_dataset_reader": null}')
    (warning,) = caplog.messages
    assert warning.startswith(f"{config}:1: there is no validation_dataset_reader, and ")


def test_parts_may_be_given_by_their_names_alone(tmp_path: Path) -> None:
    config = {**experiment(Path("pets")), "trainer": "image", "dataset_reader": "image_folder"}
    file = written(tmp_path, json.dumps(config))
    params = read_config(file)
    assert params["trainer"].as_dict() == {"type": "image"}
    assert params["dataset_reader"].as_dict() == {"type": "image_folder"}
    assert params["train_data_path"] == "pets/train"


def test_a_config_from_a_pipe(tmp_path: Path) -> None:
    """It can be read once."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    content = json.dumps(experiment(tmp_path))
    with ThreadPoolExecutor() as executor:
        executor.submit(pipe.write_text, content)
        assert read_config(str(pipe)).as_dict() == json.loads(content)


def test_imports_are_found_beside_the_config(tmp_path: Path) -> None:
    (tmp_path / "other.libsonnet").write_text(json.dumps(experiment(tmp_path)))
    config = written(tmp_path, '(import "other.libsonnet") + { random_seed: 3 }')
    assert read_config(config)["random_seed"] == 3


def test_all_mistakes_are_told_at_once(tmp_path: Path) -> None:
    text = json.dumps(experiment(tmp_path), indent=2).replace("batch_size", "batch_sise")
    config = written(tmp_path, text.replace('"num_epochs": 3', '"num_epochs": "3"'))
    first, second = (
        1 + next(number for number, line in enumerate(text.splitlines()) if key in line)
        for key in ("batch_sise", "num_epochs")
    )
    with pytest.raises(ConfigurationError) as error:
        read_config(config)
    told = str(error.value).splitlines()
    assert [line.partition(" is ")[0] for line in told] == [
        f"{config}:{first}: data_loader.batch_sise",
        f"{config}:{second}: trainer.num_epochs",
    ]


def test_only_some_keys_matter(tmp_path: Path) -> None:
    content = {"dataset_reader": {"type": "image_folder"}, "trainer": 3, "unknown": 1}
    config = written(tmp_path, json.dumps(content))
    assert read_config(config, keys=READER_KEYS).as_dict() == content
    with pytest.raises(ConfigurationError, match="dataset_reader.colour is not a key of "):
        read_config(config, '{"dataset_reader.colour": "L"}', READER_KEYS)
