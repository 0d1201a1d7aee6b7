"""Tables of spectra of a simulated survey, with the columns that SDSS, GAMA, MPA-JHU, DR16Q and Milliquas publish.

They are made from the catalogue and the truth. Like published ones, they hold measurement errors, lines that could not
be measured, failed fits of broad lines, repeated spectra, and sources that are not in the catalogue.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from swimmy_scale.method.survey import BoolArray, DoubleArray, IntArray
from swimmy_scale.simulate.fits_tables import Columns, write_table
from swimmy_scale.simulate.plan import STREAM_SPECTROSCOPY, SimulationPlan, generator
from swimmy_scale.simulate.spectra import LINES

SPECTROSCOPY_FOLDER = "spectroscopy"
TABLES = ("specObj", "GAMA", "galSpecInfo", "galSpecLine", "galSpecExtra", "DR16Q", "milliquas")

N_UNRELATED = 20
FIBRES_A_PLATE = 640
# MPA-JHU measured the spectra of DR7, whose plates have lower numbers than those of BOSS.
FIRST_PLATE, FIRST_BOSS_PLATE = 266, 3586
MISSING = -9999.0
# Shares of quasars that were taken for galaxies and measured as such, of active nuclei that Milliquas has, and of
# normal galaxies that it takes for narrow-line objects (section 4.2: star-forming galaxies among its type II).
QUASARS_AS_GALAXIES, TYPE1_IN_MILLIQUAS, TYPE2_IN_MILLIQUAS, NORMAL_AS_TYPE2 = 0.2, 0.85, 0.8, 0.004
# A broad line that is fitted by three narrow ones, which in part cancel each other: their widths over its own.
BROKEN_FIT = {"nii_6548": -0.6, "h_alpha": 1.2, "nii_6584": -0.35}


@dataclass(frozen=True)
class _Sky:
    """The catalogue's objects as the tables need them; arrays of shape (n,).

    ``in_sdss``, ``in_mpa_jhu`` and ``in_gama`` say which surveys have them; ``kind`` is the truth's.
    """

    ra: DoubleArray
    dec: DoubleArray
    redshift: DoubleArray
    kind: npt.NDArray[np.str_]
    magnitude: DoubleArray
    in_sdss: BoolArray
    in_mpa_jhu: BoolArray
    in_gama: BoolArray


def write_spectroscopy(folder: Path, plan: SimulationPlan, catalogue: Columns, truth: Columns) -> None:
    """Write ``spectroscopy/specObj.fits`` and the other ``TABLES`` of a survey.

    MPA-JHU has all objects whose class in the catalogue comes from their lines. DR16Q has the brighter half of the
    quasars, Milliquas all quasars and most other active nuclei.
    """
    rng = generator(plan, STREAM_SPECTROSCOPY)
    sky = _draw_sky(rng, catalogue, truth, plan.survey.magnitude_band)
    spectra, rows = _spec_obj(rng, sky)
    info, line, extra = _mpa_jhu(rng, sky, truth, spectra, rows)
    tables = {
        "specObj": spectra,
        "GAMA": _gama(rng, sky),
        "galSpecInfo": info,
        "galSpecLine": line,
        "galSpecExtra": extra,
        "DR16Q": _dr16q(rng, sky, truth),
        "milliquas": _milliquas(rng, sky),
    }
    for name, columns in tables.items():
        write_table(folder / SPECTROSCOPY_FOLDER / f"{name}.fits", name.upper(), columns)


def _draw_sky(rng: np.random.Generator, catalogue: Columns, truth: Columns, band: str) -> _Sky:
    """Deal out the objects with a redshift to the surveys."""
    n = len(catalogue["ra"])
    known = np.isfinite(catalogue["specz_redshift"])
    kind, sample_class = np.char.strip(truth["kind"].astype(str)), np.char.strip(catalogue["sample_class"].astype(str))
    by_lines = np.isin(sample_class, ["training", "xelg", "agn_candidate"])
    as_galaxy = (kind == "quasar") & (rng.uniform(size=n) < QUASARS_AS_GALAXIES)
    in_mpa_jhu = known & (by_lines | as_galaxy)
    in_sdss = in_mpa_jhu | (known & ((rng.uniform(size=n) < 0.6) | (kind == "quasar")))
    in_gama = known & (~in_sdss | (rng.uniform(size=n) < 0.15))
    return _Sky(
        ra=catalogue["ra"].astype(np.float64),
        dec=catalogue["dec"].astype(np.float64),
        redshift=np.nan_to_num(catalogue["specz_redshift"]).astype(np.float64),
        kind=kind,
        magnitude=truth[f"{band}_mag"].astype(np.float64),
        in_sdss=in_sdss,
        in_mpa_jhu=in_mpa_jhu,
        in_gama=in_gama,
    )


def _scattered(
    rng: np.random.Generator, sky: _Sky, rows: IntArray, sigma_arcsec: float
) -> tuple[DoubleArray, DoubleArray]:
    """RA and Dec as another telescope measured them, followed by those of sources outside the catalogue."""
    dra, ddec = rng.normal(0.0, sigma_arcsec / 3600.0, size=(2, len(rows)))
    ra = sky.ra[rows] + dra / np.cos(np.radians(sky.dec[rows]))
    # Far from the simulated tracts, which begin at RA 118 and lie near the equator.
    far_ra, far_dec = rng.uniform(10.0, 60.0, N_UNRELATED), rng.uniform(20.0, 60.0, N_UNRELATED)
    return np.concatenate([ra, far_ra]) % 360.0, np.concatenate([sky.dec[rows] + ddec, far_dec])


def _with_unrelated(values: npt.ArrayLike, fill: float) -> DoubleArray:
    return np.concatenate([np.asarray(values, np.float64), np.full(N_UNRELATED, fill)])


def _spec_obj(rng: np.random.Generator, sky: _Sky) -> tuple[Columns, IntArray]:
    """SDSS's table, and the catalogue row of each of its rows, -1 for sources outside the catalogue.

    Spectra that MPA-JHU measured come first. Some objects have a second spectrum, with a wrong redshift.
    """
    first = np.concatenate([np.flatnonzero(sky.in_mpa_jhu), np.flatnonzero(sky.in_sdss & ~sky.in_mpa_jhu)])
    repeated = first[rng.uniform(size=len(first)) < 0.04]
    rows = np.concatenate([first, repeated])
    ra, dec = _scattered(rng, sky, rows, 0.1)
    n, n_mpa_jhu = len(ra), int(np.count_nonzero(sky.in_mpa_jhu))
    is_second = np.arange(n) >= len(first)
    is_second[len(rows) :] = False
    redshift = _with_unrelated(sky.redshift[rows] + 5e-5 * rng.normal(size=len(rows)), 0.5)
    redshift = np.where(is_second, rng.uniform(0.0, 1.0, n), redshift)
    number = np.where(np.arange(n) < n_mpa_jhu, np.arange(n), np.arange(n) - n_mpa_jhu)
    plate = number // FIBRES_A_PLATE + np.where(np.arange(n) < n_mpa_jhu, FIRST_PLATE, FIRST_BOSS_PLATE)
    mjd, fibre = 51602 + plate - FIRST_PLATE, number % FIBRES_A_PLATE + 1
    is_quasar = np.isin(np.append(sky.kind[rows], np.full(N_UNRELATED, "")), ["quasar", "type1_agn"])
    columns: Columns = {
        # Text since DR8, packed as SDSS does.
        "SPECOBJID": np.array([f"{number:>22d}" for number in spec_obj_id(plate, mjd, fibre).tolist()]),
        "PLATE": plate.astype(np.int32),
        "MJD": mjd.astype(np.int32),
        "FIBERID": fibre.astype(np.int32),
        "PLUG_RA": ra,
        "PLUG_DEC": dec,
        "CLASS": np.where(is_quasar, "QSO", "GALAXY"),
        "Z": redshift.astype(np.float32),
        "Z_ERR": np.full(n, 2e-5, np.float32),
        "ZWARNING": np.where(is_second, 4, 0).astype(np.int32),
        "SPECPRIMARY": (~is_second).astype(np.int16),
    }
    return columns, np.concatenate([rows, np.full(N_UNRELATED, -1)])


def spec_obj_id(plate: IntArray, mjd: IntArray, fibre: IntArray, run2d: int = 26) -> IntArray:
    """SDSS's identifier of a spectrum: plate, fibre, MJD - 50000 and reduction from bits 50, 38, 24 and 10 on."""
    return (plate.astype(np.int64) << 50) | (fibre.astype(np.int64) << 38) | ((mjd - 50000) << 24) | (run2d << 10)


