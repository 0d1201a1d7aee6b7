"""Mutated tars through the ingest's listing, against `tarfile`: nothing is lost in silence, and nothing made up."""

from __future__ import annotations

import gzip
import io
import random
import tarfile
import zlib

from chaos.batches import in_a_fork
from chaos.lab import Lab
from chaos.records import Outcome
from swimmy_scale.ingest.pixels.listing import MAX_NAME_BYTES, list_tar

BLOCK = 512
MUTANTS = 200
FORMS = {"ustar": tarfile.USTAR_FORMAT, "gnu": tarfile.GNU_FORMAT, "pax": tarfile.PAX_FORMAT}
NAMES = (
    *("../../../../../../var/tmp/evil", "/var/evil", "a/../../b.fits", "./x", "\x01\x02.fits", "é" * 60, "name/"),
    *("n" * 300 + ".fits", "a\nb.fits", "\udcff.fits", "", " "),
)
SIZES = (
    b"77777777777\0",
    b"00000000000\0",
    b"\x80" + b"\xff" * 11,
    b"-0000000001\0",
    b"\x80" + bytes(7) + b"\0\1\0\0",
    b" " * 12,
)
LINKS = (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE, tarfile.DIRTYPE)
type Member = tuple[bytes, int, int]


def _made(rnd: random.Random, form: str) -> bytearray:
    """A tar of small files with unpleasant names, links and extended headers among them."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=FORMS[form]) as tar:
        for number in range(rnd.choice([3, 8, 40])):
            data = rnd.randbytes(rnd.choice([0, 1, 511, 512, 513, 5760]))
            member = tarfile.TarInfo(f"{number + 2}-cutout-HSC-I-9813-pdr3_wide.fits")
            member.size, sort = len(data), rnd.random()
            if sort < 0.08:
                member.name = rnd.choice(NAMES)
            elif sort < 0.14:
                member.type, member.size, member.linkname = rnd.choice(LINKS), 0, rnd.choice(["/etc/passwd", "x"])
            elif sort < 0.17 and form == "pax":
                member.pax_headers = {"comment": "x" * rnd.choice([10, 5000, 1 << 20])}
            try:
                tar.addfile(member, io.BytesIO(data) if member.size else None)
            except (ValueError, UnicodeError):
                continue  # a name that this form cannot hold
    return bytearray(stream.getvalue())


def _headers(data: bytearray) -> list[int]:
    return [at for at in range(0, len(data) - BLOCK + 1, BLOCK) if data[at + 257 : at + 262] == b"ustar"] or [0]


def _sum(data: bytearray, at: int) -> None:
    """A header's checksum, so that the change counts."""
    data[at + 148 : at + 156] = b" " * 8
    data[at + 148 : at + 156] = b"%06o\0 " % sum(data[at : at + BLOCK])


def mutant(rnd: random.Random) -> tuple[bytes, str]:
    """A tar that may be damaged, and what was done to it."""
    data = _made(rnd, rnd.choice(list(FORMS)))
    sort = rnd.choice(["whole", "flipped", "header", "size", "type", "cut off", "longer", "zeros", "twice"])
    if sort == "flipped":
        for _ in range(rnd.choice([1, 8])):
            data[rnd.randrange(len(data))] ^= 1 << rnd.randrange(8)
    elif sort in ("header", "size", "type"):
        at = rnd.choice(_headers(data))
        if sort == "header":
            data[at + rnd.randrange(BLOCK)] ^= 1 << rnd.randrange(8)
        elif sort == "size":
            data[at + 124 : at + 136] = rnd.choice(SIZES)
        else:
            data[at + 156 : at + 157] = rnd.choice([b"S", b"x", b"g", b"L", b"K", b"1", b"7"])
        if rnd.random() < 0.8:
            _sum(data, at)
    elif sort == "cut off":
        del data[rnd.randrange(len(data)) :]
    elif sort == "longer":
        data += rnd.choice([b"x" * BLOCK, bytes(BLOCK), b"\xff"])
    elif sort == "zeros":
        at = BLOCK * rnd.randrange(len(data) // BLOCK)
        data[at : at + BLOCK] = bytes(BLOCK)
    elif sort == "twice":
        data += bytes(data)
    return bytes(data), sort


def _by_tarfile(raw: bytes) -> tuple[list[Member], bool]:
    """The regular members by Python's own library, and whether it came to the end without complaint."""
    found: list[Member] = []
    try:
        with tarfile.open(fileobj=io.BytesIO(raw), mode="r:") as tar:
            while (member := tar.next()) is not None:
                if member.isreg() and not member.issparse():
                    name = member.name.encode("utf-8", "surrogateescape")
                    found.append((name, member.offset_data, member.size))
    except Exception:
        return found, False
    return found, True


def _wrong(raw: bytes, ours: list[Member], notes: tuple[str, ...]) -> list[str]:
    members, whole = _by_tarfile(raw)
    if not whole:
        return [] if notes else ["tarfile finds damage, and it says nothing"]
    expected = sorted(member for member in members if len(member[0]) <= MAX_NAME_BYTES)
    missing = [member for member in expected if member not in ours]
    extra = [member for member in ours if member not in expected]
    wrong = [f"it leaves out {missing[:2]} and says nothing"] if missing and not notes else []
    return [*wrong, *([f"it lists {extra[:2]}, tarfile does not"] if extra else [])]


def files(lab: Lab, k: int, rnd: random.Random) -> Outcome:
    """Mutants, some of them packed by gzip and damaged then."""
    seed, path = rnd.getrandbits(64), lab.place / "mutant.tar"

    def check(number: int) -> tuple[list[str], str]:
        mine = random.Random(f"{seed} {number}")
        raw, sort = mutant(mine)
        packed = mine.random() < 0.3
        data = bytearray(gzip.compress(raw, 1)) if packed else bytearray(raw)
        if packed and mine.random() < 0.3 and data:
            data[mine.randrange(len(data))] ^= 1 << mine.randrange(8)
            try:
                raw = gzip.decompress(bytes(data))
            except (OSError, EOFError, zlib.error):
                raw = b""
        path.write_bytes(data)
        listing = list_tar(str(path), "tar.gz" if packed else "tar")
        names = [listing.files[field].tolist() for field in ("name", "offset", "size")]
        ours = list(zip(*names, strict=True))
        wrong = _wrong(raw, ours, listing.notes) if raw or not packed else []
        return wrong, f"{sort}, {'with' if listing.notes else 'without'} a note"

    return in_a_fork(MUTANTS, check)
