import json
import re
from pathlib import Path

import _jsonnet
import pytest

from allencv import recipes
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
    with pytest.raises(InputError, match="no recipe 'hymenopter'; expected hymenoptera, "):
        printed(capsys, "hymenopter")
    with pytest.raises(InputError, match="expected cifar10, .*digits, .*, movie_posters$"):
        printed(capsys, "?")


def test_only_the_packages_own_folder_is_listed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    own, other = tmp_path / "allencv" / "training_config", tmp_path / "training_config"
    monkeypatch.setattr(recipes, "_FOLDERS", (own, other))
    with pytest.raises(InputError, match=f"^'{own}' has no recipes; expected .* install it again$"):
        printed(capsys)
    (own / "lib" / "deeper").mkdir(parents=True)
    other.mkdir()
    (own / "a.jsonnet").write_text('// Ours. For tests.\n\nimport "lib/b.libsonnet"')
    (own / "lib" / "b.libsonnet").write_text('{b: import "deeper/c.libsonnet"}')
    (own / "lib" / "deeper" / "c.libsonnet").write_text("{c: 3}")
    for name in ("a", "z"):
        (other / f"{name}.jsonnet").write_text("// Theirs. {}")
    assert re.fullmatch(r"a +Ours\..*\n", printed(capsys), re.S)
    text = printed(capsys, "a")
    assert json.loads(_jsonnet.evaluate_snippet("a", text)) == {"b": {"c": 3}}