def _gama(rng: np.random.Generator, sky: _Sky) -> Columns:
    """GAMA's table. Some of its spectra give no reliable redshift."""
    first = np.flatnonzero(sky.in_gama)
    poor = np.flatnonzero(sky.in_sdss & ~sky.in_gama & (rng.uniform(size=len(sky.ra)) < 0.03))
    rows = np.concatenate([first, poor])
    ra, dec = _scattered(rng, sky, rows, 0.15)
    is_poor = _with_unrelated(np.arange(len(rows)) >= len(first), 0.0) > 0
    redshift = _with_unrelated(sky.redshift[rows] + 1e-4 * rng.normal(size=len(rows)), 0.4)
    return {
        "SPECID": np.array([f"G{number:08d}" for number in range(len(ra))]),
        "SURVEY": np.full(len(ra), "GAMA"),
        "RA": ra,
        "DEC": dec,
        "Z": np.where(is_poor, rng.uniform(0.0, 0.6, len(ra)), redshift).astype(np.float32),
        "NQ": np.where(is_poor, rng.integers(1, 3, len(ra)), rng.integers(3, 5, len(ra))).astype(np.int16),
    }


def _mpa_jhu(
    rng: np.random.Generator, sky: _Sky, truth: Columns, spectra: Columns, rows: IntArray
) -> tuple[Columns, Columns, Columns]:
    """galSpecInfo, galSpecLine and galSpecExtra, in the order of specObj; -1 and -9999 where nothing was measured."""
    n, n_measured = len(rows), int(np.count_nonzero(sky.in_mpa_jhu))
    measured = np.arange(n) < n_measured
    chosen = rows[:n_measured]
    ids = np.where(measured, np.char.strip(spectra["SPECOBJID"]).astype(np.int64), -1)

    def filled(values: npt.NDArray[np.generic], fill: float) -> npt.NDArray[np.generic]:
        result = np.full(n, fill, values.dtype)
        result[:n_measured] = values
        return result

    info: Columns = {
        "SPECOBJID": ids,
        "PLATEID": np.where(measured, spectra["PLATE"], -1).astype(np.int16),
        "MJD": np.where(measured, spectra["MJD"], -1).astype(np.int32),
        "FIBERID": np.where(measured, spectra["FIBERID"], -1).astype(np.int16),
        # Single precision, as published: 0.03 arcsec at RA 180.
        "RA": np.where(measured, spectra["PLUG_RA"], MISSING).astype(np.float32),
        "DEC": np.where(measured, spectra["PLUG_DEC"], MISSING).astype(np.float32),
        "Z": np.where(measured, spectra["Z"], MISSING).astype(np.float32),
        "Z_WARNING": np.zeros(n, np.int16),
        "RELIABLE": (measured & (rng.uniform(size=n) >= 0.01)).astype(np.int16),
    }
    line: Columns = {"SPECOBJID": ids}
    for name, values in _line_columns(rng, sky, truth, chosen).items():
        line[name] = filled(values, 0.0 if name.endswith("EQW") else -1.0)
    extra: Columns = {"SPECOBJID": ids, "BPTCLASS": filled(_bptclass(rng, sky, truth, chosen), -1)}
    for name, values in _masses_and_rates(rng, sky, truth, chosen).items():
        extra[name] = filled(values, MISSING)
    return info, line, extra


