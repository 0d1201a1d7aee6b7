"""Simulated twins of public data sets: their form, and their way through ingest."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pyarrow.parquet as pq
import pytest
from astropy.table import Table
from public_files import galaxiesml_columns, hats_table, hsc_columns, write_unagi
from survey_runs import call_here

from swimmy_scale.errors import SwimmyError
from swimmy_scale.ingest.catalogue.catalogue import read_catalogue
from swimmy_scale.ingest.pixels.sources import build_index, list_source, read_rows, tables_of
from swimmy_scale.method.sections import CatalogueSource
from swimmy_scale.method.survey import HSC
from swimmy_scale.simulate import FORMS, simulate_as

N = {"mmu-hsc": 4, "mmu-hsc-hats": 3, "galaxiesml": 12, "unagi": 6}


@pytest.fixture(scope="module", name="twins")
def _twins(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("twins")
    for form in FORMS:
        simulate_as(form, str(folder / form), N[form], seed=2)
    return {form: folder / form for form in FORMS}


def files_of(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.suffix in (".hdf5", ".parquet", ".hdf"))


@pytest.mark.parametrize("form", FORMS)
def test_forms_are_those_of_the_data_sets(tmp_path: Path, twins: dict[str, Path], form: str) -> None:
    """The same columns with the same types, but for those that nothing here simulates."""
    path = files_of(twins[form])[0]
    if form == "unagi":
        write_unagi(tmp_path / "u.hdf", {"1": {"HSC-G": np.zeros((72, 72), np.float32)}}, {})
        with h5py.File(tmp_path / "u.hdf") as wanted_file, h5py.File(path) as file:
            first = next(iter(file.values()))
            assert first["HSC-G"].keys() == wanted_file["1/HSC-G"].keys()
            for name in ("HDU0", "HDU1"):
                assert first[f"HSC-G/{name}/DATA"].dtype == wanted_file[f"1/HSC-G/{name}/DATA"].dtype
            assert {first[f"HSC-{band}/HDU0/DATA"].shape for band in "GRIZY"} <= {(72, 72), (72, 71)}
        return
    if form == "mmu-hsc-hats":
        pq.write_table(hats_table(hsc_columns(1)), tmp_path / "hats.parquet")
        wanted, found = pq.read_schema(tmp_path / "hats.parquet"), pq.read_schema(path)
        assert set(wanted.names) - set(found.names) == {"_healpix_29"}
        assert {str(field.type) for field in found.field("image").type} == {
            str(field.type) for field in wanted.field("image").type
        }
        return
    wanted_columns = hsc_columns(1) if form == "mmu-hsc" else galaxiesml_columns(1)
    with h5py.File(path) as file:
        missing = {name for name in wanted_columns if name not in file}
        assert missing <= {"coord", *(f"{band}_sersic_index" for band in HSC.bands)}
        for name in set(wanted_columns) - missing:
            assert file[name].shape[1:] == wanted_columns[name].shape[1:], name
            assert file[name].dtype.kind == wanted_columns[name].dtype.kind, name
        if form == "mmu-hsc":
            assert file["image_array"].compression == "gzip"
            assert file["image_array"].maxshape[0] is None


@pytest.mark.parametrize("form", FORMS)
def test_ingest_takes_them(twins: dict[str, Path], form: str) -> None:
    fwhm = dict.fromkeys(HSC.bands, 0.7) if form == "galaxiesml" else {}
    paths = files_of(twins[form])
    beside = twins[form] / "catalogue.fits" if form == "unagi" else None
    o = read_catalogue(CatalogueSource(beside, fwhm_arcsec=fwhm), HSC, () if beside else tables_of(paths))
    assert o.simulated
    truth = Table.read(twins[form] / "truth.fits")
    assert o.object_id.tolist() == truth["object_id"].tolist()
    index = build_index([list_source(path, HSC) for path in paths], o.object_id, o.ra, o.dec, HSC)
    image, faults, _, _ = read_rows(index, 0, o.object_id, o.ra, o.dec, HSC)
    assert faults == []
    # The brightest pixel of the i band is near the middle of nearly all.
    brightest = np.array([np.unravel_index(plane.argmax(), plane.shape) for plane in image[:, 2]])
    assert np.median(np.abs(brightest - 31.5)) <= 1.5


def test_the_two_forms_of_multimodaluniverse_hold_the_same(tmp_path: Path, twins: dict[str, Path]) -> None:
    simulate_as("mmu-hsc", str(tmp_path / "again"), N["mmu-hsc-hats"], seed=2)
    (one,), (other,) = files_of(tmp_path / "again"), files_of(twins["mmu-hsc-hats"])
    images = pq.read_table(other).column("image").to_pylist()
    with h5py.File(one) as file:
        np.testing.assert_array_equal(file["image_array"][1], np.array(images[1]["flux"], np.float32))


def test_the_same_twin_is_not_made_again(twins: dict[str, Path]) -> None:
    before = {path: path.stat().st_mtime_ns for path in files_of(twins["mmu-hsc"])}
    simulate_as("mmu-hsc", str(twins["mmu-hsc"]), N["mmu-hsc"], seed=2)
    assert {path: path.stat().st_mtime_ns for path in files_of(twins["mmu-hsc"])} == before
    with pytest.raises(SwimmyError, match="holds another simulation"):
        simulate_as("mmu-hsc", str(twins["mmu-hsc"]), N["mmu-hsc"], seed=3)


def test_a_folder_with_other_files_is_refused(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(SwimmyError, match=r"is not empty, and no simulation.json says"):
        simulate_as("galaxiesml", str(tmp_path), 3, seed=1)


def test_options_of_archive_files_are_refused(tmp_path: Path) -> None:
    options = ("--n-objects", 3, "--as", "galaxiesml", "--faulty-fraction", 0.1)
    done = call_here("simulate", tmp_path / "x", *options)
    assert done.returncode == 2
    assert "--as is a form without planted faults" in done.stderr
