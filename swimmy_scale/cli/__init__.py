"""The command line: parse, call one function, print.

Every module here but `program` adds its commands to `program.main` when it is imported.
"""

from swimmy_scale.cli import runs, setting_up, stages
from swimmy_scale.cli.program import main

__all__ = ["main", "runs", "setting_up", "stages"]
