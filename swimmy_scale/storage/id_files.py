"""Files that name objects: a plain list of object_ids, or a table that has a column ``object_id``."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from astropy.table import Table

from swimmy_scale.errors import SwimmyError
from swimmy_scale.method.object_names import given_id

COLUMN = "object_id"
_TABLES = {".fits": "fits", ".ecsv": "ascii.ecsv", ".vot": "votable", ".csv": "ascii.csv"}


def parse_id(text: str, where: str) -> int:
    """An object_id as people write it: a whole number, or the name of an object (see `method.object_names`).

    Raises
    ------
    SwimmyError
        When it is empty, or a number that is not whole.
    """
    try:
        return given_id(text)
    except ValueError:
        raise SwimmyError(
            f"{where}: {text!r} is not an object_id: a whole number, or a name. Check the number: a spreadsheet may "
            "have rewritten it."
        ) from None


def read_ids(path: Path) -> list[int]:
    """The object_ids that a file names, each once, in its order.

    Parameters
    ----------
    path : Path
        ``.fits``, ``.ecsv``, ``.vot``, ``.parquet`` and ``.csv``: a table with a column ``object_id`` of whole numbers
        or names, such as ``candidates.*``, ``vetted.*`` and ``marks.csv``. Any other: a text with one object_id a line;
        what follows a ``#`` is a remark.

    Raises
    ------
    SwimmyError
        When the file cannot be read, names nothing, or what it names is a number that is not whole.
    """
    try:
        found = _from_table(path) if path.suffix in (*_TABLES, ".parquet") else _from_text(path)
    except SwimmyError:
        raise
    except Exception as error:  # readers of tables raise many types
        raise SwimmyError(
            f"{path}: cannot read object_ids ({' '.join(str(error).split())}). Give a list of one a line, or a "
            f"table with a column {COLUMN}."
        ) from error
    if not found:
        raise SwimmyError(f"{path}: names no object. Give a list of one object_id a line.")
    return list(dict.fromkeys(found))


def _from_text(path: Path) -> list[int]:
    found = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        text = line.partition("#")[0].strip()
        if text:
            found.append(parse_id(text, f"{path}, line {number}"))
    return found


def _from_table(path: Path) -> list[int]:
    if path.suffix == ".parquet":
        names = pq.read_schema(path).names
        column = pq.read_table(path, columns=[COLUMN])[COLUMN] if COLUMN in names else None
        kinds = (pa.types.is_integer, pa.types.is_string, pa.types.is_large_string)
        if column is not None and not any(is_kind(column.type) for is_kind in kinds):
            raise _no_integers(path, str(column.type))
        values = None if column is None else column.to_numpy()
    else:
        table = Table.read(path, format=_TABLES[path.suffix])
        names = table.colnames
        values = np.asarray(table[COLUMN]) if COLUMN in names else None
    if values is None:
        raise SwimmyError(f"{path}: no column {COLUMN}; it has {', '.join(names)}. Give a table that has it.")
    if len(values) and values.dtype.kind in "OSU":
        words = [item.decode() if isinstance(item, bytes) else str(item) for item in values.tolist()]
        return [parse_id(word, f"{path}, row {row}") for row, word in enumerate(words)]
    if len(values) and values.dtype.kind not in "iu":
        raise _no_integers(path, str(values.dtype))
    return [int(value) if value < 1 << 63 else given_id(str(value)) for value in values.tolist()]


def _no_integers(path: Path, kind: str) -> SwimmyError:
    return SwimmyError(
        f"{path}: its column {COLUMN} is {kind}, not whole numbers. Give the table as the program wrote it: a "
        "spreadsheet may have rounded long numbers."
    )
