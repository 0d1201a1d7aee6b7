"""Tables in FITS, Parquet, CSV, VOTable or ECSV: chosen columns, with a mask of what is unknown."""

from __future__ import annotations

import csv
import gzip
import io
import mmap
import re
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from astropy.io import fits
from astropy.io.votable import parse as parse_votable
from astropy.table import Table
from astropy.table.meta import get_header_from_yaml
from astropy.units import Quantity
from astropy.utils.xml.iterparser import get_xml_iterator
from pyarrow import csv as arrow_csv
from pyarrow import parquet

from swimmy_scale.errors import SwimmyError
from swimmy_scale.ingest.catalogue.fits_rows import checked_reader, in_rows, windows
from swimmy_scale.ingest.object_ids import NULL_WORDS
from swimmy_scale.ingest.pixels.fits_scan import GZIP_MAGIC, Reader

Masked = np.ma.MaskedArray[Any, Any]


class Part(NamedTuple):
    """One of several tables in a file: what the format calls it, its number, its name, and its columns' names."""

    word: str
    number: int
    name: str
    columns: list[str]


class Pick(Protocol):
    """What chooses the columns of a table to read, and the table where a file has several."""

    def __call__(self, names: Sequence[str]) -> dict[int, str]:
        """Position of each wanted column among the names in the table, and the kind that it is read as."""

    def part(self, parts: Sequence[Part]) -> int:
        """Position of the table to read among those of a file."""

    def suffices(self, part: Part) -> bool:
        """Whether this table is the one to read, whatever tables follow."""

    def whole_file(self, form: str) -> None:
        """Told that the file's format holds one table only."""


_SUFFIXES = {
    "FITS": (".fits", ".fit", ".fits.gz", ".fit.gz"),
    "Parquet": (".parquet", ".parq", ".pq"),
    "CSV": (".csv", ".csv.gz", ".tsv", ".tsv.gz"),
    "VOTable": (".xml", ".vot", ".votable"),
    "ECSV": (".ecsv",),
}
_CONTENTS = {"FITS": b"SIMPLE  =", "Parquet": b"PAR1", "ECSV": b"# %ECSV", "VOTable": b"<?xml"}
TRUE_WORDS = ("True", "true", "TRUE", "T", "t", "1", "1.0")
FALSE_WORDS = ("False", "false", "FALSE", "F", "f", "0", "0.0")
_ARROW_KINDS = {"float": pa.float64(), "angle": pa.float64(), "flag": pa.bool_(), "text": pa.string()}
_SEPARATORS = (",", ";", "\t", "|")
_STREAM_TAG = re.compile(rb"<(?:[^\s<>/=\"']+:)?STREAM(?=[\s/>])(?:[^>\"']|\"[^\"]*\"|'[^']*')*>")
_XML_ENCODING = re.compile(rb"<\?xml[^>]*?encoding\s*=\s*[\"']([^\"']*)", re.IGNORECASE)


@dataclass(frozen=True)
class TableFile:
    """The columns that were read from a file.

    Attributes
    ----------
    form : str
        "FITS", "Parquet", "CSV", "VOTable" or "ECSV".
    arrays : dict of int to masked array, shape (n_rows,)
        By position in the file. Numbers and bools in this machine's byte order, or text; masked where unknown. A
        float may also be NaN.
    simulated : bool
        The card (FITS) or entry (ECSV) SIMULATE is true.
    units : dict of int to str
        By position in the file, as the file spells them; only for columns that declare one.
    frames : dict of int to str
        Likewise, celestial frames: of FITS the header's RADESYS and EQUINOX, of VOTables a column's COOSYS.
    """

    form: str
    arrays: dict[int, Masked]
    simulated: bool = False
    units: dict[int, str] = field(default_factory=dict)
    frames: dict[int, str] = field(default_factory=dict)


