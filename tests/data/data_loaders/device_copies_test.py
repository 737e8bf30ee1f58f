"""The order of events, with streams that only note them. On a GPU: image_data_loader_test.py."""

from contextlib import nullcontext
from typing import Any, Iterator, List, Tuple

import pytest
import torch

from allencv.data.data_loaders.device_copies import CopyStream


class Stream:
    """A stream of the name "copies" or "training"."""

    def __init__(self, name: str, notes: List[str]) -> None:
        self.name = name
        self.notes = notes

    def record_event(self) -> str:
        self.notes.append(f"{self.name}: copy begun")
        return f"copy {sum(note.endswith('copy begun') for note in self.notes)}"

    def wait_event(self, event: str) -> None:
        self.notes.append(f"{self.name}: waits for {event}")


def test_batches_are_copied_one_ahead(monkeypatch: pytest.MonkeyPatch) -> None:
    notes: List[str] = []
    training = Stream("training", notes)

    def record_stream(tensor: torch.Tensor, stream: Stream) -> None:
        notes.append(f"{int(tensor)} is used by {stream.name}")

    monkeypatch.setattr(torch.cuda, "Stream", lambda device: Stream("copies", notes))
    monkeypatch.setattr(torch.cuda, "stream", lambda stream: nullcontext())
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: training)
    monkeypatch.setattr(torch.Tensor, "record_stream", record_stream)

    def batches() -> Iterator[Tuple[str, Any]]:
        for number in (1, 2, 3):
            notes.append(f"{number} comes from the workers")
            yield f"key {number}", {"a": torch.tensor(number), "metadata": [number]}
        yield "nothing", {}

    found = []
    for key, batch in CopyStream(torch.device("cpu")).one_ahead(batches()):
        notes.append(f"{key} is delivered")
        found.append(batch)
    assert found == [{"a": torch.tensor(n), "metadata": [n]} for n in (1, 2, 3)] + [{}]
    assert notes[:8] == [
        "1 comes from the workers",
        "copies: copy begun",
        "2 comes from the workers",
        "copies: copy begun",
        "training: waits for copy 1",
        "1 is used by training",
        "key 1 is delivered",
        "3 comes from the workers",
    ]
    assert notes[-2:] == ["training: waits for copy 4", "nothing is delivered"]
