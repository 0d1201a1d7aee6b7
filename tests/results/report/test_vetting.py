"""The vetted catalogue: marks beside candidates, artefacts left out, and marks of another run refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from astropy.io import fits
from astropy.io.votable import parse_single_table
from astropy.table import Table
from click.testing import CliRunner
from survey_runs import LEVELS, make_scores

from swimmy_scale.cli import main
from swimmy_scale.errors import SwimmyError
from swimmy_scale.results.report.vetting import write_vetted
from swimmy_scale.storage.candidate_files import FORMATS

FIRST = 39582418599936000  # a spreadsheet's numbers would round it
HEADER = "format_version,object_id,mark,note\n"
THRESHOLD = np.ones((len(LEVELS), 5))


def silent(n_done: int, n_rows: int) -> None:
    """For those who do not watch."""


@pytest.fixture(scope="module")
def scores(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("vetting") / "scores.zarr"
    values = [[float(row)] * 5 for row in range(8)]
    make_scores(path, values, ["g", "", "r", "gr", "", "i", "g", "gri"], THRESHOLD, FIRST)
    return path.parent


def marks(folder: Path, *lines: str) -> Path:
    path = folder / "marks.csv"
    path.write_text(HEADER + "".join(f"1,{line}\n" for line in lines))
    return path


def test_artefacts_are_left_out_and_marks_stand_beside_the_others(scores: Path, tmp_path: Path) -> None:
    given = marks(
        tmp_path,
        *(f"{FIRST + 2},artefact,ghost", f"{FIRST + 3},interesting,'=green pea"),
        *(f"{FIRST + 6},,ask again", f"{FIRST + 7},known,"),
    )
    result = CliRunner().invoke(main, ["select", str(scores), "--marks", str(given), "--output", str(tmp_path / "v")])
    assert result.exit_code == 0, result.output
    assert result.stdout.splitlines()[:2] == [
        "6 candidates = 5 vetted + 1 artefact",
        "6 candidates = 1 interesting + 1 artefact + 1 known + 1 only noted + 2 without mark or note",
    ]
    assert result.stderr.startswith("select: 8 rows\nselect: done, 8 rows in ")
    expected = [(FIRST, "", ""), (FIRST + 3, "interesting", "=green pea"), (FIRST + 5, "", ""),
                (FIRST + 6, "", "ask again"), (FIRST + 7, "known", "")]  # fmt: skip
    assert sorted(path.name for path in (tmp_path / "v").iterdir()) == sorted(f"vetted.{kind}" for kind in FORMATS)
    ecsv = Table.read(tmp_path / "v" / "vetted.ecsv").filled("")
    votable = parse_single_table(str(tmp_path / "v" / "vetted.vot")).to_table()
    parquet = pq.read_table(tmp_path / "v" / "vetted.parquet").to_pydict()
    binary = fits.getdata(tmp_path / "v" / "vetted.fits")
    for table in (ecsv, votable, parquet, binary):
        columns = [table[name] for name in ("object_id", "mark", "mark_note")]
        assert [tuple(map(str, row)) for row in zip(*columns, strict=True)] == [(str(i), m, n) for i, m, n in expected]
    counts = {"interesting": 1, "artefact": 1, "known": 1, "only_noted": 1, "unmarked": 2}
    assert ecsv.meta["marks"] == {"candidates": 6, "vetted": 5, **counts}


def test_no_marks_and_nothing_but_artefacts(scores: Path, tmp_path: Path) -> None:
    told: list[tuple[int, ...]] = []
    found = write_vetted(scores, [marks(tmp_path)], tmp_path / "a", ("ecsv",), lambda *rows: told.append(rows))
    assert (found.counts["vetted"], len(Table.read(found.files[0]))) == (6, 6)
    assert told == [(8, 8)]
    every = [f"{FIRST + row},artefact," for row in (0, 2, 3, 5, 6, 7)]
    found = write_vetted(scores, [marks(tmp_path, *every)], tmp_path / "b", FORMATS, silent)
    assert found.counts["vetted"] == 0
    assert all(path.is_file() for path in found.files)
    assert "mark_note" in pq.read_table(tmp_path / "b" / "vetted.parquet").column_names


@pytest.mark.parametrize(("lines", "message"), [
    ([f"{FIRST + 1},known,"], f"{FIRST + 1} (marks.csv, line 2) of 1 marked object are not among the 6 candidates."),
    ([f"{row},known," for row in range(7)], "4 (marks.csv, line 6) and 2 more of 7 marked"),
    (["1e5,known,"], "line 2: object_id '1e5' is neither a whole number nor a name"),
])  # fmt: skip
def test_marks_of_other_objects_are_refused(scores: Path, tmp_path: Path, lines: list[str], message: str) -> None:
    with pytest.raises(SwimmyError) as caught:
        write_vetted(scores, [marks(tmp_path, *lines)], tmp_path / "v", FORMATS, silent)
    assert message in str(caught.value).replace(f"{tmp_path}/", "")
    assert not (tmp_path / "v").exists()


def test_marks_of_two_people_on_the_command_line(scores: Path, tmp_path: Path) -> None:
    files = []
    for name, line in (("mine", f"{FIRST + 2},artefact,"), ("hers", f"{FIRST + 3},known,sure")):
        (tmp_path / name).mkdir()
        files += ["--marks", str(marks(tmp_path / name, line))]
    words = ["select", str(scores), "--output", str(tmp_path / "v")]
    result = CliRunner().invoke(main, [*words, *files])
    assert result.exit_code == 0, result.output
    assert "6 candidates = 5 vetted + 1 artefact\n" in result.output
    assert "= 0 interesting + 1 artefact + 1 known + 0 disputed + 0 only noted + 4 without" in result.output
    result = CliRunner().invoke(main, [*words, *files[:2], *files[:2]])
    assert result.exit_code == 1
    assert "marks.csv: given 2 times, so its marks would count as those of several people." in result.stderr


def test_what_people_disagree_about_is_kept_and_counted_in_any_order_of_the_files(scores: Path, tmp_path: Path) -> None:
    said = {
        "ann": [f"{FIRST},artefact,", f"{FIRST + 2},artefact,ghost", f"{FIRST + 3},known,", f"{FIRST + 5},,ask"],
        "bob": [f"{FIRST},artefact,", f"{FIRST + 2},artefact,", f"{FIRST + 3},known,"],
        "eve": [f"{FIRST},artefact,", f"{FIRST + 2},interesting,a lens"],
    }
    files = []
    for name, lines in said.items():
        (tmp_path / name).mkdir()
        files.append(marks(tmp_path / name, *lines))
    words = ["select", str(scores), "--output", str(tmp_path / "v")]
    result = CliRunner().invoke(main, [*words, *(word for path in files for word in ("--marks", str(path)))])
    assert result.exit_code == 0, result.output
    assert result.stdout.splitlines()[:3] == [
        "6 candidates = 5 vetted + 1 artefact",
        "6 candidates = 0 interesting + 1 artefact + 1 known + 1 disputed + 1 only noted + 2 without mark or note",
        f"object_id {FIRST + 2} is 'artefact' in {files[0]}, line 3, and 'artefact' in {files[1]}, line 3, and "
        f"'interesting' in {files[2]}, line 3",
    ]
    table = Table.read(tmp_path / "v" / "vetted.parquet")
    names = ("mark", "mark_note", "n_interesting", "n_artefact", "n_known")
    rows = {int(row["object_id"]): tuple(row[name] for name in names) for row in table}
    assert rows[FIRST + 2] == ("disputed", "a lens; ghost", 1, 2, 0)
    assert rows[FIRST + 3] == ("known", "", 0, 0, 2)
    assert rows[FIRST + 5] == ("", "ask", 0, 0, 0)
    share = dict(zip(table["object_id"].tolist(), np.ma.filled(table["mark_agreement"], np.nan), strict=True))
    assert (share[FIRST + 2], share[FIRST + 3]) == (pytest.approx(2 / 3), 1.0)
    assert np.isnan(share[FIRST + 5])
    found = write_vetted(scores, files[::-1], tmp_path / "w", FORMATS, silent)
    assert all(path.read_bytes() == (tmp_path / "v" / path.name).read_bytes() for path in found.files)


def test_scores_without_a_selection(scores: Path, tmp_path: Path) -> None:
    with pytest.raises(SwimmyError, match=r"new: no candidates are selected here yet. Give a finished run"):
        write_vetted(tmp_path / "new", [marks(tmp_path)], tmp_path, FORMATS, silent)


def test_marks_and_new_thresholds_exclude_each_other(scores: Path, tmp_path: Path) -> None:
    words = ["select", str(scores), "--marks", "m.csv", "--thresholds-from", "s.json", "--output", str(tmp_path)]
    result = CliRunner().invoke(main, words)
    assert result.exit_code == 2
    assert "--marks keeps the selection as it is" in result.stderr
