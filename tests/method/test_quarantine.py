"""Reason codes are public, and the faults of one object become one record."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from swimmy_scale.method.quarantine import Code, Fault, merge_faults


def test_codes_do_not_change() -> None:
    assert {code.label: int(code) for code in Code} == {
        "duplicate_object_id": 1,
        "object_id_lost": 2,
        "position_missing": 3,
        "position_outside": 4,
        "missing_band": 5,
        "unreadable_file": 6,
        "no_image_hdu": 7,
        "wrong_shape": 8,
        "not_finite_pixels": 9,
        "fwhm_missing": 10,
        "fwhm_above_target": 11,
        "scoring_failed": 12,
        "ended_workers": 13,
        "no_data": 14,
        "wrong_pixel_scale": 15,
        "wrong_unit": 16,
    }


def test_each_object_has_one_record() -> None:
    faults = [
        Fault(7, Code.WRONG_SHAPE, "i", "a.fits", "i is 40 x 40 px"),
        Fault(2, Code.FWHM_MISSING, "", "", "no FWHM"),
        Fault(7, Code.MISSING_BAND, "z", "", "no file for band z"),
        Fault(7, Code.WRONG_SHAPE, "i", "a.fits", "i is 40 x 40 px"),
    ]
    assert merge_faults(faults) == [
        Fault(2, Code.FWHM_MISSING, "", "", "no FWHM"),
        Fault(7, Code.MISSING_BAND, "z", "", "no file for band z; i is 40 x 40 px"),
    ]
    assert merge_faults([]) == []


def test_codes_fit_the_store_and_none_is_zero() -> None:
    assert all(0 < code < 256 for code in Code)
    assert all(code.label == code.label.lower() and " " not in code.label for code in Code)


def test_the_first_fault_of_equal_codes_gives_band_and_source() -> None:
    faults = [
        Fault(1, Code.UNREADABLE_FILE, "r", "r.fits", "r.fits ends early"),
        Fault(1, Code.UNREADABLE_FILE, "g", "g.fits", "g.fits ends early"),
    ]
    assert merge_faults(faults) == [
        Fault(1, Code.UNREADABLE_FILE, "r", "r.fits", "r.fits ends early; g.fits ends early")
    ]


faults = st.builds(
    Fault,
    row=st.integers(0, 3),
    code=st.sampled_from(Code),
    band=st.sampled_from(["", "g", "y"]),
    source=st.sampled_from(["", "a.fits"]),
    reason=st.sampled_from(["one", "two", "three"]),
)


@settings(deadline=None, max_examples=50)
@given(st.lists(faults, max_size=8))
def test_no_fault_is_lost(given_faults: list[Fault]) -> None:
    merged = merge_faults(given_faults)
    assert [fault.row for fault in merged] == sorted({fault.row for fault in given_faults})
    for one in merged:
        group = [fault for fault in given_faults if fault.row == one.row]
        assert one.code == min(fault.code for fault in group)
        assert sorted(one.reason.split("; ")) == sorted({fault.reason for fault in group})
    assert merge_faults(merged) == merged
