"""Headers compared with those of an earlier file: the verdict and the pixels are those of the parsers."""

from __future__ import annotations

import numpy as np
import pytest
from astropy.io import fits
from fits_files import DEC, FORMS, RA, SIZE, archive_file, outcome, pixels, primary, reader, to_bytes
from hypothesis import given, settings
from hypothesis import strategies as st

from swimmy_scale.ingest.pixels import header_patterns
from swimmy_scale.ingest.pixels.cutout_files import read_cutout
from swimmy_scale.ingest.pixels.fits_scan import CARD_BYTES, scan
from swimmy_scale.ingest.pixels.header_patterns import HeaderPatterns
from swimmy_scale.method.survey import HSC

BASES = {
    "archive": archive_file(pixels()),
    "masked": archive_file(pixels(), bits=1 << 8),
    "checksums": archive_file(pixels(), checksum=True),
    "one pixel more": archive_file(pixels(SIZE + 1, SIZE)),
    "other zero point": archive_file(pixels(), MAGZERO=27.0),
    "unit": archive_file(pixels(), BUNIT="adu"),
    "comments": archive_file(pixels(), COMMENT="= 5", CRPIX1A=3.0, OBJECT="a"),
    "without position": archive_file(pixels(), CTYPE1=None, CTYPE2=None),
    "exposure": archive_file(
        pixels(),
        **{
            "HIERARCH FPA.ZP": 25.0,
            "EXPTIME": 860.0,
            "HIERARCH FPA.FILTER": "r.00000",
            "BSOFTEN": 20.0,
            "BOFFSET": 3.0,
        },
    ).replace(b"FLUXMAG0", b"NO_FLUX0"),
    "image first": to_bytes(fits.PrimaryHDU(pixels(), fits.Header({"FLUXMAG0": 1e10}))),
}
VALUES = (b"", b"0", b"1", b"-32", b"T", b"nan", b"90.0", b"1D2", b"'IMAGE'", b"'MASK'", b"'DEC--TAN'", b"'deg'")


def result(data: bytes, patterns: HeaderPatterns | None, dec: float = DEC) -> tuple[object, object]:
    """Fault and reason, or whether a zero point is stated and the pixels."""
    out = np.full((SIZE, SIZE), np.nan, np.float32)
    code, said = outcome(lambda: read_cutout(data, RA, dec, HSC, out, patterns))
    return code, said if code is not None else (said, out.tobytes())


def taught(data: bytes) -> HeaderPatterns:
    """Patterns that know one file."""
    patterns = HeaderPatterns()
    assert result(data, patterns) == result(data, None)
    assert patterns.find(data) is not None
    return patterns


def changed(data: bytes, at: int, new: bytes) -> bytes:
    return data[:at] + new + data[at + len(new) :]


def cards(data: bytes) -> list[int]:
    """Where each card of each header begins, including END."""
    return [
        at
        for hdu in scan(reader(data), len(data))
        for at in range(hdu.start, hdu.start + len(hdu.header) + CARD_BYTES, CARD_BYTES)
    ]


@pytest.mark.parametrize("base", BASES)
def test_any_value_of_any_card(base: str) -> None:
    data = BASES[base]
    for at in cards(data):
        patterns = taught(data)
        for value in VALUES:
            mutant = changed(data, at + 10, value.ljust(CARD_BYTES - 10))
            assert result(mutant, patterns) == result(mutant, None), data[at : at + 8]


@pytest.mark.parametrize("base", BASES)
def test_any_keyword_of_any_card(base: str) -> None:
    data = BASES[base]
    for at in cards(data):
        for keyword in (
            b"COMMENT   ",
            b"BSCALE  = ",
            b"bscale  = ",
            b"PV1_1   = ",
            b"CRPIX1  = ",
            b"END".ljust(CARD_BYTES),
        ):
            mutant = changed(data, at, keyword)
            assert result(mutant, taught(data)) == result(mutant, None), data[at : at + 8]


