"""A request and what has come of it: partial and damaged downloads, and rows that cannot be asked for."""

from __future__ import annotations

import csv
import io
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from archive_files import DECS, IDS, RAS, Ingested, cutout
from astropy.table import Table
from cutout_service import CutoutService, parsed
from tar_files import write_tar

from swimmy_scale.errors import SwimmyError
from swimmy_scale.method.sections import CatalogueSource
from swimmy_scale.method.survey import HSC
from swimmy_scale.stages.request import Asked, Requested, asked_of, write_request

N = 12
ASKED = asked_of(HSC, n_lines=5)


FILES = {(row, b, 9813): cutout(row, k) for row in range(N) for k, b in enumerate("grizy")}


def service(**changed: bytes) -> CutoutService:
    """``g3=b""`` is the file of object 3 in band g."""
    files = FILES | {(int(name[1:]), name[0], 9813): data for name, data in changed.items()}
    return CutoutService(files, RAS, DECS)


def catalogue(folder: Path, **columns: Any) -> CatalogueSource:
    path = folder / "catalogue.parquet"
    Table({"object_id": IDS, "ra": RAS, "dec": DECS, **columns}).write(path, overwrite=True)
    return CatalogueSource(path)


def request(folder: Path, output: str = "lists", *downloaded: Path, asked: Asked = ASKED, **columns: Any) -> Requested:
    return write_request(catalogue(folder, **columns), HSC, asked, folder / output, downloaded)


def fetch(lists: Path, archive: CutoutService) -> Path:
    """What ``download.sh`` does."""
    (lists / "tars").mkdir(exist_ok=True)
    for path in sorted(lists.glob("*-*.txt")):
        (lists / "tars" / f"{path.stem}.tar").write_bytes(archive.answer(path.read_text()))
    return lists / "tars"


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def lines(folder: Path) -> list[tuple[int, str]]:
    """(Row, band) of each line of all lists."""
    found = []
    for path in folder.glob("*-*.txt"):
        for line in parsed(path.read_text()):
            found.append((int(np.argmin(np.abs(RAS - float(line["ra"])))), line["filter"][-1].lower()))
    return sorted(found)


def missing(folder: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO((folder / "missing.csv").read_text())))


def test_a_whole_request(tmp_path: Path) -> None:
    done = request(tmp_path)
    assert done == Requested(12, {}, 60, 15)
    assert lines(tmp_path / "lists") == sorted((row, band) for row in range(N) for band in "grizy")
    tars = fetch(tmp_path / "lists", service())
    again = request(tmp_path, "again", tars)
    assert (again.n_files, again.n_lists, again.n_usable, again.missing, again.unusable) == (0, 0, 60, {}, {})
    assert set(contents(tmp_path / "again")) == {"request.json", "missing.csv"}
    assert missing(tmp_path / "again") == []
    assert Ingested(tars).rows() == list(range(N))


def cut_off(tars: Path, archive: CutoutService) -> None:
    """A transfer that broke in the third of five files."""
    path = tars / "0002-r.tar"
    with tarfile.open(path) as tar:
        end = tar.getmembers()[2].offset_data + 9000
    path.write_bytes(path.read_bytes()[:end])


def no_tar(tars: Path, archive: CutoutService) -> None:
    (tars / "0001-i.tar").write_bytes(b"<html>401 Unauthorized</html>")


def without(*names: str) -> Callable[[Path, CutoutService], None]:
    def remove(tars: Path, archive: CutoutService) -> None:
        for name in names:
            (tars / name).unlink()

    return remove


def unpacked(tars: Path, archive: CutoutService) -> None:
    """As ``curl ... | tar xvf -`` leaves it, and one file is empty."""
    for path in list(tars.glob("*.tar")):
        with tarfile.open(path) as tar:
            tar.extractall(tars, filter="data")
        path.unlink()
    (path,) = tars.rglob("arch-260101-000001/3-*.fits")
    path.write_bytes(b"")


OF_LISTS = {"0001": range(5), "0002": range(5, 10), "0003": range(10, 12)}


