"""Reason codes are public and faults of one object become one record."""

from __future__ import annotations

from swimmy_scale.quarantine import Code, Fault, merge_faults


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
    }


def test_one_record_an_object() -> None:
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
