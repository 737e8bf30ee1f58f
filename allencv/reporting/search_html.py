"""The page of `allencv search`: each image with those that are most similar to it."""

from allencv.features.search import Search
from allencv.reporting.page_templates import page_environment
from allencv.reporting.thumbnails import thumbnail_uris
from allencv.runtime.plurals import numbered

MOST_ERRORS = 200
"""The most images that the page lists because they cannot be read."""


def as_html(found: Search) -> str:
    """Return a page of HTML that needs no other file."""
    shown = [query for query in found.queries if query.error is None]
    files = [query.file for query in shown]
    files += [each.file for query in shown for each in query.similar]
    thumbnails = thumbnail_uris(files)
    gone = [file for file, thumbnail in thumbnails.items() if thumbnail is None]
    return (
        page_environment()
        .get_template("search.html")
        .render(
            queries=found.queries,
            images=numbered(found.images, "image"),
            errors=list(found.errors.values()),
            thumbnails=thumbnails,
            gone=gone,
            most_errors=MOST_ERRORS,
        )
    )
