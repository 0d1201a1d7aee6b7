"""A run directory of two small stores, written without the stages."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from survey_runs import write_job, write_selection

from swimmy_scale.method.survey import HSC
from swimmy_scale.storage.creation import create
from swimmy_scale.storage.cutouts import cutouts_layout
from swimmy_scale.storage.layout import Layout
from swimmy_scale.storage.scores import scores_layout
from swimmy_scale.storage.store import write_partition

N = 20
LEVELS = ("2sigma", "3sigma")
OBJECT_ID = np.arange(N, dtype=np.int64) * 3 + 2**60 + 1
RA = (np.linspace(0, 7, N) + 356.5) % 360
DEC = np.linspace(-2, 2, N)


def filled(layout: Layout, path: Path, **given: np.ndarray) -> None:
    """Write every partition of a store; variables that are not given are random."""
    rng = np.random.default_rng(1)
    create(path, layout)
    for partition in range(layout.n_partitions):
        rows = layout.rows(partition)
        columns = {}
        for variable in layout.variables:
            shape = layout.shape(variable, len(rows))
            if variable.name in given:
                columns[variable.name] = given[variable.name][rows.start : rows.stop]
            elif variable.name == "quarantine_code":
                columns[variable.name] = np.zeros(shape, np.uint8)
            elif variable.dtype == "string":
                columns[variable.name] = np.full(shape, "training")
            else:
                columns[variable.name] = rng.normal(size=shape).astype(variable.dtype)
        write_partition(path, layout, partition, columns)


def flags(n_levels: int = len(LEVELS)) -> np.ndarray:
    found = np.zeros((N, n_levels, HSC.n_bands), bool)
    found[[2, 5, 11], 0, 0] = found[5, 1, 2] = found[19, 0, 1] = True
    return found


def make_run(folder: Path, models: tuple[str, ...] = (), **job: Any) -> Path:
    """A run directory of two small stores, without the stages."""
    folder.mkdir(parents=True)
    write_job(folder / "job.yaml", folder, **job)
    columns = {"object_id": OBJECT_ID, "ra": RA, "dec": DEC}
    cutouts = cutouts_layout(N, HSC, {"z_spec": "float64"}, 8, 4, {"simulated": True, "available_columns": []})
    filled(cutouts, Path(job.get("cutouts") or folder / "cutouts.zarr"), **columns)
    layout = scores_layout(
        N,
        cutouts.attrs["survey"],
        HSC,
        {"z_spec": "float64"},
        8,
        4,
        {"model_sha256": "ab", "simulated": True, "cutouts": "cutouts.zarr"},
        models,
    )
    filled(layout, folder / "scores.zarr", **columns)
    values = {"in_sample": np.ones(N, bool), "threshold": np.ones((2, HSC.n_bands)), "candidate": flags()}
    if models:
        combined = np.ones((N, HSC.n_bands), np.float32)
        values |= {"combined_score": combined, "combined_residual": combined}
    write_selection(folder / "scores.zarr", LEVELS, **values)
    return folder
