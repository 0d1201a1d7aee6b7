"""An existing cube: what is read, what is refused."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
import zarr

from swimmy_scale.errors import SwimmyError
from swimmy_scale.ingest.pixels.sources import build_index, list_source, read_rows
from swimmy_scale.method.quarantine import Code
from swimmy_scale.method.survey import HSC, Survey

N = 7
IDS = np.arange(N) + 1000
RA = np.linspace(1, 2, N)
DEC = np.zeros(N)


def image(n_y: int = 64, n_x: int = 64, n: int = N) -> np.ndarray:
    return np.random.default_rng(3).normal(size=(n, 5, n_y, n_x)).astype(np.float32)


def write_npy(path: Path, data: np.ndarray) -> Path:
    np.save(path / "cube.npy", data)
    return path / "cube.npy"


def write_hdf5(path: Path, data: np.ndarray, name: str = "pixels", **others: np.ndarray) -> Path:
    with h5py.File(path / "cube.h5", "w") as file:
        file[name] = data
        for key, value in others.items():
            file[key] = value
    return path / "cube.h5"


def write_zarr(path: Path, data: np.ndarray) -> Path:
    array = zarr.create_array(path / "cube.zarr", shape=data.shape, dtype=data.dtype, chunks=(2, *data.shape[1:]))
    array[...] = data
    return path / "cube.zarr"


def write_group(path: Path, data: np.ndarray, zarr_format: int = 3, **others: np.ndarray) -> Path:
    group = zarr.open_group(path / "group.zarr", mode="w", zarr_format=zarr_format)
    for key, value in {"image": data, "model": data + 1, **others}.items():
        array = group.create_array(key, shape=value.shape, dtype=value.dtype, chunks=(2, *value.shape[1:]))
        array[...] = value
    return path / "group.zarr"


WRITERS = {
    "npy": write_npy,
    "hdf5": write_hdf5,
    "zarr": write_zarr,
    "group": write_group,
    "zarr 2": lambda path, data: write_group(path, data, zarr_format=2),
}


def read(path: Path, lo: int = 0, hi: int = N, survey: Survey = HSC):
    index = build_index([list_source(path, survey)], IDS, RA, DEC, survey)
    return read_rows(index.slice(lo, hi), lo, IDS[lo:hi], RA[lo:hi], DEC[lo:hi], survey)


class TestRead:
    @pytest.mark.parametrize("form", WRITERS)
    @pytest.mark.parametrize("shape", [(64, 64), (70, 67)])
    @pytest.mark.parametrize("dtype", ["f4", "f8", ">i2"])
    def test_rows(self, tmp_path: Path, form: str, shape: tuple[int, int], dtype: str) -> None:
        data = (100 * image(*shape)).astype(dtype)
        path = WRITERS[form](tmp_path, data)
        listing = list_source(path, HSC)
        assert listing.kind == "cube"
        found, faults, warnings, digest = read(path, 1, 6)
        y, x = (shape[0] - 64) // 2, (shape[1] - 64) // 2
        np.testing.assert_array_equal(found, data[1:6, :, y : y + 64, x : x + 64].astype(np.float32))
        assert (faults, warnings) == ([], [])
        assert digest == read(path, 1, 6)[3] != read(path, 2, 6)[3]

    def test_not_finite(self, tmp_path: Path) -> None:
        data = image(66, 66)
        data[2, 3, 1, 5] = np.inf
        data[4, :, 0] = np.nan
        found, faults, _, _ = read(write_npy(tmp_path, data), 1, 7)
        assert [(fault.row, fault.code, fault.band) for fault in faults] == [(2, Code.NOT_FINITE_PIXELS, "z")]
        assert "1 of 4096 pixels" in faults[0].reason
        assert np.isnan(found[1]).all()
        assert np.isfinite(np.delete(found, 1, axis=0)).all()

    def test_own_zero_point(self, tmp_path: Path) -> None:
        path = write_group(tmp_path, image())
        zarr.open_group(path, mode="a")["image"].attrs["zero_point_mag"] = 29.5
        index = build_index([list_source(path, HSC)], IDS, RA, DEC, HSC)
        assert not any("is assumed" in warning for warning in index.warnings)
        np.testing.assert_allclose(read(path)[0], image() * 0.1, rtol=1e-6)

    def test_zero_point_is_assumed_with_a_warning(self, tmp_path: Path) -> None:
        index = build_index([list_source(write_npy(tmp_path, image()), HSC)], IDS, RA, DEC, HSC)
        assert "27.0 mag is assumed" in index.warnings[1]

    @pytest.mark.parametrize("in_group", [False, True])
    def test_missing_and_damaged_chunks(self, tmp_path: Path, in_group: bool) -> None:
        path = write_group(tmp_path, image()) if in_group else write_zarr(tmp_path, image())
        chunks = (path / "image" if in_group else path) / "c"
        shutil.rmtree(chunks / "1")
        chunk = chunks / "2" / "0" / "0" / "0"
        chunk.write_bytes(chunk.read_bytes()[:100])
        found, faults, _, _ = read(path)
        assert [(fault.row, fault.code) for fault in faults] == [(row, Code.UNREADABLE_FILE) for row in (2, 3, 4, 5)]
        assert "row 2 cannot be read" in faults[0].reason
        assert np.isfinite(found[[0, 1, 6]]).all()
        np.testing.assert_array_equal(found[[0, 1, 6]], image()[[0, 1, 6]])

    def test_fingerprint_follows_the_files(self, tmp_path: Path) -> None:
        path = write_zarr(tmp_path, image())

        def fingerprint() -> str:
            return build_index([list_source(path, HSC)], IDS, RA, DEC, HSC).slice(0, 2).fingerprint()

        before = fingerprint()
        assert before == fingerprint()
        zarr.open_array(path, mode="a")[6] = 0.5
        assert before != fingerprint()

    def test_sizes(self, tmp_path: Path) -> None:
        index = build_index([list_source(write_npy(tmp_path, image()), HSC)], IDS, RA, DEC, HSC)
        part = index.slice(2, 4)
        assert (len(part), part.cube.shape) == (2, (N, 5, 64, 64))

    def test_real_cube(self, tmp_path: Path, shared_data: Path) -> None:
        with np.load(shared_data / "hsc_small_cubes" / "hsc_cosmos.npz", allow_pickle=False) as file:
            assert tuple(file["filters"].tolist()) == HSC.bands
            cube = file["images"]
        survey = Survey(cutout_size_px=48)
        path = write_npy(tmp_path, np.repeat(cube[None], N, axis=0))
        np.testing.assert_array_equal(read(path, survey=survey)[0][3], cube[:, 10:58, 4:52])
        with pytest.raises(SwimmyError, match=r"cutouts of 57 x 69 px \(x, y\) are smaller than the 64 x 64 px"):
            list_source(path, HSC)


class TestRefused:
    @pytest.mark.parametrize(
        ("data", "reason"),
        [
            (image().transpose(0, 2, 3, 1), r"numpy.moveaxis\(image, -1, 1\)"),
            (image().transpose(1, 0, 2, 3), r"numpy.moveaxis\(image, 0, 1\)"),
            (image()[:, :3], "second axis must be the 5 bands"),
            (image(63, 64), r"64 x 63 px \(x, y\) are smaller"),
            (image()[0], "needs one array of axes"),
            (image().astype("c8"), "not numbers"),
        ],
    )
    def test_arrays(self, tmp_path: Path, data: np.ndarray, reason: str) -> None:
        for write in (write_npy, write_hdf5, write_zarr):
            with pytest.raises(SwimmyError, match=reason):
                list_source(write(tmp_path, data), HSC)

    def test_npz_and_pickles(self, tmp_path: Path) -> None:
        np.save(tmp_path / "a.npy", np.array([{}], object), allow_pickle=True)
        np.savez(tmp_path / "a.npz", image())
        with pytest.raises(SwimmyError, match="cannot be opened as npy"):
            list_source(tmp_path / "a.npy", HSC)
        with pytest.raises(SwimmyError, match=r"Write the array in this .npz to HDF5 or Zarr, with its object_id"):
            list_source(tmp_path / "a.npz", HSC)
        with pytest.raises(SwimmyError, match=r"is no Zarr store, HDF5 or \.npy file"):
            list_source(tmp_path / "a.npz", HSC, kind="cube")

    @pytest.mark.parametrize("form", ["npy", "hdf5", "zarr"])
    def test_damaged(self, tmp_path: Path, form: str) -> None:
        path = WRITERS[form](tmp_path, image())
        victim = path / "zarr.json" if path.is_dir() else path
        victim.write_bytes(victim.read_bytes()[: 100 if path.is_dir() else 5000])
        with pytest.raises(SwimmyError, match=f"cannot be opened as {form}"):
            list_source(path, HSC)

    def test_damaged_list_of_contents(self, tmp_path: Path) -> None:
        # HDF5 opens the file, and finds the damage when it is asked what is in it.
        path = write_hdf5(tmp_path, image())
        path.write_bytes(path.read_bytes().replace(b"SNOD", b"XNOD"))
        with pytest.raises(SwimmyError, match=r"cannot be opened as hdf5 .*bad symbol table node signature"):
            list_source(path, HSC)

    def test_several_arrays(self, tmp_path: Path) -> None:
        with pytest.raises(SwimmyError, match="called image if there are several"):
            list_source(write_hdf5(tmp_path, image(), name="a", b=image()), HSC)
        assert list_source(write_hdf5(tmp_path, image(), name="image", b=image()), HSC).cube.dataset == "image"

    def test_number_of_rows(self, tmp_path: Path) -> None:
        with pytest.raises(SwimmyError, match="6 objects for 7 rows"):
            build_index([list_source(write_npy(tmp_path, image(n=6)), HSC)], IDS, RA, DEC, HSC)

    @pytest.mark.parametrize("write", [write_group, write_hdf5])
    def test_object_ids_that_differ(self, tmp_path: Path, write: Callable[..., Path]) -> None:
        listing = list_source(write(tmp_path, image(), object_id=IDS[::-1].copy()), HSC)
        with pytest.raises(SwimmyError, match="object_id differs from the catalogue's in 6 rows, the first is row 0"):
            build_index([listing], IDS, RA, DEC, HSC)
        build_index([listing], IDS[::-1], RA, DEC, HSC)

    def test_bands_in_another_order(self, tmp_path: Path) -> None:
        with pytest.raises(SwimmyError, match=r"its bands are \('r', 'g', 'i', 'z', 'y'\)"):
            list_source(write_hdf5(tmp_path, image(), band=np.array([b"r", b"g", b"i", b"z", b"y"])), HSC)

    def test_zero_point_that_is_none(self, tmp_path: Path) -> None:
        path = write_group(tmp_path, image())
        zarr.open_group(path, mode="a")["image"].attrs["zero_point_mag"] = "bright"
        with pytest.raises(SwimmyError, match="zero_point_mag 'bright' is not a zero point"):
            list_source(path, HSC)

    def test_two_cubes(self, tmp_path: Path) -> None:
        listing = list_source(write_npy(tmp_path, image()), HSC)
        with pytest.raises(SwimmyError, match="2 cubes are given"):
            build_index([listing, listing], IDS, RA, DEC, HSC)


def as_text(ids: np.ndarray) -> np.ndarray:
    return np.array([str(number) for number in ids], "S20")


IDS_OF = {
    "text": lambda file, ids: file.create_dataset("object_id", data=as_text(ids)),
    "column": lambda file, ids: file.create_dataset("object_id", data=ids[:, None]),
    "other type": lambda file, ids: file.create_dataset("object_id", data=ids.astype(">u8")),
    "exact floats": lambda file, ids: file.create_dataset("object_id", data=ids.astype("f8")),
    "float text": lambda file, ids: file.create_dataset("OBJID", data=[f"{number}.0" for number in ids]),
    "other name": lambda file, ids: file.create_dataset("objectId", data=ids),
    "any name": lambda file, ids: file.create_dataset("galaxies", data=ids),
    "in a group": lambda file, ids: file.create_dataset("catalogue/id", data=ids),
    "in a table": lambda file, ids: file.create_dataset(
        "rows", data=np.rec.fromarrays([ids, 2.0 * ids], names="object_id,mag")
    ),
    "an attribute": lambda file, ids: file["image"].attrs.create("ids", ids),
    "of the file": lambda file, ids: file.attrs.create("object_id", as_text(ids)),
}


class TestObjects:
    """A row of a cube is never taken on trust where the cube says which object it is."""

    @pytest.mark.parametrize("form", IDS_OF)
    def test_hdf5(self, tmp_path: Path, form: str) -> None:
        with h5py.File(tmp_path / "cube.h5", "w") as file:
            file["image"] = image()
            file["index"] = np.arange(N)
            file["class"] = np.zeros(N, np.int64)
            IDS_OF[form](file, IDS)
        listing = list_source(tmp_path / "cube.h5", HSC)
        assert len(build_index([listing], IDS, RA, DEC, HSC).warnings) == 1  # of the zero point
        swapped = IDS.copy()
        swapped[[2, 3]] = swapped[[3, 2]]
        with pytest.raises(SwimmyError, match="differs from the catalogue's in 2 rows, the first is row 2"):
            build_index([listing], swapped, RA, DEC, HSC)

    @pytest.mark.parametrize("dtype", ["str", "i4", "f8"])
    @pytest.mark.parametrize("zarr_format", [2, 3])
    def test_zarr(self, tmp_path: Path, dtype: str, zarr_format: int) -> None:
        path = write_group(tmp_path, image(), zarr_format)
        group = zarr.open_group(path, mode="a")
        array = group.create_array("objectId", shape=(N,), dtype=str if dtype == "str" else dtype)
        array[...] = np.array([str(number) for number in IDS], object) if dtype == "str" else IDS.astype(dtype)
        listing = list_source(path, HSC)
        build_index([listing], IDS, RA, DEC, HSC)
        with pytest.raises(SwimmyError, match="objectId differs from the catalogue's in 6 rows, the first is row 0"):
            build_index([listing], IDS[::-1], RA, DEC, HSC)

    def test_floats_that_round_ids_together(self, tmp_path: Path) -> None:
        ids = IDS + 43158172147386000
        listing = list_source(write_hdf5(tmp_path, image(), objectId=ids.astype(np.float64)), HSC)
        with pytest.raises(
            SwimmyError, match="objectId is float64, which rounds different ids of the catalogue to one"
        ):
            build_index([listing], ids, RA, DEC, HSC)

    def test_ids_of_another_kind(self, tmp_path: Path) -> None:
        listing = list_source(write_hdf5(tmp_path, image(), object_id=np.array([b"J1000+02"] * N)), HSC)
        with pytest.raises(SwimmyError, match="'J1000\\+02' for example, not whole numbers to compare"):
            build_index([listing], IDS, RA, DEC, HSC)

    def test_positions_where_there_are_no_ids(self, tmp_path: Path) -> None:
        listing = list_source(write_hdf5(tmp_path, image(), RA=RA + 1e-5, dec_deg=DEC), HSC)
        assert len(build_index([listing], IDS, RA, DEC, HSC).warnings) == 1  # of the zero point
        with pytest.raises(SwimmyError, match=r"position differs .* in 6 rows, the first is row 0 \(RA 1.00001"):
            build_index([listing], IDS, RA[::-1].copy(), DEC, HSC)

    def test_nothing_to_compare(self, tmp_path: Path) -> None:
        listing = list_source(write_hdf5(tmp_path, image(), index=np.arange(N)), HSC)
        warning = build_index([listing], IDS, RA, DEC, HSC).warnings[0]
        assert "nothing in it says which objects it holds; its rows are taken in the order of the catalogue" in warning


class TestUnits:
    def write(self, tmp_path: Path, **attributes: object) -> Path:
        path = write_group(tmp_path, image(), object_id=IDS)
        zarr.open_group(path, mode="a")["image"].attrs.update(attributes)
        return path

    def test_nanojansky(self, tmp_path: Path) -> None:
        np.testing.assert_allclose(read(self.write(tmp_path, units="nJy"))[0], image() * 10 ** (-0.4 * 4.4), rtol=1e-5)

    @pytest.mark.parametrize(
        ("attributes", "reason"),
        [
            ({"units": "nJy", "zero_point_mag": 27.0}, "'nJy' has the zero point 31.400 mag, zero_point_mag is 27.0"),
            ({"BUNIT": "mag"}, "not linear in flux density"),
            ({"pixel_scale_arcsec": 0.262}, "pixel_scale_arcsec is 0.262, the survey's is 0.168"),
        ],
    )
    def test_refused(self, tmp_path: Path, attributes: dict[str, object], reason: str) -> None:
        with pytest.raises(SwimmyError, match=reason):
            list_source(self.write(tmp_path, **attributes), HSC)


class TestNoData:
    def test_padding_over_the_middle_and_outside(self, tmp_path: Path) -> None:
        data = image()
        data[0, 4] = 0
        data[1, 1, :, :31] = 0.0
        data[2] = -1.0
        data[3, 2, :, 60:] = 0.0
        index = build_index([list_source(write_npy(tmp_path, data), HSC)], IDS, RA, DEC, HSC)
        partly_empty = np.ones(N, np.bool_)
        found, faults, _, _ = read_rows(index, 0, IDS, RA, DEC, HSC, None, partly_empty)
        assert [(fault.row, fault.code, fault.band) for fault in faults] == [
            (0, Code.NO_DATA, "y"),
            (1, Code.NO_DATA, "r"),
            (2, Code.NO_DATA, "g"),
        ]
        assert faults[0].reason == (
            "y: 32 of 32 pixels of the central aperture hold no data, but 0 like 4096 of all 4096 pixels"
        )
        assert np.isnan(found[:3]).all()
        assert np.isfinite(found[3:]).all()
        assert partly_empty.tolist() == [False, False, False, True, False, False, False]


@pytest.mark.parametrize(
    ("said", "remedy"),
    [
        (BlockingIOError(11, "unable to lock file"), "Another program has it open for writing"),
        (
            OSError("unable to lock file, errno = 37, error message = 'No locks available'"),
            "HDF5_USE_FILE_LOCKING=FALSE",
        ),
        (
            OSError("file is already open for write (may use <h5clear file> to clear ...)"),
            "run `h5clear -s` on the file",
        ),
        (PermissionError(13, "Permission denied"), "Check its permissions"),
    ],
)
def test_cubes_that_cannot_be_opened_now(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: OSError, remedy: str
) -> None:
    path = write_hdf5(tmp_path, image())

    def refuse(*arguments: object) -> None:
        raise said

    monkeypatch.setattr(h5py, "File", refuse)
    with pytest.raises(SwimmyError, match=remedy):
        list_source(path, HSC)