def _line_columns(rng: np.random.Generator, sky: _Sky, truth: Columns, rows: IntArray) -> Columns:
    """Equivalent widths, negative for emission, and their errors, of catalogue rows."""
    error = 0.4 * 10.0 ** (0.15 * (sky.magnitude[rows] - 17.5))
    broad = np.isin(sky.kind[rows], ["quasar", "type1_agn"]) & (rng.uniform(size=len(rows)) < 0.5)
    strength = rng.uniform(150.0, 800.0, len(rows))
    columns: Columns = {}
    for name, line in LINES.items():
        width = line.share * truth[f"ew_{line.group}"][rows] + error * rng.normal(size=len(rows))
        width = np.where(broad, width + BROKEN_FIT.get(name, 0.0) * strength, width)
        # Bad pixels or sky under the line.
        masked = rng.uniform(size=len(rows)) < 0.008
        columns[f"{name.upper()}_EQW"] = np.where(masked, 0.0, -width).astype(np.float32)
        columns[f"{name.upper()}_EQW_ERR"] = np.where(masked, -1.0, error).astype(np.float32)
    return columns


def _bptclass(rng: np.random.Generator, sky: _Sky, truth: Columns, rows: IntArray) -> npt.NDArray[np.int16]:
    """1 star-forming, 2 star-forming with low S/N, 3 composite, 4 AGN, 5 low ionisation, -1 unclassified."""
    kind, width, dice = sky.kind[rows], truth["ew_ha_nii"][rows], rng.uniform(size=len(rows))
    forming = np.select([width > 12.0, width > 5.0], [1, 2], -1)
    ordinary = np.where(dice < 0.08, 3, np.where((dice < 0.15) & (truth["young_fraction"][rows] < 0.3), 5, forming))
    active = np.isin(kind, ["type2_agn", "type1_agn"])
    chosen = [kind == "xelg", active & (dice < 0.25) & (kind == "type2_agn"), active, (kind == "quasar") & (dice < 0.6)]
    return np.select(chosen, [1, 3, 4, 4], ordinary).astype(np.int16)


