"""Names of Dask that its documentation does not promise: another version may not have them."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Iterator
from contextlib import contextmanager

from swimmy_scale.errors import SwimmyError


@contextmanager
def fitting_version(distribution: str) -> Iterator[None]:
    """Inside it, what the installed version of a library lacks ends the program with a message, not a traceback.

    Raises
    ------
    SwimmyError
        When a name cannot be imported, is missing, or is called in a way that it does not take.
    """
    try:
        yield
    except (ImportError, AttributeError, TypeError) as error:
        raise SwimmyError(
            f"{distribution} {importlib.metadata.version(distribution)} differs from the versions that this program "
            f"knows ({error}). Install the version that requirements.lock has."
        ) from error
