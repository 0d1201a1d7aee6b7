"""A survey as like the paper's as its text allows. Each number names its place in Tanaka et al., or says it has none.

None was chosen by what the method makes of it.
"""

from __future__ import annotations

import math

from swimmy_scale.simulate.plan import FIRST_TRACT, SimulationPlan
from swimmy_scale.simulate.population import LuminosityFunction, Population
from swimmy_scale.simulate.spectroscopy import (
    NORMAL_AS_TYPE2,
    QUASARS_AS_GALAXIES,
    TYPE1_IN_MILLIQUAS,
    TYPE2_IN_MILLIQUAS,
)

# Table 1, section 2.2: the test data and its classes.
N_TEST_DATA, N_MPA_JHU, N_XELG, N_DR16Q = 49_319, 25_714, 701, 23
# Table 4, section 4.2: counterparts in Milliquas that are not in DR16Q.
N_MILLIQUAS_QUASAR, N_MILLIQUAS_TYPE1, N_MILLIQUAS_TYPE2 = 23, 286, 580

POPULATION = Population(
    # Figure 12: magnitudes from 14.
    bright_mag=14.0,
    # Appendix 3: SDSS's main sample has r < 17.8. In the i band, with the simulated galaxies' mean r - i of 0.4.
    main_sample_mag=17.4,
    # Section 2.2: the others have redshifts from SDSS and GAMA DR3, whose main survey ends at r < 19.8 (Baldry et al.
    # 2018). In the i band, again with r - i of 0.4.
    faint_mag=19.4,
    # Not in the text: the luminosity function of SDSS's main sample in r (Blanton et al. 2003: M* - 5 log h = -20.44,
    # slope -1.05), with h = 0.7 (section 1).
    luminosity_function=LuminosityFunction(-20.44 + 5.0 * math.log10(0.7), -1.05, mean_colour=0.4),
    colours_by_luminosity=True,
    type1_by_luminosity=True,
    # Section 4.2: active nuclei have an observed EW_r < 20 Angstrom, and [OIII] is in r at z > 0.1. The ratio of the
    # widest to the weakest is the demonstration's.
    type2_width=(5.0, 20.0 / 1.2),
    # Section 4.3: SDSS's fibres of 3 arcsec.
    fibre_arcsec=3.0,
    # Figure 9: its axis of EW_band ends beyond the last label, 400 Angstrom. The law of the widths is not in the text.
    widest_line=500.0,
    # Not in the text: log([NII]/Halpha) of star-forming galaxies, from metal-poor dwarfs to spirals of solar abundance.
    # By the locus of Kewley et al. 2013 (ApJ 774, 100) their [OIII] is 4.7 to 0.16 Hbeta.
    nitrogen=(-1.5, -0.4),
    # Section 2.1: the depth limits are 5th percentiles, and shallower patches were dropped.
    shallow_percent=5.0,
    # Section 4.1: the quasars that are not selected have a clear nucleus in i and no excess in g.
    reddened_quasars=True,
    weak_lines=True,
)

# Not in the text, so as in the demonstration: mergers, and the two kinds of artefacts that appendix 2 describes.
MERGERS, ARTEFACTS = 0.03, (0.003, 0.003)
# Not in the text. With these, about as many of 50,000 catalogue rows pass the cuts as the paper has test data.
FAULTY_FRACTION, CUT_FRACTION = 0.002, 0.0116


def paper_plan(
    n_objects: int, seed: int, faulty_fraction: float = FAULTY_FRACTION, first_tract: int = FIRST_TRACT
) -> SimulationPlan:
    """The plan of a survey of any size like the paper's. In a small one rare classes are a handful of objects."""
    quasars = N_DR16Q + N_MILLIQUAS_QUASAR
    type1 = N_MILLIQUAS_TYPE1 / TYPE1_IN_MILLIQUAS
    # Milliquas' narrow-line objects are active nuclei and a few normal galaxies: 580 = share x type2 + few x normal.
    others = N_TEST_DATA * (1.0 - MERGERS - sum(ARTEFACTS)) - N_XELG - quasars - type1
    type2 = (N_MILLIQUAS_TYPE2 - NORMAL_AS_TYPE2 * others) / (TYPE2_IN_MILLIQUAS - NORMAL_AS_TYPE2)
    known_by_lines = N_XELG + type1 + type2
    return SimulationPlan(
        n_objects=n_objects,
        seed=seed,
        faulty_fraction=faulty_fraction,
        cut_fraction=CUT_FRACTION,
        xelg_fraction=N_XELG / N_TEST_DATA,
        quasar_fraction=quasars / N_TEST_DATA,
        type1_agn_fraction=type1 / N_TEST_DATA,
        type2_agn_fraction=type2 / N_TEST_DATA,
        merger_fraction=MERGERS,
        artefact_zero_point_fraction=ARTEFACTS[0],
        artefact_saturated_fraction=ARTEFACTS[1],
        training_fraction=(N_MPA_JHU - known_by_lines - QUASARS_AS_GALAXIES * quasars)
        / (N_TEST_DATA - known_by_lines - quasars),
        population=POPULATION,
        first_tract=first_tract,
    )
