import datetime
import json
import logging
import os
import random
import time
from typing import Any, Dict, List, Optional, Protocol

import numpy
import torch
import torch.distributed as dist
from allennlp.common.checks import ConfigurationError
from allennlp.data import DataLoader
from allennlp.models import Model
from allennlp.training.callbacks import TrainerCallback
from allennlp.training.gradient_descent_trainer import GradientDescentTrainer

from allencv.runtime.plurals import numbered
from allencv.runtime.whole_files import write_text
from allencv.training.configured_values import apply_changes, configured_values
from allencv.training.epoch_batches import count_batches
from allencv.training.metric_counts import restore_counts, save_counts
from allencv.training.protocols import SeekableLoader
from allencv.training.running_losses import RunningLosses
from allencv.training.time_limit import TimeLimit

logger = logging.getLogger(__name__)

State = Dict[str, Any]


class ResumableTrainer(Protocol):
    """What `ResumableState` saves and restores of its owner, the `ImageTrainer`."""

    model: Model
    data_loader: DataLoader
    cuda_device: torch.device
    _distributed: bool
    _num_gradient_accumulation_steps: int
    _world_size: int
    _epochs_completed: int
    _batches_in_epoch_completed: int
    _start_after_batches_in_epoch_completed: int
    _total_batches_completed: int
    _losses: RunningLosses
    _scaler: Optional[torch.amp.GradScaler]
    _time_limit: Optional[TimeLimit]


