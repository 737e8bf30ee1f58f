"""The labels of a recovered run. The weights of its checkpoint depend on their order."""

from pathlib import Path
from typing import Any, Dict, List

from allennlp.common import Lazy
from allennlp.common.checks import ConfigurationError
from allennlp.data import Vocabulary
from allennlp.data.vocabulary import NAMESPACE_PADDING_FILE

from allencv.common.label_text import check_vocabulary, same_looking, shown


def labels_of_run(
    folder: Path, vocabulary: Lazy[Vocabulary], may_lack: bool, **given: Any
) -> Vocabulary:
    """
    Load the vocabulary of the run in `folder`, and compare it with the vocabulary of the present
    data. New images may change the order of the labels there, but not the labels.

    # Parameters

    folder : `Path`, required
        The folder of the run.
    vocabulary : `Lazy[Vocabulary]`, required
        The vocabulary in the config.
    may_lack : `bool`, required
        Whether the data may lack labels of the model.

    # Raises

    `ConfigurationError` with the labels that are new, and those that the data no longer have.
    """
    now = vocabulary.construct(**given)
    directory = folder / "vocabulary"
    if not (directory / NAMESPACE_PADDING_FILE).is_file():
        raise ConfigurationError(
            f"{folder} has a checkpoint, but no vocabulary with its labels; expected "
            f"{directory / NAMESPACE_PADDING_FILE}, or --force to start over"
        )
    check_vocabulary(directory)
    then = Vocabulary.from_files(directory, now._padding_token, now._oov_token)
    known, found = _labels(then), _labels(now)
    new = _without(found, known)
    lost = [] if may_lack else _without(known, found)
    if new or lost:
        every = [label for labels in known.values() for label in labels]
        hints = same_looking(new, every)
        differences = [f"has the new labels {_listed(new)}"] if new else []
        differences += [f"no longer has the labels {_listed(lost)}"] if lost else []
        raise ConfigurationError(
            f"the run in {folder} cannot be resumed with other labels: train_data_path "
            f"{' and '.join(differences)}, but the run has {_listed(every)}{hints}; change the "
            "labels back, or train in another folder"
        )
    return then


def _labels(vocabulary: Vocabulary) -> Dict[str, List[str]]:
    """Return the labels in each namespace."""
    reserved = (vocabulary._padding_token, vocabulary._oov_token)
    return {
        name: [
            label
            for label in vocabulary.get_token_to_index_vocabulary(name)
            if label not in reserved
        ]
        for name in sorted(vocabulary.get_namespaces())
    }


def _without(labels: Dict[str, List[str]], others: Dict[str, List[str]]) -> List[str]:
    """Return the labels that `others` lacks in the same namespace."""
    return [
        label
        for name, those in labels.items()
        for label in sorted(set(those).difference(others.get(name, ())))
    ]


def _listed(labels: List[str]) -> str:
    more = f" and {len(labels) - 20} more" if len(labels) > 20 else ""
    return ", ".join(map(shown, labels[:20])) + more
