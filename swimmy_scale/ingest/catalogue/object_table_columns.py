"""The catalogue inside of object tables: columns of several files, one below the other."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from swimmy_scale.errors import SwimmyError
from swimmy_scale.ingest.catalogue.table_files import Masked, Pick, TableFile
from swimmy_scale.ingest.machine_errors import pass_on
from swimmy_scale.ingest.pixels.object_tables.tables import open_table


def read_object_tables(paths: Sequence[Path], pick: Pick) -> TableFile:
    """Read chosen columns of files that have the same columns.

    A FWHM of the PSF that stands beside the images, one a band, is a column ``fwhm_arcsec_g`` and so on.

    Raises
    ------
    SwimmyError
        When a file cannot be read, or lacks a chosen column that the first one has.
    """
    pick.whole_file("an object table")
    chosen: dict[int, str] | None = None
    parts: dict[int, list[Masked]] = {}
    simulated = False
    for path in paths:
        with open_table(str(path)) as table:
            if not table.n_rows:
                continue
            names = sorted(table.names)
            if chosen is None:
                chosen = {place: names[place] for place in pick(names)}
                parts = {place: [] for place in chosen}
                first = path
            for place, name in chosen.items():
                if name not in table.names:
                    raise SwimmyError(
                        f"{path}: has no column {name}, which {first} has. Fetch the file again, or give files of one "
                        "data set."
                    )
                try:
                    parts[place].append(np.ma.asarray(table.column(name)))
                except Exception as error:  # each library raises its own types for damaged data
                    pass_on(error, str(path))
                    reason = " ".join(str(error).split())[:300]
                    raise SwimmyError(
                        f"{path}: column {name} cannot be read: {reason}. Fetch the file again."
                    ) from None
            simulated |= table.simulated
    if chosen is None:
        raise SwimmyError(f"{paths[0]} and {len(paths) - 1} further files have no rows. Check the files.")
    return TableFile("object tables", {place: _stacked(columns) for place, columns in parts.items()}, simulated)


def _stacked(columns: list[Masked]) -> Masked:
    # Names of a file may be all numbers, which another file writes as numbers.
    if len({column.dtype.kind in "biuf" for column in columns}) > 1:
        columns = [np.ma.array(np.ma.getdata(one).astype(str), mask=np.ma.getmaskarray(one)) for one in columns]
    return np.ma.concatenate(columns)
