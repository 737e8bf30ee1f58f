from functools import cached_property
from typing import Callable, Dict, Iterator, Mapping


class LazyMetrics(Mapping[str, float]):
    """
    The metrics of a step, computed on first access, so that the host waits for the device only
    then. The trainer passes them to every callback at every step, and few are read.
    """

    def __init__(self, read: Callable[[], Dict[str, float]]) -> None:
        self._read = read

    @cached_property
    def _values(self) -> Dict[str, float]:
        return self._read()

    def __getitem__(self, name: str) -> float:
        return self._values[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)