def _masses_and_rates(rng: np.random.Generator, sky: _Sky, truth: Columns, rows: IntArray) -> Columns:
    """Percentiles of log10 of stellar mass and star formation rate, of catalogue rows.

    Masses are from light and colour, log M = 1.15 + 0.70 (g - i) - 0.4 M_i (Taylor et al. 2011). Rates scatter about
    the main sequence, log SFR = 0.76 log M - 7.64 (Renzini and Peng 2015); red galaxies lie below it, starbursts above.
    """
    n, z, young = len(rows), sky.redshift[rows], truth["young_fraction"][rows]
    # c z / H0 with H0 = 70 km/s/Mpc and the deceleration of Omega_m = 0.3, good to 1% at z < 0.4.
    distance_pc = 299792.458 / 70.0 * 1e6 * z * (1.0 + 0.775 * z)
    stars = sky.magnitude[rows] - 2.5 * np.log10(1.0 - truth["nucleus_fraction"][rows])
    colour = 1.15 - 0.75 * young
    mass = 1.15 + 0.70 * colour - 0.4 * (stars - 5.0 * np.log10(distance_pc / 10.0)) + rng.normal(0.0, 0.1, n)
    offset = np.where(young < 0.3, rng.normal(-1.3, 0.35, n), rng.normal(0.0, 0.3, n))
    rate = 0.76 * mass - 7.64 + offset + np.where(sky.kind[rows] == "xelg", 0.6, 0.0)
    columns: Columns = {}
    for name, values, error in (("LGM_TOT", mass, 0.1), ("SFR_TOT", rate, 0.25)):
        median = values + rng.normal(0.0, error / 2.0, n)
        known = rng.uniform(size=n) >= 0.03
        for percentile, shift in (("P16", -error), ("P50", 0.0), ("P84", error)):
            columns[f"{name}_{percentile}"] = np.where(known, median + shift, MISSING).astype(np.float32)
    return columns


def _dr16q(rng: np.random.Generator, sky: _Sky, truth: Columns) -> Columns:
    """DR16Q: the half of the quasars with the brighter nuclei, and quasars elsewhere."""
    quasars = np.flatnonzero((sky.kind == "quasar") & sky.in_sdss)
    nucleus = sky.magnitude[quasars] - 2.5 * np.log10(truth["nucleus_fraction"][quasars])
    bright = quasars[np.sort(np.argsort(nucleus, kind="stable")[: (len(quasars) + 1) // 2])]
    ra, dec = _scattered(rng, sky, bright, 0.1)
    n = len(ra)
    return {
        "SDSS_NAME": np.array([f"SIM{number:015d}" for number in range(n)]),
        "RA": ra,
        "DEC": dec,
        "PLATE": (7000 + np.arange(n) // 1000).astype(np.int32),
        "MJD": np.full(n, 56700, np.int32),
        "FIBERID": (np.arange(n) % 1000 + 1).astype(np.int16),
        "Z": _with_unrelated(sky.redshift[bright] + 5e-4 * rng.normal(size=len(bright)), 1.5),
    }


def _milliquas(rng: np.random.Generator, sky: _Sky) -> Columns:
    """Milliquas: quasars Q, type-I nuclei A, type-II nuclei N or K with a few normal galaxies, and candidates."""
    n, dice = len(sky.ra), rng.uniform(size=len(sky.ra))
    normal = sky.kind == "normal"
    letters = np.select(
        [
            sky.kind == "quasar",
            (sky.kind == "type1_agn") & (dice < TYPE1_IN_MILLIQUAS),
            (sky.kind == "type2_agn") & (dice < 0.02),
            (sky.kind == "type2_agn") & (dice < TYPE2_IN_MILLIQUAS),
            normal & (dice < NORMAL_AS_TYPE2),
            normal & (dice < 0.0045),
            normal & (dice < 0.005),
        ],
        ["Q", "A", "K", "N", "N", "B", "q"],
        "",
    )
    rows = np.flatnonzero(letters != "")
    # Further letters name associated radio and X-ray sources.
    associated = np.where(rng.uniform(size=n) < 0.2, "X", "")[rows]
    ra, dec = _scattered(rng, sky, rows, 0.2)
    total = len(ra)
    return {
        "RA": ra,
        "DEC": dec,
        "NAME": np.array([f"SIM M{number:09d}" for number in range(total)]),
        "TYPE": np.append(np.char.add(letters[rows], associated), np.full(N_UNRELATED, "Q")),
        "Z": _with_unrelated(np.round(sky.redshift[rows], 3), 1.2),
    }
