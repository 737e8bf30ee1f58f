"""The trials of `allencv tune`: what has been tried, and what to try next."""

import json
import math
import warnings
from dataclasses import asdict, dataclass, field
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any, Dict, Iterator, List, Optional, Sequence, Set, Tuple

from allennlp.common.checks import ConfigurationError

from allencv.experiments.objective import Objective
from allencv.experiments.runs import Config, Result, Run, check_folder
from allencv.experiments.search_space import Hyperparameter, Values, as_text, value_at, with_values
from allencv.runtime.installing import pip_install
from allencv.runtime.whole_files import write_text
from allencv.training.kept_weights import kept_weights
from allencv.training.run_folder import read_json

if TYPE_CHECKING:
    from optuna import Trial as AskedTrial

BEGUN, FINISHED, STOPPED, FAILED = "begun", "finished", "stopped", "failed"
"""The states of a trial. A stopped one was worse than others in its first epochs."""
STARTUP_TRIALS = 5
"""The trials that must have ended before a Gaussian process proposes values, or one is stopped."""
DEFAULT_EPOCHS = 20
"""The `num_epochs` of a trainer that is not told another number."""
TRIALS_FOR_IMPORTANCE = 10


@dataclass
class Trial:
    """A training with values for the searched keys."""

    name: str
    values: Values
    state: str = BEGUN
    score: Optional[float] = None
    """Of its model, or of the best epoch before it was stopped. More is better."""
    epoch_scores: List[Optional[float]] = field(default_factory=list)
    """`None` for an epoch without validation, or whose score is not a number."""
    metrics: Dict[str, Any] = field(default_factory=dict)
    error: str = ""

    @property
    def number(self) -> int:
        """The number in its name, from 0 on."""
        return int(self.name.removeprefix("trial_"))

    def rank(self) -> Tuple[float, float]:
        """Return what is larger for a better trial. Of equal scores, the lower loss is better."""
        assert self.score is not None
        return self.score, -self.metrics.get(f"{kept_weights(self.metrics)}_validation_loss", 0)


