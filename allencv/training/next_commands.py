"""The commands to print after a training: what to do with the model, and how to resume."""

import shlex
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import Iterator, List, Sequence, Union

from allencv.training.run_folder import has_checkpoint


def next_commands(folder: Path) -> List[str]:
    """Return commands for the archive of a run, as lines to print."""
    run, archive = shlex.quote(str(folder)), shlex.quote(str(folder / "model.tar.gz"))
    return [
        f"  allencv report {run} -o report.html",
        f"  allencv classify {archive} photos/ -o predictions.csv",
        f"  allencv export {archive} bundle/",
        f"  allencv serve {archive}",
    ]


def train_command(
    config_file: Union[str, Path],
    folder: Union[str, Path],
    include_package: Sequence[str],
    overrides: str = "",
) -> str:
    """Return the command that trains a config into a folder, quoted for a shell."""
    paths = [
        f"./{path}" if str(path).startswith("-") else str(path) for path in (config_file, folder)
    ]
    changes = ["-o", overrides] if overrides else []
    packages = (word for package in include_package for word in ("--include-package", package))
    return shlex.join(["allencv", "train", paths[0], "-s", paths[1], *changes, *packages])


@contextmanager
def resumed_by(command: str, folder: Path) -> Iterator[None]:
    """Print how to resume a run if it is interrupted in the `with` block after a checkpoint."""
    try:
        yield
    except KeyboardInterrupt:
        if folder.is_dir() and has_checkpoint(folder):
            print(f"To resume the run: {command} --recover", file=sys.stderr, flush=True)
        raise
