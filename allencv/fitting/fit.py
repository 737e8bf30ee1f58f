"""Train a model on images with labels, and explain every choice."""

import copy
import json
import logging
import math
import os
import sys
import tempfile
import time
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, Optional, Sequence, Tuple, Union

import torch
from allennlp.common import Params
from allennlp.common.checks import ConfigurationError
from allennlp.common.util import import_module_and_submodules

from allencv.common.console import console_to_follow, loggers_to_file_only
from allencv.common.label_text import shown
from allencv.common.quiet import quiet
from allencv.data.dataset_readers.files import each_file_read_once
from allencv.experiments.epoch_time import RESERVE, time_epoch
from allencv.experiments.learning_rate_search import learning_rates_and_losses, suggest
from allencv.fitting.choices import Choices, Reason, Start, choose
from allencv.fitting.config_file import as_config, comments_on, header, with_header
from allencv.fitting.data_facts import (
    DataFacts,
    examine_data,
    found_lines,
    hold_out_for_calibration,
)
from allencv.fitting.data_parts import decide_calibration
from allencv.fitting.found_data import find_data
from allencv.fitting.options import AUTO, FitOptions
from allencv.fitting.quick import choose_quick
from allencv.runtime.terminal import wrapped
from allencv.runtime.whole_files import write_text
from allencv.training.kept_weights import kept_weights
from allencv.training.next_commands import next_commands, resumed_by, train_command
from allencv.training.run_folder import has_checkpoint, is_unbegun, locked
from allencv.training.threads import fewer_threads_beside_others
from allencv.training.time_limit import seconds_of
from allencv.training.train_in_folder import train_in_folder

Say = Callable[[str], None]
SHARES_TRIED = 4
"""How many times the callback "weight_interpolation" validates, by default."""
SAID_BEFORE = ("allencv.data.data_loaders.listed_images", "allennlp.training.optimizers")
"""The loggers whose information repeats what was found: the images, and the parameters' number."""
SAID_BY_QUICK = (
    "allencv.data.data_loaders.kept_features",
    "allencv.training.callbacks.epoch_table",
)
"""The same of a quick fit: how many features were kept, and the scores of its only epoch."""
SCORES = ("balanced_accuracy", "accuracy", "mAP")
"""What models are judged by: the first that there is."""
QUICKER = (
    "Without a GPU, --quick is much quicker: the frozen network computes each image once, which "
    "takes less time than one epoch of this training, and a linear layer is fitted on its output. "
    "It is usually a little less accurate."
)


@dataclass(frozen=True)
class Fitted:
    """
    A finished training.

    # Parameters

    folder : `Path`
        The folder of the run.
    metrics : `Dict[str, Any]`
        The content of its `metrics.json`.
    num_epochs : `int`
        The planned number of epochs. Training may stop earlier.
    warning : `str`, optional
        What to do about missing pretrained weights, in several lines.
    hint : `str`, optional
        A line that says that the model has learnt next to nothing.
    is_quick : `bool`, optional (default = `False`)
        Whether only the last layer was fitted, without epochs.
    """

    folder: Path
    metrics: Dict[str, Any] = field(repr=False)
    num_epochs: int
    warning: Optional[str] = field(default=None, repr=False)
    hint: Optional[str] = field(default=None, repr=False)
    is_quick: bool = field(default=False, repr=False)

    @property
    def archive(self) -> Path:
        """The trained model, for `allencv.load`."""
        return self.folder / "model.tar.gz"

    def scores(self) -> Dict[str, float]:
        """Return the scores of the archive's model on the validation images."""
        return _scores(self.metrics)

    def lines(self) -> List[str]:
        """Return the model's scores and some next commands, as lines to print."""
        best = self.scores()
        scores = ", ".join(f"{key} {best[key]:.3f}" for key in list(best)[:4])
        trained, early = self.metrics["epoch"] + 1, ""
        if trained < self.num_epochs:
            early = f" Stopped early: {self.num_epochs} epochs were planned."
        how = (
            f"Done in {self.metrics['training_duration'].partition('.')[0]}. Best epoch: "
            f"{self.metrics['best_epoch'] + 1} of {trained}.{early}"
        )
        return [
            *([] if self.is_quick else [how]),
            wrapped(f"On the validation images: {scores}"),
            *([wrapped(gain)] if (gain := gain_of_training(self.metrics)) else []),
            *([wrapped(self.hint)] if self.hint else []),
            *next_commands(self.folder),
            *(["", _wrapped(self.warning)] if self.warning else []),
        ]


