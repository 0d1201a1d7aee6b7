"""Mutated catalogues and cubes through their readers: each is read to what astropy, Arrow or h5py read, or refused."""

from __future__ import annotations

import io
import random
import shutil
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pyarrow.parquet as pq
import zarr
from astropy.table import Table

from chaos.batches import in_a_fork
from chaos.lab import Lab
from chaos.records import Outcome
from swimmy_scale.errors import SwimmyError
from swimmy_scale.ingest.catalogue.catalogue import read_catalogue
from swimmy_scale.ingest.pixels.cube import inspect_cube, read_cube
from swimmy_scale.method.object_names import OBJECT_NAME
from swimmy_scale.method.sections import CatalogueSource
from swimmy_scale.method.survey import HSC

MUTANTS = 100
ROWS = 24
LOST = -1
FORMATS = {"fits": "fits", "parquet": "parquet", "csv": "ascii.csv", "vot": "votable", "ecsv": "ascii.ecsv"}
PIECES = (b"", b"\0", b"\xff", b'"', b",", b"\n", b"9" * 400, b"1e999", b"nan", b"<", b"&", b"]]>", b"=", b"'", b"-")


def tables(lab: Lab) -> dict[str, bytes]:
    """A small catalogue in every form."""
    if "tables" not in lab.journals:
        table = Table.read(lab.data / "survey/catalogue.fits")[:ROWS]
        table = table[[name for name in table.colnames if table[name].ndim == 1]]
        table.convert_bytestring_to_unicode()
        table.meta.clear()
        made = {}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            for suffix, form in FORMATS.items():
                path = lab.place / f"table.{suffix}"
                table.write(path, format=form, overwrite=True)
                made[suffix] = path.read_bytes()
        lab.journals["tables"] = made
    found: dict[str, bytes] = lab.journals["tables"]
    return found


def mutated(data: bytes, rnd: random.Random) -> bytes:
    """Bits, pieces, cuts: what befalls a file, and what somebody might send."""
    changed = bytearray(data)
    for _ in range(rnd.choice([1, 1, 2, 8])):
        at = rnd.randrange(max(len(changed), 1))
        # Half of them at the ends, where metadata lie.
        if rnd.random() < 0.5 and len(changed) > 2000:
            at = rnd.choice([rnd.randrange(1000), len(changed) - 1 - rnd.randrange(1000)])
        sort = rnd.random()
        if sort < 0.6 and changed:
            changed[at] ^= 1 << rnd.randrange(8)
        elif sort < 0.85:
            changed[at : at + rnd.choice([0, 1, 8])] = rnd.choice(PIECES)
        elif sort < 0.95:
            del changed[at:]
        else:
            changed[at:at] = changed[at : at + rnd.choice([1, 80, 2880])]
    return bytes(changed)


def catalogues(lab: Lab, k: int, rnd: random.Random) -> Outcome:
    """Mutated catalogues."""
    good, seed = tables(lab), rnd.getrandbits(64)

    def check(number: int) -> tuple[list[str], str]:
        mine = random.Random(f"{seed} {number}")
        suffix = mine.choice(list(good))
        path = lab.place / f"mutant.{suffix}"
        path.write_bytes(mutated(good[suffix], mine))
        try:
            objects = read_catalogue(CatalogueSource(path=path), HSC)
        except SwimmyError:
            return [], f"{suffix}: refused"
        # What is no number is a name, of which the id is made.
        named = objects.kept.get(OBJECT_NAME, np.full(len(objects), ""))
        ids = [value for value, name in zip(objects.object_id.tolist(), named.tolist(), strict=True) if not name]
        ids = [value for value in ids if value != LOST]
        try:
            expected = _ids(path, suffix)
        except Exception:
            return [], f"{suffix}: read, and another reader refuses it"
        wrong = [value for value in ids if value not in expected]
        return [f"object_id {wrong[:3]} are in no row"] if wrong else [], f"{suffix}: read"

    return in_a_fork(MUTANTS, check)


def _ids(path: Path, suffix: str) -> set[Any]:
    """The object_id of a table by the library of its form."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if suffix == "parquet":
            names = pq.read_schema(path).names
            column = next(name for name in names if name.lower() == "object_id")
            return set(pq.read_table(path, columns=[column])[column].to_pylist())
        # Among numbers astropy takes a text that begins with nan for one, and all the others lose their last digits.
        as_text = {"converters": {"object_id": str}} if suffix == "csv" else {}
        table = Table.read(path, format=FORMATS[suffix], **as_text)
    column = next(name for name in table.colnames if name.lower() == "object_id")
    found = set()
    for value in np.ma.asarray(table[column]).tolist():
        try:
            found.add(int(value))
        except (TypeError, ValueError):
            continue
    return found


# ---------------------------------------------------------------- cubes


def cubes(lab: Lab, k: int, rnd: random.Random) -> Outcome:
    """Mutated cubes, of HDF5, NumPy's own form and Zarr."""
    good, seed = _good_cubes(lab), rnd.getrandbits(64)

    def check(number: int) -> tuple[list[str], str]:
        mine = random.Random(f"{seed} {number}")
        form = mine.choice(list(good))
        path = lab.place / f"mutant-cube.{form}"
        _write_mutant(path, form, good[form], mine)
        kind = "hdf5" if form == "h5" else form
        try:
            cube = inspect_cube(str(path), kind, HSC)
            n_rows = min(cube.shape[0], ROWS)
            shape = (n_rows, HSC.n_bands, HSC.cutout_size_px, HSC.cutout_size_px)
            out, empty = np.empty(shape, np.float32), np.zeros(n_rows, np.bool_)
            faults, _ = read_cube(cube, 0, n_rows, HSC, out, empty)
        except SwimmyError:
            return [], f"{form}: refused"
        unusable = {fault.row for fault in faults}
        if not unusable <= set(range(n_rows)):
            return [f"faults of rows {unusable}, there are {n_rows}"], form
        rows = sorted(set(range(n_rows)) - unusable)
        if not np.isfinite(out[rows]).all():
            return ["it has read a pixel that is not finite"], form
        return [], f"{form}: read{', some rows refused' if unusable else ''}"

    return in_a_fork(MUTANTS, check)


def _good_cubes(lab: Lab) -> dict[str, Callable[[Path], None]]:
    if "cubes" not in lab.journals:
        values = np.random.default_rng(1).normal(size=(6, HSC.n_bands, 64, 64)).astype(np.float32)
        stream, path = io.BytesIO(), lab.place / "cube.h5"
        np.save(stream, values)
        with h5py.File(path, "w") as file:
            file.create_dataset("image", data=values, chunks=(2, 5, 64, 64), compression="gzip", fletcher32=True)
        store = lab.place / "cube.zarr"
        zarr.create_array(store, data=values, chunks=(2, 5, 64, 64))
        npy, hdf5 = stream.getvalue(), path.read_bytes()
        lab.journals["cubes"] = {"npy": npy, "h5": hdf5, "zarr": store}
    found: dict[str, Any] = lab.journals["cubes"]
    return found


def _write_mutant(path: Path, form: str, good: Any, rnd: random.Random) -> None:
    if form != "zarr":
        path.write_bytes(mutated(good, rnd))
        return
    shutil.rmtree(path, ignore_errors=True)
    shutil.copytree(good, path)
    victim = rnd.choice([item for item in sorted(path.rglob("*")) if item.is_file()] + [path / "zarr.json"] * 3)
    victim.write_bytes(mutated(victim.read_bytes(), rnd))
