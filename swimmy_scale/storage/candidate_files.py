"""The candidate catalogue as FITS, ECSV, VOTable and Parquet; equal candidates give equal bytes."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
from astropy.io import fits
from astropy.io.votable import tree as votable
from astropy.io.votable.converters import get_converter
from astropy.table import Table

from swimmy_scale.errors import SwimmyError
from swimmy_scale.method.candidates import Columns
from swimmy_scale.storage.files import write_atomically

FORMATS = ("fits", "ecsv", "vot", "parquet")
METADATA_KEY = "METADATA"
"""FITS keyword and Parquet metadata key of the whole ``meta`` as JSON; every number in it is exact."""

_CHECKSUM_COMMENT = "HDU checksum"  # by default astropy writes the time here, and no two files would be alike


@dataclass(frozen=True)
class ColumnInfo:
    """Unit, UCD1+ word and description of a column; empty if it has none."""

    unit: str
    ucd: str
    description: str


# The first pattern that matches the whole name counts; {0} stands for what its group matched.
_COLUMN_INFO: tuple[tuple[str, ColumnInfo], ...] = (
    (r"object_id", ColumnInfo("", "meta.id;meta.main", "Identifier in the survey's catalogue")),
    (r"ra", ColumnInfo("deg", "pos.eq.ra;meta.main", "Right ascension (ICRS)")),
    (r"dec", ColumnInfo("deg", "pos.eq.dec;meta.main", "Declination (ICRS)")),
    (r"level", ColumnInfo("", "meta.code", "Most significant level that the object reaches")),
    (r"bands", ColumnInfo("", "meta.code;instr.bandpass", "Bands that select the object at the lowest level")),
    (r"bands_(\w+)", ColumnInfo("", "meta.code;instr.bandpass", "Bands that select the object at {0}, or empty")),
    (r"score_(\w+)", ColumnInfo("", "stat.value", "Anomaly score in {0} (equation 6)")),
    (
        r"residual_(\w+)",
        ColumnInfo("", "stat.fit.residual", "Source - reconstruction in {0}, summed over the aperture"),
    ),
    (r"(?:mag|cmodel_mag)_(\w+)", ColumnInfo("mag", "phot.mag;em.opt", "cmodel AB magnitude in {0}")),
    (r"psf_mag", ColumnInfo("mag", "phot.mag;em.opt", "PSF AB magnitude")),
    (r"fwhm_arcsec_(\w+)", ColumnInfo("arcsec", "instr.det.psf", "PSF FWHM in {0}")),
    (r"depth_mag_(\w+)", ColumnInfo("mag", "instr.sensitivity", "5-sigma PSF limiting magnitude in {0}")),
    (r"redshift", ColumnInfo("", "src.redshift", "Spectroscopic redshift")),
    (r"sample_class", ColumnInfo("", "meta.code.class", "Class known beforehand, if any")),
    (r"mark", ColumnInfo("", "meta.code", "What a person marked it as, or empty")),
    (r"mark_note", ColumnInfo("", "meta.note", "Remark of the person who marked it, or empty")),
    (r"mark_tags", ColumnInfo("", "meta.code", "Tags of the people who marked it, or empty")),
    (r"mark_agreement", ColumnInfo("", "stat.value", "Share of the most common mark among those given")),
    (r"n_(interesting|artefact|known)", ColumnInfo("", "meta.number", "How many people marked it as {0}")),
    (r"probability", ColumnInfo("", "stat.probability", "Probability of being interesting, learnt from marks")),
    (r"uncertainty", ColumnInfo("", "stat.error", "Of the probability, half of its range at one standard deviation")),
    (r"look_order", ColumnInfo("", "meta.number", "Place in the order in which to look, from 1")),
    (r"((?s:.*))", ColumnInfo("", "", "{0}, from the survey's catalogue")),
)


def column_info(name: str, meta: Mapping[str, Any] | None = None) -> ColumnInfo:
    """Unit, UCD and description of a column of the candidate catalogue, by its name.

    ``meta`` is that of the catalogue: if it has ``score`` (see `ScoreKind.described`), scores are not equation 6.
    """
    info, match = next((info, found) for pattern, info in _COLUMN_INFO if (found := re.fullmatch(pattern, name)))
    words = [re.sub(r"(\d)p(\d)", r"\1.\2", word) for word in match.groups()]
    description = info.description.format(*words)
    if meta and "score" in meta:
        description = description.replace("(equation 6)", "(residual in units of its expected noise)")
    return ColumnInfo(info.unit, info.ucd, description)


def write_candidates(
    columns: Mapping[str, npt.NDArray[Any]],
    directory: Path,
    *,
    meta: Mapping[str, Any],
    formats: Iterable[str] = FORMATS,
    stem: str = "candidates",
) -> dict[str, Path]:
    """Write ``candidates.fits``, ``.ecsv``, ``.vot`` and ``.parquet``, each atomically.

    Equal columns and metadata give equal bytes. object_id is exact in every format; NaN stays NaN. Every file has
    units and descriptions, VOTable and Parquet have UCDs. FITS text is ASCII: other characters become ``\\xNN`` there,
    and "_" in column names. ECSV has no empty strings: readers may mask them; and what ends a line somewhere, or is
    another control character, becomes ``\\xNN`` there, or readers would lose it or the row.

    Parameters
    ----------
    columns : mapping of str to ndarray, shape (n_candidates,)
        As `candidate_columns` gives them; there may be no rows.
    meta : mapping
        What was done: survey, simulated, thresholds and so on, as JSON values, nested if needed. It goes to the
        header of the FITS table (as readable cards, and whole in METADATA), the ECSV header, the INFO elements of the
        VOTable and METADATA of Parquet.
    formats : iterable of str
        Some of ``FORMATS``.
    stem : str
        The files' name without its suffix.

    Returns
    -------
    dict of str to Path
        The files by format.

    Raises
    ------
    SwimmyError
        For columns that no format can hold.
    """
    wanted = list(dict.fromkeys(formats))
    unknown = [name for name in wanted if name not in _WRITERS]
    if unknown:
        raise SwimmyError(f"catalogue formats {', '.join(unknown)} are unknown. Choose among {', '.join(FORMATS)}.")
    plain, facts = _plain_columns(columns), _plain_meta(meta)
    paths = {name: directory / f"{stem}.{name}" for name in wanted}
    for name, path in paths.items():
        write_atomically(path, _WRITERS[name](plain, facts))
    return paths


def candidate_table(columns: Mapping[str, npt.NDArray[Any]], meta: Mapping[str, Any]) -> Table:
    """The candidate catalogue as a table: units and descriptions of each column, and ``meta``, which is JSON values.

    Raises
    ------
    SwimmyError
        For columns that no format can hold.
    """
    plain, facts = _plain_columns(columns), _plain_meta(meta)
    table = _table(plain, facts)
    table.meta.update(facts)
    return table


# ---------------------------------------------------------------- one writer a format


def _fits_bytes(columns: Columns, meta: dict[str, Any]) -> bytes:
    ascii_columns = {name: _ascii(values, "backslashreplace") for name, values in columns.items()}
    table = fits.table_to_hdu(_table(ascii_columns, meta, _safe_names(columns)), character_as_bytes=True)
    header = table.header
    header["EXTNAME"] = "CANDIDATES"
    for position, name in enumerate(columns, start=1):
        header.set(f"TCOMM{position}", _ascii_text(column_info(name, meta).description), after=f"TFORM{position}")
    for key, value in _flattened(meta):
        text = _ascii_text(value) if isinstance(value, str) else value
        if _fits_in_a_card(key, text):
            header[f"HIERARCH {key}"] = text
    header[METADATA_KEY] = json.dumps(meta)
    hdus = fits.HDUList([fits.PrimaryHDU(), table])
    for hdu in hdus:
        hdu.add_checksum(when=_CHECKSUM_COMMENT)
    stream = io.BytesIO()
    hdus.writeto(stream)
    return stream.getvalue()


def _fits_in_a_card(key: str, value: Any) -> bool:
    # A card has 80 characters, and 20 for a number. What does not fit would be cut; METADATA has it whole.
    shown = value if isinstance(value, str) else repr(value)
    legal = key.isascii() and "=" not in key and f"{key}{shown}".isprintable()
    return legal and len(f"HIERARCH {key} = {shown}") <= 70 and (isinstance(value, str) or len(shown) <= 20)


# Control characters, the next line among them, and Unicode's separators of lines and paragraphs.
_ENDS_LINES = {
    code: chr(code).encode("unicode_escape").decode()
    for code in (*range(0x20), *range(0x7F, 0xA0), 0x2028, 0x2029)
}  # fmt: skip


def on_one_line(values: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Text as ECSV can hold it: what ends a line somewhere, and other control characters, as ``\\xNN``."""
    if values.dtype.kind != "U":
        return values
    return np.array([text.translate(_ENDS_LINES) for text in values.tolist()], dtype=np.str_)


