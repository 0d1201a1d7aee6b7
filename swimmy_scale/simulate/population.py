"""What may differ between two simulated surveys besides sizes and fractions: the demonstration's values, and others."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class LuminosityFunction:
    """A Schechter function of galaxies, in a band that is shifted to redshift 0.1.

    Attributes
    ----------
    characteristic_mag : float
        M*, absolute.
    slope : float
        alpha, of the faint end.
    mean_colour : float
        This band's magnitude less the survey's magnitude band's, the mean of galaxies.
    """

    characteristic_mag: float
    slope: float
    mean_colour: float


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
        counts for all, and who is in MPA-JHU does not depend on the magnitude. It comes with a luminosity function.
    widest_line : float
        Largest observed equivalent width of an XELG's strongest group, Angstrom.
    nitrogen : (float, float), optional
        Range of log([NII]6583 / Halpha) of the XELGs, uniform; it gives [OIII] + Hbeta over Halpha + [NII]
        (`spectra.excitation_ratio`). Within the two groups the lines keep the shares of `spectra.LINES`. Without it
        one of the two groups, each as often, is the stronger, and the other has half to all of its width.
    shallow_percent : float, optional
        So many percent of all patches are shallower than the survey's limits, in each band, which sets the scatter of
        depth; the simulated ones are those that are left. By default it is 0.15 mag in every band.
    faint_mag : float
        The faintest galaxy, in the survey's magnitude band.
    luminosity_function : LuminosityFunction, optional
        Of the galaxies between the redshift limits; it gives magnitudes and redshifts together. Without it counts rise
        without end, as in a universe that is not cut at a redshift, and fainter galaxies are farther away by a law of
        their own.
    colours_by_luminosity : bool
        Whether a galaxy's luminosity says how likely it is red, and how red or blue it is (`colours`), which the
        luminosity function must give. Without it a third are red, and colours do not depend on anything.
    type1_by_luminosity : bool
        Whether the nuclei of type-I AGN are drawn by their luminosity and not by their share of the light.
    type2_width : (float, float)
        [OIII] + Hbeta of a type-II nucleus at rest, Angstrom.
    fibre_arcsec : float, optional
        Diameter of the fibre that measured the nuclear lines of type-II AGN. Star formation's lines are then spread
        over the disk, and the nucleus' are as strong as the fibre sees them over the stars inside it. Without it all
        lines are at the centre, and their widths are over all stars.
    reddened_quasars : bool
        Whether dust reddens the nuclei of quasars, by any amount up to the colour of their host. Without it all are
        as blue as the unobscured quasar.
    weak_lines : bool
        Whether [NeIII] and [SII] are in the images, as they are in the tables of spectra.
    """

    bright_mag: float = 16.5
    main_sample_mag: float | None = None
    widest_line: float = 1000.0
    nitrogen: tuple[float, float] | None = None
    shallow_percent: float | None = None
    faint_mag: float = 20.0
    luminosity_function: LuminosityFunction | None = None
    colours_by_luminosity: bool = False
    type1_by_luminosity: bool = False
    type2_width: tuple[float, float] = (15.0, 50.0)
    fibre_arcsec: float | None = None
    reddened_quasars: bool = False
    weak_lines: bool = False

    def __post_init__(self) -> None:
        if (self.main_sample_mag is None) != (self.luminosity_function is None):
            raise ValueError("main_sample_mag and luminosity_function come together or not at all")
        if self.colours_by_luminosity and self.luminosity_function is None:
            raise ValueError("colours_by_luminosity needs a luminosity_function")


DEMONSTRATION = Population()
