"""The simulated survey: the same bytes always, files as the archive's, and physics that others can measure."""

from __future__ import annotations

import collections
import gzip
import hashlib
import io
import re
import tarfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy.io import fits
from astropy.table import Table
from astropy.wcs import WCS

from swimmy_scale.errors import SwimmyError
from swimmy_scale.ingest.catalogue import read_catalogue
from swimmy_scale.ingest.sources import build_index, expand_sources, list_source, read_rows
from swimmy_scale.job import CatalogueSource
from swimmy_scale.quarantine import merge_faults
from swimmy_scale.simulate import SimulationPlan, finish, plan_parts, simulate, write_part
from swimmy_scale.simulate.sky import pixel_noise, psf_area_px
from swimmy_scale.simulate.spectra import (
    FILTERS,
    TYPE_YOUNG_FRACTION,
    continuum,
    effective_wavelength,
    line_flux,
    stellar_flux,
)
from swimmy_scale.survey import HSC

PLAN = SimulationPlan(n_objects=300, seed=11, faulty_fraction=0.05, n_objects_per_tar=100)
ARCHIVE_NAME = re.compile(r"arch-[\d-]+/(\d+)-cutout-HSC-([GRIZY])-(\d+)-pdr3_wide\.fits")
SAVED_NAME = re.compile(r"(\d+)_coadd_([\d.]+)_([-+\d.]+)_(\d+)_HSC-([GRIZY])\.fits")


@pytest.fixture(scope="module")
def survey(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("simulated") / "survey"
    simulate(str(folder), PLAN)
    return folder


@pytest.fixture(scope="module")
def catalogue(survey: Path) -> Table:
    return Table.read(survey / "catalogue.fits")


@pytest.fixture(scope="module")
def truth(survey: Path) -> Table:
    return Table.read(survey / "truth.fits")


def files_of(survey: Path) -> Iterator[tuple[int, str, bytes]]:
    """(line, band, bytes) of every cutout file, by the names alone."""
    for path in sorted((survey / "cutouts").rglob("*")):
        if tarfile.is_tarfile(path) if path.is_file() and ".tar" in path.name else False:
            with tarfile.open(path) as tar:
                for member in tar:
                    match = ARCHIVE_NAME.fullmatch(member.name)
                    stream = tar.extractfile(member)
                    assert match, member.name
                    assert stream is not None
                    yield int(match[1]), match[2].lower(), stream.read()
        elif path.is_file():
            match = SAVED_NAME.fullmatch(path.name)
            assert match, path.name
            yield int(match[1]), match[5].lower(), path.read_bytes()


@pytest.fixture(scope="module")
def cutouts(survey: Path) -> dict[tuple[int, str], bytes]:
    return {(line, band): data for line, band, data in files_of(survey)}


def sound(truth: Table, *kinds: str) -> np.ndarray:
    """Rows without a fault, of some kinds."""
    rows = np.flatnonzero(np.asarray(truth["fault"]).astype(str) == "")
    return np.array([row for row in rows if not kinds or str(truth["kind"][row]) in kinds])


def digest(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


# ---------------------------------------------------------------- determinism


def test_parts_in_any_order_give_the_same_bytes(survey: Path, tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    receipts = [write_part(str(tmp_path / "b"), PLAN, part) for part in reversed(range(len(plan_parts(PLAN))))]
    finish(str(tmp_path / "b"), PLAN, receipts)
    one, other = digest(survey), digest(tmp_path / "b")
    assert {name for name in one if one[name] != other.get(name)} <= {"simulation.json"}
    assert one.keys() == other.keys()


def test_parts_cover_every_object() -> None:
    assert [row for part in plan_parts(PLAN) for row in part] == list(range(300))


def test_a_finished_survey_is_left_alone(survey: Path) -> None:
    def forbidden(*arguments: Any) -> Any:
        raise AssertionError("nothing is to be done")

    assert simulate(str(survey), PLAN, forbidden).n_objects == 300
    with pytest.raises(SwimmyError, match="holds a simulated survey of another plan"):
        simulate(str(survey), replace(PLAN, seed=12))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"n_objects": 0}, "n_objects 0 must be 1 or above"),
        ({"seed": -1}, "seed -1 must be 0 or above"),
        ({"faulty_fraction": 1.5}, "faulty_fraction 1.5 must be between 0 and 1"),
        ({"xelg_fraction": 0.9, "quasar_fraction": 0.2}, "must not exceed 1"),
    ],
)
def test_impossible_plans_are_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(SwimmyError, match=message):
        replace(PLAN, **change)


# ---------------------------------------------------------------- files


