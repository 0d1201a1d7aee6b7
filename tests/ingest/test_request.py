"""Upload lists: what is in them, by a reader of its own, and that their files join again at ingest."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from archive_files import DECS, IDS, RAS, Ingested, cutout
from cutout_service import FILTERS, CutoutService, arcsec, parsed
from hypothesis import given, settings
from hypothesis import strategies as st

from swimmy_scale.errors import SwimmyError
from swimmy_scale.ingest.request import (
    RELEASES,
    Asked,
    UploadList,
    amount,
    asked_of,
    download_script,
    list_text,
    upload_lists,
)
from swimmy_scale.method.survey import HSC, Survey

N = len(IDS)
EVERY = np.ones((N, 5), np.bool_)
TRACT = np.full(N, 9813, np.int32)
OF_HSC = asked_of(HSC)


def text_of(upload: UploadList, asked: Asked = OF_HSC, tract: np.ndarray = TRACT) -> str:
    return list_text(upload, RAS, DECS, tract, asked, HSC.pixel_scale_arcsec)


class TestAsked:
    def test_of_a_survey(self) -> None:
        assert Asked(("g", "r", "i", "z", "y"), "pdr3", "pdr3_wide", "coadd", 66, 990) == OF_HSC
        assert asked_of(HSC, ("y", "g")).bands == ("g", "y")
        assert asked_of(HSC, release="dr4", n_lines=100_000).rerun == "s23b_wide"

    @pytest.mark.parametrize(
        ("keys", "message"),
        [
            ({"bands": ("u",)}, r"band u: survey .* has g, r, i, z, y, and the service g, r, i, z, y. Give --band"),
            ({"bands": ("u", "gé")}, r"band u and gé: survey"),
            ({"n_lines": 1001}, r"--limit 1001: a list for the service of pdr3 has 1 to 1,000 lines. Correct it"),
            ({"n_lines": 0}, r"--limit 0: a list"),
            ({"release": "dr4", "n_lines": 100_001}, r"of dr4 has 1 to 100,000 lines"),
            ({"size_px": 63}, r"--size 63: cutouts of 64 px are needed. Ask for as many"),
            ({"rerun": "pdr3 wide"}, r"--rerun 'pdr3 wide': is no name of a rerun, such as pdr3_wide. Correct it"),
            ({"rerun": "rerün"}, r"--rerun 'rerün'"),
            ({"rerun": ""}, r"--rerun ''"),
        ],
    )
    def test_refused(self, keys: dict[str, object], message: str) -> None:
        with pytest.raises(SwimmyError, match=message):
            asked_of(HSC, **keys)  # type: ignore[arg-type]

    def test_a_survey_that_the_service_lacks(self) -> None:
        other = Survey(
            name="other", bands=("u", "v"), selecting_bands=("u",), magnitude_band="u", band_divisors=(1, 1),
            min_depth_mag=(25, 25),
        )  # fmt: skip
        with pytest.raises(SwimmyError, match=r"band u and v: .* It has no pixels of this survey"):
            asked_of(other)


class TestLists:
    @settings(max_examples=60)
    @given(
        wanted=st.lists(st.tuples(*[st.booleans()] * 5), min_size=1, max_size=25),
        n_lines=st.integers(1, 30),
    )
    def test_every_wanted_file_is_in_one_line(self, wanted: list[tuple[bool, ...]], n_lines: int) -> None:
        grid = np.array(wanted)
        lists = list(upload_lists(grid, replace(OF_HSC, n_lines=n_lines)))
        files = [(int(row), one.band) for one in lists for row in one.rows]
        assert sorted(files) == sorted((int(row), "grizy"[band]) for row, band in np.argwhere(grid))
        assert all(0 < len(one.rows) <= n_lines and (np.diff(one.rows) > 0).all() for one in lists)
        names = [one.name for one in lists]
        assert len(set(names)) == len(names)
        assert [name[:4] for name in names] == sorted(name[:4] for name in names)

    def test_a_whole_catalogue(self) -> None:
        """All bands of the same objects, then the next objects; names sort so, too."""
        lists = list(upload_lists(np.ones((840_000, 5), np.bool_), OF_HSC))
        assert [one.name for one in lists[:6]] == [f"0001-{band}.txt" for band in "grizy"] + ["0002-g.txt"]
        assert (len(lists), lists[-1].name, len(lists[-1].rows)) == (5 * 849, "0849-y.txt", 480)
        one_a_list = list(upload_lists(np.ones((12_000, 1), np.bool_), replace(OF_HSC, bands=("g",), n_lines=1)))
        assert (one_a_list[0].name, one_a_list[-1].name) == ("00001-g.txt", "12000-g.txt")

    @pytest.mark.parametrize(("release", "names"), [("pdr3", list(FILTERS)), ("dr4", list("grizy"))])
    def test_lines(self, release: str, names: list[str]) -> None:
        asked = asked_of(HSC, release=release)
        tract = TRACT.copy()
        tract[3] = -1
        for upload, name in zip(upload_lists(EVERY, asked), names, strict=True):
            lines = parsed(text_of(upload, asked, tract))
            assert [float(line["ra"]) for line in lines] == RAS.round(8).tolist()
            assert [float(line["dec"]) for line in lines] == DECS.tolist()
            assert {(line["rerun"], line["type"], line["filter"]) for line in lines} == {(asked.rerun, "coadd", name)}
            assert [line["tract"] for line in lines] == ["9813"] * 3 + ["any"] + ["9813"] * 8
            # Semi-width and semi-height.
            assert [arcsec(line[key]) for line in lines for key in ("sw", "sh")] == pytest.approx([33 * 0.168] * 24)

    def test_small_and_negative_positions_are_plain_numbers(self) -> None:
        ra, dec = np.array([1e-7, 359.9999999]), np.array([-1e-6, -0.5])
        text = list_text(UploadList("a", "g", np.arange(2)), ra, dec, TRACT, OF_HSC, 0.168)
        assert [line.split()[4:6] for line in text.splitlines()[1:]] == [
            ["0.00000010", "-0.00000100"],
            ["359.99999990", "-0.50000000"],
        ]
        assert text.isascii()
        assert text.endswith("\n")


SERVICE = CutoutService({(row, b, 9813): cutout(row, k) for row in range(N) for k, b in enumerate("grizy")}, RAS, DECS)


class TestJoinedAgain:
    @settings(max_examples=8)
    @given(taken=st.lists(st.tuples(*[st.booleans()] * 5), min_size=N, max_size=N), n_lines=st.integers(1, 13))
    def test_two_downloads_of_any_parts(
        self, tmp_path_factory: pytest.TempPathFactory, taken: list[tuple[bool, ...]], n_lines: int
    ) -> None:
        """What one download lacks comes by lists of just that, whatever it is, and each file finds its object."""
        folder = tmp_path_factory.mktemp("tars")
        grid, asked = np.array(taken), replace(OF_HSC, n_lines=n_lines)
        for number, wanted in enumerate((grid, ~grid)):
            for upload in upload_lists(wanted, asked):
                name = upload.name.replace(".txt", ".tar")
                (folder / f"{number}-{name}").write_bytes(SERVICE.answer(text_of(upload, asked)))
        found = Ingested(folder)
        assert found.rows() == list(range(N))
        assert found.index.unmatched == ()


class TestAmount:
    def test_bytes_are_those_of_files_of_the_archive(self, shared_data: Path) -> None:
        """Real cutouts of 25 px, which come with empty HDUs for mask and variance."""
        real = shared_data / "hsc_das_format_stars/2-cutout-HSC-I-8279-pdr2_wide.fits"
        in_a_tar = 512 + -(-real.stat().st_size // 512) * 512
        assert replace(OF_HSC, size_px=25).file_bytes == in_a_tar

    @pytest.mark.parametrize(
        ("n_files", "n_lists", "rate", "words"),
        [
            (4_200_000, 4245, 10, "4,200,000 files in 4,245 lists: about 135.5 GB, and 116.7 hours at 10 files a"),
            (1, 1, 0.5, "1 file in 1 list: about 0.0 MB, and less than a minute at 0.5 files a second"),
            (1200, 5, 10, "1,200 files in 5 lists: about 38.7 MB, and 2.0 minutes at 10 files a second"),
            (0, 0, 10, "no files"),
        ],
    )
    def test_words(self, n_files: int, n_lists: int, rate: float, words: str) -> None:
        assert amount(n_files, n_lists, OF_HSC, rate).startswith(words)


@pytest.mark.parametrize("release", RELEASES)
def test_the_script_names_the_service_and_keeps_no_password(release: str) -> None:
    text = download_script(asked_of(HSC, release=release))
    assert f"${{CUTOUT_SERVICE:-{RELEASES[release].service}}}" in text
    assert re.search(r"machine (\S+) login", text)[1] in RELEASES[release].service  # type: ignore[index]
    assert "--user" not in text
