"""The pages in `templates`, filled in by jinja2. They share the frame of `page.html`."""

from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

TEMPLATES = Path(__file__).parent / "templates"


def page_environment() -> Environment:
    """Return an environment that escapes all values and refuses missing ones."""
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["number"] = lambda value: f"{value:,.0f}"
    return environment