@pytest.mark.parametrize(
    ("spoil", "wanted", "codes"),
    [
        (without("0001-g.tar"), [(row, "g") for row in range(5)], {"missing_band": 5}),
        (without("0001-y.tar", "0002-y.tar", "0003-y.tar"), [(row, "y") for row in range(N)], {"missing_band": 12}),
        (
            without("0002-g.tar", "0003-r.tar"),
            [*((row, "g") for row in range(5, 10)), (10, "r"), (11, "r")],
            {"missing_band": 7},
        ),
        (cut_off, [(row, "r") for row in (7, 8, 9)], {"missing_band": 2, "unreadable_file": 1}),
        (no_tar, [(row, "i") for row in range(5)], {"missing_band": 5}),
        (unpacked, [(1, "g")], {"unreadable_file": 1}),
        (without(*(f"{part}-{band}.tar" for part in OF_LISTS for band in "grizy")), None, {"missing_band": 60}),
    ],
    ids=["a list", "one band short", "two lists", "cut off", "no tar", "unpacked", "nothing"],
)
def test_a_partial_download(
    tmp_path: Path, spoil: Callable[..., None], wanted: list[tuple[int, str]] | None, codes: dict[str, int]
) -> None:
    archive = service()
    request(tmp_path)
    tars = fetch(tmp_path / "lists", archive)
    spoil(tars, archive)
    done = request(tmp_path, "again", tars)
    expected = sorted((row, b) for row in range(N) for b in "grizy") if wanted is None else sorted(wanted)
    assert lines(tmp_path / "again") == expected
    assert (done.n_files, done.n_usable, done.missing, done.unusable) == (len(expected), 60 - len(expected), codes, {})
    named = missing(tmp_path / "again")
    assert [(int(line["object_id"]) - IDS[0], line["band"]) for line in named] == sorted(
        expected, key=lambda item: (item[0], "grizy".index(item[1]))
    )
    assert {line["asked_again"] for line in named} == {"yes"}
    # What came first and what came then make the whole.
    more = fetch(tmp_path / "again", archive)
    assert request(tmp_path, "third", tars, more).n_files == 0
    assert Ingested(tars, more).rows() == list(range(N))


def test_what_would_come_the_same_is_not_asked_for_again(tmp_path: Path) -> None:
    """A file without data is the archive's; one that is no FITS file was damaged on its way."""
    empty = cutout(4, 1, np.zeros((64, 64), np.float32))
    archive = service(g2=b"SIMPLE", r4=empty, i4=b"x", z11=cutout(11, 3, np.zeros((40, 40), np.float32)))
    request(tmp_path)
    done = request(tmp_path, "again", fetch(tmp_path / "lists", archive))
    assert (done.missing, done.unusable) == ({"unreadable_file": 2}, {"no_data": 1, "wrong_shape": 1})
    assert lines(tmp_path / "again") == [(2, "g"), (4, "i")]
    told = {(int(line["object_id"]) - IDS[0], line["band"]): line for line in missing(tmp_path / "again")}
    assert [(key, line["code"], line["asked_again"]) for key, line in told.items()] == [
        ((2, "g"), "unreadable_file", "yes"),
        ((4, "r"), "no_data", "no"),
        ((4, "i"), "unreadable_file", "yes"),
        ((11, "z"), "wrong_shape", "no"),
    ]
    assert told[4, "r"]["source"].endswith("0001-r.tar:arch-260101-000003/6-cutout-HSC-R-9813-pdr3_wide.fits")


def test_some_bands_alone(tmp_path: Path) -> None:
    asked = asked_of(HSC, ("i", "g"), n_lines=100)
    assert request(tmp_path, asked=asked).n_files == 24
    tars = fetch(tmp_path / "lists", service(r0=b"", g0=b""))
    done = request(tmp_path, "again", tars, asked=asked)
    assert lines(tmp_path / "again") == [(0, "g")]
    assert (done.n_usable, done.missing) == (23, {"unreadable_file": 1})


@pytest.mark.parametrize(
    ("columns", "left_out", "rows"),
    [
        ({"object_id": np.where(np.arange(N) == 5, IDS[0], IDS)}, {"duplicate_object_id": 1}, {5}),
        ({"ra": np.where(np.arange(N) == 3, np.nan, RAS)}, {"position_missing": 1}, {3}),
        (
            {"object_id": np.where(np.arange(N) == 2, np.nan, np.arange(N)), "dec": np.full(N, 2.0)},
            {"object_id_lost": 1},
            {2},
        ),
        ({"object_id": [f"näme {k}" for k in range(N)]}, {}, set()),
    ],
    ids=["duplicate", "no position", "no id", "names"],
)
def test_rows_that_cannot_be_asked_for(
    tmp_path: Path, columns: dict[str, Any], left_out: dict[str, int], rows: set[int]
) -> None:
    done = request(tmp_path, **columns)
    assert (done.n_objects, done.left_out) == (N - len(rows), left_out)
    assert {row for row, _ in lines(tmp_path / "lists")} == set(range(N)) - rows
    again = request(tmp_path, "again", fetch(tmp_path / "lists", service(g8=b"")), **columns)
    assert (again.n_usable, again.missing) == (5 * (N - len(rows)) - 1, {"unreadable_file": 1})
    assert all(path.read_text().isascii() for path in (tmp_path / "lists").glob("*-*.txt"))
    (line,) = missing(tmp_path / "again")
    assert line.get("object_name") == ("näme 8" if not rows else None)


