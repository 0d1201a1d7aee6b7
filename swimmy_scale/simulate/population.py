"""The laws by which a survey is drawn, which may differ between surveys of the same size and fractions."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class LuminosityFunction:
    """A Schechter function of galaxies, in a band shifted to redshift 0.1.

    Attributes
    ----------
    characteristic_mag : float
        M*, absolute.
    slope : float
        alpha, of the faint end.
    mean_colour : float
        Mean of galaxies: magnitude in this band - magnitude in the survey's magnitude band.
    """

    characteristic_mag: float
    slope: float
    mean_colour: float


@dataclass(frozen=True)
class Population:
    """The laws by which a plan draws galaxies, nuclei and skies. By default, those of the demonstration.

    The stars of one galaxy are a `spectra.StellarPopulation`. All magnitudes are in the survey's magnitude band.

    Attributes
    ----------
    bright_mag, faint_mag : float
        The brightest and the faintest galaxy.
    main_sample_mag : float, optional
        The faint end of SDSS's main galaxy sample: all brighter galaxies are in MPA-JHU, and no fainter ones. A share
        ``training_fraction`` of the galaxies is brighter, and so are all emission-line galaxies and active nuclei,
        which are known by their lines. It goes with a luminosity function. None: membership in MPA-JHU does not depend
        on magnitude.
    widest_line : float
        Largest observed equivalent width of an XELG's strongest group, Angstrom.
    nitrogen : (float, float), optional
        Range of log([NII]6583 / Halpha) of the XELGs, uniform. It gives [OIII] + Hbeta over Halpha + [NII]
        (`spectra.excitation_ratio`); within each group the lines keep the shares of `spectra.LINES`. None: either group
        is the stronger one equally often, and the other has half to all of its width.
    shallow_percent : float, optional
        Percentage of patches that would be shallower than the survey's limit in a band; it sets the scatter of depth.
        The patches drawn are the others. None: depths scatter by 0.15 mag in every band.
    luminosity_function : LuminosityFunction, optional
        Gives magnitudes and redshifts together, between the redshift limits. None: numbers rise as 10^(0.6 m) down to
        the faintest magnitude, and fainter galaxies are farther away by a law of their own.
    colours_by_luminosity : bool
        The luminosity sets how likely a galaxy is red, and how red or blue it is (`colours`); it needs a luminosity
        function. False: a third of the galaxies are red, and colours depend on nothing else.
    type1_by_luminosity : bool
        Nuclei of type-I AGN are drawn by luminosity. False: by their share of the light.
    type2_width : (float, float)
        [OIII] + Hbeta of a type-II nucleus at rest, Angstrom.
    fibre_arcsec : float, optional
        Diameter of the fibre that measured the nuclear lines of type-II AGN: these are as strong as the fibre sees them
        over the stars inside it, and lines of star formation are spread over the disk. None: all lines of type-II AGN
        are at the centre, and their widths are over all stars.
    reddened_quasars : bool
        Dust reddens the nuclei of quasars, by any amount up to the colour of their host. False: all are as blue as an
        unobscured quasar.
    weak_lines : bool
        The images show [NeIII] and [SII], as the tables of spectra always do.
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
