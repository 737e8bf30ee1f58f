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

from allencv.catalogue.argument_types import NULL, Form, UnionOf, form_of, is_nullable
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
The arguments that `train` and `predict` pass to a part in code (allennlp/commands/train.py and
gradient_descent_trainer.py, where they call `construct`), so that a config does not need them.
"""
_SUPPLIED_EVERYWHERE = "vocab"  # AllenNLP passes it to all parts of a model


@dataclass(frozen=True)
class Argument:
    """An argument of a part, as in a config."""

    name: str
    form: Form
    default: Any
    description: str
    from_library: bool
    """Whether the description is from a library."""
    supplied: bool
    """Whether training passes it, so that a config does not need it."""
    misread: Optional[str]
    """The annotation, if the constructor gets a dict in place of a part."""
    supplies_more: bool
    """Whether the constructor builds it, with further arguments that only its code knows."""

    @property
    def is_required(self) -> bool:
        return self.default is REQUIRED and not self.supplied


@dataclass(frozen=True)
class Part:
    """A class in a config: under a registered name, or at a place for this class only."""

    registry: Optional[type]
    name: Optional[str]
    cls: type
    arguments: Dict[str, Argument]
    constructor: Callable
    takes_others: bool
    """Whether keys that are not arguments are passed on to other code."""
    documentation: Documentation

    @property
    def path(self) -> str:
        return f"{self.cls.__module__}.{self.cls.__qualname__}"

    @property
    def from_allennlp(self) -> bool:
        return is_from_allennlp(self.cls)

    @property
    def reads_config_itself(self) -> bool:
        """Whether it has its own `from_params`, so that its constructor is not decisive."""
        method = getattr(self.cls, "from_params", None)
        return method is not None and not _is_ours(method.__module__)

    @property
    def in_config(self) -> Dict[str, Argument]:
        """The arguments that a config may give."""
        return {name: each for name, each in self.arguments.items() if not each.supplied}


def is_from_library(cls: type) -> bool:
    """Return whether a class, with its docstring, is from a library."""
    libraries = ("timm", "torchmetrics", "torchvision", "transformers")
    return is_from_allennlp(cls) or cls.__module__.split(".")[0] in libraries


def is_from_allennlp(cls: type) -> bool:
    return cls.__module__.split(".")[0] in ("allennlp", "torch", "builtins")


def registered(registry: type) -> Dict[str, Tuple[type, Optional[str]]]:
    """Return the classes of a registry by name, each with its constructor's name, if any."""
    return Registrable._registry.get(registry, {})


def registries() -> List[type]:
    """Return every class with registered parts."""
    return [base for base, parts in Registrable._registry.items() if parts]


def parts_of(registry: type) -> List[Part]:
    return [part_named(registry, name) for name in sorted(registered(registry))]


def names_of(registry: type) -> List[str]:
    """Return the names in a registry in alphabetical order, AllenNLP's last."""
    parts = registered(registry)
    return sorted(parts, key=lambda name: (is_from_allennlp(parts[name][0]), name))


def part_named(registry: type, name: str) -> Part:
    """Return the part with a name in the registry. Raise `KeyError` if there is none."""
    cls, constructor = registered(registry)[name]
    return describe(cls, registry, name, constructor)


def default_name(registry: type) -> Optional[str]:
    """Return the default "type"."""
    return getattr(registry, "default_implementation", None)


@cache
def describe(
    cls: type,
    registry: Optional[type] = None,
    name: Optional[str] = None,
    constructor_name: Optional[str] = None,
) -> Part:
    """Describe a class by what AllenNLP reads to build it from a config."""
    constructor: Any = getattr(cls, constructor_name) if constructor_name else _init(cls)
    documentation = _documentation(cls, constructor)
    if cls is registry:  # its constructors are registered separately
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
        if not any(form_of(parameter.annotation).classes()):
            return None
    text = written if isinstance(written, str) else inspect.formatannotation(written)
    return text.replace("typing.", "")


def _form(parameter: inspect.Parameter) -> Form:
    form = form_of(parameter.annotation)
    if parameter.default is None and not is_nullable(form):
        return UnionOf((form, NULL))  # `str = None`, as AllenNLP writes it
    return form


def _default(parameter: inspect.Parameter) -> Any:
    """Return a default as in a config."""
    if isinstance(parameter.default, Lazy) and inspect.isfunction(parameter.default._constructor):
        return next(map(default_name, form_of(parameter.annotation).classes()))
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
    """Return the registered name of a class, or of an object's class, or else its Python name."""
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
    """Return the documentation of a class, with the nearest text for each parameter."""
    documentation = read_docstring(vars(cls).get("__doc__"))
    if registered(cls) and not documentation.summary:  # use the text of a base class
        documentation.summary = read_docstring(inspect.getdoc(cls)).summary
    texts = []
    for base in (*cls.__mro__, inspect.getattr_static(cls, "torchvision_class", object)):
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


Key = Union[int, str]
Path = Tuple[Key, ...]
"""A place in a config. As text it has dots, as in `--overrides`."""
