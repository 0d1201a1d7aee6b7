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
from swimmy_scale.library.given import filled, masked, named_survey, numbers
from swimmy_scale.method import thresholds as exact
from swimmy_scale.method.candidates import LEVELS, candidate_columns
from swimmy_scale.method.candidates import candidates as flags_of
from swimmy_scale.method.sample import SampleColumns, SampleCuts, apply_cuts
from swimmy_scale.method.survey import HSC, BoolArray, DoubleArray, IntArray, Survey
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
        When the cuts need what the catalogue does not have, or the Dataset is another one.
    """
    needed = ("quarantine_code", *CUT_VARIABLES)
    if not isinstance(dataset, xarray.Dataset) or not {*needed} <= {*dataset.variables}:
        raise SwimmyError(
            f"the sample is cut by the variables {', '.join(needed)} of a Dataset, which is not what was given. Give "
            "one of open_cutouts or open_run, or make in_sample by cuts of your own."
        )
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
        Top fraction of each level; by default the paper's, ``{"2sigma": 0.05, "3sigma": 0.003, "3.5sigma": 0.000465}``.

    Returns
    -------
    ndarray of float64, shape (level, band)
        Exact quantiles of the whole sample.

    Raises
    ------
    SwimmyError
        When the sample is empty or holds a NaN, a fraction is out of range, or something is no number.
    """
    fractions = list(levels.values() if isinstance(levels, Mapping) else np.atleast_1d(np.asarray(levels)))
    tops = numbers(fractions, "top fractions of the levels") if fractions else np.zeros(0)
    return exact.thresholds(numbers(score, "score"), tops.tolist())


def candidates(
    objects: Mapping[Any, Any] | xarray.Dataset,
    threshold: DoubleArray,
    levels: Iterable[str] = LEVELS,
    *,
    survey: Survey | str | None = None,
    keep_columns: Sequence[str] = (),
) -> Table:
    """The candidate catalogue (tables 3 and 6), as a run writes it.

    A candidate is in the sample, its score exceeds the threshold and its residual is positive, in a selecting band.

    Parameters
    ----------
    objects : Dataset, Table, or mapping of str to array
        ``object_id`` (integers of 64 signed bits, n), ``ra`` and ``dec`` (degrees, n), ``score`` and ``residual``
        (n, band), and ``in_sample`` (bool, n), by default all that have a score. An object whose score or residual is
        NaN or masked is no candidate.
    threshold : ndarray of float64, shape (level, band)
        As `thresholds` gives them.
    levels : iterable of str
        Their names, from low to high significance.
    survey : Survey or str, optional
        Itself or its name; by default that of the Dataset, else HSC.
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
        When a column is missing, of another type or shape, scores are those of several models, or an object_id occurs
        twice among the candidates.
    """
    attrs = objects.attrs if isinstance(objects, xarray.Dataset) else {}
    survey = named_survey(survey or (survey_of(objects) if isinstance(objects, xarray.Dataset) else HSC))
    names, bands = [levels] if isinstance(levels, str) else list(levels), survey.bands
    score, residual = (numbers(_column(objects, name), name) for name in ("score", "residual"))
    if score.ndim != 2:
        raise SwimmyError(
            f"scores have shape {score.shape}, need (n, band). Combine those of several models first, for example by "
            "their mean."
        )
    limits = numbers(threshold, "threshold", np.float64)
    if np.isnan(limits).any():
        raise SwimmyError("threshold holds a NaN, above which nothing lies. Leave it out, with its level.")
    in_sample = _in_sample(objects, score)
    selecting = survey.band_index(survey.selecting_bands)
    flags = flags_of(score, residual, limits, in_sample, selecting)
    object_id = _ids(objects)
    ra, dec = (numbers(_column(objects, name), name, np.float64, "deg") for name in ("ra", "dec"))
    for name, values in (("object_id", object_id), ("ra", ra), ("dec", dec)):
        if values.shape != score.shape[:1]:
            raise SwimmyError(f"{name} has shape {values.shape}, {len(score):,} scores need {score.shape[:1]}.")
    kept = {name: filled(_column(objects, name), name) for name in keep_columns}
    columns = candidate_columns(
        *(object_id, ra, dec, score, residual, flags), names, bands, survey.selecting_bands, kept
    )
    meta = {
        "survey": survey.name,
        "simulated": bool(attrs.get("simulated", False)),
        **({"score": json.loads(attrs["score"])} if "score" in attrs else {}),
        "thresholds": thresholds_to_json(limits, list(bands), tuple(names)),
    }
    return candidate_files.candidate_table(columns, meta)


def _column(objects: Mapping[Any, Any] | xarray.Dataset, name: str) -> Any:
    try:
        return objects[name]
    except (KeyError, IndexError, TypeError):
        there = f"; there are {', '.join(map(str, objects.keys()))}" if hasattr(objects, "keys") else ""
        raise SwimmyError(f"the objects have no {name}{there}. Give a Dataset, Table or mapping that has it.") from None


def _ids(objects: Mapping[Any, Any] | xarray.Dataset) -> IntArray:
    """int64 (n,)"""
    given = _column(objects, "object_id")
    found = np.asarray(given)
    if found.dtype.kind not in "iu" or masked(given) is not None or (found > np.iinfo(np.int64).max).any():
        raise SwimmyError(
            f"object_id: {found.dtype} is not what it needs: whole numbers of 64 signed bits, none of them masked. "
            "Read them as such: floats lose digits."
        )
    return found.astype(np.int64)


def _in_sample(objects: Mapping[Any, Any] | xarray.Dataset, score: Any) -> BoolArray:
    scored = np.isfinite(score).all(axis=1)
    try:
        given = objects["in_sample"]
    except KeyError:
        return np.asarray(scored)
    chosen, mask = np.asarray(given), masked(given)
    if chosen.dtype != np.bool_ or chosen.shape != scored.shape:
        raise SwimmyError(
            f"in_sample is {chosen.dtype} of shape {chosen.shape}, need bool of shape {scored.shape}. Make it by "
            "sample, or by cuts of your own."
        )
    return np.asarray(chosen & scored if mask is None else chosen & scored & ~mask)


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
        The files by format. Equal candidates give equal bytes. Floats that are masked become NaN, texts empty.

    Raises
    ------
    SwimmyError
        When a column is masked or has a shape or type that the files do not hold, one of `candidates` is missing, there
        is no such format, or the directory is a file.
    """
    columns = {name: filled(table[name], name) for name in table.colnames}
    folder = Path(directory)
    if folder.exists() and not folder.is_dir():
        raise SwimmyError(f"{folder}: a file, and candidates are written to a folder. Give another one.")
    return candidate_files.write_candidates(columns, folder, meta=table.meta, formats=formats)
