"""The sample, its thresholds and its candidates, from scores that a user holds (sections 2 and 3.2)."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import xarray
from astropy.table import Table

from swimmy_scale.errors import SwimmyError
from swimmy_scale.method import thresholds as exact
from swimmy_scale.method.candidates import LEVELS, candidate_columns
from swimmy_scale.method.candidates import candidates as flags_of
from swimmy_scale.method.sample import SampleColumns, SampleCuts, apply_cuts
from swimmy_scale.method.survey import HSC, BoolArray, DoubleArray, Survey
from swimmy_scale.method.thresholds import thresholds_to_json
from swimmy_scale.storage import candidate_files
from swimmy_scale.storage.cutouts import CUT_VARIABLES, depth_limits
from swimmy_scale.storage.open_run import Selections


def survey_of(dataset: xarray.Dataset) -> Survey:
    """The survey of what `open_run` and `open_cutouts` return; HSC of any other Dataset."""
    if "survey" not in dataset.attrs:
        return HSC
    return Selections(dataset).survey


def sample(dataset: xarray.Dataset, cuts: SampleCuts | None = None) -> xarray.DataArray:
    """Which objects set the thresholds and can be candidates (sections 2.1 and 2.2).

    Parameters
    ----------
    dataset : xarray.Dataset
        As `open_cutouts` and `open_run` return it. If it has a ``score``, objects without one are not in the sample.
    cuts : SampleCuts, optional
        By default the paper's.

    Returns
    -------
    xarray.DataArray of bool, (object_id,)
        In memory: the columns that the cuts look at are read.

    Raises
    ------
    SwimmyError
        When the cuts need what the catalogue does not have.
    """
    survey, cuts = survey_of(dataset), cuts or SampleCuts()
    usable = np.asarray(dataset["quarantine_code"]) == 0
    if "score" in dataset:
        score = np.asarray(dataset["score"])
        usable &= np.isfinite(score).reshape(len(score), -1).all(axis=1)
    columns = SampleColumns(usable=usable, **{name: np.asarray(dataset[name]) for name in CUT_VARIABLES})
    limits = depth_limits(cuts, survey.n_bands, [columns.depth_mag])
    in_sample, _ = apply_cuts(columns, cuts, survey, json.loads(dataset.attrs["available_columns"]), limits)
    return (
        dataset["quarantine_code"]
        .copy(data=in_sample)
        .rename("in_sample")
        .assign_attrs(long_name="scored, and passed the sample cuts")
    )


def thresholds(score: Any, levels: Mapping[str, float] | Iterable[float] = LEVELS) -> DoubleArray:
    """Score above which the top fraction of the sample lies, for each level and band (section 3.2).

    Parameters
    ----------
    score : array or DataArray of float, shape (n, band)
        Of the objects *in the sample*. A lazy one is computed.
    levels : mapping of str to float, or iterable of float
        Top fraction of each level; by default the paper's, `LEVELS`.

    Returns
    -------
    ndarray of float64, shape (level, band)
        Exact quantiles of the whole sample.

    Raises
    ------
    SwimmyError
        When the sample is empty or holds a NaN, or a fraction is out of range.
    """
    fractions = levels.values() if isinstance(levels, Mapping) else levels
    return exact.thresholds(np.asarray(score), fractions)


def candidates(
    objects: Mapping[Any, Any] | xarray.Dataset,
    threshold: DoubleArray,
    levels: Iterable[str] = LEVELS,
    *,
    survey: Survey | None = None,
    keep_columns: Sequence[str] = (),
) -> Table:
    """The candidate catalogue (tables 3 and 6), as a run writes it.

    A candidate is in the sample, its score exceeds the threshold and its residual is positive, in a selecting band.

    Parameters
    ----------
    objects : Dataset, Table, or mapping of str to array
        ``object_id`` (integers, n), ``ra`` and ``dec`` (degrees, n), ``score`` and ``residual`` (n, band), and
        ``in_sample`` (n), by default all that have a score.
    threshold : ndarray of float64, shape (level, band)
        As `thresholds` gives them.
    levels : iterable of str
        Their names, from low to high significance.
    survey : Survey, optional
        By default that of the Dataset, else HSC.
    keep_columns : sequence of str
        More columns of ``objects`` to carry over.

    Returns
    -------
    astropy.table.Table
        One row for each candidate, sorted by object_id, with units, descriptions and, in ``meta``, what was done;
        `write_candidates` writes it. A plain ``table.write`` does as well, without UCDs.

    Raises
    ------
    SwimmyError
        When scores are those of several models, an object_id occurs twice among the candidates, or shapes do not fit.
    """
    attrs = objects.attrs if isinstance(objects, xarray.Dataset) else {}
    survey = survey or (survey_of(objects) if isinstance(objects, xarray.Dataset) else HSC)
    names, bands = list(levels), survey.bands
    object_id, ra, dec, score, residual = (
        np.asarray(objects[name]) for name in ("object_id", "ra", "dec", "score", "residual")
    )
    if score.ndim != 2:
        raise SwimmyError(
            f"scores have shape {score.shape}: of several models. Combine them first, for example by their mean."
        )
    in_sample = _in_sample(objects, score)
    selecting = survey.band_index(survey.selecting_bands)
    flags = flags_of(score, residual, np.asarray(threshold), in_sample, selecting)
    kept = {name: np.asarray(objects[name]) for name in keep_columns}
    columns = candidate_columns(
        *(object_id.astype(np.int64), ra.astype(np.float64), dec.astype(np.float64), score, residual, flags),
        names, bands, survey.selecting_bands, kept,
    )  # fmt: skip
    meta = {
        "survey": survey.name,
        "simulated": bool(attrs.get("simulated", False)),
        **({"score": json.loads(attrs["score"])} if "score" in attrs else {}),
        "thresholds": thresholds_to_json(np.asarray(threshold), list(bands), tuple(names)),
    }
    return candidate_files.candidate_table(columns, meta)


def _in_sample(objects: Mapping[Any, Any] | xarray.Dataset, score: Any) -> BoolArray:
    scored = np.isfinite(score).all(axis=1)
    try:
        given = np.asarray(objects["in_sample"], np.bool_)
    except KeyError:
        return np.asarray(scored)
    return np.asarray(given & scored)


def write_candidates(
    table: Table, directory: Path | str, formats: Iterable[str] = candidate_files.FORMATS
) -> dict[str, Path]:
    """Write what `candidates` returned as ``candidates.fits``, ``.ecsv``, ``.vot`` and ``.parquet``, as a run does.

    Parameters
    ----------
    table : astropy.table.Table
        It may have further columns by now, of numbers, flags or text.
    directory : Path or str
        Made if it is missing.

    Returns
    -------
    dict of str to Path
        The files by format. Equal candidates give equal bytes.
    """
    columns = {name: np.asarray(table[name]) for name in table.colnames}
    folder = Path(directory)
    return candidate_files.write_candidates(columns, folder, meta=table.meta, formats=formats)
