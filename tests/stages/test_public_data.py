"""Public data sets from their files to candidates, in each of their forms (see `public_files`)."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray
import yaml
from astropy.io import fits
from astropy.table import Table
from public_files import (
    around,
    galaxiesml_columns,
    hsc_columns,
    legacy_columns,
    write_hats,
    write_shard,
    write_unagi,
)
from public_fits import galaxy, tan_header
from survey_runs import NETWORK, assert_same_results, call_here, run_serially, verify, weights_of

from swimmy_scale.errors import SwimmyError
from swimmy_scale.method.object_names import object_number
from swimmy_scale.storage.open_run import open_run

pytestmark = pytest.mark.slow

ONE_EPOCH = {
    "classes": [],
    "network": NETWORK,
    "schedule": {"epochs": 1, "keep_from_epoch": 1, "batch_size": 4, "seed": 5, "decay_after_epoch": 1},
    "n_threads": 1,
}
SAMPLE = {"colours": [], "max_fwhm_arcsec": None}


def write_public_job(path: Path, **sections: Any) -> Path:
    content = {
        "sample": SAMPLE,
        "select": {"levels": {"2sigma": 0.4}},
        "storage": {"partition_objects": 4, "chunk_objects": 2},
        **sections,
    }
    path.write_text(yaml.safe_dump(content))
    return path


def joined(parts: list[dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def quarantined(run: Path) -> list[dict[str, str]]:
    return list(csv.DictReader((run / "quarantine.csv").read_text().splitlines()))


def check_store(run: Path, given: dict[str, np.ndarray], pixels: np.ndarray) -> None:
    with xarray.open_zarr(run / "cutouts.zarr") as store:
        assert store.object_id.values.tolist() == given["object_id"].tolist()
        np.testing.assert_array_equal(store.ra.values, given["ra"])
        np.testing.assert_array_equal(store.dec.values, given["dec"])
        np.testing.assert_array_equal(store.image.values, pixels)
        assert store.band.values.tolist() == ["g", "r", "i", "z", "y"]


def test_multimodaluniverse_hsc(tmp_path: Path, finished: Path) -> None:
    """In HDF5 and in HATS: the same pixels, the same candidates; a masked galaxy is in no sample."""
    parts = [hsc_columns(6, 0), hsc_columns(5, 1)]
    parts[0]["image_mask"][2, 1, 78, 78] = False
    parts[1]["image_psf_fwhm"][3] = 1.3
    given = joined(parts)
    for number, part in enumerate(parts):
        write_shard(tmp_path / "mmu" / f"healpix={number}" / "001-of-001.hdf5", part)
    write_hats(tmp_path / "hats", parts)
    model = weights_of(finished / "run")
    del model["train"]
    for form in ("mmu", "hats"):
        job = write_public_job(tmp_path / f"{form}.yaml", ingest={"sources": [form]}, **model)
        summary, _ = run_serially(job, tmp_path / f"run-{form}")
        counts = [summary[name] for name in ("given", "scored", "quarantined", "in_sample")]
        assert counts == [11, 10, 1, 9]
        assert verify(tmp_path / f"run-{form}") == []
    run = tmp_path / "run-mmu"
    pixels = around(given["image_array"]).copy()
    pixels[9] = np.nan
    check_store(run, given, pixels)
    with xarray.open_zarr(run / "cutouts.zarr") as store:
        np.testing.assert_array_equal(store.fwhm_arcsec.values, given["image_psf_fwhm"])
        masked = 1 << store["flags"].attrs["flag_meanings"].split().index("masked_center")
        assert (store["flags"].values & masked != 0).tolist() == [row == 2 for row in range(11)]
    cut = {one["name"]: one for one in summary["cuts"]}["masked_center"]
    assert (cut["before"], cut["after"], cut["note"]) == (10, 9, "")
    lines = quarantined(run)
    assert [(line["object_id"], line["code"]) for line in lines] == [(str(given["object_id"][9]), "fwhm_above_target")]
    assert "object_name" not in lines[0]
    candidates = Table.read(run / "candidates.fits")
    assert set(candidates["object_id"].tolist()) <= set(np.delete(given["object_id"], [2, 9]).tolist())
    assert len(candidates) >= 4
    for name in ("candidates.fits", "candidates.ecsv", "candidates.parquet"):
        assert (run / name).read_bytes() == (tmp_path / "run-hats" / name).read_bytes()


def test_galaxiesml(tmp_path: Path, finished: Path) -> None:
    """What is assumed is said in the summary, the report and the provenance's job."""
    parts = [galaxiesml_columns(7, 0), galaxiesml_columns(4, 1)]
    for name, part in zip(("training", "testing"), parts, strict=True):
        write_shard(tmp_path / f"5x64x64_{name}_with_morphology.hdf5", part, None)
    fwhm = {"g": 0.8, "r": 0.75, "i": 0.6, "z": 0.7, "y": 0.7}
    model = weights_of(finished / "run")
    del model["train"]
    job = write_public_job(
        tmp_path / "job.yaml",
        survey="hsc",
        catalogue={"fwhm_arcsec": fwhm, "keep_columns": ["specz_redshift"]},
        ingest={"sources": [f"5x64x64_{name}_with_morphology.hdf5" for name in ("training", "testing")]},
        **model | {"sample": SAMPLE | {"redshift": [0.02, 0.4]}},
    )
    summary, _ = run_serially(job, tmp_path / "run")
    assert [summary[name] for name in ("given", "scored", "quarantined")] == [11, 11, 0]
    given = joined(parts)
    check_store(tmp_path / "run", given, given["image"])
    assert call_here("report", tmp_path / "run").returncode == 0
    page = (tmp_path / "run" / "report" / "index.html").read_text()
    said = " ".join(summary["warnings"])
    for assumed in ("fwhm_arcsec of the job stands for what nothing else gives", "they are assumed to be g, r, i, z, y",
                    "27.0 mag is assumed"):  # fmt: skip
        assert assumed in said
        assert assumed in page
    frozen = yaml.safe_load((tmp_path / "run" / "job.yaml").read_text())
    assert frozen["catalogue"]["fwhm_arcsec"] == fwhm
    assert frozen["catalogue"]["path"] is None
    candidates = Table.read(tmp_path / "run" / "candidates.fits")
    redshift = dict(zip(given["object_id"].tolist(), given["specz_redshift"].tolist(), strict=True))
    assert [redshift[object_id] for object_id in candidates["object_id"].tolist()] == candidates[
        "specz_redshift"
    ].tolist()


