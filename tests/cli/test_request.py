"""What `request` says, on the terminal and to scripts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from archive_files import cutout, name_of
from astropy.table import Table
from survey_runs import call_here
from tar_files import write_tar

N = 4


@pytest.fixture
def catalogue(tmp_path: Path) -> Path:
    path = tmp_path / "catalogue.csv"
    ra = 150.0 + 0.01 * np.arange(N)
    Table({"object_id": np.arange(N) + 1, "ra": ra, "dec": np.full(N, 2.0)}).write(path)
    return path


def said(*words: object) -> list[str]:
    done = call_here("request", *words)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_a_request(catalogue: Path, tmp_path: Path) -> None:
    lists = tmp_path / "lists"
    assert said(catalogue, "--output", lists, "--rate", 0.01) == [
        "4 objects in the bands g, r, i, z, y",
        f"{lists}: 20 files in 5 lists: about 0.6 MB, and 33.3 minutes at 0.01 files a second",
        f"next: sh {lists / 'download.sh'}",
    ]


def test_what_a_download_lacks(catalogue: Path, tmp_path: Path) -> None:
    """One band of one object, and one that would come the same again."""
    files = {name_of("arch-1", row + 2, b): cutout(row, k) for row in range(N) for k, b in enumerate("grizy")}
    files[name_of("arch-1", 3, "z")] = b"broken"
    files[name_of("arch-1", 4, "g")] = cutout(2, 0, np.zeros((64, 64), np.float32))
    tar = write_tar(tmp_path / "first.tar", files)
    again = tmp_path / "again"
    assert said(catalogue, "--output", again, "--downloaded", tar) == [
        "4 objects in the bands g, r, i, z, y",
        "18 files have come and are usable",
        f"missing or damaged, and asked for: unreadable_file 1; {again / 'missing.csv'} names them",
        "not asked for again, since the same would come: no_data 1; they are named there, too",
        f"{again}: 1 file in 1 list: about 0.0 MB, and less than a minute at 10 files a second",
        f"next: sh {again / 'download.sh'}",
    ]
    del files[name_of("arch-1", 4, "g")], files[name_of("arch-1", 3, "z")]
    some = write_tar(tmp_path / "some.tar", files)
    assert said(catalogue, "--output", tmp_path / "i", "--downloaded", some, "--band", "i") == [
        "4 objects in the bands i",
        "4 files have come and are usable",
        "nothing is missing",
    ]


def test_a_document_for_scripts(catalogue: Path, tmp_path: Path) -> None:
    done = call_here("request", catalogue, "--output", tmp_path / "lists", "--limit", 3, "--size", 80, "--json")
    document: dict[str, Any] = json.loads(done.stdout)
    assert document == {
        "output": str(tmp_path / "lists"),
        "n_objects": 4,
        "left_out": {},
        "n_files": 20,
        "n_lists": 10,
        "n_usable": None,
        "missing": {},
        "unusable": {},
        # Four headers and 80 x 80 float32 in blocks of 2880 bytes, with the tar's header and padding.
        "bytes": 20 * 38_400,
        "hours": pytest.approx(20 / 10 / 3600),
    }


def test_the_survey_of_a_job(catalogue: Path, tmp_path: Path) -> None:
    """Bands, size and pixel scale come from the settings; the catalogue may have names of its own."""
    settings = tmp_path / "settings.yaml"
    bands = "bands: [g, r, i], selecting_bands: [g, r, i], band_divisors: [1, 1, 1], min_depth_mag: [25, 25, 25]"
    settings.write_text(f"survey: {{base: hsc, {bands}, pixel_scale_arcsec: 0.2}}\n")
    theirs = tmp_path / "theirs.csv"
    theirs.write_text(catalogue.read_text().replace("object_id,ra,dec", "id,lon,lat"))
    words = [*("--column", "object_id=id"), *("--column", "ra=lon"), *("--column", "dec=lat")]
    lines = said(theirs, "--output", tmp_path / "lists", "--settings", settings, *words)
    assert lines[0] == "4 objects in the bands g, r, i"
    assert (tmp_path / "lists/0001-r.txt").read_text().splitlines()[1].endswith(" 6.600asec 6.600asec")
