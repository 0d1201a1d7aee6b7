"""Tables of a simulated survey: catalogue, patches and the truth, and the end of a simulation."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from astropy.io import fits

from swimmy_scale.errors import SwimmyError
from swimmy_scale.method.sample import FLAG_NAMES
from swimmy_scale.method.survey import DoubleArray
from swimmy_scale.simulate import images, sky
from swimmy_scale.simulate.archive import CUTOUT_FOLDER, part_target, write_part
from swimmy_scale.simulate.fits_tables import Columns, write_table
from swimmy_scale.simulate.galaxies import REDSHIFT_LIMITS, Galaxies, draw_objects
from swimmy_scale.simulate.plan import (
    CUTS,
    FAULTS,
    KINDS,
    STREAM_CATALOGUE,
    PartReceipt,
    SimulationPlan,
    allocate,
    generator,
)
from swimmy_scale.simulate.population import DEMONSTRATION
from swimmy_scale.simulate.spectra import nearest_type
from swimmy_scale.simulate.spectroscopy import SPECTROSCOPY_FOLDER, has_spectroscopy, write_spectroscopy

FORMAT_VERSION = 1
CATALOGUE, PATCH_QA, TRUTH, SUMMARY = "catalogue.fits", "patch_qa.fits", "truth.fits", "simulation.json"

MAX_MAG, MIN_EXTENDEDNESS_MAG = 20.0, 0.2

Map = Callable[[Callable[[int], PartReceipt], Iterable[int]], Iterable[PartReceipt]]


@dataclass(frozen=True)
class SimulationSummary:
    """A finished survey.

    Attributes
    ----------
    directory, cutouts, catalogue, patch_qa, truth : str
        Paths; all but the first relative to ``directory``.
    n_objects, n_files : int
    size_bytes : int
        Of all cutouts.
    n_by_kind : dict of str to int
        Galaxies of each of `KINDS`.
    n_by_fault : dict of str to int
        Galaxies of each code that ingest must report.
    n_by_cut : dict of str to int
        Galaxies that fail each of `CUTS`; an object that fails several counts for the first.
    """

    directory: str
    cutouts: str
    catalogue: str
    patch_qa: str
    truth: str
    n_objects: int
    n_files: int
    size_bytes: int
    n_by_kind: dict[str, int]
    n_by_fault: dict[str, int]
    n_by_cut: dict[str, int]


def catalogue_columns(plan: SimulationPlan, part_index: int, objects: Galaxies) -> Columns:
    """The archive's catalogue of one part, by column name; what a pipeline would have measured."""
    survey = plan.survey
    n = len(objects.row)
    rng = generator(plan, STREAM_CATALOGUE, part_index)
    patches = [sky.patch_conditions(plan, *key) for key in _patch_keys(objects)]
    fwhm = np.array([patch.fwhm_arcsec for patch in patches])
    depth = np.array([patch.depth_mag for patch in patches])
    flux = objects.flux * _calibration(plan, objects)
    truth_mag = survey.zero_point_mag - 2.5 * np.log10(flux)
    # 5 sigma at the depth, a model's aperture that is a few times the PSF's, and a floor of the calibration.
    error = np.hypot(0.005, 3.0 * 1.0857 / 5.0 * 10.0 ** (0.4 * (truth_mag - depth)))
    mag = truth_mag + error * rng.normal(size=truth_mag.shape)
    reference = survey.bands.index(survey.magnitude_band)
    psf_flux = images.psf_flux(objects, fwhm[:, reference], reference) * _calibration(plan, objects)[:, reference]
    psf_mag = survey.zero_point_mag - 2.5 * np.log10(psf_flux) + 0.005 * rng.normal(size=n)

    columns: Columns = {
        "object_id": sky.object_ids(plan, objects.row),
        "object_id_isnull": np.zeros(n, np.bool_),
        "ra": objects.ra,
        "dec": objects.dec,
        "tract": objects.tract.astype(np.int32),
        "patch": np.array([patch.patch for patch in patches], np.int32),
    }
    for number, band in enumerate(survey.bands):
        columns[f"{band}_cmodel_mag"] = mag[:, number].astype(np.float32)
        columns[f"{band}_cmodel_mag_isnull"] = np.zeros(n, np.bool_)
    columns[f"{survey.magnitude_band}_psfflux_mag"] = psf_mag.astype(np.float32)
    columns[f"{survey.magnitude_band}_psfflux_mag_isnull"] = np.zeros(n, np.bool_)

    cut = allocate(plan).cut[objects.row]
    flagged = np.where(cut == CUTS.index("flag"), rng.integers(len(FLAG_NAMES) * survey.n_bands, size=n), -1)
    names = [f"{band}_{flag}" for band in survey.bands for flag in FLAG_NAMES]
    columns |= {name: flagged == number for number, name in enumerate(names)}

    # A spectrum gives no redshift for some of those that are outside of the redshift cut.
    lost = (cut == CUTS.index("redshift")) & (rng.uniform(size=n) < 0.3)
    columns["specz_redshift"] = np.where(lost, np.nan, objects.redshift + 2e-4 * rng.normal(size=n))
    columns["specz_redshift_isnull"] = lost
    columns["sample_class"] = _sample_class(plan, objects, rng)
    return columns


