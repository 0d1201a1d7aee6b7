"""Simulated twins of public data sets: a survey in exactly the form of their files, with known truth.

`FORMS` are MultimodalUniverse's HSC in HDF5 and in HATS Parquet, GalaxiesML, and unagi's file with a catalogue.
Columns, types, stamps and their flaws are those of the data sets; what a file of them cannot say, that it is simulated,
is an attribute of its root (of HDF5) or schema (of Parquet). Numbers of HEALPix pixels in names and columns only count.
"""

from __future__ import annotations

import functools
import json
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pyarrow as pa
from pyarrow import parquet

from swimmy_scale.errors import SwimmyError
from swimmy_scale.method.survey import HSC, AnyArray
from swimmy_scale.simulate import images
from swimmy_scale.simulate.archive import PartReceipt
from swimmy_scale.simulate.fits_tables import Columns, write_table
from swimmy_scale.simulate.galaxies import Galaxies, draw_objects
from swimmy_scale.simulate.plan import FIRST_TRACT, KINDS, STREAM_PIXEL, SimulationPlan, generator, plan_parts
from swimmy_scale.simulate.sky import patch_conditions
from swimmy_scale.simulate.tables import catalogue_columns, patch_keys, truth_columns
from swimmy_scale.storage.files import remove, write_atomically

FORMS = ("mmu-hsc", "mmu-hsc-hats", "galaxiesml", "unagi")
MMU_STAMP_PX = 160
_STAMP_PX = {"galaxiesml": 64, "unagi": 72}
OBJECTS_A_SHARD = 128
TRUTH, RECORD, CATALOGUE = "truth.fits", "simulation.json", "catalogue.fits"
FORMAT_VERSION = 1
_FIRST_PIXEL = 1000
# GalaxiesML's own shares: 204,573, 40,914 and 40,914 rows.
_SPLITS = {"training": 5, "validation": 1, "testing": 1}

Map = Callable[[Callable[[int], PartReceipt], Iterable[int]], Iterable[PartReceipt]]


@dataclass(frozen=True)
class TwinSummary:
    """A finished twin: what to ingest and the truth, relative to ``directory``; how many objects and bytes it has.

    ``catalogue`` is empty where the files have theirs inside.
    """

    directory: str
    form: str
    sources: tuple[str, ...]
    truth: str
    n_objects: int
    size_bytes: int
    catalogue: str = ""


def twin_plan(form: str, n_objects: int, seed: int, first_tract: int = FIRST_TRACT) -> SimulationPlan:
    """The plan of a twin: without the faults of archive files, which these forms do not have."""
    side = _STAMP_PX.get(form, MMU_STAMP_PX)
    return SimulationPlan(
        n_objects=n_objects,
        seed=seed,
        first_tract=first_tract,
        faulty_fraction=0.0,
        oversize_fraction=0.0,
        extra_hdu_fraction=0.0,
        overlap_fraction=0.0,
        repeat_fraction=0.0,
        n_objects_per_tar=OBJECTS_A_SHARD,
        survey=replace(HSC, cutout_size_px=side),
    )


def simulate_as(
    form: str,
    directory: str,
    n_objects: int,
    seed: int,
    first_tract: int = FIRST_TRACT,
    map: Map = map,  # noqa: A002
) -> TwinSummary:
    """Write a twin, with ``truth.fits`` and ``simulation.json``. Does nothing where the same is there and finished.

    Parameters
    ----------
    form : str
        One of `FORMS`.
    map : callable
        Applies a function to every index of a file, like the built-in, here or in other processes.

    Raises
    ------
    SwimmyError
        When the directory holds anything else.
    """
    plan, folder = twin_plan(form, n_objects, seed, first_tract), Path(directory)
    record = {"format_version": FORMAT_VERSION, "simulated": True, "form": form}
    record |= {"n_objects": n_objects, "seed": seed, "first_tract": first_tract}
    found = _found(folder, record)
    if found is not None:
        return TwinSummary(directory, **found | {"sources": tuple(found["sources"])})
    write_atomically(folder / RECORD, json.dumps(record, indent=1).encode())
    files = _files(form, plan)
    receipts = list(map(functools.partial(_write_file, form, directory, plan), range(len(files))))
    truths = []
    for part in range(plan.n_parts):
        objects, _ = draw_objects(plan, part)
        truths.append(truth_columns(plan, objects, catalogue_columns(plan, part, objects)))
    columns = {name: np.concatenate([truth[name] for truth in truths]) for name in truths[0]}
    write_table(folder / TRUTH, "TRUTH", {k: v for k, v in columns.items() if k not in ("request", "line", "overlap")})
    sources = (_root(form),) if form.startswith("mmu") else tuple(name for name, _ in files)
    catalogue = _write_catalogue(folder, plan) if form == "unagi" else ""
    size = sum(receipt.size_bytes for receipt in receipts)
    summary = TwinSummary(directory, form, sources, TRUTH, n_objects, size, catalogue)
    about = {name: value for name, value in asdict(summary).items() if name != "directory"}
    write_atomically(folder / RECORD, json.dumps(record | {"summary": about}, indent=1).encode())
    return summary


