"""What the headers of a few cutout files say before all are read: where they lie, and whether they fit the survey."""

from __future__ import annotations

import math

import numpy as np

from swimmy_scale.errors import SwimmyError
from swimmy_scale.ingest.pixels.band_images import any_image
from swimmy_scale.ingest.pixels.contents import contents
from swimmy_scale.ingest.pixels.cutout_files import check_pixel_scale, unpacked
from swimmy_scale.ingest.pixels.file_names import show_name
from swimmy_scale.ingest.pixels.fits_scan import UnusableFileError, find_image, reader_of, scan, whatever_it_raises
from swimmy_scale.ingest.pixels.flux_units import asinh_scale, zero_point
from swimmy_scale.ingest.pixels.header_patterns import HeaderPatterns, Headers
from swimmy_scale.ingest.pixels.listing import Listing
from swimmy_scale.ingest.pixels.sky_map import SkyMap, sky_map
from swimmy_scale.ingest.pixels.uploads import Centres
from swimmy_scale.method.quarantine import Code
from swimmy_scale.method.survey import IntArray, Survey

N_LOOKED_AT = 3


def locate_images(listing: Listing, files: IntArray) -> Centres:
    """Where the images of some files of a source lie; NaN for one that cannot be read or has no world coordinates."""
    ra, dec, reach = (np.full(len(files), np.nan) for _ in range(3))
    places: dict[int, list[int]] = {}
    for place, file in enumerate(files.tolist()):
        places.setdefault(file, []).append(place)
    patterns = HeaderPatterns()
    for file, load in contents(listing.path, listing.packed, listing.files, np.unique(files)):
        try:
            with whatever_it_raises():
                shape, sky = _headers(unpacked(load()), patterns)
                if sky is not None:
                    n_y, n_x = shape
                    at = sky.to_sky(np.array([(n_x - 1) / 2, 0.0]), np.array([(n_y - 1) / 2, 0.0]))
                    reach_arcsec = math.hypot(n_x, n_y) / 2 * max(sky.pixel_scales_arcsec())
        except UnusableFileError:
            continue
        if sky is None:
            continue
        here = places[file]
        ra[here], dec[here] = at[0][0], at[1][0]
        reach[here] = reach_arcsec
    return Centres(ra, dec, reach)


def _headers(data: bytes, patterns: HeaderPatterns) -> tuple[tuple[int, ...], SkyMap | None]:
    """Shape and world coordinates of the image in a file."""
    known = patterns.find(data)
    if known:
        return known.image.image_shape, known.sky
    hdus = scan(reader_of(data), len(data))
    image = find_image(hdus)
    sky = sky_map(image.header)
    patterns.learn(data, hdus, Headers(hdus[0], image, sky, None))
    return image.image_shape, sky


def refuse_misfits(listing: Listing, files: IntArray, survey: Survey) -> None:
    """Refuse a source if the first of its files have another pixel scale, or units that cannot be converted.

    Single files that do not fit are faults of their objects when they are read.

    Raises
    ------
    SwimmyError
        When all of the first `N_LOOKED_AT` files in which an image is found are so.
    """
    wrong: tuple[int, UnusableFileError] | None = None
    first = files[np.argsort(listing.files["offset"][files], kind="stable")][:N_LOOKED_AT]
    for file, load in contents(listing.path, listing.packed, listing.files, first):
        try:
            with whatever_it_raises():
                data = unpacked(load())
                hdus = scan(reader_of(data), len(data))
                image = any_image(hdus, survey)
                check_pixel_scale(sky_map(image.header), survey)
                zero_point(image.cards, hdus[0].cards)
                asinh_scale(image.cards, hdus[0].cards)
        except UnusableFileError as error:
            if error.code in (Code.WRONG_PIXEL_SCALE, Code.WRONG_UNIT):
                wrong = (file, error)
            continue
        return
    if wrong is not None:
        name = show_name(listing.files["name"][wrong[0]])
        raise SwimmyError(f"{listing.path}: {name}: {wrong[1]}. Correct the survey section of the job, or the files.")
