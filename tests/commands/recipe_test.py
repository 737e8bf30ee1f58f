import json
import re
from pathlib import Path

import _jsonnet
import pytest

from allencv.runtime.errors import InputError
from tests.conftest import ROOT, run_in_process

CONFIGS = sorted((ROOT / "training_config").glob("*.jsonnet"))


def printed(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    run_in_process("recipe", *arguments)
    return capsys.readouterr().out


@pytest.mark.parametrize("file", CONFIGS, ids=lambda file: file.stem)
def test_a_recipe_is_one_file_with_the_same_config(
    file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = printed(capsys, file.stem)
    names = re.findall(r'std\.extVar\("(\w+)"\)', text)
    variables = {**dict.fromkeys(names, "3"), "NETWORK": "small"}
    expected = json.loads(_jsonnet.evaluate_file(str(file), ext_vars=variables))
    assert json.loads(_jsonnet.evaluate_snippet("my.jsonnet", text, ext_vars=variables)) == expected
    assert f" train {file.name} -s " in text, "the command in the header names the new file"


def test_the_recipes_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    lines = printed(capsys).splitlines()
    assert [line.split()[0] for line in lines] == [file.stem for file in CONFIGS]
    assert re.search(r"^hymenoptera +Ants and bees with a ResNet-18 .*\.$", "\n".join(lines), re.M)
    assert max(map(len, lines)) <= 120


def test_a_name_that_no_recipe_has(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(InputError, match="no recipe 'hymenopter'; expected hymenoptera$"):
        printed(capsys, "hymenopter")
    with pytest.raises(InputError, match="expected cifar10, digits, .*, movie_posters$"):
        printed(capsys, "?")
