import os
from pathlib import Path
from typing import List

import pytest
from allennlp.common.checks import ConfigurationError
from allennlp.data import Vocabulary

from allencv.common.label_text import check_vocabulary, same_looking, shown, why_unwritable

LABELS = ["cat", " cat ", "two words", "café", "cafe\u0301", "犬", "a\tb", "a\x0bb", "\u2028x", "0"]
UNWRITABLE = ["", "  ", "\t", "a\nb", "a\r", "a\rb", "a\r\nb", "caf\udce9", "\ud83d"]
UNWRITABLE += ["@@UNKNOWN@@", "@@PADDING@@", "a@@NEWLINE@@b"]


@pytest.mark.parametrize("label", LABELS)
def test_a_label_that_is_allowed_comes_back_from_a_vocabulary(label: str, tmp_path: Path) -> None:
    assert why_unwritable(label) is None
    vocab = Vocabulary(counter={"labels": {"first": 3, label: 2, "last": 1}})
    vocab.save_to_files(str(tmp_path))
    read = Vocabulary.from_files(str(tmp_path)).get_token_to_index_vocabulary("labels")
    assert list(read) == ["first", label, "last"]


@pytest.mark.parametrize("label", UNWRITABLE)
def test_the_others_are_refused(label: str) -> None:
    assert why_unwritable(label) is not None


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("café au lait", "café au lait"),
        ("cafe\u0301", r"cafe\u0301"),
        (os.fsdecode(b"caf\xe9"), r"caf\xe9"),
        ("\ud83d", r"\ud83d"),
        ("a\rb", r"a\rb"),
        ("a\u00a0b", r"a\xa0b"),
    ],
)
def test_what_cannot_be_seen_is_spelt_out(text: str, expected: str) -> None:
    assert shown(text) == expected
    assert shown(text).encode("utf-8")


@pytest.mark.parametrize(
    ("unknown", "known", "hint"),
    [
        (
            ["cafe\u0301"],
            ["dog", "café"],
            r"'cafe\u0301' and 'café' differ only in how their accents are encoded "
            "(Unicode NFC and NFD)",
        ),
        (["cat"], ["Cat"], "'cat' and 'Cat' differ only in case"),
        (["polar  bear"], ["polar bear"], "'polar  bear' and 'polar bear' differ only in spaces"),
        (
            ["cat", "fox", "wolf "],
            ["Cat", "dog", "wolf"],
            "'cat' and 'Cat', 'wolf ' and 'wolf' differ only in case or spaces",
        ),
        (
            ["a", "b", "c", "d"],
            ["A", "B", "C", "D"],
            "'a' and 'A', 'b' and 'B', 'c' and 'C' and 1 more differ only in case",
        ),
    ],
)
def test_labels_that_look_the_same_are_told_apart(
    unknown: List[str], known: List[str], hint: str
) -> None:
    assert same_looking(unknown, known) == f" ({hint}: give them the same name)"


def test_other_labels_get_no_hint() -> None:
    assert same_looking(["cat"], ["dog", "cats"]) == ""
    assert same_looking(["cat"], ["dog", "cat"]) == ""


def test_a_file_of_a_vocabulary_that_is_not_utf_8_is_named_with_the_line(tmp_path: Path) -> None:
    Vocabulary(counter={"labels": {"Kätzchen": 2, "Hund": 1}}).save_to_files(str(tmp_path))
    check_vocabulary(tmp_path)
    (tmp_path / "labels.txt").write_bytes("Hund\nKätzchen".encode("latin-1"))
    with pytest.raises(ConfigurationError) as refused:
        check_vocabulary(tmp_path)
    assert str(refused.value) == (
        f"{tmp_path / 'labels.txt'}, line 2, is not text in UTF-8; expected a label on each line"
    )
