"""What a job file says of each public data set, to start from."""

from __future__ import annotations

from typing import NamedTuple

_NO_LIMIT = (
    "  max_fwhm_arcsec: null                 # the survey's target, to which all bands are smoothed, is the limit\n"
)
_NO_COLOURS = "  colours: []                           # those of the paper are for g, r and z of HSC\n"


class DataForm(NamedTuple):
    """One of them.

    Attributes
    ----------
    survey : str
        Its name (see `method.named_surveys`).
    source : str
        What its files are called.
    pixels : str
        Lines after ``sources``.
    catalogue : str
        Lines of the section; empty where the catalogue is one of its own.
    sample : str
        Lines of the section; empty for the paper's.
    """

    survey: str
    source: str
    pixels: str
    catalogue: str = ""
    sample: str = ""


INSIDE = "  keep_columns: []                      # the catalogue is inside of the files; columns to carry over\n"
DATA_FORMS = {
    "mmu-hsc": DataForm(
        "hsc",
        "pdr3_dud_22.5",
        "  # MultimodalUniverse's HSC: the folder with healpix=*/001-of-001.hdf5, or its copy in HATS form.\n",
        INSIDE,
    ),
    "galaxiesml": DataForm(
        "hsc",
        "5x64x64_training_with_morphology.hdf5",
        "  # GalaxiesML. Its files say neither bands nor zero point: they are assumed to be the survey's.\n",
        INSIDE
        + "  fwhm_arcsec: {g: 0.77, r: 0.76, i: 0.58, z: 0.68, y: 0.68}   # HSC's median: the files have no PSF\n",
    ),
    "mmu-legacy": DataForm(
        "legacy-south",
        "dr10_south_21",
        "  # MultimodalUniverse's Legacy Survey: the folder with healpix=*/001-of-001.hdf5.\n",
        "  # Sweep columns, in nanomaggies.\n"
        "  columns: {g_cmodel_flux: FLUX_G, r_cmodel_flux: FLUX_R, i_cmodel_flux: FLUX_I, z_cmodel_flux: FLUX_Z}\n"
        "  units: {g_cmodel_flux: nmgy, r_cmodel_flux: nmgy, i_cmodel_flux: nmgy, z_cmodel_flux: nmgy}\n",
        _NO_LIMIT + _NO_COLOURS,
    ),
    "unagi": DataForm("hsc", "cutouts_pdr3_wide_coadd.hdf", "  # What unagi's hsc_bulk_cutout writes.\n"),
    "legacy-viewer": DataForm(
        "legacy-south",
        "cutouts",
        "  # FITS cutouts of the viewer, all bands in one file: cutout_RA_DEC.fits or OBJECTID.fits.\n",
        sample=_NO_LIMIT + _NO_COLOURS,
    ),
    "panstarrs": DataForm(
        "panstarrs",
        "cutouts",
        "  # FITS cutouts of the image service, one file a band: OBJECTID_BAND.fits. Names of panstamps need this:\n"
        "  # name_pattern: '_(?P<band>[grizy])_ra(?P<ra>[0-9.]+)_dec(?P<dec>[-+0-9.]+)_'\n",
        sample=_NO_LIMIT,
    ),
    "kids-viking": DataForm(
        "kids-viking",
        "cutouts",
        "  # FITS cutouts on one grid of 0.339 arcsec, one file a band: OBJECTID_BAND.fits.\n",
        sample=_NO_LIMIT + _NO_COLOURS,
    ),
    "rubin": DataForm(
        "rubin",
        "cutouts",
        "  # FITS cutouts of coadds, one file a band: OBJECTID_BAND.fits.\n"
        "  # psf_from_files: true                # of DP2; needs pip install 'swimmy-scale[rubin]'\n",
        sample=_NO_LIMIT,
    ),
    "euclid": DataForm(
        "euclid",
        "cutana",
        "  # Cutana's folder of batches, written with normalisation_method 'none', data_type 'float32'.\n",
        INSIDE + "  # fwhm_arcsec: {VIS: 0.16, Y: 0.5, J: 0.5, H: 0.5}         # fill in: the files have no PSF\n",
        _NO_LIMIT + _NO_COLOURS,
    ),
}
