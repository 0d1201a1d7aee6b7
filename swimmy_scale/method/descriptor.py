"""What an object looks like, in numbers: its residuals by band and ring, which learning and similarity compare.

In trials on simulated surveys the residuals of three rings within the aperture told planted classes apart better than
scores and residuals of the whole aperture, and as well as all of them together; the network's latent values added
nothing. The windows that are scored hold these pixels anyway.
"""

from __future__ import annotations

import numpy as np

from swimmy_scale.method.survey import AnyArray, BoolArray, DoubleArray, FloatArray, IntArray, Survey

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


def standardise(values: FloatArray, in_sample: BoolArray) -> None:
    """Turn features, in place, into units of their standard deviation in a sample, from its mean.

    Beside the array itself only a block of it is in memory. The bits depend on the rows of the sample alone, not on
    those between them.

    Parameters
    ----------
    values : ndarray of float32, shape (n, k)
        They are between -``FAR`` and ``FAR`` afterwards, NaN where they were; unchanged if the sample is empty.
    in_sample : ndarray of bool, shape (n,)
        Rows without NaN.
    """
    moments, rows = Moments(values.shape[1]), np.flatnonzero(in_sample)
    for lo in range(0, len(rows), BLOCK_OBJECTS):
        moments.add(values[rows[lo : lo + BLOCK_OBJECTS]])
    for lo in range(0, len(values) if len(rows) else 0, BLOCK_OBJECTS):
        block = values[lo : lo + BLOCK_OBJECTS]
        block[:] = scaled(block, moments.mean, moments.spread)


def scaled(values: FloatArray, mean: DoubleArray, spread: DoubleArray) -> FloatArray:
    """Features as `standardise` makes them, by the mean and the standard deviation of a sample, each of shape (k,)."""
    moved = (values - mean.astype(np.float32)) / np.where(spread > 0.0, spread, 1.0).astype(np.float32)
    clipped: FloatArray = np.clip(moved, -FAR, FAR)
    return clipped


class Moments:
    """Mean and covariance of the rows of many blocks, which need not be in memory at once.

    Blocks are added one by one with their own mean (Chan, Golub & LeVeque 1983), in float64; the same blocks in the
    same order give the same bits. ``n_rows`` is the number of rows.
    """

    def __init__(self, n_features: int) -> None:
        self.n_rows = 0
        self.mean: DoubleArray = np.zeros(n_features)
        self._products: DoubleArray = np.zeros((n_features, n_features))

    def add(self, block: FloatArray) -> None:
        """Count rows, float32 (m, n_features), without NaN."""
        if not len(block):
            return
        own = block.mean(axis=0, dtype=np.float64)
        offset = block - own
        step, n_rows = own - self.mean, self.n_rows + len(block)
        # einsum adds up in one order for any number of threads; a matrix product need not.
        self._products += np.einsum("ij,ik->jk", offset, offset)
        self._products += np.outer(step, step) * (self.n_rows * len(block) / n_rows)
        self.mean = self.mean + step * (len(block) / n_rows)
        self.n_rows = n_rows

    @property
    def covariance(self) -> DoubleArray:
        """Float64 (n_features, n_features), divided by the number of rows; zeros where there are none."""
        return self._products / max(self.n_rows, 1)

    @property
    def spread(self) -> DoubleArray:
        """Standard deviation of each feature, float64 (n_features,)."""
        return np.sqrt(np.diag(self.covariance))


def principal_axes(covariance: DoubleArray, n_axes: int) -> tuple[DoubleArray, DoubleArray]:
    """The directions in which a sample varies most, the first most of all.

    Parameters
    ----------
    covariance : ndarray of float64, shape (k, k)

    Returns
    -------
    axes : ndarray of float64, shape (n_axes, k)
        Of length 1; the largest weight of each is positive.
    share : ndarray of float64, shape (n_axes,)
        Of the variance; 0 where there is none.
    """
    variance, vectors = np.linalg.eigh(covariance)
    axes = vectors.T[::-1][:n_axes]
    largest = np.take_along_axis(axes, np.abs(axes).argmax(axis=1)[:, None], axis=1)
    total = float(variance.sum())
    share = np.maximum(variance[::-1][:n_axes], 0.0) / total if total > 0.0 else np.zeros(n_axes)
    return axes * np.where(largest < 0.0, -1.0, 1.0), share


def nearest(values: FloatArray, row: int, n_nearest: int) -> tuple[IntArray, DoubleArray]:
    """The objects that are most like one of them: exact, by the Euclidean distance.

    Parameters
    ----------
    values : ndarray of float32, shape (n, k)
        From `standardise`. Rows with a NaN are like nothing.
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


def nearest_of_each(values: FloatArray, n_nearest: int) -> tuple[IntArray, DoubleArray]:
    """For each of some objects those of the others that are most like it, as `nearest` finds them one by one.

    The time grows with the square of their number: 10,000 objects of 15 features take some seconds.

    Parameters
    ----------
    values : ndarray of float32, shape (n, k)
        From `standardise`, without NaN.

    Returns
    -------
    rows : ndarray of int64, shape (n, m), m = min(``n_nearest``, n - 1)
        Nearest first; of equal distances the lower row first.
    distance : ndarray of float64, shape (n, m)
    """
    n_found = max(min(n_nearest, len(values) - 1), 0)
    rows, distance = np.zeros((len(values), n_found), np.int64), np.zeros((len(values), n_found))
    if not n_found:
        return rows, distance
    columns, places = np.ascontiguousarray(values.T), np.arange(len(values), dtype=np.uint64)
    step = max((1 << 21) // len(values), 1)
    for lo in range(0, len(values), step):
        block = values[lo : lo + step]
        squared = np.zeros((len(block), len(values)), np.float32)
        for column, own in zip(columns, block.T, strict=True):
            difference = column[None, :] - own[:, None]
            squared += np.multiply(difference, difference, out=difference)
        squared[np.arange(len(block)), lo + np.arange(len(block))] = np.inf
        # Bits of floats that are not negative are in their order: one key sorts by distance, then by row.
        keys = (squared.view(np.uint32).astype(np.uint64) << np.uint64(32)) | places
        keys = np.sort(np.partition(keys, n_found - 1, axis=1)[:, :n_found], axis=1)
        rows[lo : lo + step] = (keys & np.uint64(0xFFFFFFFF)).astype(np.int64)
        found = (keys >> np.uint64(32)).astype(np.uint32).view(np.float32)
        distance[lo : lo + step] = np.sqrt(found.astype(np.float64) / values.shape[1])
    return rows, distance
