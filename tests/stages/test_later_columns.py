"""Kept columns that a job names after the ingest: joined by object_id, without one pixel read again."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from astropy.table import Table
from survey_runs import assert_same_results, call_here, opened, run_serially, verification

from swimmy_scale.errors import SwimmyError
from swimmy_scale.method.sections import CatalogueSource, IngestSection
from swimmy_scale.stages.later_columns import KeptColumns
from swimmy_scale.storage.selection import Selection, new_selection

pytestmark = pytest.mark.slow
KEPT = ["specz_redshift", "i_cmodel_mag", "patch"]


@pytest.fixture
def run(finished: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(finished / "run", tmp_path / "run", copy_function=shutil.copy2))


def job_that_keeps(finished: Path, tmp_path: Path, columns: list[str], **catalogue: Any) -> Path:
    content = yaml.safe_load((finished / "job.yaml").read_text())
    content["catalogue"] |= {"keep_columns": columns, **catalogue}
    path = tmp_path / "job.yaml"
    path.write_text(yaml.safe_dump(content))
    return path


def test_they_are_those_of_the_catalogue(finished: Path, run: Path, tmp_path: Path) -> None:
    catalogue = Table.read(finished / "survey/catalogue.fits")
    by_id = {int(row["object_id"]): row for row in reversed(catalogue)}
    path = job_that_keeps(finished, tmp_path, KEPT)
    done = call_here("run", path, "--output", run, "--plan")
    assert "catalogue.keep_columns from ['i_cmodel_mag'] to ['specz_redshift', 'i_cmodel_mag', 'patch']" in done.stderr
    assert "Done again: select. Then, where what they read differs: picture. Remains: ingest, train, score." in (
        done.stderr
    )
    pixels = {path: path.stat().st_mtime_ns for path in (run / "cutouts.zarr").rglob("*")}
    _, workers = run_serially(path, run)
    assert workers.n_tasks == 1, "the picture"
    assert {path: path.stat().st_mtime_ns for path in (run / "cutouts.zarr").rglob("*")} == pixels
    table = Table.read(run / "candidates.fits")
    assert table.colnames[-3:] == KEPT
    assert len(table) > 3
    for row in table:
        known = by_id[int(row["object_id"])]
        assert [str(row[name]) for name in KEPT] == [str(known[name]) for name in KEPT]
    earlier = Table.read(run / "selections/earlier-1/candidates.fits")
    assert [name for name in table.colnames if name not in ("specz_redshift", "patch")] == earlier.colnames
    assert verification(run).is_sound
    with opened(run) as ds:
        usable = ds["quarantine_code"].values == 0
        wanted = [int(by_id[int(one)]["patch"]) for one in ds["object_id"].values[usable]]
        assert ds["patch"].values[usable].tolist() == wanted
    # Given again nothing is done; the first job gives what it gave.
    assert run_serially(path, run)[1].n_tasks == 0
    run_serially(finished / "job.yaml", run)
    assert_same_results(run, finished / "run")


def test_further_selections_have_the_columns_of_their_time(finished: Path, run: Path, tmp_path: Path) -> None:
    run_serially(job_that_keeps(finished, tmp_path, ["patch"]), run)
    assert call_here("select", run, "--name", "other").returncode == 3
    assert Table.read(run / "selections/other/candidates.fits").colnames[-1] == "patch"
    run_serially(finished / "job.yaml", run)
    whole = (run / "selections/other/candidates.fits").read_bytes()
    (run / "selections/other/candidates.fits").write_bytes(b"damaged")
    assert call_here("verify", run, "--repair", "--workers", 0).returncode == 3
    assert (run / "selections/other/candidates.fits").read_bytes() == whole


@pytest.mark.parametrize(
    ("columns", "more", "said"),
    [
        (["nothing"], {}, "has no column nothing, which keep_columns asks for"),
        (["ra"], {}, "ra would replace a variable of the same name"),
        (["a/b"], {}, "'a/b' cannot name an array"),
        (["patch"], {"hdu": 1}, None),
    ],
)
def test_what_is_not_to_be_had_is_refused_before_anything_changes(
    finished: Path, run: Path, tmp_path: Path, columns: list[str], more: dict[str, Any], said: str | None
) -> None:
    before = (run / "job.yaml").read_bytes()
    with pytest.raises(SwimmyError, match=said or "holds the cutouts of another ingest"):
        run_serially(job_that_keeps(finished, tmp_path, columns, **more), run)
    assert (run / "job.yaml").read_bytes() == before


def test_a_catalogue_that_changed_since(finished: Path, tmp_path: Path) -> None:
    """Rows in another order are found by their ids; an object that is gone is named."""
    table = Table.read(finished / "survey/catalogue.fits")
    selection = Selection(finished / "run/selection.zarr", finished / "run/scores.zarr")
    wanted = {int(row["object_id"]): str(row["sample_class"]) for row in reversed(table)}
    path = tmp_path / "shuffled.fits"
    table[::-1].write(path)
    own = (CatalogueSource(path=path), IngestSection(sources=(path,)))
    columns = KeptColumns(("sample_class",), (own,), selection.survey)
    found = selection_in(tmp_path / "selection.zarr", selection, columns)
    unique = [one for one in wanted if np.count_nonzero(table["object_id"] == one) == 1]
    values = dict(zip(selection.read("object_id").tolist(), found.tolist(), strict=True))
    assert {one: values[one] for one in unique} == {one: wanted[one] for one in unique}
    gone = int(table["object_id"][7])
    table.remove_row(7)
    table.write(path, overwrite=True)
    with pytest.raises(
        SwimmyError,
        match=rf"shuffled.fits: has no object_id {gone} any more, which was ingested from it \(1 are missing\)",
    ):
        selection_in(tmp_path / "other.zarr", selection, columns)
    path.unlink()
    with pytest.raises(
        SwimmyError, match=r"shuffled\.fits: not there, and sample_class of catalogue\.keep_columns must"
    ):
        columns.read({})


def selection_in(path: Path, like: Selection, columns: KeptColumns) -> Any:
    """The first column that is asked for, by way of a selection that is made."""
    later = columns.read({})
    with new_selection(path, like.scores, ["top"], {}, {"kept_columns": later.types}, later=later.types) as made:
        later.fill(made)
        for name in ("in_sample", "candidate"):
            made.fill(name, [(0, like.read(name)[:, :1] if name == "candidate" else like.read(name))])
        made.fill("threshold", [(0, like.read("threshold")[:1])])
    return Selection(path, like.scores.path).read(columns.names[0])
