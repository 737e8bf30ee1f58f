from pathlib import Path
from typing import Any, Dict, List

import pytest
from allennlp.common import Params
from allennlp.common.checks import ConfigurationError
from allennlp.data import Instance, Token, Vocabulary
from allennlp.data.fields import LabelField, TextField
from allennlp.data.token_indexers import SingleIdTokenIndexer

from allencv.data import ImageDataLoader, LabelVocabulary
from allencv.data.dataset_readers import ImageFolderReader
from allencv.data.fields import ImageField
from allencv.models.labels import count_labels
from tests.conftest import write_images


def instances(namespace: str, *labels: str) -> List[Instance]:
    return [
        Instance({"image": ImageField("a.jpg"), "label": LabelField(label, namespace)})
        for label in labels
    ]


def made(config: Dict[str, Any], given: List[Instance]) -> Vocabulary:
    """As `allennlp train` makes a vocabulary."""
    return Vocabulary.from_params(Params(config), instances=given)


@pytest.mark.parametrize("namespace", ["labels", "classes", "species of animals"])
def test_the_labels_are_all_that_a_namespace_holds(namespace: str, tmp_path: Path) -> None:
    vocab = made({}, instances(namespace, "cat", "dog", "cat"))
    assert vocab.get_token_to_index_vocabulary(namespace) == {"cat": 0, "dog": 1}
    vocab.save_to_files(str(tmp_path))
    config = {"type": "extend", "directory": str(tmp_path)}
    read = Vocabulary.from_files(str(tmp_path))
    more = made(config, instances(namespace, "eel"))
    assert read.get_token_to_index_vocabulary(namespace) == {"cat": 0, "dog": 1}
    assert more.get_token_to_index_vocabulary(namespace) == {"cat": 0, "dog": 1, "eel": 2}
    assert count_labels(more, namespace, None, False) == 3


def test_the_arguments_are_allennlps() -> None:
    given = instances("classes", "cat", "dog", "cat")
    vocab = made({"tokens_to_add": {"classes": ["eel"]}, "min_count": {"classes": 2}}, given)
    assert vocab.get_token_to_index_vocabulary("classes") == {"cat": 0, "eel": 1}
    with pytest.raises(ConfigurationError, match="min_counts"):
        made({"min_counts": {}}, given)


def test_words_are_as_they_were() -> None:
    words = TextField([Token("a")], {"tokens": SingleIdTokenIndexer()})
    vocab = made({}, [Instance({"text": words, "label": LabelField("b", "classes")})])
    assert vocab.get_vocab_size("tokens") == 3
    assert vocab.get_vocab_size("classes") == 3


def test_a_vocabulary_with_other_entries_is_refused_by_a_model() -> None:
    vocab = Vocabulary.from_instances(instances("classes", "cat", "dog"))
    with pytest.raises(ConfigurationError) as error:
        count_labels(vocab, "classes", None, False)
    assert str(error.value) == (
        "model.label_namespace is 'classes', where the vocabulary has cat, dog, and @@PADDING@@ "
        "and @@UNKNOWN@@, which would count as labels; expected the label_namespace of "
        "dataset_reader (in Python: LabelVocabulary.from_instances, or "
        'non_padded_namespaces=["classes"])'
    )
    with pytest.raises(ConfigurationError, match="'kinds', where the vocabulary has no labels"):
        count_labels(vocab, "kinds", None, False)


def test_an_unknown_label_is_refused_where_a_vocabulary_has_an_entry_for_it(tmp_path: Path) -> None:
    vocab = Vocabulary.from_instances(instances("classes", "cat"))
    write_images(tmp_path, {"cat": 1, "eel": 1}, size=8)
    loader = ImageDataLoader(ImageFolderReader(label_namespace="classes"), tmp_path)
    with pytest.raises(ConfigurationError, match="label 'eel' of .*000.jpg is not in the vocab"):
        loader.index_with(vocab)


def test_it_is_what_allennlp_makes() -> None:
    assert type(made({}, instances("labels", "a", "b"))) is LabelVocabulary


@pytest.mark.parametrize("kind", ["from_files", "extend"])
def test_files_that_are_not_utf_8_are_named(tmp_path: Path, kind: str) -> None:
    made({}, instances("labels", "cat")).save_to_files(str(tmp_path))
    (tmp_path / "labels.txt").write_bytes(b"cat\n\xe4ffchen")
    with pytest.raises(ConfigurationError, match="labels.txt, line 2, is not text in UTF-8"):
        made({"type": kind, "directory": str(tmp_path)}, instances("labels", "cat"))
