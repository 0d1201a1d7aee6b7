"""Object tables of every form that are truncated, half empty, shuffled, gone or damaged: no object is lost silently."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow.parquet as pq
import pytest
from public_files import galaxiesml_columns, hats_table, hsc_columns, write_cutana, write_shard, write_unagi
from public_fits import galaxy

from swimmy_scale.errors import SwimmyError
from swimmy_scale.ingest.pixels.sources import Index, build_index, list_source, read_rows
from swimmy_scale.method.object_names import object_number
from swimmy_scale.method.quarantine import Code, Fault
from swimmy_scale.method.survey import HSC, FloatArray

N, EMPTY = 5, (3, 4)


class Form(NamedTuple):
    """How a form is written: rows in an order, some of them without data; and the file that a user would fetch."""

    write: Callable[[Path, list[int], tuple[int, ...]], Path]
    ids: list[int]


def taken(
    columns: dict[str, np.ndarray], image: str, order: list[int], empty: tuple[int, ...]
) -> dict[str, np.ndarray]:
    columns = {name: values.copy() for name, values in columns.items()}
    columns[image][list(empty)] = 0
    return {name: values[order] for name, values in columns.items()}


MMU, GALAXIESML = hsc_columns(N), galaxiesml_columns(N)
GALAXIES = np.array([[galaxy(row, k, 70, 70) for k in range(5)] for row in range(N)])
SOURCES = [f"TILE_{row}" for row in range(N)]


def write_hdf5(folder: Path, order: list[int], empty: tuple[int, ...]) -> Path:
    return write_shard(folder / "001-of-001.hdf5", taken(MMU, "image_array", order, empty))


def write_parquet(folder: Path, order: list[int], empty: tuple[int, ...]) -> Path:
    folder.mkdir(exist_ok=True)
    pq.write_table(hats_table(taken(MMU, "image_array", order, empty)), folder / "Npix=7.parquet")
    return folder / "Npix=7.parquet"


def write_galaxiesml(folder: Path, order: list[int], empty: tuple[int, ...]) -> Path:
    return write_shard(folder / "5x64x64_testing.hdf5", taken(GALAXIESML, "image", order, empty), None)


def write_groups(folder: Path, order: list[int], empty: tuple[int, ...]) -> Path:
    """Groups of unagi have their names' order, whatever the order in which they are written."""
    folder.mkdir(exist_ok=True)
    objects = {
        str(10 + place): {f"HSC-{band}": GALAXIES[row, k] * (row not in empty) for k, band in enumerate("GRIZY")}
        for place, row in enumerate(order)
    }
    return write_unagi(folder / "cutouts.hdf", objects)


def write_batch(folder: Path, order: list[int], empty: tuple[int, ...]) -> Path:
    pixels = (1e-6 * GALAXIES).astype(np.float32)
    pixels[list(empty)] = 0
    columns = {"source_id": [SOURCES[row] for row in order], "ra": np.arange(N)[order] * 1.0, "dec": np.zeros(N)}
    batch = folder / "batch_cutout_process_000_abc"
    if batch.is_dir():
        (batch / "images_metadata.parquet").unlink()
        folder = folder / "new"
        write_cutana(folder, 0, pixels[order], columns, 1)
        (folder / batch.name / "images_metadata.parquet").rename(batch / "images_metadata.parquet")
        return batch / "images_metadata.parquet"
    return write_cutana(folder, 0, pixels[order], columns, 1) / "images_metadata.parquet"


FORMS = {
    "hdf5": Form(write_hdf5, MMU["object_id"].tolist()),
    "parquet": Form(write_parquet, MMU["object_id"].tolist()),
    "galaxiesml": Form(write_galaxiesml, GALAXIESML["object_id"].tolist()),
    "unagi": Form(write_groups, [10 + row for row in range(N)]),
    "cutana": Form(write_batch, [object_number(name) for name in SOURCES]),
}
AS_WRITTEN = list(range(N))


def listed(folder: Path, form: Form) -> Index:
    nowhere = np.full(N, np.nan)
    return build_index([list_source(folder, HSC, "table")], np.array(form.ids), nowhere, nowhere, HSC)


def read(index: Index, form: Form) -> tuple[FloatArray, list[Fault]]:
    nowhere = np.full(N, np.nan)
    return read_rows(index, 0, np.array(form.ids), nowhere, nowhere, HSC)[:2]


