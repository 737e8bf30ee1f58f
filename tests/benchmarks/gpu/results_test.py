import json
from pathlib import Path
from typing import Any, Dict

import pytest

from tests.benchmarks.gpu.programs import load

results = load("results.py")

SUMMARY: Dict[str, Any] = {
    "machine": {"gpu": "GPU A", "cores": 16},
    "stages": {"check": {"status": "done", "seconds": 20.4}},
    "tests": {"passed": ["one", "two"], "failed": ["three"], "skipped": []},
    "loops": {
        "eager": {
            "network": "ResNet-50, 224 px",
            "batch_size": 256,
            "steps": 10,
            "rounds": 2,
            "baseline": "bare",
            "loops": {
                "bare": {
                    "images_per_second": 1000.4,
                    "time_to_baseline": 1.0,
                    "first_seconds": 3.2,
                },
                "allencv": {"error": "OutOfMemoryError: too large"},
                "timm": {
                    "images_per_second": 990.0,
                    "time_to_baseline": None,
                    "first_seconds": 61.0,
                },
            },
        }
    },
    "loaders": {
        "images_per_second": {
            "CIFAR-10, 32 px: timm": {"16": [5000.0, 6000.0], "2": [900.0]},
            "CIFAR-10, 32 px: allencv, threads": {"2": [1000.0, 1200.0, 1500.0]},
        },
        "errors": ["timm, CIFAR-10, 32 px, 4 workers: no answer"],
    },
    "cifar": {
        "network": "large",
        "runs": {
            "two epochs, threads": {
                "status": "cut off",
                "epochs": 2,
                "test_accuracy": [],
                "seconds": [],
                "whole_command_seconds": 50.2,
            },
            "the recipe, threads": {
                "status": "done",
                "epochs": 3,
                "test_accuracy": [0.5, 0.9012, 0.9],
                "seconds": [5.0, 9.0, 13.04],
                "whole_command_seconds": 30.0,
            },
        },
    },
    "end_to_end": {
        "size": 224,
        "loops": {
            "allencv": {"images_per_second": 2500.0, "to_timm": 1.25},
            "timm": {"images_per_second": 2000.0, "to_timm": 1.0},
        },
    },
}
TABLE = """\
gpu: GPU A, cores: 16

| stage | status | seconds |
|---|---|---|
| check | done | 20 |

Tests that need a GPU: 2 passed, 1 failed, 0 skipped

- failed: three

eager: ResNet-50, 224 px, batches of 256, medians of 2 rounds of 10 steps

| loop | images/s | time relative to bare | first round, s |
|---|---|---|---|
| bare | 1000 | 1.000 | 3 |
| allencv | OutOfMemoryError: too large | | |
| timm | 990 |  | 61 |

training_config/cifar10.jsonnet with NETWORK=large:

| run | status | epochs | best test accuracy | in epoch | seconds | command, s |
|---|---|---|---|---|---|---|
| two epochs, threads | cut off | 0 of 2 | | | | 50 |
| the recipe, threads | done | 3 of 3 | 90.12% | 2 | 13.0 | 30 |

Images per second by number of workers, in batches of 64:

| images, loader | 2 | 16 |
|---|---|---|
| CIFAR-10, 32 px: timm | 900 | 5500 |
| CIFAR-10, 32 px: allencv, threads | 1200 |  |

- failed: timm, CIFAR-10, 32 px, 4 workers: no answer

| from JPEG files | loop | images/s | ratio to timm |
|---|---|---|---|
| ResNet-18, 224 px | allencv | 2500 | 1.25 |
| ResNet-18, 224 px | timm | 2000 | 1.00 |"""


def loops(**images_per_second: float) -> Dict[str, Any]:
    found = {name: {"images_per_second": speed} for name, speed in images_per_second.items()}
    return {"loops": found}


def test_table() -> None:
    assert results.table(SUMMARY) == TABLE
    assert results.table({"machine": {"gpu": "GPU A"}}) == "gpu: GPU A"


def test_a_later_summary_replaces_what_both_have() -> None:
    first = {
        "machine": {"gpu": "GPU A", "cores": 8},
        "stages": {"loops": {"status": "done"}, "cifar": {"status": "failed (1)"}},
        "loops": {"eager": loops(bare=1), "recipe": loops(bare=2)},
        "cifar": {"runs": {"two epochs": {}}},
    }
    second = {
        "machine": {"gpu": "GPU A", "cores": 16},
        "stages": {"cifar": {"status": "done"}},
        "loops": {"eager": loops(bare=3)},
        "cifar": {"runs": {"the recipe": {}}},
    }
    assert results.merged({"a": first, "b": second}) == {
        "machine": {"gpu": "GPU A", "cores": 16},
        "stages": {"loops": {"status": "done"}, "cifar": {"status": "done"}},
        "loops": {"eager": loops(bare=3), "recipe": loops(bare=2)},
        "cifar": {"runs": {"the recipe": {}}},
    }


@pytest.mark.parametrize(
    ("second", "gpu"), [({"machine": {"gpu": "GPU B"}}, "GPU B"), ({"stages": {}}, "unknown")]
)
def test_two_kinds_of_gpu_are_refused(second: Dict[str, Any], gpu: str) -> None:
    message = f"expected summaries of one kind of GPU; found a.json: GPU A, b.json: {gpu}"
    with pytest.raises(ValueError, match=message):
        results.merged({"a.json": SUMMARY, "b.json": second})


def test_what_failed_is_not_kept() -> None:
    kept = results.measured(SUMMARY)
    assert list(kept["loops"]["eager"]["loops"]) == ["bare", "timm"]
    assert kept["loops"]["eager"]["network"] == "ResNet-50, 224 px"
    assert list(kept["loaders"]) == ["images_per_second"]
    assert list(kept) == [part for part in SUMMARY if part != "stages"]
    assert results.measured(kept) == kept


def test_the_program(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    files = [str(tmp_path / name) for name in ("first.json", "second.json", "of_b.json")]
    second = {"machine": SUMMARY["machine"], "end_to_end": {"size": 32, "loops": {}}}
    for file, summary in zip(files, (SUMMARY, second, {"machine": {"gpu": "GPU B"}})):
        Path(file).write_text(json.dumps(summary))
    output = tmp_path / "gpu.json"

    def run(*summaries: str) -> None:
        command = ["results.py", *summaries, "--output", str(output)]
        monkeypatch.setattr("sys.argv", command)
        results.main()

    run(*files[:2])
    merged = results.merged({"first": SUMMARY, "second": second})
    assert capsys.readouterr().out == results.table(merged) + "\n"
    written = output.read_text()
    assert json.loads(written) == results.measured(merged)

    empty = tmp_path / "empty.json"
    empty.touch()
    for refused, message in (
        (files[2], "of_b.json: GPU B"),
        ("missing.json", "found no summary at missing.json"),
        (str(empty), f"found no summary at {empty}"),
    ):
        with pytest.raises(SystemExit):
            run(str(output), refused)
        assert message in capsys.readouterr().err
        assert output.read_text() == written
