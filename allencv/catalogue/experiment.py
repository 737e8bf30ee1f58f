from functools import cache
from typing import Dict, List, Optional, Tuple

from allennlp.commands.train import TrainModel
from allennlp.common import FromParams
from allennlp.evaluation import Evaluator

from allencv.catalogue.parts import (
    Part,
    default_name,
    describe,
    part_named,
    parts_of,
    registered,
    registries,
)
from allencv.training.distributed.settings import Distributed


class BesideTrainModel(FromParams):
    """
    The top-level keys that AllenNLP reads before it builds a `TrainModel` from the others.

    # Parameters

    random_seed : `int`, optional (default = `13370`)
        The seed of Python's `random`.
    numpy_seed : `int`, optional (default = `1337`)
        The seed of NumPy.
    pytorch_seed : `int`, optional (default = `133`)
        The seed of torch, for the first weights, the order of the images and their transforms.
    distributed : `Distributed`, optional (default = `None`)
        Training on several GPUs or machines.
    include_in_archive : `List[str]`, optional (default = `None`)
        Patterns of files in the run's folder (`*.csv`) to add to `model.tar.gz`.
    evaluation : `Evaluator`, optional (default = `None`)
        The evaluator for the command `evaluate`.
    """

    def __init__(
        self,
        random_seed: Optional[int] = 13370,
        numpy_seed: Optional[int] = 1337,
        pytorch_seed: Optional[int] = 133,
        distributed: Optional[Distributed] = None,
        include_in_archive: Optional[List[str]] = None,
        evaluation: Optional[Evaluator] = None,
    ) -> None: ...


@cache
def experiment() -> Part:
    """Return the top level of a config for `train`."""
    part = part_named(TrainModel, str(default_name(TrainModel)))
    arguments = {**part.arguments, **describe(BesideTrainModel).arguments}
    return Part(
        TrainModel, part.name, part.cls, arguments, part.constructor, False, part.documentation
    )


def places() -> Dict[type, Tuple[str, ...]]:
    """
    Return where a config takes parts of each class: the keys from the top, the shortest path first;
    "*" means any number or name. Classes that only AllenNLP's parts take, mostly for texts, are
    left out.
    """
    found: Dict[type, Tuple[str, ...]] = {}
    waiting: List[Tuple[Part, Tuple[str, ...]]] = [(experiment(), ())]
    while waiting:
        part, path = waiting.pop(0)
        for argument in part.in_config.values():
            for cls in argument.form.classes():
                if cls in found:
                    continue
                found[cls] = (*path, argument.name)
                if not registered(cls):
                    waiting.append((describe(cls), found[cls]))
                for each in parts_of(cls):
                    if not each.from_allennlp:
                        waiting.append((each, found[cls]))
    return found


def classes_without_parts() -> List[type]:
    """Return the classes that a config describes without a "type"."""
    return [cls for cls in places() if not registered(cls)]


def registries_that_matter() -> List[type]:
    """Return the registries in an experiment, and those with parts that are not AllenNLP's."""
    named = [cls for cls in places() if registered(cls)]
    others = [
        cls
        for cls in registries()
        if cls not in (*named, TrainModel) and any(not part.from_allennlp for part in parts_of(cls))
    ]
    return named + others
