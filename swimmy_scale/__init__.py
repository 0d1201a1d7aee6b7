"""Finds unusual galaxies in a whole imaging survey."""

from __future__ import annotations

# As typing has it, which takes longer to import than all else that is done before Ctrl-C is handled.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from swimmy_scale.storage.open_run import open_run as open_run

__version__ = "0.1.0"
__all__ = ["__version__", "open_run"]


def __getattr__(name: str) -> Any:
    # Loaded when it is asked for: workers and the command line import this package without xarray.
    if name == "open_run":
        from swimmy_scale.storage.open_run import open_run

        return open_run
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
