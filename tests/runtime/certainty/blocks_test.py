import numpy as np
import pytest

from allencv.runtime.certainty import LabelSets, Scaling, UnknownRule, blocks
from allencv.runtime.certainty.blocks import in_blocks
from tests.certainty.draws import drawn_answers


def test_the_rows_of_all_blocks_come_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blocks, "BLOCK", 12)
    table, weights = np.arange(40.0).reshape(10, 4), np.arange(10)
    sizes = []

    def function(rows: np.ndarray, weights: np.ndarray) -> np.ndarray:
        sizes.append(len(rows))
        return (rows.sum(axis=1) * weights).astype(np.float32)

    found = in_blocks(function, table, weights)
    assert sizes == [3, 3, 3, 1]
    assert found.dtype == np.float32
    assert found.tolist() == (table.sum(axis=1) * weights).tolist()


def test_rows_wider_than_a_block_and_no_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blocks, "BLOCK", 2)
    table = np.arange(12.0).reshape(3, 4)
    assert (in_blocks(lambda rows: rows + 1, table) == table + 1).all()
    assert in_blocks(lambda rows: rows + 1, table[:0]).shape == (0, 4)


@pytest.mark.parametrize("kind", ["lac", "aps", "raps"])
def test_blocks_change_nothing(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    draws = drawn_answers(100)
    scaling, sets = Scaling([0.5] * 10, [0.0] * 10), LabelSets(kind, [0.9], [[0.9]], 0.01, 2)
    rule = UnknownRule("max_probability", 0.0, 0.95)
    vectors = np.zeros((100, 0), np.float32)

    def found() -> list:
        return [
            scaling(draws.probabilities, False),
            sets.members(draws.probabilities, 0),
            rule.scores(draws.probabilities, vectors, False),
        ]

    expected = found()
    monkeypatch.setattr(blocks, "BLOCK", 70)
    for own, other in zip(found(), expected, strict=True):
        assert (own == other).all()
