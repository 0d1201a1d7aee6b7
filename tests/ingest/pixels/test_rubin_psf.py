"""Cutouts of Rubin's data previews: images in nJy, masks, and the PSF in those of DP2 (package lsst-images)."""

from __future__ import annotations

import math
import sys
import types
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray
from astropy.table import Table
from public_fits import galaxy, round_psf, rubin_exposure, write_rubin_cells

from swimmy_scale.errors import SwimmyError
from swimmy_scale.ingest.pixels import rubin_psf
from swimmy_scale.ingest.pixels.sources import build_index, list_source, read_rows
from swimmy_scale.method.sections import CatalogueSource, IngestSection, StorageSection
from swimmy_scale.method.survey import Survey
from swimmy_scale.stages import deliveries
from swimmy_scale.stages.engine import SerialExecutor, Silent, run_stage
from swimmy_scale.stages.ingest import IngestStage
from swimmy_scale.storage.cutouts import Cutouts
from swimmy_scale.storage.receipts import Ledger

BANDS, N_PX, X0, Y0 = "gri", 90, 3000, 5000
RUBIN = Survey(
    bands=tuple(BANDS),
    band_divisors=(1.0,) * 3,
    min_depth_mag=(math.nan,) * 3,
    pixel_scale_arcsec=0.2,
    zero_point_mag=31.4,
)
IDS, RAS, DECS = np.array([500001, 500002]), np.array([150.1, 150.2]), np.array([2.2, 2.3])
PER_SIGMA = 2.0 * math.sqrt(2.0 * math.log(2.0))


def exposure(row: int, band: int, saturated: bool = False, **primary: object) -> bytes:
    """An ExposureF of DP1 of an object and band."""
    return rubin_exposure(RAS[row], DECS[row], galaxy(row, band, N_PX, N_PX), saturated, (X0, Y0), **primary)


def write_exposure(**primary: object) -> Callable[[int, int, Path], None]:
    def write(row: int, band: int, path: Path) -> None:
        path.write_bytes(exposure(row, band, **primary))

    return write


def read(
    folder: Path,
    write: Callable[[int, int, Path], None],
    reads_psf: bool = True,
    masked: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray, list[str], list[str]]:
    """Pixels and FWHM of two objects, reasons and notes."""
    for row in range(2):
        for band, name in enumerate(BANDS):
            write(row, band, folder / f"{IDS[row]}_{name}.fits")
    index = replace(build_index([list_source(folder, RUBIN)], IDS, RAS, DECS, RUBIN), reads_psf=reads_psf)
    fwhm = np.zeros((2, 3), np.float32)
    image, faults, notes, _ = read_rows(index, 0, IDS, RAS, DECS, RUBIN, None, None, masked, fwhm)
    return image, fwhm, [fault.reason for fault in faults], notes


WANTED = np.array([[galaxy(row, band, N_PX, N_PX)[13:77, 13:77] for band in range(3)] for row in range(2)])


def test_exposures_of_dp1(tmp_path: Path) -> None:
    """Read as they are; their PSF is left to the catalogue, and their masks are used."""

    def write(row: int, band: int, path: Path) -> None:
        path.write_bytes(exposure(row, band, saturated=(row, band) == (1, 2)))

    masked = np.zeros(2, np.bool_)
    image, fwhm, faults, notes = read(tmp_path, write, masked=masked)
    assert (faults, notes, masked.tolist()) == ([], [], [False, True])
    np.testing.assert_array_equal(image, WANTED)
    assert np.isnan(fwhm).all()


def stand_in(monkeypatch: pytest.MonkeyPatch, compute: Callable[..., Any]) -> None:
    """In place of lsst-images."""

    class Reader:
        def __init__(self, stream: Any) -> None:
            assert stream.read(9) == b"SIMPLE  ="

        def __enter__(self) -> Reader:
            return self

        def __exit__(self, *error: object) -> None:
            pass

        def get_component(self, name: str) -> Any:
            assert name == "psf"
            return types.SimpleNamespace(compute_kernel_image=compute)

    for name in ("lsst", "lsst.images"):
        monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
    module = types.ModuleType("lsst.images.serialization")
    module.open_archive = Reader  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "lsst.images.serialization", module)


