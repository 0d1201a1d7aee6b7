"""Exceptions that end the program with a message for the user."""

from __future__ import annotations


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
