"""A simulated survey is what it claims to be: files, physics and truth, checked by astropy, GalSim and direct sums."""

from __future__ import annotations

import concurrent.futures
import dataclasses
import gzip
import hashlib
import io
import json
import math
import multiprocessing
import re
import tarfile
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import galsim
import numpy as np
import pytest
from astropy.io import fits
from astropy.wcs import WCS
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy.optimize import curve_fit

from swimmy_scale.errors import SwimmyError
from swimmy_scale.ingest.catalogue.catalogue import CatalogueSource, read_catalogue
from swimmy_scale.ingest.catalogue.objects import Objects as CatalogueObjects
from swimmy_scale.ingest.pixels.sources import build_index, expand_sources, list_source, read_rows
from swimmy_scale.method.quarantine import Code, merge_faults
from swimmy_scale.method.sample import SampleColumns, SampleCuts, apply_cuts
from swimmy_scale.method.survey import HSC, Survey
from swimmy_scale.simulate import KINDS, SimulationPlan, images, sky
from swimmy_scale.simulate import simulate as run_simulation
from swimmy_scale.simulate.archive import PartReceipt, write_part
from swimmy_scale.simulate.galaxies import Galaxies, Neighbours, draw_objects
from swimmy_scale.simulate.plan import CUTS, FAULTS, allocate, plan_parts
from swimmy_scale.simulate.simulation import finish
from swimmy_scale.simulate.tables import catalogue_columns

BANDS = HSC.bands
PLAN = SimulationPlan(
    240, seed=11, faulty_fraction=0.15, cut_fraction=0.1, overlap_fraction=0.05, repeat_fraction=0.01,
    n_objects_per_tar=60, n_objects_per_patch=20,
)  # fmt: skip
SMALL = SimulationPlan(12, seed=2, n_objects_per_tar=4)
SERVICE_NAME = re.compile(r"arch-\d{6}-\d{6}/(?P<line>\d+)-cutout-HSC-(?P<band>[GRIZY])-(?P<tract>\d+)-pdr3_wide\.fits")
SAVED_NAME = re.compile(r"(?P<line>\d+)_coadd_[\d.]+_[+-][\d.]+_(?P<tract>\d+)_HSC-(?P<band>[GRIZY])\.fits")


@pytest.fixture(scope="module")
def survey_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("survey") / "out"
    run_simulation(str(folder), PLAN)
    return folder


@pytest.fixture(scope="module")
def files(survey_folder: Path) -> dict[tuple[int, str], bytes]:
    """Every cutout of the catalogue's tract by (catalogue row, band), read by the standard library alone."""
    found: dict[tuple[int, str], bytes] = {}
    tracts = fits.getdata(survey_folder / "catalogue.fits", 1)["tract"]
    for path in sorted((survey_folder / "cutouts").iterdir()):
        if path.is_dir():
            named = [
                (SAVED_NAME, str(file.relative_to(path)), file.read_bytes()) for file in sorted(path.rglob("*.fits"))
            ]
        else:
            with tarfile.open(path) as tar:
                named = [(SERVICE_NAME, m.name, tar.extractfile(m).read()) for m in tar.getmembers()]  # type: ignore[union-attr]
        part = 3 if path.is_dir() else int(re.search(r"-(\d{6})\.tar", path.name)[1])  # type: ignore[index]
        for pattern, name, data in named:
            if "-again/" in name:
                continue
            match = pattern.fullmatch(name)
            assert match, name
            # Each upload counts its lines anew.
            row = PLAN.n_objects_per_tar * part + int(match["line"]) - 2
            if int(match["tract"]) != tracts[row]:
                continue
            key = row, match["band"].lower()
            assert key not in found
            found[key] = data
    return found


@pytest.fixture(scope="module")
def tables(survey_folder: Path) -> dict[str, fits.FITS_rec]:
    return {name: fits.getdata(survey_folder / f"{name}.fits", 1) for name in ("catalogue", "patch_qa", "truth")}


def digests(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def sound_rows(tables: dict[str, fits.FITS_rec]) -> np.ndarray:
    return np.flatnonzero(np.isin(tables["truth"]["planted_fault"], ["", "duplicate_object_id", "fwhm_missing"]))


# ---------------------------------------------------------------------------------------------------------------------
# The plan


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"n_objects": 0}, "n_objects 0 must be 1 or above"),
        ({"n_objects_per_tar": 0}, "n_objects_per_tar 0 must be 1 or above"),
        ({"seed": -1}, "seed -1 must be 0 or above"),
        ({"xelg_fraction": 1.5}, r"xelg_fraction 1\.5 must be between 0 and 1"),
        ({"faulty_fraction": math.nan}, "faulty_fraction nan must be between 0 and 1"),
        ({"merger_fraction": 0.6, "faulty_fraction": 0.5}, "must not exceed 1"),
        (
            {"survey": Survey(bands=("u",), selecting_bands=("u",), magnitude_band="u", band_divisors=(1.0,),
                              min_depth_mag=(25.0,))},
            r"bands \['u'\] have no simulated filter",
        ),
        (
            {"survey": Survey(bands=("g", "ri"), selecting_bands=("g",), magnitude_band="g", band_divisors=(1.0, 1.0),
                              min_depth_mag=(25.0, 25.0))},
            r"bands \['ri'\] have no simulated filter",
        ),
        ({"first_tract": 8999}, "first_tract 8999 must be between 9000 and 12199"),
        ({"first_tract": 12_199, "n_objects": 3200}, "n_objects 3200 with 40 a patch must be 3120 or below"),
        ({"n_objects": 10_000_000}, "n_objects 10000000 with 40 a patch must be 9984000 or below"),
    ],
)  # fmt: skip
def test_plan_is_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(SwimmyError, match=message):
        SimulationPlan(**({"n_objects": 10, "seed": 1} | changes))  # type: ignore[arg-type]