def read_table(path: Path, pick: Pick) -> TableFile:
    """Read chosen columns of a table.

    Parameters
    ----------
    pick : Pick
        Chooses the table and its columns. Kinds are "float", "angle" (a number, or text in base 60), "flag" and
        "text"; they count where the file has no types.

    Raises
    ------
    SwimmyError
        When the file is missing, unreadable, damaged or of unknown format.
    """
    if not path.is_file():
        raise SwimmyError(f"table {path} does not exist or is no file. Check the path.")
    form = _format_of(path)
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            table = _READERS[form](path, pick)
    except SwimmyError:
        raise
    except Exception as error:  # on a damaged file the libraries raise nearly any type
        reason = " ".join(str(error).split())[:300]
        raise SwimmyError(f"{path} cannot be read as {form}: {reason}. Check or fetch the file again.") from error
    for message in (str(warning.message) for warning in caught):
        # The libraries only warn of damage. Their other warnings are of style (names, units).
        if re.search("checksum verification failed|datasum verification failed|truncated", message, re.IGNORECASE):
            raise SwimmyError(f"{path} is damaged: {message.strip()} Fetch the file again.")
    return table


def infer_text(column: Masked) -> Masked:
    """A column of a CSV that was read as text, in the type that fits all of it: int64, float64, bool or text."""
    if np.ma.getdata(column).dtype.kind != "O":
        return column
    text = pa.chunked_array([pa.array(np.ma.getdata(column), pa.string())])
    bare = pc.if_else(pc.is_in(text, pa.array(NULL_WORDS)), pa.scalar(None, pa.string()), text)
    for kind in (pa.int64(), pa.float64()):
        try:
            numbers = bare.cast(kind)
        except pa.ArrowInvalid:
            continue
        return _from_arrow(Path(), "", numbers)
    words = pc.utf8_lower(bare)
    if pc.all(pc.is_in(words.drop_null(), pa.array(["true", "false", "t", "f"]))).as_py():
        return np.ma.array(pc.is_in(words, pa.array(["true", "t"])).to_numpy(), mask=words.is_null().to_numpy())
    return column


def is_float(text: str) -> bool:
    """Whether text spells a number; "1_000", as Python writes it, does not."""
    try:
        float(text)
    except ValueError:
        return False
    return "_" not in text


def _format_of(path: Path) -> str:
    """Format of a file by its suffix, else by its first bytes."""
    with path.open("rb") as stream:
        start = stream.read(16)
    if start[:2] == GZIP_MAGIC:
        with gzip.open(path) as stream:
            start = stream.read(16)
    by_content = next((form for form, magic in _CONTENTS.items() if start.startswith(magic)), None)
    by_suffix = next((form for form, suffixes in _SUFFIXES.items() if path.name.lower().endswith(suffixes)), None)
    if by_suffix == "CSV" and by_content == "ECSV":
        return by_content
    form = by_suffix or by_content
    if form is None:
        suffixes = ", ".join(suffix for group in _SUFFIXES.values() for suffix in group)
        raise SwimmyError(f"{path} has no known table format. Give it one of the suffixes {suffixes}.")
    return form


def _read_fits(path: Path, pick: Pick) -> TableFile:
    with checked_reader(path) as read, fits.open(path, checksum=read is None, logical_as_bytes=True) as hdus:
        tables = [(n, hdu) for n, hdu in enumerate(hdus) if isinstance(hdu, fits.BinTableHDU | fits.TableHDU)]
        if not tables:
            raise SwimmyError(f"{path} has no table, only images. Give the catalogue's file.")
        parts = [Part("HDU", n, hdu.name, [str(name) for name in hdu.columns.names]) for n, hdu in tables]
        chosen = pick.part(parts)
        hdu, picked = tables[chosen][1], pick(parts[chosen].columns)
        for place in picked:
            _refuse_arrays(path, hdu.columns[place], not in_rows(hdu.columns[place]))
        if read is not None:
            arrays = _columns_by_rows(path, read, hdu, list(picked))
        else:
            arrays = {place: _fits_column(path, hdu, place) for place in picked}
        units = {place: str(unit) for place in picked if (unit := hdu.columns[place].unit)}
        frame = _fits_frame(hdu.header)
        frames = dict.fromkeys(picked, frame) if frame else {}
        return TableFile("FITS", arrays, hdu.header.get("SIMULATE") is True, units, frames)


