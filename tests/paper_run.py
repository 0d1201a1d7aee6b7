"""A small simulated run for the paper's figures, with spectroscopic counterparts and weight sets from its truth."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from astropy.table import Table
from small_networks import build_on_one_thread
from survey_runs import NETWORK, make_survey, run_serially, write_job

from swimmy_scale.method.emission_lines import throughput
from swimmy_scale.method.network import Network
from swimmy_scale.model.files import save
from swimmy_scale.storage.counterparts import Counterparts, write_counterparts

# Spectra that the tests may have: plate, MJD, fibre, and their redshifts.
SPECTRA = ((266, 51602, 107, 0.12314858), (332, 52367, 639, 0.10060976))
MILLIQUAS = {"quasar": "quasar", "type1_agn": "type1_agn", "type2_agn": "type2_agn"}
LINES = {"oii": 3727.4, "hb_oiii": 5006.8, "ha_nii": 6562.8}


def counterparts(survey: Path) -> Table:
    """A table with the columns of ``counterparts.fits``, one row an object with a redshift, by object_id."""
    truth = Table.read(survey / "truth.fits")
    truth.sort("object_id")
    truth = truth[np.append(True, np.diff(truth["object_id"]) > 0)]  # planted duplicates
    kind, z = np.asarray(truth["kind"]).astype(str), np.asarray(truth["redshift"], np.float64)
    widths = {name: np.asarray(truth[f"ew_{name}"], np.float32) for name in LINES}
    n = len(truth)
    rng = np.random.default_rng(5)
    is_mpa_jhu = rng.uniform(size=n) < 0.8
    mag, young = np.asarray(truth["r_mag"], np.float64), np.asarray(truth["young_fraction"], np.float64)
    mass = 10.5 - 0.4 * (mag - 17.5) - 0.6 * young + 0.1 * rng.normal(size=n)
    sfr = 0.76 * mass - 7.64 - 1.5 * (1 - young) ** 2 + 0.2 * rng.normal(size=n)
    columns = {
        "object_id": np.asarray(truth["object_id"], np.int64),
        "redshift": z,
        "redshift_source": np.where(is_mpa_jhu, "SDSS", "GAMA"),
        **{name: np.full(n, -1, np.int32) for name in ("plate", "mjd", "fiberid")},
        "sample_class": np.where(kind == "quasar", "quasar", np.where(kind == "xelg", "xelg", "other")),
        "is_mpa_jhu": is_mpa_jhu,
        "is_xelg": np.any([width > 100 for width in widths.values()], axis=0),
        "is_quasar": kind == "quasar",
        "is_agn_candidate": np.char.startswith(kind, "type"),
        "bptclass": np.where(np.char.startswith(kind, "type"), 4, 1).astype(np.int16),
        "milliquas_type": np.array([MILLIQUAS.get(name, "") for name in kind]),
        **{f"ew_{name}": width for name, width in widths.items()},
        "ew_neiii": np.full(n, np.nan, np.float32),
        "ew_sii": np.full(n, np.nan, np.float32),
    }
    for band in "grizy":
        parts = [widths[name] * throughput(band, rest * (1 + z)) for name, rest in LINES.items()]
        columns[f"ew_band_{band}"] = np.where(is_mpa_jhu, np.sum(parts, axis=0), np.nan).astype(np.float32)
    columns["log_stellar_mass"] = np.where(is_mpa_jhu, mass, np.nan).astype(np.float32)
    columns["log_sfr"] = np.where(is_mpa_jhu, sfr, np.nan).astype(np.float32)
    return Table(columns)


def weight_sets(n_runs: int = 4, epochs: range = range(10, 26)) -> Table:
    """A table with the columns of ``weight_sets.ecsv``."""
    rng = np.random.default_rng(7)
    run, epoch = (grid.ravel() for grid in np.meshgrid(np.arange(n_runs), np.array(epochs), indexing="ij"))
    loss = 4e-4 + 5e-4 / (epoch - 8) + 2e-5 * rng.normal(size=run.size) + 3e-5 * run
    quasar, xelg = (base + 0.1 * rng.normal(size=run.size) for base in (0.5, 0.6))
    names = [f"run-{a:02d}/epoch-{b:02d}.keras" for a, b in zip(run, epoch, strict=True)]
    return Table({"run": run, "epoch": epoch, "file": names, "loss": loss, "val_loss": 1.1 * loss,
                  "r_sel_quasar": quasar, "r_sel_xelg": xelg, "r_sel_sum": quasar + xelg},
                 meta={"format_version": 1})  # fmt: skip


def add_counterparts(run: Path, survey: Path, spectra_of: tuple[int, ...] = ()) -> None:
    """Write both tables into a run directory; some objects, by object_id, get the spectra."""
    table = counterparts(survey)
    for object_id, (plate, mjd, fiber, redshift) in zip(spectra_of, SPECTRA, strict=False):
        row = int(np.flatnonzero(table["object_id"] == object_id)[0])
        table["plate"][row], table["mjd"][row], table["fiberid"][row] = plate, mjd, fiber
        table["redshift"][row] = redshift
    columns = {name: np.asarray(table[name]) for name in table.colnames}
    write_counterparts(run / "counterparts.fits", Counterparts(**columns))
    (run / "models").mkdir(exist_ok=True)
    weight_sets().write(run / "models" / "weight_sets.ecsv", format="ascii.ecsv", overwrite=True)


def make_model(path: Path) -> str:
    """Weights that reconstruct every cutout as nearly the same grey, brightest in r; returns the file's SHA-256.

    What is bright in its middle scores high; in r some of what is faint there does as well, with a negative residual.
    """
    model = build_on_one_thread(Network(encoder_filters=(8, 8), latent_filters=4), seed=1)
    kernel, bias = model.layers[-1].get_weights()
    model.layers[-1].set_weights([0.3 * kernel, np.log(np.array([0.25, 0.75, 0.5, 0.45, 0.4], np.float32)) + 0 * bias])
    return save(model, path)


def make_run(folder: Path, n_objects: int = 200) -> Path:
    """A finished run without counterparts; its levels are low, so that a small sample has candidates at all of them."""
    survey = make_survey(folder / "survey", n_objects, faulty_fraction=0.02)
    weights = folder / "weights.keras"
    model = {"path": str(weights), "sha256": make_model(weights), "network": NETWORK}
    storage = {"partition_objects": 128, "chunk_objects": 64}
    job = write_job(folder / "job.yaml", survey, storage=storage, train=None, model=model)
    levels = "select: {levels: {2sigma: 0.2, 3sigma: 0.05, 3.5sigma: 0.02}}\n"
    job.write_text(job.read_text() + levels)
    run_serially(job, folder / "run")
    return folder / "run"
