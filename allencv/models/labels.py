from typing import Dict, List, Optional

import torch
from allennlp.common.checks import ConfigurationError
from allennlp.data import Vocabulary

from allencv.common.nearest_names import not_one_of
from allencv.modules.pretrained_weights import pretrained_weights_skipped


def count_labels(
    vocab: Vocabulary, namespace: str, num_labels: Optional[int], multi_label: bool
) -> int:
    """
    Return the number of labels: from the config, or else from the vocabulary.

    # Raises

    `ConfigurationError` if there are fewer than two labels, or with `multi_label` none.
    """
    _check_not_padded(vocab, namespace)
    known = vocab.get_vocab_size(namespace)
    least = 1 if multi_label else 2
    if num_labels is None and known < least:
        labels = ", ".join(vocab.get_token_to_index_vocabulary(namespace)) or "none"
        raise ConfigurationError(
            f"a classifier needs {'a label' if multi_label else 'two classes'} or more, but the "
            f"vocabulary has {known} in the namespace '{namespace}' ({labels}); look at "
            "train_data_path and model.label_namespace, or set model.num_labels"
        )
    if num_labels is not None and num_labels < max(known, least):
        raise ConfigurationError(
            f"model.num_labels is {num_labels}; expected at least {max(known, least)}: the "
            f"vocabulary has {known} in the namespace '{namespace}'"
        )
    return num_labels or known


def _check_not_padded(vocab: Vocabulary, namespace: str) -> None:
    """Raise if entries for padding and unknown words would count as labels."""
    tokens = vocab.get_token_to_index_vocabulary(namespace)
    reserved = [token for token in (vocab._padding_token, vocab._oov_token) if token in tokens]
    # An archive from before this check has weights for them.
    if not reserved or pretrained_weights_skipped():
        return
    labels = ", ".join(token for token in tokens if token not in reserved) or "no labels"
    raise ConfigurationError(
        f"model.label_namespace is '{namespace}', where the vocabulary has {labels}, and "
        f"{' and '.join(reserved)}, which would count as labels; expected the label_namespace of "
        f"dataset_reader (in Python: LabelVocabulary.from_instances, or "
        f'non_padded_namespaces=["{namespace}"])'
    )


def label_numbers(
    key: str, values: Dict[str, float], default: float, indices: Dict[str, int], num_labels: int
) -> torch.Tensor:
    """Return `(num_labels,)` numbers: the `values` of `model.{key}` by label, else `default`."""
    numbers = torch.full((num_labels,), default)
    for label, value in values.items():
        if label not in indices:
            raise not_one_of(f"a label of model.{key}", label, indices)
        numbers[indices[label]] = value
    return numbers


def check_class_weights(class_weights: Dict[str, float], labels: List[str]) -> None:
    """Raise `ConfigurationError` for a negative weight, or if all labels weigh 0."""
    for label, weight in class_weights.items():
        if weight < 0:
            raise ConfigurationError(
                f"model.class_weights.{label} is {weight}; expected a number of at least 0"
            )
    if class_weights and not any(class_weights.get(label, 1.0) for label in labels):
        raise ConfigurationError(
            f"model.class_weights is 0 for {', '.join(labels)}; expected one above 0"
        )
