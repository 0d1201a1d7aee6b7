"""Candidate catalogues read by what is not astropy: STILTS (TOPCAT's own library) and pandas."""

from __future__ import annotations

import csv
import fcntl
import io
import os
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pandas
import pyarrow.parquet as pq
import pytest
from astropy.io import fits
from astropy.io.votable import parse
from astropy.io.votable.ucd import check_ucd
from astropy.table import Table

from swimmy_scale.method.candidates import candidate_columns
from swimmy_scale.storage.candidate_files import FORMATS, column_info, write_candidates

LEVELS, BANDS = ("2sigma", "3sigma", "3.5sigma"), ("g", "r", "i", "z", "y")
N = 40
STILTS_FORMATS = {"fits": "fits", "vot": "votable"}
APT = ("apt-get", "-o", "DPkg::Lock::Timeout=60", "-qq", "install", "-y", "--no-install-recommends", "stilts")


@pytest.fixture(scope="module")
def columns() -> dict[str, np.ndarray]:
    """As selection makes them: large ids, NaN among the kept columns, text that is empty."""
    rng = np.random.default_rng(4)
    score, residual = rng.lognormal(size=(2, N, 5)).astype(np.float32)
    flags = rng.random((N, 3, 5)) < 0.2
    kept = {
        "mag_i": np.where(np.arange(N) % 3, rng.uniform(16, 20, N), np.nan).astype(np.float32),
        "fwhm_arcsec_g": rng.uniform(0.5, 1, N).astype(np.float32),
        "redshift": np.where(np.arange(N) % 2, rng.uniform(0, 1, N), np.nan),
        "sample_class": np.where(np.arange(N) % 4, "quasar", ""),
        "tract": np.arange(N, dtype=np.int32),
        "extended": np.arange(N) % 5 == 0,
        "whatever": rng.normal(size=N),
    }
    object_id = rng.permutation(np.arange(N, dtype=np.int64) + 2**60 + 1)
    ra, dec = rng.uniform(0, 360, N), rng.uniform(-90, 90, N)
    return candidate_columns(object_id, ra, dec, score, residual, flags, LEVELS, BANDS, BANDS[:3], kept)


