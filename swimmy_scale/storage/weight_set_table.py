"""``weight_sets.ecsv``: what each weight set of a training campaign selects, and how it ranks (figure 16)."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from swimmy_scale.errors import SwimmyError, typed
from swimmy_scale.method.candidates import ANY_BAND
from swimmy_scale.method.weight_sets import (
    Judgement,
    WeightSet,
    by_known_classes,
    by_validation_loss,
    first_of_one_network,
)
from swimmy_scale.storage.files import write_atomically

# It takes half a second to import, and workers need none of it.
if TYPE_CHECKING:
    from astropy.table import Table

FORMAT_VERSION = 1
DESCRIPTIONS = {
    "run": "Training run",
    "epoch": "Epoch after which the weights were kept",
    "file": "Relative to the folder of this table",
    "sha256": "Digest of the file",
    "latent_filters": "Filters of the latent space (d)",
    "noise": "Standard deviation of the noise in training (r_gauss)",
    "loss": "Training loss of the epoch",
    "val_loss": "Validation loss after the epoch",
    "n_selected_any": "Objects that set the thresholds and are selected in at least one band",
    "r_sel_sum": "Sum of r_sel over the known classes that have objects",
    "rank_by_validation_loss": "1 is the best",
    "rank_by_known_classes": "1 is the best",
    "chosen_by_validation_loss": "Whether the weights score, or would, where the validation loss chooses",
    "chosen_by_known_classes": "Whether the weights score, or would, where the known classes choose",
}
OF_A_CLASS = {
    "n_": "Objects of class {} in the sample",
    "n_selected_": "Objects of class {} selected in at least one band",
    "r_sel_": "Fraction of class {} selected in at least one band; NaN where the class is empty",
}


def weight_set_table(
    weight_sets: Sequence[WeightSet],
    judgements: Sequence[Judgement],
    known_classes: Sequence[str],
    n_models: int,
    meta: Mapping[str, Any],
    one_a_run: bool = False,
) -> Table:
    """One row a weight set, in the order given.

    Columns are those of `DESCRIPTIONS`, and of `OF_A_CLASS` for each known class.

    Parameters
    ----------
    judgements : sequence of Judgement
        One for each weight set; or none, which leaves out the columns of the known classes.
    n_models, one_a_run : int, bool
        The number of weight sets that are chosen, all of one network; and whether only the best of each training is
        among them.
    meta : mapping
        What was done, as JSON values; ``format_version`` is added.

    Raises
    ------
    SwimmyError
        When there are judgements and no known class has an object.
    """
    from astropy.table import Table

    columns: dict[str, Any] = {}
    for name in ("run", "epoch", "file", "sha256", "latent_filters", "noise", "loss", "val_loss"):
        of_network = name in ("latent_filters", "noise")
        columns[name] = [getattr(item.network if of_network else item, name) for item in weight_sets]
    orders = {"validation_loss": by_validation_loss(weight_sets)}
    if judgements:
        orders["known_classes"] = by_known_classes(weight_sets, judgements)
        columns |= _known(judgements, known_classes)
    for rule, order in orders.items():
        columns[f"rank_by_{rule}"] = 1 + np.argsort(order)
    for rule, order in orders.items():
        chosen = first_of_one_network(weight_sets, order, n_models, one_a_run)
        columns[f"chosen_by_{rule}"] = np.isin(np.arange(len(weight_sets)), chosen)
    table = Table(columns, meta={"format_version": FORMAT_VERSION, **meta})
    descriptions = {start + known: text.format(known) for known in known_classes for start, text in OF_A_CLASS.items()}
    descriptions |= DESCRIPTIONS
    for column in table.itercols():
        column.description = descriptions[column.name]
    return table


def _known(judgements: Sequence[Judgement], known_classes: Sequence[str]) -> dict[str, Any]:
    columns: dict[str, Any] = {}
    for name in known_classes:
        columns[f"n_{name}"] = [item.n_objects[name] for item in judgements]
        columns[f"n_selected_{name}"] = [item.n_selected[name][ANY_BAND] for item in judgements]
        columns[f"r_sel_{name}"] = [item.rate(name) for item in judgements]
    columns["n_selected_any"] = [item.n_selected_any for item in judgements]
    sums = [item.rate_sum() for item in judgements]
    columns["r_sel_sum"] = [float("nan") if total is None else float(total) for total in sums]
    return columns


def write_table(path: Path, table: Table) -> None:
    """Write the table, atomically. Equal tables give equal bytes."""
    stream = io.StringIO(newline="")
    table.write(stream, format="ascii.ecsv")
    write_atomically(path, stream.getvalue().encode())


def read_table(path: Path) -> Table:
    """Read ``weight_sets.ecsv``."""
    from astropy.table import Table

    try:
        table = Table.read(path, format="ascii.ecsv")
    except (OSError, ValueError) as error:
        raise SwimmyError(
            f"{path}: no readable table of weight sets ({error}). Give a run that trains with train.evaluate, "
            f"train.choose: known_classes or train.grid; `{typed('verify')}` finds damage."
        ) from error
    if table.meta.get("format_version") != FORMAT_VERSION:
        raise SwimmyError(
            f"{path}: format_version {table.meta.get('format_version')!r}, this program reads {FORMAT_VERSION}. Use "
            "the version that made it."
        )
    return table


def best_first(table: Table) -> Table:
    """The rows by rank, according to the rule that chose the weights."""
    return table[np.argsort(table[f"rank_by_{table.meta['choose']}"])]


def csv_text(table: Table) -> str:
    """All columns as comma-separated values below their names."""
    stream = io.StringIO(newline="")
    table.write(stream, format="ascii.csv")
    return stream.getvalue()


def tried_values(table: Table) -> dict[str, list[Any]]:
    """The values of each parameter that were tried, ascending, in the form of table 5."""
    names = {
        "latent space dimension d": table["latent_filters"],
        "GaussianNoise rate r_gauss": table["noise"],
        "epoch number": table["epoch"],
        "iteration": _iterations(table),
    }
    return {name: np.unique(values).tolist() for name, values in names.items()}


def _iterations(table: Table) -> list[int]:
    """The index of each row's training among those of its network, from 1."""
    trainings: dict[tuple[int, float], list[int]] = {}
    found = []
    for d, noise, training in table.iterrows("latent_filters", "noise", "run"):
        known = trainings.setdefault((int(d), float(noise)), [])
        if training not in known:
            known.append(int(training))
        found.append(known.index(training) + 1)
    return found