class Search:
    """
    What has been tried, and what to try next. `tune.json` of the folder has all of it, so that a
    search goes on where it has ended.

    # Raises

    `ConfigurationError` if Optuna is not installed, or if the folder has another search, a damaged
    `tune.json`, or trials without one.
    """

    def __init__(
        self, config: Config, space: Sequence[Hyperparameter], folder: Path, stop_early: bool
    ) -> None:
        optuna = imported_optuna()
        self.config, self.space, self.folder = config, space, folder
        self.objective = Objective(config)
        self.distributions = {each.key: each.distribution() for each in space}
        # What a trial has reached in an epoch says little if others have more epochs to go.
        stop_early = stop_early and not any(each.key == "trainer.num_epochs" for each in space)
        self.num_epochs = value_at(config, "trainer.num_epochs") or DEFAULT_EPOCHS
        pruner = optuna.pruners.MedianPruner(
            n_startup_trials=STARTUP_TRIALS, n_warmup_steps=self.num_epochs // 3
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
        else:
            self._write()
            self._remove_other_weights()

    def _trials_before(self) -> List[Trial]:
        """Return the trials of earlier calls. There is none in a new folder."""
        self.folder.mkdir(parents=True, exist_ok=True)
        file = self.folder / "tune.json"
        if not file.exists():
            self._check_unused()
            return []
        before = read_json(file)
        for key, value in self._experiment().items():
            if before.get(key) != json.loads(json.dumps(value)):
                raise ConfigurationError(
                    f"{file} is of a search with another {key}; expected the same config, "
                    "overrides and --space, or another folder (--serialization-dir)"
                )
        try:
            return [self._trial_before(trial) for trial in before["trials"]]
        except (KeyError, TypeError, ValueError) as error:
            raise ConfigurationError(
                f"{file} is damaged ({type(error).__name__}: {error}); restore it, or search in "
                "another folder (--serialization-dir)"
            ) from None

    def _trial_before(self, content: Dict[str, Any]) -> Trial:
        trial = Trial(**content)
        if trial.number < 0 or len(self._params(trial.values)) < len(self.space):
            raise ValueError(f"{trial.name} has values that are not in the space")
        if trial.state in (BEGUN, FAILED):
            # As in a sweep, what has failed is tried again: the reason may be gone.
            return Trial(trial.name, trial.values)
        scores = [each for each in trial.epoch_scores if each is not None]
        is_done = trial.state in (FINISHED, STOPPED) and trial.score is not None
        if not is_done or not all(map(math.isfinite, [trial.score or 0, *scores])):
            raise ValueError(f"{trial.name} is {trial.state} with the score {trial.score}")
        return trial

    def _check_unused(self) -> None:
        """Raise `ConfigurationError` if the folder has files that the search would overwrite."""
        for found in (*self.folder.glob("trial_*"), *self.folder.glob("best.json")):
            raise ConfigurationError(
                f"{found} exists, but there is no {self.folder / 'tune.json'}; expected a folder "
                "without trials, or that of an earlier search (--serialization-dir)"
            )

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

        # Raises

        `ConfigurationError` if the folder of a trial has a run of another config.
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

        tried = [self._params(trial.values) for trial in self.trials]
        number = 1 + max((trial.number for trial in self.trials), default=-1)
        # A seed for each: whether the search was interrupted before makes no difference.
        self.study.sampler = GPSampler(seed=number, n_startup_trials=STARTUP_TRIALS)
        while True:
            asked = self.study.ask(self.distributions)
            if asked.params not in tried:
                break
            self.study.tell(asked, state=TrialState.FAIL)
            if not isinstance(self.study.sampler, RandomSampler):
                self.study.sampler = RandomSampler(seed=number)
        values = {each.key: each.value_of(asked.params[each.key]) for each in self.space}
        trial = Trial(f"trial_{number}", values)
        self.trials.append(trial)
        self.asked[trial.name] = asked
        self._write()
        return trial

    def _run(self, trial: Trial, include_packages: List[str]) -> Run:
        # The best of many results on test data would be chance.
        config = {**with_values(self.config, trial.values), "evaluate_on_test": False}
        values = ", ".join(f"{key} {as_text(value)}" for key, value in trial.values.items())
        folder = self.folder / trial.name
        check_folder(folder, config)
        return Run(config, folder, include_packages, is_shown=False, about=f" with {values}")

    def has_to_end(self, folder: Path) -> bool:
        """Return whether the run of a trial is so much worse than others that it has to end."""
        trial = self._named(folder.name)
        has_news = self._read_epochs(trial)
        is_at_the_end = len(trial.epoch_scores) >= self.num_epochs
        if not has_news or is_at_the_end or not self.asked[trial.name].should_prune():
            return False
        self.stopped.add(trial.name)
        return True

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
                score = self.objective.of_epoch(read_json(file))
            except ConfigurationError:  # it is being written
                break
            if score is not None:
                self.asked[trial.name].report(score, epoch)
            trial.epoch_scores.append(score)
        return len(trial.epoch_scores) > before

    def tell(self, name: str, result: Result) -> Trial:
        """Learn from the result of a trial's run. Return the trial."""
        from optuna.trial import TrialState

        trial, asked = self._named(name), self.asked[name]
        self._read_epochs(trial)
        if name in self.stopped and "error" in result:
            state = STOPPED
            score = max((each for each in trial.epoch_scores if each is not None), default=None)
        else:
            state, trial.metrics = FINISHED, result.get("metrics", {})
            score = self.objective.of_run(trial.metrics)
        if score is not None:
            trial.state, trial.score = state, score
            self.study.tell(asked, score)
        else:
            trial.state = FAILED
            trial.error = result.get("error") or f"it has no finite {self.objective.name}"
            self.study.tell(asked, state=TrialState.FAIL)
        self._write()
        self._remove_other_weights()
        return trial

    @property
    def best_first(self) -> List[Trial]:
        """The finished trials."""
        finished = [trial for trial in self.trials if trial.state == FINISHED]
        return sorted(finished, key=Trial.rank, reverse=True)

    @property
    def best(self) -> Optional[Trial]:
        """The best of the finished trials."""
        return next(iter(self.best_first), None)

    def _write(self) -> None:
        best = self.best
        content = {
            "metric": self.objective.metric,
            "best": best and best.name,
            "importance": self.importance(),
            "trials": [asdict(trial) for trial in self.trials],
            **self._experiment(),
        }
        write_text(self.folder / "tune.json", json.dumps(content, indent=2) + "\n")
        if best is not None:
            config = with_values(self.config, best.values)
            write_text(self.folder / "best.json", json.dumps(config, indent=2) + "\n")

    def _remove_other_weights(self) -> None:
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
        with warnings.catch_warnings():
            warnings.simplefilter("error", UserWarning)
            try:
                shares = get_param_importances(self.study)
            except UserWarning:  # there are too few better trials
                return {}
        return {key: float(share) for key, share in shares.items()}


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
