"""Search for better values of a config: train it with some, and learn from the results."""

from collections import Counter
from itertools import product
from pathlib import Path
from typing import List, Sequence

from allennlp.common.checks import ConfigurationError

from allencv.catalogue.config_files import is_below
from allencv.catalogue.find_mistakes import find_mistakes
from allencv.experiments.objective import Objective
from allencv.experiments.runs import Config, check_one_device, train_all
from allencv.experiments.search_space import Hyperparameter, as_text, with_values
from allencv.experiments.trials import FAILED, FINISHED, STOPPED, Search, Trial

TRIALS_BEFORE_GIVING_UP = 3
"""After as many failures without a finished trial, the search ends."""
SAME_FOR_ALL = (
    *("trainer.validation_metric", "validation_data_path", "evaluate_on_test"),
    *("trainer.cuda_device", "distributed"),
)
"""The keys by which trials are compared, and where they are trained."""
CHANGE_THE_LOSS = ("model.loss", "model.class_weights")
SHOWN = 10
"""The number of trials in the table."""
STATES = {FINISHED: "finished", STOPPED: "stopped early", FAILED: "failed"}


def tune(
    config: Config,
    space: Sequence[Hyperparameter],
    folder: Path,
    total: int,
    include_packages: List[str],
    parallel: int = 1,
    on_ray: bool = False,
    stop_early: bool = True,
) -> Search:
    """
    Train the config `total` times with values of the space, each run in its own process and folder.
    The first has the config's own values (and random ones for those that the config does not have,
    or that are not in the space). Values are random until five trials have ended. Then they are
    what a Gaussian process expects to improve most (Snoek et al. 2012, arXiv:1206.2944, by Optuna).
    The `trainer.validation_metric` of the final model counts. No values are tried twice: there are
    fewer trials if the space has fewer.

    Print a line for each trial and a table of the best. Write `tune.json` after each trial, and
    `best.json`, the config with the best values. Of the trials that are done, only the best keeps
    its weights. Trials of an earlier call count.

    # Parameters

    parallel : `int`
        The number of trials at once.
    on_ray : `bool`
        Whether they run on Ray.
    stop_early : `bool`
        Whether to stop a trial if its best score so far is below the median of the trials that have
        ended, at the same epoch. It counts with that best score. Trials are not stopped if
        `trainer.num_epochs` is searched.

    # Raises

    `ConfigurationError` if the config, the space or the folder does not fit, or if the first trials
    have all failed.
    """
    check_space(config, space)
    if parallel > 1 or on_ray:
        check_one_device(config)
    search = Search(config, space, folder, stop_early)
    left = search.left(total)
    for trial_folder, result in train_all(
        search.runs(total, include_packages),
        max(1, min(parallel, left)),
        on_ray and left > 0,
        search.has_to_end,
    ):
        trial = search.tell(trial_folder.name, result)
        print(as_line(search, trial), flush=True)
        check_first_trials(search)
    print(as_table(search))
    return search


def check_space(config: Config, space: Sequence[Hyperparameter]) -> None:
    """
    Check the config with each listed value and with the limits of each range: each key alone, but a
    key with those below it.

    # Raises

    `ConfigurationError` if a key cannot be set, a value is a mistake, trials could not be compared,
    or there are no validation data.
    """
    if "validation_data_path" not in config:
        raise ConfigurationError(
            "the config has no validation_data_path; expected data to compare trials by"
        )
    for searched in space:
        for key in SAME_FOR_ALL:
            if is_below(searched.key, key) or is_below(key, searched.key):
                raise ConfigurationError(
                    f"--space: {searched.key} sets {key}, which has to be the same for all trials; "
                    "expected another key. Set it with -o"
                )
        changes_loss = any(is_below(searched.key, key) for key in CHANGE_THE_LOSS)
        if changes_loss and Objective(config).is_loss:
            raise ConfigurationError(
                f"--space: {searched.key} changes the loss, by which trials are compared; expected "
                "a trainer.validation_metric without the loss, such as '+accuracy'"
            )
        if any(is_below(searched.key, each.key) for each in space if each is not searched):
            continue  # it is checked with the key above it
        together = [each for each in space if is_below(each.key, searched.key)]
        for values in product(*(each.examples() for each in together)):
            given = dict(zip((each.key for each in together), values))
            mistakes = find_mistakes(with_values(config, given))
            if errors := [each.message for each in mistakes if not each.is_warning]:
                said = ", ".join(f"{key} {as_text(value)}" for key, value in given.items())
                raise ConfigurationError(f"--space: {said} makes a mistake: {errors[0]}")


def check_first_trials(search: Search) -> None:
    """Raise `ConfigurationError` if the first trials have all failed."""
    failed = [trial for trial in search.trials if trial.state == FAILED]
    if len(failed) >= TRIALS_BEFORE_GIVING_UP and search.best is None:
        raise ConfigurationError(
            f"the first {len(failed)} trials have failed, {failed[-1].name} with: "
            f"{failed[-1].error}"
        )


def as_line(search: Search, trial: Trial) -> str:
    """Return a line about a trial that has ended."""
    if trial.score is None:
        return f"{trial.name}: failed: {trial.error}"
    score = f"{search.objective.name} {search.objective.text(trial.score)}"
    if trial.state == STOPPED:
        number = len(trial.epoch_scores)
        epochs = "1 epoch" if number == 1 else f"{number} epochs"
        return f"{trial.name}: stopped after {epochs}, {score}"
    mark = " (best so far)" if trial is search.best else ""
    return f"{trial.name}: {score}{mark}"


def as_table(search: Search) -> str:
    """Return a table of the best trials, how many there are, and which keys matter most."""
    rows = [["trial", search.objective.name, *(each.key for each in search.space)]]
    for trial in search.best_first[:SHOWN]:
        assert trial.score is not None
        values = (as_text(trial.values[each.key]) for each in search.space)
        rows.append([trial.name, search.objective.text(trial.score), *values])
    widths = [max(map(len, column)) for column in zip(*rows)]
    lines = [
        "  ".join([name.ljust(widths[0]), *map(str.rjust, cells, widths[1:])])
        for name, *cells in rows
    ]
    counts = Counter(trial.state for trial in search.trials)
    states = (f"{counts[each]} {text}" for each, text in STATES.items() if counts[each])
    lines = lines if search.best else []
    number = "1 trial" if len(search.trials) == 1 else f"{len(search.trials)} trials"
    lines.append(f"{number}: {', '.join(states)}")
    if len(search.trials) == search.size:
        lines.append("the space has no more values")
    if importance := search.importance():
        shares = ", ".join(f"{key} {share:.2f}" for key, share in importance.items())
        lines.append(f"importance: {shares}")
    return "\n".join(lines)
