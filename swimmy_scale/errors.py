"""The one exception that is meant for the user."""

from __future__ import annotations


class SwimmyError(Exception):
    """A failure whose message is for the user.

    The message names the file, object, value and limit, and ends with the remedy. The command line
    prints it as one line; anything else that escapes is a defect and shows its traceback.
    """
