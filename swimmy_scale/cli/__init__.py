"""The command line: parse, call one function, print.

Every module here that has commands adds them to `program.main` when it is imported.
"""

from swimmy_scale.cli import results, runs, setup, stages
from swimmy_scale.cli.program import main

__all__ = ["main", "results", "runs", "setup", "stages"]
