"""The page "Get the data": its queries give what the program reads, and its commands lead from an account to a run.

The archive is a stand-in (`cutout_service`): queries are answered from a simulated survey, lists by its files.
"""

from __future__ import annotations

import contextlib
import json
import re
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import xarray
import yaml
from astropy.table import Table
from cutout_service import ACCOUNT, PASSWORD, CutoutService, served
from survey_runs import call_here, weights_of

from swimmy_scale.ingest.catalogue.catalogue import read_catalogue
from swimmy_scale.ingest.catalogue.objects import Objects
from swimmy_scale.method.job import Job, parse_job
from swimmy_scale.method.sample import FLAG_NAMES
from swimmy_scale.method.sections import CatalogueSource
from swimmy_scale.method.survey import HSC

PAGE = Path(__file__).resolve().parents[1] / "docs" / "get-the-data.md"
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```", PAGE.read_text(), flags=re.DOTALL | re.MULTILINE)
CATALOGUE_SQL, PATCH_QA_SQL = (text for language, text in BLOCKS if language == "sql")
(JOB,) = (text for language, text in BLOCKS if language == "yaml")
BANDS = "grizy"
OF_PIXELS = ("missing_band", "unreadable_file", "no_image_hdu", "wrong_shape", "not_finite_pixels", "no_data")


def of_bands(*names: str) -> set[str]:
    return {f"{band}_{name}" for band in BANDS for name in names}


PIXEL_FLAGS = ("edge", "interpolatedcenter", "saturatedcenter", "crcenter", "bad", "bright_objectcenter")
# Where PDR3 has which column, by published queries of that release.
SCHEMA = {
    "pdr3_wide.forced": {"object_id", "ra", "dec", "tract", "patch", "isprimary"}
    | of_bands("cmodel_mag", *(f"pixelflags_{name}" for name in PIXEL_FLAGS)),
    "pdr3_wide.forced2": {"object_id"} | of_bands("psfflux_mag", "sdssshape_flag"),
    "pdr3_wide.masks": {"object_id"} | of_bands(*(f"mask_brightstar_{k}" for k in ("halo", "ghost", "blooming"))),
    "pdr3_wide.specz": {"object_id", "specz_redshift", "specz_flag_homogeneous"},
    "pdr3_wide.patch_qa": {"skymap_id"} | {f"{b}{what}" for b in BANDS for what in ("seeing", "mag_psf_depth")},
}


def selected(sql: str) -> dict[str, list[str]]:
    """Name of each column that a query gives, and the columns that it is made of."""
    listed = re.match(r"SELECT\s(.*?)\nFROM ", sql, flags=re.DOTALL)[1]  # type: ignore[index]
    found = {}
    for item in re.split(r",(?![^(]*\))", listed):
        expression, name = [*re.split(r"\s+AS\s+", item.strip()), ""][:2]
        parts = re.findall(r"[a-z]\w*(?:\.\w+)?", expression)
        found[name or parts[0].rpartition(".")[2]] = parts
    return found


def answered(sql: str, survey: Path) -> Table:
    """What the archive's database would give for a query: its columns, and `_isnull` beside each."""
    if "patch_qa" in sql:
        rows = Table.read(survey / "patch_qa.fits")
        rows["skymap_id"] = np.array(rows["tract"]) * 10000 + np.array(rows["patch"])
    else:
        rows = Table.read(survey / "catalogue.fits")
        assert "f.i_cmodel_mag < 20\n" in sql
        assert "f2.i_psfflux_mag - f.i_cmodel_mag > 0.2\n" in sql
        rows = rows[(rows["i_cmodel_mag"] < 20) & (rows["i_psfflux_mag"] - rows["i_cmodel_mag"] > 0.2)]
        assert "ORDER BY f.object_id" in sql
        rows = rows[np.argsort(rows["object_id"], kind="stable")]
    given = Table()
    for name, parts in selected(sql).items():
        columns = [np.array(rows[part.rpartition(".")[2]]) for part in parts]
        given[name] = columns[0] if len(columns) == 1 else np.any(columns, axis=0)
        given[f"{name}_isnull"] = np.zeros(len(rows), np.bool_)
    return given


def read(folder: Path, catalogue: Table) -> Objects:
    catalogue[:3].write(folder / "catalogue.parquet", overwrite=True)
    return read_catalogue(CatalogueSource(folder / "catalogue.parquet", patch_qa=folder / "patch_qa.fits"), HSC)


@pytest.mark.parametrize("sql", [CATALOGUE_SQL, PATCH_QA_SQL], ids=["catalogue", "patch_qa"])
def test_columns_are_those_of_the_release(sql: str) -> None:
    named = {short: table for table, short in re.findall(r"(pdr3_wide\.\w+) AS (\w+)", sql)}
    # A table without a short name is the only one, or the one inside of `s`.
    (alone,) = re.findall(r"FROM (pdr3_wide\.\w+)\n", sql)
    used = {part for parts in selected(sql).values() for part in parts}
    used |= set(re.findall(r"\b[a-z]\w*\.\w+\b", sql)) - set(SCHEMA)
    inner = re.search(r"SELECT DISTINCT ON \((\w+)\) (.*)\s+FROM .*\s+WHERE (\w+)\s+ORDER BY (.*)\s", sql)
    assert (inner is None) == (sql is PATCH_QA_SQL)
    used |= {inner[1], *inner[2].split(", "), inner[3], *inner[4].split(", ")} if inner else set()
    assert len(used) > 10
    for part in used:
        table, _, column = part.rpartition(".")
        assert column in SCHEMA[named.get(table, alone)], part


@pytest.mark.slow
def test_queries_give_all_that_the_program_reads_and_no_more(finished: Path, tmp_path: Path) -> None:
    catalogue, patch_qa = (answered(sql, finished / "survey") for sql in (CATALOGUE_SQL, PATCH_QA_SQL))
    patch_qa.write(tmp_path / "patch_qa.fits")
    whole = read(tmp_path, catalogue)
    assert whole.available == {*FLAG_NAMES, "psf_mag", "redshift"} | {
        f"{what}_{band}" for what in ("mag", "fwhm_arcsec", "depth_mag") for band in BANDS
    }
    assert not [line for line in whole.warnings if "no column" in line or "unknown in bands" in line]
    for name in selected(CATALOGUE_SQL):
        if name in ("object_id", "ra", "dec", "tract", "patch"):
            continue
        less = catalogue.copy()
        less.remove_columns([name, f"{name}_isnull"])
        found = read(tmp_path, less)
        assert (found.available, found.warnings) != (whole.available, whole.warnings), f"{name} is not used"


def commands() -> Iterator[list[str]]:
    for language, text in BLOCKS:
        if language == "console":
            assert all(line.startswith("$ ") for line in text.splitlines())
            yield from (shlex.split(line[2:]) for line in text.splitlines())


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("curl") is None, reason="the page's download needs curl")
def test_the_commands_of_the_page(finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    survey = finished / "survey"
    archive = CutoutService.of_survey(survey, n_objects_per_tar=80)
    netrc = re.search(r"machine \S+ login ACCOUNT password PASSWORD", PAGE.read_text())
    assert netrc is not None
    words = netrc[0].replace("hsc-release.mtk.nao.ac.jp", "127.0.0.1").replace("ACCOUNT", ACCOUNT)
    (tmp_path / ".netrc").write_text(words.replace("PASSWORD", PASSWORD) + "\n")
    (tmp_path / "catalogue.sql").write_text(CATALOGUE_SQL)
    (tmp_path / "patch_qa.sql").write_text(PATCH_QA_SQL)
    # The reader's job trains; here weights that are there score.
    job = yaml.safe_load(JOB) | weights_of(finished / "run")
    (tmp_path / "hsc.yaml").write_text(yaml.safe_dump({key: value for key, value in job.items() if value}))
    parse_job(JOB, tmp_path / "job.yaml", Job)
    said: dict[str, str] = {}
    with contextlib.chdir(tmp_path), served(archive) as address:
        monkeypatch.setenv("HOME", str(tmp_path))
        monkeypatch.setenv("CUTOUT_SERVICE", address)
        # At first the service sends no cutout of a sixth of the objects in z.
        archive.lost = lambda row, band: band == "z" and row % 6 == 0
        for command in commands():
            said[" ".join(command)] = performed(command, survey, address)
            if command == ["sh", "lists/download.sh"]:
                (tmp_path / "lists/tars/0001-y.tar").write_bytes(b"")
                assert "all lists are fetched" in performed(command, survey, address)
                archive.lost = lambda row, band: False
    judge(tmp_path, finished / "run", said, survey)


def performed(command: list[str], survey: Path, address: str) -> str:
    """What a command of the page says, where it stands for the reader's own."""
    if command[0] == "swimmy-scale":
        done = call_here(*command[1:], *(["--workers", "0"] if command[1] == "run" else []))
        assert done.returncode in (0, 3), f"{command}: {done.stderr}"
        return done.stdout
    if command[:2] == ["python", "hscReleaseQuery.py"]:
        *_, query, redirected, output = command
        assert redirected == ">"
        answered(Path(query).read_text(), survey).write(output)
        return ""
    assert command[0] in ("sh", "curl")
    words = [address if word.startswith("https:") else word for word in command]
    return subprocess.run(words, check=True, capture_output=True, text=True, timeout=60).stdout


def judge(folder: Path, run: Path, said: dict[str, str], survey: Path) -> None:
    """The cutouts are those of a run on the survey's own files, and the numbers add up."""
    n_objects = len(Table.read(folder / "catalogue.fits"))
    first, second, third = (text for words, text in said.items() if words.startswith("swimmy-scale request"))
    n_asked = int(first.split(" ", 1)[0])
    assert f"{n_asked} objects in the bands g, r, i, z, y\nleft out, " in first
    assert f": duplicate_object_id {n_objects - n_asked}\n" in first
    assert f"lists: {5 * n_asked:,} files in 5 lists" in first
    assert "next: sh lists/download.sh" in first
    again = json.loads((folder / "lists-again/request.json").read_text())
    last = json.loads((folder / "lists-third/request.json").read_text())
    assert f"lists-again: {again['n_files']} files in " in second
    # Files that the survey has spoilt stay missing or unusable, and no others.
    assert last["n_files"] < 15 < again["n_files"]
    left = Table.read(folder / "lists-third/missing.csv")
    assert f"{5 * n_asked - len(left):,} files have come and are usable\nmissing or damaged" in third
    truth = Table.read(survey / "truth.fits")
    truth = truth[np.isin(truth["object_id"], Table.read(folder / "catalogue.fits")["object_id"])]
    # The pixels of some are in another tract alone, and the lists ask for the catalogue's.
    code = np.where(truth["overlap"].astype(str) == "instead", "no_data", truth["fault"].astype(str))
    chosen = np.isin(code, OF_PIXELS)
    spoilt = dict(zip(truth["object_id"][chosen].tolist(), code[chosen].tolist(), strict=True))
    assert dict(zip(left["object_id"].tolist(), left["code"].tolist(), strict=True)) == spoilt
    assert (folder / "one.tar").stat().st_size == (folder / "lists/tars/0001-g.tar").stat().st_size
    summary = json.loads((folder / "runs/hsc/summary.json").read_text())
    assert summary["given"] == n_objects == summary["scored"] + summary["quarantined"]
    with xarray.open_zarr(folder / "runs/hsc/cutouts.zarr") as found, xarray.open_zarr(run / "cutouts.zarr") as whole:
        place = {int(number): row for row, number in reversed(list(enumerate(whole.object_id.to_numpy())))}
        expected = whole.isel(object=[place[int(number)] for number in found.object_id.to_numpy()])
        good = ((found.quarantine_code == 0) & (expected.quarantine_code == 0)).to_numpy()
        assert good.sum() > 0.9 * n_objects
        same = (found.image == expected.image).all(("band", "y", "x")).to_numpy()
        assert found.object_id.to_numpy()[good & ~same].tolist() == []


def test_the_script_ends_where_the_account_is_wrong(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Three refusals in a row, not one for each of thousands of lists; and it goes on when they are mended."""
    if shutil.which("curl") is None:
        pytest.skip("needs curl")
    Table({"object_id": np.arange(9), "ra": 150.0 + np.arange(9), "dec": np.zeros(9)}).write(tmp_path / "c.csv")
    folder = tmp_path / "lïsts of mine"
    assert call_here("request", tmp_path / "c.csv", "--output", folder, "--limit", 5).returncode == 0
    archive = CutoutService({(0, "g", 9): b"x"}, np.array([150.0]), np.array([0.0]))
    monkeypatch.setenv("HOME", str(tmp_path))

    def download(address: str) -> subprocess.CompletedProcess[str]:
        environment = {"PATH": "/usr/bin:/bin", "HOME": str(tmp_path), "CUTOUT_SERVICE": address}
        words = ["sh", f"{folder}/download.sh"]
        return subprocess.run(words, env=environment, check=False, capture_output=True, text=True, timeout=60)

    with served(archive) as address:
        (tmp_path / ".netrc").write_text(f"machine 127.0.0.1 login {ACCOUNT} password wrong\n")
        done = download(address)
        assert (done.returncode, done.stderr.count("not fetched"), archive.n_lists) == (1, 3, 0)
        assert "401" in done.stderr
        (tmp_path / ".netrc").write_text(f"machine 127.0.0.1 login {ACCOUNT} password {PASSWORD}\n")
        done = download(address)
        assert (done.returncode, done.stdout, archive.n_lists) == (0, "all lists are fetched\n", 10)
        assert download(address).returncode == 0
        assert archive.n_lists == 10, "what is there is not asked for again"
        assert not list(folder.glob("*.part"))
