"""The command line: parse, call one function, print.

The modules `additions`, `stages`, `runs`, `results`, `learning`, `looking`, `request`, `selections` and `setup` add
their commands to `program.main` when they are imported.
"""

from swimmy_scale.cli import additions, learning, looking, request, results, runs, selections, setup, stages
from swimmy_scale.cli.program import main

__all__ = ["additions", "learning", "looking", "main", "request", "results", "runs", "selections", "setup", "stages"]
