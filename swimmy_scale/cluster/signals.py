"""What tells a driver to stop: a batch system before its time ends, or a user."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator
from types import FrameType

from swimmy_scale.errors import TimeIsUpError


@contextlib.contextmanager
def driver_signals() -> Iterator[None]:
    """Turn signals into exceptions, so that workers are ended and locks released."""

    def stop(number: int, frame: FrameType | None) -> None:
        # A second signal must not break into the cleaning up after the first.
        for name in previous:
            signal.signal(name, signal.SIG_IGN)
        raise TimeIsUpError if number == signal.SIGUSR1 else KeyboardInterrupt

    previous = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGUSR1, signal.SIGHUP)}
    for number in previous:
        signal.signal(number, stop)
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