def test_legacy_survey_whose_ids_are_names(tmp_path: Path) -> None:
    """Four bands from training to the report; every output has the names, and finds objects by them."""
    columns = legacy_columns(24)
    columns["image_array"][5, 2] = np.nan
    write_shard(tmp_path / "dr10_south_21" / "healpix=7" / "001-of-001.hdf5", columns, "lzf")
    flux = {f"{band}_cmodel_flux": f"FLUX_{band.upper()}" for band in "griz"}
    job = write_public_job(
        tmp_path / "job.yaml",
        survey={"base": "legacy-south"},
        catalogue={"columns": flux, "units": dict.fromkeys(flux, "nmgy")},
        ingest={"sources": ["dr10_south_21"]},
        train=ONE_EPOCH,
        storage={"partition_objects": 8, "chunk_objects": 8},
    )
    run = tmp_path / "run"
    summary, _ = run_serially(job, run)
    assert [summary[name] for name in ("given", "scored", "quarantined")] == [24, 23, 1]
    names = [name.decode() for name in columns["object_id"].tolist()]
    candidates = Table.read(run / "candidates.fits")
    found = [str(name).strip() for name in candidates["object_name"]]
    assert set(found) <= set(names)
    assert candidates["object_id"].tolist() == [object_number(name) for name in found]
    (line,) = quarantined(run)
    assert (line["object_id"], line["object_name"]) == (str(object_number(names[5])), names[5])
    with open_run(run) as ds:
        chosen = ds.swimmy.objects([found[1], found[0]])
        assert chosen.object_name.values.tolist() == [found[1], found[0]]
        assert ds.sizes["band"] == 4
        with pytest.raises(SwimmyError, match="object_id 9999m000-1 is not in"):
            ds.swimmy.objects(["9999m000-1"])
    shown = call_here("show", run, found[0], "--json")
    assert shown.returncode == 0, shown.stderr
    answer = json.loads(shown.stdout)
    answer = answer[0] if isinstance(answer, list) else answer["objects"][0]
    assert (answer["object_name"], answer["is_candidate"]) == (found[0], True)
    done = call_here("cutouts", run, found[0], "--output", tmp_path / "stamps")
    assert done.returncode == 0, done.stderr
    assert fits.getheader(tmp_path / "stamps" / f"{object_number(found[0])}.fits")["OBJECT"] == found[0]
    assert f"text={{{found[0]}}}" in next((tmp_path / "stamps").glob("*.reg")).read_text()
    assert Table.read(tmp_path / "stamps" / "targets.fits")["object_name"].tolist() == [found[0]]
    (tmp_path / "marks.csv").write_text(f"format_version,object_id,mark,note\n1,{found[0]},interesting,mine\n")
    done = call_here("select", run, "--marks", tmp_path / "marks.csv", "--output", tmp_path / "vetted")
    assert done.returncode == 0, done.stderr
    vetted = Table.read(tmp_path / "vetted" / "vetted.fits")
    assert {str(row["object_name"]) for row in vetted if row["mark"] == "interesting"} == {found[0]}
    assert call_here("report", run).returncode == 0
    assert found[0] in (run / "report" / "index.html").read_text()
    (tmp_path / "s.yaml").write_text("sample: {colours: [], max_fwhm_arcsec: null}\nselect: {levels: {2sigma: 0.1}}\n")
    done = call_here("select", run, "--settings", tmp_path / "s.yaml", "--output", tmp_path / "fewer")
    assert done.returncode == 3, done.stderr
    done = call_here("compare", run, tmp_path / "fewer", "--output", tmp_path / "differences.csv")
    assert done.returncode == 0, done.stderr
    differences = list(csv.DictReader((tmp_path / "differences.csv").read_text().splitlines()))
    assert {line["object_name"] for line in differences} < set(found)
    assert all(line["object_id"] == str(object_number(line["object_name"])) for line in differences)