@settings(max_examples=30, deadline=None)
@given(
    n_objects=st.integers(1, 3000),
    seed=st.integers(0, 2**63),
    faulty=st.floats(0.0, 0.75),
    per_tar=st.integers(1, 700),
)
@example(n_objects=60, seed=963, faulty=0.3, per_tar=500)  # duplicates before and right behind the first good row
def test_plan_deals_out_every_object_once(n_objects: int, seed: int, faulty: float, per_tar: int) -> None:
    plan = SimulationPlan(n_objects, seed, faulty_fraction=faulty, n_objects_per_tar=per_tar)
    parts = plan_parts(plan)
    assert [row for part in parts for row in part] == list(range(n_objects))
    assert len(parts) == plan.n_parts

    dealt = allocate(plan)
    counts = np.bincount(dealt.kind, minlength=len(KINDS))
    assert np.abs(counts - np.array(plan.kind_fractions) * n_objects).max() <= 1.0
    n_faults = np.bincount(dealt.fault[dealt.fault >= 0], minlength=len(FAULTS))
    assert n_faults.sum() == round(faulty * n_objects)
    assert not np.any((dealt.fault >= 0) & (dealt.cut >= 0))

    # The first row with an object_id is good; every later one is a planted duplicate.
    ids = sky.object_ids(plan, np.arange(n_objects))
    _, first = np.unique(ids, return_index=True)
    later = np.setdiff1d(np.arange(n_objects), first)
    duplicate = [name for name, _ in FAULTS].index("duplicate_object_id")
    assert set(later) == set(np.flatnonzero(dealt.fault == duplicate))
    assert np.all(dealt.fault[dealt.id_row[later]] < 0)


# ---------------------------------------------------------------------------------------------------------------------
# Files


@pytest.mark.slow
def test_lines_and_bands(files: dict[tuple[int, str], bytes], tables: dict[str, fits.FITS_rec]) -> None:
    planted = tables["truth"]["planted_fault"]
    assert list(tables["truth"]["line"]) == 4 * list(range(2, 62))
    assert list(tables["truth"]["request"]) == [f"arch-240101-{part:06d}" for part in range(4) for _ in range(60)]
    bands = defaultdict(set)
    for row, band in files:
        bands[row].add(band)
    for row in range(PLAN.n_objects):
        assert len(bands[row]) == (4 if planted[row] == "missing_band" else 5)


def test_forms(survey_folder: Path) -> None:
    names = sorted(path.name for path in (survey_folder / "cutouts").iterdir())
    assert names == ["arch-240101-000000.tar", "arch-240101-000001.tar", "arch-240101-000002.tar.gz", "saved"]
    with gzip.open(survey_folder / "cutouts" / names[2]) as stream:
        assert stream.read(262)[257:] == b"ustar"


@pytest.mark.slow
def test_astropy_verifies_every_sound_file(
    files: dict[tuple[int, str], bytes], tables: dict[str, fits.FITS_rec]
) -> None:
    catalogue = tables["catalogue"]
    shapes: Counter[tuple[int, int]] = Counter()
    n_hdus: Counter[int] = Counter()
    for row in sound_rows(tables):
        for band in BANDS:
            with fits.open(io.BytesIO(files[row, band]), memmap=False) as hdus:
                hdus.verify("exception")
                assert hdus[0].header["FLUXMAG0"] == pytest.approx(63095734448.0194, rel=1e-12)
                assert hdus[0].header["SIMULATE"] is True
                assert hdus[0].header.comments["SIMULATE"] == "simulated"
                assert hdus[0].header["FILTER"] == band
                image = hdus[1]
                assert image.header["EXTTYPE"] == "IMAGE"
                assert image.data.dtype == np.dtype(">f4")
                assert np.isfinite(image.data).all()
                assert [hdu.header["EXTTYPE"] for hdu in hdus[2:]] in ([], ["MASK", "VARIANCE"])
                shapes[image.shape] += 1
                n_hdus[len(hdus)] += 1
                x, y = WCS(image.header).world_to_pixel_values(catalogue["ra"][row], catalogue["dec"][row])
                height, width = image.shape
                assert abs(x - (width - 1) / 2.0) <= 0.5 + 1e-4
                assert abs(y - (height - 1) / 2.0) <= 0.5 + 1e-4
    assert set(shapes) == {(64, 64), (64, 65), (65, 64), (65, 65)}
    assert shapes[64, 64] > 0.9 * shapes.total()
    assert 0 < n_hdus[4] < 0.1 * n_hdus.total()


