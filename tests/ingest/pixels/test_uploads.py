"""Line numbers that each upload counts anew, found from where images lie."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from archive_files import DECS, IDS, RAS, Ingested, cutout, name_of, upload, write
from hypothesis import given, settings
from hypothesis import strategies as st
from tar_files import write_tar

from swimmy_scale.errors import SwimmyError
from swimmy_scale.ingest.pixels.uploads import Centres, rows_of_lines
from swimmy_scale.ingest.sphere import CatalogueRows

CATALOGUE = CatalogueRows(IDS, RAS, DECS)
EVERY = list(range(12))


def lines_of(rows: list[int], shift_arcsec: float = 0.0, only_one: bool = False, hidden: bool = False):
    """Rows found for an upload of two files a line, and how many files were looked into."""
    line = np.repeat(np.arange(len(rows)) + 2, 2)
    at = np.repeat(rows, 2)
    looked: list[int] = []

    def locate(files: np.ndarray) -> Centres:
        looked.extend(files.tolist())
        ra = np.where(hidden, np.nan, RAS[at[files]] + shift_arcsec / 3600)
        return Centres(ra, np.where(hidden, np.nan, DECS[at[files]]), np.full(len(files), 7.6))

    found, located = rows_of_lines(line, CATALOGUE, locate, 1.0, only_one)
    return found[::2].tolist(), located, len(looked)


class TestRowsOfLines:
    @pytest.mark.parametrize("rows", [EVERY, [5, 6, 7, 8], [11], [3, 2, 1, 0], [0, 2, 4, 6, 8, 10, 1], [7, 8, 9, 0, 1]])
    def test_any_list(self, rows: list[int]) -> None:
        found, located, _ = lines_of(rows)
        assert found == rows
        assert located

    @settings(max_examples=50, deadline=None)
    @given(rows=st.permutations(EVERY), n=st.integers(1, 12))
    def test_any_order(self, rows: list[int], n: int) -> None:
        """A neighbour's image in place of one that is looked up would be found out by reading, not here."""
        found, _, n_looked = lines_of(rows[:n])
        offsets = {row - line for line, row in enumerate(rows[:n])}
        if len(offsets) == 1 or n_looked > 5:
            assert found == rows[:n]

    def test_few_files_are_looked_into(self) -> None:
        assert lines_of(EVERY)[2] == 5
        assert lines_of([4, 5, 6, 7, 8, 9, 10, 11])[2] == 5

    def test_images_of_another_place(self) -> None:
        assert lines_of(EVERY, 900.0)[:2] == ([-1] * 12, True)
        # The only upload is taken at its word: reading each file says what is wrong with it.
        assert lines_of(EVERY, 900.0, only_one=True)[:2] == (EVERY, True)

    def test_images_without_a_position(self) -> None:
        assert lines_of([5, 6], hidden=True)[:2] == ([0, 1], False)


class TestIngest:
    def test_three_uploads(self, tmp_path: Path) -> None:
        """The archive takes about 1,000 lines a list and counts them anew in each."""
        for number in range(3):
            rows = EVERY[4 * number : 4 * number + 4]
            write_tar(tmp_path / f"{number}.tar", upload(f"arch-25010{number}-000000", rows))
        found = Ingested(*(tmp_path / f"{number}.tar" for number in (2, 0, 1)))
        assert found.rows() == EVERY
        assert (found.notes, found.index.warnings, found.index.unmatched) == ([], (), ())

    @pytest.mark.parametrize("form", ["folder", "tar", "tar.gz"])
    def test_forms_of_a_source(self, tmp_path: Path, form: str) -> None:
        files = upload("arch-1", [0, 1, 2, 3, 4, 5]) | upload("arch-2", [6, 7, 8, 9, 10, 11])
        source = write(tmp_path / "all", files)
        if form != "folder":
            source = write_tar(tmp_path / f"all.{form}", files, "w:gz" if form == "tar.gz" else "w")
        assert Ingested(source).rows() == EVERY

    def test_lists_in_another_order_than_the_catalogue(self, tmp_path: Path) -> None:
        files = upload("arch-1", [11, 3, 7, 0, 5, 9]) | upload("arch-2", [1, 2, 10, 4, 8, 6])
        assert Ingested(write(tmp_path, files)).rows() == EVERY

    def test_broken_files_among_those_looked_into(self, tmp_path: Path) -> None:
        files = upload("arch-1", EVERY[:6]) | upload("arch-2", EVERY[6:])
        for line, band in ((2, "g"), (2, "r"), (7, "g")):
            files[name_of("arch-2", line, band)] = b"broken"
        found = Ingested(write(tmp_path, files))
        assert found.rows() == [row for row in EVERY if row not in (6, 11)]
        assert found.faults[6].reason == "g: not a FITS file: it does not begin with SIMPLE; r: " + (
            "not a FITS file: it does not begin with SIMPLE"
        )

    def test_a_line_left_out_behind_the_ones_looked_into(self, tmp_path: Path) -> None:
        """Each file is compared with its object when it is read."""
        rows = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11]
        rows[4], rows[7] = rows[7], rows[4]
        found = Ingested(write(tmp_path, upload("arch-1", rows)))
        assert found.rows() == [row for row in EVERY if row not in (4, 7)]
        assert found.faults[4].code.label == "position_outside"

    def test_broken_files_in_a_list_with_gaps(self, tmp_path: Path) -> None:
        """Their neighbours say which objects they are of; at the edge of a gap and of the list nothing does."""
        rows = [0, 1, 2, 5, 6, 7, 8, 9]
        files = upload("arch-1", rows) | upload("arch-2", [3, 4, 10, 11])
        for name, line in (("arch-1", 3), ("arch-1", 5), ("arch-1", 7), ("arch-2", 5)):
            files |= {name_of(name, line, band): b"broken" for band in "grizy"}
        found = Ingested(write(tmp_path, files))
        assert found.rows() == [row for row in EVERY if row not in (1, 5, 7, 11)]
        assert {row: found.faults[row].code.label for row in (1, 5, 7, 11)} == {
            **dict.fromkeys((1, 7), "unreadable_file"),
            **dict.fromkeys((5, 11), "missing_band"),
        }

    def test_nothing_tells_uploads_apart(self, tmp_path: Path) -> None:
        blank = dict.fromkeys(("CTYPE1", "CTYPE2"))
        files = upload("arch-1", [0, 1], **blank) | upload("arch-2", [2, 3], **blank)
        with pytest.raises(SwimmyError, match="have the same line number, as the archive counts lines anew") as caught:
            Ingested(write(tmp_path, files))
        assert "(10 files)" in str(caught.value)
        assert "OBJECTID_BAND.fits" in str(caught.value)

    def test_one_upload_without_positions(self, tmp_path: Path) -> None:
        files = {name_of("arch-1", 2, band): cutout(0, k, CTYPE1=None, CTYPE2=None) for k, band in enumerate("grizy")}
        assert Ingested(write(tmp_path, files), n=1).rows() == [0]

    def test_many_uploads_keep_their_number_of_lookups(self, tmp_path: Path) -> None:
        files: dict[str, bytes] = {}
        for number in range(6):
            files |= upload(f"arch-{number}", [2 * number, 2 * number + 1])
        found = Ingested(write(tmp_path, files))
        assert found.rows() == EVERY
        assert len(found.index.spare_cell) == 0