def _scores(metrics: Dict[str, Any], part: str = "") -> Dict[str, float]:
    """Return the scores of a part of `metrics.json`, by default those of the archive's model."""
    prefix = f"{part or kept_weights(metrics)}_validation_"
    return {
        key.removeprefix(prefix): value
        for key, value in metrics.items()
        if key.startswith(prefix) and isinstance(value, float)
    }


def gain_of_training(metrics: Dict[str, Any]) -> Optional[str]:
    """Say what fine-tuning has changed, for a run that began with a fitted model."""
    if "trained_share" not in metrics:
        return None
    before, trained, now = (_scores(metrics, part) for part in ("first", "best", "interpolated"))
    score = next(each for each in SCORES if each in now)
    name, share = score.replace("_", " "), metrics["trained_share"]
    if share == 0:
        return (
            f"Fine-tuning did not raise the {name}: it was {before[score]:.3f} before, and "
            f"{trained[score]:.3f} after the best epoch. So this model has the weights from before."
        )
    text = f"Fine-tuning raised the {name} from {before[score]:.3f} to {now[score]:.3f}."
    if now[score] == before[score]:
        text = f"Fine-tuning lowered the loss, and the {name} stayed at {now[score]:.3f}."
    if share < 1:
        text += (
            f" The weights are a mean of those before ({1 - share:.0%}) and after it ({share:.0%})."
        )
    return text


def fit(
    data: Union[str, os.PathLike],
    output: Union[str, os.PathLike],
    options: Optional[FitOptions] = None,
    include_package: Sequence[str] = (),
    written_by: str = "allencv.fit",
    say: Say = print,
) -> Fitted:
    """
    Examine images with labels, choose defaults for them, write a config beside `output`, and train
    it.

    # Parameters

    data : `Union[str, os.PathLike]`, required
        A folder, a table, a list, or the name of a dataset of torchvision, as for `allencv fit`.
    output : `Union[str, os.PathLike]`, required
        The folder of the run. It must be new or empty.
    include_package : `Sequence[str]`, optional
        Modules with parts of your own, which the config may name.
    written_by : `str`, optional
        The author named in the comment at the top of the config.
    say : `Callable[[str], None]`, optional (default = `print`)
        Called with each text about what was found and chosen.

    # Raises

    `ConfigurationError` if the data are ambiguous, if an option cannot be used, or if `output` is
    not empty.
    """
    data, output = os.fspath(data), os.fspath(output)
    if isinstance(include_package, str):
        include_package = (include_package,)
    options = options or FitOptions()
    begun = time.perf_counter()
    second = f"{run_folder_of(output)}_finetuned"
    if options.then is not None:  # before the first training, which takes a while
        _check_is_free(second, include_package)
    with nullcontext() if options.quick else fewer_threads_beside_others(say):
        fitted, chosen = _fit(data, output, options, include_package, written_by, say, begun)
    if options.then is None:
        return fitted
    say("\n".join(["", *fitted.lines(), "", f"Fine-tuning {chosen.backbone} from there."]))
    whole = replace(options, quick=False, then=None, backbones=None, backbone=chosen.backbone)
    (evaluation,) = chosen.config["validation_dataset_reader"]["transforms"]
    start = Start(str(fitted.archive.absolute()), evaluation)
    named = _first_model_named(fitted.archive, second, include_package)
    with named, fewer_threads_beside_others(say):
        finetuned, _ = _fit(data, second, whole, include_package, written_by, say, begun, start)
    return finetuned


