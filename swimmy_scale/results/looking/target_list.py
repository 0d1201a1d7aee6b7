"""Positions of objects for other programs: regions for DS9, and target lists for observers."""

from __future__ import annotations

import csv
import io
import re
from pathlib import Path

import numpy as np
from astropy.coordinates import SkyCoord

from swimmy_scale.method.candidates import Columns
from swimmy_scale.method.object_names import OBJECT_NAME
from swimmy_scale.method.survey import DoubleArray, Survey
from swimmy_scale.storage.files import write_atomically


def sexagesimal(ra: DoubleArray, dec: DoubleArray) -> tuple[list[str], list[str]]:
    """Positions as ``02:00:12.3456`` (hours) and ``-01:02:03.456`` (degrees): to about a milliarcsecond."""
    sky = SkyCoord(ra, dec, unit="deg", frame="icrs")
    hours = sky.ra.to_string(unit="hourangle", sep=":", precision=4, pad=True)
    degrees = sky.dec.to_string(unit="deg", sep=":", precision=3, pad=True, alwayssign=True)
    # astropy rounds the last half of a tenth of a millisecond up to 24 h, which others refuse.
    whole = [text.replace("24:00:00", "00:00:00") for text in np.atleast_1d(hours).tolist()]
    return whole, np.atleast_1d(degrees).tolist()


def write_regions(path: Path, columns: Columns, survey: Survey) -> None:
    """Write a circle for each object, as wide as its cutout, with its object_id or name; for DS9, in ICRS.

    Objects of a selection carry their level as a tag, so that DS9 can choose and colour them by it.
    """
    radius = survey.cutout_size_px * survey.pixel_scale_arcsec / 2
    lines = ["# Region file format: DS9 version 4.1", "global color=green width=1", "icrs"]
    levels, names = columns.get("level"), columns.get(OBJECT_NAME)
    for k, object_id in enumerate(columns["object_id"].tolist()):
        label = object_id if names is None or not names[k] else re.sub("[{}]", "_", str(names[k]))
        # Braces end a text or a tag.
        tag = "" if levels is None or not levels[k] else f" tag={{{re.sub('[{}]', '_', str(levels[k]))}}}"
        place = f"{columns['ra'][k]:.8f},{columns['dec'][k]:.8f}"
        lines.append(f'circle({place},{radius:.3f}") # text={{{label}}}{tag}')
    write_atomically(path, ("\n".join(lines) + "\n").encode())


def write_csv(path: Path, columns: Columns) -> None:
    """Write columns as CSV: UTF-8, numbers in as many digits as tell them apart, empty where unknown."""
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    for row in zip(*columns.values(), strict=True):
        # NumPy's own text of a number is the shortest that tells it apart; of NaN it is empty here.
        writer.writerow("" if value != value else str(value) for value in row)
    write_atomically(path, text.getvalue().encode())