class ResumableState(TrainerCallback):
    """
    The state that AllenNLP's checkpoints leave out. A checkpoint holds it as the state of a
    callback:

    * for each rank the random generators, the gradient scaler, the number of steps, and the counts
      of the losses and metrics of the epoch so far;
    * the metrics of earlier epochs, and the seconds of training so far;
    * the configured values of optimizer and schedulers, to find changes of the config.

    # Parameters

    serialization_dir : `str`
    trainer : `ResumableTrainer`
        The owner of the state.
    """

    def __init__(self, serialization_dir: str, trainer: ResumableTrainer) -> None:
        super().__init__(serialization_dir)
        self.trainer = trainer
        self._ranks: List[State] = []
        self._saved: Optional[State] = None
        self._configured = configured_values(trainer)
        self._metrics: Dict[str, Any] = {}
        self._earlier: Dict[str, Any] = {}  # the metrics of the epochs before this process
        self._seconds_before = 0.0
        self._started: Optional[float] = None

    def collect(self) -> None:
        """Collect the states of all ranks, for one to save. All ranks must call this."""
        state = self._state_of_rank()
        self._ranks = [state]
        if self.trainer._distributed:
            self._ranks = [{}] * dist.get_world_size()
            dist.all_gather_object(self._ranks, state)

    def state_dict(self) -> State:
        if not self._ranks:
            self.collect()
        return {
            "ranks": self._ranks,
            "metrics": self._metrics,
            "seconds": self.seconds(),
            "schedule": None if self.trainer._time_limit is None else self.trainer._time_limit.step,
            "configured": self._configured,
            "images_per_step": self._images_per_step(),
            "images_in_epoch": self._images_in_epoch(self.trainer._batches_in_epoch_completed),
        }

    def _images_per_step(self) -> Optional[int]:
        """Return how many images a step has on all ranks, if the data loader says so."""
        batch_size = getattr(self.trainer.data_loader, "batch_size", None)
        if not isinstance(batch_size, int):
            return None
        trainer = self.trainer
        return batch_size * trainer._num_gradient_accumulation_steps * (trainer._world_size or 1)

    def _images_in_epoch(self, steps: int) -> Optional[int]:
        """Return how many images the first steps of an epoch have, if that is known."""
        loader = self.trainer.data_loader
        length = count_batches(loader)
        if length is None or not isinstance(loader, SeekableLoader):
            return None
        batches = min(steps * self.trainer._num_gradient_accumulation_steps, length)
        counts = [loader.count_images(batch) for batch in range(batches)]
        return None if None in counts else sum(filter(None, counts))

    def _state_of_rank(self) -> State:
        kind, keys, position, has_gauss, gauss = numpy.random.get_state()  # noqa: NPY002
        scaler = self.trainer._scaler
        return {
            "python": random.getstate(),
            "numpy": (kind, list(map(int, keys)), position, has_gauss, gauss),
            "torch": torch.get_rng_state(),
            "cuda": torch.cuda.get_rng_state_all(),
            "scaler": None if scaler is None else scaler.state_dict(),
            "steps": self.trainer._total_batches_completed,
            "losses": self.trainer._losses.state_dict(),
            "counts": save_counts(self.trainer.model),
            "batches_left_out": self._left_out(),
        }

    def _left_out(self) -> int:
        loader = self.trainer.data_loader
        return loader.batches_left_out if isinstance(loader, SeekableLoader) else 0

    def load_state_dict(self, state_dict: State) -> None:
        self._saved = state_dict
        self._metrics = self._earlier = state_dict.get("metrics", {})
        self._seconds_before = state_dict.get("seconds", 0.0)
        if self.trainer._time_limit is not None:
            scheduled = state_dict.get("schedule")
            steps = self._ranks_of(state_dict)[0].get("steps", 0)
            self.trainer._time_limit.step = steps if scheduled is None else scheduled

    def apply_changed_config(self) -> None:
        """
        Apply changes of the config to the loaded optimizer and schedulers.

        # Raises

        `ConfigurationError` if a step would have another number of images: the place in the epoch
        and the learning rate depend on it.
        """
        then = (self._saved or {}).get("images_per_step")
        now = self._images_per_step()
        if self._saved and None not in (then, now) and then != now:
            raise ConfigurationError(
                f"the run was trained with {numbered(len(self._ranks_of(self._saved)), 'process')} "
                f"and {then} images per step, and would resume with "
                f"{numbered(self.trainer._world_size or 1, 'process')} and {now}; expected the "
                "same number of images: that of the processes times data_loader.batch_size times "
                "trainer.num_gradient_accumulation_steps"
            )
        self._check_place()
        if self._saved and "configured" in self._saved:
            apply_changes(self.trainer, self._saved["configured"], self._configured)

    def _check_place(self) -> None:
        """Check that other processes go on in an interrupted epoch where those before stopped."""
        saved, processes = self._saved or {}, self.trainer._world_size or 1
        if "images_in_epoch" not in saved or len(self._ranks_of(saved)) == processes:
            return
        steps = self.trainer._start_after_batches_in_epoch_completed
        if steps == 0:
            return
        then, now = saved["images_in_epoch"], self._images_in_epoch(steps)
        if then is None or then != now:
            raise ConfigurationError(
                f"the run was trained with {numbered(len(self._ranks_of(saved)), 'process')} and "
                f"stopped within an epoch, where {numbered(processes, 'process')} would go on with "
                "other images; expected the same number of processes"
            )

    @property
    def batches_left_out(self) -> int:
        """The number of batches that the data loader left out of the interrupted epoch."""
        return self._of_this_rank(self._saved).get("batches_left_out", 0) if self._saved else 0

    def restore(self) -> None:
        """Restore the state just before training resumes, after all other random draws."""
        saved, self._saved = self._saved, None
        if self._started is None:
            self._started = time.time()
        if not saved:
            return
        state = self._of_this_rank(saved)
        saved_ranks = len(self._ranks_of(saved))
        if self._rank() < saved_ranks:  # another one goes on with its own seed
            random.setstate(state["python"])
            numpy.random.set_state(state["numpy"])  # noqa: NPY002
            torch.set_rng_state(state["torch"])
            if len(state["cuda"]) == torch.cuda.device_count():
                torch.cuda.set_rng_state_all(state["cuda"])
        if self.trainer._scaler is not None and state["scaler"] is not None:
            self.trainer._scaler.load_state_dict(state["scaler"])
        self.trainer._total_batches_completed = state["steps"]
        is_known = "losses" in state and saved_ranks == (self.trainer._world_size or 1)
        self._restore_counts(state if is_known else {})

    def _of_this_rank(self, saved: State) -> State:
        ranks, rank = self._ranks_of(saved), self._rank()
        return ranks[rank] if rank < len(ranks) else ranks[0]

    @staticmethod
    def _ranks_of(saved: State) -> List[State]:
        # Before AllenCV saved a state of each rank, it saved that of the first alone.
        return saved.get("ranks") or [saved]

    def _rank(self) -> int:
        return dist.get_rank() if self.trainer._distributed else 0

    def _restore_counts(self, state: State) -> None:
        in_epoch = self.trainer._batches_in_epoch_completed > 0
        unknown = ["loss"]
        if in_epoch and "losses" in state:
            self.trainer._losses.load_state_dict(state["losses"])
            unknown = []
        counts = state.get("counts", {})
        unknown += restore_counts(self.trainer.model, counts, self.trainer.cuda_device)
        if in_epoch and unknown:
            logger.warning(
                "The checkpoint does not hold the counts of %s: the training metrics of epoch %d "
                "cover only the images after the interruption",
                ", ".join(unknown),
                self.trainer._epochs_completed + 1,
            )

    def on_epoch(
        self,
        trainer: GradientDescentTrainer,
        metrics: Dict[str, Any],
        epoch: int,
        is_primary: bool = True,
        **kwargs: Any,
    ) -> None:
        """Make the metrics of an epoch those of a run that was never interrupted."""
        if self._earlier or self._seconds_before:
            self.add_earlier(metrics)
            duration = datetime.timedelta(seconds=self.seconds())
            metrics["training_duration"] = str(duration)
            if is_primary and self.serialization_dir is not None:
                path = os.path.join(self.serialization_dir, f"metrics_epoch_{epoch}.json")
                write_text(path, json.dumps(metrics, indent=2))
        self._metrics = dict(metrics)

    def add_earlier(self, metrics: Dict[str, Any]) -> None:
        """Add to `metrics` what only the epochs before this process reported."""
        for name, value in self._earlier.items():
            if name not in metrics:
                metrics[name] = value
            elif name.startswith("peak_"):
                metrics[name] = max(metrics[name], value)

    def seconds(self) -> float:
        """Return the training time, without that between a checkpoint and a crash."""
        if self._started is None:
            return self._seconds_before
        return self._seconds_before + time.time() - self._started
