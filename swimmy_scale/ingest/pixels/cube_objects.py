"""Which objects a cube says that it holds, compared with the catalogue: a row is never taken on trust.

Cubes keep the ids of their objects as they like: in any type, under any name, in a table, a group or an attribute.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

import h5py
import numpy as np
import zarr

from swimmy_scale.errors import SwimmyError
from swimmy_scale.ingest.sphere import CatalogueRows
from swimmy_scale.method.survey import AnyArray, BoolArray, DoubleArray, IntArray

_ID_NAMES = {"objectid", "objectids", "objid", "objids", "coaddobjectid", "coaddobjectids"}
_RA_NAMES, _DEC_NAMES = (
    {f"{stem}{end}" for stem in stems for end in ("", "deg", "j2000", "icrs")}
    for stems in (("ra", "alpha", "rightascension", "ira"), ("dec", "delta", "declination", "idec", "decl"))
)
_WHOLE_NUMBER = re.compile(r"\s*[+-]?\d+(?:\.0*)?\s*")
POSITION_ARCSEC = 1.0
"""How far positions in a cube may be from the catalogue's."""


def check_objects(path: str, node: Any, object_id: IntArray, ra: DoubleArray, dec: DoubleArray) -> list[str]:
    """Compare the ids in a cube with the catalogue's; where it has none, the positions.

    Ids are what is called object_id, objectId or so, and any other column of different values of which half and more
    are among the catalogue's ids.

    Parameters
    ----------
    node
        An opened Zarr array or group, HDF5 file or NumPy array, with one row for each of the catalogue.

    Returns
    -------
    list of str
        A warning where nothing in the cube says which objects it holds.

    Raises
    ------
    SwimmyError
        When ids or positions differ from the catalogue's, or ids are not whole numbers.
    """
    columns = {name: values for name, values in _columns(node, len(object_id)) if len(values) == len(object_id)}
    ids = {
        name: values for name, values in columns.items() if _is_named(name, _ID_NAMES) or _are_ids(values, object_id)
    }
    for name, values in ids.items():
        same = _same_ids(path, name, values, object_id)
        if not same.all():
            first = int(np.argmin(same))
            raise _differs(path, name, same, f"{_text(values[first])} in place of {object_id[first]}")
    if ids:
        return []
    places = [
        next(
            (np.asarray(v, np.float64) for n, v in columns.items() if _is_named(n, names) and v.dtype.kind in "fiu"),
            None,
        )
        for names in (_RA_NAMES, _DEC_NAMES)
    ]
    if places[0] is None or places[1] is None:
        return [
            f"{path}: nothing in it says which objects it holds; its rows are taken in the order of the catalogue. In "
            "HDF5 or Zarr, with an array object_id beside it, they are compared"
        ]
    rows = CatalogueRows(object_id, ra, dec)
    away = rows.lie_elsewhere(np.arange(len(rows)), places[0], places[1], POSITION_ARCSEC)
    if away.any():
        first = int(np.argmax(away))
        said = f"RA {places[0][first]}, Dec {places[1][first]} in place of RA {ra[first]}, Dec {dec[first]}"
        raise _differs(path, "position", ~away, said)
    return []


def _differs(path: str, name: str, same: BoolArray, said: str) -> SwimmyError:
    return SwimmyError(
        f"cube {path}: {name} differs from the catalogue's in {np.count_nonzero(~same)} rows, the first is row "
        f"{np.argmin(same)} ({said}). Give the catalogue that the cube was made from, in its order."
    )


def _is_named(name: str, names: set[str]) -> bool:
    return re.sub(r"[^a-z0-9]", "", name.rsplit("/", 1)[-1].lower()) in names


def _are_ids(values: AnyArray, object_id: IntArray) -> bool:
    """Whether values of any name are ids of the catalogue."""
    numbers = _whole_numbers(values)
    if numbers is None:
        return False
    wanted = object_id.astype(numbers.dtype) if numbers.dtype.kind == "f" else object_id
    # Rounded ids may be equal; a column that is meant to say something else has many equal values.
    is_one_each = len(np.unique(numbers)) > 0.9 * len(numbers)
    return is_one_each and bool(np.isin(numbers, wanted).mean() >= 0.5)


def _same_ids(path: str, name: str, values: AnyArray, object_id: IntArray) -> BoolArray:
    numbers = _whole_numbers(values)
    if numbers is None:
        raise SwimmyError(
            f"cube {path}: {name} holds {values.dtype}, {_text(values.tolist()[0])!r} for example, not whole numbers "
            "to compare with the catalogue's object_id. Write it as 64-bit integers."
        )
    if numbers.dtype.kind != "f":
        return np.asarray(numbers == object_id)
    wanted = object_id.astype(numbers.dtype)
    if len(np.unique(wanted)) < len(np.unique(object_id)):
        raise SwimmyError(
            f"cube {path}: {name} is {numbers.dtype}, which rounds different ids of the catalogue to one. Write it as "
            "64-bit integers."
        )
    return np.asarray(numbers == wanted)


def _whole_numbers(values: AnyArray) -> AnyArray | None:
    """Values as integers, or floats that are whole; None for others."""
    if values.dtype.kind in "iu":
        return values
    if values.dtype.kind == "f":
        return values if bool((values == np.floor(values)).all()) else None
    if values.dtype.kind not in "OSUT":
        return None
    texts = [_text(item) for item in values.tolist()]
    if not all(_WHOLE_NUMBER.fullmatch(text) for text in texts):
        return None
    numbers = [int(text.split(".")[0]) for text in texts]
    return np.array([number if abs(number) < 2**63 else -1 for number in numbers], np.int64)


def _text(item: Any) -> str:
    return item.decode("utf-8", "replace") if isinstance(item, bytes) else str(item)


def _columns(node: Any, n_rows: int) -> Iterator[tuple[str, AnyArray]]:
    """All values of a cube that are one a row: arrays, fields of tables, attributes, at any depth."""
    for name, item in _arrays(node):
        yield from _attributes(f"{name}.attrs/", getattr(item, "attrs", {}), n_rows)
        if item.ndim in (1, 2) and item.shape[0] == n_rows and item.size == n_rows:
            values = np.asarray(item[...]).reshape(n_rows)
            if values.dtype.names:
                yield from (
                    (f"{name}/{field}", values[field]) for field in values.dtype.names if values[field].ndim == 1
                )
            else:
                yield name, values
    yield from _attributes("attrs/", getattr(node, "attrs", {}), n_rows)


def _arrays(node: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(node, zarr.Group):
        yield from ((str(name), item) for name, item in node.members(max_depth=None) if isinstance(item, zarr.Array))
    elif isinstance(node, h5py.Group):
        found: list[tuple[str, Any]] = []
        node.visititems(lambda name, item: found.append((name, item)) if isinstance(item, h5py.Dataset) else None)
        yield from found
    else:
        yield "", node


def _attributes(prefix: str, attributes: Mapping[str, Any], n_rows: int) -> Iterator[tuple[str, AnyArray]]:
    for name, value in dict(attributes).items():
        if isinstance(value, (list, tuple, np.ndarray)) and len(value) == n_rows > 1:
            values = np.asarray(value)
            if values.size == n_rows:
                yield prefix + str(name), values.reshape(n_rows)
