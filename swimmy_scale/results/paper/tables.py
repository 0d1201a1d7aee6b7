"""The paper's tables 1 to 4 and 6, and the objects of appendix 2: as columns, and as printed rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt

from swimmy_scale.errors import SwimmyError
from swimmy_scale.method import candidates, classes
from swimmy_scale.method.candidates import ANY_BAND, WHOLE_SAMPLE, band_label, selection_counts
from swimmy_scale.method.survey import BoolArray, DoubleArray, FloatArray, IntArray
from swimmy_scale.results.paper.run_data import RunData
from swimmy_scale.results.paper.saving import by_band

Columns = dict[str, npt.NDArray[Any]]
Printed = tuple[list[str], list[list[str]]]
"""Heads of the columns, and rows of cells."""

N_PRINTED = 5
"""Rows that the paper prints of a list; the files hold all."""
EXTENSION_LEVEL = "3.5sigma"
MILLIQUAS_ROWS = {"quasar": "quasar", "type1_agn": "Type-I AGN", "type2_agn": "Type-II AGN", "other": "Others"}
_CLASSES = ("quasar", "xelg")


def table_1(run: RunData) -> tuple[Columns, Printed]:
    """What the sample consists of, by its counterparts."""
    held = {name: run.counterpart(name) for name in ("is_mpa_jhu", "is_xelg", "is_quasar", "is_agn_candidate")}
    undecided = held["is_mpa_jhu"] & (run.counterpart("sample_class") == "")
    rows = classes.table_1(classes.Classes(**held, is_undecided=undecided), run.in_sample)
    columns: Columns = {
        "data": np.array([label for label, _ in rows]),
        "n_objects": np.array([number for _, number in rows], np.int64),
    }
    return columns, (["data", "N"], [[label, f"{number:,}"] for label, number in rows])


# ---------------------------------------------------------------- table 2


def table_2(run: RunData) -> tuple[Columns, Printed]:
    """Selected galaxies by band, of the sample and of the known classes."""
    columns = selection_table(run.selected, run.survey.selecting_bands, dict(known_classes(run)), run.in_sample)
    return columns, printed_selection_table(columns)


def known_classes(run: RunData) -> Mapping[str, Any]:
    """Members of the classes that table 2 counts, by name; with counterparts an object may be in several."""
    names = list(_CLASSES)
    if not run.has_counterparts:
        names += sorted({str(name) for name in np.unique(run.sample_class)} - {"", *_CLASSES})
    return {name: run.members(name) for name in names}


def selection_table(
    candidate: BoolArray, bands: Sequence[str], groups: Mapping[str, BoolArray], in_sample: BoolArray
) -> Columns:
    """Table 2: how many of the sample and of each known class are selected, in each band and combination.

    Parameters
    ----------
    candidate : ndarray of bool, shape (n, band)
        Flags of one level in the selecting bands.
    groups : mapping of str to ndarray of bool, shape (n,)
        Members of the known classes; an object may be in several.

    Returns
    -------
    dict of str to ndarray, shape (row,)
        ``band`` ("g", ..., "g&r&i", "any"), and for the sample and each group ``n_selected_GROUP``,
        ``n_objects_GROUP``, and ``percent_GROUP``, which is NaN for an empty group.
    """
    counts = selection_counts(candidate, bands, groups, in_sample)
    columns: Columns = {"band": np.array(list(counts))}
    for group in (WHOLE_SAMPLE, *groups):
        # NumPy makes NaN of None, the percentage of an empty group.
        for name in ("n_selected", "n_objects", "percent"):
            dtype = np.float64 if name == "percent" else np.int64
            columns[f"{name}_{group}"] = np.array([row[group][name] for row in counts.values()], dtype)
    return columns


def printed_selection_table(columns: Columns) -> Printed:
    """Table 2 as the paper prints it: number and percentage for each class, with the sizes in the head."""
    groups = [name.removeprefix("n_objects_") for name in columns if name.startswith("n_objects_")]
    head = ["band", *(f"{group}\n(N={columns[f'n_objects_{group}'][0]:,})" for group in groups)]
    rows = []
    for index, band in enumerate(columns["band"].tolist()):
        cells = [
            _counted(int(columns[f"n_selected_{group}"][index]), float(columns[f"percent_{group}"][index]))
            for group in groups
        ]
        rows.append(["Total" if band == ANY_BAND else band.replace("&", " & "), *cells])
    return head, rows


def _counted(number: int, percent: float) -> str:
    return f"{number:,} (-)" if np.isnan(percent) else f"{number:,} ({percent:.{3 if percent < 10 else 2}f}%)"


# ---------------------------------------------------------------- tables 3 and 6, appendix 2


def table_3(run: RunData) -> tuple[Columns, Printed]:
    """Candidates at the lowest level."""
    return _candidates(run, run.selected)


def table_6(run: RunData) -> tuple[Columns, Printed]:
    """Candidates of the extension's level."""
    return _candidates(run, run.candidate(EXTENSION_LEVEL))


def high_but_negative(run: RunData) -> tuple[Columns, Printed]:
    """Objects above a threshold of the lowest level, but fainter in that band than expected."""
    return _candidates(run, negative_flags(run), run.residual)


def negative_flags(run: RunData) -> BoolArray:
    """Objects that `high_but_negative` lists: bool (object, selecting band)."""
    flags: BoolArray = candidates.high_but_negative(run.score, run.residual, run.threshold[:1], run.in_sample)[:, 0]
    return flags


