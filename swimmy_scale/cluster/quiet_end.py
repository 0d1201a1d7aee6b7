"""What event loops and Dask log while all is torn down in the middle: pages that are of no use to anybody."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator


def _loggers() -> list[logging.Logger]:
    known = [name for name in logging.root.manager.loggerDict if name.partition(".")[0] == "distributed"]
    return [logging.getLogger(name) for name in ("tornado.application", "asyncio", *known)]


@contextlib.contextmanager
def quiet_end() -> Iterator[Callable[[], None]]:
    """Gives a function; once that is called, event loops and Dask log nothing until the context ends."""
    silenced: list[logging.Logger] = []

    def hush() -> None:
        silenced.extend(logger for logger in _loggers() if not logger.disabled)
        for logger in silenced:
            logger.disabled = True

    try:
        yield hush
    finally:
        for logger in silenced:
            logger.disabled = False
