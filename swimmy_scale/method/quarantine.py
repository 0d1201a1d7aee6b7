"""Why an object could not be scored: stable reason codes and the record of one quarantined object."""

from __future__ import annotations

import enum
from dataclasses import dataclass


class Code(enum.IntEnum):
    """Reason codes. Names and numbers are public and never change their meaning.

    The name in lower case is what ``quarantine.csv`` shows, the number is what ``quarantine_code``
    in ``cutouts.zarr`` holds (0 means not quarantined). Where an object has several faults the
    lowest number is its code and the reason text tells them all.
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
        Band at fault, or empty when it is not one band's fault.
    source : str
        File (and tar member) at fault, or empty.
    reason : str
        Says what was found and what was needed, with the values.
    """

    row: int
    code: Code
    band: str
    source: str
    reason: str


def merge_faults(faults: list[Fault]) -> list[Fault]:
    """Bring the faults of each object into one record.

    Returns
    -------
    list of Fault
        One fault a row, sorted by row. Its code, band and source are those of the lowest code (the
        first one given among equals); its reason joins all the reasons, in order of code, with "; ".
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
