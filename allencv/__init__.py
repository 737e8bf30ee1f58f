"""AllenCV: image classification as AllenNLP experiments."""

from importlib import import_module
from typing import TYPE_CHECKING, Any, List

__version__ = "0.1.0"

if TYPE_CHECKING:
    from allencv.exporting.export import export
    from allencv.features.embedding import embed
    from allencv.features.search import search
    from allencv.fitting.fit import fit
    from allencv.notebook import report, show_batch
    from allencv.serving.client import Client
    from allencv.trained_model import load

__all__ = [
    "AllenCVError",
    "Client",
    "embed",
    "export",
    "fit",
    "load",
    "report",
    "search",
    "show_batch",
]

_MODULES = {
    "Client": "allencv.serving.client",
    "embed": "allencv.features.embedding",
    "export": "allencv.exporting.export",
    "fit": "allencv.fitting.fit",
    "load": "allencv.trained_model",
    "report": "allencv.notebook",
    "search": "allencv.features.search",
    "show_batch": "allencv.notebook",
}
"""Where each name is defined. A module is imported when its name is first used."""


class AllenCVError(Exception):
    """
    Base class of AllenCV's errors that a user can act on. The message is one line: the value, and
    what was expected. Mistakes in a config raise AllenNLP's `ConfigurationError`.
    """


from allencv.deferred_imports import defer_imports  # noqa: E402 - it uses AllenCVError

defer_imports()


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module 'allencv' has no attribute {name!r}")
    return getattr(import_module(_MODULES[name]), name)


def __dir__() -> List[str]:
    return sorted({*globals(), *__all__})
