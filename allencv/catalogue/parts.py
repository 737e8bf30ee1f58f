import inspect
from dataclasses import dataclass
from functools import cache
from typing import Any, Callable, Dict, FrozenSet, List, Optional, Set, Tuple, Union

from allennlp.commands.train import TrainModel
from allennlp.common import Lazy, Registrable
from allennlp.data import DataLoader, DatasetReader, Vocabulary
from allennlp.models import Model
from allennlp.nn.parallel import DdpAccelerator
from allennlp.predictors import Predictor
from allennlp.training import Checkpointer, TrainerCallback
from allennlp.training.learning_rate_schedulers import LearningRateScheduler
from allennlp.training.momentum_schedulers import MomentumScheduler
from allennlp.training.moving_average import MovingAverage
from allennlp.training.optimizers import Optimizer
from allennlp.training.trainer import Trainer

from allencv.catalogue.argument_types import NULL, Form, UnionOf, classes_in, form_of, is_nullable
from allencv.catalogue.docstrings import Documentation, read_docstring
from allencv.common.annotations import (
    allennlp_builds,
    holds_lazy,
    is_unresolved,
    owner_of,
    parameters_as_written,
    parameters_of,
    takes_other_keys,
)
from allencv.common.checks import CheckedFromParams
from allencv.common.records import is_record

REQUIRED = inspect.Parameter.empty

SUPPLIED: Dict[type, FrozenSet[str]] = {
    TrainModel: frozenset(["serialization_dir", "local_rank", "ddp_accelerator"]),
    Vocabulary: frozenset(["instances"]),
    DatasetReader: frozenset(["serialization_dir"]),
    DataLoader: frozenset(["reader", "data_path"]),
    Model: frozenset(["vocab", "serialization_dir", "ddp_accelerator"]),
    Trainer: frozenset(
        [
            *("serialization_dir", "model", "data_loader", "validation_data_loader"),
            *("local_rank", "world_size", "distributed", "ddp_accelerator"),
        ]
    ),
    DdpAccelerator: frozenset(["local_rank", "world_size", "cuda_device"]),
    Optimizer: frozenset(["model_parameters", "model"]),
    LearningRateScheduler: frozenset(["optimizer", "num_epochs", "num_steps_per_epoch"]),
    MomentumScheduler: frozenset(["optimizer"]),
    MovingAverage: frozenset(["parameters", "model"]),
    Checkpointer: frozenset(["serialization_dir"]),
    TrainerCallback: frozenset(["serialization_dir"]),
    Predictor: frozenset(["model", "dataset_reader"]),
}
"""
What `train` and `predict` hand to a part in code (allennlp/commands/train.py and
gradient_descent_trainer.py, where they call `construct`), so that a config need not say it.
"""
_SUPPLIED_EVERYWHERE = "vocab"  # AllenNLP hands it on to all parts of a model


@dataclass(frozen=True)
class Argument:
    """What a config may say for an argument of a part."""

    name: str
    form: Form
    default: Any
    description: str
    from_library: bool
    """Whether the description is that of a library."""
    supplied: bool
    """Whether training hands it over, so that a config need not say it."""
    misread: Optional[str]
    """The annotation, if the constructor gets a dict in place of a part that it names."""
    supplies_more: bool
    """Whether the constructor builds it itself, with arguments that only its code tells."""

    @property
    def is_required(self) -> bool:
        return self.default is REQUIRED and not self.supplied


@dataclass(frozen=True)
class Part:
    """A class as a config names it: under a registered name, or where only this class can stand."""

    registry: Optional[type]
    name: Optional[str]
    cls: type
    arguments: Dict[str, Argument]
    constructor: Callable
    takes_others: bool
    """Whether keys that are no arguments are passed on to code that may know them."""
    documentation: Documentation

    @property
    def path(self) -> str:
        return f"{self.cls.__module__}.{self.cls.__qualname__}"

    @property
    def from_allennlp(self) -> bool:
        return is_from_allennlp(self.cls)

    @property
    def reads_config_itself(self) -> bool:
        """Whether it has a `from_params` of its own, so that its constructor does not tell all."""
        method = getattr(self.cls, "from_params", None)
        return method is not None and not _is_ours(method.__module__)

    @property
    def in_config(self) -> Dict[str, Argument]:
        """The arguments that a config says."""
        return {name: each for name, each in self.arguments.items() if not each.supplied}


def is_from_library(cls: type) -> bool:
    """Whether its docstring is a library's, and neither ours nor a user's."""
    libraries = ("timm", "torchmetrics", "torchvision", "transformers")
    return is_from_allennlp(cls) or cls.__module__.split(".")[0] in libraries


def is_from_allennlp(cls: type) -> bool:
    return cls.__module__.split(".")[0] in ("allennlp", "torch", "builtins")


def registered(registry: type) -> Dict[str, Tuple[type, Optional[str]]]:
    """The classes of a registry by name, each with its constructor if that has a name."""
    return Registrable._registry.get(registry, {})


def registries() -> List[type]:
    """Every class that has something registered."""
    return [base for base, parts in Registrable._registry.items() if parts]


def parts_of(registry: type) -> List[Part]:
    return [part_named(registry, name) for name in sorted(registered(registry))]