@contextmanager
def _first_model_named(
    archive: Path, second: str, include_package: Sequence[str]
) -> Iterator[None]:
    """
    If fine-tuning is interrupted in the block, print where the model of `--quick` is. Before the
    first checkpoint, also print how to start again.
    """
    try:
        yield
    except KeyboardInterrupt:
        lines = [f"The model of --quick is complete: {archive}"]
        config, folder = config_file_of(second), run_folder_of(second)
        if config.exists() and not (folder.is_dir() and has_checkpoint(folder)):
            lines.append(f"To fine-tune it: {train_command(config, folder, include_package)}")
        print("\n".join(lines), file=sys.stderr, flush=True)
        raise


def _fit(
    data: str,
    output: str,
    options: FitOptions,
    include_package: Sequence[str],
    written_by: str,
    say: Say,
    begun: float,
    start: Optional[Start] = None,
) -> Tuple[Fitted, "_Chosen"]:
    """Do one training of `fit`, for which `--time` counts from `begun`."""
    packages = ["allencv.plugin", *include_package]
    for package in packages:  # the config names their parts
        import_module_and_submodules(package)
    folder = run_folder_of(output)
    config_file = config_file_of(output)
    resume = _check_is_free(output, include_package)
    chosen = _choose(data, options, say, begun, start)
    again = folder.with_name(f"{folder.name}_again")
    text = chosen.text(header(written_by, train_command(config_file, again, include_package)))
    # The lock first: an existing config may belong to a run in progress.
    repeated = (*SAID_BEFORE, *(SAID_BY_QUICK if options.quick else ()))
    with locked(folder), console_to_follow(), loggers_to_file_only(*repeated):
        write_config(config_file, text, say)
        with resumed_by(resume, folder):
            train_in_folder(Params.from_file(str(config_file)), output, include_package=packages)
    metrics = json.loads((folder / "metrics.json").read_text())
    hint = hint_at_chance(_scores(metrics).get("accuracy"), chosen.facts)
    fitted = Fitted(folder, metrics, chosen.epochs, chosen.warning, hint, options.quick)
    return fitted, chosen


def _check_is_free(output: str, include_package: Sequence[str]) -> str:
    """
    Return the command that resumes a run in a folder.

    Raises a `ConfigurationError` if it has files of a run, or of others.
    """
    folder = run_folder_of(output)
    resume = train_command(config_file_of(output), folder, include_package)
    if folder.exists() and any(folder.iterdir()) and not is_unbegun(folder):
        raise ConfigurationError(
            f"--output is {output!r}, which has files; expected a new folder, or '{resume} "
            "--recover' to resume an interrupted run"
        )
    return resume


def hint_at_chance(accuracy: Optional[float], facts: DataFacts) -> Optional[str]:
    """
    Return a line for a validation accuracy that may be luck: less than two standard errors above
    the accuracy of a model that always gives the most frequent label.
    """
    if accuracy is None or facts.is_multi_label:
        return None
    label, count = max(facts.counts.items(), key=lambda item: item[1])
    share = count / sum(facts.counts.values())
    if accuracy > share + 2 * math.sqrt(share * (1 - share) / facts.num_validation):
        return None
    return (
        f"A model that always answers {shown(label)} would be right for {share:.3f} of the images: "
        "this one has learnt next to nothing. Look at the images and labels with 'allencv "
        "check-data', and use pretrained weights or more images"
    )


def config_file_of(output: str) -> Path:
    """Return the file of the config, beside the folder of the run and under its name."""
    folder = run_folder_of(output)
    return folder.with_name(folder.name + ".jsonnet")


def run_folder_of(output: str) -> Path:
    """Return the folder of the run. It needs a name, as the config beside it has the same name."""
    if not output.strip():
        raise ConfigurationError("--output is empty; expected the path of a folder")
    folder = Path(output)
    if folder.name in ("", ".."):
        folder = folder.resolve()
    if not folder.name:
        raise ConfigurationError(f"--output is {output!r}; expected a folder with a name")
    return folder


def write_config(file: Path, text: str, say: Say) -> None:
    """Write a config as a whole or not at all."""
    file.parent.mkdir(parents=True, exist_ok=True)
    write_text(file, text)
    say(f"Config: {file}")


