"""The command line: parse, call one function, print.

Every module here but `program` adds its commands to `program.main` when it is imported.
"""

from swimmy_scale.cli import campaign, characterise, fidelity, report, runs, samples, setting_up, stages
from swimmy_scale.cli.program import main

__all__ = ["campaign", "characterise", "fidelity", "main", "report", "runs", "samples", "setting_up", "stages"]