@pytest.mark.parametrize("name", FORMS)
class TestEveryForm:
    def test_truncated(self, tmp_path: Path, name: str) -> None:
        """Refused by name before anything is written, as nobody knows which objects are in it."""
        form = FORMS[name]
        path = form.write(tmp_path / "source", AS_WRITTEN, ())
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
        with pytest.raises(SwimmyError, match=rf"{path.name}: cannot be opened as .*Fetch the file again"):
            listed(tmp_path / "source", form)

    def test_half_empty(self, tmp_path: Path, name: str) -> None:
        """Rows that were never filled are in quarantine, the others are read."""
        form = FORMS[name]
        form.write(tmp_path / "source", AS_WRITTEN, EMPTY)
        image, faults = read(listed(tmp_path / "source", form), form)
        # Zarr writes no chunk that is zero throughout, and what is not there may have been anything.
        code = Code.UNREADABLE_FILE if name == "cutana" else Code.NO_DATA
        assert {(fault.row, fault.code) for fault in faults} == {(row, code) for row in EMPTY}
        assert np.isfinite(image).all(axis=(1, 2, 3)).tolist() == [row not in EMPTY for row in range(N)]

    def test_shuffled(self, tmp_path: Path, name: str) -> None:
        """Rows in another order than the catalogue's are found by their ids."""
        form = FORMS[name]
        form.write(tmp_path / "source", AS_WRITTEN, ())
        image, faults = read(listed(tmp_path / "source", form), form)
        assert faults == []
        order = [2, 0, 4, 1, 3]
        form.write(tmp_path / "other", order, ())
        again, faults = read(listed(tmp_path / "other", form), form)
        assert faults == []
        # The groups of unagi are its ids: there other images have come under them.
        np.testing.assert_array_equal(again, image[order] if name == "unagi" else image)

    def test_shuffled_after_it_was_listed(self, tmp_path: Path, name: str) -> None:
        """An object is never taken from a row that holds another one."""
        form = FORMS[name]
        form.write(tmp_path / "source", AS_WRITTEN, ())
        index = listed(tmp_path / "source", form)
        before, _ = read(index, form)
        path = form.write(tmp_path / "source", [1, 0, 2, 3, 4], ())
        if name == "unagi":  # the first group is gone, so that all that follow move
            write_unagi(path, {str(10 + row): {f"HSC-{b}": GALAXIES[row, 0] for b in "GRIZY"} for row in range(1, N)})
        image, faults = read(index, form)
        moved = list(range(N)) if name == "unagi" else [0, 1]
        assert [(fault.row, fault.code) for fault in faults] == [(row, Code.UNREADABLE_FILE) for row in moved]
        assert f"row 0 no longer holds object_id {form.ids[0]}" in faults[0].reason
        np.testing.assert_array_equal(np.delete(image, moved, 0), np.delete(before, moved, 0))

    def test_gone_after_it_was_listed(self, tmp_path: Path, name: str) -> None:
        form = FORMS[name]
        path = form.write(tmp_path / "source", AS_WRITTEN, ())
        index = listed(tmp_path / "source", form)
        path.unlink()
        image, faults = read(index, form)
        assert [(fault.row, fault.code) for fault in faults] == [(row, Code.UNREADABLE_FILE) for row in range(N)]
        assert np.isnan(image).all()


def test_a_damaged_chunk_of_cutana_is_of_its_rows_alone(tmp_path: Path) -> None:
    form = FORMS["cutana"]
    batch = form.write(tmp_path, AS_WRITTEN, ()).parent
    chunk = next(path for path in sorted(batch.rglob("c/2/*/*/*")) if path.is_file())
    chunk.write_bytes(chunk.read_bytes()[: chunk.stat().st_size // 2])
    image, faults = read(listed(tmp_path, form), form)
    assert [(fault.row, fault.code) for fault in faults] == [(2, Code.UNREADABLE_FILE)]
    assert "row 2 cannot be read (ValueError: chunk c/2/0/0/0 is cut off: " in faults[0].reason
    assert np.isfinite(image).all(axis=(1, 2, 3)).tolist() == [row != 2 for row in range(N)]


@pytest.mark.parametrize("change", [lambda text: text[: len(text) // 2], lambda text: ""])
def test_damaged_metadata_of_cutana(tmp_path: Path, change: Callable[[str], str]) -> None:
    batch = FORMS["cutana"].write(tmp_path, AS_WRITTEN, ()).parent
    metadata = batch / "images.zarr" / "images" / "zarr.json"
    metadata.write_text(change(metadata.read_text()))
    with pytest.raises(SwimmyError, match=r"images_metadata\.parquet: cannot be opened as parquet"):
        listed(tmp_path, FORMS["cutana"])
