"""What published tables of spectra say of the objects of a catalogue: redshifts, lines and classes."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from swimmy_scale.ingest.spectroscopy.published_tables import (
    MpaJhu,
    Spectra,
    read_dr16q,
    read_gama,
    read_milliquas,
    read_mpa_jhu,
    read_sdss,
)
from swimmy_scale.ingest.sphere import match
from swimmy_scale.method.classes import Classes, is_agn_candidate
from swimmy_scale.method.emission_lines import GROUPS, LINES, band_widths, group_width, is_xelg
from swimmy_scale.method.sections import SpectroscopySection
from swimmy_scale.method.survey import AnyArray, BoolArray, DoubleArray, IntArray
from swimmy_scale.storage.counterparts import BANDS, Counterparts


class Matcher:
    """Matches n objects with one table after another, and keeps what the tables say of them.

    Parameters
    ----------
    ra, dec : ndarray of float64, shape (n,), degrees
        NaN for objects that get no counterpart.
    """

    def __init__(self, ra: DoubleArray, dec: DoubleArray, radius_arcsec: float) -> None:
        self.ra, self.dec, self.radius_arcsec = ra, dec, radius_arcsec
        n = len(ra)
        self.has_any = np.zeros(n, np.bool_)
        self.simulated = False
        self.notes: list[str] = []
        # By their names in `Counterparts`.
        self.columns: dict[str, AnyArray] = {
            "redshift": np.full(n, np.nan),
            "redshift_source": np.zeros(n, "U4"),
            **{name: np.full(n, -1, np.int32) for name in ("plate", "mjd", "fiberid")},
            "is_mpa_jhu": np.zeros(n, np.bool_),
            "is_quasar": np.zeros(n, np.bool_),
            "bptclass": np.full(n, -1, np.int16),
            "milliquas_type": np.zeros(n, "U9"),
            "log_stellar_mass": np.full(n, np.nan, np.float32),
            "log_sfr": np.full(n, np.nan, np.float32),
        }
        self.widths = {line: np.full(n, np.nan) for line in LINES}
        self.failed = {line: np.zeros(n, np.bool_) for line in LINES}
        self.line_redshift = np.full(n, np.nan)
        self.has_bptclass = np.zeros(n, np.bool_)

    def add_spectra(self, spectra: Spectra, source: str) -> tuple[IntArray, IntArray]:
        """Take the redshifts, and the names of spectra, that no earlier table had.

        Returns
        -------
        objects, rows : ndarray of int64, shape (m,)
            Objects that have a counterpart, and its rows in the table.
        """
        index, _ = match(self.ra, self.dec, spectra.ra, spectra.dec, self.radius_arcsec)
        objects = np.flatnonzero(index >= 0)
        rows = index[objects]
        self.has_any[objects] = True
        self.simulated |= spectra.simulated
        self.notes += [note for note in spectra.notes if note not in self.notes]
        columns = self.columns
        new = np.isnan(columns["redshift"][objects]) & np.isfinite(spectra.redshift[rows])
        columns["redshift"][objects[new]] = spectra.redshift[rows[new]]
        columns["redshift_source"][objects[new]] = source
        nameless = columns["plate"][objects] < 0
        for name in ("plate", "mjd", "fiberid"):
            columns[name][objects[nameless]] = getattr(spectra, name)[rows[nameless]]
        return objects, rows

    def add_mpa_jhu(self, table: MpaJhu) -> None:
        """Take what MPA-JHU measured on SDSS spectra."""
        objects, rows = self.add_spectra(table.spectra, "SDSS")
        self.columns["is_mpa_jhu"][objects] = True
        self.has_bptclass[objects] = table.has_bptclass[rows]
        self.line_redshift[objects] = table.spectra.redshift[rows]
        for line, values in self.widths.items():
            values[objects] = table.widths[line][rows]
            self.failed[line][objects] = table.failed[line][rows]
        for name in ("bptclass", "log_stellar_mass", "log_sfr"):
            self.columns[name][objects] = getattr(table, name)[rows]

    def add_quasars(self, spectra: Spectra) -> None:
        """Objects with a counterpart in DR16Q are quasars."""
        objects, _ = self.add_spectra(spectra, "SDSS")
        self.columns["is_quasar"][objects] = True

    def add_milliquas(self, spectra: Spectra, kind: npt.NDArray[np.str_]) -> None:
        """Take the types of Milliquas, which gives neither redshifts nor names of spectra."""
        objects, rows = self.add_spectra(spectra, "")
        self.columns["milliquas_type"][objects] = kind[rows]

    def _classes(self) -> Classes:
        extreme, is_known = is_xelg(self.widths, self.failed)
        mpa_jhu, quasar = self.columns["is_mpa_jhu"], self.columns["is_quasar"]
        agn_candidate = is_agn_candidate(self.columns["bptclass"])
        undecided = mpa_jhu & ~extreme & ~quasar & ~agn_candidate & ~(is_known & self.has_bptclass)
        if undecided.any():
            self.notes.append(
                f"{int(undecided.sum())} of {int(mpa_jhu.sum())} objects in MPA-JHU have no class: their spectra are "
                "unreliable, or a line or the BPTCLASS that would decide is unknown"
            )
        return Classes(mpa_jhu, extreme, quasar, agn_candidate, undecided)

    def result(self, object_id: IntArray) -> Counterparts:
        """What the tables say of the objects that are in any of them, sorted by id."""
        groups = {group: group_width(self.widths, group) for group in GROUPS}
        bands = band_widths(self.widths, self.line_redshift, BANDS)
        widths: dict[str, AnyArray] = {f"ew_{group}": values.astype(np.float32) for group, values in groups.items()}
        widths |= {f"ew_band_{band}": values.astype(np.float32) for band, values in bands.items()}
        columns = self.columns
        classes = self._classes()
        all_objects = Counterparts(
            object_id=object_id,
            sample_class=classes.sample_class,
            is_xelg=classes.is_xelg,
            is_agn_candidate=classes.is_agn_candidate,
            **columns,
            **widths,
        )
        rows = np.flatnonzero(self.has_any)
        return all_objects.take(rows[np.argsort(object_id[rows], kind="stable")])


def find_counterparts(
    object_id: IntArray,
    ra: DoubleArray,
    dec: DoubleArray,
    usable: BoolArray,
    section: SpectroscopySection,
    files_done: Callable[[int], None] = lambda n_files: None,
) -> tuple[Counterparts, bool, list[str]]:
    """Match a catalogue with all tables of a job (section 2.2).

    An object's redshift is the first that is known from specObj (the best of repeated spectra before the others),
    MPA-JHU and DR16Q, which are SDSS's own, and GAMA. The lines of MPA-JHU are placed by MPA-JHU's redshift.

    Parameters
    ----------
    object_id : ndarray of int64, shape (n,)
        Distinct where ``usable``.
    ra, dec : ndarray of float64, shape (n,), degrees
    usable : ndarray of bool, shape (n,)
        False for rows whose id or position cannot be relied on; they get no counterpart.
    files_done : callable, optional
        Called with the number of files that were done since the last call.

    Returns
    -------
    counterparts : Counterparts
    simulated : bool
        Whether any of the tables says that it is simulated.
    notes : list of str
        How many spectra each rule dropped, and how many objects have no class.

    Raises
    ------
    SwimmyError
        When a table cannot be read or lacks a column.
    """
    matcher = Matcher(np.where(usable, ra, np.nan), np.where(usable, dec, np.nan), section.match_radius_arcsec)
    if section.sdss is not None:
        for spectra in read_sdss(section.sdss):
            matcher.add_spectra(spectra, "SDSS")
        files_done(1)
    if section.mpa_jhu is not None:
        files = section.mpa_jhu
        matcher.add_mpa_jhu(read_mpa_jhu(files.info, files.line, files.extra, files.widths == "rest"))
        files_done(3)
    if section.dr16q is not None:
        matcher.add_quasars(read_dr16q(section.dr16q))
        files_done(1)
    if section.gama is not None:
        matcher.add_spectra(read_gama(section.gama), "GAMA")
        files_done(1)
    if section.milliquas is not None:
        matcher.add_milliquas(*read_milliquas(section.milliquas))
        files_done(1)
    return matcher.result(object_id), matcher.simulated, matcher.notes
