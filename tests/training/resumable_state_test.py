"""The figures of a run that was interrupted, or that had ended, are those of one that was not."""

import json
from collections import defaultdict
from contextlib import nullcontext
from pathlib import Path
from typing import Any, Dict, List, Optional

import pytest
import torch
import torch.distributed as dist
from allennlp.common.checks import ConfigurationError
from allennlp.training.metrics import Metric

import allencv.plugin  # noqa: F401
from allencv.data.data_loaders.batch_plan import BatchPlan
from allencv.training.metrics import TopKAccuracy
from allencv.training.resumable_state import ResumableState
from allencv.training.running_losses import RunningLosses
from tests.configs import experiment
from tests.models.multilabel_data import multilabel_experiment, write_tables
from tests.training import surprise  # noqa: F401
from tests.training.callbacks.interruption import metrics_of, train, train_interrupted

pytestmark = pytest.mark.slow

METRICS = {
    "by_class": "per_class",
    "f1": {"type": "f1_score", "average": "macro"},
    "auroc": "auroc",
    "auroc_of_counts": {"type": "auroc", "thresholds": 20},
    "calibration": "calibration_error",
    "confusions": "confusion_matrix",
    "allennlps": {"type": "fbeta", "average": "macro"},
    "surprise": "surprise",
    "by_kind": "seen_by_class",
}
CHECKPOINTS = {"trainer__checkpointer": {"save_every_num_batches": 1}}


@Metric.register("seen_by_class")
class SeenByClass(Metric):
    """A user's metric, which knows nothing of checkpoints."""

    def __init__(self) -> None:
        self.reset()

    def __call__(self, predictions: torch.Tensor, gold_labels: torch.Tensor) -> None:
        for label in gold_labels.tolist():
            self._counts[label] += 1

    def get_metric(self, reset: bool = False) -> Dict[str, float]:
        counts = {str(label): float(count) for label, count in sorted(self._counts.items())}
        if reset:
            self.reset()
        return counts

    def reset(self) -> None:
        self._counts: Dict[int, int] = defaultdict(int)


@Metric.register("seen_in_a_file")
class SeenInAFile(SeenByClass):
    """One with something that no checkpoint can hold."""

    def __init__(self) -> None:
        super().__init__()
        self.file = Path("somewhere")


def figures(folder: Path, name: str = "metrics.json") -> Dict[str, Any]:
    """What a run has reported, without what the machine alone decides."""
    metrics = json.loads((folder / name).read_text())
    return {
        key: value
        for key, value in metrics.items()
        if key != "training_duration" and not key.endswith("_memory_MB")
    }


def seconds(folder: Path, name: str = "metrics.json") -> float:
    hours, minutes, rest = json.loads((folder / name).read_text())["training_duration"].split(":")
    return 3600 * int(hours) + 60 * int(minutes) + float(rest)


def assert_same_figures(first: Path, second: Path, epochs: int) -> None:
    for name in ["metrics.json", *(f"metrics_epoch_{epoch}.json" for epoch in range(epochs))]:
        assert figures(first, name) == figures(second, name), name


