"""Values of a table that say nothing: counted, and NaN from there on."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from swimmy_scale.method.sample import known
from swimmy_scale.method.survey import DoubleArray


class UnknownValues:
    """Makes values of a table that say nothing NaN, and counts them.

    Parameters
    ----------
    n_rows : int
        Rows of the table.
    """

    def __init__(self, n_rows: int) -> None:
        self.n_rows = n_rows
        self._said: list[str] = []

    def nan(self, kind: str, name: str, values: DoubleArray, shown: DoubleArray | None = None) -> DoubleArray:
        """``values`` of a column, NaN where they are unknown (see `sample.known`).

        Parameters
        ----------
        kind : str
            One of `sample.KNOWN_RANGES`.
        shown : ndarray of float64, optional
            The column as the file has it, if that is another quantity.
        """
        is_known = known(kind, values)
        unknown = (values if shown is None else shown)[~is_known]
        if len(unknown):
            numbers, counts = np.unique(unknown[~np.isnan(unknown)], return_counts=True)
            most = numbers[np.argsort(-counts, kind="stable")][:3]
            examples = f", such as {', '.join(f'{number:g}' for number in most)}" if len(most) else ""
            self._said.append(f"{name} {len(unknown)}{examples}")
        return np.where(is_known, values, np.nan)

    def warnings(self, path: Path) -> list[str]:
        """What to say of them: nothing, or one sentence."""
        said = "; ".join(self._said)
        return [f"{path}: values that are unknown, of {self.n_rows} rows: {said}"] if said else []