def names_of(registry: type) -> List[str]:
    """The names in a registry in alphabetical order, those of AllenNLP's classes last."""
    parts = registered(registry)
    return sorted(parts, key=lambda name: (is_from_allennlp(parts[name][0]), name))


def part_named(registry: type, name: str) -> Part:
    """The part under a name of the registry. Raises `KeyError` if there is none."""
    cls, constructor = registered(registry)[name]
    return describe(cls, registry, name, constructor)


def default_name(registry: type) -> Optional[str]:
    """What stands for a missing "type"."""
    return getattr(registry, "default_implementation", None)


@cache
def describe(
    cls: type,
    registry: Optional[type] = None,
    name: Optional[str] = None,
    constructor_name: Optional[str] = None,
) -> Part:
    """Describes a class by what AllenNLP reads of it to build it from a config."""
    constructor: Any = getattr(cls, constructor_name) if constructor_name else _init(cls)
    documentation = _documentation(cls, constructor)
    if cls is registry:  # which has several constructors, each registered
        documentation.summary = read_docstring(constructor.__doc__).summary
    supplied = frozenset().union(*(SUPPLIED.get(base, frozenset()) for base in cls.__mro__))
    arguments = {}
    written = parameters_as_written(cls, constructor)
    for parameter in parameters_of(cls, constructor).values():
        owner = owner_of(parameter.name, cls, constructor)
        arguments[parameter.name] = Argument(
            name=parameter.name,
            form=_form(parameter),
            default=_default(parameter),
            description=documentation.parameters.get(parameter.name, ""),
            from_library=parameter.name in documentation.from_libraries,
            supplied=parameter.name in supplied or parameter.name == _SUPPLIED_EVERYWHERE,
            misread=_misread(cls, parameter, written[parameter.name].annotation),
            supplies_more=holds_lazy(parameter.annotation) and not _is_ours(owner.__module__),
        )
    takes_others = takes_other_keys(cls, constructor)
    return Part(registry, name, cls, arguments, constructor, takes_others, documentation)


def _init(cls: type) -> Any:
    return cls.__init__


def _is_ours(module: str) -> bool:
    return module.split(".")[0] in ("allencv", "allennlp")


def _misread(cls: type, parameter: inspect.Parameter, written: Any) -> Optional[str]:
    if not is_unresolved(parameter.annotation):
        if issubclass(cls, CheckedFromParams) or is_record(cls) or allennlp_builds(written):
            return None
        if not any(classes_in(form_of(parameter.annotation))):
            return None
    text = written if isinstance(written, str) else inspect.formatannotation(written)
    return text.replace("typing.", "")


def _form(parameter: inspect.Parameter) -> Form:
    form = form_of(parameter.annotation)
    if parameter.default is None and not is_nullable(form):
        return UnionOf((form, NULL))  # `str = None`, as AllenNLP writes it
    return form


def _default(parameter: inspect.Parameter) -> Any:
    """A default as a config would say it."""
    if isinstance(parameter.default, Lazy) and inspect.isfunction(parameter.default._constructor):
        return next(map(default_name, classes_in(form_of(parameter.annotation))))
    return _plain(parameter.default)


def _plain(default: Any) -> Any:
    if isinstance(default, Lazy):
        return _as_name(default._constructor)
    if isinstance(default, (tuple, list)):
        return [_plain(each) for each in default]
    if default is REQUIRED or isinstance(default, (str, int, float, bool, dict, type(None))):
        return default
    return _as_name(default)


def _as_name(value: Any) -> str:
    """The registered name of a class, or of an object's class; its Python name if it has none."""
    cls = value if inspect.isclass(value) else type(value)
    cls = getattr(value, "__self__", cls) if inspect.ismethod(value) else cls
    if default_name(cls) is not None and registered(cls):
        return str(default_name(cls))
    for registry in registries():
        for name, (other, _) in registered(registry).items():
            if other is cls:
                return name
    return str(getattr(value, "value", getattr(value, "__name__", cls.__name__)))


def _documentation(cls: type, constructor: Any) -> Documentation:
    """What is said of the class; of parameters, what is said nearest to it."""
    documentation = read_docstring(vars(cls).get("__doc__"))
    if registered(cls) and not documentation.summary:  # a base says what its kinds are for
        documentation.summary = read_docstring(inspect.getdoc(cls)).summary
    texts = []
    for base in (*cls.__mro__, getattr(cls, "torchvision_class", object)):
        members = vars(base)
        for member in (members.get(constructor.__name__), base, members.get("__init__")):
            text = None if base is object else getattr(member, "__doc__", None)
            texts.append((text, is_from_library(base)))
    found: Dict[str, str] = {}
    of_library: Set[str] = set()
    for text, from_library in texts:
        for name, description in read_docstring(text).parameters.items():
            known = found.get(name, "")
            if description and (not known or known.startswith("See `")):
                found[name] = description
                (of_library.add if from_library else of_library.discard)(name)
    documentation.parameters = found
    documentation.from_libraries = of_library
    return documentation


Key = Union[str, int]
Path = Tuple[Key, ...]
"""Where something stands in a config. As text it has dots, as `--overrides` takes it."""
