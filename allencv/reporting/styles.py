from pathlib import Path

from markupsafe import Markup

TEMPLATES = Path(__file__).parent / "templates"


def read_style(*names: str) -> Markup:
    """The content of style sheets, to stand in a page: what all pages share is in `style.css`."""
    return Markup("".join((TEMPLATES / name).read_text(encoding="utf-8") for name in names))
