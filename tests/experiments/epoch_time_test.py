from pathlib import Path

import pytest
from allennlp.common.checks import ConfigurationError

import allencv.plugin  # noqa: F401
from allencv.experiments.epoch_time import seconds_of, seconds_per_epoch
from tests.configs import experiment


@pytest.mark.parametrize(
    ("text", "seconds"), [("90s", 90), ("10m", 600), ("1.5h", 5400), ("2 m", 120)]
)
def test_seconds(text: str, seconds: float) -> None:
    assert seconds_of(text) == seconds


@pytest.mark.parametrize("text", ["", "10", "0m", "-1m", "ten minutes", "1d"])
def test_what_is_no_time(text: str) -> None:
    with pytest.raises(ConfigurationError, match="expected a time such as 90s, 10m or 1.5h"):
        seconds_of(text)


def test_an_epoch_is_measured_and_nothing_is_left(cats_and_dogs: Path, tmp_path: Path) -> None:
    config = experiment(cats_and_dogs)
    assert 0 < seconds_per_epoch(config) < 60
    assert not list(tmp_path.iterdir())