def _ecsv_bytes(columns: Columns, meta: dict[str, Any]) -> bytes:
    table = candidate_table({name: on_one_line(values) for name, values in columns.items()}, meta)
    stream = io.StringIO(newline="")
    table.write(stream, format="ascii.ecsv")
    return stream.getvalue().encode()


def _votable_bytes(columns: Columns, meta: dict[str, Any]) -> bytes:
    ascii_columns = {name: _ascii(values, "strict") for name, values in columns.items()}
    document = votable.VOTableFile.from_table(_table(ascii_columns, meta, _safe_names(columns)), table_id="candidates")
    resource = document.resources[0]
    resource.coordinate_systems.append(votable.CooSys(ID="icrs", system="ICRS"))
    for position, (key, value) in enumerate(_flattened(meta)):
        text = value if isinstance(value, str) else json.dumps(value)
        resource.infos.append(votable.Info(ID=f"meta_{position}", name=key, value=text))
    for field, name in zip(document.get_first_table().fields, columns, strict=True):
        info = column_info(name, meta)
        field.name = name
        field.ucd = info.ucd or None
        field.ref = "icrs" if field.name in ("ra", "dec") else None
        if field.datatype == "bit":
            # astropy writes truth values as bits, which TOPCAT reads wrongly.
            field.datatype = "boolean"
            field.converter = get_converter(field)
    stream = io.BytesIO()
    document.to_xml(stream, tabledata_format="binary2")
    return stream.getvalue()