def truth_columns(plan: SimulationPlan, objects: Galaxies, catalogue: Columns) -> Columns:
    """What was drawn, and what must come of it, by column name."""
    survey = plan.survey
    allocation = allocate(plan)
    labels = np.array([*(code.label for _, code in FAULTS), ""])
    planted = np.array([*(name for name, _ in FAULTS), ""])
    fault = allocation.fault[objects.row]
    columns: Columns = {
        "object_id": catalogue["object_id"],
        "line": objects.row + 2,
        "kind": np.array(KINDS)[objects.kind],
        "redshift": objects.redshift,
        "sed": nearest_type(objects.young_fraction),
        "young_fraction": objects.young_fraction,
        "bulge_fraction": objects.bulge_fraction,
        "nucleus_fraction": objects.nucleus_fraction,
        "nucleus_ebv": objects.nucleus_ebv,
        "re_arcsec": objects.disk_re,
        "axis_ratio": objects.disk_q,
        "ew_oii": objects.ew_oii,
        "ew_hb_oiii": objects.ew_hb_oiii,
        "ew_ha_nii": objects.ew_ha_nii,
        "r_zero_point_factor": objects.zero_point_factor,
        "fault": labels[fault],
        "planted_fault": planted[fault],
        "cut": _failed_cut(plan, objects, catalogue),
    }
    mag = survey.zero_point_mag - 2.5 * np.log10(objects.flux)
    return columns | {f"{band}_mag": mag[:, number] for number, band in enumerate(survey.bands)}


def _patch_keys(objects: Galaxies) -> list[tuple[int, int]]:
    return list(zip(objects.tract.tolist(), objects.patch_index.tolist(), strict=True))


def _calibration(plan: SimulationPlan, objects: Galaxies) -> DoubleArray:
    """Factor between the flux in the files and the true flux, shape (n, n_bands)."""
    factor = np.ones((len(objects.row), plan.survey.n_bands))
    if "r" in plan.survey.bands:
        factor[:, plan.survey.bands.index("r")] = objects.zero_point_factor
    return factor


def _sample_class(plan: SimulationPlan, objects: Galaxies, rng: np.random.Generator) -> npt.NDArray[np.str_]:
    """Class from a spectroscopic match (sections 2.2 and 3.1): a spectrum tells active nuclei and strong lines."""
    training = rng.uniform(size=len(objects.row)) < plan.training_fraction
    edge = plan.population.main_sample_mag
    if edge is not None:
        reference = objects.flux[:, plan.survey.bands.index(plan.survey.magnitude_band)]
        training = plan.survey.zero_point_mag - 2.5 * np.log10(reference) < edge
    training &= objects.redshift < REDSHIFT_LIMITS[1]
    known = {"xelg": "xelg", "quasar": "quasar", "type1_agn": "agn_candidate", "type2_agn": "agn_candidate"}
    by_kind = np.array([known.get(kind, "") for kind in KINDS])[objects.kind]
    result: npt.NDArray[np.str_] = np.where(by_kind != "", by_kind, np.where(training, "training", "other"))
    return result


def _failed_cut(plan: SimulationPlan, objects: Galaxies, catalogue: Columns) -> npt.NDArray[np.str_]:
    """First cut of the paper's spectroscopic sample that the catalogue's values fail, empty for none."""
    band = plan.survey.magnitude_band
    flags = [catalogue[f"{name}_{flag}"] for name in plan.survey.bands for flag in FLAG_NAMES]
    redshift = catalogue["specz_redshift"]
    extendedness = np.subtract(catalogue[f"{band}_psfflux_mag"], catalogue[f"{band}_cmodel_mag"], dtype=np.float64)
    depth = np.array([sky.patch_conditions(plan, *key).depth_mag for key in _patch_keys(objects)])
    failed = {
        "depth": np.any(depth < plan.survey.min_depth_mag, axis=1),
        "magnitude": ~(catalogue[f"{band}_cmodel_mag"] < MAX_MAG),
        "flag": np.any(flags, axis=0),
        "extendedness": ~(extendedness > MIN_EXTENDEDNESS_MAG),
        "redshift": ~((redshift > REDSHIFT_LIMITS[0]) & (redshift < REDSHIFT_LIMITS[1])),
    }
    result: npt.NDArray[np.str_] = np.select([failed[cut] for cut in CUTS], list(CUTS), default="")
    return result


