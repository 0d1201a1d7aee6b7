"""The table of weight sets: its columns, its bytes, its order, and what it says of a grid."""

from __future__ import annotations

import csv
import io
import math
from itertools import product
from pathlib import Path

import numpy as np
import pytest

from swimmy_scale.errors import SwimmyError
from swimmy_scale.method.network import Network
from swimmy_scale.method.weight_sets import Judgement, WeightSet
from swimmy_scale.storage.weight_set_table import (
    best_first,
    by_network,
    csv_text,
    read_table,
    tried_values,
    weight_set_table,
    write_table,
)

LOSSES = [0.4, 0.3, 0.2, 0.25, 0.5, 0.1, 0.6, 0.7]
SELECTED = [(0, 1), (1, 4), (2, 0), (1, 1), (0, 0), (2, 1), (2, 4), (1, 2)]
CLASSES = ("quasar", "xelg")


def weight_sets() -> list[WeightSet]:
    """Two networks of two runs each, of two epochs each."""
    return [
        WeightSet(run, epoch, f"run-{run:02d}/epoch-{epoch:02d}.keras", f"{k:064d}", 0.5, LOSSES[k],
                  Network(latent_filters=4 if run < 2 else 8, noise=0.02))
        for k, (run, epoch) in enumerate(product(range(4), (2, 3)))
    ]  # fmt: skip


def judgements(n_quasars: int = 2) -> list[Judgement]:
    return [
        Judgement({}, 100, 7, {"quasar": n_quasars, "xelg": 4}, {"quasar": {"any": quasars}, "xelg": {"any": xelgs}})
        for quasars, xelgs in SELECTED
    ]


def test_rates_ranks_and_choices(tmp_path: Path) -> None:
    table = weight_set_table(weight_sets(), judgements(), CLASSES, 2, {"choose": "known_classes"})
    write_table(tmp_path / "weight_sets.ecsv", table)
    found = read_table(tmp_path / "weight_sets.ecsv")
    assert found.meta == {"format_version": 1, "choose": "known_classes"}
    assert found["val_loss"].tolist() == LOSSES
    assert found["r_sel_sum"].tolist() == [quasars / 2 + xelgs / 4 for quasars, xelgs in SELECTED]
    assert found["r_sel_quasar"].tolist() == [quasars / 2 for quasars, _ in SELECTED]
    assert found["rank_by_validation_loss"].tolist() == [5, 4, 2, 3, 6, 1, 7, 8]
    assert found["rank_by_known_classes"].tolist() == [7, 2, 4, 6, 8, 3, 1, 5]
    # Two of the network of the best one, not the two best ones.
    assert np.flatnonzero(found["chosen_by_known_classes"]).tolist() == [5, 6]
    assert np.flatnonzero(found["chosen_by_validation_loss"]).tolist() == [4, 5]
    assert best_first(found)["run"].tolist()[:3] == [3, 0, 2]
    assert all(column.description for column in found.itercols())
    first = (tmp_path / "weight_sets.ecsv").read_bytes()
    write_table(tmp_path / "weight_sets.ecsv", table)
    assert (tmp_path / "weight_sets.ecsv").read_bytes() == first


def test_the_chosen_are_of_different_runs_where_it_is_asked() -> None:
    several = weight_set_table(weight_sets(), judgements(), CLASSES, 2, {}, one_a_run=True)
    for rule in ("validation_loss", "known_classes"):
        chosen = several[several[f"chosen_by_{rule}"]]
        assert len(chosen) == len(set(chosen["run"])) == 2
        assert len(set(chosen["latent_filters"])) == 1
        for row in chosen:
            of_the_run = several[several["run"] == row["run"]]
            assert row[f"rank_by_{rule}"] == of_the_run[f"rank_by_{rule}"].min()


def test_an_empty_class_is_nan(tmp_path: Path) -> None:
    table = weight_set_table(weight_sets()[:1], judgements(0)[:1], CLASSES, 1, {"choose": "known_classes"})
    write_table(tmp_path / "weight_sets.ecsv", table)
    (row,) = read_table(tmp_path / "weight_sets.ecsv")
    assert math.isnan(row["r_sel_quasar"])
    assert row["r_sel_sum"] == 0.25


def test_without_known_classes_there_are_no_rates() -> None:
    table = weight_set_table(weight_sets(), (), (), 1, {"choose": "validation_loss"})
    assert not [name for name in table.colnames if "sel" in name or "known" in name]
    assert best_first(table)["val_loss"].tolist() == sorted(LOSSES)


def test_csv_has_all_columns() -> None:
    table = weight_set_table(weight_sets(), judgements(), CLASSES, 1, {"choose": "known_classes"})
    rows = list(csv.DictReader(io.StringIO(csv_text(table))))
    assert list(rows[0]) == table.colnames
    assert [float(row["r_sel_sum"]) for row in rows] == table["r_sel_sum"].tolist()


def test_a_grid_in_table_5s_form() -> None:
    table = weight_set_table(weight_sets(), judgements(), CLASSES, 1, {"choose": "known_classes"})
    assert tried_values(table) == {
        "latent space dimension d": [4, 8],
        "GaussianNoise rate r_gauss": [0.02],
        "epoch number": [2, 3],
        "iteration": [1, 2],
    }
    small, large = by_network(table)
    assert (small["latent_filters"], small["n_runs"], small["n_weight_sets"]) == (4, 2, 4)
    assert small["val_loss_mean"] == pytest.approx(sum(LOSSES[:4]) / 4)
    # Two runs' means are 0.35 and 0.225: their deviation is the difference over the root of two.
    assert small["val_loss_run_std"] == pytest.approx(0.125 / math.sqrt(2))
    assert large["latent_filters"] == 8
    assert large["r_sel_sum_max"] == 2.0
    assert large["r_sel_sum_mean"] == pytest.approx((0.0 + 1.25 + 2.0 + 1.0) / 4)


def test_one_run_has_no_spread() -> None:
    table = weight_set_table(weight_sets()[:2], (), (), 1, {"choose": "validation_loss"})
    (row,) = by_network(table)
    assert math.isnan(row["val_loss_run_std"])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda path: path.unlink(), "no readable table of weight sets"),
        (lambda path: path.write_text("not a table"), "no readable table of weight sets"),
        (lambda path: path.write_text(path.read_text().replace("format_version: 1", "format_version: 9")), "reads 1"),
    ],
)
def test_tables_that_cannot_be_read(tmp_path: Path, change, message: str) -> None:
    path = tmp_path / "weight_sets.ecsv"
    write_table(path, weight_set_table(weight_sets(), (), (), 1, {"choose": "validation_loss"}))
    change(path)
    with pytest.raises(SwimmyError, match=message):
        read_table(path)
