"""A job and a site file to start from, with the user's paths in them."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from string import Template
from typing import Literal, get_args

from swimmy_scale.errors import SwimmyError, typed
from swimmy_scale.library.data_forms import DATA_FORMS
from swimmy_scale.method.named_surveys import read_survey
from swimmy_scale.method.survey import HSC
from swimmy_scale.storage.files import write_atomically

DATA = ("hsc-archive", "coadds", "cube", *DATA_FORMS)
"""What pixels may be."""
SiteKind = Literal["local", "slurm", "slurm-gpu"]
MAX_OBJECTS = 20_000
"""To train on: a limit that keeps time and memory of a first training in bounds."""


HSC_FWHM_ARCSEC = ("0.79", "0.75", "0.61", "0.68", "0.68")
"""An example of the seeing, by band."""


def _text(path: Path, folder: Path) -> str:
    """A path as a file in ``folder`` has it, relative if it was given so, in quotes where YAML needs them."""
    place = str(path) if path.is_absolute() else os.path.relpath(path, folder)
    is_plain = all(letter.isalnum() or letter in "/._-" for letter in place) and place[0] not in "-"
    return place if is_plain else json.dumps(place, ensure_ascii=False)


def _pixels(data: str, sources: Sequence[Path], coadd: Mapping[str, Path], folder: Path) -> str:
    listed = ", ".join(_text(path, folder) for path in sources)
    if data in DATA_FORMS:
        return f"  sources: [{listed or DATA_FORMS[data].source}]\n{DATA_FORMS[data].pixels}"
    if data == "coadds":
        images = coadd or {band: Path(folder, f"coadd-{band}.fits") for band in HSC.bands}
        lines = [f"    {band}: {_text(path, folder)}\n" for band, path in images.items()]
        return "".join(["  coadd:                                # one image a band, with its WCS\n", *lines])
    if data == "cube":
        return (
            f"  sources: [{listed or 'cube.h5'}]\n  kind: cube\n"
            "  # Zarr, HDF5 or .npy: image (object, band, y, x) in counts, in the order of the catalogue's rows.\n"
        )
    return (
        f"  sources: [{listed or 'cutouts'}]\n"
        "  # Folders and tars of the cutout service. Joined by line number, object_id or position in the names.\n"
        "  # name_pattern: '(?P<object_id>[0-9]+)_(?P<band>[grizy])'    # for other names\n"
    )


def _seeing(data: str, patch_qa: Path | None, folder: Path) -> str:
    survey = DATA_FORMS[data].survey if data in DATA_FORMS else "hsc"
    bands = read_survey(survey)["survey"]["bands"]
    values, note = (HSC_FWHM_ARCSEC, "") if survey == "hsc" else (("1.0",) * len(bands), "    # fill in")
    if patch_qa is not None:
        return f"  patch_qa: {_text(patch_qa, folder)}\n  # Seeing and depth of the catalogue's patches.\n"
    return (
        f"  # Seeing: columns fwhm_arcsec_{bands[0]} ... of the catalogue, or one of these\n"
        "  # patch_qa: patch_qa.fits             # {band}seeing and {band}mag_psf_depth by tract and patch\n"
        f"  # fwhm_arcsec: {{{', '.join(f'{band}: {fwhm}' for band, fwhm in zip(bands, values, strict=True))}}}{note}\n"
    )


def _catalogue(data: str, catalogue: Path | None, patch_qa: Path | None, folder: Path) -> str:
    """The section of the catalogue, which some data have inside."""
    inside = DATA_FORMS[data].catalogue if data in DATA_FORMS and catalogue is None else ""
    if inside:
        return f"catalogue:\n{inside}" + ("" if patch_qa is None else _seeing(data, patch_qa, folder))
    return (
        f"catalogue:\n  path: {_text(catalogue or folder / 'catalogue.fits', folder)}\n"
        "  # FITS, Parquet, CSV(.gz), VOTable or ECSV: object_id, ra, dec, magnitudes, flags, by the names of the HSC "
        "tables.\n"
        "  # columns: {redshift: z_spec}         # ours: theirs, where names differ\n"
        "  # keep_columns: [i_cmodel_mag]        # to carry over into the candidate catalogue\n"
        f"{_seeing(data, patch_qa, folder)}"
    )


def _survey(data: str) -> str:
    """The survey by name, or how to describe another one."""
    if data in DATA_FORMS:
        return f"survey: {DATA_FORMS[data].survey}          # `base: {DATA_FORMS[data].survey}` to change some values\n"
    return (
        "# survey:                               # of another camera than HSC: what is left out is HSC's\n"
        "#   bands: [g, r, i, z, y]              # in the order of the network\n"
        "#   zero_point_mag: 27.0                # of the counts\n"
        "#   pixel_scale_arcsec: 0.168\n"
        "#   target_fwhm_arcsec: 1.0             # all bands are brought to this seeing; worse ones are quarantined\n"
    )


def _sample(data: str) -> str:
    """The cuts, where the paper's are not for these data."""
    if data in DATA_FORMS and DATA_FORMS[data].sample:
        return f"sample:\n  # Which objects set the thresholds and can be candidates.\n{DATA_FORMS[data].sample}"
    return (
        "# sample:                               # which objects set the thresholds and can be candidates; the paper's "
        "by default\n"
        "#   max_magnitude: 20.0\n"
        "#   redshift: [0.05, 0.2]\n"
        "#   colours: [[g, r, 1.2], [r, z, 1.0]]\n"
    )