def _patch_columns(plan: SimulationPlan, keys: list[tuple[int, int]]) -> Columns:
    """The archive's table of patches; those that are to be missing in it are left out."""
    patches = [sky.patch_conditions(plan, *key) for key in keys if key[1] != sky.ABSENT_PATCH]
    columns: Columns = {
        "tract": np.array([patch.tract for patch in patches], np.int32),
        "patch": np.array([patch.patch for patch in patches], np.int32),
    }
    for number, band in enumerate(plan.survey.bands):
        columns[f"{band}seeing"] = np.array([patch.fwhm_arcsec[number] for patch in patches], np.float32)
        columns[f"{band}mag_psf_depth"] = np.array([patch.depth_mag[number] for patch in patches], np.float32)
    return columns


def _counts(values: npt.NDArray[np.str_]) -> dict[str, int]:
    names, numbers = np.unique(values[values != ""], return_counts=True)
    return dict(zip(names.tolist(), numbers.tolist(), strict=True))


def _check_receipts(directory: Path, plan: SimulationPlan, receipts: list[PartReceipt]) -> None:
    if [receipt.part_index for receipt in receipts] != list(range(plan.n_parts)):
        raise SwimmyError(
            f"simulation in {directory}: {len(receipts)} receipts do not stand for {plan.n_parts} parts, each once. "
            "Write every part, then finish."
        )
    expected = {str(Path(part_target(plan, index).path).name) for index in range(plan.n_parts)}
    found = {entry.name for entry in (directory / CUTOUT_FOLDER).glob("*")}
    strange, missing = sorted(found - expected), sorted(expected - found)
    if strange:
        raise SwimmyError(
            f"{directory / CUTOUT_FOLDER} holds {len(strange)} entries that are not of this survey, the first is "
            f"{strange[0]!r}. Remove them, or simulate into an empty directory."
        )
    if missing:
        raise SwimmyError(f"{directory / CUTOUT_FOLDER} lacks {missing[0]!r}. Write this part again, then finish.")


def finish(directory: str, plan: SimulationPlan, receipts: Iterable[PartReceipt]) -> SimulationSummary:
    """Write all tables of a survey whose parts are written, and last ``simulation.json``.

    Parameters
    ----------
    directory : str
    plan : SimulationPlan
    receipts : iterable of PartReceipt
        Of all parts, in any order.

    Raises
    ------
    SwimmyError
        When a part is missing, given twice or not there, or ``cutouts`` holds what is not of this survey.
    """
    folder = Path(directory)
    by_part = sorted(receipts, key=lambda receipt: receipt.part_index)
    _check_receipts(folder, plan, by_part)
    catalogues, truths, keys = [], [], set()
    for part_index in range(plan.n_parts):
        objects, _ = draw_objects(plan, part_index)
        catalogues.append(catalogue_columns(plan, part_index, objects))
        truths.append(truth_columns(plan, objects, catalogues[-1]))
        keys |= set(_patch_keys(objects))
    catalogue, truth = _stacked(catalogues), _stacked(truths)
    write_table(folder / CATALOGUE, "CATALOGUE", catalogue)
    write_table(folder / PATCH_QA, "PATCH_QA", _patch_columns(plan, sorted(keys)))
    write_table(folder / TRUTH, "TRUTH", truth)
    write_spectroscopy(folder, plan, catalogue, truth)
    summary = SimulationSummary(
        directory=directory,
        cutouts=CUTOUT_FOLDER,
        catalogue=CATALOGUE,
        patch_qa=PATCH_QA,
        truth=TRUTH,
        n_objects=plan.n_objects,
        n_files=sum(receipt.n_files for receipt in by_part),
        size_bytes=sum(receipt.size_bytes for receipt in by_part),
        n_by_kind=_counts(truth["kind"]),
        n_by_fault=_counts(truth["fault"]),
        n_by_cut=_counts(truth["cut"]),
    )
    _write_record(folder, plan, summary)
    return summary


