"""Search for better values of a config: train it with some, and learn from the results."""

import json
import math
from collections import Counter
from dataclasses import asdict, dataclass, field
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any, Dict, Iterator, List, Optional, Sequence, Set

from allennlp.common.checks import ConfigurationError
from allennlp.common.params import with_overrides
from allennlp.training.metric_tracker import MetricTracker

from allencv.catalogue.find_mistakes import find_mistakes
from allencv.experiments.runs import Config, Result, Run, check_one_device, train_all
from allencv.experiments.search_space import SearchedValue, Values, as_text, value_at
from allencv.runtime.installing import pip_install
from allencv.runtime.whole_files import write_text
from allencv.training.run_folder import read_json

if TYPE_CHECKING:
    from optuna import Trial as AskedTrial

BEGUN, FINISHED, STOPPED, FAILED = "begun", "finished", "stopped", "failed"
"""The states of a trial. A stopped one was worse than others in its first epochs."""
FIRST_TRIALS = 5
"""The trials from which the Gaussian process learns, and which are not stopped."""
TRIALS_BEFORE_GIVING_UP = 3
"""If as many trials fail, and none has finished, all will."""
TRIALS_FOR_IMPORTANCE = 10
SHOWN = 10
"""The number of trials in the table."""


@dataclass
class Trial:
    """A training with values for the searched keys."""

    name: str
    values: Values
    state: str = BEGUN
    score: Optional[float] = None
    """Of its best epoch. More is better: it is the metric with the sign that the config gives."""
    epoch_scores: List[Optional[float]] = field(default_factory=list)
    """`None` for an epoch without validation."""
    metrics: Dict[str, Any] = field(default_factory=dict)
    error: str = ""


