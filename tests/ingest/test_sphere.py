"""Cross-matches against astropy's search, and by hand where the sphere is awkward."""

from __future__ import annotations

import astropy.units as u
import numpy as np
import pytest
from astropy.coordinates import SkyCoord
from hypothesis import given, settings
from hypothesis import strategies as st

from swimmy_scale.errors import SwimmyError
from swimmy_scale.ingest.sphere import CatalogueRows, match, nearest_other

ARCSEC = 1.0 / 3600.0


def arrays(*columns: list[float]) -> list[np.ndarray]:
    return [np.array(column, np.float64) for column in columns]


@pytest.mark.parametrize(
    ("objects", "others", "index", "separation"),
    [
        # Across RA 0 = 360, at the equator and far from it: 0.6 arcsec in all.
        (([359.9999, 0.0], [0.0, 60.0]), ([359.9999 + 0.6 * ARCSEC, 360.0 - 1.2 * ARCSEC], [0.0, 60.0]), [0, 1], 0.6),
        (([0.1 * ARCSEC], [0.0]), ([360.0 - 0.5 * ARCSEC], [0.0]), [0], 0.6),
        (([360.0], [10.0]), ([0.0], [10.0]), [0], 0.0),
        # Over the pole: right ascensions 180 degrees apart, and no right ascension at the pole itself.
        (([20.0], [90.0 - 0.3 * ARCSEC]), ([200.0], [90.0 - 0.3 * ARCSEC]), [0], 0.6),
        (([7.0], [-90.0]), ([300.0], [-90.0 + 0.6 * ARCSEC]), [0], 0.6),
        # The radius itself is inside.
        (([50.0], [0.0]), ([50.0], [1.0 * ARCSEC]), [0], 1.0),
        (([50.0], [0.0]), ([50.0], [1.001 * ARCSEC]), [-1], None),
        # An object takes the nearest of two.
        (([50.0], [0.0]), ([50.0, 50.0], [0.9 * ARCSEC, -0.4 * ARCSEC]), [1], 0.4),
        # A counterpart goes to the nearest of two objects; the other does not fall back on its second best.
        (([50.0, 50.0], [0.0, 0.5 * ARCSEC]), ([50.0, 50.0], [0.3 * ARCSEC, -0.9 * ARCSEC]), [-1, 0], 0.2),
        # Equally near objects: the first. Counterparts at one place: the first.
        (([50.0, 50.0], [0.0, 0.0]), ([50.0, 50.0], [0.5 * ARCSEC, 0.5 * ARCSEC]), [0, -1], 0.5),
        # Unknown positions match nothing, and nothing matches an empty table.
        (([np.nan, 50.0], [0.0, np.inf]), ([50.0, np.nan], [0.0, 0.0]), [-1, -1], None),
        (([50.0], [0.0]), ([], []), [-1], None),
        (([], []), ([50.0], [0.0]), [], None),
    ],
)
def test_by_hand(
    objects: tuple[list[float], list[float]],
    others: tuple[list[float], list[float]],
    index: list[int],
    separation: float | None,
) -> None:
    found, distance = match(*arrays(*objects), *arrays(*others), 1.0)
    assert found.tolist() == index
    assert found.dtype == np.int64
    np.testing.assert_array_equal(np.isnan(distance), found < 0)
    np.testing.assert_allclose(distance[found >= 0], separation or 0.0, atol=1e-7)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), pole=st.sampled_from([0.0, 0.7, 1.0]))
