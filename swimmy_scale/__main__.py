"""``python -m swimmy_scale`` is ``swimmy-scale``. Nothing is imported before Ctrl-C is handled, but what handles it."""

import os
import signal
import sys
from types import FrameType

INTERRUPTED = 130


def _leave(number: int, frame: FrameType | None) -> None:
    """End at once: nothing is begun yet, and Python would print a page about what it was importing."""
    sys.stderr.write("\nswimmy-scale: interrupted; nothing was begun\n")
    sys.stderr.flush()
    os._exit(INTERRUPTED)


def start() -> None:
    """Run the command line; until a command begins, Ctrl-C ends the program without a traceback."""
    usual = signal.signal(signal.SIGINT, _leave)
    # Whoever starts this program may have it ignore Ctrl-C, as shells do in the background.
    if usual == signal.SIG_IGN:
        signal.signal(signal.SIGINT, usual)

    from swimmy_scale.cli import main

    try:
        # A command has its own handling, which keeps what is done.
        main(obj=lambda: signal.signal(signal.SIGINT, usual))
    except SystemExit as ended:
        if ended.code == INTERRUPTED:
            _say_no_more()
        raise


def _say_no_more() -> None:
    """Let what was said to who pressed Ctrl-C be the last word: event loops and threads that end now have no news."""
    import logging
    import threading

    logging.disable(logging.CRITICAL)
    threading.excepthook = lambda raised: None
    sys.unraisablehook = lambda raised: None


if __name__ == "__main__":
    start()
