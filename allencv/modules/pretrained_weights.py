"""
An archive holds all weights of its model. A model rebuilt from it must not fetch pretrained
weights: they may be gone, or the machine offline.

AllenNLP deletes the keys "pretrained_file" and "initializer" from the model's config for this. An
encoder that is pretrained by default has no such key; it calls `pretrained_weights_skipped()`. A
model with such encoders rebuilds itself inside `without_pretrained_weights()`:

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
    """Keep the random initialisation of encoders built inside, whatever their config says."""
    token = _skipped.set(True)
    try:
        yield
    finally:
        _skipped.reset(token)


def pretrained_weights_skipped() -> bool:
    """Return whether `without_pretrained_weights()` is active in this thread or task."""
    return _skipped.get()
