"""Pixels of some objects, chunk by chunk: counts as stored, and what the network is given and makes of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from swimmy_scale.method.preprocess import preprocess
from swimmy_scale.method.survey import FloatArray, IntArray
from swimmy_scale.model.scoring import reconstructor, scoring_of
from swimmy_scale.storage.cutouts import Cutouts
from swimmy_scale.storage.selection import SelectedRun

Reconstruction = Callable[[FloatArray], FloatArray]


@dataclass(frozen=True)
class Pixels:
    """Pixels of the objects of one chunk.

    Attributes
    ----------
    places : slice
        Which of the rows that were asked for.
    counts : ndarray of float32, shape (m, band, y, x), counts
        As stored.
    fwhm_arcsec : ndarray of float32, shape (m, band)
    mag : ndarray of float32, shape (m, band), AB
    """

    places: slice
    counts: FloatArray
    fwhm_arcsec: FloatArray
    mag: FloatArray


def pixels_of(store: Cutouts, rows: IntArray) -> Iterator[Pixels]:
    """Pixels of rows, ascending. Each chunk is read once, and one is in memory."""
    for places, (counts, fwhm, mag) in store.chunks_of(rows, "image", "fwhm_arcsec", "mag"):
        yield Pixels(places, counts, fwhm, mag)


def reconstruction_of(selected: SelectedRun, n_threads: int = 1) -> Reconstruction:
    """The run's network, which reconstructs preprocessed cutouts (see `reconstructor`)."""
    return reconstructor(scoring_of(selected.run, selected.job, n_threads))


def source_and_reconstruction(
    pixels: Pixels, store: Cutouts, reconstruction: Reconstruction
) -> tuple[FloatArray, FloatArray]:
    """Preprocessed cutouts in [0, 1] and the network's output, both float32 (m, band, y, x)."""
    source = preprocess(pixels.counts, pixels.fwhm_arcsec, store.survey)
    return source, reconstruction(source)