def by_network(table: Table) -> Table:
    """One row for each network of a grid, the lowest mean validation loss first (appendix 1).

    Returns
    -------
    astropy.table.Table
        ``latent_filters``, ``noise``, ``n_runs``, ``n_weight_sets``, ``val_loss_mean`` over all weight sets,
        ``val_loss_run_std``: the sample standard deviation of the means of its trainings, NaN for a single one; and
        ``r_sel_sum_mean`` and ``r_sel_sum_max`` if known classes judged.
    """
    from astropy.table import Table

    rows = []
    for d, noise in sorted({(int(d), float(noise)) for d, noise in table.iterrows("latent_filters", "noise")}):
        part = table[(table["latent_filters"] == d) & (table["noise"] == noise)]
        runs = np.unique(part["run"])
        of_runs = [float(np.mean(part["val_loss"][part["run"] == run])) for run in runs]
        row = {
            "latent_filters": d,
            "noise": noise,
            "n_runs": len(runs),
            "n_weight_sets": len(part),
            "val_loss_mean": float(np.mean(part["val_loss"])),
            "val_loss_run_std": float(np.std(of_runs, ddof=1)) if len(runs) > 1 else float("nan"),
        }
        if "r_sel_sum" in table.colnames:
            row |= {"r_sel_sum_mean": float(np.mean(part["r_sel_sum"])), "r_sel_sum_max": float(max(part["r_sel_sum"]))}
        rows.append(row)
    return Table(rows=sorted(rows, key=lambda row: row["val_loss_mean"]))