def config_for(
    data: str,
    output: str,
    options: FitOptions,
    written_by: str,
    say: Say,
    include_package: Sequence[str] = (),
) -> str:
    """
    Examine the data and return the text of a config, with the reason for each choice.

    # Raises

    `ConfigurationError` as `fit` does.
    """
    command = train_command(config_file_of(output), run_folder_of(output), include_package)
    return _choose(data, options, say, time.perf_counter()).text(header(written_by, command))


@dataclass
class _Chosen:
    """
    A config with the comments on its keys, and what `fit` says about it.

    # Parameters

    epochs : the planned number of epochs.
    backbone : its name.
    """

    config: Dict[str, Any]
    comments: Dict[str, str]
    facts: DataFacts
    epochs: int
    backbone: str
    warning: Optional[str] = None

    def text(self, header: str) -> str:
        return with_header(self.config, self.comments, header)


def _choose(
    data: str, options: FitOptions, say: Say, begun: float, start: Optional[Start] = None
) -> _Chosen:
    """Examine the data and choose a config for them. `--time` counts from `begun`."""
    budget = None if options.time is None else seconds_of("--time", options.time)
    with (
        quiet(logging.INFO, hide_warnings=False),  # `say` is told what matters
        each_file_read_once(),
    ):
        found = find_data(data, options.table, options.root, options.folders)
        decide_calibration(found, options.calibration)
        facts = examine_data(found)
        if options.calibration:
            facts = hold_out_for_calibration(found, facts)
        if start is None:
            say("\n".join(map(wrapped, found_lines(data, found, facts))))
        if facts.unreadable and options.on_error == "fail":
            raise ConfigurationError(
                f"--on-error is fail, and images cannot be read ({len(facts.unreadable)}); repair "
                "or remove them, or leave them out with --on-error skip"
            )
        if options.quick:
            quick = choose_quick(found, facts, options, say)
            return _Chosen(quick.config, quick.comments, facts, 1, quick.backbone)
        choices = choose(facts, options, start)
        if choices.warning is not None:
            say(f"\n{_wrapped(choices.warning)}\n")
        seeds = dict.fromkeys(("random_seed", "numpy_seed", "pytorch_seed"), options.seed)
        config = as_config(found, facts, choices) | seeds
        if options.lr == AUTO:
            choices.learning_rate, why = _search_learning_rate(config)
            choices.reasons.learning_rate = Reason(f"{choices.learning_rate:.2g}", why)
        if budget is not None:
            left = budget - (time.perf_counter() - begun)
            _fit_into(choices, left, str(options.time), config, say)
    say("\n".join(["Chosen:", *choices.reasons.lines()]))
    if choices.is_pretrained and start is None and not torch.cuda.is_available():
        say(wrapped(QUICKER))
    return _Chosen(
        as_config(found, facts, choices) | seeds,
        comments_on(facts, choices),
        facts,
        choices.epochs,
        choices.reasons.backbone.choice,
        choices.warning,
    )


def _wrapped(text: str) -> str:
    return "\n".join(map(wrapped, text.splitlines()))


def _search_learning_rate(config: Dict[str, Any]) -> Tuple[float, str]:
    with tempfile.TemporaryDirectory() as folder:
        rates, losses = learning_rates_and_losses(
            Params(copy.deepcopy(config)), folder, end_lr=1, num_batches=60, stopping_factor=4
        )
    return float(f"{suggest(rates, losses):.1e}"), "where the loss fell fastest, in 60 steps"


def _fit_into(
    choices: Choices, seconds: float, asked: str, config: Dict[str, Any], say: Say
) -> None:
    """Choose as many epochs as fit into a time, and a limit if the machine gets slower."""
    started = time.perf_counter()
    measured = time_epoch(copy.deepcopy(config), seconds / 20)
    left = seconds - (time.perf_counter() - started) - measured.once
    if choices.start is not None:
        left -= SHARES_TRIED * measured.validation
    choices.time_limit = f"{max(1, round(left))}s"
    left -= RESERVE * seconds
    if measured.each > left:
        say(
            wrapped(
                f"warning: one epoch takes about {measured.each:.0f} s, more than --time {asked} "
                "leaves; a smaller --image-size or --backbone is faster"
            )
        )
    epochs = max(1, int(left / measured.each))
    choices.set_epochs(epochs, f"about {measured.each:.1f} s each, in {asked}")
