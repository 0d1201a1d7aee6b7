"""What names of files say, and the rows of the catalogue that they are joined to."""

from __future__ import annotations

import numpy as np
import pytest
from astropy import units as u
from astropy.coordinates import SkyCoord
from hypothesis import given, settings
from hypothesis import strategies as st

from swimmy_scale.errors import SwimmyError
from swimmy_scale.ingest.pixels.file_names import ALL_BANDS, assign_rows, band_of, compile_pattern, parse_names
from swimmy_scale.ingest.sphere import CatalogueRows
from swimmy_scale.method.survey import HSC

ID = 36411461425187990


def names(*items: str) -> np.ndarray:
    return np.array([item.encode() for item in items])


class TestNames:
    @pytest.mark.parametrize(
        ("name", "band", "line", "object_id", "ra", "dec"),
        [
            ("2-cutout-HSC-I-8279-pdr2_wide.fits", "i", 2, -1, None, None),
            ("arch-230101-120000/840001-cutout-HSC-G-9813-s20a_wide.fits", "g", 840001, -1, None, None),
            ("7-cutout-HSC-R2-9813-pdr3_wide.fits", "r", 7, -1, None, None),
            ("7-cutout-HSC-I2-9813-pdr3_wide.fits.gz", "i", 7, -1, None, None),
            ("12_coadd_150.1163_2.205_9813_HSC-Y.fits", "y", 12, -1, 150.1163, 2.205),
            ("12_coadd-bg_150.1163_-2.205_9813_Z.fits", "z", 12, -1, 150.1163, -2.205),
            ("12_coadd+bg_150.1163_-2.205_9813_HSC-Z.fits", "z", 12, -1, 150.1163, -2.205),
            ("arch-230101-120000/8-coadd+bg-HSC-G-9813-pdr3_wide.fits", "g", 8, -1, None, None),
            (f"{ID}_g.fits", "g", -1, ID, None, None),
            (f"deep/er/{ID}_HSC-G.fits.fz", "g", -1, ID, None, None),
            (f"{ID}-r.fit", "r", -1, ID, None, None),
            ("222.51551376,0.09749601_300x300_g.fits", "g", -1, -1, 222.51551376, 0.09749601),
            ("222.5_-0.09_i.fits", "i", -1, -1, 222.5, -0.09),
        ],
    )
    def test_known_forms(
        self, name: str, band: str, line: int, object_id: int, ra: float | None, dec: float | None
    ) -> None:
        claims = parse_names(names(name), HSC)
        assert HSC.bands[claims.band[0]] == band
        assert claims.line[0] == line
        assert claims.object_id[0] == object_id
        np.testing.assert_equal([claims.ra[0], claims.dec[0]], [ra or np.nan, dec or np.nan])

    @pytest.mark.parametrize("name", [f"{ID}.fits", "a/222.5,-0.09_300x300.fits.gz", "222.5_-0.09.fits"])
    def test_no_band_is_all_bands(self, name: str) -> None:
        claims = parse_names(names(name), HSC)
        assert claims.band[0] == ALL_BANDS
        assert (claims.object_id[0], claims.ra[0]) in [(ID, pytest.approx(np.nan, nan_ok=True)), (-1, 222.5)]

    @pytest.mark.parametrize(
        "name",
        [
            "222.51551376,0.09749601_g_psf.fits",
            "2-psf-calexp-pdr2_wide-HSC-I-8279-0,6-30.59134--6.28237.fits",
            "star_cat_correct.fits",
            "2-cutout-HSC-NB0921-8279-pdr2_wide.fits",
            f"{ID}_u.fits",
            f"{ID}_g.txt",
            f"{ID}_g.fits.part",
            "._2-cutout-HSC-I-8279-pdr2_wide.fits",
            "README",
        ],
    )
    def test_other_files_have_no_band(self, name: str) -> None:
        assert parse_names(names(name), HSC).band[0] == -1

    def test_many_names_are_read_like_each_alone(self) -> None:
        tails = ["cutout-HSC-G-1-x.fits", "cutout-HSC-U-1-x.fits", "coadd-HSC-R-2-x.fit.gz", "r.fits", "cutout-G.fits"]
        heads = ["2", "d/3", "0004", "9" * 18, "9" * 19, "٣", "-5", ""]
        both = names(*(f"{head}-{tail}" for tail in tails for head in heads))
        claims = parse_names(both, HSC)
        alone = [parse_names(both[at : at + 1], HSC) for at in range(len(both))]
        for field in ("band", "line", "object_id"):
            assert getattr(claims, field).tolist() == [getattr(one, field)[0] for one in alone]
        assert claims.line.tolist()[:4] == [2, 3, 4, int("9" * 18)]
        assert claims.band.tolist()[:4] == [0] * 4
        assert (claims.object_id[24:27] == [2, 3, 4]).all()

    def test_number_beyond_64_bits(self) -> None:
        assert parse_names(names("9999999999999999999_g.fits"), HSC).object_id[0] == -1

    @pytest.mark.parametrize(
        ("token", "band"), [("HSC-G", "g"), ("hsc-g", "g"), ("G", "g"), ("R2", "r"), ("HSC-I2", "i"), ("g", "g")]
    )
    def test_bands(self, token: str, band: str) -> None:
        assert HSC.bands[band_of(token, HSC)] == band

    @pytest.mark.parametrize("token", ["u", "NB0816", "", "HSC-", "gg", "3"])
    def test_no_bands(self, token: str) -> None:
        assert band_of(token, HSC) == -1

    def test_own_pattern(self) -> None:
        claims = parse_names(names("f/obj7/i.fits", "f/x.fits"), HSC, r"obj(?P<object_id>\d+)/(?P<band>\w)\.fits")
        assert claims.object_id.tolist() == [7, -1]
        assert claims.band.tolist() == [2, -1]

    @pytest.mark.parametrize(
        ("pattern", "reason"),
        [
            ("(", "is not a regular expression"),
            (r"(?P<band>\w)", "needs one of line, object_id, or ra with dec; and band, where a file holds one"),
            (r"(?P<band>\w)(?P<ra>\d)", "needs one of line, object_id"),
        ],
    )
    def test_bad_patterns(self, pattern: str, reason: str) -> None:
        with pytest.raises(SwimmyError, match=reason):
            compile_pattern(pattern)


