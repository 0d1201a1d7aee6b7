"""The command line: parse, call one function, print.

The modules `additions`, `stages`, `runs`, `results`, `looking`, `selections` and `setup` add their commands to
`program.main` when they are imported.
"""

from swimmy_scale.cli import additions, looking, results, runs, selections, setup, stages
from swimmy_scale.cli.program import main

__all__ = ["additions", "looking", "main", "results", "runs", "selections", "setup", "stages"]