def test_unagi_and_the_catalogue_beside_it(tmp_path: Path, finished: Path) -> None:
    """HDF5 without a catalogue: one is needed, and joined by id; bands that differ by a pixel, and a masked galaxy."""
    n, origin = 6, {"HSC-G": (1, 0), "HSC-I": (0, 1)}
    ids = np.arange(n) + 43158172147386000
    flux = np.random.default_rng(2).uniform(5, 40, (n, 5))
    objects = {
        str(ids[row]): {
            f"HSC-{band}": galaxy(row, k, 70, 72)[
                origin.get(f"HSC-{band}", (0, 0))[0] :, origin.get(f"HSC-{band}", (0, 0))[1] :
            ]
            * np.float32(flux[row, k])
            for k, band in enumerate("GRIZY")
        }
        for row in range(n)
    }
    write_unagi(tmp_path / "cutouts.hdf", objects, origin, bad={(str(ids[2]), "HSC-R"): [(35, 36)]})
    alone = call_here("ingest", tmp_path / "cutouts.hdf", "--output", tmp_path / "c.zarr")
    assert alone.returncode == 1
    assert "no column ra" in alone.stderr
    columns = {"object_id": ids[::-1], "ra": 150.0 + 0.01 * np.arange(n), "dec": np.full(n, 2.0)}
    for k, band in enumerate("grizy"):
        columns |= {f"fwhm_arcsec_{band}": np.full(n, 0.7), f"{band}_cmodel_mag": 21.8 - 2.5 * np.log10(flux[::-1, k])}
    Table(columns).write(tmp_path / "catalogue.fits")
    model = weights_of(finished / "run")
    del model["train"]
    job = write_public_job(
        tmp_path / "job.yaml", catalogue={"path": "catalogue.fits"}, ingest={"sources": ["cutouts.hdf"]}, **model
    )
    summary, _ = run_serially(job, tmp_path / "run")
    assert [summary[name] for name in ("given", "scored", "quarantined", "in_sample")] == [6, 6, 0, 5]
    with xarray.open_zarr(tmp_path / "run" / "cutouts.zarr") as store:
        assert store.object_id.values.tolist() == ids[::-1].tolist()
        wanted = [[galaxy(row, k, 70, 72)[3:67, 4:68] * np.float32(flux[row, k]) for k in range(5)] for row in range(n)]
        np.testing.assert_array_equal(store.image.values, np.array(wanted)[::-1])
    candidates = Table.read(tmp_path / "run" / "candidates.fits")
    assert len(candidates) > 0
    assert ids[2] not in candidates["object_id"]