class TestRows:
    object_id = np.array([ID + i for i in range(5)])
    ra = np.array([10.0, 20.0, 30.0, 359.9999, 50.0])
    dec = np.array([0.0, -1.0, 2.0, 3.0, 89.9999])

    def rows(self, *items: str, **keys: np.ndarray) -> tuple[list[int], list[str]]:
        values = {"object_id": self.object_id, "ra": self.ra, "dec": self.dec, **keys}
        assigned = assign_rows("source", names(*items), CatalogueRows(*values.values()), HSC, None, 1.0)
        return assigned.rows.tolist(), assigned.notes

    def test_lines(self) -> None:
        lines = [f"{line}-cutout-HSC-G-1-x.fits" for line in (0, 1, 2, 6, 7)]
        assert self.rows(*lines) == ([-1, -1, 0, 4, -1], [])

    def test_object_ids(self) -> None:
        assert self.rows(f"{ID + 3}_g.fits", f"{ID + 9}_g.fits") == ([3, -1], [])

    def test_object_id_is_never_a_line(self) -> None:
        """Small object_ids look like line numbers."""
        small = np.array([5, 4, 3, 2, 1])
        assert self.rows("2_g.fits", "3_g.fits", object_id=small)[0] == [3, 2]

    def test_object_id_in_place_of_a_line(self) -> None:
        ids = np.array([100, 5, 300, 2, 500])
        rows, notes = self.rows("100-cutout-HSC-G-1-x.fits", "5-cutout-HSC-G-1-x.fits", object_id=ids)
        assert rows == [0, 1]
        assert "2 names have an object_id in place of the catalogue's line number" in notes[0]
        assert self.rows("3-cutout-HSC-G-1-x.fits", "5-cutout-HSC-G-1-x.fits", object_id=ids)[0] == [1, 3]

    def test_positions(self) -> None:
        found = self.rows(
            "20.0001,-1.0001_g.fits",  # 0.5 arcsec away
            "20.001,-1.0_g.fits",  # 3.6 arcsec away
            "0.00005,3.0000_g.fits",  # across RA 0
            "230.0,89.9999_g.fits",  # 0.72 arcsec away across the pole
        )
        assert found == ([1, -1, 3, 4], [])

    def test_line_with_another_position(self) -> None:
        rows, notes = self.rows("2_coadd_30.0_2.0_1_HSC-G.fits", "3_coadd_20.0_-1.0_1_HSC-G.fits")
        assert (rows, notes) == ([2, 1], [])

    def test_line_of_a_row_without_position(self) -> None:
        ra = self.ra.copy()
        ra[0] = np.nan
        assert self.rows("2_coadd_30.5_2.0_1_HSC-G.fits", ra=ra) == ([0], [])

    def test_empty_catalogue(self) -> None:
        empty = np.empty(0)
        found = self.rows(f"{ID}_g.fits", "1.0,2.0_g.fits", object_id=np.empty(0, np.int64), ra=empty, dec=empty)
        assert found == ([-1, -1], [])

    @settings(max_examples=30, deadline=None)
    @given(
        seed=st.integers(0, 2**32 - 1),
        radius=st.floats(0.1, 1e4),
        dec=st.sampled_from([-60.0, -30.0, 0.0, 60.0, 89.9]),
    )
    def test_match_against_astropy(self, seed: int, radius: float, dec: float) -> None:
        rng = np.random.default_rng(seed)
        spread = radius / 3600.0

        def positions(n: int, shift: float) -> SkyCoord:
            decs = dec + rng.normal(0, spread, n)
            # Reflected at the poles, where clipping would put several into one place.
            return SkyCoord(rng.uniform(-spread, shift + spread, n), 90 - np.abs(decs - 90), unit="deg")

        catalogue, wanted = positions(20, spread), positions(9, 0.0)
        _, separation, _ = wanted.match_to_catalog_sky(catalogue)
        rows = CatalogueRows(np.arange(20), catalogue.ra.deg, catalogue.dec.deg)
        found = rows.by_position(wanted.ra.deg, wanted.dec.deg, radius)
        np.testing.assert_array_equal(found >= 0, separation <= radius * u.arcsec)
        matched = found >= 0
        own = wanted[matched].separation(catalogue[found[matched]])
        np.testing.assert_allclose(own.arcsec, separation[matched].arcsec, rtol=1e-6, atol=1e-9)