def _candidates(run: RunData, flags: BoolArray, residual: FloatArray | None = None) -> tuple[Columns, Printed]:
    ra, dec = run.selection.read("ra"), run.selection.read("dec")
    columns = candidate_table(run.object_id, ra, dec, run.score, flags, run.survey.selecting_bands, residual)
    return columns, printed_candidate_table(columns, N_PRINTED)


def candidate_table(
    object_id: IntArray,
    ra: DoubleArray,
    dec: DoubleArray,
    score: FloatArray,
    flags: BoolArray,
    bands: Sequence[str],
    residual: FloatArray | None = None,
) -> Columns:
    """Tables 3 and 6: identifier, position, bands and scores of every object that is flagged in a band.

    Parameters
    ----------
    object_id, ra, dec : ndarray, shape (n,)
        Positions in degrees.
    score, residual : ndarray of float32, shape (n, band)
    flags : ndarray of bool, shape (n, band)
        Candidates of one level, or those of `negative_flags`.

    Returns
    -------
    dict of str to ndarray, shape (m,), sorted by object_id
        ``object_id``, ``ra``, ``dec``, ``bands`` ("g&r"), ``score_g`` ..., and ``residual_g`` ... where given.
    """
    expected = (object_id.size, len(bands))
    for name, values in (("scores", score), ("flags", flags), ("residuals", residual)):
        if values is not None and values.shape != expected:
            raise SwimmyError(f"table of candidates: {name} have shape {values.shape}, need {expected}.")
    rows = np.flatnonzero(flags.any(axis=1))
    rows = rows[np.argsort(object_id[rows], kind="stable")]
    columns: Columns = {"object_id": object_id[rows], "ra": ra[rows], "dec": dec[rows]}
    columns |= {"bands": band_label(flags[rows], bands)} | by_band(bands, score=score[rows])
    return columns if residual is None else columns | by_band(bands, residual=residual[rows])


def printed_candidate_table(columns: Columns, n_rows: int | None = None) -> Printed:
    """Tables 3 and 6 as the paper prints them: the first rows, with five decimals."""
    bands = [name.removeprefix("score_") for name in columns if name.startswith("score_")]
    n_objects = columns["object_id"].size
    shown = n_objects if n_rows is None else min(n_rows, n_objects)
    rows = []
    for index in range(shown):
        scores = ", ".join(f"{columns[f'score_{band}'][index]:.5f}" for band in bands)
        position = (f"{columns['ra'][index]:.5f}", f"{columns['dec'][index]:.5f}")
        rows.append([str(columns["object_id"][index]), *position, str(columns["bands"][index]), f"({scores})"])
    if shown < n_objects:
        rows.append(["..."] * 5)
    return ["ID", "R.A. [deg]", "Dec. [deg]", "Band", ", ".join(f"S({band})" for band in bands)], rows


# ---------------------------------------------------------------- table 4


def table_4(run: RunData) -> tuple[Columns, Printed]:
    """Counterparts in Milliquas."""
    kinds, bands = run.counterpart("milliquas_type"), run.survey.selecting_bands
    columns = milliquas_table(kinds, run.members("quasar"), run.selected, bands, run.in_sample)
    return columns, printed_milliquas_table(columns)


def milliquas_table(
    milliquas_type: npt.NDArray[np.str_],
    is_quasar: BoolArray,
    candidate: BoolArray,
    bands: Sequence[str],
    in_sample: BoolArray,
) -> Columns:
    """Table 4: counterparts in the Milliquas catalogue, by type; the DR16Q quasars are left out.

    Parameters
    ----------
    milliquas_type : ndarray of str, shape (n,)
        ``quasar``, ``type1_agn``, ``type2_agn``, ``other``, or empty for no counterpart.
    is_quasar : ndarray of bool, shape (n,)
        In DR16Q.
    candidate : ndarray of bool, shape (n, band)
        Flags of one level.

    Returns
    -------
    dict of str to ndarray, shape (6,)
        ``type`` (the four, "total" and "sample", which is all but DR16Q's quasars), ``n_objects``,
        ``n_selected_g`` ... for each band, ``n_selected``, and ``percent``, the share of selected objects, NaN where
        there are no objects.
    """
    counted = in_sample & ~is_quasar
    members = {kind: counted & (milliquas_type == kind) for kind in MILLIQUAS_ROWS}
    members |= {"total": counted & (milliquas_type != ""), WHOLE_SAMPLE: counted}

    def number(flag: BoolArray) -> IntArray:
        return np.array([np.count_nonzero(member & flag) for member in members.values()], np.int64)

    columns: Columns = {"type": np.array(list(members)), "n_objects": number(counted)}
    columns |= {f"n_selected_{band}": number(flag) for band, flag in zip(bands, candidate.T, strict=True)}
    columns["n_selected"] = number(candidate.any(axis=1))
    with np.errstate(invalid="ignore"):
        columns["percent"] = 100.0 * columns["n_selected"] / columns["n_objects"]
    return columns


def printed_milliquas_table(columns: Columns) -> Printed:
    """Table 4 as the paper prints it; the numbers of the whole sample stand in the head."""
    bands = [name for name in columns if name.startswith("n_selected_")]
    *rows, last = range(columns["type"].size)
    head = ["", f"sample\n(N={columns['n_objects'][last]:,})"]
    head += [f"{name.removeprefix('n_selected_')}\n({columns[name][last]:,})" for name in bands]
    head.append(f"total\n({columns['n_selected'][last]:,})")
    printed = []
    for row in rows:
        name = MILLIQUAS_ROWS.get(str(columns["type"][row]), str(columns["type"][row]))
        numbers = [columns[column][row] for column in ("n_objects", *bands, "n_selected")]
        printed.append([name, *(f"{int(number):,}" for number in numbers)])
    return head, printed


# ---------------------------------------------------------------- by name


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
