"""Cutout services from their files to candidates: each with an object that is damaged, and one survey's own network."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import xarray
import yaml
from astropy.table import Table
from public_files import write_cutana
from public_fits import galaxy, legacy_cutout, panstarrs, rubin_exposure
from survey_runs import NETWORK, run_serially, verify

from swimmy_scale.method.network import Network
from swimmy_scale.method.object_names import object_number

pytestmark = pytest.mark.slow
N, DAMAGED, SECONDS = 5, 3, {"g": 430.0, "r": 860.0, "i": 1000.0, "z": 560.0, "y": 720.0}
IDS = np.arange(N) + 43158172147386000
RA, DEC = 150.0 + 0.01 * np.arange(N), np.full(N, 2.0)
FLUX = np.random.default_rng(3).uniform(5, 40, (N, 6))


def images(n_bands: int, n_y: int, n_x: int, unit: float = 1.0) -> np.ndarray:
    """Galaxies whose brightness differs from object to object and band to band: float32 (object, band, y, x)."""
    return np.array(
        [[galaxy(row, k, n_y, n_x) * FLUX[row, k] * unit for k in range(n_bands)] for row in range(N)], np.float32
    )


class Delivered(NamedTuple):
    """What a service delivered: counts that are expected, ids, and what a job says of it."""

    counts: np.ndarray
    object_id: np.ndarray
    job: dict[str, Any]
    masked: int | None = None


def with_catalogue(folder: Path, survey: str, bands: str, counts: np.ndarray, masked: int | None = None) -> Delivered:
    """The same with a catalogue beside the folder ``cutouts``, in another order."""
    columns = {"object_id": IDS[::-1], "ra": RA[::-1], "dec": DEC[::-1]}
    columns |= {f"fwhm_arcsec_{band}": np.full(N, 1.1) for band in bands}
    columns |= {f"{band}_cmodel_mag": np.linspace(17, 19, N) for band in bands}
    Table(columns).write(folder / "catalogue.fits")
    job = {"survey": survey, "catalogue": {"path": "catalogue.fits"}, "ingest": {"sources": ["cutouts"]}}
    return Delivered(counts[::-1], IDS[::-1], job, None if masked is None else N - 1 - masked)


def write_panstarrs(folder: Path) -> Delivered:
    pixels = images(5, 80, 80, 1000.0)
    for row in range(N):
        for k, band in enumerate("grizy"):
            data = panstarrs(RA[row], DEC[row], pixels[row, k], SECONDS[band])
            cut = len(data) // 2 if (row, band) == (DAMAGED, "i") else len(data)
            (folder / "cutouts" / f"{IDS[row]}_{band}.fits").write_bytes(data[:cut])
    counts = pixels[:, :, 8:72, 8:72] / np.array(list(SECONDS.values()))[:, None, None]
    return with_catalogue(folder, "panstarrs", "grizy", counts)


def write_legacy(folder: Path) -> Delivered:
    pixels = images(4, 100, 100)
    for row in range(N):
        data = legacy_cutout(RA[row], DEC[row], pixels[row], "griz")
        data = data.replace(b"'griz    '", b"'grxz    '") if row == DAMAGED else data
        (folder / "cutouts" / f"cutout_{RA[row]:.4f}_{DEC[row]:.4f}.fits").write_bytes(data)
    return with_catalogue(folder, "legacy-south", "griz", pixels[:, :, 18:82, 18:82])


def write_dp1(folder: Path) -> Delivered:
    pixels = images(6, 66, 66, 100.0)
    for row in range(N):
        for k, band in enumerate("ugrizy"):
            data = rubin_exposure(RA[row], DEC[row], pixels[row, k], saturated=(row, band) == (1, "z"))
            cut = len(data) - 9000 if (row, band) == (DAMAGED, "u") else len(data)
            (folder / "cutouts" / f"{IDS[row]}_{band}.fits").write_bytes(data[:cut])
    return with_catalogue(folder, "rubin", "ugrizy", pixels[:, :, 1:65, 1:65], masked=1)


def write_batches(folder: Path) -> Delivered:
    """Cutana's catalogue is inside, and its ids are names; pixels are in Jy, and the survey's counts in microjansky."""
    pixels, names = images(4, 80, 78, 1e-6), [f"TILE_102018666_{row}" for row in range(N)]
    pixels[DAMAGED, 2, 40, 40] = np.nan
    for number, rows in enumerate((range(3), range(3, N))):
        part = slice(rows.start, rows.stop)
        columns = {"source_id": names[part], "ra": RA[part], "dec": DEC[part]}
        write_cutana(folder / "cutouts", number, pixels[part], columns)
    fwhm = dict.fromkeys(("VIS", "Y", "J", "H"), 0.4)
    job = {"survey": "euclid", "catalogue": {"fwhm_arcsec": fwhm}, "ingest": {"sources": ["cutouts"]}}
    return Delivered(1e6 * pixels[:, :, 8:72, 7:71], np.array([object_number(name) for name in names]), job)


@pytest.fixture(scope="module")
def untrained(tmp_path_factory: pytest.TempPathFactory) -> Callable[[int], dict[str, Any]]:
    """The section ``model`` of a job for so many bands, with weights that were never trained."""
    from small_networks import build_on_one_thread  # Keras takes seconds to load

    from swimmy_scale.model.files import save

    folder = tmp_path_factory.mktemp("models")

    def section(n_bands: int) -> dict[str, Any]:
        path = folder / f"{n_bands}.keras"
        digest = save(build_on_one_thread(Network(n_bands=n_bands, encoder_filters=(8, 8), latent_filters=4), 3), path)
        return {"path": str(path), "sha256": digest, "network": NETWORK}

    return section


@pytest.mark.parametrize("write", [write_panstarrs, write_legacy, write_dp1, write_batches])
def test_from_files_to_candidates(
    tmp_path: Path, write: Callable[[Path], Delivered], untrained: Callable[[int], dict[str, Any]]
) -> None:
    (tmp_path / "cutouts").mkdir()
    given = write(tmp_path)
    content = {
        "sample": {"colours": [], "max_fwhm_arcsec": None},
        "select": {"levels": {"2sigma": 0.4}},
        "storage": {"partition_objects": 4, "chunk_objects": 2},
        "model": untrained(given.counts.shape[1]),
        **given.job,
    }
    (tmp_path / "job.yaml").write_text(yaml.safe_dump(content))
    summary, _ = run_serially(tmp_path / "job.yaml", tmp_path / "run")
    n_sample = N - 1 - (given.masked is not None)
    counts = [summary[name] for name in ("given", "scored", "quarantined", "in_sample")]
    assert counts == [N, N - 1, 1, n_sample]
    usable = np.isfinite(given.counts).all(axis=(1, 2, 3)) & (given.object_id != IDS[DAMAGED])
    with xarray.open_zarr(tmp_path / "run" / "cutouts.zarr") as store:
        assert store.object_id.values.tolist() == given.object_id.tolist()
        assert (store.quarantine_code.values == 0).tolist() == usable.tolist()
        wanted = given.counts[usable]
        np.testing.assert_allclose(store.image.values[usable], wanted, rtol=2e-6, atol=2e-6 * wanted.max())
        meanings = store["flags"].attrs["flag_meanings"].split()
        masked = store["flags"].values & (1 << meanings.index("masked_center")) != 0
        assert np.flatnonzero(masked).tolist() == ([] if given.masked is None else [given.masked])
    candidates = set(Table.read(tmp_path / "run" / "candidates.fits")["object_id"].tolist())
    assert candidates
    assert candidates <= set(given.object_id[usable & ~masked].tolist())
    assert [cut["name"] for cut in summary["cuts"] if cut["name"] == "masked_center"] == [
        "masked_center"
    ] * masked.sum()
    assert verify(tmp_path / "run") == []
