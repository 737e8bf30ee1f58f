import errno
import gc
import os
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import Callable, Dict, Iterable, Iterator, List, Optional

import numpy as np
import pytest
from PIL import Image

# First, so that AllenNLP imports its packages for text only when they are used.
from allencv.command_parsers import command_named, command_parser
from allencv.runtime.errors import InputError
from tests.forking.commands import environment, forked_commands
from tests.forking.server import import_packages_once
from tests.shared_folders import made_once, remove_shared_folder, shared_folder

ROOT = Path(__file__).parent.parent

# One thread each: the tests' networks are tiny, and the machine may be small.
os.environ.setdefault("OMP_NUM_THREADS", "1")


def pytest_configure() -> None:
    # Before there are workers, which get it from here.
    os.environ["ALLENCV_FEATURES"] = str(shared_folder() / "features")
    environment()


def pytest_unconfigure() -> None:
    gc.unfreeze()  # libraries complain of what is never freed
    remove_shared_folder()


LONG = ("readme_test.py", "training_config_test.py", "tutorial_test.py", "docs", "commands")
"""The files and folders in `tests/` that take longest."""


def pytest_collection_modifyitems(items: List[pytest.Item]) -> None:
    """Run the slowest tests first, so that no worker is left alone with one at the end."""
    items.sort(key=lambda item: item.path.relative_to(ROOT / "tests").parts[0] not in LONG)


def pytest_collection_finish() -> None:
    """Exclude the millions of objects of the imports from garbage collection."""
    if "allennlp" in sys.modules:
        import_packages_once()
    gc.collect()
    gc.freeze()


def pytest_make_parametrize_id(val: object, argname: str) -> Optional[str]:
    """
    Name a case of bytes by its argument: bytes that hold the clock, as gzip's do, would give the
    test another name in each process.
    """
    return argname if isinstance(val, bytes) else None


def run_in_process(name: str, *arguments: object) -> None:
    """Run a command of `allencv` in this process, with the errors that the command shows."""
    from allennlp.common.checks import ConfigurationError

    from allencv.common.included_packages import import_included_packages

    import_included_packages([*map(str, arguments)])
    args = command_parser(name).parse_args([*map(str, arguments)])
    try:
        command_named(name).run(args)
    except ConfigurationError as error:
        raise InputError(str(error)) from error


def run_with_forked_runs(name: str, *arguments: object) -> None:
    """Run a command in this process. The runs that it starts are in forked processes."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "executable", str(forked_commands() / "python"))
        run_in_process(name, *arguments)


def write_images(
    root: Path, counts: Dict[str, int], size: int = 40, suffix: str = ".jpg", seed: int = 0
) -> Path:
    """
    Write a folder with a folder of images for each class. Each class has its own colour, so
    that a small network learns to distinguish them.
    """
    random = np.random.default_rng(seed)
    for index, (label, count) in enumerate(counts.items()):
        (root / label).mkdir(parents=True, exist_ok=True)
        for number in range(count):
            height, width = random.integers(size, 2 * size, 2)
            pixels = random.integers(0, 100, (height, width, 3))
            pixels[:, :, index % 3] += 120
            image = Image.fromarray(pixels.astype(np.uint8))
            image.save(root / label / f"{number:03d}{suffix}", quality=90)
    return root


def write_cats_and_dogs(root: Path) -> None:
    for seed, (split, count) in enumerate({"train": 12, "val": 5, "test": 4}.items()):
        write_images(root / split, {"Cat": count, "Dog": count}, seed=seed)


@pytest.fixture(scope="session")
def cats_and_dogs() -> Path:
    """Return `train` (12 of each), `val` (5 of each) and `test` (4 of each), in `Cat` and `Dog`."""
    return made_once("PetImages", write_cats_and_dogs)


@pytest.fixture(scope="session")
def trained_run(cats_and_dogs: Path) -> Path:
    """
    Return the folder of a run of one epoch of `experiment`, for tests that need any trained
    model. Copy the folder to write into it.
    """

    def train(folder: Path) -> None:
        from allennlp.commands.train import train_model
        from allennlp.common import Params

        import allencv.plugin  # noqa: F401
        from tests.configs import experiment

        train_model(Params(experiment(cats_and_dogs, trainer__num_epochs=1)), str(folder))

    return made_once("run", train)


Run = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture(scope="session")
def run() -> Run:
    """
    Run a command of this environment (`allennlp`, `allencv`, `python`) as a user would. Its
    process is forked from one that has imported everything, or with `fresh` a new one.

    A new process takes ten seconds, so tests start one only to see what a forked one cannot show:
    that the console scripts start (`scripts/demo` in readme_test.py, recover_test.py), SIGKILL
    (recover_test.py, runtime/classify_test.py), signals (stopping_test.py), distributed training
    (distributed_test.py), what is imported (layering_test.py, slim_test.py), memory
    (data/data_loaders/memory_test.py), and servers of bundles, which start in a second
    (tests/serving).
    """

    def run(
        *arguments: object,
        cwd: Optional[Path] = None,
        env: Optional[Dict[str, str]] = None,
        fails: bool = False,
        fresh: bool = False,
    ) -> "subprocess.CompletedProcess[str]":
        folder = Path(sys.executable).parent if fresh else forked_commands()
        command = [str(folder / str(arguments[0])), *map(str, arguments[1:])]
        result = subprocess.run(
            command,
            cwd=cwd or ROOT,
            env={**os.environ, **(env or {})},
            capture_output=True,
            text=True,
            timeout=300,
        )
        output = f"{' '.join(command)}\n{result.stdout[-6000:]}\n{result.stderr[-6000:]}"
        assert (result.returncode != 0) == fails, output
        return result

    return run


@contextmanager
def full_disk() -> Iterator[None]:
    """Simulate a full disk: files written whole fail to get their names."""

    def fsync(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", fsync)
        yield


def same_tensors(first: Iterable, second: Iterable) -> bool:
    """Return whether two state dicts hold the same names and the same bits."""
    first, second = dict(first), dict(second)
    return first.keys() == second.keys() and all(first[k].equal(second[k]) for k in first)