@pytest.fixture(scope="module")
def paths(columns: dict[str, np.ndarray], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    meta = {"survey": "HSC-SSP wide", "simulated": True, "thresholds": {"2sigma": {"g": 0.1 + 0.2}}}
    return write_candidates(columns, tmp_path_factory.mktemp("readers"), meta=meta)


@pytest.fixture(scope="session")
def stilts_program() -> str:
    """STILTS; installed if it is missing and this process may install it."""
    if shutil.which("stilts") is None:
        if os.geteuid() != 0 or shutil.which("apt-get") is None:
            pytest.skip("stilts is not installed, and only root on a Debian-like system can install it")
        # The same lock as cluster/throwaway-slurm: one installs at a time.
        with Path("/tmp/throwaway-slurm-install.lock").open("w") as lock:  # noqa: S108
            fcntl.flock(lock, fcntl.LOCK_EX)
            done = subprocess.run(APT, capture_output=True, text=True, timeout=250, check=False)
        if done.returncode:
            pytest.skip(f"stilts could not be installed: {done.stderr.strip()[-200:]}")
    return str(shutil.which("stilts"))


def stilts(*words: str) -> str:
    done = subprocess.run(words, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def same(texts: list[str], values: np.ndarray) -> bool:
    """Whether texts of a CSV file are these values; missing numbers are empty there."""
    if values.dtype.kind == "U":
        return texts == values.tolist()
    if values.dtype.kind == "b":
        return [text == "true" for text in texts] == values.tolist()
    if values.dtype.kind == "f":
        return np.array_equal(np.array([float(text or "nan") for text in texts], values.dtype), values, equal_nan=True)
    return [int(text) for text in texts] == values.tolist()


@pytest.mark.parametrize("name", STILTS_FORMATS)
def test_stilts_reads_the_same_values(
    stilts_program: str, name: str, paths: dict[str, Path], columns: dict[str, np.ndarray]
) -> None:
    """ECSV and Parquet are read by STILTS as it comes from its authors; Debian's lacks their libraries."""
    text = stilts(stilts_program, "tpipe", f"in={paths[name]}", f"ifmt={STILTS_FORMATS[name]}", "ofmt=csv")
    rows = list(csv.DictReader(io.StringIO(text)))
    assert len(rows) == len(columns["object_id"]) > 10
    assert list(rows[0]) == list(columns)
    for column, values in columns.items():
        assert same([row[column] for row in rows], values), column


@pytest.mark.parametrize("name", STILTS_FORMATS)
def test_stilts_reads_units_descriptions_and_ucds(
    stilts_program: str, name: str, paths: dict[str, Path], columns: dict[str, np.ndarray]
) -> None:
    words = ("tpipe", f"in={paths[name]}", f"ifmt={STILTS_FORMATS[name]}", "cmd=meta name units ucd description")
    rows = {row["Name"]: row for row in csv.DictReader(io.StringIO(stilts(stilts_program, *words, "ofmt=csv")))}
    for column in columns:
        info = column_info(column)
        assert (rows[column]["Units"], rows[column]["Description"]) == (info.unit, info.description)
        # FITS has no place for UCDs.
        assert rows[column]["UCD"] == (info.ucd if name == "vot" else "")


def test_votlint_has_nothing_to_say(stilts_program: str, paths: dict[str, Path]) -> None:
    done = subprocess.run(
        [stilts_program, "votlint", str(paths["vot"])], capture_output=True, text=True, timeout=120, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_pandas_reads_parquet(paths: dict[str, Path], columns: dict[str, np.ndarray]) -> None:
    frame = pandas.read_parquet(paths["parquet"])
    assert list(frame) == list(columns)
    for column, values in columns.items():
        if values.dtype.kind == "U":
            assert frame[column].tolist() == values.tolist()
        else:
            assert frame[column].dtype == values.dtype
            assert np.array_equal(frame[column].to_numpy(), values, equal_nan=values.dtype.kind == "f")


def test_pandas_reads_ecsv(paths: dict[str, Path], columns: dict[str, np.ndarray]) -> None:
    frame = pandas.read_csv(paths["ecsv"], comment="#", sep=" ")
    assert list(frame) == list(columns)
    for column in ("object_id", "ra", "dec", "tract"):
        assert np.array_equal(frame[column].to_numpy(), columns[column]), column
    assert np.array_equal(frame["score_g"].to_numpy().astype(np.float32), columns["score_g"])


def told(name: str, path: Path) -> dict[str, tuple[str, str]]:
    """Unit and description of every column, as the format's own reader gives them."""
    if name == "fits":
        with fits.open(path) as hdus:
            cards, n_columns = hdus[1].header, hdus[1].header["TFIELDS"]
            return {
                cards[f"TTYPE{k}"]: (cards.get(f"TUNIT{k}", ""), cards[f"TCOMM{k}"]) for k in range(1, n_columns + 1)
            }
    if name == "vot":
        fields = parse(path, verify="exception").get_first_table().fields
        return {field.name: (str(field.unit or ""), field.description) for field in fields}
    if name == "parquet":
        schema = pq.read_schema(path)
        facts = {field.name: field.metadata for field in schema}
        return {key: (value.get(b"unit", b"").decode(), value[b"description"].decode()) for key, value in facts.items()}
    table = Table.read(path, format="ascii.ecsv")
    return {key: (str(table[key].unit or ""), table[key].description) for key in table.colnames}


@pytest.mark.parametrize("name", FORMATS)
def test_every_column_has_its_unit_and_description(
    name: str, paths: dict[str, Path], columns: dict[str, np.ndarray]
) -> None:
    assert told(name, paths[name]) == {
        column: (column_info(column).unit, column_info(column).description) for column in columns
    }


def test_every_ucd_is_one(columns: dict[str, np.ndarray]) -> None:
    ucds = [column_info(column).ucd for column in columns]
    assert sum(bool(ucd) for ucd in ucds) >= 15
    assert all(check_ucd(ucd, check_controlled_vocabulary=True) for ucd in ucds if ucd)
