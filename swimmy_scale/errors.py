"""Exceptions that end the program in a way that the user is told of."""

from __future__ import annotations


class SwimmyError(Exception):
    """A failure whose message is for the user.

    The message names the file, object, value and limit, and ends with the remedy. The command line
    prints it as one line; anything else that escapes is a defect and shows its traceback.
    """


EXIT_TIME_IS_UP = 75


class TimeIsUpError(BaseException):
    """The walltime of the driver's job is about to end. Like KeyboardInterrupt it passes through handlers."""

    def __str__(self) -> str:
        """What to tell of it."""
        return "the walltime ends; the next job goes on"