def _refuse_arrays(path: Path, column: Any, has_arrays: bool) -> None:
    if has_arrays:
        raise SwimmyError(f"{path}: column {column.name} holds arrays ({column.format}); need one value a row.")


def _columns_by_rows(path: Path, read: Reader, hdu: Any, places: list[int]) -> dict[int, Masked]:
    """Columns of a table, of which only some rows are in memory at once."""
    parts: dict[int, list[Masked]] = {place: [] for place in places}
    for window in windows(read, hdu):
        for place in places:
            parts[place].append(_fits_column(path, window, place))
    return {place: np.ma.concatenate(parts.pop(place)) for place in places}


def _fits_frame(header: Any) -> str:
    """The frame that a header declares for positions, such as FK5 or FK4 B1950; empty for none."""
    frame = str(header.get("RADESYS") or header.get("RADECSYS") or "").strip()
    equinox = header.get("EQUINOX")
    of_another = isinstance(equinox, int | float) and equinox != 2000.0 and frame.upper() != "ICRS"
    return f"{frame} equinox {equinox:g}".strip() if of_another else frame


def _fits_column(path: Path, hdu: Any, place: int) -> Masked:
    column, values = hdu.columns[place], np.asarray(hdu.data.field(place))
    if values.ndim == 2 and values.shape[1] == 1:
        values = values[:, 0]
    _refuse_arrays(path, column, values.ndim != 1 or values.dtype.kind not in "biufSU")
    if values.dtype.kind == "S":  # logicals as bytes: T, F, or a zero byte where unknown
        return np.ma.array(values == b"T", mask=(values != b"T") & (values != b"F"))
    unknown = np.zeros(len(values), bool)
    if isinstance(column.null, int | np.integer):
        scale, zero = (1 if column.bscale in (None, "") else column.bscale), column.bzero or 0
        unknown = values == column.null * scale + zero
    return np.ma.array(values.astype(values.dtype.newbyteorder("="), copy=True), mask=unknown)


def _read_parquet(path: Path, pick: Pick) -> TableFile:
    with parquet.ParquetFile(path) as file:
        schema, names = file.schema_arrow, file.schema_arrow.names
        pick.whole_file("Parquet")
        picked = pick(names)
        table = file.read(columns=[names[place] for place in picked])
    arrays = {place: _from_arrow(path, names[place], table.column(names[place])) for place in picked}
    units = _parquet_units(schema)
    return TableFile("Parquet", arrays, units={place: units[names[place]] for place in picked if names[place] in units})


def _parquet_units(schema: Any) -> dict[str, str]:
    """Units by column name, from where astropy, VOParquet or a field's own metadata put them."""
    units: dict[str, str] = {}
    metadata = schema.metadata or {}
    votable, described = metadata.get(b"IVOA.VOTable-Parquet.content"), metadata.get(b"table_meta_yaml")
    if votable is not None and b"<!" not in votable:
        with get_xml_iterator(io.BytesIO(votable)) as iterator:
            fields = [attributes for start, tag, attributes, _ in iterator if start and tag == "FIELD"]
        units |= {column["name"]: column.get("unit", "") for column in fields if "name" in column}
    if described is not None:
        columns = get_header_from_yaml(described.decode().split("\n"))["datatype"]
        units |= {column["name"]: str(column.get("unit") or "") for column in columns}
    for column in schema:
        own = column.metadata or {}
        units[column.name] = (own.get(b"unit") or own.get(b"units") or units.get(column.name, "").encode()).decode()
    return {name: unit for name, unit in units.items() if unit}


def _from_arrow(path: Path, name: str, column: Any) -> Masked:
    kind = column.type
    if pa.types.is_dictionary(kind):
        column, kind = column.cast(kind.value_type), kind.value_type
    if pa.types.is_temporal(kind) or pa.types.is_decimal(kind) or pa.types.is_null(kind):
        column, kind = column.cast(pa.string()), pa.string()
    if pa.types.is_boolean(kind) or pa.types.is_integer(kind) or pa.types.is_floating(kind):
        fill: Any = pa.scalar(0).cast(kind)
    elif pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind):
        fill = ""
    else:
        raise SwimmyError(f"{path}: column {name} has the type {kind}; need numbers, bools or text.")
    return np.ma.array(column.fill_null(fill).to_numpy(), mask=column.is_null().to_numpy())


