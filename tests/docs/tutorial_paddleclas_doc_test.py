"""
The commands of docs/tutorial_paddleclas.md, run as printed, on small data and with a small network,
and the keys of its tables, put into its config.
"""

import copy
import csv
import json
import re
from functools import cache
from pathlib import Path
from typing import Any, Dict, List

import _jsonnet  # type: ignore[import-untyped]
import pytest
from allennlp.common import Params
from allennlp.common.params import with_overrides

import allencv.plugin  # noqa: F401
from allencv.catalogue import find_mistakes
from allencv.command_parsers import command_parser
from allencv.runtime.errors import InputError
from tests.conftest import ROOT, write_images
from tests.recipes import run_here

pytestmark = pytest.mark.slow

PAGE = (ROOT / "docs" / "tutorial_paddleclas.md").read_text(encoding="utf-8")


def blocks(language: str) -> List[str]:
    found = re.findall(rf"^```{language}\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)
    return [text.replace("\\\n", "") for text in found]


SCRATCH, LONGER, FINE_TUNE, RESUME, TWO, EVALUATE, PREDICT, NAMED, EXPORT = blocks("bash")
METRICS, ANSWER = map(json.loads, blocks("json"))
(LOG,) = [text for text in blocks("text") if text.startswith("epoch ")]
(FOUR_GPUS,) = [text for text in blocks("text") if "allencv" in text]
ROWS = [
    [cell.strip() for cell in line.strip("|").split(" | ")]
    for line in PAGE.splitlines()
    if re.match(r"\| (`|these two)", line)
]
NETWORK: Dict[str, Any] = {
    "model.im2im_encoder": {"type": "small_resnet", "widths": [8, 16]},
    "model.im2vec_encoder": {"type": "pooling", "input_channels": 16},
}
SMALL: Dict[str, Any] = {
    **NETWORK,
    "dataset_reader.transforms.0.size": 32,
    "validation_dataset_reader.transforms.0.size": 32,
    "data_loader.batch_size": 4,
    "trainer.learning_rate_scheduler.warmup_epochs": 0.5,
}
SHORTLY = {**SMALL, "trainer.num_epochs": 2}


def test_every_language_is_tested() -> None:
    assert set(re.findall(r"^```(\w+)", PAGE, re.MULTILINE)) == {"bash", "json", "text"}
    assert len(ROWS) > 50


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """It has the data as it is unpacked, with 6 of the 102 kinds."""
    folder = tmp_path_factory.mktemp("clone")
    data = folder / "data" / "flowers102"
    write_images(data, {"jpg": 12})
    lines = []
    for number, file in enumerate(sorted((data / "jpg").iterdir())):
        image = file.rename(data / "jpg" / f"image_{number + 1:05d}.jpg")
        lines.append(f"jpg/{image.name} {number % 6}\n")
    (data / "train_list.txt").write_text("".join(lines[:8]))
    (data / "val_list.txt").write_text("".join(lines[8:]))
    names = ("pink primrose", "orchid", "bellflower", "sweet pea", "marigold", "tiger lily")
    map_lines = [f"{number} {name}\n" for number, name in enumerate(names)]
    (data / "flowers102_label_list.txt").write_text("".join(map_lines))
    return folder


@pytest.fixture
def type_in(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    def type_in(command: str, **overrides: Any) -> None:
        run_here(command, folder, monkeypatch, **overrides)

    return type_in


def test_train(folder: Path, type_in: Any) -> None:
    type_in(SCRATCH, **SHORTLY)
    type_in(LONGER, **SHORTLY)
    trained = json.loads((folder / "runs" / "longer" / "config.json").read_text())
    assert trained["trainer"]["optimizer"]["lr"] == 0.01


def test_a_warm_up_is_not_longer_than_training(type_in: Any) -> None:
    (added,) = re.findall(r"two epochs add\n`(.*?)`", PAGE)
    trial = {**SMALL, "trainer.num_epochs": 2, **json.loads(f"{{{added}}}")}
    command = SCRATCH.replace("runs/scratch", "runs/trial")
    type_in(command, **trial)
    del trial["trainer.learning_rate_scheduler.warmup_epochs"]  # the config's is 5
    with pytest.raises(InputError, match="warmup_epochs"):
        type_in(command.replace("trial", "wrong"), **trial)


def test_fine_tune_and_resume(folder: Path, type_in: Any) -> None:
    type_in(FINE_TUNE, **SHORTLY)
    run = folder / "runs" / "flowers"
    files = {each.name for each in run.iterdir()}
    for cell in (cells[1] for cells in ROWS if "pdparams" in cells[0] or "train.log" in cells[0]):
        named = re.findall(r"`([\w.]+\.\w+)`", cell.replace("e5_", "e2_"))
        assert set(named) <= files
    log = (run / "out.log").read_text()
    titles = re.split("  +", LOG.splitlines()[0])
    assert all(f" {title} " in log for title in titles[1:-1])
    last = (run / "training_state_e2_b0.th").stat()
    # As if it had been killed in its second epoch.
    for name in ("model_state_e2_b0.th", "training_state_e2_b0.th", "metrics.json", "model.tar.gz"):
        (run / name).unlink()
    type_in(RESUME, **SHORTLY)
    assert (run / "training_state_e2_b0.th").stat().st_mtime > last.st_mtime
    assert json.loads((run / "metrics.json").read_text())["epoch"] == 1


@pytest.mark.exhaustive
def test_two_processes(folder: Path, type_in: Any) -> None:
    type_in(TWO, **{key: value for key, value in SMALL.items() if "scheduler" not in key})
    assert (folder / "runs" / "two_processes" / "model.tar.gz").exists()


def test_four_gpus() -> None:
    """There are none here; the config is right."""
    (overrides,) = re.findall(r"-o '(.*)'", FOUR_GPUS)
    assert find_mistakes(with_overrides(config(), json.loads(overrides))) == []


def test_evaluate_and_predict(folder: Path, type_in: Any) -> None:
    type_in(EVALUATE)
    assert json.loads((folder / "val.json").read_text()).keys() == METRICS.keys()
    for command in PREDICT.splitlines():
        type_in(command)
    answer = json.loads((folder / "one.jsonl").read_text())
    assert answer.keys() == ANSWER.keys()
    assert answer["path"] == ANSWER["path"]
    assert len(rows(folder / "all.csv")) == 12


def rows(file: Path) -> List[Dict[str, str]]:
    with open(file, newline="") as lines:
        return list(csv.DictReader(lines))


def test_names(folder: Path, type_in: Any) -> None:
    type_in(NAMED, **SMALL, **{"trainer.num_epochs": 1})
    labels = (folder / "runs" / "named" / "vocabulary" / "labels.txt").read_text().split("\n")
    assert {"pink primrose", "tiger lily"} <= set(labels)


def test_export(folder: Path, type_in: Any) -> None:
    for command in EXPORT.splitlines():
        type_in(command)
    assert {"model.onnx", "manifest.json"} <= {
        file.name for file in (folder / "flowers_bundle").iterdir()
    }
    exported, archive = rows(folder / "exported.csv"), rows(folder / "all.csv")
    assert [row["label"] for row in exported] == [row["label"] for row in archive]


def help_of(name: str) -> str:
    return command_parser(name).format_help()


def test_the_inference_flags() -> None:
    table = PAGE.split("inference_cls.yaml` |")[1].split("\n\n")[0]
    told = set(re.findall(r"--[a-z][a-z-]+", table))
    assert {"--batch-size", "--device", "--engine", "--workers", "--top-k"} <= told
    helps = help_of("classify") + help_of("export") + help_of("serve")
    assert told <= set(re.findall(r"--[a-z][a-z-]+", helps))


@cache
def config() -> Dict[str, Any]:
    file = ROOT / "training_config" / "flowers102_mobilenet_v3.jsonnet"
    variables = {"DATA": "data/flowers102", "WEIGHTS": "null"}
    return dict(Params.from_file(file, ext_vars=variables).as_dict())


@pytest.mark.parametrize("cells", ROWS, ids=lambda cells: cells[0][:40])
def test_what_the_tables_say_is_accepted(cells: List[str]) -> None:
    """Each key with its value, and each transform, leaves the config without a mistake."""
    changed = copy.deepcopy(config())
    for key, value in re.findall(r"`([a-z][\w.]*): (.+?)`", cells[1]):
        given = json.loads(_jsonnet.evaluate_snippet("page", value))
        if key != "type":
            changed = with_overrides(changed, {key: given})
    for transform in re.findall(r"`(\{ type: .+?\})`", cells[1]):
        given = json.loads(_jsonnet.evaluate_snippet("page", transform))
        changed["dataset_reader"]["transforms"].append(given)
    if "model." not in cells[1]:  # a small network is quicker to build
        changed = with_overrides(changed, NETWORK)
    mistakes = find_mistakes(changed)
    assert mistakes == [], [mistake.message for mistake in mistakes]


def test_the_config_has_the_numbers_of_the_quick_start() -> None:
    trainer, loader = config()["trainer"], config()["data_loader"]
    told = dict(ROWS_OF_YAML)
    assert trainer["num_epochs"] == told["trainer.num_epochs"]
    assert trainer["optimizer"] == told["trainer.optimizer"]
    assert trainer["learning_rate_scheduler"] == told["trainer.learning_rate_scheduler"]
    assert loader == told["data_loader"]
    assert config()["model"]["top_k"] == told["model.top_k"]


ROWS_OF_YAML = [
    (key, json.loads(_jsonnet.evaluate_snippet("page", value)))
    for cells in reversed(ROWS)
    for key, value in re.findall(r"`([a-z][\w.]*): (.+?)`", cells[1])
    if key != "type"
]
"""The first of each key comes last, and so is the one in a dictionary."""
