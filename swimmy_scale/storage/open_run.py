"""A run as one xarray Dataset: pixels, catalogue, scores and selection, joined on the object."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import xarray
import zarr

from swimmy_scale.errors import SwimmyError, typed
from swimmy_scale.method.survey import AnyArray
from swimmy_scale.storage.cutouts import Cutouts
from swimmy_scale.storage.run_directory import RunDirectory
from swimmy_scale.storage.scores import Scores

# long_name of the coordinates, which have none in the stores.
LABEL_NAMES = {"band": "photometric band", "level": "selection level", "model": "weight set"}
# Attributes that are about one of the stores, not about the run.
OF_ONE_STORE = ("title", "units", "format_version", "layout_sha256", "partition_objects", "chunk_objects")
READ_AGAIN = f"Run `{typed('run')}` again: it finishes what is missing"


def open_run(run: Path | str, cutouts: Path | str | None = None) -> xarray.Dataset:
    """Open a run directory as one Dataset; pixels and scores are read on demand.

    Parameters
    ----------
    cutouts : Path or str, optional
        Where ``cutouts.zarr`` is now, if it was moved; by default the run's own, or the one that its ``job.yaml``
        names.

    Returns
    -------
    xarray.Dataset
        Dask-backed, in the chunks of the stores. Indexed by ``object_id`` (int64), ``band``, and by ``level`` and
        ``model`` if there are any: ``ds.sel(object_id=..., band="g")``. It has all variables of ``scores.zarr``
        (``score``, ``residual``, ``in_sample``; after selection ``threshold`` and ``candidate``) and the other ones of
        ``cutouts.zarr``: ``image`` (object, band, y, x) in counts, ``fwhm_arcsec``, ``mag`` and so on. NaN as in the
        stores: pixels and scores of quarantined objects, unknown magnitudes. ``ds.swimmy`` has `Selections`.

    Raises
    ------
    SwimmyError
        When ``run`` is not a run directory, a store is missing or of another format version, or the two stores have
        other objects or bands. A chunk that is missing or damaged raises when it is read.
    """
    directory = RunDirectory(Path(run))
    if not directory.job_file.is_file():
        raise SwimmyError(f"{run}: no job.yaml in it, so this is not a run directory. Check the path.")
    if not directory.scores.is_dir():
        raise SwimmyError(f"{run}: no scores.zarr in it: its scoring has not begun. {READ_AGAIN}.")
    chosen = Path(cutouts) if cutouts else directory.cutouts(directory.load_job())
    if not chosen.is_dir():
        raise SwimmyError(
            f"{chosen}: the cutouts of {run} are not there. Give open_run their place as its argument cutouts."
        )
    return open_stores(directory.scores, chosen)


def open_stores(scores: Path, cutouts: Path) -> xarray.Dataset:
    """Join ``scores.zarr`` and ``cutouts.zarr`` of the same objects (see `open_run`)."""
    scored, pixels = Scores(scores), Cutouts(cutouts)
    object_id = _shared_ids(scored, pixels)
    # A missing chunk is an error, not a fill value; arrays keep the setting that holds when they are opened.
    with zarr.config.set({"array.read_missing_chunks": False}):
        right = xarray.open_zarr(scores)
        left = xarray.open_zarr(cutouts)
    left = left.drop_vars([name for name in left.variables if name in right.variables])
    joined: xarray.Dataset = left.assign(right.variables).set_coords(["object_id", "ra", "dec", *right.indexes])
    joined = joined.assign_coords(object_id=("object", object_id, right["object_id"].attrs)).set_xindex("object_id")
    for name in joined.coords:
        if name in LABEL_NAMES:
            joined[name].attrs["long_name"] = LABEL_NAMES[name]
    joined.attrs = {key: value for key, value in (left.attrs | right.attrs).items() if key not in OF_ONE_STORE}
    joined.attrs |= {"title": "cutouts and anomaly scores", "scores": str(scores), "cutouts": str(cutouts)}
    return joined


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

    def _where(self, chosen: npt.NDArray[np.bool_]) -> xarray.Dataset:
        return self._dataset.isel(object=np.flatnonzero(chosen))

    def objects(self, object_ids: Sequence[int] | AnyArray) -> xarray.Dataset:
        """Objects by their ids, in the order of the ids.

        A catalogue may have an id twice. Then all but one of its rows are in quarantine, and the other one is taken.
        (``ds.sel(object_id=...)`` gives all rows of an id, and takes a list only if no id comes twice.)

        Raises
        ------
        SwimmyError
            When ids are missing, with the first of them.
        """
        wanted = np.asarray(object_ids, np.int64).reshape(-1)
        # Sorted by id, quarantined rows last: a search from the left finds the best row of each id.
        here = self._dataset["object_id"].values
        order = np.lexsort((self._dataset["quarantine_code"].values != 0, here))
        at = np.searchsorted(here[order], wanted)
        found = order[np.minimum(at, here.size - 1)] if here.size else np.zeros(0, np.int64)
        missing = wanted[here[found] != wanted] if here.size else wanted
        if missing.size:
            raise SwimmyError(
                f"object_id {missing[0]} is not in {self._dataset.attrs.get('scores')} ({missing.size} of "
                f"{wanted.size} are not). Check the ids: they are whole numbers of the catalogue, never floats."
            )
        return self._dataset.isel(object=found)

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
