import pytest
from jinja2 import UndefinedError

from allencv.reporting.page_templates import page_environment


def test_values_are_escaped_and_may_not_be_missing() -> None:
    template = page_environment().from_string("{{ name }}: {{ images|number }}")
    assert template.render(name="<b>", images=12345) == "&lt;b&gt;: 12,345"
    with pytest.raises(UndefinedError, match="'name' is undefined"):
        template.render(images=1)
