"""Objects that may be one galaxy, measured twice."""

from __future__ import annotations

import numpy as np

from swimmy_scale.ingest.catalogue.pairs import pair_warnings

ARCSEC = 1.0 / 3600.0
IDS = np.arange(5) + 43158172147386000
RA = np.array([150.0, 150.1, 150.2, 150.0, 150.2])
DEC = np.array([2.0, 2.0, 2.0, 2.0 + 0.02 * ARCSEC, 2.0 + 0.6 * ARCSEC])


def test_pairs_are_counted_and_an_example_is_named() -> None:
    said = "1 pair of objects closer than 0.5 arcsec, perhaps one galaxy measured twice, such as 43158172147386000 and "
    said += "43158172147386003, 0.02 arcsec apart; "
    assert pair_warnings(IDS, RA, DEC, None, 0.5) == [said + "no column isprimary says which of the two to leave out"]
    primary = np.array([True, True, True, False, True])
    assert pair_warnings(IDS, RA, DEC, primary, 0.5) == [said + "in 0 of them both are primary"]
    assert pair_warnings(IDS, RA, DEC, primary, 1.0)[0].startswith("2 pairs of objects closer than 1 arcsec")
    assert pair_warnings(IDS, RA, DEC, primary, 1.0)[0].endswith("in 1 of them both are primary")


def test_no_pairs_and_no_radius_say_nothing() -> None:
    assert pair_warnings(IDS, RA, DEC, None, 0.01) == []
    assert pair_warnings(IDS, RA, DEC, None, 0.0) == []
    assert pair_warnings(IDS, np.where(RA == 150.0, np.nan, RA), DEC, None, 0.5) == []