def test_light_is_where_the_wcs_says(files: dict[tuple[int, str], bytes], tables: dict[str, fits.FITS_rec]) -> None:
    """Centroids of bright nuclei within 5 px, in cutouts of all sizes; hosts and neighbours pull them only a little."""
    truth, catalogue = tables["truth"], tables["catalogue"]
    plan = dataclasses.replace(PLAN, oversize_fraction=1.0, quasar_fraction=0.3, faulty_fraction=0.0)
    objects, neighbours = draw_objects(plan, 0)
    bright = np.flatnonzero(objects.nucleus_fraction > 0.4)
    assert len(bright) > 10
    for index in bright:
        patch = sky.patch_conditions(plan, int(objects.tract[index]), int(objects.patch_index[index]))
        canvas = images.draw_noiseless(plan, patch, objects, int(index), neighbours)
        x, y = objects.x[index] - canvas.origin_x, objects.y[index] - canvas.origin_y
        rows, columns = np.indices(canvas.image[2].shape)
        weight = canvas.image[2] * (np.hypot(rows - y, columns - x) < 5.0)
        assert (weight * columns).sum() / weight.sum() == pytest.approx(x, abs=0.15)
        assert (weight * rows).sum() / weight.sum() == pytest.approx(y, abs=0.15)
    # And in files: the brightest pixel around the middle.
    for row in sound_rows(tables):
        if truth["kind"][row] == "quasar":
            with fits.open(io.BytesIO(files[row, "i"]), memmap=False) as hdus:
                x, y = WCS(hdus[1].header).world_to_pixel_values(catalogue["ra"][row], catalogue["dec"][row])
                inner = hdus[1].data[22:42, 22:42]
            peak_y, peak_x = np.unravel_index(np.argmax(inner), inner.shape)
            assert math.hypot(peak_x + 22 - x, peak_y + 22 - y) < 1.5


def check_fault(fault: str, row: int, files: dict[tuple[int, str], bytes]) -> int:
    """Number of bands of an object whose file, as astropy reads it, has a fault."""
    seen = 0
    for band in BANDS:
        data = files.get((row, band))
        if data is None:
            seen += fault == "missing_band"
            continue
        if not data.startswith(b"SIMPLE  ="):
            seen += fault == "corrupt_file"
            continue
        if len(data) % 2880:
            seen += fault == "truncated_file"
            continue
        with fits.open(io.BytesIO(data), memmap=False) as hdus:
            if len(hdus) == 1:
                seen += fault == "no_image_hdu"
            elif hdus[1].shape == (40, 40):
                seen += fault == "wrong_shape"
            elif np.isnan(hdus[1].data).any():
                seen += fault == "nan_pixels"
                assert np.isnan(hdus[1].data).sum() == 9
    return seen


@pytest.mark.parametrize(
    "fault", ["missing_band", "wrong_shape", "no_image_hdu", "nan_pixels", "truncated_file", "corrupt_file"]
)
def test_planted_file_faults(fault: str, files: dict[tuple[int, str], bytes], tables: dict[str, fits.FITS_rec]) -> None:
    rows = np.flatnonzero(tables["truth"]["planted_fault"] == fault)
    assert len(rows) == 4
    assert [check_fault(fault, row, files) for row in rows] == [1] * 4
    others = sound_rows(tables)[:40]
    assert not any(check_fault(fault, row, files) for row in others)


def read_objects(folder: Path, survey: Survey = HSC) -> CatalogueObjects:
    source = CatalogueSource(path=str(folder / "catalogue.fits"), patch_qa=str(folder / "patch_qa.fits"))
    return read_catalogue(source, survey)


def ingest(folder: Path, survey: Survey) -> tuple[np.ndarray, dict[int, str], tuple[str, ...]]:
    """Pixels, quarantine codes by row, and files that belong to no object, as the real ingest has them."""
    objects = read_objects(folder, survey)
    listings = [list_source(path, survey) for path in expand_sources([str(folder / "cutouts")])]
    index = build_index(listings, objects.object_id, objects.ra, objects.dec, survey, tract=objects.tract)
    image, faults, *_ = read_rows(index, 0, objects.object_id, objects.ra, objects.dec, survey)
    reported = {fault.row: fault.code.label for fault in merge_faults([*objects.faults, *faults])}
    return image, reported, index.unmatched


@pytest.mark.slow
@pytest.mark.parametrize(
    "survey",
    [
        HSC,
        Survey(min_depth_mag=(math.nan,) * 5),
        Survey(cutout_size_px=16, min_depth_mag=(math.nan, 25.49, math.nan, math.nan, math.nan)),
    ],
    ids=["HSC", "no depth limits", "16 px"],
)
def test_ingest_reports_exactly_the_planted_faults(survey: Survey, tmp_path: Path) -> None:
    plan = SimulationPlan(300, 7, faulty_fraction=0.05, cut_fraction=0.1, n_objects_per_tar=75, survey=survey)
    run_simulation(str(tmp_path), plan)
    image, reported, unmatched = ingest(tmp_path, survey)
    truth = fits.getdata(tmp_path / "truth.fits", 1)["fault"]
    assert np.count_nonzero(truth != "") == 15
    assert reported == {int(row): str(truth[row]) for row in np.flatnonzero(truth != "")}
    assert unmatched == ()
    assert np.isfinite(image[truth == ""]).all()


