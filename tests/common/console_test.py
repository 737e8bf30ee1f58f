import io
import logging
import sys
from pathlib import Path

import pytest
from allennlp.common import Tqdm
from allennlp.common import logging as common_logging

from allencv.common.console import (
    console_to_follow,
    loggers_to_file_only,
    styled_as,
    to_log_file_only,
)
from allencv.runtime.terminal import ERASE_LINE, GREEN, log_to_file_only
from tests.runtime.terminal_test import Terminal

LOGGED = [
    ("allennlp.common.params", logging.INFO, "trainer.num_epochs = 3"),
    ("allennlp.common.util", logging.INFO, "_im2im_encoder.conv1.weight"),
    ("allennlp.common.util", logging.INFO, "Metrics: {}"),
    ("allennlp.nn.initializers", logging.INFO, "   _im2im_encoder.bias"),
    ("allennlp.common.util", logging.WARNING, "a warning"),
    ("allencv.training.image_trainer", logging.INFO, "Epoch 1/3"),
    ("allencv.data.loader", logging.INFO, "12 images"),
    ("allennlp.data.vocabulary", logging.WARNING, "vocabulary serialization directory x is not"),
    (
        "allennlp.training.trainer",
        logging.WARNING,
        "You provided a validation dataset but patience was set to None, meaning",
    ),
    ("allennlp.training.trainer", logging.INFO, "Loading a model."),
    ("allencv.__main__", logging.INFO, "Ended by: a mistake"),
]
SEEN = ["a warning", "12 images", "Loading a model."]


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


def test_other_handlers_are_thinned_for_a_while(root: logging.Logger) -> None:
    """AllenNLP's own handler for commands that do not train, and one of the user's own."""

    class Own(logging.StreamHandler):
        pass

    common, own = io.StringIO(), io.StringIO()
    handlers: list[logging.Handler] = [logging.StreamHandler(common), Own(own)]
    handlers[0].setFormatter(logging.Formatter("%(name)s - %(message)s"))
    root.handlers = handlers
    root.setLevel(logging.INFO)
    with console_to_follow():
        for name, level, message in LOGGED:
            logging.getLogger(name).log(level, message)
    assert common.getvalue().splitlines() == SEEN
    assert len(own.getvalue().splitlines()) == len(LOGGED)
    assert root.handlers == handlers


def test_some_is_for_the_file_only(
    root: logging.Logger, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    with console_to_follow():
        common_logging.prepare_global_logging(tmp_path)
        logger = logging.getLogger("allencv.data.loader")
        with to_log_file_only():
            logger.info("a table")
            logger.warning("a warning")
        with loggers_to_file_only(logger.name):
            logger.info("said before")
        logger.info("a line")
        log_to_file_only("allencv.__main__", "the 100% end")
    assert capsys.readouterr().out.splitlines() == ["a warning", "a line"]
    written = [line.split(" - ")[-1] for line in (tmp_path / "out.log").read_text().splitlines()]
    assert written == ["a table", "a warning", "said before", "a line", "the 100% end"]


def test_lines_appear_above_a_bar_and_in_colours(
    root: logging.Logger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    terminal = Terminal()
    root.handlers = [logging.StreamHandler(terminal)]
    root.setLevel(logging.INFO)
    logger = logging.getLogger("allencv.data.loader")
    with console_to_follow(), Tqdm.tqdm(total=2, file=terminal, delay=0, ncols=40) as bar:
        bar.update()
        logger.info("a row", extra=styled_as(GREEN))
        logger.warning("a warning")
    # A bar is overwritten by spaces before each line, and written again below it.
    lines = [line.split(ERASE_LINE)[-1] for line in terminal.getvalue().split("\n")]
    assert lines[:2] == ["\x1b[32ma row\x1b[0m", "\x1b[33ma warning\x1b[0m"]
    before, after = terminal.getvalue().split(f"{ERASE_LINE}\x1b[32ma row\x1b[0m\n")
    assert before.split("\r")[-2].isspace()
    assert after.startswith("\r 50%|")
