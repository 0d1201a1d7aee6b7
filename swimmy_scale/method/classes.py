"""Classes of the spectroscopic sample (section 2.2), and the number of objects in each (table 1)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from swimmy_scale.method.survey import BoolArray

SAMPLE_CLASSES = ("quasar", "xelg", "agn_candidate", "training", "other")
"""Values of ``sample_class``; an object of several classes has the first of them, one of unknown class none (empty)."""

LEAST_AGN_CLASS = 3
"""Lowest BPTCLASS of a galaxy that may host an active nucleus: 3 composite, 4 AGN, 5 low-ionisation."""

BPT_CLASSES = (-1, 0, 1, 2, 3, 4, 5)
"""Values of BPTCLASS. -1 is a class, too: lines too weak to tell, as in most early-type galaxies."""


@dataclass(frozen=True)
class Classes:
    """The classes of n objects; an object may be of several.

    Attributes
    ----------
    is_mpa_jhu : ndarray of bool, shape (n,)
        Has a counterpart in the MPA-JHU tables.
    is_xelg : ndarray of bool, shape (n,)
        Extreme emission-line galaxy (see `emission_lines.is_xelg`).
    is_quasar : ndarray of bool, shape (n,)
        Has a counterpart in DR16Q.
    is_agn_candidate : ndarray of bool, shape (n,)
        BPTCLASS of 3 and above (see the function `is_agn_candidate`).
    is_undecided : ndarray of bool, shape (n,)
        In MPA-JHU and none of the three others for certain, but not known to be none of them: the spectrum is
        unreliable, or a line or the BPTCLASS that would decide is unknown.
    """

    is_mpa_jhu: BoolArray
    is_xelg: BoolArray
    is_quasar: BoolArray
    is_agn_candidate: BoolArray
    is_undecided: BoolArray

    @property
    def is_training(self) -> BoolArray:
        """In MPA-JHU, and known to be none of the three others."""
        return self.is_mpa_jhu & ~self.is_xelg & ~self.is_quasar & ~self.is_agn_candidate & ~self.is_undecided

    @property
    def sample_class(self) -> npt.NDArray[np.str_]:
        """The first of ``SAMPLE_CLASSES`` that holds for each object, empty where undecided; str, shape (n,)."""
        holds = [self.is_quasar, self.is_xelg, self.is_agn_candidate, self.is_training, self.is_undecided]
        result: npt.NDArray[np.str_] = np.select(holds, [*SAMPLE_CLASSES[:-1], ""], SAMPLE_CLASSES[-1])
        return result


def is_agn_candidate(bptclass: npt.NDArray[np.int16]) -> BoolArray:
    """Whether BPTCLASS is 3 or above (section 2.2); bool, shape (n,). False for -1, an unknown class."""
    return np.asarray(bptclass >= LEAST_AGN_CLASS)


def table_1(classes: Classes, in_sample: BoolArray | None = None) -> list[tuple[str, int]]:
    """Rows of table 1: the make-up of the test data.

    Parameters
    ----------
    in_sample : ndarray of bool, shape (n,), optional
        Objects that count; by default all.

    Returns
    -------
    list of (str, int)
        The paper's label, and a number of objects. An object counts in every row that it belongs to. The last row
        says how many are in both MPA-JHU and DR16Q: N = (1) + (3) + (4) - both.
    """
    chosen = np.ones(len(classes.is_mpa_jhu), np.bool_) if in_sample is None else in_sample

    def count(holds: BoolArray) -> int:
        return int(np.count_nonzero(holds & chosen))

    return [
        ("Test data", count(chosen)),
        ("(1) SDSS MPA-JHU", count(classes.is_mpa_jhu)),
        ("(1-1) Training data", count(classes.is_training)),
        ("(1-2) XELGs", count(classes.is_xelg)),
        ("(1-3) AGN candidates (BPTCLASS >= 3)", count(classes.is_agn_candidate)),
        ("(1) whose class is unknown", count(classes.is_undecided)),
        ("(3) DR16Q quasars", count(classes.is_quasar)),
        ("(4) Other spec-z (SDSS & GAMA)", count(~classes.is_mpa_jhu & ~classes.is_quasar)),
        ("in (1) and (3) both", count(classes.is_mpa_jhu & classes.is_quasar)),
    ]