def test_every_file_is_used_or_counted(survey_folder: Path, tables: dict[str, fits.FITS_rec]) -> None:
    """Files of second tracts and second requests change nothing but counts."""
    objects = read_objects(survey_folder)
    listings = [list_source(path, HSC) for path in expand_sources([str(survey_folder / "cutouts")])]
    index = build_index(listings, objects.object_id, objects.ra, objects.dec, HSC, tract=objects.tract)
    _, _, notes, _ = read_rows(index, 0, objects.object_id, objects.ra, objects.dec, HSC)
    unused = Counter(note.rpartition(": ")[2] for note in notes)
    truth = tables["truth"]
    n_repeated = 5 * np.count_nonzero(truth["repeated"])
    # A second tract is looked into only where the catalogue's lacks data.
    instead = np.count_nonzero(truth["overlap"] == "instead")
    assert unused == {
        "a file of the same tract is used": n_repeated,
        "a file of another tract is used": np.count_nonzero(truth["overlap"] != "") * 5
        - 2 * np.count_nonzero(truth["overlap"] == "some_bands")
        - instead,
        "it has no usable data": instead,
    }
    summary = run_simulation(str(survey_folder), PLAN)
    assert np.count_nonzero(index.file >= 0) + sum(unused.values()) + index.n_unmatched == summary.n_files


def test_ingest_of_the_whole_survey(survey_folder: Path, tables: dict[str, fits.FITS_rec]) -> None:
    image, reported, _ = ingest(survey_folder, HSC)
    truth = tables["truth"]["fault"]
    assert reported == {int(row): str(truth[row]) for row in np.flatnonzero(truth != "")}
    assert image.shape == (240, 5, 64, 64)


def test_true_cuts_are_those_of_the_sample(survey_folder: Path, tables: dict[str, fits.FITS_rec]) -> None:
    """What the truth says of the paper's spectroscopic sample is what the cuts of the real selection give."""
    objects, truth = read_objects(survey_folder), tables["truth"]
    fine = truth["fault"] == ""
    columns = SampleColumns(
        fine, objects.fwhm_arcsec, objects.depth_mag, objects.mag, objects.psf_mag, objects.flags, objects.redshift
    )
    in_sample, _ = apply_cuts(columns, SampleCuts(redshift=(0.05, 0.2), colours=()), HSC, objects.available)
    assert np.array_equal(in_sample, fine & (truth["cut"] == ""))
    # An object made to fail a cut fails it, or by chance an earlier one.
    made = allocate(PLAN).cut
    for row in np.flatnonzero(made >= 0):
        assert CUTS.index(truth["cut"][row]) <= made[row]


# ---------------------------------------------------------------------------------------------------------------------
# Tables


def test_truth_counts(survey_folder: Path, tables: dict[str, fits.FITS_rec]) -> None:
    truth = tables["truth"]
    summary = run_simulation(str(survey_folder), PLAN)
    assert summary.n_by_kind == dict(Counter(truth["kind"]))
    assert summary.n_by_fault == dict(Counter(fault for fault in truth["fault"] if fault))
    assert summary.n_by_cut == dict(Counter(cut for cut in truth["cut"] if cut))
    assert sum(summary.n_by_fault.values()) == round(0.15 * 240)
    assert summary.n_by_fault == {
        "missing_band": 4,
        "wrong_shape": 4,
        "no_image_hdu": 4,
        "not_finite_pixels": 4,
        "unreadable_file": 8,
        "duplicate_object_id": 4,
        "fwhm_above_target": 4,
        "fwhm_missing": 4,
    }
    assert set(summary.n_by_fault) <= {code.label for code in Code}
    assert set(summary.n_by_cut) == {"depth", "magnitude", "flag", "extendedness", "redshift"}
    assert summary.n_by_kind["xelg"] == round(0.02 * 240)
    assert summary.n_by_overlap == dict(Counter(overlap for overlap in truth["overlap"] if overlap))
    assert sum(summary.n_by_overlap.values()) == round(0.05 * 240)
    assert summary.n_repeated == np.count_nonzero(truth["repeated"]) == round(0.01 * 240)
    n_others = sum(3 if overlap == "some_bands" else 5 for overlap in truth["overlap"] if overlap)
    assert summary.n_files == 240 * 5 - 4 + n_others + 5 * summary.n_repeated