def _read_csv(path: Path, pick: Pick) -> TableFile:
    with path.open("rb") as file:
        compression = "gzip" if file.read(2) == GZIP_MAGIC else None
    names, n_header_lines, separator = _csv_header(path, compression)
    pick.whole_file("CSV")
    picked = pick(names)
    labels = [str(place) for place in range(len(names))]  # names in a file may be empty or alike
    types = {labels[place]: _ARROW_KINDS[kind] for place, kind in picked.items()}
    angles = {labels[place]: pa.string() for place, kind in picked.items() if kind == "angle"}

    def read(column_types: dict[str, pa.DataType]) -> Any:
        with pa.input_stream(str(path), compression=compression) as stream:
            return arrow_csv.read_csv(
                stream,
                read_options=arrow_csv.ReadOptions(column_names=labels, skip_rows=n_header_lines),
                parse_options=arrow_csv.ParseOptions(delimiter=separator),
                convert_options=arrow_csv.ConvertOptions(
                    column_types=column_types,
                    include_columns=[labels[place] for place in picked],
                    null_values=list(NULL_WORDS),
                    true_values=list(TRUE_WORDS),
                    false_values=list(FALSE_WORDS),
                    strings_can_be_null=False,
                ),
            )

    try:
        try:
            table = read(types)
        except pa.ArrowInvalid:
            if not angles:
                raise
            table = read(types | angles)  # perhaps they are in base 60
    except pa.ArrowInvalid as error:
        reason = re.sub(r"column #(\d+)", lambda match: f"column {names[int(match[1])]}", str(error))
        raise ValueError(reason) from error
    arrays = {place: _from_arrow(path, names[place], table.column(labels[place])) for place in picked}
    return TableFile("CSV", arrays)


def _csv_header(path: Path, compression: str | None) -> tuple[list[str], int, str]:
    """Column names, the number of lines before the first row, and the separator of the columns.

    HSC's archive writes the names as a comment, "# object_id,ra", perhaps after other comments. The last comment is
    the header if it has as many fields as the next line and that one starts with a number.
    """
    opener = gzip.open if compression else open
    comments: list[str] = []
    with opener(path, "rt", encoding="utf-8-sig", newline="") as stream:
        for line in stream:
            if line.startswith("#"):
                comments.append(line)
                continue
            if not line.strip():
                break
            separator = _separator(line)
            fields = _fields(line, separator)
            names = _fields(comments[-1].lstrip("#"), separator) if comments else []
            if len(names) == len(fields) and is_float(fields[0]):
                return names, len(comments), separator
            return fields, len(comments) + 1, separator
    line = comments[-1] if comments else ""
    return _fields(line, _separator(line)), len(comments), _separator(line)


def _separator(line: str) -> str:
    """What separates the columns of a CSV: what gives its first line most fields; a comma where none does."""
    return max(_SEPARATORS, key=lambda separator: len(_fields(line, separator)))


def _fields(line: str, separator: str) -> list[str]:
    return [name.strip() for name in next(csv.reader([line], delimiter=separator), [])]


def _read_votable(path: Path, pick: Pick) -> TableFile:
    _refuse_remote_parts(path)
    parts, units, frames = _votable_parts(path, pick)
    if not parts:
        return TableFile("VOTable", {})
    number = pick.part(parts)
    names = parts[number].columns
    picked = pick(names)
    if not picked:
        return TableFile("VOTable", {})
    array = _votable_array(path, number, list(picked))
    if not len(array):
        return TableFile("VOTable", dict.fromkeys(picked, array))
    chosen = array.dtype.names if len(array.dtype.names) == len(picked) else [array.dtype.names[k] for k in picked]
    columns = (np.ma.asarray(array[name]) for name in chosen)
    declared = {place: units[number][place] for place in picked if units[number][place]}
    systems = {place: frames[number][place] for place in picked if frames[number][place]}
    return TableFile("VOTable", dict(zip(picked, columns, strict=True)), units=declared, frames=systems)