def test_where_the_psf_is_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the middle of the cutout, in pixels of the tract; its width is in arcsec."""
    asked = []

    def compute(*, x: float, y: float) -> Any:
        asked.append((x, y))
        return types.SimpleNamespace(array=round_psf(2.0))

    stand_in(monkeypatch, compute)
    write = write_exposure(JSONADDR=1)
    _, fwhm, faults, notes = read(tmp_path, write)
    assert (faults, notes) == ([], [])
    assert set(asked) == {(X0 + 44.5, Y0 + 44.5)}
    np.testing.assert_allclose(fwhm, 0.2 * PER_SIGMA * 2.0, rtol=1e-4)
    assert np.isnan(read(tmp_path, write, reads_psf=False)[1]).all()


@pytest.mark.parametrize(
    ("kernel_image", "reason"),
    [(np.zeros((5, 5)), "its PSF has no width"), (None, "reading it fails with RuntimeError: no piff here")],
)
def test_a_psf_that_cannot_be_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kernel_image: np.ndarray | None, reason: str
) -> None:
    """The pixels are read; the width is left to the catalogue, and that is said."""

    def compute(*, x: float, y: float) -> Any:
        if kernel_image is None:
            raise RuntimeError("no piff here")
        return types.SimpleNamespace(array=kernel_image)

    stand_in(monkeypatch, compute)
    image, fwhm, faults, notes = read(tmp_path, write_exposure(JSONADDR=1))
    assert faults == []
    np.testing.assert_array_equal(image, WANTED)
    assert np.isnan(fwhm).all()
    assert len(notes) == 1
    assert "6 files have a PSF that is not used" in notes[0]
    assert reason in notes[0]


def test_without_the_library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rubin_psf.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(SwimmyError, match=r"needs the package lsst-images, .* pip install \"swimmy-scale\[rubin\]\""):
        rubin_psf.check_library()


def test_true_files_of_dp2(tmp_path: Path) -> None:
    """Cells of a coadd, each with its own PSF, and a mask, as lsst-images writes them."""
    pytest.importorskip("lsst.images")

    def write(row: int, band: int, path: Path) -> None:
        sigma_px = 2.0 + 0.1 * band + np.where(np.eye(9)[4], 0.0, 1.0).reshape(3, 3)
        saturated = np.hypot(*(np.indices((N_PX, N_PX)) - 44)) < 2 if (row, band) == (0, 1) else None
        write_rubin_cells(
            path, RAS[row], DECS[row], galaxy(row, band, N_PX, N_PX), BANDS[band], sigma_px, saturated, (X0, Y0)
        )

    masked = np.zeros(2, np.bool_)
    image, fwhm, faults, notes = read(tmp_path, write, masked=masked)
    assert (faults, notes, masked.tolist()) == ([], [], [True, False])
    np.testing.assert_array_equal(image, WANTED)
    # The middle lies in the middle cell.
    np.testing.assert_allclose(fwhm, [[0.2 * PER_SIGMA * (2.0 + 0.1 * band) for band in range(3)]] * 2, rtol=1e-4)


def test_ingest_with_the_psf_of_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An object whose catalogue and files have no FWHM, or one above the target, goes to quarantine."""
    stand_in(monkeypatch, lambda *, x, y: types.SimpleNamespace(array=round_psf(2.0)))
    monkeypatch.setattr(rubin_psf, "check_library", lambda: None)
    monkeypatch.setattr(deliveries, "check_library", lambda: None)
    (tmp_path / "cutouts").mkdir()
    for row in range(2):
        for band, name in enumerate(BANDS):
            marked = {"JSONADDR": 1} if row == 0 or name == "g" else {}
            (tmp_path / "cutouts" / f"{IDS[row]}_{name}.fits").write_bytes(exposure(row, band, **marked))
    known = [[0.7, np.nan, np.nan], [np.nan, np.nan, 0.9]]
    columns = {f"fwhm_arcsec_{band}": np.array(known)[:, k] for k, band in enumerate(BANDS)}
    Table({"object_id": IDS, "ra": RAS, "dec": DECS, **columns}).write(tmp_path / "catalogue.fits")
    sources = IngestSection(sources=(tmp_path / "cutouts",), psf_from_files=True)
    ledger = Ledger(tmp_path / "receipts", tmp_path, "ingest")
    catalogue = CatalogueSource(tmp_path / "catalogue.fits")
    stage = IngestStage(ledger, tmp_path / "cutouts.zarr", RUBIN, catalogue, sources, StorageSection())
    done = run_stage(stage, SerialExecutor(), Silent())
    store = Cutouts(tmp_path / "cutouts.zarr")
    measured = 0.2 * PER_SIGMA * 2.0
    with xarray.open_zarr(store.path) as opened:
        wanted = [[0.7, measured, measured], [measured, np.nan, 0.9]]
        np.testing.assert_allclose(opened.fwhm_arcsec.values, wanted, rtol=1e-4)
        assert (opened.quarantine_code.values != 0).tolist() == [False, True]
    assert done.details["n_quarantined"] == 1
    assert done.details["warnings"]["an object has the FWHM of the PSF in its files"] == 2
