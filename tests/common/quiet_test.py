import logging
import warnings

import pytest

from allencv.common.quiet import quiet

logger = logging.getLogger(__name__)


@pytest.mark.parametrize("hide_warnings", [False, True])
def test_it_hides_what_it_is_told_to(hide_warnings: bool, caplog: pytest.LogCaptureFixture) -> None:
    disabled = logging.root.manager.disable
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        with quiet(logging.WARNING, hide_warnings):
            logger.warning("hidden")
            logger.error("shown")
            warnings.warn("a warning", stacklevel=1)
    assert [record.message for record in caplog.records] == ["shown"]
    assert logging.root.manager.disable == disabled
    assert len(caught) == (0 if hide_warnings else 1)


def test_inside_another_it_hides_what_either_hides(caplog: pytest.LogCaptureFixture) -> None:
    disabled = logging.root.manager.disable
    with quiet(logging.ERROR):
        with quiet(logging.WARNING):
            logger.error("hidden")
        logger.error("hidden")
    with quiet(logging.INFO):
        with quiet(logging.WARNING):
            logger.warning("hidden")
        logger.warning("shown")
    assert [record.message for record in caplog.records] == ["shown"]
    assert logging.root.manager.disable == disabled
