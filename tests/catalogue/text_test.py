"""Pages for a terminal."""

import pytest

import allencv.plugin  # noqa: F401
from allencv.catalogue import parts_of, registries_that_matter, text
from allencv.catalogue.parts import describe


def unwrapped(page: str) -> str:
    return " ".join(page.split())


@pytest.mark.parametrize("registry", registries_that_matter(), ids=lambda cls: cls.__name__)
def test_first_sentences_are_whole(registry: type) -> None:
    """Also those of AllenNLP, which are long."""
    page = text.registry_page(registry)
    assert max(map(len, page.splitlines())) <= text.WIDTH
    for part in parts_of(registry):
        assert unwrapped(part.documentation.summary) in unwrapped(page), part.name


def test_first_sentences_of_the_kinds_are_whole() -> None:
    page = unwrapped(text.overview())
    for registry in registries_that_matter():
        assert unwrapped(describe(registry).documentation.summary) in page