def test_every_form_is_there(survey: Path) -> None:
    names = [path.name for path in (survey / "cutouts").iterdir()]
    assert "saved" in names
    assert sum(name.endswith((".tar.gz", ".tgz")) for name in names) == 1
    assert sum(name.endswith(".tar") for name in names) == 1
    (packed,) = (path for path in (survey / "cutouts").iterdir() if path.name.endswith("gz"))
    assert packed.read_bytes()[4:8] == bytes(4), "a gzip time would change the bytes"
    with tarfile.open(fileobj=io.BytesIO(gzip.decompress(packed.read_bytes()))) as tar:
        assert tar.next() is not None


def test_sound_files_are_valid_and_centred(
    cutouts: dict[tuple[int, str], bytes], catalogue: Table, truth: Table
) -> None:
    shapes = collections.Counter[tuple[int, int]]()
    for row in sound(truth):
        for band in HSC.bands:
            with fits.open(io.BytesIO(cutouts[row + 2, band])) as hdulist:
                hdulist.verify("exception")
                header, image = hdulist[0].header, hdulist[1]
                assert header["FLUXMAG0"] == pytest.approx(10 ** (0.4 * 27))
                assert header["SIMULATE"] is True
                assert image.header["EXTTYPE"] == "IMAGE"
                ny, nx = image.data.shape
                shapes[ny, nx] += 1
                x, y = WCS(image.header).all_world2pix(catalogue["ra"][row], catalogue["dec"][row], 0)
                assert abs(x - (nx - 1) / 2) <= 1.01
                assert abs(y - (ny - 1) / 2) <= 1.01
                if (ny, nx) == (64, 64):
                    assert max(abs(x - 31.5), abs(y - 31.5)) <= 0.51
    assert shapes[64, 64] > 0.9 * shapes.total()
    assert len(shapes) > 1
    assert max(max(shape) for shape in shapes) == 65


def test_ingest_finds_every_planted_fault_and_no_other(survey: Path, truth: Table) -> None:
    source = CatalogueSource(survey / "catalogue.fits", patch_qa=survey / "patch_qa.fits")
    objects = read_catalogue(source, HSC)
    assert objects.simulated
    listings = [list_source(path, HSC) for path in expand_sources([survey / "cutouts"])]
    index = build_index(listings, objects.object_id, objects.ra, objects.dec, HSC)
    _, faults, _, _ = read_rows(index, 0, objects.object_id, objects.ra, objects.dec, HSC)
    found = {fault.row: fault.code.label for fault in merge_faults([*objects.faults, *faults])}
    planted = {row: fault for row, fault in enumerate(np.asarray(truth["fault"]).astype(str).tolist()) if fault}
    assert found == planted
    assert len(planted) == 15
    assert len(set(planted.values())) >= 7


def test_fractions_are_the_plans(truth: Table) -> None:
    counts = collections.Counter(str(kind) for kind in truth["kind"])
    for kind in ("xelg", "quasar", "type1_agn", "type2_agn", "merger"):
        assert counts[kind] == pytest.approx(getattr(PLAN, f"{kind}_fraction") * 300, abs=1)


# ---------------------------------------------------------------- physics


def test_noise_is_that_of_the_depth() -> None:
    """Five times the error of a PSF-weighted flux is the limiting flux, for a PSF drawn on pixels."""
    fwhm_px, depth, beta = 4.0, 26.0, 3.0
    alpha = fwhm_px / (2 * np.sqrt(2 ** (1 / beta) - 1))
    axis = np.arange(-200, 201)
    psf = (1 + (axis[:, None] ** 2 + axis**2) / alpha**2) ** -beta
    psf /= psf.sum()
    area = 1 / (psf**2).sum()
    assert psf_area_px(fwhm_px) == pytest.approx(area, rel=0.02)
    limit = 10 ** (-0.4 * (depth - 27.0))
    assert 5 * pixel_noise(depth, fwhm_px, 27.0) * np.sqrt(area) == pytest.approx(limit, rel=0.02)


def test_measured_noise_and_magnitudes(
    survey: Path, cutouts: dict[tuple[int, str], bytes], catalogue: Table, truth: Table
) -> None:
    patches = {(row["tract"], row["patch"]): row for row in Table.read(survey / "patch_qa.fits")}
    noise, flux = [], []
    y, x = np.mgrid[:64, :64] - 31.5
    for row in sound(truth, "normal"):
        patch = patches[catalogue["tract"][row], catalogue["patch"][row]]
        with fits.open(io.BytesIO(cutouts[row + 2, "y"])) as hdulist:
            image = hdulist[1].data
        if image.shape != (64, 64):
            continue
        # Neighbouring pixels differ by noise alone where the light is smooth.
        corner = np.concatenate([np.diff(image[:8]).ravel(), np.diff(image[-8:]).ravel()])
        sigma = 1.4826 * np.median(np.abs(corner)) / np.sqrt(2)
        depth, fwhm = patch["ymag_psf_depth"], patch["yseeing"]
        noise.append(sigma / pixel_noise(float(depth), float(fwhm) / 0.168, 27.0))
        if truth["i_mag"][row] < 19.0 and truth["re_arcsec"][row] < 1.5:
            total = image[np.hypot(x, y) < 28].sum()
            flux.append(27.0 - 2.5 * np.log10(total) - catalogue["y_cmodel_mag"][row])
    assert np.median(noise) == pytest.approx(1.0, abs=0.06)
    assert len(flux) > 3
    assert np.median(flux) == pytest.approx(0.0, abs=0.1)


