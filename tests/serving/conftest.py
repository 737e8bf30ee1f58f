import contextlib
import io
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Callable, ContextManager, Iterator, NamedTuple

import numpy as np
import psutil
import pytest
from PIL import Image

from allencv.runtime.certainty import LabelSets, Selection, UnknownRule
from tests.conftest import ROOT
from tests.runtime.certainty.certainties import certainty
from tests.runtime.tiny_bundle import write_bundle

COLORS = {"red": (230, 20, 30), "green": (20, 220, 40), "blue": (10, 30, 240)}


def file_of(image: Image.Image, format: str = "JPEG", **options: Any) -> bytes:
    data = io.BytesIO()
    image.save(data, format, **options)
    return data.getvalue()


def photo(label: str, size: "tuple[int, int]" = (60, 40), seed: int = 0) -> Image.Image:
    """An image of the colour that the tiny bundle calls `label`, with some noise."""
    noise = np.random.default_rng(seed).integers(-10, 11, (size[1], size[0], 3))
    return Image.fromarray((np.array(COLORS[label]) + noise).clip(0, 255).astype(np.uint8))


@pytest.fixture(scope="session")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_bundle(tmp_path_factory.mktemp("serving") / "colours")


@pytest.fixture(scope="session")
def calibrated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """
    A bundle that takes images with a highest probability of at most 0.6 for unknown, and answers
    from 0.7 on.
    """
    found = certainty(
        images=1200,
        sets=LabelSets("lac", [0.95], [[0.8]]),
        selection=Selection(0.99, 0.95, 0.7, 0.92, 0.995),
        unknown=UnknownRule("max_probability", 0.4, 0.95),
    )
    return write_bundle(tmp_path_factory.mktemp("serving") / "calibrated", certainty=found)


MIXED = {"grey": (128, 128, 128), "ochre": (210, 185, 60), "gold": (210, 170, 60)}
"""Colours that `calibrated` takes for unknown, does not answer, and has two labels for."""


def square(color: str) -> bytes:
    """A file of an image of one of `MIXED`."""
    return file_of(Image.new("RGB", (60, 40), MIXED[color]), "PNG")


class Running(NamedTuple):
    url: str
    process: "subprocess.Popen[str]"

    @property
    def port(self) -> int:
        return int(self.url.rsplit(":", 1)[1])

    def memory(self) -> int:
        """The bytes that the process has in memory."""
        fields = Path(f"/proc/{self.process.pid}/statm").read_text().split()
        return int(fields[1]) * os.sysconf("SC_PAGE_SIZE")

    def memory_of_all(self) -> int:
        """The bytes that it and its processes have in memory, those they share counted once."""
        processes = [psutil.Process(self.process.pid)]
        processes += processes[0].children()
        total = 0
        for process in processes:
            with contextlib.suppress(psutil.NoSuchProcess):
                total += process.memory_full_info().pss
        return total

    def stop(self, drain: bool = True) -> int:
        """
        Tells it to end, and waits for that; gives its exit status. Without `drain` a second signal
        spares the second in which it still accepts requests.
        """
        self.process.send_signal(signal.SIGTERM)
        if not drain:
            time.sleep(0.05)  # signals that come at the same time are one
            self.process.send_signal(signal.SIGTERM)
        return self.process.wait(30)


@contextlib.contextmanager
def serving(bundle: Path, *options: object) -> Iterator[Running]:
    """Runs `allencv serve` as a process of its own on a free port."""
    command = [sys.executable, "-m", "allencv", "serve", str(bundle), "--port", "0"]
    process = subprocess.Popen(
        [*command, *map(str, options)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        line = process.stdout.readline() if process.stdout else ""
        assert line.startswith(f"Serving {bundle.name} on http://"), process.communicate()
        yield Running(line.split()[-1], process)
    finally:
        process.kill()
        process.communicate()


Serve = Callable[..., ContextManager[Running]]


@pytest.fixture(scope="session")
def serve(bundle: Path) -> Serve:
    """Serves the tiny bundle, with options."""
    return lambda *options: serving(bundle, *options)


@pytest.fixture(scope="session")
def server(serve: Serve) -> Iterator[Running]:
    """One with small limits, for all tests. In the end it has nothing to complain of."""
    limits = ("--max-megabytes", 1, "--timeout", 2, "--max-files", 4, "--workers", 1)
    with serve(*limits) as running:
        yield running
        assert running.stop(drain=False) == 0
        assert running.process.stderr is not None
        assert "Traceback" not in running.process.stderr.read()
