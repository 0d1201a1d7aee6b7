"""Finds unusual galaxies in a whole imaging survey."""

from __future__ import annotations

# As typing has it, which takes longer to import than all else that is done before Ctrl-C is handled.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from swimmy_scale.errors import SwimmyError as SwimmyError
    from swimmy_scale.library.runs import plan as plan
    from swimmy_scale.library.runs import run as run
    from swimmy_scale.library.selection import candidates as candidates
    from swimmy_scale.library.selection import sample as sample
    from swimmy_scale.library.selection import thresholds as thresholds
    from swimmy_scale.library.selection import write_candidates as write_candidates
    from swimmy_scale.library.weights import Scored as Scored
    from swimmy_scale.library.weights import Weights as Weights
    from swimmy_scale.library.weights import load_model as load_model
    from swimmy_scale.library.weights import preprocess as preprocess
    from swimmy_scale.library.weights import train as train
    from swimmy_scale.method.sample import SampleCuts as SampleCuts
    from swimmy_scale.method.survey import HSC as HSC
    from swimmy_scale.method.survey import Survey as Survey
    from swimmy_scale.storage.open_run import open_cutouts as open_cutouts
    from swimmy_scale.storage.open_run import open_run as open_run

__version__ = "0.1.0"

_HOMES = {
    "SwimmyError": "errors",
    **dict.fromkeys(("plan", "run"), "library.runs"),
    **dict.fromkeys(("candidates", "sample", "thresholds", "write_candidates"), "library.selection"),
    **dict.fromkeys(("Scored", "Weights", "load_model", "preprocess", "train"), "library.weights"),
    "SampleCuts": "method.sample",
    **dict.fromkeys(("HSC", "Survey"), "method.survey"),
    **dict.fromkeys(("open_cutouts", "open_run"), "storage.open_run"),
}
"""The module that each public name is of: all other names of the package may change."""

__all__ = ["__version__", *sorted(_HOMES)]


def __dir__() -> list[str]:
    return __all__


def __getattr__(name: str) -> Any:
    # Loaded when it is asked for: workers and the command line import this package without xarray.
    if name in _HOMES:
        import importlib

        return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
