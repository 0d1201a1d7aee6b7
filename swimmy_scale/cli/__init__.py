"""The command line: parse, call one function, print.

The modules `stages`, `runs`, `results` and `setup` add their commands to `program.main` when they are imported.
"""

from swimmy_scale.cli import results, runs, setup, stages
from swimmy_scale.cli.program import main

__all__ = ["main", "results", "runs", "setup", "stages"]