def test_catalogue(tables: dict[str, fits.FITS_rec]) -> None:
    catalogue, truth = tables["catalogue"], tables["truth"]
    ids = catalogue["object_id"]
    assert ids.dtype == np.dtype(">i8")
    assert all(len(str(value)) == 17 for value in ids)
    counts = Counter(ids.tolist())
    assert sum(count - 1 for count in counts.values()) == 4
    names = catalogue.columns.names
    for band in BANDS:
        assert f"{band}_cmodel_mag" in names
        flags = [name for name in names if name.startswith(f"{band}_") and ("pixelflags" in name or "mask" in name)]
        assert len([*flags, f"{band}_sdssshape_flag"]) == 10
        assert catalogue[f"{band}_mask_brightstar_halo"].dtype == np.dtype(bool)
    known = {"xelg": "xelg", "quasar": "quasar", "type1_agn": "agn_candidate", "type2_agn": "agn_candidate"}
    for kind, sample_class in zip(truth["kind"], catalogue["sample_class"], strict=True):
        assert sample_class == known.get(kind, sample_class)
        assert kind in known or sample_class in ("training", "other")
    assert 0.3 < np.mean(catalogue["sample_class"][truth["kind"] == "normal"] == "training") < 0.7
    strong = np.max([truth[name] for name in ("ew_oii", "ew_hb_oiii", "ew_ha_nii")], axis=0)
    assert np.array_equal(strong > 100.0, truth["kind"] == "xelg")


def test_patch_table(tables: dict[str, fits.FITS_rec]) -> None:
    catalogue, truth, patches = (tables[name] for name in ("catalogue", "truth", "patch_qa"))
    rows = {key: row for row, key in enumerate(zip(patches["tract"], patches["patch"], strict=True))}
    assert len(rows) == len(patches)
    depth_limit = dict(zip(BANDS, HSC.min_depth_mag, strict=True))
    for row in range(PLAN.n_objects):
        found = rows.get((catalogue["tract"][row], catalogue["patch"][row]))
        assert (found is None) == (truth["fault"][row] == "fwhm_missing")
        if found is None:
            continue
        widest = max(patches[f"{band}seeing"][found] for band in BANDS)
        assert (widest > 1.0) == (truth["fault"][row] == "fwhm_above_target")
        shallow = [patches[f"{band}mag_psf_depth"][found] < depth_limit[band] for band in BANDS]
        assert sum(shallow) == (truth["cut"][row] == "depth")


def test_tables_say_simulated(survey_folder: Path) -> None:
    for name in ("catalogue", "patch_qa", "truth"):
        with fits.open(survey_folder / f"{name}.fits") as hdus:
            hdus.verify("exception")
            assert [hdu.header["SIMULATE"] for hdu in hdus] == [True, True]
    assert json.loads((survey_folder / "simulation.json").read_text())["simulated"] is True
    assert read_objects(survey_folder).simulated is True


# ---------------------------------------------------------------------------------------------------------------------
# The same plan gives the same bytes; foreign files are not taken for the survey's own


@pytest.mark.slow
def test_parts_in_any_order_and_process(tmp_path: Path) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    run_simulation(str(here), SMALL)
    context = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(1, mp_context=context) as pool:
        tasks = [pool.submit(write_part, str(there), SMALL, index) for index in reversed(range(SMALL.n_parts))]
        receipts = [task.result() for task in tasks]
    finish(str(there), SMALL, receipts)
    assert digests(here) == digests(there)
    # Another seed is another survey.
    run_simulation(str(tmp_path / "other"), dataclasses.replace(SMALL, seed=3))
    other = digests(tmp_path / "other")
    assert digests(here)["cutouts/arch-240101-000000.tar"] != other["cutouts/arch-240101-000000.tar"]


def test_finished_survey_is_left_alone(tmp_path: Path) -> None:
    first = run_simulation(str(tmp_path), SMALL)

    def refuse(*_: object) -> list[object]:
        raise AssertionError("parts are written again")

    assert run_simulation(str(tmp_path), SMALL, map=refuse) == first  # type: ignore[arg-type]
    with pytest.raises(SwimmyError, match="holds a simulated survey of another plan"):
        run_simulation(str(tmp_path), dataclasses.replace(SMALL, seed=5))
    (tmp_path / "simulation.json").write_text("{")
    with pytest.raises(SwimmyError, match="is not the record of a simulation"):
        run_simulation(str(tmp_path), SMALL)


def test_finish_refuses_what_is_not_whole(tmp_path: Path) -> None:
    receipts = [write_part(str(tmp_path), SMALL, index) for index in range(3)]
    with pytest.raises(SwimmyError, match="2 receipts do not stand for 3 parts"):
        finish(str(tmp_path), SMALL, receipts[:2])
    with pytest.raises(SwimmyError, match="4 receipts do not stand for 3 parts"):
        finish(str(tmp_path), SMALL, [*receipts, receipts[0]])
    stray = tmp_path / "cutouts" / "arch-old.tar"
    stray.write_bytes(b"")
    with pytest.raises(SwimmyError, match=r"1 entries that are not of this survey, the first is 'arch-old\.tar'"):
        finish(str(tmp_path), SMALL, receipts)
    stray.unlink()
    with pytest.raises(SwimmyError, match=r"there is no part 3\. Give 0 to 2"):
        write_part(str(tmp_path), SMALL, 3)
    with pytest.raises(SwimmyError, match=r"lacks 'arch-240101-000000\.tar'"):
        finish(str(tmp_path / "elsewhere"), SMALL, receipts)
    (tmp_path / "cutouts" / "arch-240101-000000.tar").unlink()
    with pytest.raises(SwimmyError, match=r"lacks 'arch-240101-000000\.tar'"):
        finish(str(tmp_path), SMALL, receipts)
    assert not (tmp_path / "simulation.json").exists()


