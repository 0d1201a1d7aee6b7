"""A synthetic survey with known truth, written as the HSC-SSP archive would deliver it. Nothing in it was observed.

`SimulationPlan` says what is to be made; `simulate` makes it. For many processes: `write_part` for every index of
`plan_parts`, in any order, then `finish` with the receipts.
"""

from __future__ import annotations

from swimmy_scale.simulate.archive import write_part
from swimmy_scale.simulate.paper import paper_plan
from swimmy_scale.simulate.plan import KINDS, PartReceipt, SimulationPlan, plan_parts
from swimmy_scale.simulate.tables import SimulationSummary, finish, simulate

__all__ = [
    "KINDS",
    "PartReceipt",
    "SimulationPlan",
    "SimulationSummary",
    "finish",
    "paper_plan",
    "plan_parts",
    "simulate",
    "write_part",
]