def init(
    folder: Path,
    data: str = "hsc-archive",
    site: SiteKind = "local",
    *,
    catalogue: Path | None = None,
    patch_qa: Path | None = None,
    sources: Sequence[Path] = (),
    coadd: Mapping[str, Path] | None = None,
    classes: Sequence[str] = (),
) -> dict[str, Path]:
    """Write ``job.yaml`` and ``site.yaml`` to a folder; paths that are not given have a name to be filled in.

    Parameters
    ----------
    folder : Path
        Made if it is missing.
    data : str
        What the pixels are.
    site : str
        Where jobs run.
    catalogue, patch_qa, sources, coadd
        As the job's sections ``catalogue`` and ``ingest`` have them. Relative paths stay relative.
    classes : sequence of str
        The classes to train on; by default every galaxy of the sample.

    Returns
    -------
    dict of str to Path
        The files, by ``job`` and ``site``.

    Raises
    ------
    SwimmyError
        When one of them is there already, or paths are given that such data do not have.
    """
    if data not in DATA or site not in get_args(SiteKind):
        raise SwimmyError(
            f"there are templates of data {', '.join(DATA)} and of sites {', '.join(get_args(SiteKind))}, "
            f"and not of {data} and {site}. Choose among them."
        )
    if coadd and data != "coadds":
        raise SwimmyError(f"--coadd goes with --data coadds, and the data are {data}. Leave one of them out.")
    if sources and data == "coadds":
        raise SwimmyError("coadds are given one a band, by --coadd g=g.fits. Leave --source out.")
    files = {name: folder / f"{name}.yaml" for name in ("job", "site")}
    if there := [str(path) for path in files.values() if path.exists()]:
        raise SwimmyError(f"{', '.join(there)}: there already, and not replaced. Choose another folder.")
    templates = resources.files(__package__) / "templates"
    text = Template((templates / files["job"].name).read_text()).substitute(
        PLAN=typed("plan", files["job"]),
        RUN=typed("run", files["job"], "--output", folder / "run"),
        NAME=json.dumps(folder.absolute().name, ensure_ascii=False),
        CATALOGUE=_catalogue(data, catalogue, patch_qa, folder),
        SURVEY=_survey(data),
        SAMPLE=_sample(data),
        PIXELS=_pixels(data, sources, coadd or {}, folder),
        CLASSES=f"[{', '.join(json.dumps(name, ensure_ascii=False) for name in classes)}]",
        MAX_OBJECTS=MAX_OBJECTS,
    )
    write_atomically(files["job"], text.encode())
    write_atomically(files["site"], (templates / f"{site}.yaml").read_bytes())
    return files