def _found(folder: Path, record: dict[str, Any]) -> dict[str, Any] | None:
    """What is said of a finished twin that is the same; None where there is none yet."""
    path = folder / RECORD
    if not path.exists():
        if folder.exists() and any(folder.iterdir()):
            raise SwimmyError(f"{folder}: is not empty, and no {RECORD} says that it is simulated. Choose another one.")
        return None
    try:
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise SwimmyError(f"{path} is not the record of a simulation ({error}). Remove the directory.") from error
    if {name: content.get(name) for name in record} != record:
        raise SwimmyError(f"{folder} holds another simulation (see {path}). Choose another directory, or remove it.")
    summary: dict[str, Any] | None = content.get("summary")
    whole = summary is not None and all((folder / name).exists() for name in (*summary["sources"], TRUTH))
    return summary if whole else None


def _root(form: str) -> str:
    return {"mmu-hsc": "pdr3_dud_22.5", "mmu-hsc-hats": "mmu_hsc_pdr3_dud_22.5"}[form]


def _files(form: str, plan: SimulationPlan) -> list[tuple[str, Sequence[int]]]:
    """The name of each file, and the parts of the plan that it holds."""
    if form == "unagi":
        return [("cutouts_pdr3_wide_coadd.hdf", range(plan.n_parts))]
    if form != "galaxiesml":
        pattern = {"mmu-hsc": "healpix={}/001-of-001.hdf5", "mmu-hsc-hats": "dataset/Norder=4/Dir=0/Npix={}.parquet"}
        return [(f"{_root(form)}/{pattern[form].format(_FIRST_PIXEL + k)}", (k,)) for k in range(plan.n_parts)]
    shares = np.cumsum([0, *_SPLITS.values()]) / sum(_SPLITS.values())
    edges = np.round(shares * plan.n_parts).astype(int)
    side = plan.survey.cutout_size_px
    named = [f"5x{side}x{side}_{split}_with_morphology.hdf5" for split in _SPLITS]
    parts = [range(lo, hi) for lo, hi in pairwise(edges.tolist())]
    return [(name, held) for name, held in zip(named, parts, strict=True) if len(held)]


