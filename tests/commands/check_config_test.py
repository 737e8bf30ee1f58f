import json
from pathlib import Path
from typing import Dict

import pytest

import allencv.plugin  # noqa: F401
from allencv.runtime.errors import InputError
from tests.configs import experiment
from tests.conftest import ROOT, Run, run_in_process

SEVEN = {
    '"random_horizontal_flip"': '"random_horizontal_flap"',  # an unknown name
    '"batch_size": 4': '"batch_size": "four"',  # a wrong type
    '"shuffle"': '"shufle"',  # an unknown key
    '"input_channels": 16': '"input_channels": 64',  # parts that do not fit each other
    '"num_epochs": 3': '"num_epochs": 2.5',
    '"type": "eval",': '"type": "eval", "fit": "squeeze",',  # what a constructor refuses
    '"train_data_path"': '"training_data_path"',  # a missing key, and another unknown one
}


def check(*arguments: object) -> int:
    """The exit status of the command."""
    args = ["check-config", *map(str, arguments)]
    try:
        run_in_process(*args)
    except SystemExit as end:
        return int(end.code or 0)
    return 0


@pytest.fixture
def config(tmp_path: Path) -> Path:
    file = tmp_path / "config.json"
    text = json.dumps(experiment(tmp_path / "no-such-folder"), indent=2)
    file.write_text(text.replace('"eval",\n', '"eval",'))
    return file


def plant(config: Path, mistakes: Dict[str, str]) -> "Dict[str, int]":
    """Changes a config, and returns the line of each change."""
    text = config.read_text()
    lines = {}
    for right, wrong in mistakes.items():
        assert text.count(right) == 1, right
        text = text.replace(right, wrong)
        lines[wrong] = 1 + text[: text.index(wrong)].count("\n")
    config.write_text(text)
    return lines


def test_no_mistakes(config: Path, capsys: pytest.CaptureFixture) -> None:
    assert check(config) == 0
    assert capsys.readouterr().out == f"{config}: no mistakes\n"
    assert check(config, "--format", "json") == 0
    assert json.loads(capsys.readouterr().out) == []


def test_seven_mistakes_at_once(config: Path, capsys: pytest.CaptureFixture) -> None:
    lines = plant(config, SEVEN)
    assert check(config) == 1
    *found, last = capsys.readouterr().out.splitlines()
    assert last == f"{config}: 7 mistakes"
    assert len(found) == 7
    for message, (wrong, line) in zip(
        [
            'dataset_reader.transforms.1.type is "random_horizontal_flap"; did you mean '
            "random_horizontal_flip? Expected one of random_",
            'data_loader.batch_size is "four"; expected int',
            "data_loader.shufle is not a key of the DataLoader 'image'; did you mean shuffle? Exp",
            "model.im2im_encoder (SmallResnetEncoder) gives 16 channels, but model.im2vec_encoder ",
            "trainer.num_epochs is 2.5; expected int",
            "validation_dataset_reader.transforms.0: transform 'eval': fit is 'squeeze'; expected ",
            "training_data_path is not a key of a config; did you mean train_data_path? Exp",
        ],
        lines.items(),
    ):
        start = f"{config}:{line}: {message}"
        assert any(each.startswith(start) for each in found), (wrong, start, found)


def test_json(config: Path, capsys: pytest.CaptureFixture) -> None:
    lines = plant(config, {'"shuffle"': '"shufle"', '"batch_size": 4': '"batch_size": "four"'})
    assert check(config, "--format", "json") == 1
    wrong_type, unknown_key = json.loads(capsys.readouterr().out)
    assert wrong_type == {
        "kind": "wrong type",
        "key": "data_loader.batch_size",
        "line": lines['"batch_size": "four"'],
        "message": 'data_loader.batch_size is "four"; expected int',
        "choices": [],
        "nearest": None,
    }
    assert unknown_key["nearest"] == "shuffle"
    assert unknown_key["choices"][0] == "shuffle"
    assert "prefetch_batches" in unknown_key["choices"]


def test_overrides(config: Path, capsys: pytest.CaptureFixture) -> None:
    assert check(config, "-o", '{"trainer.num_epochs": "1"}') == 1
    out = capsys.readouterr().out
    assert out.startswith(f'{config}: trainer.num_epochs is "1"; expected int\n')
    assert out.endswith("1 mistake\n")


def test_no_such_config(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"CONFIG is '.*none.jsonnet'; expected the path"):
        check(tmp_path / "none.jsonnet")


def test_as_a_command(config: Path, tmp_path: Path, run: Run) -> None:
    plugin = tmp_path / "my_parts.py"
    plugin.write_text(
        "from allencv.modules.losses import ClassificationLoss\n"
        "@ClassificationLoss.register('mine')\n"
        "class Mine(ClassificationLoss):\n"
        "    def __init__(self, power: float) -> None:\n"
        "        super().__init__()\n"
        "    def forward(self, logits, targets, class_weights=None):\n"
        "        return logits.sum()\n"
    )
    overrides = '{"model.loss": {"type": "mine", "powr": 2}}'
    ended = run(
        *("allencv", "check-config", config, "-o", overrides, "--include-package", "my_parts"),
        cwd=tmp_path,
        env={"PYTHONPATH": f"{tmp_path}:{ROOT}"},
        fails=True,
    )
    assert ended.returncode == 1
    assert ended.stdout.splitlines() == [
        f"{config}: model.loss.powr is not a key of the ClassificationLoss 'mine'; did you mean "
        "power?",
        f"{config}: 1 mistake",
    ]
