"""
An archive holds every weight of its model, so a model rebuilt from one must not fetch the weights
that its training started from: they may be gone, or the machine offline.

AllenNLP deletes the keys "pretrained_file" and "initializer" from the model's config for this. An
encoder that is pretrained by default has no key to delete; it asks `pretrained_weights_skipped()`.
A model that may hold such encoders rebuilds itself inside `without_pretrained_weights()`:

```python
@classmethod
def _load(cls, config, serialization_dir, weights_file=None, cuda_device=-1):
    with without_pretrained_weights():
        return super()._load(config, serialization_dir, weights_file, cuda_device)
```
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_skipped: ContextVar[bool] = ContextVar("allencv_pretrained_weights_skipped", default=False)


@contextmanager
def without_pretrained_weights() -> Iterator[None]:
    """Encoders built inside keep their random initialisation, whatever their config says."""
    token = _skipped.set(True)
    try:
        yield
    finally:
        _skipped.reset(token)


def pretrained_weights_skipped() -> bool:
    """Whether the caller runs inside `without_pretrained_weights()`, in this thread or task."""
    return _skipped.get()
