import errno
import json
import logging
import os
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any, Dict, Iterator, Optional, Union

from allennlp.commands.train import train_model
from allennlp.common import Params
from allennlp.common.checks import ConfigurationError
from allennlp.models import Model
from allennlp.training.checkpointer import Checkpointer

from allencv.runtime.whole_files import whole_file, write_text
from allencv.training.changed_config import check_changes
from allencv.training.distributed.ranks import Rank
from allencv.training.distributed.train_rank import train_rank
from allencv.training.run_folder import (
    clear,
    has_checkpoint,
    has_only_leftovers,
    is_unbegun,
    locked,
    read_json,
)
from allencv.training.train_model import config_is_checked

logger = logging.getLogger(__name__)

DISK_IS_FULL = {errno.ENOSPC, errno.EFBIG, getattr(errno, "EDQUOT", errno.ENOSPC)}


def train_in_folder(
    params: Params,
    serialization_dir: Union[str, os.PathLike],
    recover: bool = False,
    force: bool = False,
    node_rank: int = 0,
    rank: Optional[Rank] = None,
    **options: Any,
) -> Optional[Model]:
    """
    Train as AllenNLP's `train_model` does, with the same arguments and a config without mistakes,
    but let only one run write to the folder:

    * Another run there is refused while this one lasts.
    * A run that ends before its first checkpoint leaves nothing behind. A run that was killed
      before it does not block the next.
    * A run can be recovered with other values for some keys of the trainer (see `changed_config`),
      which are logged and written to `config.json`.
    * A recovery that fails before its first checkpoint leaves the run's own files unchanged. A
      refused recovery leaves the log unchanged, too.

    With a `rank`, train its share of a distributed run. Only the first rank writes to the folder.

    # Raises

    `ConfigurationError` if the folder is in use, or does not fit the arguments; `OSError` with a
    file or the folder as its `filename` if the disk is full.
    """
    folder = Path(serialization_dir)
    if recover and force:
        raise ConfigurationError("--recover and --force are both given; expected one of them")
    is_first = node_rank == 0 if rank is None else rank.rank == 0
    with (
        locked(folder) if is_first else nullcontext(),
        _full_disk_named(folder),
        _given_back(folder) if is_first else nullcontext(),
    ):
        if is_first:
            recover = _prepare(folder, params, recover, force, rank)
        try:
            with config_is_checked():
                if rank is not None:
                    train_rank(rank, params, folder, recover=recover, **options)
                    return None
                return train_model(
                    params,
                    serialization_dir,
                    recover=recover,
                    force=force and node_rank > 0,
                    node_rank=node_rank,
                    **options,
                )
        except BaseException:
            if is_first:
                with suppress(OSError):  # the other error matters
                    _remove_leftovers(folder)
            raise


def _prepare(
    folder: Path, params: Params, recover: bool, force: bool, rank: Optional[Rank]
) -> bool:
    """Make the folder ready for AllenNLP, and return whether it should recover."""
    if force:
        clear(folder)
        return False
    if is_unbegun(folder):
        logger.warning("The run in %s has no checkpoint; starting over", folder)
        clear(folder)
        return False
    if not any(folder.iterdir()):
        if recover:
            logger.warning("No run in %s to resume; starting a new one", folder)
        return False
    if not recover:
        raise ConfigurationError(
            f"{folder} has files in it; expected a new folder, --recover to resume the run in "
            "it, or --force to delete it first"
        )
    if not has_checkpoint(folder):
        raise ConfigurationError(
            f"--recover is given, but {folder} has no checkpoint of a run; expected one, or "
            "--force to delete what is there and start over"
        )
    _accept_config(folder, params, rank)
    return True


def _accept_config(folder: Path, params: Params, rank: Optional[Rank]) -> None:
    """Let the run resume with `params`, if their differences from `config.json` allow it."""
    file = folder / "config.json"
    if not file.exists():
        return  # AllenNLP refuses this
    then = read_json(file)
    now = json.loads(json.dumps(params.as_ordered_dict()))
    had_ranks = (folder / "out_worker0.log").exists()
    known = _processes_known(then, had_ranks) and _processes_known(now, rank is not None)
    lines = check_changes(then, now, str(folder), known)
    if lines:
        with _also_to(folder / "out.log"):
            logger.warning("Resuming with a changed config: %s", ", ".join(lines))
        write_text(file, json.dumps(now, indent=4))


def _processes_known(config: Dict[str, Any], has_ranks: bool) -> bool:
    """Return whether a config says how many processes train. With `torchrun` it does not."""
    trainer = config.get("trainer", {})
    counts_images = isinstance(trainer, dict) and trainer.get("type") == "image"
    block = config.get("distributed") or {}
    return not (has_ranks and counts_images) or "cuda_devices" in block


def _remove_leftovers(folder: Path) -> None:
    """Delete the files of a run without a checkpoint, unless they are useful."""
    # A model whose loss is not finite may need a look, and so may metrics.
    is_of_use = any(folder.glob("not_finite.th")) or any(folder.glob("metrics_epoch_*.json"))
    if has_only_leftovers(folder) and not is_of_use:
        clear(folder)


@contextmanager
def _given_back(folder: Path) -> Iterator[None]:
    """Restore the files of a run with checkpoints after an error before the next checkpoint."""
    checkpoints = _checkpoints(folder)
    log = folder / "out.log"
    size = log.stat().st_size if log.exists() else None
    files = [folder / "config.json", folder / "meta.json", *folder.glob("vocabulary/*")]
    before = {path: path.read_bytes() for path in files if checkpoints and path.is_file()}
    try:
        yield
    except BaseException as error:
        if checkpoints and _checkpoints(folder) == checkpoints:
            with suppress(OSError):  # the other error matters
                for path, content in before.items():
                    if path.read_bytes() != content:
                        with whole_file(path) as temporary:
                            temporary.write_bytes(content)
                if size is not None and isinstance(error, ConfigurationError):
                    os.truncate(log, size)
        raise


def _checkpoints(folder: Path) -> Dict[str, int]:
    """Return the training states in a folder, and when each was written."""
    files = filter(Checkpointer._parse_training_state_path, os.listdir(folder))
    return {name: os.stat(folder / name).st_mtime_ns for name in files}


@contextmanager
def _also_to(log: Path) -> Iterator[None]:
    """Also append log messages to the log of the run, which is not open yet."""
    handler = logging.FileHandler(log)
    handler.setFormatter(logging.Formatter("%(asctime)s - %(levelname)s - %(name)s - %(message)s"))
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        handler.close()


@contextmanager
def _full_disk_named(folder: Path) -> Iterator[None]:
    """Add the folder to an error of a full disk that names no file."""
    before = logging.raiseExceptions
    logging.raiseExceptions = False  # a log on a full disk would print a traceback for each line
    try:
        yield
    except OSError as error:
        if error.errno not in DISK_IS_FULL or error.filename is not None:
            raise
        raise OSError(error.errno, error.strerror, str(folder)) from error
    finally:
        logging.raiseExceptions = before