def test_the_same_request_gives_the_same_bytes_and_goes_on(tmp_path: Path) -> None:
    request(tmp_path)
    first = contents(tmp_path / "lists")
    # Stopped in the middle.
    (tmp_path / "lists/0003-z.txt").unlink()
    (tmp_path / "lists/download.sh").unlink()
    (tmp_path / "lists/0001-g.txt").write_text("half")
    untouched = (tmp_path / "lists/0002-r.txt").stat().st_mtime_ns
    request(tmp_path)
    assert contents(tmp_path / "lists") == first
    assert (tmp_path / "lists/0002-r.txt").stat().st_mtime_ns == untouched
    # A column more, or another name of the file, changes nothing of the lists.
    request(tmp_path, i_cmodel_mag=np.full(N, 18.0))
    (tmp_path / "catalogue.parquet").rename(tmp_path / "ñame.parquet")
    write_request(CatalogueSource(tmp_path / "ñame.parquet"), HSC, ASKED, tmp_path / "lists")
    assert {name: data for name, data in contents(tmp_path / "lists").items() if name != "request.json"} == {
        name: data for name, data in first.items() if name != "request.json"
    }


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"ra": RAS + 0.001}, r"lists: holds the lists of another request \(other objects, positions or missing files"),
        ({"tract": np.full(N, 9813)}, r"\(other objects, positions or missing"),
        ({"asked": asked_of(HSC, n_lines=6)}, r"another request \(n_lines 5, now 6\). Choose a new folder"),
        ({"asked": asked_of(HSC, rerun="pdr3_dud", n_lines=5)}, r"\(rerun 'pdr3_wide', now 'pdr3_dud'\)"),
        (
            {"asked": asked_of(HSC, ("g",), n_lines=5)},
            r"bands \['g', 'r', 'i', 'z', 'y'\], now \['g'\]\)\. Choose",
        ),
    ],
)
def test_another_request_in_the_same_folder_is_refused(tmp_path: Path, keys: dict[str, Any], message: str) -> None:
    request(tmp_path)
    before = contents(tmp_path / "lists")
    with pytest.raises(SwimmyError, match=message):
        request(tmp_path, **keys)
    assert contents(tmp_path / "lists") == before


def test_what_is_missing_changes(tmp_path: Path) -> None:
    """Lists of what was missing then stay as they are: their tars may be on their way."""
    request(tmp_path)
    tars = fetch(tmp_path / "lists", service())
    with pytest.raises(SwimmyError, match=r"another request \(of 'all files', now 'missing files'\)"):
        request(tmp_path, "lists", tars)
    (tars / "0001-g.tar").unlink()
    request(tmp_path, "again", tars)
    first = contents(tmp_path / "again")
    request(tmp_path, "again", tars)
    assert contents(tmp_path / "again") == first
    (tars / "0002-g.tar").unlink()
    with pytest.raises(SwimmyError, match=r"again: holds the lists of another request \(n_files 5, now 10\)"):
        request(tmp_path, "again", tars)
    assert contents(tmp_path / "again") == first


def test_a_folder_of_somebody_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "lists").mkdir()
    (tmp_path / "lists/mine.txt").write_text("x")
    with pytest.raises(SwimmyError, match=r"lists: holds files, and no request.json of an earlier request. Choose"):
        request(tmp_path)
    for text in ("[]", "{", "\xff"):
        (tmp_path / "lists/request.json").write_text(text, encoding="latin-1")
        with pytest.raises(SwimmyError, match=r"request.json: is no record of a request \(.*Choose a new folder"):
            request(tmp_path)
    assert (tmp_path / "lists/mine.txt").read_text() == "x"


def test_nothing_to_ask_for(tmp_path: Path) -> None:
    with pytest.raises(SwimmyError, match=r"none of its 12 rows can be asked for \(position_missing 12\). Correct"):
        request(tmp_path, ra=np.full(N, np.nan))
    assert not (tmp_path / "lists").exists()


def test_what_is_downloaded_is_of_another_catalogue_or_no_cutouts(tmp_path: Path) -> None:
    request(tmp_path)
    tars = fetch(tmp_path / "lists", service())
    with pytest.raises(SwimmyError, match="none of 60 files belongs to an object of the catalogue"):
        request(tmp_path, "again", tars, ra=RAS + 20)
    np.save(tmp_path / "cube.npy", np.zeros((N, 5, 64, 64), np.float32))
    with pytest.raises(
        SwimmyError, match=r"--downloaded .*cube.npy: holds no cutouts, but what ingest takes for a cube"
    ):
        request(tmp_path, "again", tmp_path / "cube.npy")
    assert not (tmp_path / "again").exists()


def test_other_tars_and_folders_with_strange_names(tmp_path: Path) -> None:
    """Tars of lists that somebody made by hand, in a folder and a tar with names beyond ASCII."""
    folder = tmp_path / "früh\u2028er"
    folder.mkdir()
    name = "arch-1/{}-cutout-HSC-{}-9813-pdr3_wide.fits"
    some = {name.format(row + 2, b.upper()): cutout(row, k) for row in range(6) for k, b in enumerate("grizy")}
    write_tar(folder / "ä.tar", some)
    done = request(tmp_path, "lists", folder)
    assert lines(tmp_path / "lists") == [(row, band) for row in range(6, N) for band in sorted("grizy")]
    assert (done.n_usable, done.missing) == (30, {"missing_band": 30})
