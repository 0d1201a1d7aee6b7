"""Masks in FITS cutouts and coadds, written by astropy, against the bits that were put in."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from coadd_files import write_coadd
from fits_files import DEC, RA, SIZE, archive_file, pixels, primary, reader, to_bytes, wcs_header

from swimmy_scale.ingest.pixels.cutout_files import Found, read_cutout
from swimmy_scale.ingest.pixels.fits_scan import UnusableFileError, find_image, scan
from swimmy_scale.ingest.pixels.header_patterns import HeaderPatterns
from swimmy_scale.ingest.pixels.mask_planes import find_masks
from swimmy_scale.ingest.pixels.sources import build_index, list_source, read_rows
from swimmy_scale.method.survey import HSC, Survey

MIDDLE = SIZE // 2
HSC_PLANES = {
    "MP_BAD": 0,
    "MP_SAT": 1,
    "HIERARCH MP_INTRP": 2,
    "MP_CR": 3,
    "HIERARCH MP_DETECTED": 5,
    "HIERARCH MP_NO_DATA": 8,
}
DP2_PLANES = {"MSKN0000": "NO_DATA", "MSKM0000": 1, "MSKN0003": "SATURATED", "MSKM0003": 8, "MSKN0001": "DETECTED",
              "MSKM0001": 2}  # fmt: skip


def mask_of(bits: int, y: int = MIDDLE, x: int = MIDDLE, size: int = SIZE, kind: type = np.int32) -> np.ndarray:
    """One pixel has these bits, all others none."""
    found = np.zeros((size, size), kind)
    found[y, x] = bits
    return found


def masked_file(mask: object, image: np.ndarray | None = None, checksum: bool = False) -> bytes:
    """Image, mask, variance, as the archive delivers them; ``mask`` is an HDU."""
    image = pixels() if image is None else image
    variance = fits.ImageHDU(np.ones(image.shape, np.float32), fits.Header({"EXTTYPE": "VARIANCE"}))
    header = wcs_header(image.shape[1], image.shape[0])
    return to_bytes(primary(), fits.ImageHDU(image, header), mask, variance, checksum=checksum)


def hdu_of(mask: np.ndarray, planes: dict[str, object] = HSC_PLANES, form: str = "plain") -> object:
    header = fits.Header({"EXTNAME": "MASK", **planes})
    if form == "plain":
        return fits.ImageHDU(mask, header)
    return fits.CompImageHDU(mask, header, compression_type=form)


def read(data: bytes, patterns: HeaderPatterns | None = None) -> Found:
    return read_cutout(data, RA, DEC, HSC, np.empty((SIZE, SIZE), np.float32), patterns)


@pytest.mark.parametrize("form", ["plain", "GZIP_2", "RICE_1"])
@pytest.mark.parametrize(
    ("planes", "bits", "is_bad"),
    [
        (HSC_PLANES, 1 << 0, True),
        (HSC_PLANES, 1 << 1, True),
        (HSC_PLANES, 1 << 8, True),
        (HSC_PLANES, (1 << 2) + (1 << 3) + (1 << 5), False),  # interpolated, cosmic ray, detected
        (HSC_PLANES, -1, True),
        ({"MP_BAD": 4, "MP_SAT": 30}, 1 << 4, True),  # numbered otherwise
        ({"MP_BAD": 4, "MP_SAT": 30}, 1 << 30, True),
        ({"MP_BAD": 4}, (1 << 0) + (1 << 1) + (1 << 8), False),
        (DP2_PLANES, 1, True),
        (DP2_PLANES, 8, True),
        (DP2_PLANES, 2, False),
        ({"HIERARCH MP_DETECTED": 5}, 1 << 5, False),
    ],
)
def test_planes_that_mean_a_bad_pixel(planes: dict[str, object], bits: int, is_bad: bool, form: str) -> None:
    found = read(masked_file(hdu_of(mask_of(bits), planes, form)))
    assert (found.error, found.masked, found.mask_unused) == (None, is_bad, "")


@pytest.mark.parametrize("kind", [np.uint8, np.int16, np.int32, np.int64, np.uint16, np.uint32])
@pytest.mark.parametrize("form", ["plain", "GZIP_1"])
def test_types_of_masks(kind: type, form: str) -> None:
    """Unsigned ones are scaled in FITS."""
    if form == "GZIP_1" and kind is np.int64:
        return  # cfitsio's tiles have at most 32 bits
    planes = {"MP_BAD": 7}
    assert read(masked_file(hdu_of(mask_of(1 << 7, kind=kind), planes, form))).masked
    assert not read(masked_file(hdu_of(mask_of(1 << 6, kind=kind), planes, form))).masked


def test_only_the_central_aperture_counts() -> None:
    """Pixel by pixel of a cutout that is larger than the survey's, against its circle."""
    size, radius = SIZE + 1, HSC.aperture_diameter_px / 2
    image = pixels(size, size)
    y, x = np.mgrid[:SIZE, :SIZE] - (SIZE - 1) / 2
    # The object is in the middle of 65 px: the cutout begins with the first pixel.
    wanted = np.hypot(y, x) <= radius
    patterns = HeaderPatterns()
    for row in range(MIDDLE - 5, MIDDLE + 5):
        for column in range(MIDDLE - 5, MIDDLE + 5):
            data = masked_file(hdu_of(mask_of(1, row, column, size)), image)
            assert read(data, patterns).masked == wanted[row, column], (row, column)


