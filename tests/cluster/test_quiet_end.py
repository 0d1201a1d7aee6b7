"""What is logged while all is torn down."""

from __future__ import annotations

import logging

import distributed
import pytest

from swimmy_scale.cluster.quiet_end import quiet_end


@pytest.mark.parametrize("name", ["distributed.batched", "tornado.application", "asyncio"])
def test_silence_ends_with_the_context(name: str, caplog: pytest.LogCaptureFixture) -> None:
    assert distributed.batched.logger.name in logging.root.manager.loggerDict
    logger = logging.getLogger(name)
    logger.addHandler(caplog.handler)
    try:
        with quiet_end() as hush:
            logger.critical("before")
            hush()
            logger.critical("while all is torn down")
        logger.critical("after")
    finally:
        logger.removeHandler(caplog.handler)
    assert set(caplog.messages) == {"before", "after"}


def test_what_was_silent_stays_so() -> None:
    logger = logging.getLogger("asyncio")
    logger.disabled = True
    try:
        with quiet_end() as hush:
            hush()
            hush()
        assert logger.disabled
    finally:
        logger.disabled = False
