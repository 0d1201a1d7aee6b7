"""Tables of a simulated survey, as columns: the catalogue, the patches and the truth."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from swimmy_scale.method.sample import QUALITY_FLAGS
from swimmy_scale.method.survey import DoubleArray
from swimmy_scale.simulate import images, sky
from swimmy_scale.simulate.fits_tables import Columns
from swimmy_scale.simulate.galaxies import REDSHIFT_LIMITS, Galaxies
from swimmy_scale.simulate.plan import (
    CUTS,
    FAULTS,
    KINDS,
    OVERLAPS,
    STREAM_CATALOGUE,
    SimulationPlan,
    allocate,
    generator,
    request_name,
)
from swimmy_scale.simulate.spectra import nearest_type

# The paper's cuts (section 2.2), written here once more so that the truth does not come from the code it tests.
MAX_MAG, MIN_EXTENDEDNESS_MAG = 20.0, 0.2


def catalogue_columns(plan: SimulationPlan, part_index: int, objects: Galaxies) -> Columns:
    """The archive's catalogue of one part, by column name: what a pipeline would have measured."""
    survey = plan.survey
    n = len(objects.row)
    rng = generator(plan, STREAM_CATALOGUE, part_index)
    patches = [sky.patch_conditions(plan, *key) for key in patch_keys(objects)]
    fwhm = np.array([patch.fwhm_arcsec for patch in patches])
    depth = np.array([patch.depth_mag for patch in patches])
    flux = objects.flux * _calibration(plan, objects)
    truth_mag = survey.zero_point_mag - 2.5 * np.log10(flux)
    # A point source at the depth has 5 sigma; a model has three times its error, and calibration adds 0.005 mag.
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
    flagged = np.where(cut == CUTS.index("flag"), rng.integers(len(QUALITY_FLAGS) * survey.n_bands, size=n), -1)
    names = [f"{band}_{flag}" for band in survey.bands for flag in QUALITY_FLAGS]
    columns |= {name: flagged == number for number, name in enumerate(names)}
    columns["isprimary"] = np.ones(n, np.bool_)

    # Some of the objects that fail the redshift cut have no redshift at all.
    lost = (cut == CUTS.index("redshift")) & (rng.uniform(size=n) < 0.3)
    columns["specz_redshift"] = np.where(lost, np.nan, objects.redshift + 2e-4 * rng.normal(size=n))
    columns["specz_redshift_isnull"] = lost
    columns["sample_class"] = _sample_class(plan, objects, rng)
    return columns


def truth_columns(plan: SimulationPlan, objects: Galaxies, catalogue: Columns) -> Columns:
    """What was drawn, and what ingest and the sample cuts must make of it, by column name."""
    survey = plan.survey
    allocation = allocate(plan)
    labels = np.array([*(code.label for _, code in FAULTS), ""])
    planted = np.array([*(name for name, _ in FAULTS), ""])
    fault = allocation.fault[objects.row]
    columns: Columns = {
        "object_id": catalogue["object_id"],
        "request": np.array([request_name(int(row) // plan.n_objects_per_tar) for row in objects.row]),
        "line": np.arange(len(objects.row)) + 2,
        "overlap": np.array([*OVERLAPS, ""])[allocation.overlap[objects.row]],
        "repeated": allocation.repeated[objects.row],
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


def patch_keys(objects: Galaxies) -> list[tuple[int, int]]:
    """(Tract, patch index) of each object."""
    return list(zip(objects.tract.tolist(), objects.patch_index.tolist(), strict=True))


def _calibration(plan: SimulationPlan, objects: Galaxies) -> DoubleArray:
    """Factor between the flux in the files and the true flux, shape (n, n_bands)."""
    factor = np.ones((len(objects.row), plan.survey.n_bands))
    if "r" in plan.survey.bands:
        factor[:, plan.survey.bands.index("r")] = objects.zero_point_factor
    return factor


def _sample_class(plan: SimulationPlan, objects: Galaxies, rng: np.random.Generator) -> npt.NDArray[np.str_]:
    """Class from a spectroscopic match (sections 2.2 and 3.1): a spectrum shows active nuclei and strong lines."""
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
    """First cut of the paper's spectroscopic sample that the catalogue's values fail, or an empty string."""
    band = plan.survey.magnitude_band
    flags = [catalogue[f"{name}_{flag}"] for name in plan.survey.bands for flag in QUALITY_FLAGS]
    redshift = catalogue["specz_redshift"]
    extendedness = np.subtract(catalogue[f"{band}_psfflux_mag"], catalogue[f"{band}_cmodel_mag"], dtype=np.float64)
    depth = np.array([sky.patch_conditions(plan, *key).depth_mag for key in patch_keys(objects)])
    failed = {
        "depth": np.any(depth < plan.survey.min_depth_mag, axis=1),
        "magnitude": ~(catalogue[f"{band}_cmodel_mag"] < MAX_MAG),
        "flag": np.any(flags, axis=0),
        "extendedness": ~(extendedness > MIN_EXTENDEDNESS_MAG),
        "redshift": ~((redshift > REDSHIFT_LIMITS[0]) & (redshift < REDSHIFT_LIMITS[1])),
    }
    result: npt.NDArray[np.str_] = np.select([failed[cut] for cut in CUTS], list(CUTS), default="")
    return result


def patch_columns(plan: SimulationPlan, keys: list[tuple[int, int]]) -> Columns:
    """The archive's table of patches, without those that it must lack."""
    patches = [sky.patch_conditions(plan, *key) for key in keys if key[1] != sky.ABSENT_PATCH]
    columns: Columns = {
        "tract": np.array([patch.tract for patch in patches], np.int32),
        "patch": np.array([patch.patch for patch in patches], np.int32),
    }
    for number, band in enumerate(plan.survey.bands):
        columns[f"{band}seeing"] = np.array([patch.fwhm_arcsec[number] for patch in patches], np.float32)
        columns[f"{band}mag_psf_depth"] = np.array([patch.depth_mag[number] for patch in patches], np.float32)
    return columns