def _votable_array(path: Path, number: int, places: list[int]) -> Any:
    """Rows of a table: of these columns, or of all where another table of the file has fewer."""
    # Not "mask": when columns are chosen, it moves the rest of a row by a column after a bad value.
    how: dict[str, Any] = {"table_number": number, "invalid": "exception", "verify": "ignore"}
    try:
        file = parse_votable(str(path), columns=places, **how)
    except ValueError as error:
        # astropy holds the numbers against every table of the file, those that it skips as well.
        if "column numbers out of range" not in str(error):
            raise
        file = parse_votable(str(path), **how)
    return file.get_first_table().array


def _votable_parts(path: Path, pick: Pick) -> tuple[list[Part], list[list[str]], list[list[str]]]:
    """The tables of a file up to the one that suffices, and the units and celestial frames of their columns."""
    parts: list[Part] = []
    units: list[list[str]] = []
    frames: list[list[str]] = []
    systems: dict[str, str] = {}
    with get_xml_iterator(str(path)) as iterator:
        for start, tag, attributes, _ in iterator:
            if start and tag == "COOSYS":
                systems[attributes.get("ID", "")] = attributes.get("system", "")
            elif start and tag == "TABLE":
                name = attributes.get("name") or attributes.get("ID") or ""
                parts.append(Part("table", len(parts), name, []))
                units.append([])
                frames.append([])
            elif start and tag == "FIELD" and parts:
                parts[-1].columns.append(attributes.get("name") or attributes.get("ID") or "")
                units[-1].append(attributes.get("unit") or "")
                frames[-1].append(systems.get(attributes.get("ref", ""), ""))
            elif start and tag == "DATA" and pick.suffices(parts[-1]):
                break
    return parts, units, frames


def _refuse_remote_parts(path: Path) -> None:
    """Refuse a VOTable by which the parser would fetch something: a STREAM with href, or entities."""
    with path.open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as text:
        encoding = _XML_ENCODING.search(text[:400])
        if b"\0" in text[:400] or (encoding and encoding[1].lower() not in (b"utf-8", b"us-ascii", b"iso-8859-1")):
            raise SwimmyError(f"{path} is not in UTF-8, so it cannot be checked for remote parts. Save it as UTF-8.")
        remote = any(re.search(rb"\shref\s*=", tag[0]) for tag in _STREAM_TAG.finditer(text))
        if remote or text.find(b"<!DOCTYPE") >= 0 or text.find(b"<!ENTITY") >= 0:
            raise SwimmyError(
                f"{path} refers to data outside the file (STREAM href, DOCTYPE or ENTITY), which is never fetched. "
                "Save the table with its data inside."
            )


def _read_ecsv(path: Path, pick: Pick) -> TableFile:
    with path.open("rb") as stream:
        lines = (line for line in stream if line.strip() and not line.startswith(b"#"))
        if next(lines, None) is not None and next(lines, None) is None:  # the reader fails on text columns of no rows
            raise SwimmyError(f"{path} has no rows. Check the file.")
    table = Table.read(str(path), format="ecsv", engine="pyarrow")
    arrays, units = {}, {}
    pick.whole_file("ECSV")
    for place in pick(table.colnames):
        column = table.columns[place]
        mask = getattr(column, "mask", False)
        values = np.asarray(column.value if isinstance(column, Quantity) else column)
        if values.ndim != 1:
            raise SwimmyError(f"{path}: column {table.colnames[place]} holds arrays; need one value a row.")
        arrays[place] = np.ma.array(values, mask=np.broadcast_to(mask, values.shape))
        if getattr(column, "unit", None) is not None:
            units[place] = str(column.unit)
    return TableFile("ECSV", arrays, simulated=table.meta.get("SIMULATE") is True, units=units)


_READERS: dict[str, Callable[[Path, Pick], TableFile]] = {
    "FITS": _read_fits,
    "Parquet": _read_parquet,
    "CSV": _read_csv,
    "VOTable": _read_votable,
    "ECSV": _read_ecsv,
}
