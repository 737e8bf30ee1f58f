import logging
import sys
from pathlib import Path

import pytest
from allennlp.common import logging as common_logging

from allencv.common.console import console_to_follow

LOGGED = [
    ("allennlp.common.params", logging.INFO, "trainer.num_epochs = 3"),
    ("allennlp.common.util", logging.INFO, "_im2im_encoder.conv1.weight"),
    ("allennlp.common.util", logging.INFO, "Metrics: {}"),
    ("allennlp.common.util", logging.WARNING, "a warning"),
    ("allencv.training.image_trainer", logging.INFO, "Epoch 1/3"),
]
SEEN = ["Metrics: {}", "a warning", "Epoch 1/3"]


@pytest.fixture
def root(monkeypatch: pytest.MonkeyPatch) -> logging.Logger:
    """The root logger, which is left as it was."""
    for name, _, _ in LOGGED:  # of which AllenNLP's evaluate turns one off for good
        monkeypatch.setattr(logging.getLogger(name), "disabled", False)
    logger = logging.getLogger()
    monkeypatch.setattr(logger, "handlers", list(logger.handlers))
    monkeypatch.setattr(logger, "level", logger.level)
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)
    return logger


def log(folder: Path) -> "list[str]":
    common_logging.prepare_global_logging(folder)
    for name, level, message in LOGGED:
        logging.getLogger(name).log(level, message)
    for handler in logging.getLogger().handlers:
        handler.flush()
    return (folder / "out.log").read_text().splitlines()


def test_the_console_shows_what_one_follows_and_the_file_all(
    root: logging.Logger, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    with console_to_follow():
        written = log(tmp_path)
    assert capsys.readouterr().out.splitlines() == SEEN
    assert len(written) == len(LOGGED)
    assert written[0].endswith("INFO - allennlp.common.params - trainer.num_epochs = 3")


def test_it_ends(root: logging.Logger, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    with console_to_follow():
        pass
    log(tmp_path)
    assert len(capsys.readouterr().out.splitlines()) == len(LOGGED)


def test_debugging_hides_nothing(
    root: logging.Logger,
    tmp_path: Path,
    capsys: pytest.CaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("ALLENNLP_DEBUG", "1")
    with console_to_follow():
        log(tmp_path)
    assert len(capsys.readouterr().out.splitlines()) == len(LOGGED)
