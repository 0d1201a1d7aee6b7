"""What may differ between two simulated surveys besides sizes and fractions: the demonstration's values, and others."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Population:
    """The family of objects and skies that a plan draws from.

    Attributes
    ----------
    bright_mag : float
        The brightest galaxy, in the survey's magnitude band.
    main_sample_mag : float, optional
        The faint end of SDSS's main galaxy sample, in the survey's magnitude band. All galaxies that are brighter are
        in MPA-JHU and none that is fainter, and as many as ``training_fraction`` says are brighter; emission-line
        galaxies and active nuclei all are, since their lines are how they are known. Without it there is one law of
        counts for all, and who is in MPA-JHU does not depend on the magnitude.
    widest_line : float
        Largest observed equivalent width of an XELG's strongest group, Angstrom.
    shallow_percent : float, optional
        So many percent of all patches are shallower than the survey's limits, in each band, which sets the scatter of
        depth; the simulated ones are those that are left. By default it is 0.15 mag in every band.
    """

    bright_mag: float = 16.5
    main_sample_mag: float | None = None
    widest_line: float = 1000.0
    shallow_percent: float | None = None


DEMONSTRATION = Population()