def test_training_metrics_of_an_interrupted_epoch_are_those_of_all_its_images(
    cats_and_dogs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = experiment(
        cats_and_dogs,
        data_loader__batch_size=8,
        model__metrics=METRICS,
        trainer__callbacks=["power_cut"],
        **CHECKPOINTS,
    )
    train(config, tmp_path / "straight")
    reported = figures(tmp_path / "straight")
    assert len([key for key in reported if key.startswith("training_")]) > 20
    for at in ((0, 2), (0, 3), (2, 2)):
        interrupted = tmp_path / f"interrupted at {at}"
        train_interrupted(config, interrupted, at, monkeypatch)
        assert_same_figures(tmp_path / "straight", interrupted, 3)
        assert seconds(interrupted, "metrics_epoch_0.json") < seconds(interrupted)


def test_it_holds_for_several_labels_and_accumulated_losses(
    cats_and_dogs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = multilabel_experiment(
        write_tables(cats_and_dogs, tmp_path),
        model__regularizer={"regexes": [["weight", {"type": "l2", "alpha": 0.01}]]},
        model__metrics={"f1": {"type": "f1_score", "average": "macro"}},
        trainer__callbacks=["power_cut"],
        trainer__num_gradient_accumulation_steps=2,
        **CHECKPOINTS,
    )
    train(config, tmp_path / "straight")
    train_interrupted(config, tmp_path / "interrupted", (1, 2), monkeypatch)
    assert_same_figures(tmp_path / "straight", tmp_path / "interrupted", 3)
    assert "training_reg_loss" in figures(tmp_path / "interrupted")


def test_it_holds_for_a_teacher(
    cats_and_dogs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train(experiment(cats_and_dogs, trainer__num_epochs=1), tmp_path / "teacher")
    config = experiment(
        cats_and_dogs,
        model__distillation={"teacher": str(tmp_path / "teacher")},
        trainer__num_epochs=1,
        trainer__callbacks=["power_cut"],
        **CHECKPOINTS,
    )
    train(config, tmp_path / "straight")
    train_interrupted(config, tmp_path / "interrupted", (0, 4), monkeypatch)
    assert_same_figures(tmp_path / "straight", tmp_path / "interrupted", 1)
    assert "training_distillation_loss" in figures(tmp_path / "interrupted")


def test_what_a_checkpoint_cannot_hold_is_said(
    cats_and_dogs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = experiment(
        cats_and_dogs,
        model__metrics={"seen": "seen_in_a_file"},
        trainer__callbacks=["power_cut"],
        trainer__num_epochs=1,
        **CHECKPOINTS,
    )
    train_interrupted(config, tmp_path, (0, 5), monkeypatch)
    log = (tmp_path / "out.log").read_text()
    assert "does not hold the counts of _metrics.seen: the training metrics of epoch 1" in log
    seen = figures(tmp_path)
    assert seen["training_seen_0"] + seen["training_seen_1"] == 2 * 4  # of 24


def test_a_finished_run_is_left_as_it_is(cats_and_dogs: Path, tmp_path: Path) -> None:
    config = experiment(cats_and_dogs, model__metrics=METRICS)
    train(config, tmp_path)
    before = metrics_of(tmp_path)
    weights = (tmp_path / "best.th").read_bytes()
    train(config, tmp_path, recover=True)
    assert metrics_of(tmp_path) == before
    assert (tmp_path / "best.th").read_bytes() == weights


def test_a_run_that_ran_out_of_patience_is_not_trained_further(
    cats_and_dogs: Path, tmp_path: Path
) -> None:
    config = experiment(
        cats_and_dogs,
        model__metrics={"surprise": "surprise"},
        trainer__num_epochs=10,
        trainer__patience=2,
        trainer__validation_metric="+surprise",  # which the first epoch has most of
        trainer__optimizer={"type": "sgd", "lr": 0.05},
    )
    train(config, tmp_path)
    before = metrics_of(tmp_path)
    assert before["epoch"] == 2
    train(config, tmp_path, recover=True)
    assert metrics_of(tmp_path) == before
    assert not (tmp_path / "metrics_epoch_3.json").exists()


class OneOfTwo:
    """As much of a trainer as the state needs: one rank of two, which has made some steps."""

    def __init__(self, loss: float) -> None:
        self.model = torch.nn.Linear(1, 1)
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=0.1)
        self.cuda_device = torch.device("cpu")
        self._distributed, self._world_size = True, 2
        self._num_gradient_accumulation_steps = 1
        self._learning_rate_scheduler = self._momentum_scheduler = self._scaler = None
        self._time_limit = None
        self._epochs_completed, self._batches_in_epoch_completed = 0, 1
        self._total_batches_completed = 1
        self._losses = RunningLosses()
        self._losses.add([{"loss": torch.tensor(loss)}], images=[2])
        self.data_loader: List[Any] = []  # one that leaves nothing out
        self.model.metric = TopKAccuracy()
        self.model.metric(torch.eye(2), torch.tensor([0, int(loss)]))


def test_each_rank_goes_on_from_its_own_state(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    states = [ResumableState(str(tmp_path), OneOfTwo(loss)) for loss in (1.0, 3.0)]
    of_ranks = [state._state_of_rank() for state in states]

    def gather(into: List[Any], state: Any) -> None:
        into[:] = of_ranks

    monkeypatch.setattr(dist, "all_gather_object", gather)
    monkeypatch.setattr(dist, "get_world_size", lambda: 2)
    states[0].collect()
    torch.save(states[0].state_dict(), tmp_path / "state.th")  # the first one saves for both
    for rank, loss in enumerate((1.0, 3.0)):
        monkeypatch.setattr(dist, "get_rank", lambda rank=rank: rank)
        trainer = OneOfTwo(100.0)
        trainer.model.metric.reset()
        state = ResumableState(str(tmp_path), trainer)
        state.load_state_dict(torch.load(tmp_path / "state.th", weights_only=True))
        state.restore()
        assert trainer._losses.read()["loss"] == loss
        assert trainer.model.metric.get_metric() == (1.0 if loss == 1.0 else 0.5)
    assert not caplog.text
    # Another number of processes shares the images out in another way.
    trainer = OneOfTwo(100.0)
    trainer._world_size = 3
    state = ResumableState(str(tmp_path), trainer)
    state.load_state_dict(torch.load(tmp_path / "state.th", weights_only=True))
    state.restore()
    assert "does not hold the counts of loss, metric: the training metrics" in caplog.text


class Planned:
    """A loader of `images`, of which nothing is read."""

    data_path = ""
    batches_left_out = 0
    another_epoch_follows = False

    def __init__(self, images: Optional[int], batch_size: int, ranks: int) -> None:
        self.batch_size = batch_size
        self.plan = None if images is None else BatchPlan(images, batch_size, ranks)

    def __len__(self) -> int:
        if self.plan is None:
            raise TypeError("a stream")
        return len(self.plan)

    def keep_pace(self) -> None:
        pass

    def count_images(self, batch: int) -> Optional[int]:
        assert self.plan is not None
        start, stop = self.plan.bounds(batch)
        return stop - start

    def seek(self, *arguments: int) -> Any:
        raise AssertionError("nothing is read")

    __iter__ = identity = labels = iter_instances = seek


@pytest.mark.parametrize(
    ("images", "steps", "refused"),
    [(19, 1, False), (19, 2, True), (20, 2, False), (None, 1, True), (19, 0, False)],
)
def test_another_number_of_processes_goes_on_with_the_next_images_or_not_at_all(
    images: Optional[int], steps: int, refused: bool, tmp_path: Path
) -> None:
    """19 images are 8, 8 and 3 for one process, and 8 and 11 for two with half the batch size."""
    one, two = OneOfTwo(1.0), OneOfTwo(1.0)
    one._distributed, one._world_size = False, 1
    one._batches_in_epoch_completed = two._start_after_batches_in_epoch_completed = steps
    one.data_loader, two.data_loader = Planned(images, 8, 1), Planned(images, 4, 2)
    state = ResumableState(str(tmp_path), two)
    state.load_state_dict(ResumableState(str(tmp_path), one).state_dict())
    expected = pytest.raises(ConfigurationError, match="where 2 processes would go on with other")
    with expected if refused else nullcontext():
        state.apply_changed_config()


def test_a_checkpoint_of_an_earlier_version_is_read(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    trainer = OneOfTwo(1.0)
    trainer._distributed, trainer._world_size = False, 1
    saved = ResumableState(str(tmp_path), trainer)._state_of_rank()
    del saved["losses"], saved["counts"]
    state = ResumableState(str(tmp_path), trainer)
    state.load_state_dict({**saved, "steps": 7})
    state.apply_changed_config()
    state.restore()
    assert trainer._total_batches_completed == 7
    assert "does not hold the counts of loss, metric" in caplog.text
