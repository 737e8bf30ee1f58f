"""Compile a model, or parts of it, with torch.compile."""

import contextlib
import functools
from typing import Any, ContextManager, Dict, Iterator, List, Set, Tuple, Union

import torch
from allennlp.common.checks import ConfigurationError
from allennlp.data import TensorDict

from allencv.common.nearest_names import not_one_of

VARIANTS = 8
"""How often torch may compile each part: for training, for validation, and for other changes."""


class Compilation:
    """
    Compiles a model, or parts of it, in place: its parameters keep their names.

    A batch of another size than the first, such as the last of an epoch, runs without the compiled
    code, to avoid another compilation.

    # Raises

    `ConfigurationError` for a part that does not exist or cannot be compiled, and after the first
    batch for a part whose compiled code was not called.
    """

    def __init__(self, model: torch.nn.Module, compile: Union[bool, List[str]]) -> None:
        self._sizes: Dict[bool, Tuple[int, ...]] = {}
        self._uncalled: Set[str] = set()
        names = [""] if compile is True else list(dict.fromkeys(compile or []))
        self._is_on = bool(names)
        modules = dict(model.named_modules())
        for name in names:
            if name not in modules:
                parts = [each for each in modules if each]
                raise not_one_of("a part in trainer.compile", name, parts)
            _check(name, modules[name])
        if len(names) > 1:
            # torch counts the code of all parts together, and no longer compiles above its limit.
            config = torch._dynamo.config
            config.recompile_limit = max(config.recompile_limit, VARIANTS * len(names))
        for name in names:
            if not any(name.startswith(f"{other}.") for other in names):  # compiled with the other
                self._compile(name, modules[name])

    def _compile(self, name: str, module: torch.nn.Module) -> None:
        module.compile(dynamic=False)
        compiled = module._compiled_call_impl
        self._uncalled.add(name)

        def first_call(*args: Any, **kwargs: Any) -> Any:
            self._uncalled.discard(name)
            module._compiled_call_impl = compiled
            return module(*args, **kwargs)

        module._compiled_call_impl = first_call

    def __call__(self, model: torch.nn.Module, batch: TensorDict) -> ContextManager[None]:
        """Return the context for calling the model with a batch."""
        if not self._is_on:
            return contextlib.nullcontext()
        size = next(tuple(each.shape) for each in batch.values() if isinstance(each, torch.Tensor))
        if self._sizes.setdefault(model.training, size) != size:
            return torch.compiler.set_stance("force_eager")
        return self._first_batch() if self._uncalled else contextlib.nullcontext()

    @contextlib.contextmanager
    def _first_batch(self) -> Iterator[None]:
        yield
        if self._uncalled:
            raise ConfigurationError(
                f"trainer.compile has {min(self._uncalled)!r}, which the model does not call as a "
                "whole; expected a part whose forward() is called, such as the one around it"
            )


def _check(name: str, module: torch.nn.Module) -> None:
    if type(module).forward is torch.nn.Module.forward:
        raise ConfigurationError(
            f"trainer.compile has {name!r}, a {type(module).__name__}, which has no forward() to "
            "compile; expected its parts or the one around it"
        )
    if type(module).__module__.startswith("torch.nn.") and not _compiles_layers_of_torch():
        raise ConfigurationError(
            f"trainer.compile has {name!r}, a {type(module).__name__} of torch, which torch "
            f"{torch.__version__} does not compile by itself; expected the part around it, or true"
        )


@functools.cache
def _compiles_layers_of_torch() -> bool:
    """Return whether this version of torch compiles its own layers where they are named alone."""
    graphs: List[Any] = []

    def backend(graph: Any, inputs: Any) -> Any:
        graphs.append(graph)
        return graph.forward

    layer = torch.nn.Linear(1, 1)
    layer.compile(backend=backend)
    layer(torch.zeros(1, 1))
    return bool(graphs)
