"""What the programs of the stages share: their limits, and the summary that they write."""

import json
import os
import time
from pathlib import Path
from typing import Any, Dict

from allencv.runtime.whole_files import write_text

DRY_RUN = "GPU_DRY_RUN" in os.environ
"""Whether to do everything in tiny sizes."""
DATA = Path(os.environ.get("GPU_DATA", "/tmp/allencv_gpu/data"))
"""The folder with `photos` and `cifar10`, each with `train` and a folder of images per class."""
SUMMARY = Path(os.environ.get("OUT", "runs/gpu")) / "summary.json"
SECONDS = float(os.environ.get("GPU_SECONDS", "600"))
"""The time limit of the stage."""
_STARTED = time.perf_counter()


def seconds_left() -> float:
    return SECONDS - (time.perf_counter() - _STARTED)


def saved(name: str) -> Dict[str, Any]:
    """Return one part of the summary, empty if it has not been measured."""
    return _summary().get(name, {})


def save(name: str, content: Dict[str, Any]) -> None:
    """Replace one part of the summary. Call it after each measurement: a stage may be cut off."""
    write_text(SUMMARY, json.dumps({**_summary(), name: content}, indent=2) + "\n")


def _summary() -> Dict[str, Any]:
    return json.loads(SUMMARY.read_text()) if SUMMARY.exists() else {}