@settings(max_examples=300, deadline=None)
@given(
    base=st.sampled_from(sorted(BASES)),
    changes=st.lists(st.tuples(st.integers(0, 12_000), st.integers(0, 255)), min_size=1, max_size=4),
    n_bytes=st.integers(-3000, 3000),
    dec=st.sampled_from([DEC, DEC + 1.0, float("nan")]),
)
def test_damage_anywhere(base: str, changes: list[tuple[int, int]], n_bytes: int, dec: float) -> None:
    data = BASES[base]
    mutant = data
    for at, value in changes:
        mutant = changed(mutant, at, bytes([value]))
    for one in (mutant, (mutant + bytes(3000))[: len(data) + n_bytes]):
        assert result(one, taught(data), dec) == result(one, None, dec)


@pytest.mark.parametrize(
    ("card", "is_known"),
    [
        ({"CRPIX1": 33.0, "CRPIX2": 31.0}, True),
        ({"CRVAL1": RA + 1e-5, "CRVAL2": DEC - 1e-5}, True),
        ({"OBJECT": "b"}, True),
        ({"CRVAL2": 95.0}, False),
        ({"CRPIX1": "left"}, False),
        ({"CD1_1": -4.6e-5}, False),
        ({"RADESYS": "FK5"}, False),
        ({"EXTTYPE": "SCIENCE"}, False),
        ({"HIERARCH FPA.NAME": "b", "EXPTIME": 3.0}, True),
    ],
)
def test_what_may_differ(card: dict[str, object], is_known: bool) -> None:
    plain = {"OBJECT": "a", "HIERARCH FPA.NAME": "a", "EXPTIME": 2.0}
    patterns = taught(archive_file(pixels(), **plain))
    data = archive_file(2 * pixels(), **{**plain, **card})
    assert (patterns.find(data) is not None) == is_known
    assert result(data, patterns) == result(data, None)


@pytest.mark.parametrize("form", sorted(set(FORMS) - {"float32", "float64"}))
def test_images_that_astropy_decodes_are_no_patterns(form: str) -> None:
    patterns, data = HeaderPatterns(), to_bytes(primary(), FORMS[form])
    assert result(data, patterns) == result(data, None)
    assert patterns.find(data) is None


@pytest.mark.parametrize("card", [{"HIERARCH FPA.ZP": 24.0}, {"EXPTIME": 100.0}, {"BOFFSET": 2.0}, {"BSOFTEN": 1.0}])
def test_cards_of_an_exposure_count(card: dict[str, object]) -> None:
    cards = {"HIERARCH FPA.ZP": 25.0, "EXPTIME": 860.0, "BSOFTEN": 20.0, "BOFFSET": 3.0}
    first, second = (
        archive_file(pixels(), **one).replace(b"FLUXMAG0", b"NO_FLUX0") for one in (cards, {**cards, **card})
    )
    patterns = taught(first)
    assert patterns.find(second) is None
    assert result(second, patterns) == result(second, None) != result(first, None)


def test_padding_beyond_the_last_hdu_is_no_pattern() -> None:
    patterns, data = HeaderPatterns(), BASES["archive"] + bytes(2880)
    assert result(data, patterns) == result(data, None)
    assert patterns.find(data) is None


def test_several_kinds_of_files_in_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    patterns = HeaderPatterns()
    for data in BASES.values():
        result(data, patterns)
    assert all(patterns.find(data) is not None for data in BASES.values())
    # Where no file is like another, they are parsed and nothing grows.
    monkeypatch.setattr(header_patterns, "MAX_PUSHED_OUT", 20)
    for number in range(60):
        data = archive_file(pixels(), CD1_1=-4.6e-5 - 1e-8 * number)
        assert result(data, patterns) == result(data, None)
    assert (
        sum(patterns.find(archive_file(pixels(), CD1_1=-4.6e-5 - 1e-8 * number)) is not None for number in range(60))
        == 16
    )
