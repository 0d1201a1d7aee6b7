"""A table that comes in, its columns under our names: found, checked, and of one type whatever the file's format."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from swimmy_scale.errors import SwimmyError
from swimmy_scale.ingest.catalogue.column_selection import Selection
from swimmy_scale.ingest.catalogue.object_table_columns import read_object_tables
from swimmy_scale.ingest.catalogue.table_files import (
    FALSE_WORDS,
    TRUE_WORDS,
    Masked,
    infer_text,
    is_float,
    read_table,
)
from swimmy_scale.ingest.catalogue.units import check_frame, converted, is_sexagesimal, sexagesimal_degrees
from swimmy_scale.ingest.object_ids import NULL_WORDS
from swimmy_scale.method.survey import AnyArray, BoolArray, DoubleArray


@dataclass
class InputTable:
    """A table with its columns under our names.

    Attributes
    ----------
    n_rows : int
        At least 1.
    columns : dict of str to masked array, shape (n_rows,)
        The wanted ones that the file has. Masked where unknown.
    kept_columns : dict of str to masked array, shape (n_rows,)
        Those to hand on as they are.
    simulated : bool
        The file says that its objects are simulated.
    units : dict of str to str
        By our names, what the file, or the user in its place, says of the columns' units.
    warnings : list of str
        What its reader should tell the user: at first, which of several tables was read.
    conversions : dict of str to list of str
        Columns whose units were converted, by "from rad to deg".
    """

    path: Path
    n_rows: int = 0
    columns: dict[str, Masked] = field(default_factory=dict)
    kept_columns: dict[str, Masked] = field(default_factory=dict)
    simulated: bool = False
    units: dict[str, str] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    conversions: dict[str, list[str]] = field(default_factory=dict)

    @classmethod
    def read(
        cls,
        path: Path,
        wanted: Mapping[str, str],
        renames: Mapping[str, str] | None = None,
        required: Sequence[str] = (),
        kept: Sequence[str] = (),
        units: Mapping[str, str] | None = None,
        hdu: int | str | None = None,
        object_tables: Sequence[Path] = (),
    ) -> InputTable:
        """Read those of the wanted columns that the file has, and all of the kept ones.

        Parameters
        ----------
        wanted : dict of str to str
            Our name of each column, and the kind ("float", "angle", "flag" or "text") that it is read as if the file
            has no types.
        renames : dict of str to str, optional
            Ours to theirs. Names are compared without regard to case, and without the "# " that HSC's archive
            writes before the first.
        required, kept : sequence of str, optional
            Columns that must be there.
        units : dict of str to str, optional
            Our name and the unit of columns, in place of what the file declares.
        hdu : int or str, optional
            Number or name of the table in a FITS file or a VOTable that has several. By default it is the one with
            the required columns, or, if several have those, the one with most of the wanted columns.
        object_tables : sequence of Path, optional
            Files whose rows have images beside their columns, to read in place of ``path``, which names them all.

        Returns
        -------
        InputTable
            A column X is masked where the file says so and where its ``X_isnull`` is True.

        Raises
        ------
        SwimmyError
            When the file is missing, unreadable, damaged, of unknown format or without rows, or lacks a required,
            kept or renamed column; when two of its tables could be the one; when it declares its angles to be in
            another frame than ICRS or FK5 of J2000.
        """
        selection = Selection(path, wanted, renames or {}, required, kept, hdu)
        file = read_object_tables(object_tables, selection) if object_tables else read_table(path, selection)
        arrays = file.arrays
        for place, flag in selection.isnull.items():
            is_null, unknown = flag_values(path, selection.names[flag], arrays[flag])
            arrays[place] = np.ma.array(arrays[place], mask=np.ma.getmaskarray(arrays[place]) | is_null | unknown)
        n_rows = len(next(iter(arrays.values()))) if arrays else 0
        if not n_rows:
            raise SwimmyError(f"{path} has no rows, or none of the columns that are needed. Check the file.")
        kept_columns = {name: arrays[place] for name, place in selection.kept.items()}
        if file.form == "CSV":
            kept_columns = {name: infer_text(values) for name, values in kept_columns.items()}
        columns = {name: arrays[place] for name, place in selection.columns.items()}
        for name, place in selection.columns.items():
            if wanted[name] == "angle":
                check_frame(file.frames.get(place, ""), name, path)
        declared = {name: file.units[place] for name, place in selection.columns.items() if place in file.units}
        declared |= selection.stated(units or {})
        return cls(path, n_rows, columns, kept_columns, file.simulated, declared, selection.notes)

    def floats(self, name: str, unit: str | None = None) -> DoubleArray:
        """A column as float64, shape (n_rows,); NaN where unknown or infinite, and if there is no such column.

        Parameters
        ----------
        unit : str, optional
            The unit that is needed (see `units.converted`). An angle in "deg" may be text in base 60. By default
            numbers come as they are.

        Raises
        ------
        SwimmyError
            When a text in it is no number, or its unit cannot become the needed one.
        """
        if name not in self.columns:
            return np.full(self.n_rows, np.nan)
        column = self.columns[name]
        unknown = np.ma.getmaskarray(column).copy()
        values = np.ma.getdata(column)
        if values.dtype.kind not in "biuf":
            text = values.astype(str)
            unknown |= np.isin(np.strings.strip(text), NULL_WORDS)
            if unit == "deg" and not unknown.all() and is_sexagesimal(text[~unknown]).all():
                degrees = np.full(self.n_rows, np.nan)
                try:
                    degrees[~unknown] = sexagesimal_degrees(text[~unknown], self.units.get(name, ""), name)
                except ValueError as error:
                    raise SwimmyError(f"{self.path}: column {name}: {error}. Correct the value.") from error
                return degrees
            values = np.where(unknown, "nan", text)
        try:
            numbers = values.astype(np.float64)
        except ValueError:
            row, value = next((row, value) for row, value in enumerate(values.tolist()) if not is_float(str(value)))
            raise SwimmyError(
                f"{self.path} row {row}: column {name} is {value!r}, which is not a number. Correct the value, or "
                f"name another column with --column {name}=THEIRS."
            ) from None
        numbers = np.where(unknown | ~np.isfinite(numbers), np.nan, numbers)
        if unit is None or name not in self.units:
            return numbers
        result = converted(numbers, self.units[name], unit, name, self.path)
        if result is not numbers:
            names = self.conversions.setdefault(f"from {self.units[name]} to {unit}", [])
            names += [] if name in names else [name]
        return result

    @property
    def conversion_warnings(self) -> list[str]:
        """What to say of the columns that were converted so far."""
        return [f"{self.path}: {', '.join(names)} converted {how}" for how, names in self.conversions.items()]

    def strings(self, name: str) -> npt.NDArray[np.object_]:
        """A column as str, shape (n_rows,), dtype object; empty where unknown, and if there is no such column."""
        if name not in self.columns:
            return np.full(self.n_rows, "", dtype=object)
        return _text(self.columns[name]).astype(object)

    def integers(self, name: str) -> npt.NDArray[np.int32]:
        """A column of whole numbers, shape (n_rows,); -1 where unknown or negative, and if there is no such column.

        The text "4,5", a patch by its place on both axes, is the number 405.

        Raises
        ------
        SwimmyError
            When a value is no whole number.
        """
        if name not in self.columns:
            return np.full(self.n_rows, -1, dtype=np.int32)
        values = self.columns[name].tolist()
        numbers = {value: _number(value) for value in set(values)}
        wrong = {value for value, number in numbers.items() if number is None}
        if wrong:
            row = next(row for row, value in enumerate(values) if value in wrong)
            raise SwimmyError(
                f"{self.path} row {row}: {name} is {values[row]!r}; need a number such as 405, or 4,5 for a patch. "
                f"Correct the value, or name another column with --column {name}=THEIRS."
            )
        return np.array([numbers[value] for value in values], dtype=np.int32)

    def kept(self, name: str) -> AnyArray:
        """A kept column, shape (n_rows,), in its own type, or float64 with NaN where some numbers are unknown.

        Raises
        ------
        SwimmyError
            When that would round an integer.
        """
        column = self.kept_columns[name]
        values, unknown = np.ma.getdata(column), np.ma.getmaskarray(column)
        if values.dtype.kind not in "biuf":
            return _text(column)
        if values.dtype.kind == "f":
            return np.where(unknown, np.array(np.nan, values.dtype), values)
        if not unknown.any():
            return values.copy()
        numbers = np.where(unknown, np.nan, values.astype(np.float64))
        if (np.abs(numbers[~unknown]) >= 2**53).any():
            raise SwimmyError(
                f"{self.path}: kept column {name} has unknown values beside integers that no float can hold. "
                "Fill the unknown ones in, or leave it out of keep_columns."
            )
        return numbers


def flag_values(path: Path, name: str, column: Masked) -> tuple[BoolArray, BoolArray]:
    """Where a column of flags is set and where it is unknown, both (n,).

    Raises
    ------
    SwimmyError
        When a value is none of True, False, 1, 0, T and F, and not unknown.
    """
    values, unknown = np.ma.getdata(column), np.ma.getmaskarray(column)
    if values.dtype.kind == "f":
        unknown = unknown | np.isnan(values)
    if values.dtype.kind in "biuf":
        is_set = values == 1
        wrong = ~(is_set | (values == 0) | unknown)
    else:
        text = np.strings.strip(values.astype(str))
        is_set, unknown = np.isin(text, TRUE_WORDS), unknown | np.isin(text, NULL_WORDS)
        wrong = ~(is_set | np.isin(text, FALSE_WORDS) | unknown)
    if wrong.any():
        row = int(np.argmax(wrong))
        raise SwimmyError(
            f"{path} row {row}: flag {name} is {values[row]!s}; need True or False (or 1, 0, t, f). Correct the value."
        )
    return is_set & ~unknown, unknown


def _text(column: Masked) -> AnyArray:
    """A column as NumPy's fixed-width text; empty where unknown."""
    values, unknown = np.ma.getdata(column), np.ma.getmaskarray(column)
    return np.where(unknown, "", np.strings.strip(values.astype(str)))


def _number(value: Any) -> int | None:
    """The whole number that a value spells; -1 for an unknown or negative one, None if it spells none."""
    text = "" if value is None else str(value).strip()
    if text in NULL_WORDS:
        return -1
    pair = re.fullmatch(r"(\d{1,2}),(\d{1,2})", text)
    if pair:
        return 100 * int(pair[1]) + int(pair[2])
    if not is_float(text) or not float(text).is_integer() or float(text) > np.iinfo(np.int32).max:
        return None
    return max(int(float(text)), -1)
