import inspect
import os
from typing import Any, Iterable, Iterator, Set, Union

from allennlp.data import Instance, Vocabulary
from allennlp.data.fields import LabelField, MultiLabelField
from allennlp.data.vocabulary import DEFAULT_NON_PADDED_NAMESPACES

from allencv.common.label_text import check_vocabulary
from allencv.data.fields import ImageField


@Vocabulary.register("extend", constructor="from_files_and_instances", exist_ok=True)
@Vocabulary.register("from_files", constructor="from_files", exist_ok=True)
@Vocabulary.register("from_instances", constructor="from_instances", exist_ok=True)
class LabelVocabulary(Vocabulary):
    """
    AllenNLP's vocabulary, with two fixes:

    * Image labels get no entries for padding and unknown words, whatever their namespace is called.
      AllenNLP adds these two entries unless the name ends in "labels" or "tags", so a classifier
      would have two classes too many.
    * An error about a file that is not UTF-8 names the file and the line.

    Registered as a `Vocabulary` with the names "from_instances" (the default), "extend" and
    "from_files".

    # Parameters

    directory : `str`, required for "extend" and "from_files"
        The folder of the vocabulary.
    min_count, max_vocab_size, non_padded_namespaces, tokens_to_add, padding_token, oov_token
        See AllenNLP's `Vocabulary`.
    pretrained_files, only_include_pretrained_words, min_pretrained_embeddings
        See AllenNLP's `Vocabulary`. They are for words.
    """

    @classmethod
    def from_files(
        cls, directory: Union[str, os.PathLike], *args: Any, **others: Any
    ) -> Vocabulary:
        check_vocabulary(directory)
        return super().from_files(directory, *args, **others)

    @classmethod
    def from_instances(
        cls,
        instances: Iterable[Instance],
        non_padded_namespaces: Iterable[str] = DEFAULT_NON_PADDED_NAMESPACES,
        **others: Any,
    ) -> Vocabulary:
        # AllenNLP looks at the namespaces after counting all instances.
        namespaces = set(non_padded_namespaces)
        counted = _noting_label_namespaces(instances, namespaces)
        return super().from_instances(counted, non_padded_namespaces=namespaces, **others)

    @classmethod
    def from_files_and_instances(
        cls,
        instances: Iterable[Instance],
        directory: str,
        non_padded_namespaces: Iterable[str] = DEFAULT_NON_PADDED_NAMESPACES,
        **others: Any,
    ) -> Vocabulary:
        namespaces = set(non_padded_namespaces)
        counted = _noting_label_namespaces(instances, namespaces)
        return super().from_files_and_instances(
            counted, directory, non_padded_namespaces=namespaces, **others
        )


# AllenNLP reads from the signatures which keys a config may have.
for _name in ("from_files", "from_instances", "from_files_and_instances"):
    _method, _original = (getattr(each, _name).__func__ for each in (LabelVocabulary, Vocabulary))
    _signature = inspect.signature(_original)
    _method.__signature__ = _signature.replace(
        parameters=[
            # AllenNLP's annotation is a string, which does not resolve to a type.
            each.replace(annotation=Iterable[Instance]) if each.name == "instances" else each
            for each in _signature.parameters.values()
        ]
    )


def _noting_label_namespaces(
    instances: Iterable[Instance], namespaces: Set[str]
) -> Iterator[Instance]:
    """Yield the instances and add the namespaces of image labels to `namespaces`."""
    for instance in instances:
        if any(isinstance(field, ImageField) for field in instance.values()):
            namespaces.update(
                field._label_namespace
                for field in instance.values()
                if isinstance(field, (LabelField, MultiLabelField))
            )
        yield instance
