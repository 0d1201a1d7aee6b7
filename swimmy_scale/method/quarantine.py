"""Why an object could not be scored: stable reason codes, and the record of a quarantined object."""

from __future__ import annotations

import enum
from dataclasses import dataclass


class Code(enum.IntEnum):
    """Reason codes. Names and numbers are public and never change their meaning.

    ``quarantine.csv`` shows the name in lower case; ``quarantine_code`` in ``cutouts.zarr`` holds the number, 0 for an
    object that is not quarantined. An object with several faults has the lowest of their codes, and all their reasons.
    """

    DUPLICATE_OBJECT_ID = 1
    OBJECT_ID_LOST = 2
    POSITION_MISSING = 3
    POSITION_OUTSIDE = 4
    MISSING_BAND = 5
    UNREADABLE_FILE = 6
    NO_IMAGE_HDU = 7
    WRONG_SHAPE = 8
    NOT_FINITE_PIXELS = 9
    FWHM_MISSING = 10
    FWHM_ABOVE_TARGET = 11
    SCORING_FAILED = 12
    ENDED_WORKERS = 13
    NO_DATA = 14
    WRONG_PIXEL_SCALE = 15
    WRONG_UNIT = 16

    @property
    def label(self) -> str:
        """The code as files show it, for example ``missing_band``."""
        return self.name.lower()


@dataclass(frozen=True)
class Fault:
    """One thing wrong with one object.

    Attributes
    ----------
    row : int
        Row of the object in the catalogue, from 0.
    code : Code
    band : str
        Band at fault, or empty where no single band is.
    source : str
        File (and tar member) at fault, or empty.
    reason : str
        What was found and what is needed, with the values.
    """

    row: int
    code: Code
    band: str
    source: str
    reason: str


def merge_faults(faults: list[Fault]) -> list[Fault]:
    """Merge the faults of each object into one.

    Returns
    -------
    list of Fault
        One for each row, sorted by row. Code, band and source are those of the fault with the lowest code (the first
        of equal ones); the reason joins all different reasons, in order of code, with "; ".
    """
    by_row: dict[int, list[Fault]] = {}
    for fault in faults:
        by_row.setdefault(fault.row, []).append(fault)
    merged = []
    for row in sorted(by_row):
        group = sorted(by_row[row], key=lambda fault: fault.code)
        reasons = list(dict.fromkeys(fault.reason for fault in group))
        first = group[0]
        merged.append(Fault(row, first.code, first.band, first.source, "; ".join(reasons)))
    return merged
