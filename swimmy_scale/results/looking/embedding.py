"""A UMAP of features, for the map of a report: arrays in, arrays out. Needs umap-learn, the extra ``umap``."""

from __future__ import annotations

import sys
import warnings
from typing import Any

import numpy as np

from swimmy_scale.errors import SwimmyError, check_installed
from swimmy_scale.method.descriptor import nearest_of_each
from swimmy_scale.method.survey import DoubleArray, FloatArray

N_NEIGHBOURS = 15
"""That each object is to be near to, itself among them: UMAP's own default."""
N_LEAST = 2 * N_NEIGHBOURS
SEED = 0


def check_embedding(n_objects: int) -> None:
    """Refuse a UMAP that cannot be made, before anything else is.

    Raises
    ------
    SwimmyError
        When umap-learn is not installed, or there are too few objects.
    """
    check_installed("a map by UMAP", "umap", "umap")
    if n_objects < N_LEAST:
        raise SwimmyError(
            f"--map umap: the sample has {n_objects} objects, and a UMAP needs {N_LEAST}. Make the report with --map "
            "pca."
        )


def embedded(values: FloatArray) -> DoubleArray:
    """Place objects in a plane by UMAP (McInnes, Healy & Melville 2018), near to those that they are most like.

    The neighbours are exact (see `descriptor.nearest_of_each`), the beginning is the two principal components, and
    one thread follows one seed: the same values give the same bytes on one machine.

    Parameters
    ----------
    values : ndarray of float32, shape (n, k)
        From `descriptor.standardise`, without NaN; n at least ``N_LEAST``.

    Returns
    -------
    ndarray of float64, shape (n, 2)
        All 0 if all objects are equal.
    """
    if not (values != values[0]).any():
        return np.zeros((len(values), 2))  # nothing to tell objects apart by, and UMAP would divide by it
    umap = _library()
    others, distance = nearest_of_each(values, N_NEIGHBOURS - 1)
    rows = np.column_stack([np.arange(len(values)), others]).astype(np.int32)
    euclidean = np.column_stack([np.zeros(len(values)), distance * np.sqrt(values.shape[1])]).astype(np.float32)
    with warnings.catch_warnings():
        # Nothing is placed later, so that the neighbours need no index.
        warnings.filterwarnings("ignore", message="precomputed_knn")
        fitted = umap.UMAP(
            n_neighbors=N_NEIGHBOURS,
            init="pca",
            random_state=SEED,
            n_jobs=1,
            precomputed_knn=(rows, euclidean),
            # Else it leaves the neighbours of few objects aside, and finds them anew.
            force_approximation_algorithm=True,
        ).fit(values)
    found: DoubleArray = fitted.embedding_.astype(np.float64)
    return found


def _library() -> Any:
    """The module ``umap``, without the TensorFlow that it loads where there is one, and that only another of its
    classes needs."""
    is_loaded = "tensorflow" in sys.modules
    if not is_loaded:
        sys.modules["tensorflow"] = None  # type: ignore[assignment]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import umap
    finally:
        if not is_loaded:
            del sys.modules["tensorflow"]
    return umap
