"""What tells a driver to stop: a batch system before its time ends, or a user, by Ctrl-C too."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from types import FrameType

from swimmy_scale.errors import TimeIsUpError

SECONDS_UNTIL_AGAIN = 0.05


@contextlib.contextmanager
def interrupts_not_lost(arm: Callable[[], object] = lambda: None) -> Iterator[None]:
    """Send a signal again whose exception Python ignored; ``arm`` is called before.

    Python ignores what is raised while it removes an object, and every import removes some: one Ctrl-C of many would
    only print a page, and the program would go on.
    """
    usual = sys.unraisablehook

    def hook(ignored: sys.UnraisableHookArgs) -> None:
        if not issubclass(ignored.exc_type, (KeyboardInterrupt, TimeIsUpError)):
            usual(ignored)
            return
        arm()
        number = signal.SIGUSR1 if issubclass(ignored.exc_type, TimeIsUpError) else signal.SIGINT
        # Not now: it would be ignored as well.
        again = threading.Timer(SECONDS_UNTIL_AGAIN, os.kill, [os.getpid(), number])
        again.daemon = True
        again.start()

    sys.unraisablehook = hook
    try:
        yield
    finally:
        sys.unraisablehook = usual


@contextlib.contextmanager
def driver_signals() -> Iterator[None]:
    """Turn signals into exceptions, so that workers are ended and locks released."""

    def stop(number: int, frame: FrameType | None) -> None:
        # A second signal must not break into the cleaning up after the first.
        for name in previous:
            signal.signal(name, signal.SIG_IGN)
        raise TimeIsUpError if number == signal.SIGUSR1 else KeyboardInterrupt

    def arm() -> None:
        for number in previous:
            signal.signal(number, stop)

    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGHUP)
    previous = {number: signal.getsignal(number) for number in numbers}
    arm()
    try:
        with interrupts_not_lost(arm):
            yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def interrupts_kept() -> Iterator[None]:
    """Undo what is done within to the handling of Ctrl-C, such as by a library that is imported."""
    previous = signal.getsignal(signal.SIGINT)
    try:
        yield
    finally:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGINT, previous)


@contextlib.contextmanager
def interrupts_held() -> Iterator[None]:
    """Hold back Ctrl-C until the end of the block, and for ever from processes that start within.

    A terminal sends it to all processes of a command. One is enough to end the others, and each of them would print a
    page of where it was.
    """
    came: list[int] = []
    is_main = threading.current_thread() is threading.main_thread()
    # Blocked for what starts within; noted, because the signal may come by another thread, which does not block it.
    handler = signal.signal(signal.SIGINT, lambda number, _: came.append(number)) if is_main else None
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        if is_main:
            signal.signal(signal.SIGINT, handler)
    if came:
        signal.raise_signal(signal.SIGINT)