def test_is_astropys_search_with_each_counterpart_given_once(seed: int, pole: float) -> None:
    rng = np.random.default_rng(seed)
    n = 120
    # Crowded: a few arcsec wide, over RA 0, at the equator, at 45 degrees, at the pole.
    dec = np.degrees(np.arcsin(min(pole, 0.9999999999))) - rng.uniform(0.0, 6.0 * ARCSEC, n)
    ra = rng.uniform(-6.0, 6.0, n) * ARCSEC / np.cos(np.radians(dec)) % 360.0
    other_ra = (ra[:80] + rng.normal(0.0, 0.5 * ARCSEC, 80)) % 360.0
    other_dec = dec[:80] + rng.normal(0.0, 0.3 * ARCSEC, 80)
    nearest, distance, _ = SkyCoord(ra, dec, unit="deg").match_to_catalog_sky(SkyCoord(other_ra, other_dec, unit="deg"))
    arcsec = distance.to_value(u.arcsec)
    expected = np.where(arcsec <= 1.0, nearest, -1)
    for row in range(n):
        rivals = np.flatnonzero(expected == expected[row])
        if expected[row] >= 0 and rivals.size > 1 and row != rivals[np.argmin(arcsec[rivals])]:
            expected[row] = -2
    index, separation = match(ra, dec, other_ra, other_dec, 1.0)
    np.testing.assert_array_equal(index, np.where(expected < 0, -1, expected))
    np.testing.assert_allclose(separation[index >= 0], arcsec[index >= 0], atol=1e-6)
    assert len(set(index[index >= 0].tolist())) == np.count_nonzero(index >= 0)


@pytest.mark.parametrize("radius", [0.0, -1.0, 3601.0, np.nan])
def test_radius_out_of_range_is_refused(radius: float) -> None:
    one = np.array([1.0])
    with pytest.raises(SwimmyError, match="must be above 0 and at most 3600"):
        match(one, one, one, one, radius)


@pytest.mark.parametrize("radius", [0.3, 1.0, 5.0])
def test_nearest_other_is_astropys(radius: float) -> None:
    random = np.random.default_rng(5)
    n = 300
    ra, dec = random.uniform(0, 30 * ARCSEC, n), random.uniform(-15 * ARCSEC, 15 * ARCSEC, n)
    sky = SkyCoord(ra, dec, unit="deg")
    expected, distance, _ = sky.match_to_catalog_sky(sky, nthneighbor=2)
    near = distance.arcsec <= radius
    index, separation = nearest_other(ra, dec, radius)
    assert 0 < near.sum() <= n
    np.testing.assert_array_equal(index, np.where(near, expected, -1))
    np.testing.assert_allclose(separation, np.where(near, distance.arcsec, np.nan), atol=1e-9)


def test_nearest_other_of_many_at_one_place_and_across_ra_0() -> None:
    ra = np.array([10.0, 0.0, 10.0, 360.0 - 0.2 * ARCSEC, 10.0, np.nan, 40.0])
    index, separation = nearest_other(ra, np.zeros(7), 0.5)
    assert index[[1, 3, 5, 6]].tolist() == [3, 1, -1, -1]
    assert all(ra[index[k]] == 10.0 and index[k] != k for k in (0, 2, 4))
    np.testing.assert_allclose(separation, [0, 0.2, 0, 0.2, 0, np.nan, np.nan], atol=1e-9)
    # A search tree alone would take a hundred times as long as all other tests of this file together.
    index, _ = nearest_other(np.full(200_000, 10.0), np.full(200_000, -5.0), 0.5)
    assert (index >= 0).all()
    assert nearest_other(np.zeros(1), np.zeros(1), 1.0)[0].tolist() == [-1]


def test_the_first_of_rows_at_one_place() -> None:
    """An object that is twice in the catalogue is quarantined but for its first row, which needs the files."""
    ra, dec = np.array([10.0, 20.0, 10.0, np.nan, 20.0]), np.array([1.0, 2.0, 1.0, 3.0, 2.0])
    rows = CatalogueRows(np.arange(5), ra, dec)
    found = rows.by_position(np.array([10.0, 20.0001, 30.0, np.nan]), np.array([1.0, 2.0, 2.0, 2.0]), 1.0)
    assert found.tolist() == [0, 1, -1, -1]
