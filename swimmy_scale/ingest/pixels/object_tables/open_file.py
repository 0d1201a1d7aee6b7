"""What all object tables share: a file that is open as long as they are."""

from __future__ import annotations

from typing import Any


class OpenFile:
    """An object table whose file is closed at once where it turns out to be none (see `stamps.ObjectTable`)."""

    def __init__(self, path: str, file: Any) -> None:
        self.path = path
        self._file = file
        try:
            self._look()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _look(self) -> None:
        """Find out what is in it; raises SwimmyError where it is no such table, or was not written to its end."""
        raise NotImplementedError
