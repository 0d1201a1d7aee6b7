"""A synthetic survey with known truth, written as the HSC-SSP archive would deliver it. Nothing in it was observed.

`SimulationPlan` (or `paper_plan`) says what to make, `simulate` makes it: in this process, or in others by its ``map``.
"""

from __future__ import annotations

from swimmy_scale.errors import check_installed

check_installed("simulating a survey", "simulate", "galsim")

# ruff: noqa: E402
from swimmy_scale.simulate.paper import paper_plan
from swimmy_scale.simulate.plan import KINDS, SimulationPlan
from swimmy_scale.simulate.public_forms import FORMS, TwinSummary, simulate_as
from swimmy_scale.simulate.simulation import SimulationSummary, simulate

__all__ = [
    "FORMS",
    "KINDS",
    "SimulationPlan",
    "SimulationSummary",
    "TwinSummary",
    "paper_plan",
    "simulate",
    "simulate_as",
]
