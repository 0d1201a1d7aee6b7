"""The paper's tables of a run: 1, 2, 3, 4, 6, and the objects of appendix 2."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import numpy as np

from swimmy_scale import classes
from swimmy_scale import tables as columns_of
from swimmy_scale.characterise.run_data import RunData
from swimmy_scale.tables import Columns, Printed

N_PRINTED = 5
"""Rows that the paper prints of a list; the files hold all."""
EXTENSION_LEVEL = "3.5sigma"
_CLASSES = ("quasar", "xelg")


def known_classes(run: RunData) -> Mapping[str, Any]:
    """Members of the classes that table 2 counts, by name; with counterparts an object may be in several."""
    names = list(_CLASSES)
    if not run.has_counterparts:
        names += sorted({str(name) for name in np.unique(run.sample_class)} - {"", *_CLASSES})
    return {name: run.members(name) for name in names}


def table_1(run: RunData) -> tuple[Columns, Printed]:
    """What the sample consists of, by its counterparts."""
    held = (run.counterpart(f"is_{name}") for name in ("mpa_jhu", "xelg", "quasar", "agn_candidate"))
    rows = classes.table_1(classes.Classes(*held), run.in_sample)
    columns: Columns = {
        "data": np.array([label for label, _ in rows]),
        "n_objects": np.array([number for _, number in rows], np.int64),
    }
    return columns, (["data", "N"], [[label, f"{number:,}"] for label, number in rows])


def table_2(run: RunData) -> tuple[Columns, Printed]:
    """Selected galaxies by band, of the sample and of the known classes."""
    columns = columns_of.selection_table(
        run.selected, run.survey.selecting_bands, dict(known_classes(run)), run.in_sample
    )
    return columns, columns_of.printed_selection_table(columns)


def _candidates(run: RunData, level: str) -> tuple[Columns, Printed]:
    columns = columns_of.candidate_table(
        run.object_id,
        run.scores.read("ra"),
        run.scores.read("dec"),
        run.score,
        run.candidate(level),
        run.survey.selecting_bands,
    )
    return columns, columns_of.printed_candidate_table(columns, N_PRINTED)


def table_3(run: RunData) -> tuple[Columns, Printed]:
    """Candidates at the lowest level."""
    return _candidates(run, run.levels[0])


def table_4(run: RunData) -> tuple[Columns, Printed]:
    """Counterparts in Milliquas."""
    columns = columns_of.milliquas_table(
        run.counterpart("milliquas_type"),
        run.members("quasar"),
        run.selected,
        run.survey.selecting_bands,
        run.in_sample,
    )
    return columns, columns_of.printed_milliquas_table(columns)


def table_6(run: RunData) -> tuple[Columns, Printed]:
    """Candidates of the extension's level."""
    return _candidates(run, EXTENSION_LEVEL)


def high_but_negative(run: RunData) -> tuple[Columns, Printed]:
    """Objects above a threshold of the lowest level, but fainter in that band than expected."""
    columns = columns_of.candidate_table(
        run.object_id,
        run.scores.read("ra"),
        run.scores.read("dec"),
        run.score,
        columns_of.negative_flags(run.score, run.residual, run.threshold[0], run.in_sample),
        run.survey.selecting_bands,
        run.residual,
    )
    return columns, columns_of.printed_candidate_table(columns, N_PRINTED)


TABLES = MappingProxyType(
    {
        "table-1": table_1,
        "table-2": table_2,
        "table-3": table_3,
        "table-4": table_4,
        "table-6": table_6,
        "high-but-negative": high_but_negative,
    }
)
TITLES = MappingProxyType(
    {
        "table-1": "Table 1: the sample",
        "table-2": "Table 2: galaxies selected as anomalies",
        "table-3": "Table 3: anomaly candidates",
        "table-4": "Table 4: counterparts in the Milliquas catalogue, without those in DR16Q",
        "table-6": "Table 6: candidates at the level of the extension, 3.5 sigma",
        "high-but-negative": "Appendix 2: high score but negative residual",
    }
)
