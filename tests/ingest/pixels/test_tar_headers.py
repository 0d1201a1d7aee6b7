"""Members of a tar by comparing headers: the same as `tarfile` finds one by one."""

from __future__ import annotations

import gzip
import io
import tarfile
import zlib
from collections.abc import Callable, Iterable
from typing import IO, cast

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from swimmy_scale.ingest.pixels import tar_headers
from swimmy_scale.ingest.pixels.tar_headers import Member, tar_members

DAMAGE = (tarfile.TarError, OSError, EOFError, zlib.error, ValueError, OverflowError)


def plain(name: str, size: int = 700, **fields: object) -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    info.size = size
    for key, value in fields.items():
        setattr(info, key, value)
    return info, b"x" * size


def odd(name: str, kind: bytes) -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, "there"
    return info, b""


KINDS = {
    "plain": lambda number: plain(f"arch/{number}-cutout-HSC-G-9000-pdr3_wide.fits", 23040 - number),
    "empty": lambda number: plain(f"{number}.fits", 0),
    "other times": lambda number: plain(f"{number}.fits", mtime=number * 1000),
    "fraction of a second": lambda number: plain(f"{number}.fits", mtime=number + 0.5),
    "other owner": lambda number: plain(f"{number}.fits", uid=number, uname=f"user{number}"),
    "long name": lambda number: plain("d/" * 60 + f"{number}.fits"),
    "very long name": lambda number: plain("d/" * 200 + f"{number}.fits"),
    "not ASCII": lambda number: plain(f"é\udcff{number}.fits"),
    "slash at the end": lambda number: plain(f"{number}/", type=tarfile.AREGTYPE, size=0),
    "old type": lambda number: plain(f"{number}.fits", type=tarfile.AREGTYPE),
    "folder": lambda number: odd(f"f{number}", tarfile.DIRTYPE),
    "link": lambda number: odd(f"l{number}", tarfile.SYMTYPE),
    "pipe": lambda number: odd(f"p{number}", tarfile.FIFOTYPE),
}
FORMATS = (tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT)


def write(kinds: Iterable[str], form: int, pax_headers: dict[str, str] | None = None) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=form, pax_headers=pax_headers) as tar:
        for number, kind in enumerate(kinds):
            info, data = KINDS[kind](number)
            try:
                tar.addfile(info, io.BytesIO(data))
            except ValueError:  # the format has no room for it
                continue
    return stream.getvalue()


def collect(members: Callable[[IO[bytes]], Iterable[Member]], stream: IO[bytes]) -> tuple[list[Member], str]:
    found: list[Member] = []
    try:
        for member in members(stream):
            found.append(member)
    except DAMAGE as error:
        return found, str(error)
    return found, ""


def by_tarfile(stream: IO[bytes]) -> Iterable[Member]:
    with tarfile.open(fileobj=stream, mode="r:") as tar:
        while (info := tar.next()) is not None:
            kind = "file" if info.isreg() and not info.issparse() else "folder" if info.isdir() else "other"
            yield Member(info.name.encode("utf-8", "surrogateescape"), kind, info.offset_data, info.size)
        end = tar.offset
    stream.seek(end)
    mark = stream.read(512)
    if len(mark) < 512 or mark.strip(b"\0"):
        raise tarfile.ReadError(f"no end mark at byte {end}")


def assert_alike(raw: bytes) -> None:
    found, error = collect(tar_members, io.BytesIO(raw))
    wanted, wanted_error = collect(by_tarfile, io.BytesIO(raw))
    assert found == wanted
    # tarfile would read as much as a header states, beyond all reason.
    assert error == wanted_error or error.startswith("a header of")


@settings(max_examples=150, deadline=None)
@given(
    kinds=st.lists(st.sampled_from(sorted(KINDS)) | st.just("plain"), max_size=12),
    form=st.sampled_from(FORMATS),
    comment=st.booleans(),
)
@example(kinds=["old type", "slash at the end", "old type"], form=tarfile.GNU_FORMAT, comment=False)
@example(kinds=["long name", "long name"], form=tarfile.USTAR_FORMAT, comment=False)
def test_any_members(kinds: list[str], form: int, comment: bool) -> None:
    raw = write(kinds, form, {"comment": "all"} if comment else None)
    assert_alike(raw)
    packed = cast("IO[bytes]", gzip.GzipFile(fileobj=io.BytesIO(gzip.compress(raw, 1))))
    assert collect(tar_members, packed) == collect(by_tarfile, io.BytesIO(raw))


@settings(max_examples=300, deadline=None)
@given(
    header=st.integers(0, 6),
    changes=st.lists(st.tuples(st.integers(0, 511), st.integers(0, 255)), max_size=3),
    mends_checksum=st.booleans(),
    keep=st.floats(0, 1),
)
@example(header=2, changes=[(101, ord("z"))], mends_checksum=True, keep=1.0)
@example(header=2, changes=[(130, ord("9"))], mends_checksum=True, keep=1.0)
def test_damage(header: int, changes: list[tuple[int, int]], mends_checksum: bool, keep: float) -> None:
    raw = bytearray(write(["plain"] * 6, tarfile.GNU_FORMAT))
    start = header * (512 + 23040)  # sizes differ by less than a block
    for at, value in changes:
        raw[start + at] = value
    if mends_checksum:
        total = sum(raw[start : start + 148]) + 8 * 32 + sum(raw[start + 156 : start + 512])
        raw[start + 148 : start + 156] = b"%06o\0 " % total
    assert_alike(bytes(raw))
    assert_alike(bytes(raw[: int(keep * len(raw))]))


def test_a_common_header_for_all_is_kept() -> None:
    raw = write(["plain"] * 4, tarfile.PAX_FORMAT, {"path": "the-same"})
    assert [member.name for member in collect(tar_members, io.BytesIO(raw))[0]] == [b"the-same"] * 4
    assert_alike(raw)


@pytest.mark.parametrize("form", FORMATS)
def test_alike_headers_are_not_parsed(form: int, monkeypatch: pytest.MonkeyPatch) -> None:
    parsed = []
    parse = tarfile.TarInfo.frombuf.__func__  # type: ignore[attr-defined]

    def count(cls: type, *arguments: object) -> object:
        parsed.append(1)
        return parse(cls, *arguments)

    monkeypatch.setattr(tarfile.TarInfo, "frombuf", classmethod(count))
    found, _ = collect(tar_headers.tar_members, io.BytesIO(write(["plain"] * 50, form)))
    assert len(found) == 50
    assert len(parsed) == 1