def test_nine_bands(tmp_path: Path) -> None:
    """KiDS and VIKING, one file a band, of which some say their zero point: training, scores, report and figures."""
    bands, n = ("u", "g", "r", "i", "Z", "Y", "J", "H", "Ks"), 24
    object_id, ra, dec = np.arange(n) + 10**12, 130.0 + 0.01 * np.arange(n), np.full(n, 0.5)
    flux = np.random.default_rng(1).uniform(20, 60, (n, 9)) * np.linspace(0.3, 3, 9)
    catalogue = {"object_id": object_id, "ra": ra, "dec": dec}
    (tmp_path / "cutouts").mkdir()
    for k, band in enumerate(bands):
        assumed = 0.0 if band in "ugri" else 30.0
        catalogue |= {
            f"fwhm_arcsec_{band}": np.full(n, 0.9),
            f"{band}_cmodel_mag": 27.0 - 2.5 * np.log10(113 * flux[:, k]),
        }
        for row in range(n):
            stated = {} if row % 2 else {"PHOTZP": 20.0, "PHOTSYS": "AB"}
            pixels = galaxy(row, k, 70, 70) * flux[row, k] * 10 ** (0.4 * (stated.get("PHOTZP", assumed) - 27))
            header = tan_header(ra[row], dec[row], 70, 70, 0.339, **stated)
            hdu = fits.PrimaryHDU(pixels.astype(np.float32), header)
            hdu.writeto(tmp_path / "cutouts" / f"{object_id[row]}_{band}.fits")
    Table(catalogue).write(tmp_path / "catalogue.fits")
    job = write_public_job(
        tmp_path / "job.yaml",
        survey="kids-viking",
        catalogue={"path": "catalogue.fits"},
        ingest={"sources": ["cutouts"]},
        train=ONE_EPOCH,
        storage={"partition_objects": 16, "chunk_objects": 8},
    )
    run = tmp_path / "run"
    summary, _ = run_serially(job, run)
    assert [summary[name] for name in ("given", "scored", "quarantined")] == [24, 24, 0]
    with xarray.open_zarr(run / "cutouts.zarr") as store:
        assert tuple(store.band.values) == bands
        wanted = np.array([[galaxy(row, k, 70, 70)[3:67, 3:67] * flux[row, k] for k in range(9)] for row in range(n)])
        np.testing.assert_allclose(store.image.values, wanted * 10**1.2, rtol=1e-5, atol=1e-5)
    assert "0.0 mag in u, g, r, i and 30.0 mag in Z, Y, J, H, Ks is assumed" in " ".join(summary["warnings"])
    assert len(Table.read(run / "candidates.fits")) > 0
    assert call_here("report", run).returncode == 0
    page = (run / "report" / "index.html").read_text()
    assert "KiDS and VIKING" in page
    done = call_here("figures", run)
    assert done.returncode == 0, done.stderr


def test_a_run_without_a_catalogue(tmp_path: Path) -> None:
    (tmp_path / "cutouts").mkdir()
    (tmp_path / "cutouts" / "2-cutout-HSC-G-9813-pdr3_wide.fits").write_bytes(b"SIMPLE  =")
    done = call_here("ingest", tmp_path / "cutouts", "--output", tmp_path / "c.zarr")
    assert done.returncode == 1
    assert "no catalogue is given, and the sources" in done.stderr
    assert "--catalog, or catalogue.path in a job" in done.stderr
    job = write_public_job(tmp_path / "job.yaml", ingest={"sources": ["cutouts"]}, train={})
    done = call_here("run", job, "--output", tmp_path / "run")
    assert done.returncode == 1
    assert "no catalogue is given, and the sources" in done.stderr
    assert not (tmp_path / "run" / "job.yaml").exists()


def test_ingest_takes_the_catalogue_inside(tmp_path: Path) -> None:
    given = hsc_columns(3)
    write_shard(tmp_path / "mmu" / "healpix=1" / "001-of-001.hdf5", given)
    done = call_here("ingest", tmp_path / "mmu", "--output", tmp_path / "c.zarr")
    assert done.returncode == 0, done.stderr
    assert "3 given = 3 ingested + 0 quarantined" in done.stdout
    done = call_here("ingest", tmp_path / "mmu", "--catalog", tmp_path / "mmu", "--output", tmp_path / "again.zarr")
    assert done.returncode == 0, done.stderr
    with xarray.open_zarr(tmp_path / "c.zarr") as one, xarray.open_zarr(tmp_path / "again.zarr") as other:
        xarray.testing.assert_identical(one.drop_attrs(), other.drop_attrs())


def test_any_partitions_give_the_same(tmp_path: Path, finished: Path) -> None:
    parts = [hsc_columns(4, 0), hsc_columns(3, 1)]
    for number, part in enumerate(parts):
        write_shard(tmp_path / "mmu" / f"healpix={number}" / "001-of-001.hdf5", part)
    model = weights_of(finished / "run")
    del model["train"]
    for size in (1, 16):
        storage = {"partition_objects": size, "chunk_objects": size}
        job = write_public_job(tmp_path / f"{size}.yaml", ingest={"sources": ["mmu"]}, storage=storage, **model)
        run_serially(job, tmp_path / f"run-{size}")
    assert_same_results(tmp_path / "run-1", tmp_path / "run-16")


def test_further_shards_are_added(tmp_path: Path, finished: Path) -> None:
    """A run that gains a shard ends with the rows of one that had both; an addition's catalogue is inside of it."""
    parts = [hsc_columns(4, 0), hsc_columns(3, 1)]
    for number, part in enumerate(parts):
        write_shard(tmp_path / f"healpix={number}" / "001-of-001.hdf5", part)
    model = weights_of(finished / "run")
    del model["train"]
    more = {"name": "more", "catalogue": {}, "ingest": {"sources": ["healpix=1"]}}
    job = write_public_job(tmp_path / "job.yaml", ingest={"sources": ["healpix=0"]}, additions=[more], **model)
    summary, _ = run_serially(job, tmp_path / "run")
    assert [summary[name] for name in ("given", "scored", "quarantined")] == [7, 7, 0]
    check_store(tmp_path / "run", joined(parts), around(joined(parts)["image_array"]))
