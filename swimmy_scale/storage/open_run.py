"""A run as one xarray Dataset: pixels, catalogue, scores and selection, joined on the object."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import xarray
import zarr

from swimmy_scale.errors import SwimmyError, typed
from swimmy_scale.method.descriptor import features, nearest, standardise
from swimmy_scale.method.survey import AnyArray, BoolArray, FloatArray, IntArray, Survey
from swimmy_scale.storage.cutouts import Cutouts, survey_from_attrs
from swimmy_scale.storage.id_files import parse_id
from swimmy_scale.storage.run_directory import RunDirectory, SelectionFolder
from swimmy_scale.storage.scores import Scores
from swimmy_scale.storage.selection import SelectedRun, Selection

# long_name of the coordinates, which have none in the stores.
LABEL_NAMES = {"band": "photometric band", "level": "selection level", "model": "weight set"}
# Attributes that are about one of the stores, not about the run.
OF_ONE_STORE = ("title", "units", "format_version", "layout_sha256", "partition_objects", "chunk_objects", "scores")
READ_AGAIN = f"Run `{typed('run')}` again: it finishes what is missing"


def open_run(run: Path | str, cutouts: Path | str | None = None) -> xarray.Dataset:
    """Open a run as one Dataset; pixels and scores are read on demand.

    Parameters
    ----------
    run : Path or str
        A run directory, with its own selection; or the folder of another selection from its scores.
    cutouts : Path or str, optional
        Where ``cutouts.zarr`` is now, if it was moved; by default the run's own, or the one that its ``job.yaml``
        names.

    Returns
    -------
    xarray.Dataset
        Dask-backed, in the chunks of the stores. Its dimensions are ``object_id`` (int64), ``band``, and ``level`` and
        ``model`` if there are any: ``ds.sel(object_id=..., band="g")``. It has the variables of ``scores.zarr``
        (``score``, ``residual``), of ``selection.zarr`` if a selection was made (``in_sample``, ``threshold``,
        ``candidate``, with several models ``combined_score`` and ``combined_residual``), and the other ones of
        ``cutouts.zarr``: ``image`` (object_id, band, y, x) in counts, ``fwhm_arcsec``, ``mag`` and so on. NaN as in the
        stores: pixels and scores of quarantined objects, unknown magnitudes. ``ds.swimmy`` has `Selections`.

        Each id is there once: of rows that share an id, which all but one are in quarantine, the others are left out,
        and the attribute ``n_left_out`` says how many. Attributes follow the CF conventions, and hold only what every
        file format can: text and numbers.

    Raises
    ------
    SwimmyError
        When ``run`` is neither, a store is missing or of another format version, or the stores have other objects or
        bands. A chunk that is missing or damaged raises when it is read.
    """
    path = Path(run)
    if SelectionFolder(path).store.is_dir() and not RunDirectory(path).job_file.is_file():
        selected = SelectedRun.at(path)
        directory, folder = selected.run, selected.folder
    else:
        directory, folder = RunDirectory(path), SelectionFolder(path)
    if not directory.job_file.is_file():
        raise SwimmyError(f"{run}: no job.yaml in it, so this is not a run directory. Check the path.")
    if not directory.scores.is_dir():
        raise SwimmyError(f"{run}: no scores.zarr in it: its scoring has not begun. {READ_AGAIN}.")
    chosen = Path(cutouts) if cutouts else directory.cutouts(directory.load_job())
    if not chosen.is_dir():
        raise SwimmyError(
            f"{chosen}: the cutouts of {run} are not there. Give open_run their place as its argument cutouts."
        )
    return open_stores(directory.scores, chosen, folder.store if folder.store.is_dir() else None)


def open_cutouts(cutouts: Path | str) -> xarray.Dataset:
    """Open ``cutouts.zarr`` as a Dataset; pixels are read on demand.

    Returns
    -------
    xarray.Dataset
        As `open_run` returns it, without scores: ``image`` (object_id, band, y, x) in counts, ``fwhm_arcsec``
        (object_id, band), ``mag``, ``quarantine_code`` and so on, in the chunks of the store. Each id is there once.

    Raises
    ------
    SwimmyError
        When there is no such store, or it is of another format version.
    """
    pixels = Cutouts(Path(cutouts))
    object_id = pixels.read("object_id", 0, pixels.n_objects)
    code = pixels.read("quarantine_code", 0, pixels.n_objects)
    return _joined([pixels.path], object_id, code, {"title": "cutouts", "cutouts": str(cutouts)})


def open_stores(scores: Path, cutouts: Path, selection: Path | None = None) -> xarray.Dataset:
    """Join ``scores.zarr`` and ``cutouts.zarr`` of the same objects, and a ``selection.zarr`` (see `open_run`)."""
    scored, pixels = Scores(scores), Cutouts(cutouts)
    object_id = _shared_ids(scored, pixels)
    stores = [cutouts, scores]
    if selection is not None:
        Selection(selection, scores)  # checks that they belong together
        stores.append(selection)
    own = {"title": "cutouts and anomaly scores", "scores": str(scores), "cutouts": str(cutouts)}
    return _joined(stores, object_id, scored.read("quarantine_code"), own)


def _joined(
    stores: Sequence[Path], object_id: AnyArray, quarantine_code: AnyArray, own: Mapping[str, str]
) -> xarray.Dataset:
    """Stores of the same objects as one Dataset, each id once; ``own`` are attributes of the whole."""
    # A missing chunk is an error, not a fill value; arrays keep the setting that holds when they are opened.
    with zarr.config.set({"array.read_missing_chunks": False}):
        opened: list[xarray.Dataset] = [xarray.open_zarr(store) for store in stores]
    joined, others = opened[0], opened[1:]
    about = dict(joined.attrs)
    for store in others:
        # A later store counts: scores know more of what is in quarantine than their cutouts.
        joined = joined.drop_vars([name for name in joined.variables if name in store.variables])
        joined = joined.assign(store.variables)
        joined = joined.set_coords(list(store.indexes))
        about |= store.attrs
    meaning = joined["object_id"].attrs
    joined = joined.set_coords(["object_id", "ra", "dec"])
    joined = joined.assign_coords(object_id=("object", object_id, meaning)).swap_dims(object="object_id")
    kept = _first_of_each(object_id, quarantine_code)
    if kept.size < object_id.size:
        joined = joined.isel(object_id=kept)
    for name in joined.coords:
        if name in LABEL_NAMES:
            joined[name].attrs["long_name"] = LABEL_NAMES[name]
    joined.attrs = {
        "Conventions": "CF-1.11",
        "title": own["title"],
        **{key: _plain(value) for key, value in about.items() if key not in OF_ONE_STORE},
        "n_left_out": int(object_id.size - kept.size),
        **{key: value for key, value in own.items() if key != "title"},
    }
    return joined


def _plain(value: Any) -> Any:
    """An attribute as text or a number, which every file format can hold; others become JSON."""
    if isinstance(value, bool):
        return int(value)
    return value if isinstance(value, str | int | float) else json.dumps(value)


def _first_of_each(object_id: AnyArray, quarantine_code: AnyArray) -> IntArray:
    """The best row of each id, ascending: one that is not in quarantine, if there is one."""
    if np.unique(object_id).size == object_id.size:
        return np.arange(object_id.size)
    order = np.lexsort((quarantine_code != 0, object_id))
    first = np.r_[True, object_id[order][1:] != object_id[order][:-1]]
    return np.sort(order[first])


def _shared_ids(scored: Scores, pixels: Cutouts) -> AnyArray:
    """The object ids of both stores, int64 (n_objects,)."""
    advice = "These stores do not belong together: score these cutouts, or give the cutouts that were scored."
    if scored.n_objects != pixels.n_objects:
        raise SwimmyError(
            f"{scored.path} has {scored.n_objects:,} objects, {pixels.path} has {pixels.n_objects:,}. {advice}"
        )
    if scored.survey.bands != pixels.survey.bands:
        raise SwimmyError(
            f"{scored.path} has the bands {', '.join(scored.survey.bands)}, {pixels.path} has "
            f"{', '.join(pixels.survey.bands)}. {advice}"
        )
    here, there = scored.read("object_id"), pixels.read("object_id", 0, pixels.n_objects)
    differ = np.flatnonzero(here != there)
    if differ.size:
        row = differ[0]
        raise SwimmyError(
            f"{scored.path} has object_id {here[row]} in row {row}, {pixels.path} has {there[row]}; "
            f"{differ.size:,} of {here.size:,} differ. {advice}"
        )
    return here


@xarray.register_dataset_accessor("swimmy")  # type: ignore[no-untyped-call]
class Selections:
    """Selections of objects: ``ds.swimmy`` of what `open_run` returns. Only the columns that decide are read.

    What is returned is lazy, and in the order of the catalogue except for `objects`.
    """

    def __init__(self, dataset: xarray.Dataset) -> None:
        self._dataset = dataset

    @property
    def survey(self) -> Survey:
        """The survey: its bands, pixel scale, zero point and so on."""
        return survey_from_attrs({"survey": json.loads(self._dataset.attrs["survey"])}, Path("the dataset"))

    def _where(self, chosen: npt.NDArray[np.bool_]) -> xarray.Dataset:
        return self._dataset.isel(object_id=np.flatnonzero(chosen))

    def objects(self, object_ids: Sequence[int] | Sequence[str] | AnyArray) -> xarray.Dataset:
        """Objects by their ids, or by the names that they have in place of whole numbers, in the order given.

        Raises
        ------
        SwimmyError
            When ids are missing, with the first of them.
        """
        given = np.asarray(object_ids).reshape(-1)
        if given.dtype.kind in "OSU":
            given = np.array([parse_id(str(one), "objects") for one in given.tolist()], dtype=object)
        wanted = given.astype(np.int64)
        found = self._dataset.indexes["object_id"].get_indexer(wanted)
        missing = wanted[found < 0]
        if missing.size:
            raise SwimmyError(
                f"object_id {given[found < 0][0]} is not in {self._dataset.attrs.get('scores')} ({missing.size} of "
                f"{wanted.size} are not). Check the ids: they are whole numbers of the catalogue, never floats."
            )
        return self._dataset.isel(object_id=found)

    def like(self, object_id: int | str, n: int = 24) -> xarray.Dataset:
        """The objects of the sample that look most like one object, nearest first, exact.

        They are compared by ``descriptor``, or where the run has none by scores and residuals, each feature in units of
        its standard deviation in the sample; before a selection the sample is all that is scored. This reads 30 bytes
        an object, and holds 60 in memory.

        Returns
        -------
        xarray.Dataset
            At most ``n`` objects, without the one itself, with a variable ``distance`` (object_id): the root of the
            mean square difference of a feature.

        Raises
        ------
        SwimmyError
            When there is no such object, or it has no score.
        """
        one = self.objects(np.array([object_id], dtype=object))["object_id"].values
        place = int(self._dataset.indexes["object_id"].get_indexer(one)[0])
        values, in_sample = self._features()
        if not np.isfinite(values[place]).all():
            raise SwimmyError(
                f"object_id {object_id} has no score, so that nothing can be like it. Give another object."
            )
        in_sample[place] = True
        values[~in_sample] = np.nan
        rows, distance = nearest(values, place, n)
        return self._dataset.isel(object_id=rows).assign(distance=("object_id", distance))

    def _features(self) -> tuple[FloatArray, BoolArray]:
        """Features standardised by the sample, float32 (object_id, k), and who is in it, bool (object_id,)."""
        ds = self._dataset
        if "descriptor" in ds:
            values = ds["descriptor"].values.astype(np.float32)
        elif "combined_score" in ds:
            values = features(ds["combined_score"].values, ds["combined_residual"].values, None)
        else:
            names = ("score", "residual")
            score, residual = (ds[name].mean("model") if "model" in ds.dims else ds[name] for name in names)
            values = features(score.values, residual.values, None)
        finite = np.isfinite(values).all(axis=1)
        in_sample: BoolArray = finite & ds["in_sample"].values if "in_sample" in ds else finite
        standardise(values, in_sample)
        return values, in_sample

    def candidates(self, level: str, band: str | None = None) -> xarray.Dataset:
        """Objects that are candidates at a level such as ``3sigma``, in any band or in a given one.

        Raises
        ------
        SwimmyError
            When there is no selection yet; when there is no such level or band, with those that there are.
        """
        if "candidate" not in self._dataset:
            raise SwimmyError(f"{self._dataset.attrs.get('scores')}: no selection was made yet. {READ_AGAIN}.")
        candidate = self._dataset["candidate"]
        for name, value in (("level", level), ("band", band)):
            known = candidate[name].values.tolist()
            if value is not None and value not in known:
                raise SwimmyError(f"no {name} {value!r}. Choose among {', '.join(known)}.")
        flags = candidate.sel(level=level)
        return self._where((flags.any("band") if band is None else flags.sel(band=band)).values)

    def box(self, ra: tuple[float, float], dec: tuple[float, float]) -> xarray.Dataset:
        """Objects in a box on the sky, its edges included. Objects without a position are in no box.

        Parameters
        ----------
        ra : (float, float)
            From west to east, in degrees; (359, 1) goes across 0. Any multiple of 360 may be added.
        dec : (float, float)
            From south to north, in degrees.
        """
        if not np.isfinite([*ra, *dec]).all() or dec[0] > dec[1]:
            raise SwimmyError(f"box ra {ra}, dec {dec}: give finite degrees, the smaller declination first.")
        declination = self._dataset["dec"].values
        return self._where(_between(self._dataset["ra"].values, ra) & (declination >= dec[0]) & (declination <= dec[1]))


def _between(angle: AnyArray, edges: tuple[float, float]) -> npt.NDArray[np.bool_]:
    """Whether angles lie on the way east from the first edge to the second, all in degrees."""
    if abs(edges[1] - edges[0]) >= 360:
        return np.isfinite(angle)
    with np.errstate(invalid="ignore"):  # a position that is not finite is in no box
        # Twice, because the first turns a tiny negative angle into 360 itself.
        turned = np.mod(np.mod(angle, 360), 360)
    west, east = edges[0] % 360, edges[1] % 360
    inside: npt.NDArray[np.bool_] = (
        (turned >= west) & (turned <= east) if west <= east else (turned >= west) | (turned <= east)
    )
    return inside