def _write_file(form: str, directory: str, plan: SimulationPlan, number: int) -> PartReceipt:
    """Write one file; its bytes depend on the arguments alone. It appears when it is complete."""
    name, parts = _files(form, plan)[number]
    path = Path(directory, name)
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.name}.unfinished")
    remove(unfinished)
    if form == "galaxiesml":
        _write_galaxiesml(unfinished, plan, parts)
    elif form == "unagi":
        _write_unagi(unfinished, plan, parts)
    elif form == "mmu-hsc":
        _write_shard(unfinished, _mmu_columns(plan, parts[0]))
    else:
        parquet.write_table(_hats(_mmu_columns(plan, parts[0])), unfinished, row_group_size=OBJECTS_A_SHARD // 4)
    unfinished.rename(path)
    n_written = sum(len(plan_parts(plan)[part]) for part in parts)
    return PartReceipt(number, n_written, 1, path.stat().st_size)


# ---------------------------------------------------------------- pixels


def _stamps(plan: SimulationPlan, part: int, off: int) -> Iterator[tuple[AnyArray, AnyArray, AnyArray]]:
    """Image, variance and mask (True is good) of each object of a part, axes (band, y, x).

    ``off`` is what is added to the position before the stamp is cut out around it as astropy's Cutout2D does.
    """
    objects, neighbours = draw_objects(plan, part)
    rng, side = generator(plan, STREAM_PIXEL, part), plan.survey.cutout_size_px
    band = plan.survey.bands.index(plan.survey.magnitude_band)
    for index in range(len(objects.row)):
        patch = patch_conditions(plan, int(objects.tract[index]), int(objects.patch_index[index]))
        canvas = images.draw_noiseless(plan, patch, objects, index, neighbours)
        image = images.add_noise(plan, patch, canvas.image, rng)
        images.add_artefact(plan, objects, index, image, float(rng.uniform(0.15, 0.4)))
        x, y = (math.ceil(position + off - side / 2) for position in (objects.x[index], objects.y[index]))
        region = (
            slice(None),
            slice(y - canvas.origin_y, y - canvas.origin_y + side),
            slice(x - canvas.origin_x, x - canvas.origin_x + side),
        )
        good = np.ones(image.shape, np.bool_)
        if KINDS[objects.kind[index]] == "artefact_saturated":
            middle = image[band, side // 2 - 2 : side // 2 + 3, side // 2 - 2 : side // 2 + 3]
            good[band] = image[band] < middle.max()
        yield image[region], images.variance(plan, patch, image)[region], good[region]


# ---------------------------------------------------------------- MultimodalUniverse


def _mmu_columns(plan: SimulationPlan, part: int) -> Columns:
    """All columns of a shard, with those of the images."""
    objects, _ = draw_objects(plan, part)
    n, bands = len(objects.row), plan.survey.bands
    # World coordinates that count from 1 are taken for pixels that count from 0.
    image, variance, good = (np.stack(planes) for planes in zip(*_stamps(plan, part, off=1), strict=True))
    fwhm = np.array([patch_conditions(plan, *key).fwhm_arcsec for key in patch_keys(objects)])
    measured = catalogue_columns(plan, part, objects)
    columns: Columns = {name: measured[name].astype(np.int64) for name in ("object_id", "tract", "patch")}
    columns |= {"ra": measured["ra"], "dec": measured["dec"], "healpix": np.full(n, _FIRST_PIXEL + part, np.int64)}
    for k, band in enumerate(bands):
        mag = measured[f"{band}_cmodel_mag"].astype(np.float64)
        flux = 10.0 ** (0.4 * (31.4 - mag))
        moment = (fwhm[:, k] / 2.355) ** 2
        columns |= {
            f"a_{band}": np.full(n, 0.05),
            f"{band}_extendedness_value": np.ones(n),
            f"{band}_cmodel_mag": mag,
            f"{band}_cmodel_magerr": np.full(n, 0.01),
            f"{band}_cmodel_flux": flux,
            f"{band}_cmodel_fluxerr": 0.01 * flux,
            f"{band}_sdssshape_psf_shape11": moment,
            f"{band}_sdssshape_psf_shape22": moment,
            f"{band}_sdssshape_psf_shape12": np.zeros(n),
        }
    columns |= {
        "image_band": np.array([[f"hsc-{band}".encode() for band in bands]] * n, h5py.string_dtype("utf-8", 5)),
        "image_ivar": np.nan_to_num(1.0 / variance).astype(np.float32),
        "image_array": image.astype(np.float32),
        "image_mask": good,
        "image_psf_fwhm": fwhm.astype(np.float32),
        "image_scale": np.full((n, len(bands)), plan.survey.pixel_scale_arcsec, np.float32),
    }
    return columns


def _write_shard(path: Path, columns: Columns) -> None:
    with h5py.File(path, "w") as file:
        file.attrs["SIMULATE"] = True
        for name, values in columns.items():
            shape = (None, *values.shape[1:])
            file.create_dataset(name, data=values, compression="gzip", compression_opts=1, chunks=True, maxshape=shape)


def _hats(columns: Columns) -> pa.Table:
    """The same in HATS form: ``image`` is a struct of lists."""
    bands = [[band.decode() for band in row] for row in columns["image_band"].tolist()]
    names = {"flux": "array", "ivar": "ivar", "mask": "mask", "psf_fwhm": "psf_fwhm", "scale": "scale"}
    fields = {"band": pa.array(bands)} | {field: _lists(columns[f"image_{name}"]) for field, name in names.items()}
    table = {name: pa.array(values) for name, values in columns.items() if not name.startswith("image_")}
    table["image"] = pa.StructArray.from_arrays(list(fields.values()), names=list(fields))
    return pa.table(table).replace_schema_metadata({"SIMULATE": "T"})


def _lists(values: AnyArray) -> Any:
    """Lists of lists, one a row, of the values of an array."""
    found = pa.array(values.ravel())
    for axis in range(values.ndim - 1, 0, -1):
        n_lists = math.prod(values.shape[:axis])
        found = pa.ListArray.from_arrays(np.arange(n_lists + 1, dtype=np.int32) * values.shape[axis], found)
    return found


# ---------------------------------------------------------------- GalaxiesML


def _write_galaxiesml(path: Path, plan: SimulationPlan, parts: Sequence[int]) -> None:
    n, side = sum(len(plan_parts(plan)[part]) for part in parts), plan.survey.cutout_size_px
    with h5py.File(path, "w") as file:
        file.attrs["SIMULATE"] = True
        image = file.create_dataset("image", (n, plan.survey.n_bands, side, side), np.float32)
        row = 0
        for part in parts:
            objects, _ = draw_objects(plan, part)
            for name, values in _galaxiesml_columns(plan, part, objects).items():
                if name not in file:
                    file.create_dataset(name, (n,), values.dtype)
                file[name][row : row + len(values)] = values
            for stamp, _, _ in _stamps(plan, part, off=0):
                image[row] = stamp
                row += 1


def _galaxiesml_columns(plan: SimulationPlan, part: int, objects: Galaxies) -> Columns:
    measured = catalogue_columns(plan, part, objects)
    n = len(objects.row)
    columns: Columns = {name: measured[name] for name in ("object_id", "ra", "dec")}
    skymap = measured["tract"].astype(np.int64) * 10000 + measured["patch"]
    columns |= {
        "skymap_id": skymap,
        "x_coord": objects.x,
        "y_coord": objects.y,
        "specz_redshift": measured["specz_redshift"],
        "specz_redshift_err": np.full(n, 2e-4),
        "specz_flag_homogeneous": np.ones(n, np.bool_),
        "specz_mag_i": measured["i_cmodel_mag"],
        "specz_name": np.array([f"SIM-{row}".encode() for row in objects.row.tolist()], "S24"),
        "specz_ra": measured["ra"],
        "specz_dec": measured["dec"],
    }
    for band in plan.survey.bands:
        columns[f"{band}_cmodel_mag"] = measured[f"{band}_cmodel_mag"]
        columns[f"{band}_cmodel_magsigma"] = np.full(n, 0.01, np.float32)
    return columns


# ---------------------------------------------------------------- unagi


def _write_unagi(path: Path, plan: SimulationPlan, parts: Sequence[int]) -> None:
    """A group an object and band; the i band of every other object is a column short, as the archive delivers some."""
    side, flux_mag0 = plan.survey.cutout_size_px, 10.0 ** (0.4 * plan.survey.zero_point_mag)
    with h5py.File(path, "w") as file:
        file.attrs["SIMULATE"] = True
        for part in parts:
            objects, _ = draw_objects(plan, part)
            measured = catalogue_columns(plan, part, objects)
            for number, (image, variance, good) in enumerate(_stamps(plan, part, off=0)):
                # The object is the reference: where it lies in the stamp, counted from 1.
                cards = {name: at[number] - math.ceil(at[number] - side / 2) + 1.0
                         for name, at in (("CRPIX1", objects.x), ("CRPIX2", objects.y))}  # fmt: skip
                cards |= {"CRVAL1": measured["ra"][number], "CRVAL2": measured["dec"][number]}
                for k, band in enumerate(plan.survey.bands):
                    last = -1 if band == plan.survey.magnitude_band and number % 2 else None
                    group = file.create_group(f"{measured['object_id'][number]}/HSC-{band.upper()}")
                    group.create_group("PRIMARY").attrs["FLUXMAG0"] = np.array([flux_mag0])
                    mask = np.where(good[k], 0, 2).astype(np.int32)
                    for name, plane in (("HDU0", image[k]), ("HDU1", mask), ("HDU2", variance[k])):
                        hdu = group.create_group(name)
                        hdu.create_dataset("DATA", data=plane[:, :last])
                        hdu.attrs.update({key: np.array([value]) for key, value in cards.items()})


def _write_catalogue(folder: Path, plan: SimulationPlan) -> str:
    """The catalogue beside unagi's file, with the seeing of each object's patch."""
    parts = []
    for part in range(plan.n_parts):
        objects, _ = draw_objects(plan, part)
        fwhm = np.array([patch_conditions(plan, *key).fwhm_arcsec for key in patch_keys(objects)])
        widths = {f"fwhm_arcsec_{band}": fwhm[:, k] for k, band in enumerate(plan.survey.bands)}
        parts.append(catalogue_columns(plan, part, objects) | widths)
    columns = {name: np.concatenate([one[name] for one in parts]) for name in parts[0]}
    write_table(folder / CATALOGUE, "CATALOGUE", columns)
    return CATALOGUE
