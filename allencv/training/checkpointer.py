import logging
import os
import pickle
import re
import time
from collections import defaultdict
from contextlib import suppress
from pathlib import Path
from typing import Any, Dict, List, Optional, Set, Tuple, Union

import torch
import torch.distributed as dist
from allennlp.common.checks import ConfigurationError
from allennlp.training.checkpointer import Checkpointer
from allennlp.training.trainer import Trainer, TrainerCheckpoint

from allencv.common.torch_files import has_valid_checksums
from allencv.runtime.whole_files import whole_file
from allencv.training.distributed.from_first_rank import from_first_rank

logger = logging.getLogger(__name__)

LEFTOVER = re.compile(
    r"\.allencv-[0-9a-f]{32}\.th|(model|training)_state_e\d+_b\d+(_w\d+)?\.th\.tmp"
)
"""Files left by a run that was killed while writing; AllenCV 0.1 used the second form."""

# (epochs completed, batches of the next epoch completed)
PointInTime = Tuple[int, int]


class DamagedFileError(Exception):
    """A file differs from what `torch.save` has written."""


def save_state(state: Dict[str, Any], path: str) -> None:
    """
    Write `state` to `path`, whole or not at all, and return when it is on the disk.

    # Raises

    `OSError` with `path` as its `filename`, if the disk is full or cannot be written to.
    """
    with whole_file(path) as temporary:
        _write_state(state, temporary)


def _write_state(state: Dict[str, Any], path: Path) -> None:
    try:
        with open(path, "wb") as file:
            torch.save(state, file)
    except (RuntimeError, OSError) as error:
        # When a write fails, torch closes its archive, and that error hides the first one.
        cause: Optional[BaseException] = error
        while cause is not None and not isinstance(cause, OSError):
            cause = cause.__context__
        if cause is None:
            raise
        raise OSError(cause.errno, cause.strerror, os.fspath(path)) from error


def load_state(path: str) -> Dict[str, Any]:
    """
    Read what `torch.save` has written, onto the CPU and without running code in it.

    Raise `DamagedFileError` if the file is damaged, and `ConfigurationError` if it holds types that
    `torch.load` does not allow.
    """
    if not has_valid_checksums(path):
        raise DamagedFileError(path)
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        refused = torch.serialization.get_unsafe_globals_in_checkpoint(path)
        raise ConfigurationError(
            f"{path} is undamaged but holds types that torch.load refuses: {refused}; expected "
            "tensors, plain values and types allowed with torch.serialization.add_safe_globals"
        ) from error