def test_files_of_others_are_not_replaced(tmp_path: Path) -> None:
    own = tmp_path / "cutouts" / "saved" / "mine.fits"
    own.parent.mkdir(parents=True)
    own.write_bytes(b"observed")
    (tmp_path / "job.yaml").write_text("not in the way")
    with pytest.raises(SwimmyError, match=r"holds cutouts, but no simulation\.json that says they are simulated"):
        run_simulation(str(tmp_path), SMALL)
    assert own.read_bytes() == b"observed"


def test_broken_off_simulation_goes_on(tmp_path: Path) -> None:
    def two_parts(function: Callable[[int], PartReceipt], parts: Iterable[int]) -> Iterator[PartReceipt]:
        for part in list(parts)[:2]:
            yield function(part)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_simulation(str(tmp_path / "broken"), SMALL, map=two_parts)
    with pytest.raises(SwimmyError, match="holds a simulated survey of another plan"):
        run_simulation(str(tmp_path / "broken"), dataclasses.replace(SMALL, seed=5))
    run_simulation(str(tmp_path / "broken"), SMALL)
    run_simulation(str(tmp_path / "whole"), SMALL)
    assert digests(tmp_path / "broken") == digests(tmp_path / "whole")


@pytest.mark.parametrize("lost", ["cutouts/saved/*", "cutouts/*.tar", "truth.fits", "spectroscopy/*"])
def test_lost_files_are_written_again(lost: str, tmp_path: Path) -> None:
    run_simulation(str(tmp_path), SMALL)
    before = digests(tmp_path)
    next(tmp_path.glob(lost)).unlink()
    run_simulation(str(tmp_path), SMALL)
    assert digests(tmp_path) == before


@pytest.mark.parametrize(
    "plan",
    [
        SimulationPlan(1, seed=0),
        SimulationPlan(9, seed=0, faulty_fraction=1.0, cut_fraction=0.0, n_objects_per_tar=9, **dict.fromkeys(
            [f"{kind}_fraction" for kind in KINDS[1:]], 0.0)),
        SimulationPlan(20, seed=0, artefact_saturated_fraction=0.5, survey=Survey(
            bands=("g", "i"), selecting_bands=("g",), band_divisors=(1.0, 1.0), min_depth_mag=(25.82, math.nan),
            cutout_size_px=16, zero_point_mag=30.0)),
    ],
    ids=["one object", "all faulty", "two bands of 16 px"],
)  # fmt: skip
def test_odd_plans(plan: SimulationPlan, tmp_path: Path) -> None:
    summary = run_simulation(str(tmp_path), plan)
    assert summary.n_objects == plan.n_objects == sum(summary.n_by_kind.values())
    assert sum(summary.n_by_fault.values()) == round(plan.faulty_fraction * plan.n_objects)
    assert len(fits.getdata(tmp_path / "catalogue.fits", 1)) == plan.n_objects
    assert run_simulation(str(tmp_path), plan) == summary

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is not JSON")

    json.loads((tmp_path / "simulation.json").read_text(), parse_constant=refuse)


# ---------------------------------------------------------------------------------------------------------------------
# Pixels


def one_object(plan: SimulationPlan, **changes: object) -> tuple[Galaxies, Neighbours, sky.Patch]:
    """The first object of a plan with fields replaced, alone in its cutout."""
    objects, neighbours = draw_objects(plan, 0)
    values = {field.name: getattr(objects, field.name)[:1] for field in dataclasses.fields(objects)}
    values |= {name: np.asarray([value], np.float64) for name, value in changes.items()}
    alone = Neighbours(**{field.name: getattr(neighbours, field.name)[:0] for field in dataclasses.fields(Neighbours)})
    single = Galaxies(**values)
    return single, alone, sky.patch_conditions(plan, int(single.tract[0]), int(single.patch_index[0]))