def test_masks_of_known_headers() -> None:
    """A file like an earlier one, whose headers are not parsed: its own mask counts."""
    patterns = HeaderPatterns()
    clear, bad = masked_file(hdu_of(mask_of(0))), masked_file(hdu_of(mask_of(2)))
    assert not read(clear, patterns).masked
    assert patterns.find(bad) is not None
    assert read(bad, patterns).masked
    other = masked_file(hdu_of(mask_of(2), {**HSC_PLANES, "MP_SAT": 7}))
    assert patterns.find(other) is None
    assert not read(other, patterns).masked


def test_which_masks_belong_to_an_image() -> None:
    """Those behind it, up to the next image; their names may have more in them."""
    names = ("IMAGE", "MASK_1", "VARIANCE", "MASK_2", "OTHER", "MASK")
    images = [fits.ImageHDU(mask_of(0), fits.Header({"EXTNAME": name, **HSC_PLANES})) for name in names]
    data = to_bytes(primary(), *images)
    hdus = scan(reader(data), len(data))
    assert [mask.hdu.index for mask in find_masks(hdus, find_image(hdus))] == [2, 4]
    assert [mask.hdu.index for mask in find_masks(hdus, hdus[5])] == [6]
    assert find_masks(hdus[:2], hdus[1]) == ()


def test_a_mask_without_names_is_not_used() -> None:
    found = read(masked_file(hdu_of(mask_of(-1), {})))
    assert not found.masked
    assert found.mask_unused == "no card MP_ or MSKN names the planes of the mask in HDU 2"


@pytest.mark.parametrize(
    ("mask", "reason"),
    [
        (hdu_of(mask_of(0, size=60)), "its mask in HDU 2 has 60 x 60 px, and the image 64 x 64"),
        (hdu_of(np.zeros((SIZE, SIZE), np.float32)), "its mask in HDU 2 decodes to float32"),
        (hdu_of(mask_of(0), {"MP_BAD": -1}), "its mask in HDU 2 has a plane BAD that is no bit"),
        (hdu_of(mask_of(0), {"MP_SAT": 64}), "its mask in HDU 2 has a plane SAT that is no bit"),
        (hdu_of(mask_of(0), {"MSKN0000": "BAD"}), "its mask in HDU 2 has a plane BAD that is no bit"),
        (hdu_of(mask_of(0), form="PLIO_1"), "HDU 2 is compressed with b'PLIO_1': re-compress"),
    ],
)  # fmt: skip
def test_damaged_masks(mask: object, reason: str) -> None:
    """They put the object into quarantine, as other damage to its file does."""
    with pytest.raises(UnusableFileError, match=reason):
        read(masked_file(mask))


@pytest.mark.parametrize("form", ["plain", "GZIP_2"])
def test_damage_to_the_bytes_of_a_mask(form: str) -> None:
    """Seen by its checksum, or by the decompressor."""
    data = bytearray(masked_file(hdu_of(mask_of(0), form=form), checksum=form == "plain"))
    mask = scan(reader(bytes(data)), len(data))[2]
    at = mask.data_start + mask.data_bytes - 20
    data[at : at + 8] = b"\x01" * 8
    with pytest.raises(UnusableFileError, match="HDU 2"):
        read(bytes(data))
    assert not read(masked_file(hdu_of(mask_of(0), form=form), checksum=form == "plain")).masked


def test_any_band_masks_an_object(tmp_path: Path) -> None:
    """From files to rows: three objects, of which the z image of the second has a saturated pixel."""
    ids = np.array([11, 12, 13])
    for row, object_id in enumerate(ids):
        for band in HSC.bands:
            bits = 2 if (row, band) == (1, "z") else 0
            planes = {} if (row, band) == (2, "y") else HSC_PLANES
            path = tmp_path / f"{object_id}_{band}.fits"
            path.write_bytes(masked_file(hdu_of(mask_of(bits), planes), pixels() + row))
    ra, dec = np.full(3, RA), np.full(3, DEC)
    index = build_index([list_source(tmp_path, HSC)], ids, ra, dec, HSC)
    masked = np.zeros(3, np.bool_)
    image, faults, notes, _ = read_rows(index, 0, ids, ra, dec, HSC, masked=masked)
    assert faults == []
    np.testing.assert_array_equal(image[:, 3], [pixels() + row for row in range(3)])
    assert masked.tolist() == [False, True, False]
    assert len(notes) == 1
    assert "1 files have a mask that is not used; " in notes[0]
    assert "13_y.fits: no card MP_ or MSKN names the planes of the mask in HDU 2" in notes[0]


ONE = Survey(bands=("g",), selecting_bands=("g",), magnitude_band="g", band_divisors=(1.0,), min_depth_mag=(25.0,))


@pytest.mark.parametrize("form", ["plain", "GZIP_2", "RICE_1"])
def test_masks_of_coadds(tmp_path: Path, form: str) -> None:
    """The same for objects that are cut out: saturated in the middle, beside the aperture, only detected, clear."""
    size, x = 500, np.array([100.0, 200.0, 300.0, 400.0])
    path = write_coadd(tmp_path / "g.fits", pixels(size, size))
    mask = np.zeros((size, size), np.int32)
    mask[250, 100] = 2
    mask[250, 200 + int(HSC.aperture_diameter_px)] = 2
    mask[250, 300] = 1 << 5
    with fits.open(path) as hdus:
        sky = [fits.PrimaryHDU(), hdus[1].copy()]
        middle = hdus[1].header["CRPIX1"] - 1
    header = fits.Header({"EXTNAME": "MASK", **HSC_PLANES})
    of_mask = fits.ImageHDU(mask, header) if form == "plain" else fits.CompImageHDU(mask, header, compression_type=form)
    fits.HDUList([*sky, of_mask]).writeto(path, overwrite=True)
    ra = RA - (x - middle) * 0.168 / 3600 / np.cos(np.radians(DEC))
    dec = np.full(4, DEC + (250 - middle) * 0.168 / 3600)
    ids = np.arange(4)
    index = build_index([list_source(path, ONE, "coadd")], ids, ra, dec, ONE)
    masked = np.zeros(4, np.bool_)
    _, faults, notes, _ = read_rows(index, 0, ids, ra, dec, ONE, masked=masked)
    assert (faults, notes) == ([], [])
    assert masked.tolist() == [True, False, False, False]
    fits.HDUList([*sky, fits.ImageHDU(mask[1:], header)]).writeto(path, overwrite=True)
    _, faults, _, _ = read_rows(index, 0, ids, ra, dec, ONE)
    assert len(faults) == 4
    assert "its mask in HDU 2 has 500 x 499 px, and the image 500 x 500" in faults[0].reason


def test_archive_files_have_masks_that_are_read() -> None:
    found = read(archive_file(pixels()))
    assert (found.masked, found.mask_unused) == (False, "")
