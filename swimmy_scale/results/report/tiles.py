"""Pictures of candidates: rows of tiles, several rows in one image, so that the report needs few files."""

from __future__ import annotations

import io
from dataclasses import dataclass

import matplotlib
import numpy as np
import numpy.typing as npt
from PIL import Image

from swimmy_scale.method.survey import FloatArray, Survey
from swimmy_scale.results.composites import three_colours
from swimmy_scale.results.style import RESIDUAL_COLOURS

ROWS_PER_SHEET = 8
QUALITY = 80
"""Of the JPEG files. On simulated HSC cutouts a candidate takes 11 kB, and colours change by 2 of 255 in composites and
by 7 in residual maps, root mean square (`benchmarks/report.py`)."""

Pixels = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Tile:
    """What one column of the rows shows.

    Attributes
    ----------
    kind : str
        ``source`` or ``reconstruction``, a composite, or ``residual``, a map.
    name : str
        Bands of a composite, the bluest first ("gri"), or the band of a map.
    bands : tuple of int
        Positions on the band axis; of a composite red, green and blue.
    """

    kind: str
    name: str
    bands: tuple[int, ...]


def layout(survey: Survey) -> tuple[Tile, ...]:
    """The tiles of a row: composites of the source, the same of the reconstruction, a residual map of each band.

    A composite shows three neighbouring bands, the reddest as red: gri, riz, izy. A survey of one or two bands has one
    composite, their mean as grey.
    """
    n_bands = survey.n_bands
    windows = [tuple(range(start, start + 3)) for start in range(n_bands - 2)] or [tuple(range(n_bands))]
    composites = [("".join(survey.bands[band] for band in window), window[::-1]) for window in windows]
    tiles = [Tile(kind, name, bands) for kind in ("source", "reconstruction") for name, bands in composites]
    return (*tiles, *(Tile("residual", band, (place,)) for place, band in enumerate(survey.bands)))


def residual_colours() -> Pixels:
    """Colours of the residual maps from -limit to limit, uint8 (256, 3): blue is too faint, red too bright."""
    shares = matplotlib.colormaps[RESIDUAL_COLOURS](np.linspace(0, 1, 256))[:, :3]
    colours: Pixels = np.round(shares * 255).astype(np.uint8)
    return colours


def rows_of_tiles(source: FloatArray, reconstruction: FloatArray, limit: float, survey: Survey) -> Pixels:
    """One row of tiles for each object.

    Parameters
    ----------
    source, reconstruction : ndarray of float32, shape (n, n_bands, size, size), in [0, 1]
        Preprocessed cutouts (equations 1 and 2) and the network's output. NaN is black in composites, white in maps.
    limit : float
        The colours go from a residual of -limit to one of limit.

    Returns
    -------
    ndarray of uint8, shape (n, size, n_tiles * size, 3)
        North is up: the first row of a picture is the last of the array.
    """
    colours = residual_colours()
    planes = {"source": source, "reconstruction": reconstruction}
    pictures = []
    for tile in layout(survey):
        if tile.kind == "residual":
            share = np.nan_to_num((source - reconstruction)[:, tile.bands[0]] / np.float32(limit))
            pictures.append(colours[np.round((np.clip(share, -1, 1) + 1) * 127.5).astype(np.intp)])
        else:
            composite = three_colours(planes[tile.kind][:, band] for band in tile.bands)
            pictures.append(np.round(composite * 255).astype(np.uint8))
    rows: Pixels = np.concatenate([picture[:, ::-1] for picture in pictures], axis=2)
    return rows


def sheet(rows: Pixels) -> bytes:
    """A JPEG of rows of tiles, one below the other; the same rows give the same bytes.

    Colours are not subsampled, and cutouts measure a multiple of 8 px: no block of the JPEG crosses a tile, so tiles do
    not bleed into each other.
    """
    picture = Image.fromarray(rows.reshape(-1, *rows.shape[2:]))
    stream = io.BytesIO()
    picture.save(stream, format="JPEG", quality=QUALITY, subsampling=0, optimize=True)
    return stream.getvalue()