def _stacked(parts: list[Columns]) -> Columns:
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _plan_record(plan: SimulationPlan) -> dict[str, Any]:
    """The plan as JSON gives it back; a NaN, which JSON does not have, becomes text.

    The demonstration's population is left out: surveys of it are older than the field.
    """
    record: dict[str, Any] = json.loads(json.dumps(dataclasses.asdict(plan)), parse_constant=str)
    if plan.population == DEMONSTRATION:
        del record["population"]
    return record


def _write_record(folder: Path, plan: SimulationPlan, summary: SimulationSummary | None) -> None:
    """Write ``simulation.json``: at the start without a summary, which marks the directory as ours, then with it."""
    content: dict[str, Any] = {"format_version": FORMAT_VERSION, "simulated": True, "plan": _plan_record(plan)}
    if summary is not None:
        content["summary"] = dataclasses.asdict(summary)
        del content["summary"]["directory"]  # a survey can be moved
    unfinished = folder / f".{SUMMARY}.unfinished"
    with unfinished.open("w", encoding="utf-8") as stream:
        json.dump(content, stream, indent=1)
        stream.flush()
        os.fsync(stream.fileno())
    unfinished.replace(folder / SUMMARY)


def _check_free(folder: Path) -> None:
    """Refuse a directory where a simulation would replace what it has not made."""
    taken = [
        name for name in (CUTOUT_FOLDER, CATALOGUE, PATCH_QA, TRUTH, SPECTROSCOPY_FOLDER) if (folder / name).exists()
    ]
    if taken:
        raise SwimmyError(
            f"{folder} holds {', '.join(taken)}, but no {SUMMARY} that says they are simulated. Simulate into an empty "
            "directory."
        )


def _read_summary(folder: Path, plan: SimulationPlan) -> SimulationSummary | None:
    """The summary of a finished survey of this plan; None where there is none yet, or files of it are gone."""
    path = folder / SUMMARY
    if not path.exists():
        _check_free(folder)
        return None
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        same = content["format_version"] == FORMAT_VERSION and content["plan"] == _plan_record(plan)
        begun = "summary" not in content
        summary = None if begun else SimulationSummary(directory=str(folder), **content["summary"])
    except (ValueError, KeyError, TypeError) as error:
        raise SwimmyError(f"{path} is not the record of a simulation ({error}). Remove the directory.") from error
    if not same:
        raise SwimmyError(
            f"{folder} holds a simulated survey of another plan (see {path}). Simulate into another directory, or "
            "remove this one."
        )
    if summary is None:
        return None
    size_bytes = sum(path.stat().st_size for path in (folder / summary.cutouts).rglob("*") if path.is_file())
    tables_there = all((folder / name).exists() for name in (summary.catalogue, summary.patch_qa, summary.truth))
    return summary if tables_there and size_bytes == summary.size_bytes else None


def simulate(directory: str, plan: SimulationPlan, map: Map = map) -> SimulationSummary:  # noqa: A002
    """Simulate a survey: write all parts, then the tables. Where the same survey is finished already, do nothing.

    Parameters
    ----------
    directory : str
        Gets ``cutouts/``, ``catalogue.fits``, ``patch_qa.fits``, ``truth.fits``, ``spectroscopy/`` (tables of
        spectra as they are published) and ``simulation.json``.
    plan : SimulationPlan
    map : callable
        Applies a function to every part number, as the built-in does, here or on other machines.

    Raises
    ------
    SwimmyError
        When the directory holds another survey or what is left of one, or files that no simulation made.
    """
    folder = Path(directory)
    done = _read_summary(folder, plan)
    if done is not None:
        if not has_spectroscopy(folder):
            tables = (fits.getdata(folder / name, 1) for name in (done.catalogue, done.truth))
            catalogue, truth = ({key: table[key] for key in table.names} for table in tables)
            write_spectroscopy(folder, plan, catalogue, truth)
        return done
    folder.mkdir(parents=True, exist_ok=True)
    _write_record(folder, plan, None)
    receipts = list(map(_PartWriter(directory, plan), range(plan.n_parts)))
    return finish(directory, plan, receipts)


@dataclass(frozen=True)
class _PartWriter:
    """`write_part` with all but the part's number given; unlike a lambda it can be sent to another process."""

    directory: str
    plan: SimulationPlan

    def __call__(self, part_index: int) -> PartReceipt:
        return write_part(self.directory, self.plan, part_index)
