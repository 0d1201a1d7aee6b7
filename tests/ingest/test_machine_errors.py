"""By its number an error of reading is a file's own, which costs its objects, or the machine's, which ends the task."""

from __future__ import annotations

import errno
import gzip
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from swimmy_scale.ingest.machine_errors import pass_on
from swimmy_scale.ingest.pixels import cube
from swimmy_scale.ingest.pixels.contents import contents
from swimmy_scale.ingest.pixels.fits_scan import UnusableFileError, open_reader, whatever_it_raises
from swimmy_scale.ingest.pixels.listing import list_folder
from swimmy_scale.method.survey import HSC

MACHINE = ["EMFILE", "ENFILE", "ENOMEM", "ESTALE", "ETIMEDOUT", "EHOSTDOWN", "ENETUNREACH", "ECONNRESET", "ENOTCONN"]
MACHINE += ["ESHUTDOWN", "EAGAIN", "EBUSY", "ENOLCK", "EREMOTEIO", "EKEYEXPIRED", "ENOSPC", "EDQUOT"]
FILE = ["EIO", "ENOENT", "EACCES", "EPERM", "EISDIR", "ENOTDIR", "ELOOP", "ENAMETOOLONG", "EINVAL", "ENXIO", "ENODATA"]
FILE += ["EBADMSG", "EUCLEAN", "EOVERFLOW", "EFBIG", "ENODEV"]


def error_of(name: str, path: str = "x.fits") -> OSError:
    number = getattr(errno, name)
    return OSError(number, os.strerror(number), path)


def raising(error: BaseException) -> Callable[..., Any]:
    def fail(*args: object, **named: object) -> None:
        raise error

    return fail


@pytest.mark.parametrize("name", MACHINE)
def test_an_error_of_the_machine_is_no_file_s(name: str) -> None:
    with pytest.raises(OSError, match=r"x\.fits") as caught, whatever_it_raises():
        raise error_of(name)
    assert caught.value.errno == getattr(errno, name)


@pytest.mark.parametrize("name", FILE)
def test_an_error_of_a_file_costs_its_object(name: str) -> None:
    with pytest.raises(UnusableFileError, match="reading it fails with"), whatever_it_raises():
        raise error_of(name)


@pytest.mark.parametrize(
    "text",
    [
        "Can't synchronously read data (file read failed: time = Mon, filename = 'x.h5', errno = 116, total = 4)",
        "[Errno 116] Error reading bytes from file. Detail: [errno 116] Stale file handle",
    ],
)
def test_libraries_say_it_in_their_texts(text: str) -> None:
    with pytest.raises(OSError, match=r"x\.h5") as caught:
        pass_on(OSError(text), "x.h5")
    assert caught.value.errno == errno.ESTALE
    pass_on(OSError(text.replace("116", "5")), "x.h5")
    pass_on(ValueError(text), "x.h5")


def test_what_led_to_an_error_counts() -> None:
    wrapped = ValueError("no file")
    wrapped.__cause__ = error_of("EMFILE")
    with pytest.raises(OSError, match="Too many open files"):
        pass_on(wrapped)
    hidden = ValueError("no file")
    hidden.__context__, hidden.__suppress_context__ = error_of("EMFILE"), True
    pass_on(hidden)
    with pytest.raises(MemoryError):
        pass_on(MemoryError())


@pytest.mark.parametrize("call", ["open", "pread"])
@pytest.mark.parametrize(("name", "raised"), [("EMFILE", OSError), ("ESTALE", OSError), ("EIO", UnusableFileError)])
def test_a_cutout_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str, name: str, raised: type[Exception]
) -> None:
    path = tmp_path / "a.fits"
    path.write_bytes(b"SIMPLE  =")
    monkeypatch.setattr(os, call, raising(OSError(getattr(errno, name), os.strerror(getattr(errno, name)))))
    with pytest.raises(raised) as caught, whatever_it_raises(), open_reader(str(path)) as (read, _):
        read(0, 9)
    assert str(path) in str(caught.value) or raised is UnusableFileError


def test_a_packed_tar(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.tar.gz"
    path.write_bytes(gzip.compress(bytes(512)))
    files = np.array([(b"a", 0, 512, 0)], [("name", "S1"), ("offset", "i8"), ("size", "i8"), ("mtime_ns", "i8")])
    monkeypatch.setattr(gzip.GzipFile, "seek", raising(OSError(errno.ESTALE, "Stale file handle")))
    for _, load in contents(str(path), "tar.gz", files, np.array([0])):
        with pytest.raises(OSError, match=r"a\.tar\.gz"):
            load()


def test_a_listing_does_not_leave_out_what_the_machine_could_not_look_at(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a.fits").write_bytes(b"")
    monkeypatch.setattr(Path, "stat", raising(error_of("EACCES")))
    assert len(list_folder(str(tmp_path)).files) == 0
    monkeypatch.setattr(Path, "stat", raising(error_of("ESTALE")))
    with pytest.raises(OSError, match=r"x\.fits"):
        list_folder(str(tmp_path))


@pytest.mark.parametrize("name", ["EMFILE", "EIO"])
def test_rows_of_a_cube(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    path, n = tmp_path / "cube.h5", 3
    with h5py.File(path, "w") as file:
        file["image"] = np.ones((n, HSC.n_bands, 64, 64), np.float32)
    found = cube.inspect_cube(str(path), "hdf5", HSC)
    out, empty = np.empty((n, HSC.n_bands, 64, 64), np.float32), np.zeros(n, bool)
    monkeypatch.setattr(h5py.Dataset, "__getitem__", raising(OSError(f"read failed: errno = {getattr(errno, name)},")))
    if name == "EIO":
        faults, _ = cube.read_cube(found, 0, n, HSC, out, empty)
        assert len(faults) == n
    else:
        with pytest.raises(OSError, match="Too many open files"):
            cube.read_cube(found, 0, n, HSC, out, empty)
