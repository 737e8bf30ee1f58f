import logging
import shutil
import time
from typing import Any, Dict, List, Mapping, NamedTuple, Optional, Sequence

from allennlp.training.callbacks import ConsoleLoggerCallback
from allennlp.training.gradient_descent_trainer import GradientDescentTrainer

from allencv.common.console import styled_as, to_log_file_only
from allencv.runtime.terminal import BOLD, GREEN
from allencv.training.progress import main_metrics
from allencv.training.trainer_access import ran_out_of_patience

logger = logging.getLogger(__name__)

TRAINING, VALIDATION = "training_", "validation_"
"""How AllenNLP's trainer marks the metrics of the two."""
NARROWEST = 7
"""The columns that a number takes."""
TIME = 6
"""The columns that a duration takes."""
MEMORY = "_memory_MB"
BEST = "best"


class Column(NamedTuple):
    """A column of the table: its title, and the key of its numbers."""

    title: str
    key: str

    @property
    def width(self) -> int:
        return max(len(self.title), NARROWEST)


def columns_for(metrics: Mapping[str, Any], tracked: Sequence[str], width: int) -> List[Column]:
    """
    Choose the columns of the table: the losses, the main metric, and as many others as fit.

    # Parameters

    metrics : `Mapping[str, Any]`
        The metrics of an epoch, as AllenNLP's trainer passes them to callbacks.
    tracked : `Sequence[str]`
        The names of the metrics that choose the best epoch.
    width : `int`
        The columns of text that there are for them.
    """
    validation = _without(VALIDATION, metrics)
    columns = [Column("loss", f"{TRAINING}loss")]
    columns += [Column("val loss", f"{VALIDATION}loss")] if "loss" in validation else []
    prefix, short = (VALIDATION, "val ") if validation else (TRAINING, "")
    columns += [
        Column(f"{short}{name}", f"{prefix}{name}")
        for name in main_metrics(tracked, _without(prefix, metrics))
        if not name.endswith(MEMORY)
    ]
    columns = [column for column in columns if column.key in metrics]
    chosen: List[Column] = []
    for number, column in enumerate(columns):
        width -= column.width + 2
        if width < 0 and number > 2:
            break
        chosen.append(column)
    return chosen


def _without(prefix: str, metrics: Mapping[str, Any]) -> Dict[str, Any]:
    return {
        name.removeprefix(prefix): value
        for name, value in metrics.items()
        if name.startswith(prefix)
    }


def duration(seconds: float) -> str:
    """Return a duration as "0:07" or "1:02:03"."""
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}" if hours else f"{minutes}:{seconds:02d}"


class EpochTable(ConsoleLoggerCallback):
    """
    Prints a line of a table after each epoch: the losses, the main metric and as many others as fit
    the terminal, the time that the epoch took, and the time that is left. It marks each epoch that
    was the best so far. The log of the run also has AllenNLP's table of all metrics.

    The "image" trainer adds it, unless `trainer.callbacks` has a "console_logger".
    """

    def __init__(self, serialization_dir: Optional[str]) -> None:
        super().__init__(str(serialization_dir), should_log_inputs=False)
        self._columns: List[Column] = []
        self._started = 0.0
        self._durations: List[float] = []

    def start_epoch(self) -> None:
        """Count the time of the first epoch from now on."""
        self._started = time.monotonic()

    def on_start(
        self, trainer: GradientDescentTrainer, is_primary: bool = True, **kwargs: Any
    ) -> None:
        super().on_start(trainer, is_primary, **kwargs)
        self.start_epoch()

    def on_epoch(
        self,
        trainer: GradientDescentTrainer,
        metrics: Dict[str, Any],
        epoch: int,
        is_primary: bool = True,
        **kwargs: Any,
    ) -> None:
        if not is_primary:
            return
        with to_log_file_only():
            super().on_epoch(trainer, metrics, epoch, is_primary, **kwargs)
        now = time.monotonic()
        self._durations.append(now - self._started)
        self._started = now
        num_epochs = trainer._num_epochs
        left = (num_epochs - epoch - 1) * sum(self._durations) / len(self._durations)
        first_width = max(2 * len(str(num_epochs)) + 1, len("epoch"))
        if not self._columns:
            tracked = [name for _, name in trainer._metric_tracker.tracked_metrics]
            others = first_width + 2 * (TIME + 2) + 2 + len(BEST)
            width = shutil.get_terminal_size().columns - others
            self._columns = columns_for(metrics, tracked, width)
            titles = [f"{column.title:>{column.width}}" for column in self._columns]
            header = ["epoch".rjust(first_width), *titles, "time".rjust(TIME), "left".rjust(TIME)]
            logger.info("  ".join(header), extra=styled_as(BOLD))
        numbers = [f"{metrics[column.key]:{column.width}.4f}" for column in self._columns]
        cells = [f"{epoch + 1}/{num_epochs}".rjust(first_width), *numbers]
        cells += [duration(each).rjust(TIME) for each in (self._durations[-1], left)]
        is_best = metrics.get("best_epoch") == epoch and bool(_without(VALIDATION, metrics))
        line = "  ".join([*cells, BEST] if is_best else cells)
        logger.info(line, extra=styled_as(GREEN) if is_best else {})

    def on_end(
        self,
        trainer: GradientDescentTrainer,
        metrics: Optional[Dict[str, Any]] = None,
        epoch: Optional[int] = None,
        is_primary: bool = True,
        **kwargs: Any,
    ) -> None:
        if is_primary and ran_out_of_patience(trainer):
            logger.info("Stopped early: no better epoch within trainer.patience")
