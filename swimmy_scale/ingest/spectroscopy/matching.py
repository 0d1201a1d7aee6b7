"""What published tables of spectra say of the objects of a catalogue: redshifts, lines and classes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

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
from swimmy_scale.method.survey import BoolArray, DoubleArray, IntArray
from swimmy_scale.storage.counterparts import BANDS, Counterparts


class Matcher:
    """Matches n objects with one table after another, and keeps what the tables say of them.

    Parameters
    ----------
    ra, dec : ndarray of float64, shape (n,), degrees
        NaN for objects that get no counterpart.
    radius_arcsec : float
    """

    def __init__(self, ra: DoubleArray, dec: DoubleArray, radius_arcsec: float) -> None:
        self.ra, self.dec, self.radius_arcsec = ra, dec, radius_arcsec
        n = len(ra)
        self.has_any = np.zeros(n, np.bool_)
        self.simulated = False
        self.redshift, self.source = np.full(n, np.nan), np.zeros(n, "U4")
        self.spectrum = {name: np.full(n, -1, np.int32) for name in ("plate", "mjd", "fiberid")}
        self.mpa_jhu, self.quasar = np.zeros(n, np.bool_), np.zeros(n, np.bool_)
        self.widths = {line: np.full(n, np.nan) for line in LINES}
        self.line_redshift = np.full(n, np.nan)
        self.bptclass = np.full(n, -1, np.int16)
        self.log_stellar_mass, self.log_sfr = np.full(n, np.nan), np.full(n, np.nan)
        self.milliquas = np.zeros(n, "U9")

    def _rows(self, ra: DoubleArray, dec: DoubleArray, simulated: bool) -> tuple[IntArray, IntArray]:
        """Objects that have a counterpart in a table, and its rows, both (m,)."""
        index, _ = match(self.ra, self.dec, ra, dec, self.radius_arcsec)
        objects = np.flatnonzero(index >= 0)
        self.has_any[objects] = True
        self.simulated |= simulated
        return objects, index[objects]

    def add_spectra(self, spectra: Spectra, source: str) -> tuple[IntArray, IntArray]:
        """Take the redshifts, and the names of spectra, that no earlier table had.

        Returns
        -------
        objects, rows : ndarray of int64, shape (m,)
            Objects that have a counterpart, and its rows in the table.
        """
        objects, rows = self._rows(spectra.ra, spectra.dec, spectra.simulated)
        new = np.isnan(self.redshift[objects]) & np.isfinite(spectra.redshift[rows])
        self.redshift[objects[new]] = spectra.redshift[rows[new]]
        self.source[objects[new]] = source
        nameless = self.spectrum["plate"][objects] < 0
        for name, values in self.spectrum.items():
            values[objects[nameless]] = getattr(spectra, name)[rows[nameless]]
        return objects, rows

    def add_mpa_jhu(self, table: MpaJhu) -> None:
        """Take what MPA-JHU measured on SDSS spectra."""
        objects, rows = self.add_spectra(table.spectra, "SDSS")
        self.mpa_jhu[objects] = True
        self.line_redshift[objects] = table.spectra.redshift[rows]
        for line, values in self.widths.items():
            values[objects] = table.widths[line][rows]
        self.bptclass[objects] = table.bptclass[rows]
        self.log_stellar_mass[objects] = table.log_stellar_mass[rows]
        self.log_sfr[objects] = table.log_sfr[rows]

    def add_quasars(self, spectra: Spectra) -> None:
        """Objects with a counterpart in DR16Q are quasars."""
        objects, _ = self.add_spectra(spectra, "SDSS")
        self.quasar[objects] = True

    def add_milliquas(self, ra: DoubleArray, dec: DoubleArray, kind: npt.NDArray[np.str_], simulated: bool) -> None:
        """Take the types of Milliquas; its redshifts are not used."""
        objects, rows = self._rows(ra, dec, simulated)
        self.milliquas[objects] = kind[rows]

    def result(self, object_id: IntArray) -> Counterparts:
        """What the tables say of the objects that are in any of them, sorted by id."""
        groups = {group: group_width(self.widths, group) for group in GROUPS}
        bands = band_widths(self.widths, self.line_redshift, BANDS)
        classes = Classes(self.mpa_jhu, is_xelg(groups), self.quasar, is_agn_candidate(self.bptclass))
        widths: dict[str, Any] = {f"ew_{group}": values.astype(np.float32) for group, values in groups.items()}
        widths |= {f"ew_band_{band}": values.astype(np.float32) for band, values in bands.items()}
        all_objects = Counterparts(
            object_id=object_id,
            redshift=self.redshift,
            redshift_source=self.source,
            plate=self.spectrum["plate"],
            mjd=self.spectrum["mjd"],
            fiberid=self.spectrum["fiberid"],
            sample_class=classes.sample_class,
            is_mpa_jhu=classes.is_mpa_jhu,
            is_xelg=classes.is_xelg,
            is_quasar=classes.is_quasar,
            is_agn_candidate=classes.is_agn_candidate,
            bptclass=self.bptclass,
            milliquas_type=self.milliquas,
            **widths,
            log_stellar_mass=self.log_stellar_mass.astype(np.float32),
            log_sfr=self.log_sfr.astype(np.float32),
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
) -> tuple[Counterparts, bool]:
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
    section : SpectroscopySection
    files_done : callable, optional
        Called with the number of files that were done since the last call.

    Returns
    -------
    counterparts : Counterparts
    simulated : bool
        Whether any of the tables says that it is simulated.

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
        table = read_milliquas(section.milliquas)
        matcher.add_milliquas(table.ra, table.dec, table.kind, table.simulated)
        files_done(1)
    return matcher.result(object_id), matcher.simulated
