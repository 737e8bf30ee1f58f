import subprocess
import sys
from enum import Enum
from functools import cached_property, partial
from pathlib import Path
from typing import Any, Callable, Iterator

import numpy as np
import pytest
import timm
import torch
from torchvision.transforms import v2

from allencv.common.stable_text import stable_text


class Part:
    def __init__(self, value: object) -> None:
        self.value = value

    @cached_property
    def computed(self) -> object:
        return self.value


class Slotted:
    __slots__ = ["first", "second"]

    def __init__(self, first: object) -> None:
        self.first = first


class Color(Enum):
    RED = 1
    GREEN = 2


def network(seed: int = 0, **arguments: Any) -> torch.nn.Module:
    torch.manual_seed(seed)
    return timm.create_model("test_resnet", **arguments)


def adds(number: int) -> Callable[[int], int]:
    return lambda value: value + number


MAKERS = {
    "none": lambda: None,
    "text": lambda: "a",
    "bytes": lambda: b"a",
    "list": lambda: [1, 2],
    "tuple": lambda: (1, 2),
    "other list": lambda: [2, 1],
    "float": lambda: [1, 2.0],
    "dict": lambda: {"a": 1},
    "set": lambda: {"a", "b", "c"},
    "enum": lambda: Color.RED,
    "other enum": lambda: Color.GREEN,
    "dtype": lambda: torch.float16,
    "class": lambda: Part,
    "part": lambda: Part(1),
    "other part": lambda: Part(2),
    "nested part": lambda: Part(Part(1)),
    "slots": lambda: Slotted(1),
    "function": lambda: adds,
    "closure": lambda: adds(1),
    "other closure": lambda: adds(2),
    "partial": lambda: partial(adds, 1),
    "method": lambda: Part(1).__init__,
    "array": lambda: np.arange(3),
    "other array": lambda: np.arange(3)[:, None],
    "tensor": lambda: torch.arange(3),
    "float tensor": lambda: torch.arange(3.0),
    "transform": lambda: v2.RandomResizedCrop(32),
    "other transform": lambda: v2.RandomResizedCrop(32, scale=(0.5, 1.0)),
    "network": lambda: network(),
    "other weights": lambda: network(1),
    "other option": lambda: network(output_stride=16),
}


def test_each_value_has_a_text_of_its_own_which_equal_values_share() -> None:
    texts = {name: stable_text(make()) for name, make in MAKERS.items()}
    assert len(set(texts.values())) == len(MAKERS)
    assert texts == {name: stable_text(make()) for name, make in MAKERS.items()}


def test_what_an_object_computes_does_not_count() -> None:
    part, text = Part(3), stable_text(Part(3))
    assert part.computed == 3
    assert stable_text(part) == text


def test_an_object_may_hold_itself() -> None:
    part = Part(None)
    part.value = [part]
    assert "itself" in stable_text(part)


def test_what_cannot_be_described_is_like_nothing_else() -> None:
    def numbers() -> Iterator[int]:
        yield 1

    generator = numbers()
    assert stable_text(generator) != stable_text(generator)


def test_the_code_of_a_users_class_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    texts = []
    for name, factor in (("first_part", 2), ("second_part", 3), ("third_part", 2)):
        code = f"class Scale:\n    def __call__(self, image):\n        return {factor} * image\n"
        (tmp_path / f"{name}.py").write_text(code)
        text = stable_text(__import__(name).Scale())
        texts.append(text.replace(name, "part"))
    assert texts[0] == texts[2] != texts[1]


@pytest.mark.slow
def test_it_is_the_same_in_another_process() -> None:
    code = (
        "from tests.common.stable_text_test import *\n"
        "torch.nn.Linear(1, 1).register_forward_pre_hook(print)\n"
        "print(stable_text([network(), {'a', 'b'}]))"
    )
    root = Path(__file__).parents[2]
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True
    )
    assert result.stdout.strip() == stable_text([network(), {"a", "b"}])
