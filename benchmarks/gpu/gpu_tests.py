"""A plugin for pytest: run only the tests that need a GPU, and save how each one ended."""

from typing import Any, Dict, List

import pytest
from stage import save

_ended: Dict[str, List[str]] = {"passed": [], "failed": [], "skipped": []}


def pytest_collection_modifyitems(config: pytest.Config, items: List[pytest.Item]) -> None:
    config.hook.pytest_deselected(items=[item for item in items if not _needs_gpu(item)])
    items[:] = filter(_needs_gpu, items)


def _needs_gpu(item: pytest.Item) -> bool:
    return any(mark.kwargs.get("reason") == "needs a GPU" for mark in item.iter_markers("skipif"))


def pytest_runtest_logreport(report: Any) -> None:
    if report.when == "call" or report.outcome != "passed":
        _ended[report.outcome].append(report.nodeid)
        save("tests", _ended)