@pytest.mark.parametrize("band", HSC.bands)
def test_filters_are_hscs(shared_data: Path, band: str) -> None:
    name = {"r": "r2", "i": "i2"}.get(band, band)
    table = Table.read(shared_data / "filters" / f"hsc2017-{name}.ecsv", format="ascii.ecsv")
    wave, response = np.asarray(table["wavelength"]), np.clip(np.asarray(table["response"]), 0, None)
    expected = np.sum(wave * response) / np.sum(response)
    assert effective_wavelength(band) == pytest.approx(expected, rel=0.02)
    edges = wave[response > response.max() / 2][[0, -1]]
    ours = wave[FILTERS[band].throughput(wave) > FILTERS[band].throughput(wave).max() / 2][[0, -1]]
    assert (np.abs(ours - edges) < 0.01 * edges).all()


@pytest.mark.parametrize(("galaxy_type", "name"), [("E", "E"), ("Sbc", "Sbc"), ("Scd", "Scd"), ("Im", "Im")])
def test_colours_are_those_of_templates(shared_data: Path, galaxy_type: str, name: str) -> None:
    wave, flux = np.loadtxt(shared_data / "seds" / f"CWW_{name}_ext.sed", unpack=True)
    mags = []
    for band in "gri":
        grid = np.arange(3500.0, 11000.0, 5.0)
        response = FILTERS[band].throughput(grid)
        seen = np.interp(grid / 1.1, wave, flux)
        mags.append(-2.5 * np.log10(np.sum(seen * response * grid) / np.sum(response / grid)))
    ours = -2.5 * np.log10(stellar_flux([TYPE_YOUNG_FRACTION[galaxy_type]], [0.1], ("g", "r", "i"))[0])
    # Two populations stand for all types: a tenth of a magnitude is what that costs.
    assert ours[0] - ours[1] == pytest.approx(mags[0] - mags[1], abs=0.1)
    assert ours[1] - ours[2] == pytest.approx(mags[1] - mags[2], abs=0.1)


@pytest.mark.parametrize(("redshift", "band"), [(0.06, "g"), (0.12, "r"), (0.09, "i"), (0.0899, "g")])
def test_lines_add_what_direct_integration_gives(redshift: float, band: str) -> None:
    """A line of 300 Angstrom as a narrow Gaussian on the continuum, integrated through the filter."""
    wave = np.arange(3500.0, 11500.0, 0.25)
    level = continuum(0.7, wave / (1 + redshift))
    line = np.zeros_like(wave)
    for rest, share in ((4861.3, 0.2), (4958.9, 0.2), (5006.8, 0.6)):
        center, width = rest * (1 + redshift), 2.0
        profile = np.exp(-0.5 * ((wave - center) / width) ** 2) / (width * np.sqrt(2 * np.pi))
        line += share * 300.0 * continuum(0.7, rest) * profile
    response = FILTERS[band].throughput(wave)
    expected = np.sum(line * response * wave) / np.sum(response / wave)
    assert level.min() > 0
    (found,) = line_flux("hb_oiii", [300.0], [redshift], lambda rest: continuum(0.7, rest), (band,))[0]
    assert found == pytest.approx(
        expected, rel=0.02, abs=1e-3 * np.sum(level * response * wave) / np.sum(response / wave)
    )


def test_quasars_are_blue_in_the_middle(cutouts: dict[tuple[int, str], bytes], truth: Table) -> None:
    def central_colour(row: int) -> float:
        planes = []
        for band in "gr":
            with fits.open(io.BytesIO(cutouts[row + 2, band])) as hdulist:
                ny, nx = hdulist[1].data.shape
                planes.append(hdulist[1].data[ny // 2 - 2 : ny // 2 + 2, nx // 2 - 2 : nx // 2 + 2].sum())
        return float(-2.5 * np.log10(planes[0] / planes[1]))

    quasars = [central_colour(row) for row in sound(truth, "quasar")]
    normal = [central_colour(row) for row in sound(truth, "normal")[:60]]
    assert np.median(quasars) < np.median(normal) - 0.2