def tune(
    config: Config,
    space: Sequence[SearchedValue],
    folder: Path,
    total: int,
    include_packages: List[str],
    parallel: int = 1,
    on_ray: bool = False,
    stop_early: bool = True,
) -> List[Trial]:
    """
    Train the config `total` times with values of the space, each run in its own process and folder.
    The first has the config's own values, four have random ones, and the others have what a
    Gaussian process expects to improve most (Snoek et al. 2012, arXiv:1206.2944, by Optuna). The
    best epoch by `trainer.validation_metric` counts. No values are tried twice: there are fewer
    trials if the space has fewer.

    Print a line for each trial and a table of the best. Write `tune.json` after each trial, and
    `best.json`, the config with the best values. Only the best trial keeps its weights. Trials of
    an earlier call count.

    # Parameters

    parallel : `int`
        The number of trials at once.
    on_ray : `bool`
        Whether they run on Ray.
    stop_early : `bool`
        Whether a trial is stopped after an epoch in which its best score so far is below the median
        of what other trials had in that epoch. It counts with that best score.

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
        print(search.tell(trial_folder.name, result), flush=True)
        search.check_hope()
    print(search.summary())
    return search.trials


def check_space(config: Config, space: Sequence[SearchedValue]) -> None:
    """
    Check the config with each listed value and with the limits of each range.

    # Raises

    `ConfigurationError` for what cannot be set, or is a mistake; or without validation data.
    """
    if "validation_data_path" not in config:
        raise ConfigurationError("the config has no validation_data_path, by which values compete")
    first = {each.key: each.examples()[0] for each in space}
    for searched in space:
        if f"{searched.key}.".startswith("trainer.validation_metric."):
            raise ConfigurationError(
                "--space: trainer.validation_metric is what values are compared by; expected "
                "another key. Set it with -o"
            )
        for value in searched.examples():
            mistakes = find_mistakes(with_values(config, {**first, searched.key: value}))
            if errors := [each.message for each in mistakes if not each.is_warning]:
                raise ConfigurationError(
                    f"--space: {searched.key} {as_text(value)} makes a mistake: {errors[0]}"
                )


def with_values(config: Config, values: Values) -> Config:
    """Return the config with values at dotted keys."""
    for key, value in values.items():
        try:
            config = with_overrides(config, {key: value})
        except (KeyError, TypeError, ValueError) as error:
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            raise ConfigurationError(
                f"--space: {key} does not fit the config ({reason}); expected one of its keys, or "
                "a new key of one of its parts"
            ) from None
    return config


class Search:
    """
    What has been tried, and what to try next. `tune.json` of the folder has all of it, so that a
    search goes on where it has ended.
    """

    def __init__(
        self, config: Config, space: Sequence[SearchedValue], folder: Path, stop_early: bool
    ) -> None:
        optuna = imported_optuna()
        self.config, self.space, self.folder = config, space, folder
        metric = config.get("trainer", {}).get("validation_metric", "-loss")
        self.tracker = MetricTracker(metric)
        self.distributions = {each.key: each.distribution() for each in space}
        epochs = config.get("trainer", {}).get("num_epochs", 1)
        pruner = optuna.pruners.MedianPruner(
            n_startup_trials=FIRST_TRIALS, n_warmup_steps=epochs // 3
        )
        self.study = optuna.create_study(
            direction="maximize", pruner=pruner if stop_early else optuna.pruners.NopPruner()
        )
        self.asked: Dict[str, AskedTrial] = {}
        self.stopped: Set[str] = set()
        self.trials = self._trials_before()
        for trial in self.trials:
            if trial.state == BEGUN:
                self.study.enqueue_trial(self._params(trial.values))  # the next that is asked for
                self.asked[trial.name] = self.study.ask(self.distributions)
            else:
                self.study.add_trial(self._as_frozen(trial))
        if not self.trials:
            own = self._params({each.key: value_at(config, each.key) for each in space})
            self.study.enqueue_trial(own)

    def _trials_before(self) -> List[Trial]:
        """Return the trials of earlier calls. There is none in a new folder."""
        self.folder.mkdir(parents=True, exist_ok=True)
        file = self.folder / "tune.json"
        if not file.exists():
            return []
        before = read_json(file)
        for key, value in self._experiment().items():
            if before.get(key) != json.loads(json.dumps(value)):
                raise ConfigurationError(
                    f"{file} is of a search with another {key}; expected the same config, "
                    "overrides and --space, or another folder (--serialization-dir)"
                )
        trials = [Trial(**trial) for trial in before["trials"]]
        # As in a sweep, what has failed is tried again: the reason may be gone.
        again = (BEGUN, FAILED)
        return [Trial(each.name, each.values) if each.state in again else each for each in trials]

    def _experiment(self) -> Dict[str, Any]:
        """Return what makes the trials of two calls comparable."""
        return {"config": self.config, "space": [asdict(each) for each in self.space]}

    def _params(self, values: Values) -> Dict[str, Any]:
        """Return the parameters of Optuna, without those whose value is not in the space."""
        params = {each.key: each.param_of(values[each.key]) for each in self.space}
        return {key: param for key, param in params.items() if param is not None}

    def _as_frozen(self, trial: Trial) -> Any:
        from optuna.trial import TrialState, create_trial

        scores = enumerate(trial.epoch_scores)
        return create_trial(
            state=TrialState.COMPLETE,
            value=trial.score,
            params=self._params(trial.values),
            distributions=self.distributions,
            intermediate_values={epoch: score for epoch, score in scores if score is not None},
        )

    def left(self, total: int) -> int:
        """Return how many of `total` trials have to be trained yet."""
        done = sum(trial.state != BEGUN for trial in self.trials)
        return int(max(min(total, self.size), len(self.trials))) - done

    def runs(self, total: int, include_packages: List[str]) -> Iterator[Run]:
        """
        Yield the runs of trials that were interrupted or failed, then of new ones, up to `total` in
        all. Each new one learns from those that have ended.
        """
        for trial in [each for each in self.trials if each.state == BEGUN]:
            yield self._run(trial, include_packages)
        while len(self.trials) < min(total, self.size):
            yield self._run(self._propose(), include_packages)

    @property
    def size(self) -> float:
        """The number of trials with different values, which may be infinite."""
        return math.prod(each.size for each in self.space)

    def _propose(self) -> Trial:
        """Make a trial with new values: with those of another it would have its score."""
        from optuna.samplers import GPSampler, RandomSampler
        from optuna.trial import TrialState

        number = len(self.trials)
        # A seed for each: whether the search was interrupted before makes no difference.
        self.study.sampler = GPSampler(seed=number, n_startup_trials=FIRST_TRIALS)
        while True:
            asked = self.study.ask(self.distributions)
            values = {each.key: each.value_of(asked.params[each.key]) for each in self.space}
            if all(values != trial.values for trial in self.trials):
                break
            self.study.tell(asked, state=TrialState.FAIL)
            if not isinstance(self.study.sampler, RandomSampler):
                self.study.sampler = RandomSampler(seed=number)
        trial = Trial(f"trial_{number}", values)
        self.trials.append(trial)
        self.asked[trial.name] = asked
        self._write()
        return trial

    def _run(self, trial: Trial, include_packages: List[str]) -> Run:
        # The best of many results on test data would be chance.
        config = {**with_values(self.config, trial.values), "evaluate_on_test": False}
        return Run(config, self.folder / trial.name, include_packages, is_shown=False)

    def has_to_end(self, folder: Path) -> bool:
        """Return whether the run of a trial is so much worse than others that it has to end."""
        trial = self._named(folder.name)
        if self._read_epochs(trial) and self.asked[trial.name].should_prune():
            self.stopped.add(trial.name)
            return True
        return False

    def _named(self, name: str) -> Trial:
        return next(trial for trial in self.trials if trial.name == name)

    def _read_epochs(self, trial: Trial) -> bool:
        """Read the scores of new epochs. Return whether there are any."""
        before = len(trial.epoch_scores)
        for epoch in count(before):
            file = self.folder / trial.name / f"metrics_epoch_{epoch}.json"
            if not file.exists():
                break
            try:
                score = self._score(read_json(file), "validation_")
            except ConfigurationError:  # it is being written
                break
            if score is not None:
                self.asked[trial.name].report(score, epoch)
            trial.epoch_scores.append(score)
        return len(trial.epoch_scores) > before

    def _score(self, metrics: Dict[str, Any], prefix: str) -> Optional[float]:
        """Return the metric to maximize, or `None` if the metrics do not have it."""
        of_model = {key[len(prefix) :]: metrics[key] for key in metrics if key.startswith(prefix)}
        try:
            return float(self.tracker.combined_score(of_model))
        except ConfigurationError:
            return None

    def tell(self, name: str, result: Result) -> str:
        """Learn from the result of a trial's run. Return a line that says it."""
        from optuna.trial import TrialState

        trial, asked = self._named(name), self.asked[name]
        self._read_epochs(trial)
        metrics = result.get("metrics", {})
        score = self._score(metrics, "best_validation_")
        if "error" not in result and score is not None and math.isfinite(score):
            trial.state, trial.score, trial.metrics = FINISHED, score, metrics
            self.study.tell(asked, score)
        elif name in self.stopped and "error" in result:
            trial.state = STOPPED
            trial.score = max(each for each in trial.epoch_scores if each is not None)
            self.study.tell(asked, trial.score)
        else:
            trial.state = FAILED
            trial.error = result.get("error") or f"its {self.metric} is {score}"
            self.study.tell(asked, state=TrialState.FAIL)
        self._write()
        self._keep_best()
        return self._line(trial)

    def check_hope(self) -> None:
        """Raise `ConfigurationError` if the first trials have all failed."""
        failed = [trial for trial in self.trials if trial.state == FAILED]
        if len(failed) >= TRIALS_BEFORE_GIVING_UP and self.best is None:
            raise ConfigurationError(
                f"the first {len(failed)} trials have failed, {failed[-1].name} with: "
                f"{failed[-1].error}"
            )

    @property
    def best(self) -> Optional[Trial]:
        """The finished trial with the best score; of equal ones that with the lowest loss."""
        finished = [trial for trial in self.trials if trial.state == FINISHED]
        return max(finished, key=_rank) if finished else None

    @property
    def metric(self) -> str:
        """The name of what `shown` returns."""
        (_, name), *others = self.tracker.tracked_metrics
        return "score" if others else name

    def shown(self, score: float) -> str:
        """Return the metric without its sign, or the sum of several with their signs."""
        (sign, _), *others = self.tracker.tracked_metrics
        return f"{score if others else sign * score:.4f}"

    def _write(self) -> None:
        best = self.best
        content = {
            "metric": self.config.get("trainer", {}).get("validation_metric", "-loss"),
            "best": best and best.name,
            "importance": self.importance(),
            "trials": [asdict(trial) for trial in self.trials],
            **self._experiment(),
        }
        write_text(self.folder / "tune.json", json.dumps(content, indent=2) + "\n")
        if best is not None:
            config = with_values(self.config, best.values)
            write_text(self.folder / "best.json", json.dumps(config, indent=2) + "\n")

    def _keep_best(self) -> None:
        """Remove the weights of trials that are done, but for those of the best."""
        for trial in self.trials:
            if trial is not self.best and trial.state in (FINISHED, STOPPED):
                folder = self.folder / trial.name
                for file in (*folder.glob("*.th"), *folder.glob("model.tar.gz")):
                    file.unlink()

    def importance(self) -> Dict[str, float]:
        """
        Return the share of each key in what sets the better trials apart, from ten trials on
        (PED-ANOVA, Watanabe et al. 2023, arXiv:2304.10255).
        """
        from optuna.importance import get_param_importances

        scores = [trial.score for trial in self.trials if trial.score is not None]
        few = len(scores) < TRIALS_FOR_IMPORTANCE or len(self.space) < 2
        if few or len(set(scores)) < 2:
            return {}
        return {key: float(share) for key, share in get_param_importances(self.study).items()}

    def _line(self, trial: Trial) -> str:
        values = ", ".join(f"{key} {as_text(value)}" for key, value in trial.values.items())
        if trial.state == FAILED:
            return f"{trial.name}: failed: {trial.error}; {values}"
        assert trial.score is not None
        if trial.state == STOPPED:
            number, score = len(trial.epoch_scores), self.shown(trial.score)
            epochs = "1 epoch" if number == 1 else f"{number} epochs"
            return f"{trial.name}: stopped after {epochs}, {self.metric} {score}; {values}"
        mark = " (best so far)" if trial is self.best else ""
        return f"{trial.name}: {self.metric} {self.shown(trial.score)}{mark}; {values}"

    def summary(self) -> str:
        """Return a table of the best trials, how many there were, and what mattered most."""
        finished = [trial for trial in self.trials if trial.state == FINISHED]
        best_first = sorted(finished, key=_rank, reverse=True)[:SHOWN]
        rows = [["trial", self.metric, *(each.key for each in self.space)]]
        for trial in best_first:
            assert trial.score is not None
            values = (as_text(trial.values[each.key]) for each in self.space)
            rows.append([trial.name, self.shown(trial.score), *values])
        widths = [max(map(len, column)) for column in zip(*rows)]
        lines = [
            "  ".join([name.ljust(widths[0]), *map(str.rjust, cells, widths[1:])])
            for name, *cells in rows
        ]
        counts = Counter(trial.state for trial in self.trials)
        states = ", ".join(
            f"{counts[state]} {_STATES[state]}" for state in _STATES if counts[state]
        )
        lines.append(f"{len(self.trials)} trials: {states}")
        if importance := self.importance():
            shares = ", ".join(f"{key} {share:.2f}" for key, share in importance.items())
            lines.append(f"importance: {shares}")
        return "\n".join(lines)


_STATES = {FINISHED: "finished", STOPPED: "stopped early", FAILED: "failed"}


def _rank(trial: Trial) -> Any:
    return trial.score, -trial.metrics.get("best_validation_loss", 0)


def imported_optuna() -> Any:
    """
    Return Optuna, which then logs only warnings.

    # Raises

    `ConfigurationError` if it is not installed.
    """
    try:
        import optuna
    except ModuleNotFoundError:
        raise ConfigurationError(
            f"tune needs Optuna, which is not installed: {pip_install('optuna')}"
        ) from None
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna
