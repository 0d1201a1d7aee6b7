"""Mutated FITS files through the ingest's reader: against astropy, and against the reader that knows no pattern."""

from __future__ import annotations

import gzip
import io
import random
import tarfile
import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from astropy.io import fits

from chaos.batches import in_a_fork
from chaos.lab import Lab
from chaos.records import Outcome
from swimmy_scale.ingest.pixels.cutout_files import read_cutout, unpacked
from swimmy_scale.ingest.pixels.fits_scan import UnusableFileError, find_image, reader_of, scan
from swimmy_scale.ingest.pixels.header_patterns import HeaderPatterns
from swimmy_scale.method.survey import HSC

BLOCK, CARD = 2880, 80
MUTANTS = 250
SIZE = HSC.cutout_size_px
UNKNOWN = float("nan")
VALUES = (
    *("0", "-1", "1", "2", "3", "7", "8", "16", "32", "-32", "-64", "64", "63", "65", "100", "65535", "65536"),
    *("2147483647", "2147483648", "4294967296", "9223372036854775807", "9223372036854775808", "1" + "0" * 30, "1E308"),
    *(
        "-1E400",
        "NAN",
        "INF",
        "1.5",
        "'abc'",
        "'2.0'",
        "",
        "T",
        "F",
        "0x10",
        "1_0",
        "1D0",
        "2.0D0",
        "+64",
        "064",
        "6 4",
    ),
    *("(1,2)", "'RICE_1'", "'GZIP_1'", "'GZIP_2'", "'PLIO_1'", "'HCOMPRESS_1'", "'NOCOMPRESS'", "'1PB(9999)'"),
    *(
        "'1QB(1)'",
        "'1PE'",
        "'999999999A'",
        "'1J'",
        "'0B'",
        "'IMAGE'",
        "'BINTABLE'",
        "'TABLE'",
        "'MASK'",
        "1E-45",
        "-0.0",
    ),
    *("'nJy'", "'adu'", "63095734448.0"),
)
KEYWORDS = (
    *(
        "SIMPLE",
        "BITPIX",
        "NAXIS",
        "NAXIS1",
        "NAXIS2",
        "NAXIS3",
        "EXTEND",
        "PCOUNT",
        "GCOUNT",
        "BSCALE",
        "BZERO",
        "BLANK",
    ),
    *("XTENSION", "EXTNAME", "EXTTYPE", "ZIMAGE", "ZTILE1", "ZTILE2", "ZBITPIX", "ZNAXIS", "ZNAXIS1", "ZNAXIS2"),
    *(
        "ZCMPTYPE",
        "ZQUANTIZ",
        "ZDITHER0",
        "ZBLANK",
        "ZSCALE",
        "ZZERO",
        "ZNAME1",
        "ZVAL1",
        "TFIELDS",
        "TFORM1",
        "TFORM2",
    ),
    *("TFORM3", "TTYPE1", "TTYPE2", "THEAP", "FLUXMAG0", "MAGZERO", "BUNIT", "CRPIX1", "CRPIX2", "CRVAL1", "CD1_1"),
    *("CD2_2", "CTYPE1", "CTYPE2", "CHECKSUM", "DATASUM", "GROUPS", "INHERIT", "CONTINUE", "HISTORY", "END"),
)
ZERO_POINTS = ("FLUXMAG0", "MAGZERO", "PHOTZP", "BUNIT")


type Mutation = Callable[[bytearray, random.Random], None]


class Base(NamedTuple):
    """A good file of some form."""

    name: str
    data: bytes


def bases(lab: Lab) -> list[Base]:
    """Good files of every form that archives deliver: a cutout of the survey, and its pixels packed anew."""
    if "fits" in lab.journals:
        found: list[Base] = lab.journals["fits"]
        return found
    with tarfile.open(next((lab.data / "survey/cutouts").glob("*.tar"))) as tar:
        archive = next(data for data in map(_content(tar), tar) if data and _outcome(data)[0] is not None)
    with fits.open(io.BytesIO(archive)) as hdus:
        image = np.array(next(hdu.data for hdu in hdus if hdu.data is not None and hdu.data.ndim == 2), np.float32)
    flux = fits.Header([("FLUXMAG0", 6.3e10)])
    scaled = fits.PrimaryHDU(image.copy(), flux)
    scaled.scale("int16", bscale=0.001, bzero=2.0)
    large = np.zeros((100, 90), np.float32)
    large[10:74, 10:74] = image
    made = [
        Base("archive", archive),
        Base("float32", _packed(fits.PrimaryHDU(image, flux))),
        Base("float64", _packed(fits.PrimaryHDU(image.astype(np.float64), flux))),
        Base("checksum", _packed(fits.PrimaryHDU(), fits.ImageHDU(image, flux), checksum=True)),
        Base("int16", _packed(scaled)),
        Base("large", _packed(fits.PrimaryHDU(large))),
        Base("gzip", gzip.compress(archive, 1)),
    ]
    for form in ("RICE_1", "GZIP_1", "GZIP_2"):
        level = 16 if form == "RICE_1" else 0
        compressed = fits.CompImageHDU(image, flux, compression_type=form, quantize_level=level)
        whole = fits.CompImageHDU((image * 100).astype(np.int16), flux, compression_type=form, tile_shape=(8, SIZE))
        made += [
            Base(form, _packed(fits.PrimaryHDU(), compressed)),
            Base(f"{form} int16", _packed(fits.PrimaryHDU(), whole)),
        ]
    lab.journals["fits"] = made
    return made


def _content(tar: tarfile.TarFile) -> Callable[[tarfile.TarInfo], bytes]:
    def read(member: tarfile.TarInfo) -> bytes:
        stream = tar.extractfile(member) if member.isfile() else None
        return stream.read() if stream else b""

    return read


def _packed(*hdus: Any, checksum: bool = False) -> bytes:
    stream = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fits.HDUList(list(hdus)).writeto(stream, checksum=checksum)
    return stream.getvalue()


# ---------------------------------------------------------------- mutations


def _headers(data: bytes | bytearray) -> list[tuple[int, int]]:
    try:
        return [(hdu.start, hdu.data_start) for hdu in scan(reader_of(bytes(data)), len(data))]
    except UnusableFileError:
        return [(0, min(len(data), BLOCK))]


def _flip(data: bytearray, rnd: random.Random, lo: int, hi: int) -> None:
    for _ in range(rnd.choice([1, 1, 2, 8, 64])):
        bit = rnd.randrange(lo * 8, max(hi, lo + 1) * 8)
        data[min(bit // 8, len(data) - 1)] ^= 1 << bit % 8


def _anywhere(data: bytearray, rnd: random.Random) -> None:
    _flip(data, rnd, 0, len(data))


def _in_header(data: bytearray, rnd: random.Random) -> None:
    _flip(data, rnd, *rnd.choice(_headers(data)))


def _card(data: bytearray, rnd: random.Random) -> None:
    """Other values, keywords and spellings of cards."""
    for _ in range(rnd.choice([1, 1, 1, 2, 5])):
        lo, hi = rnd.choice(_headers(data))
        there = [at for at in range(lo, hi - CARD + 1, CARD) if data[at + 8 : at + 10] == b"= "]
        if not there:
            return
        at = rnd.choice(there)
        keyword = data[at : at + 8].decode("latin-1") if rnd.random() < 0.7 else f"{rnd.choice(KEYWORDS):<8}"
        value = rnd.choice(VALUES)
        plain = f"{keyword}= {value:>20}"
        odd = (
            f"{keyword}={value}",
            f"{keyword.strip()} = {value}",
            f"{keyword.lower()}= {value}",
            f"{keyword}= {value}/{value}",
        )
        text = rnd.choice([plain, plain, plain, *odd])
        data[at : at + CARD] = text.encode("latin-1")[:CARD].ljust(CARD)


def _insert(data: bytearray, rnd: random.Random) -> None:
    lo, hi = rnd.choice(_headers(data))
    at = CARD * rnd.randrange(1, max(2, (hi - lo) // CARD))
    card = f"{rnd.choice(KEYWORDS):<8}= {rnd.choice(VALUES):>20}".encode().ljust(CARD)
    header = bytes(data[lo:hi])
    longer = (header[:at] + card * rnd.choice([1, 2, 36]) + header[at:]).rstrip(b" ")
    data[lo:hi] = longer + b" " * (-len(longer) % BLOCK)


def _cut(data: bytearray, rnd: random.Random) -> None:
    del data[rnd.randrange(len(data)) :]


def _grow(data: bytearray, rnd: random.Random) -> None:
    data += rnd.choice([bytes(BLOCK), b"\xff" * BLOCK, bytes(1), b"XTENSION= 'IMAGE   '".ljust(BLOCK), bytes(data)])


def _no_end(data: bytearray, rnd: random.Random) -> None:
    at = data.find(b"END" + b" " * (CARD - 3))
    if at >= 0:
        data[at : at + 3] = rnd.choice([b"   ", b"END=", b"ENX"])[:3]


def _swap_blocks(data: bytearray, rnd: random.Random) -> None:
    one, other = (BLOCK * rnd.randrange(max(len(data) // BLOCK, 1)) for _ in range(2))
    if one != other:
        data[one : one + BLOCK], data[other : other + BLOCK] = data[other : other + BLOCK], data[one : one + BLOCK]


def _repeat(data: bytearray, rnd: random.Random) -> None:
    at = rnd.randrange(0, max(len(data) - CARD, 1), CARD)
    data[at:at] = data[at : at + CARD * rnd.choice([1, 36])]


def _junk(data: bytearray, rnd: random.Random) -> None:
    data += b"junk"


def _gzip(data: bytearray, rnd: random.Random) -> None:
    """Packed, and then damaged, followed by something, or by very much."""
    packed = bytearray(data if data[:2] == b"\x1f\x8b" else gzip.compress(bytes(data), 1))
    change: Mutation = rnd.choice([_anywhere, _cut, _junk])
    change(packed, rnd)
    if rnd.random() < 0.2:
        packed += gzip.compress(bytes(rnd.choice([1, 8]) << 20), 1)
    data[:] = packed


MUTATIONS: tuple[Mutation, ...] = (
    _anywhere,
    _in_header,
    _card,
    _card,
    _card,
    _insert,
    _cut,
    _grow,
    _no_end,
    _swap_blocks,
    _repeat,
    _gzip,
)


def mutant(base: Base, rnd: random.Random) -> bytes:
    """A file that was good once."""
    data = bytearray(base.data)
    while True:
        change = rnd.choice(MUTATIONS)
        change(data, rnd)
        if not data or rnd.random() > 0.25:
            return bytes(data)


# ---------------------------------------------------------------- judgement


def _outcome(data: bytes, patterns: HeaderPatterns | None = None) -> tuple[npt.NDArray[np.float32] | None, str]:
    """The pixels, or by which code the file is refused."""
    out = np.empty((SIZE, SIZE), np.float32)
    try:
        read_cutout(data, UNKNOWN, UNKNOWN, HSC, out, patterns)
    except UnusableFileError as error:
        return None, error.code.label
    return out, "read"


def _by_astropy(data: bytes) -> tuple[npt.NDArray[np.float64], list[float]]:
    """The middle of the same image by astropy, and the zero points that its headers may mean."""
    raw = unpacked(data)
    index = find_image(scan(reader_of(raw), len(raw))).index
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with fits.open(io.BytesIO(raw), memmap=False) as hdus:
            image = np.array(hdus[index].data, np.float64)
            headers = hdus[index].header, hdus[0].header
            stated = [_numbers(header, key)[:1] for header in headers for key in ZERO_POINTS]
    y, x = ((length - SIZE) // 2 for length in image.shape[-2:])
    numbers = [value for values in stated for value in values]
    magnitudes = [HSC.zero_point_mag, 31.4, *numbers, *(2.5 * np.log10(value) for value in numbers if value > 0)]
    return image[..., y : y + SIZE, x : x + SIZE], magnitudes


def _numbers(header: Any, key: str) -> list[float]:
    """The numbers of all cards of a keyword; astropy counts one without "= " among them, whose value is text."""
    values = (header[key, place] for place in range(header.count(key) if key in header else 0))
    return [float(value) for value in values if isinstance(value, (int, float))]


def _wrong_pixels(data: bytes, pixels: npt.NDArray[np.float32]) -> tuple[list[str], str]:
    """What is wrong with pixels that were read; they may be scaled to another zero point."""
    if not np.isfinite(pixels).all():
        return ["it has read a pixel that is not finite"], "read"
    try:
        expected, magnitudes = _by_astropy(data)
    except Exception as error:
        return [], f"read, and astropy raises {type(error).__name__}"
    for magnitude in magnitudes:
        with np.errstate(all="ignore"):
            scaled = expected.astype(np.float32) * np.float32(10.0 ** (0.4 * (HSC.zero_point_mag - magnitude)))
        if np.array_equal(scaled, pixels) or np.allclose(scaled, pixels, rtol=2e-6, atol=0):
            return [], "read, with astropy's pixels"
    return [f"{np.count_nonzero(expected.astype(np.float32) != pixels)} pixels are not astropy's"], "read"


def files(lab: Lab, k: int, rnd: random.Random) -> Outcome:
    """Mutants; each is read twice, the second time after its good original, whose header serves as a pattern."""
    good = bases(lab)
    seed = rnd.getrandbits(64)

    def check(number: int) -> tuple[list[str], str]:
        mine = random.Random(f"{seed} {number}")
        base = mine.choice(good)
        data = mutant(base, mine)
        pixels, said = _outcome(data)
        patterns = HeaderPatterns()
        _outcome(base.data, patterns)
        again, said_again = _outcome(data, patterns)
        if said != said_again or (pixels is not None and again is not None and pixels.tobytes() != again.tobytes()):
            return [f"with a pattern it is {said_again}, without it {said}"], said
        return ([], said) if pixels is None else _wrong_pixels(data, pixels)

    return in_a_fork(MUTANTS, check)
