"""One FITS file to one cutout: against astropy on every form of file, and with damage of every kind."""

from __future__ import annotations

import gzip
import io
import math
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from astropy.nddata import Cutout2D
from astropy.wcs import WCS
from fits_files import (
    DEC,
    FORMS,
    RA,
    SIZE,
    archive_file,
    header_bytes,
    outcome,
    pixels,
    primary,
    reader,
    to_bytes,
    wcs_header,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from swimmy_scale.ingest.pixels import fits_scan
from swimmy_scale.ingest.pixels.cutout_files import (
    crop,
    first_pixel,
    read_cutout,
    scale_into,
    zero_point,
    zero_point_factor,
)
from swimmy_scale.ingest.pixels.fits_pixels import read_pixels
from swimmy_scale.ingest.pixels.fits_scan import UnusableFileError, find_image, scan
from swimmy_scale.ingest.pixels.sky_map import sky_map
from swimmy_scale.method.quarantine import Code
from swimmy_scale.method.survey import HSC


def load(data: bytes, ra: float = RA, dec: float = DEC) -> np.ndarray:
    out = np.full((SIZE, SIZE), np.nan, np.float32)
    read_cutout(data, ra, dec, HSC, out)
    return out


class TestAgainstAstropy:
    @pytest.mark.parametrize("form", FORMS)
    @pytest.mark.parametrize("checksum", [False, True])
    def test_every_form_of_image(self, form: str, checksum: bool) -> None:
        data = to_bytes(primary(), FORMS[form], checksum=checksum)
        with fits.open(io.BytesIO(data)) as hdulist:
            expected = hdulist[1].data.astype(np.float32)
        np.testing.assert_array_equal(load(data), expected)

    def test_primary_image(self) -> None:
        data = to_bytes(fits.PrimaryHDU(pixels(), fits.Header({"FLUXMAG0": 10**10.8})))
        np.testing.assert_array_equal(load(data), pixels())

    def test_headers_of_real_files(self, shared_data: Path) -> None:
        files = [path for path in shared_data.rglob("*.fits*") if path.parent.name != "spectra"]
        assert len(files) > 20
        for path in files:
            data = path.read_bytes()
            hdus = scan(reader(data), len(data))
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                with fits.open(path, disable_image_compression=True) as hdulist:
                    assert [(hdu.start, hdu.data_start) for hdu in hdus] == [
                        (info.fileinfo()["hdrLoc"], info.fileinfo()["datLoc"]) for info in hdulist
                    ]

    @pytest.mark.parametrize("folder", ["hsc_gri_G79635", "hsc_das_format_stars", "kids_viking_quadrant"])
    def test_pixels_of_real_files(self, shared_data: Path, folder: str) -> None:
        for path in sorted((shared_data / folder).glob("*.fits*")):
            if path.name.startswith("star_cat"):
                continue
            data = path.read_bytes()
            image = find_image(scan(reader(data), len(data)))
            with fits.open(path) as hdulist:
                np.testing.assert_array_equal(read_pixels(reader(data), image), hdulist[image.index].data)

    @pytest.mark.parametrize("card", [b"PCOUNT  =                   16", b"GCOUNT  =                    2"])
    def test_more_data_than_pixels(self, card: bytes) -> None:
        data = to_bytes(primary(), fits.ImageHDU(pixels()), fits.ImageHDU(pixels()))
        at = data.find(card[:10])
        code, said = outcome(lambda: load(data[:at] + card + data[at + len(card) :]))
        assert code is Code.UNREADABLE_FILE or np.array_equal(np.asarray(said), pixels())

    def test_blank_is_not_finite(self) -> None:
        image = (1000 * pixels()).astype(np.int16)
        image[3, 5] = -32768
        hdu = fits.ImageHDU(image, fits.Header({"BLANK": -32768}))
        with pytest.raises(UnusableFileError, match=r"1 of 4096 pixels .* first at \(5, 3\)") as caught:
            load(to_bytes(primary(), hdu))
        assert caught.value.code is Code.NOT_FINITE_PIXELS

    @settings(max_examples=25, deadline=None)
    @given(
        seed=st.integers(0, 2**32 - 1),
        change=st.sampled_from(["none", "header", "data"]),
        keep=st.sampled_from(["both", "CHECKSUM", "DATASUM"]),
    )
    def test_checksum_verdict(self, seed: int, change: str, keep: str) -> None:
        rng = np.random.default_rng(seed)
        data = bytearray(archive_file(rng.normal(size=(SIZE, SIZE)).astype(np.float32), checksum=True))
        hdu = scan(reader(bytes(data)), len(data))[1]
        if keep != "both":
            other = {"CHECKSUM": b"DATASUM ", "DATASUM": b"CHECKSUM"}[keep]
            where = data.find(other, hdu.start)
            # This changes the HDU's sum: without DATASUM the CHECKSUM fails, without CHECKSUM nothing does.
            data[where : where + 8] = b"COMMENT "
        if change == "header":
            data[data.find(b"CRVAL1", hdu.start) + 25] ^= 1
        elif change == "data":
            data[hdu.data_start + int(rng.integers(hdu.data_bytes))] ^= 1 << int(rng.integers(8))
        with warnings.catch_warnings(record=True) as seen:
            warnings.simplefilter("always")
            with fits.open(io.BytesIO(bytes(data)), checksum=True) as hdulist:
                # Verified when the HDU is first met.
                len(hdulist)
        wrong = any("Checksum verification failed" in str(item.message) for item in seen)
        wrong |= any("Datasum verification failed" in str(item.message) for item in seen)
        mutant = bytes(data)
        code, _ = outcome(lambda: fits_scan.verify_checksum(reader(mutant), scan(reader(mutant), len(mutant))[1]))
        assert code == (Code.UNREADABLE_FILE if wrong else None)
        assert wrong or change == "none" or keep != "both"


class TestChoiceOfImage:
    image = fits.ImageHDU(pixels())
    other = fits.ImageHDU(pixels() + 5)

    def named(self, hdu: fits.ImageHDU, **cards: str) -> fits.ImageHDU:
        return fits.ImageHDU(hdu.data, fits.Header(cards))

    @pytest.mark.parametrize(
        "hdus",
        [
            lambda t: [t.named(t.other, EXTTYPE="MASK"), t.named(t.image, EXTTYPE="IMAGE")],
            lambda t: [t.other, t.named(t.image, EXTNAME="IMAGE")],
            lambda t: [t.named(t.other, EXTNAME="VARIANCE"), t.image],
            lambda t: [t.image, fits.ImageHDU(), fits.ImageHDU()],
            lambda t: [fits.ImageHDU(np.zeros((2, 2, 2))), t.image],
            lambda t: [fits.BinTableHDU.from_columns([fits.Column("a", "J", array=[1])]), t.image],
        ],
    )
    def test_chosen(self, hdus: Callable[[TestChoiceOfImage], list[object]]) -> None:
        np.testing.assert_array_equal(load(to_bytes(primary(), *hdus(self))), pixels())

    @pytest.mark.parametrize(
        "hdus",
        [
            [],
            [fits.ImageHDU()],
            [fits.ImageHDU(pixels(), fits.Header({"EXTTYPE": "MASK"}))],
            [fits.ImageHDU(np.zeros((2, 64, 64)))],
        ],
    )
    def test_none(self, hdus: list[object]) -> None:
        with pytest.raises(UnusableFileError, match="no 2-D image among") as caught:
            load(to_bytes(primary(), *hdus))
        assert caught.value.code is Code.NO_IMAGE_HDU


class TestZeroPoint:
    @pytest.mark.parametrize(
        ("image_cards", "primary_cards", "expected"),
        [
            ({}, {"FLUXMAG0": 10**10.8}, 27.0),
            ({"FLUXMAG0": 10**12}, {"FLUXMAG0": 10**10.8}, 30.0),
            ({"MAGZERO": 0.0}, {}, 0.0),
            ({}, {"PHOTZP": 25.5}, 25.5),
            ({"MAGZERO": 27.0}, {"FLUXMAG0": 10**10.8}, 27.0),
            ({}, {}, None),
        ],
    )
    def test_read(self, image_cards: dict[str, float], primary_cards: dict[str, float], expected: float | None) -> None:
        def cards(values: dict[str, float]) -> fits_scan.Cards:
            return fits_scan.parse_cards(fits.Header(values).tostring(endcard=False, padding=False).encode())

        found = zero_point(cards(image_cards), cards(primary_cards))
        assert found == (None if expected is None else pytest.approx(expected, abs=1e-12))

    @pytest.mark.parametrize("card", [{"FLUXMAG0": 0.0}, {"FLUXMAG0": -1.0}, {"MAGZERO": 1e6}, {"MAGZERO": "high"}])
    def test_refused(self, card: dict[str, object]) -> None:
        hdu = fits.PrimaryHDU(pixels(), fits.Header(card))
        with pytest.raises(UnusableFileError, match=r"= .* is not a zero point"):
            load(to_bytes(hdu))

    def test_counts_are_brought_to_the_survey(self) -> None:
        out = np.empty((SIZE, SIZE), np.float32)
        hdu = fits.PrimaryHDU(pixels(), fits.Header({"MAGZERO": 24.5}))
        assert read_cutout(to_bytes(hdu), RA, DEC, HSC, out).states_zero_point
        np.testing.assert_allclose(out, pixels() * 10.0, rtol=2e-7)

    def test_absent_is_told(self) -> None:
        out = np.empty((SIZE, SIZE), np.float32)
        assert not read_cutout(to_bytes(fits.PrimaryHDU(pixels())), RA, DEC, HSC, out).states_zero_point
        np.testing.assert_array_equal(out, pixels())

    def test_the_archives_own_leaves_bits_alone(self) -> None:
        assert zero_point_factor(2.5 * math.log10(63095734448.0194), HSC) == np.float32(1.0)

    def test_overflow_is_not_finite(self) -> None:
        hdu = fits.PrimaryHDU(np.full((SIZE, SIZE), 1e300), fits.Header({"MAGZERO": 27.0}))
        with pytest.raises(UnusableFileError, match="4096 of 4096 pixels are NaN or infinite"):
            load(to_bytes(hdu))


class TestCrop:
    @settings(max_examples=80, deadline=None)
    @given(
        shape=st.tuples(st.integers(SIZE + 1, 150), st.integers(SIZE + 1, 150)),
        at=st.tuples(st.floats(-10, 160), st.floats(-10, 160)),
    )
    def test_against_cutout2d(self, shape: tuple[int, int], at: tuple[float, float]) -> None:
        image = np.arange(shape[0] * shape[1], dtype=np.float32).reshape(shape)
        header = wcs_header(shape[1], shape[0])
        position = WCS(header).pixel_to_world(*at)
        ra, dec = float(position.ra.deg), float(position.dec.deg)
        inside = all(-0.5 <= value <= length - 0.5 for value, length in zip(at, shape[::-1], strict=True))
        code, region = outcome(lambda: crop(shape, sky_map(header_bytes(header)), ra, dec, SIZE))
        if code is not None:
            at_the_edge = any(
                min(abs(value + 0.5), abs(value - length + 0.5)) < 1e-6
                for value, length in zip(at, shape[::-1], strict=True)
            )
            assert at_the_edge or code is (Code.WRONG_SHAPE if inside else Code.POSITION_OUTSIDE)
            return
        # Where the cutout lacks a pixel on one side, Cutout2D fills it; otherwise both are the same.
        wanted = Cutout2D(image, at, SIZE, mode="partial", fill_value=np.nan).data
        ties = any(abs((value % 1.0) - 0.0) < 1e-5 or abs((value % 1.0) - 1.0) < 1e-5 for value in at)
        if np.isfinite(wanted).all() and not ties:
            np.testing.assert_array_equal(image[region], wanted)
        for where, value in zip(region, at[::-1], strict=True):
            assert abs(where.start + HSC.center_px - value) <= 1.5 + 1e-5

    @pytest.mark.parametrize(
        ("position", "first"),
        [(31.5, 0), (32.0, 0), (32.0 + 1e-9, 0), (32.01, 1), (31.0, -1), (31.01, 0), (100.0, 68), (100.5, 69)],
    )
    def test_ties_go_to_the_lower(self, position: float, first: int) -> None:
        assert first_pixel(position, 64) == first
        # The nearest of all integers, by trying them.
        distance = {start: round(abs(start + 31.5 - position), 6) for start in range(-5, 90)}
        assert first == min(start for start, value in distance.items() if value == min(distance.values()))

    @pytest.mark.parametrize(("length", "first"), [(64, 0), (65, 0), (66, 1), (67, 1), (301, 118)])
    def test_without_wcs_the_middle(self, length: int, first: int) -> None:
        region = crop((length, 64), None, RA, DEC, 64)
        assert region == (slice(first, first + 64), slice(0, 64))

    def test_unknown_position_takes_the_middle(self) -> None:
        sky = sky_map(header_bytes(wcs_header(80, 80)))
        assert crop((80, 80), sky, math.nan, DEC, 64) == (slice(8, 72), slice(8, 72))

    @pytest.mark.parametrize("shape", [(65, 64), (64, 65), (65, 65)])
    def test_a_pixel_more_in_one_band(self, shape: tuple[int, int]) -> None:
        image = pixels(*shape)
        np.testing.assert_array_equal(load(archive_file(image)), image[:64, :64])

    @pytest.mark.parametrize("shape", [(63, 64), (64, 63), (25, 25)])
    def test_too_small(self, shape: tuple[int, int]) -> None:
        with pytest.raises(
            UnusableFileError, match=rf"{shape[1]} x {shape[0]} px \(x, y\), 64 x 64 are needed"
        ) as caught:
            load(archive_file(pixels(*shape)))
        assert caught.value.code is Code.WRONG_SHAPE

    def test_right_size_is_taken_as_it_is(self) -> None:
        np.testing.assert_array_equal(load(archive_file(pixels()), RA + 2.9 * 0.168 / 3600), pixels())

    def test_right_size_off_the_object(self) -> None:
        """The aperture would hold a neighbour or the sky."""
        with pytest.raises(UnusableFileError, match=r"pixel \(28.4, 31.5\).*outside of the central aperture") as caught:
            load(archive_file(pixels()), RA + 3.1 * 0.168 / 3600)
        assert caught.value.code is Code.POSITION_OUTSIDE

    def test_object_outside(self) -> None:
        with pytest.raises(UnusableFileError, match=r"RA 150.01.*falls on pixel \(-182.7, 31.5\)") as caught:
            load(archive_file(pixels()), RA + 0.01)
        assert caught.value.code is Code.POSITION_OUTSIDE

    def test_too_little_around_the_object(self) -> None:
        with pytest.raises(UnusableFileError, match="12 px are missing for 64 x 64 px") as caught:
            load(archive_file(pixels(80, 80)), RA, DEC + 20 * 0.168 / 3600)
        assert caught.value.code is Code.WRONG_SHAPE


class TestDamage:
    whole = archive_file(pixels())

    def header_with(self, *cards: str) -> bytes:
        text = "".join(card.ljust(80) for card in (*cards, "END"))
        return text.ljust(-(-len(text) // 2880) * 2880).encode()

    @pytest.mark.parametrize(
        ("data", "reason"),
        [
            (b"", "the file is empty"),
            (b"hello", "does not begin with SIMPLE"),
            (b"\0" * 5000, "does not begin with SIMPLE"),
            (whole[:300], "no END"),
            (whole[:1000], "cut off in the header of HDU 0"),
            (whole[:6000], "cut off"),
            (whole[:-6000], "cut off: HDU 3"),
            (whole + b"x" * 100, "no header where HDU 4 should begin"),
            (whole.replace(b"XTENSION", b"YTENSION"), "no header where HDU 1 should begin"),
            (b"\x1f\x8b" + b"junk" * 10, "damaged gzip"),
            (gzip.compress(whole)[:-500], "damaged gzip"),
        ],
    )
    def test_unreadable(self, data: bytes, reason: str) -> None:
        with pytest.raises(UnusableFileError, match=reason) as caught:
            load(data)
        assert caught.value.code is Code.UNREADABLE_FILE

    @pytest.mark.parametrize(
        ("cards", "reason"),
        [
            (
                ("BITPIX  = -32", "NAXIS   = 2", "NAXIS1  = 2147483647", "NAXIS2  = 2147483647"),
                "cut off: HDU 0 needs 1844",
            ),
            (("BITPIX  = -32", "NAXIS   = 2", "NAXIS1  = -64", "NAXIS2  = 64"), "negative size"),
            (("BITPIX  = 7", "NAXIS   = 2", "NAXIS1  = 64", "NAXIS2  = 64"), "BITPIX 7"),
            (("BITPIX  = -32", "NAXIS   = 99999999"), "NAXIS 99999999"),
            (("BITPIX  = -32", "NAXIS   = 2", "NAXIS1  = 64"), "no usable NAXIS2"),
            (("BITPIX  = abc",), "no usable BITPIX"),
            (
                ("BITPIX  = -32", "NAXIS   = 2", "NAXIS1  = 64", "NAXIS2  = 64", "NAXIS1  = 2"),
                r"NAXIS1 cards of .*2, 64",
            ),
        ],
    )
    def test_headers_that_lie(self, cards: tuple[str, ...], reason: str) -> None:
        with pytest.raises(UnusableFileError, match=reason):
            load(self.header_with("SIMPLE  = T", *cards) + b"\0" * 2880)

    def test_keywords_in_small_letters_are_read_as_by_astropy(self) -> None:
        head = ("BITPIX  = -32", "NAXIS   = 2", "NAXIS1  = 64", "NAXIS2  = 64", "bzero   = 2.5", "BScale  = 3")
        data = self.header_with(f"SIMPLE  = {'T':>20}", *head) + pixels().astype(">f4").tobytes()
        data += bytes(-len(data) % 2880)
        np.testing.assert_allclose(load(data), fits.getdata(io.BytesIO(data)), rtol=1e-6)
        np.testing.assert_allclose(load(data), 3 * pixels() + 2.5, rtol=1e-6)

    def test_a_bomb_is_not_unpacked(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("swimmy_scale.ingest.pixels.cutout_files.MAX_FILE_BYTES", 10**6)
        with pytest.raises(UnusableFileError, match="unpacks to more than 1000000 bytes"):
            load(gzip.compress(b"\0" * 10**7))

    def test_gzipped(self) -> None:
        np.testing.assert_array_equal(load(gzip.compress(self.whole)), pixels())

    def test_checksum(self) -> None:
        data = bytearray(archive_file(pixels(), checksum=True))
        np.testing.assert_array_equal(load(bytes(data)), pixels())
        data[9000] ^= 4
        with pytest.raises(UnusableFileError, match="checksum of HDU 1 fails"):
            load(bytes(data))

    @pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
    def test_not_finite(self, value: float) -> None:
        image = pixels()
        image[[10, 10], [20, 30]] = value
        with pytest.raises(UnusableFileError, match=r"2 of 4096 pixels .* first at \(20, 10\)"):
            load(archive_file(image))

    def test_not_finite_outside_of_the_crop_is_no_matter(self) -> None:
        image = pixels(80, 80)
        image[0] = np.nan
        assert np.isfinite(load(archive_file(image))).all()

    def test_infinities_that_cancel(self) -> None:
        image = pixels()
        image[0, :2] = np.inf, -np.inf
        with pytest.raises(UnusableFileError, match="2 of 4096"):
            scale_into(image, np.float32(1.0), np.empty_like(image), HSC)

    @pytest.mark.parametrize(
        ("card", "value", "reason"),
        [
            (b"ZCMPTYPE", b"'HCOMPRESS_1'", "re-compress with RICE_1"),
            (b"ZNAXIS1 ", b"2000000000", "unpacks to"),
            (b"ZNAXIS1 ", b"1E308", "unpacks to"),
            (b"ZNAXIS1 ", b"65", "tiles"),
            (b"ZTILE1  ", b"0", "tiles"),
            (b"TFORM1  ", b"'9Z(9)'", "column of format"),
        ],
    )
    def test_compressed_headers_that_lie(self, card: bytes, value: bytes, reason: str) -> None:
        data = bytearray(to_bytes(primary(), FORMS["gzip"]))
        where = data.find(card)
        data[where + 10 : where + 80] = value.rjust(20).ljust(70)
        with pytest.raises(UnusableFileError, match=reason):
            load(bytes(data))

    def test_compressed_tile_that_is_a_bomb(self) -> None:
        bomb = gzip.compress(b"\0" * 10**6)
        data = bytearray(to_bytes(primary(), FORMS["gzip"]))
        hdu = scan(reader(bytes(data)), len(data))[1]
        heap = hdu.data_start + hdu.shape[0] * hdu.shape[1]
        assert len(bomb) < hdu.data_bytes - hdu.shape[0] * hdu.shape[1]
        data[heap : heap + len(bomb)] = bomb
        data[hdu.data_start : hdu.data_start + 8] = np.array([len(bomb), 0], ">i4").tobytes()
        with pytest.raises(UnusableFileError, match="GZIP tile that unpacks to more than 512 bytes"):
            load(bytes(data))

    @pytest.mark.parametrize("form", ["float32", "int16", "rice", "gzip", "gzip tiles"])
    @settings(max_examples=60, deadline=None)
    @given(data=st.data())
    def test_mutations_never_raise_anything_else(self, form: str, data: st.DataObject) -> None:
        raw = bytearray(MUTATED[form])
        if data.draw(st.booleans(), "truncate"):
            del raw[data.draw(st.integers(0, len(raw) - 1)) :]
        for _ in range(data.draw(st.integers(0, 6))):
            where = data.draw(st.integers(0, 3 * 2880) | st.integers(0, len(MUTATED[form]) - 1))
            if where < len(raw):
                raw[where] = data.draw(st.integers(0, 255) | st.integers(48, 57))
        code, image = outcome(lambda: load(bytes(raw)))
        assert code is not None or np.isfinite(image).all()


MUTATED = {form: to_bytes(primary(), FORMS[form], fits.ImageHDU(pixels())) for form in FORMS}