@pytest.mark.parametrize(
    ("re", "q", "angle", "bulge_fraction"), [(0.8, 0.5, 0.4, 0.0), (1.5, 0.3, 2.0, 0.5), (2.5, 0.9, 1.2, 0.9)]
)
def test_images_against_galsim(re: float, q: float, angle: float, bulge_fraction: float) -> None:
    """GalSim draws the same galaxy. Its shear of axis ratio q keeps the area, so it gets re sqrt(q)."""
    flux = np.full(5, 5000.0)
    objects, alone, patch = one_object(
        PLAN,
        disk_re=1.1 * re, bulge_re=0.5 * re, disk_q=q, bulge_q=q, angle=angle, bulge_fraction=bulge_fraction,
        disk=flux * (1 - bulge_fraction), bulge=flux * bulge_fraction, nucleus=flux * 0.02,
    )  # fmt: skip
    canvas = images.draw_noiseless(PLAN, patch, objects, 0, alone)
    shear = galsim.Shear(q=q, beta=angle * galsim.radians)
    disk = galsim.Exponential(half_light_radius=1.1 * re * math.sqrt(q), flux=5000 * (1 - bulge_fraction)).shear(shear)
    bulge = galsim.DeVaucouleurs(half_light_radius=0.5 * re * math.sqrt(q), flux=5000 * bulge_fraction).shear(shear)
    middle = (canvas.image.shape[-1] - 1) / 2.0
    offset = galsim.PositionD(objects.x[0] - canvas.origin_x - middle, objects.y[0] - canvas.origin_y - middle)
    for number in range(5):
        psf = galsim.Moffat(beta=sky.PSF_BETA, fwhm=patch.fwhm_arcsec[number])
        galaxy = disk + bulge if bulge_fraction else disk
        scene = galsim.Convolve(galaxy, psf) + 100.0 * psf
        expected = scene.drawImage(nx=66, ny=66, scale=0.168, method="no_pixel", offset=offset, dtype=np.float64).array
        assert np.abs(canvas.image[number] - expected).max() < 2e-3 * expected.max()


def test_psf_fwhm_is_that_of_the_patch_table(survey_folder: Path, tables: dict[str, fits.FITS_rec]) -> None:
    """By a Moffat profile of free width and exponent, fitted to a point source."""
    nothing, flux = np.zeros(5), np.full(5, 1e4)
    objects, alone, patch = one_object(PLAN, disk=nothing, bulge=nothing, nucleus=flux)
    canvas = images.draw_noiseless(PLAN, patch, objects, 0, alone)
    rows, columns = np.indices(canvas.image[0].shape)
    radius = np.hypot(rows - (objects.y[0] - canvas.origin_y), columns - (objects.x[0] - canvas.origin_x)).ravel()

    def moffat(r: np.ndarray, peak: float, fwhm: float, beta: float) -> np.ndarray:
        return peak * (1.0 + (2.0 * r / fwhm) ** 2 * (2.0 ** (1.0 / beta) - 1.0)) ** -beta

    table = tables["patch_qa"]
    found = np.flatnonzero((table["tract"] == patch.tract) & (table["patch"] == patch.patch))[0]
    for number, band in enumerate(BANDS):
        values, _ = curve_fit(moffat, radius, canvas.image[number].ravel(), p0=[500.0, 4.0, 2.5])
        assert values[1] * 0.168 == pytest.approx(float(table[f"{band}seeing"][found]), rel=2e-3)
        assert canvas.image[number].sum() == pytest.approx(1e4, rel=0.02)


def test_noise_is_that_of_the_depth(files: dict[tuple[int, str], bytes], tables: dict[str, fits.FITS_rec]) -> None:
    """Scatter at the edge of cutouts is sigma = F5 / 5 / sqrt(1 / sum psf^2), with GalSim's PSF."""
    catalogue, patches = tables["catalogue"], tables["patch_qa"]
    rows = {key: row for row, key in enumerate(zip(patches["tract"], patches["patch"], strict=True))}
    ratios = defaultdict(list)
    for row in sound_rows(tables)[:60]:
        found = rows.get((catalogue["tract"][row], catalogue["patch"][row]))
        if found is None or catalogue["i_cmodel_mag"][row] < 19.0:
            continue
        for band in BANDS:
            psf = galsim.Moffat(beta=3.0, fwhm=float(patches[f"{band}seeing"][found]))
            pixels = psf.drawImage(nx=101, ny=101, scale=0.168, method="no_pixel", dtype=np.float64).array
            limiting_flux = 10.0 ** (-0.4 * (patches[f"{band}mag_psf_depth"][found] - 27.0))
            expected = limiting_flux / 5.0 * math.sqrt(np.sum(pixels**2))
            with fits.open(io.BytesIO(files[row, band]), memmap=False) as hdus:
                image = hdus[1].data.astype(np.float64)
            # Smooth wings drop out of the differences of neighbouring pixels.
            difference = (image[:8, 1::2][:, :32] - image[:8, 0::2][:, :32]) / math.sqrt(2.0)
            ratios[band].append(1.4826 * np.median(np.abs(difference)) / expected)
    for band in BANDS:
        assert len(ratios[band]) > 20
        assert np.median(ratios[band]) == pytest.approx(1.0, abs=0.06)


@pytest.mark.parametrize("zero_point_mag", [24.0, 27.0, 30.0])
def test_photon_noise_does_not_depend_on_the_unit(zero_point_mag: float) -> None:
    """The same light has the same signal-to-noise in counts of any zero point: 4800 electrons a count at 27.0 in i."""
    plan = dataclasses.replace(PLAN, survey=dataclasses.replace(HSC, zero_point_mag=zero_point_mag))
    patch = dataclasses.replace(sky.patch_conditions(plan, sky.FIRST_TRACT, 0), noise=(0.0,) * 5)
    counts = 10.0 ** (-0.4 * (20.0 - zero_point_mag))
    variance = images.variance(plan, patch, np.full((5, 2, 2), counts, np.float32))
    electrons = 4800.0 * 10.0 ** (-0.4 * (20.0 - 27.0))
    assert counts / np.sqrt(variance[2]) == pytest.approx(math.sqrt(electrons), rel=1e-5)


