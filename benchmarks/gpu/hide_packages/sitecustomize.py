"""
Python imports this when it starts with this folder on PYTHONPATH. It hides installed packages that
only optional parts of AllenNLP's dependencies look for. With cupy, spacy would compile CUDA code
when it is imported. The others are newer than this version of transformers can use.
"""

import importlib.machinery
import importlib.util
import os
import sys
from typing import Any

HIDDEN = {"accelerate", "cupy", "cupyx", "flax", "jax", "jaxlib", "peft", "torchaudio"}


class VisiblePackages(importlib.machinery.PathFinder):
    @classmethod
    def find_spec(cls, name: str, *arguments: Any, **keywords: Any) -> Any:
        if name.partition(".")[0] in HIDDEN:
            return None
        return super().find_spec(name, *arguments, **keywords)


def run_other() -> None:
    """Run the machine's own sitecustomize, which Python finds this one instead of."""
    here = os.path.dirname(os.path.abspath(__file__))
    path = [folder for folder in sys.path if os.path.abspath(folder) != here]
    spec = importlib.machinery.PathFinder.find_spec("sitecustomize", path)
    if spec is not None and spec.loader is not None:
        spec.loader.exec_module(importlib.util.module_from_spec(spec))


sys.meta_path[:] = [
    VisiblePackages if finder is importlib.machinery.PathFinder else finder
    for finder in sys.meta_path
]
run_other()