def _parquet_bytes(columns: Columns, meta: dict[str, Any]) -> bytes:
    arrays, schema_fields = [], []
    for name, values in columns.items():
        array = pa.array(values.tolist(), type=pa.string()) if values.dtype.kind == "U" else pa.array(values)
        info = column_info(name, meta)
        facts = {key: value for key, value in vars(info).items() if value}
        arrays.append(array)
        schema_fields.append(pa.field(name, array.type, nullable=False, metadata=facts))
    # astropy wants the width of every text column in the metadata; other readers ignore it.
    widths = {f"table::len::{name}": str(v.dtype.itemsize // 4) for name, v in columns.items() if v.dtype.kind == "U"}
    schema = pa.schema(schema_fields, metadata={METADATA_KEY: json.dumps(meta), **widths})
    stream = io.BytesIO()
    pq.write_table(pa.Table.from_arrays(arrays, schema=schema), stream, compression="zstd")
    return stream.getvalue()


_WRITERS: Mapping[str, Callable[[Columns, dict[str, Any]], bytes]] = {
    "fits": _fits_bytes,
    "ecsv": _ecsv_bytes,
    "vot": _votable_bytes,
    "parquet": _parquet_bytes,
}


# ---------------------------------------------------------------- the parts


def _table(columns: Columns, meta: Mapping[str, Any], names: Sequence[str] | None = None) -> Table:
    """The columns with units and descriptions, under the given ``names`` or their own."""
    table = Table(list(columns.values()), names=names or list(columns), copy=False)
    for name, column in zip(columns, table.itercols(), strict=True):
        info = column_info(name, meta)
        column.unit = info.unit or None
        column.description = info.description
    return table


def _safe_names(names: Iterable[str]) -> list[str]:
    """Distinct names that are allowed for FITS columns and XML identifiers; unchanged if they are allowed already."""
    safe: list[str] = []
    for position, name in enumerate(names):
        simple = re.sub(r"[^A-Za-z0-9_]", "_", name)
        # FITS readers do not tell upper case from lower case.
        taken = simple.lower() in [other.lower() for other in safe]
        safe.append(f"column_{position}_{simple}" if taken or not simple[0].isalpha() else simple)
    return safe


def _ascii_text(text: str) -> str:
    return text.encode("ascii", "backslashreplace").decode()


def _ascii(values: npt.NDArray[Any], errors: str) -> npt.NDArray[Any]:
    """Strings as ASCII bytes, for FITS and old VOTable readers; unchanged if "strict" meets other characters."""
    if values.dtype.kind != "U":
        return values
    try:
        encoded = np.char.encode(values, "ascii", errors)
    except UnicodeEncodeError:
        return values
    # The width is that of the type, not of the strings at hand, so that an empty table has the same columns.
    return encoded.astype(f"S{max(encoded.dtype.itemsize, values.dtype.itemsize // 4)}")


def _plain_columns(columns: Mapping[str, npt.NDArray[Any]]) -> Columns:
    """Columns in types that all four formats have, in native byte order."""
    identifier = columns.get("object_id")
    if identifier is None or identifier.dtype != np.int64:
        found = "is missing" if identifier is None else f"is {identifier.dtype}"
        raise SwimmyError(f"column object_id {found}, the candidate catalogue needs int64.")
    plain = {}
    for name, values in columns.items():
        if not name:
            raise SwimmyError("a column has an empty name. Give every kept column a name.")
        if values.shape != identifier.shape:
            raise SwimmyError(
                f"column {name!r} has shape {values.shape}, needs {identifier.shape}: one value an object."
            )
        plain[name] = _plain_values(name, values)
    return plain


def _plain_values(name: str, values: npt.NDArray[Any]) -> npt.NDArray[Any]:
    kind, size = values.dtype.kind, values.dtype.itemsize
    if kind == "T" or (kind == "O" and all(isinstance(value, str) for value in values)):
        return values.astype(np.str_) if values.size else np.zeros(0, dtype="<U1")
    if kind == "S":
        return np.char.decode(values, "utf-8")
    if kind == "u" and size > 1:
        # The only unsigned integers of VOTable are bytes.
        if size == 8 and values.size and values.max() > np.iinfo(np.int64).max:
            raise SwimmyError(f"column {name!r} holds {values.max()}, more than a signed 64-bit integer. Leave it out.")
        return values.astype({2: np.int32, 4: np.int64, 8: np.int64}[size])
    if kind == "i":
        return values.astype(np.int16 if size == 1 else values.dtype.newbyteorder("="))
    if kind == "f" and size <= 8:
        return values.astype(np.float32 if size == 2 else values.dtype.newbyteorder("="))
    if kind in "bUu":
        return values.astype(values.dtype.newbyteorder("="))
    raise SwimmyError(
        f"column {name!r} is {values.dtype}, not numbers, flags or text. Leave it out of the kept columns."
    )


def _plain_meta(meta: Mapping[str, Any]) -> dict[str, Any]:
    try:
        plain: dict[str, Any] = json.loads(json.dumps(meta, allow_nan=False))
    except (TypeError, ValueError) as error:
        raise SwimmyError(
            f"catalogue metadata is not JSON: {error}. Give numbers, text and mappings of them."
        ) from error
    return plain


def _flattened(meta: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Scalars of nested mappings by their path, such as ``thresholds 2sigma g``; lists as JSON text."""
    for key, value in meta.items():
        path = f"{prefix} {key}".strip()
        if isinstance(value, Mapping):
            yield from _flattened(value, path)
        else:
            yield path, json.dumps(value) if isinstance(value, list) or value is None else value