def test_gaussian_limit_of_the_psf_area() -> None:
    """With a large exponent the Moffat profile is a Gaussian, with an area of 4 pi sigma^2."""
    sigma = 3.5 / (2.0 * math.sqrt(2.0 * math.log(2.0)))
    assert sky.psf_area_px(3.5, beta=1e4) == pytest.approx(4.0 * math.pi * sigma**2, rel=1e-3)


def test_aperture_magnitudes_of_isolated_galaxies(
    files: dict[tuple[int, str], bytes], tables: dict[str, fits.FITS_rec]
) -> None:
    """The sum over a cutout is the catalogue's flux to 0.1 mag: wings outside, and noise."""
    truth, catalogue = tables["truth"], tables["catalogue"]
    crowded = set()
    for part, rows in enumerate(plan_parts(PLAN)):
        crowded |= {rows.start + int(owner) for owner in draw_objects(PLAN, part)[1].owner}
    n_checked = 0
    for row in sound_rows(tables):
        compact = truth["re_arcsec"][row] < 1.7 and truth["bulge_fraction"][row] < 0.3
        if row in crowded or not compact or truth["kind"][row] not in ("normal", "xelg", "artefact_zero_point"):
            continue
        n_checked += 1
        for band in "gri":
            with fits.open(io.BytesIO(files[row, band]), memmap=False) as hdus:
                measured = 27.0 - 2.5 * math.log10(hdus[1].data.sum(dtype=np.float64))
            assert measured == pytest.approx(catalogue[f"{band}_cmodel_mag"][row], abs=0.1)
    assert n_checked >= 8


def test_artefacts() -> None:
    plan = SimulationPlan(60, seed=4, artefact_zero_point_fraction=0.2, artefact_saturated_fraction=0.2)
    objects, _ = draw_objects(plan, 0)
    wrong = objects.kind == KINDS.index("artefact_zero_point")
    assert set(objects.zero_point_factor[wrong]) == {0.7, 1.4}
    assert set(objects.zero_point_factor[~wrong]) == {1.0}
    image = np.random.default_rng(0).normal(5.0, 1.0, (5, 66, 66)).astype(np.float32)
    scaled = image.copy()
    images.add_artefact(plan, objects, int(np.flatnonzero(wrong)[0]), scaled, level=0.3)
    factor = np.float32(objects.zero_point_factor[wrong][0])
    assert np.array_equal(scaled[1], image[1] * factor)
    assert np.array_equal(scaled[[0, 2, 3, 4]], image[[0, 2, 3, 4]])
    flat = image.copy()
    saturated = int(np.flatnonzero(objects.kind == KINDS.index("artefact_saturated"))[0])
    images.add_artefact(plan, objects, saturated, flat, level=0.3)
    limit = np.float32(0.3 * image[2, 30:37, 30:37].max())
    assert flat[2].max() == limit
    assert np.array_equal(flat[[0, 1, 3, 4]], image[[0, 1, 3, 4]])


def test_psf_flux_against_a_drawn_image() -> None:
    """A matched filter on the image of a round galaxy finds the flux of the catalogue's PSF magnitude."""
    objects, alone, patch = one_object(PLAN, disk_q=1.0, bulge_q=1.0, disk_re=1.2, bulge_re=0.8, bulge_fraction=0.5)
    canvas = images.draw_noiseless(PLAN, patch, objects, 0, alone)
    nothing = np.zeros(5)
    star, _, _ = one_object(PLAN, disk=nothing, bulge=nothing, nucleus=np.ones(5))
    psf = images.draw_noiseless(PLAN, patch, star, 0, alone).image[2].astype(np.float64)
    expected = np.sum(canvas.image[2] * psf) / np.sum(psf**2)
    got = images.psf_flux(objects, np.array([patch.fwhm_arcsec[2]]), 2)[0]
    assert got == pytest.approx(expected, rel=0.01)


def test_wrong_zero_point_moves_every_magnitude_of_its_band() -> None:
    survey = dataclasses.replace(HSC, magnitude_band="r")
    plan = SimulationPlan(40, seed=4, artefact_zero_point_fraction=0.3, survey=survey)
    objects, _ = draw_objects(plan, 0)
    right = dataclasses.replace(objects, zero_point_factor=np.ones(40))
    moved, still = (catalogue_columns(plan, 0, either) for either in (objects, right))
    expected = -2.5 * np.log10(objects.zero_point_factor)
    assert np.count_nonzero(expected) == 12
    for name in ("r_cmodel_mag", "r_psfflux_mag"):
        assert moved[name] - still[name] == pytest.approx(expected, abs=0.01)
    assert np.array_equal(moved["g_cmodel_mag"], still["g_cmodel_mag"])
