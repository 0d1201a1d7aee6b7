"""Exceptions that end the program with a message for the user, and how messages name a command to type."""

from __future__ import annotations

import shlex
import shutil
import sys
from pathlib import Path

PROGRAM = "swimmy-scale"


class SwimmyError(Exception):
    """A failure whose message is for the user.

    The message names the file, object, value and limit, and ends with the remedy. The command line prints it as one
    line; any other exception that escapes is a defect and shows its traceback.
    """


EXIT_TIME_IS_UP = 75


class TimeIsUpError(BaseException):
    """The walltime of the driver's job is about to end. ``except Exception`` lets it pass, as KeyboardInterrupt."""

    def __str__(self) -> str:
        """The message for the user."""
        return "the walltime ends; the next job goes on"


def interpreter() -> str:
    """The Python that runs this, as the user can type it."""
    found = shutil.which("python")
    return "python" if found is not None and Path(found).samefile(sys.executable) else shlex.quote(sys.executable)


def program() -> str:
    """The program as the user can type it: as it was started, but by its name alone where the shell finds that."""
    started = Path(sys.argv[0]) if sys.argv and sys.argv[0] else Path()
    if started.name == "__main__.py" and started.parent.name == "swimmy_scale":
        return shlex.join([sys.orig_argv[0], "-m", "swimmy_scale"])
    if started.name == PROGRAM:
        found = shutil.which(PROGRAM)
        if found is None or not started.exists() or not Path(found).samefile(started):
            return shlex.quote(str(started))
    return PROGRAM


def check_installed(what: str, extra: str, *libraries: str) -> None:
    """Refuse to do what needs libraries that are not installed, with the command that installs them.

    Raises
    ------
    SwimmyError
        When one is missing.
    """
    from importlib.util import find_spec

    missing = [name for name in libraries if find_spec(name) is None]
    if missing:
        verb = "is" if len(missing) == 1 else "are"
        raise SwimmyError(
            f"{what} needs {' and '.join(missing)}, which {verb} not installed. Install: "
            f'{interpreter()} -m pip install "{PROGRAM}[{extra}]"'
        )


def typed(*words: object) -> str:
    """A command of the program as the user can type it, each word quoted where a shell needs that."""
    return " ".join([program(), *(shlex.quote(str(word)) for word in words)])