@Checkpointer.register("default", exist_ok=True)
class AtomicCheckpointer(Checkpointer):
    """
    Saves the states of model and trainer so that a crash, a kill or a full disk at any moment
    leaves a checkpoint to recover from.

    Replaces AllenNLP's class (`training/checkpointer.py`), which

    - writes its two files in place and reads only the newest of them: a crash while writing breaks
      every later `--recover`, although older checkpoints are complete;
    - does not write a file that exists, so a damaged one is never repaired;
    - removes `e0_b10` to `e0_b19` along with `e0_b1`;
    - finds nothing in a folder whose name holds a `[`, and starts over.

    Here both files are written under temporary names, flushed to the disk and then renamed, the
    model's first: if the training state exists, the pair is complete. Loading skips incomplete and
    damaged pairs with a warning. File names are AllenNLP's.

    Registered as a `Checkpointer` with name "default".

    # Parameters

    serialization_dir : `Union[str, os.PathLike]`
        The folder of the checkpoints. This argument does not get an entry in a configuration file.
    save_completed_epochs : `bool`, optional (default = `True`)
        Whether to save at the end of each epoch.
    save_every_num_seconds : `float`, optional (default = `None`)
        The longest time, in seconds, between two checkpoints. Not supported in distributed
        training.
    save_every_num_batches : `int`, optional (default = `None`)
        The largest number of batches between two checkpoints.
    keep_most_recent_by_count : `int`, optional (default = `2`)
        How many complete pairs to keep. The newest is always kept.
    keep_most_recent_by_age : `int`, optional (default = `None`)
        Pairs younger than this number of seconds are kept too. If both are `None`, all are kept.
    """

    def __init__(
        self,
        serialization_dir: Union[str, os.PathLike],
        save_completed_epochs: bool = True,
        save_every_num_seconds: Optional[float] = None,
        save_every_num_batches: Optional[int] = None,
        keep_most_recent_by_count: Optional[int] = 2,
        keep_most_recent_by_age: Optional[int] = None,
    ) -> None:
        for key, value, least in (
            ("save_every_num_seconds", save_every_num_seconds, 0),
            ("save_every_num_batches", save_every_num_batches, 1),
            ("keep_most_recent_by_count", keep_most_recent_by_count, 0),
            ("keep_most_recent_by_age", keep_most_recent_by_age, 0),
        ):
            if value is not None and not value >= least:
                raise ConfigurationError(
                    f"trainer.checkpointer.{key} is {value}; expected {least} or more"
                )
        super().__init__(
            serialization_dir,
            save_completed_epochs=save_completed_epochs,
            save_every_num_seconds=save_every_num_seconds,
            save_every_num_batches=save_every_num_batches,
            keep_most_recent_by_count=keep_most_recent_by_count,
            keep_most_recent_by_age=keep_most_recent_by_age,
        )
        self._damaged: Set[PointInTime] = set()
        if self._is_primary and os.path.isdir(self._serialization_dir):
            for name in os.listdir(self._serialization_dir):
                if LEFTOVER.fullmatch(name):
                    os.remove(os.path.join(self._serialization_dir, name))

    def save_checkpoint(self, trainer: Trainer) -> None:
        checkpoint = trainer.get_checkpoint_state()
        if checkpoint is None:  # another process saves for all
            return
        point = (
            checkpoint.trainer_state["epochs_completed"],
            checkpoint.trainer_state["batches_in_epoch_completed"],
        )
        self._write(point, checkpoint)
        self._damaged.discard(point)
        self._last_save_time = time.time()
        self._last_save_num_epochs_completed, self._last_save_num_batches_in_epoch_completed = point
        if self._is_primary:
            self._remove_old_checkpoints()

    def load_checkpoint(self) -> Optional[TrainerCheckpoint]:
        """
        Return the newest readable checkpoint, on the CPU, or `None` if there has never been one. In
        distributed training the first rank reads it for all.
        """
        return self._load() if self.state_is_sharded else from_first_rank(self._load)

    def _load(self) -> Optional[TrainerCheckpoint]:
        self._damaged.clear()
        saved = self._saved_files()
        complete = self._find_all_checkpoints()
        for point in sorted(saved, reverse=True):
            if point not in complete:
                logger.warning(
                    "Skipping an incomplete checkpoint, of which only %s exist", saved[point]
                )
                continue
            try:
                return TrainerCheckpoint(
                    model_state=load_state(self._model_state_path(*point)),
                    trainer_state=load_state(self._training_state_path(*point)),
                )
            except DamagedFileError as error:
                logger.warning("Skipping a damaged checkpoint: %s", error)
                self._damaged.add(point)
        if saved:
            files = sorted(name for names in saved.values() for name in names)
            raise ConfigurationError(
                f"no checkpoint in {self._serialization_dir} can be recovered from: all "
                "are incomplete or damaged; expected a whole pair of model_state and "
                f"training_state. To start over, delete {files}"
            )
        return None

    @property
    def saves_completed_epochs(self) -> bool:
        """Whether a checkpoint is saved at the end of each epoch."""
        return self._save_completed_epochs

    @property
    def keep_most_recent_by_count(self) -> Optional[int]:
        """The value in the config: how many complete pairs are kept, whatever their age."""
        return self._keep_most_recent_by_count

    def keeps(self, count: int) -> bool:
        """Return whether the newest `count` checkpoints are kept, whatever their age."""
        kept = self._keep_most_recent_by_count
        keeps_all = kept is None and self._keep_most_recent_by_age is None
        return keeps_all or (kept or 0) >= count

    def completed_epochs(self) -> List[int]:
        """
        List the ends of epochs that have a complete checkpoint: 2 is the end of the second. All
        ranks must call this.
        """
        points = from_first_rank(self._find_all_checkpoints)
        return sorted(epochs for epochs, steps in points if steps == 0)

    def load_model_state(self, completed_epochs: int) -> Dict[str, torch.Tensor]:
        """Return the weights at the end of an epoch, on the CPU. All ranks must call this."""
        return from_first_rank(lambda: load_state(self._model_state_path(completed_epochs, 0)))

    def _find_all_checkpoints(self) -> Set[PointInTime]:
        """Find complete pairs, without those that `load_checkpoint` has found damaged."""
        return {
            point
            for point, names in self._saved_files().items()
            if set(self._pair(point)).issubset(names) and point not in self._damaged
        }

    def _pair(self, point: PointInTime) -> List[str]:
        """Return the file names of a complete checkpoint: two, or two for each process."""
        shards = [""]
        if self.state_is_sharded:
            shards = [f"_w{rank}" for rank in range(dist.get_world_size())]
        return [
            f"{state}_e{point[0]}_b{point[1]}{shard}.th"
            for state in ("model_state", "training_state")
            for shard in shards
        ]

    def _parse_path(self, path: str) -> Optional[PointInTime]:
        return self._parse_model_state_path(path) or self._parse_training_state_path(path)

    def _saved_files(self) -> Dict[PointInTime, List[str]]:
        saved: Dict[PointInTime, List[str]] = defaultdict(list)
        if os.path.isdir(self._serialization_dir):
            for name in sorted(os.listdir(self._serialization_dir)):
                point = self._parse_path(name)
                if point is not None:
                    saved[point].append(name)
        return saved

    def _write(self, point: PointInTime, checkpoint: TrainerCheckpoint) -> None:
        model_path = self._model_state_path(*point)
        training_path = self._training_state_path(*point)
        # The model's file is moved to its place first.
        with whole_file(training_path) as training, whole_file(model_path) as model:
            _write_state(checkpoint.model_state, model)
            _write_state(checkpoint.trainer_state, training)
            # A damaged pair may be in the way. Never leave a new model beside an old state.
            with suppress(FileNotFoundError):
                os.remove(training_path)
        # The new names must be on the disk before the old checkpoints are removed from it.
        if os.name == "posix":  # Windows opens no directories
            directory = os.open(self._serialization_dir, os.O_RDONLY)
            try:
                os.fsync(directory)
            finally:
                os.close(directory)

    def _remove_old_checkpoints(self) -> None:
        if self._keep_most_recent_by_count is None and self._keep_most_recent_by_age is None:
            return
        complete = sorted(self._find_all_checkpoints(), reverse=True)
        keep = set(complete[: self._keep_most_recent_by_count or 0])
        if self._keep_most_recent_by_age is not None:
            oldest = time.time() - self._keep_most_recent_by_age
            keep.update(point for point in complete if self._modification_time(point) >= oldest)
        for point, names in self._saved_files().items():
            if complete and point < complete[0] and point not in keep:
                for name in names:
                    os.remove(os.path.join(self._serialization_dir, name))

    def _modification_time(self, point: PointInTime) -> float:
        return max(
            os.path.getmtime(os.path.join(self._serialization_dir, name))
            for name in self._pair(point)
        )
