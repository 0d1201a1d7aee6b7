"""What an object looks like, in numbers: its residuals by band and ring, which learning and similarity compare.

In trials on simulated surveys the residuals of three rings within the aperture told planted classes apart better than
scores and residuals of the whole aperture, and as well as all of them together; the network's latent values added
nothing. The windows that are scored hold these pixels anyway.
"""

from __future__ import annotations

import numpy as np

from swimmy_scale.method.survey import AnyArray, DoubleArray, FloatArray, IntArray, Survey

N_RINGS = 3
DESCRIPTOR_VERSION = 1
"""Of the meaning of a descriptor. Scores with another one are other scores."""
DESCRIPTOR = "source minus reconstruction, summed over rings of the aperture from inside out; mean of the models"
LARGEST = float(np.finfo(np.float16).max)
# A distance beyond this many spreads says no more than that it is far.
FAR = 10.0
# Rows whose distances are computed at once.
BLOCK_OBJECTS = 1 << 16


def ring_of_pixel(survey: Survey) -> IntArray:
    """In which ring of the central aperture each pixel lies.

    The rings are equally wide: for the paper's aperture of 6 px they begin 0, 1 and 2 px from the centre, and have 4,
    8 and 20 pixels.

    Returns
    -------
    ndarray of int64, shape (cutout_size_px, cutout_size_px), axes (y, x)
        0 for the innermost ring to ``N_RINGS`` - 1; -1 outside of the aperture.
    """
    offset = np.arange(survey.cutout_size_px) - survey.center_px
    distance = np.hypot(offset[:, None], offset[None, :]) / (survey.aperture_diameter_px / 2.0)
    ring = np.minimum((distance * N_RINGS).astype(np.int64), N_RINGS - 1)
    return np.where(survey.aperture(), ring, -1)


def feature_names(survey: Survey) -> tuple[str, ...]:
    """Names of the numbers of a descriptor, in order: ``residual_g_ring_1`` is that of the innermost ring in g."""
    return tuple(f"residual_{band}_ring_{k + 1}" for band in survey.bands for k in range(N_RINGS))


def descriptor(ring_residual: FloatArray) -> AnyArray:
    """The descriptor of each object.

    Parameters
    ----------
    ring_residual : ndarray of float32, shape (n, n_models, n_bands, N_RINGS)
        Sums of source - reconstruction over each ring.

    Returns
    -------
    ndarray of float16, shape (n, n_bands * N_RINGS)
        Mean of the models, in the order of `feature_names`. NaN where a value is.
    """
    mean = ring_residual.mean(axis=1, dtype=np.float64).reshape(len(ring_residual), -1)
    return np.clip(mean, -LARGEST, LARGEST).astype(np.float16)


def features(score: FloatArray, residual: FloatArray, descriptor: AnyArray | None) -> FloatArray:
    """The numbers by which objects are compared.

    Parameters
    ----------
    score, residual : ndarray of float32, shape (n, n_bands)
    descriptor : ndarray of float16, shape (n, n_features), optional
        As `descriptor` makes it.

    Returns
    -------
    ndarray of float32, shape (n, k)
        The descriptor; if there is none, the logarithm of the scores and the residuals. NaN where a value is.
    """
    if descriptor is not None:
        return descriptor.astype(np.float32)
    return np.concatenate([np.log10(np.maximum(score, np.float32(1e-9))), residual], axis=1)


def standardised(values: FloatArray, sample: FloatArray) -> FloatArray:
    """Features in units of their standard deviation in a sample, from its mean.

    Parameters
    ----------
    values : ndarray of float32, shape (n, k)
    sample : ndarray of float32, shape (m, k)
        Without NaN. If it is empty, the values are returned as they are.

    Returns
    -------
    ndarray of float32, shape (n, k)
        Between -``FAR`` and ``FAR``; NaN where a value is.
    """
    if not len(sample):
        return values
    mean, spread = sample.mean(axis=0, dtype=np.float64), sample.std(axis=0, dtype=np.float64)
    scaled = (values - mean.astype(np.float32)) / np.where(spread > 0.0, spread, 1.0).astype(np.float32)
    clipped: FloatArray = np.clip(scaled, -FAR, FAR)
    return clipped


def nearest(values: FloatArray, row: int, n_nearest: int) -> tuple[IntArray, DoubleArray]:
    """The objects that are most like one of them: exact, by the Euclidean distance.

    Parameters
    ----------
    values : ndarray of float32, shape (n, k)
        From `standardised`. Rows with a NaN are like nothing.
    row : int
    n_nearest : int

    Returns
    -------
    rows : ndarray of int64, shape (m,), m at most ``n_nearest``
        Nearest first, without the object itself; of equal distances the lower row first.
    distance : ndarray of float64, shape (m,)
        Root of the mean square difference of a feature, in spreads.
    """
    squared = np.empty(len(values), np.float32)
    for lo in range(0, len(values), BLOCK_OBJECTS):
        difference = values[lo : lo + BLOCK_OBJECTS] - values[row]
        squared[lo : lo + BLOCK_OBJECTS] = np.einsum("ij,ij->i", difference, difference)
    squared[row] = np.nan
    squared[np.isnan(squared)] = np.inf
    n_found = min(n_nearest, int(np.isfinite(squared).sum()))
    if not n_found:
        return np.zeros(0, np.int64), np.zeros(0)
    limit = np.partition(squared, n_found - 1)[n_found - 1]
    near = np.flatnonzero(squared <= limit)
    order = near[np.argsort(squared[near], kind="stable")][:n_found]
    return order, np.sqrt(squared[order].astype(np.float64) / values.shape[1])
