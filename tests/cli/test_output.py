"""What scripts read: one JSON document on stdout; and a reader that leaves early."""

from __future__ import annotations

import json
import math
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from survey_runs import call_here, command, weights_of, write_job

from swimmy_scale.cli import main
from swimmy_scale.cli.program import IN_ORDER, print_json


def test_numbers_that_json_lacks_are_null(capsys: pytest.CaptureFixture[str]) -> None:
    print_json({"a": [math.nan, 1.5, (math.inf,)], 1: Path("/x"), "b": "é"})
    assert json.loads(capsys.readouterr().out) == {"a": [None, 1.5, [None]], "1": "/x", "b": "é"}


@pytest.mark.parametrize("name", ["", *sorted(main.commands)])
def test_short_help(name: str) -> None:
    words = [name] if name else []
    short, long = (CliRunner().invoke(main, [*words, option]) for option in ("-h", "--help"))
    assert short.exit_code == long.exit_code == 0
    assert short.output == long.output


def test_commands_are_listed_in_the_order_of_work() -> None:
    text = CliRunner().invoke(main, ["--help"]).output
    listed = [name for names in IN_ORDER.values() for name in names if name in main.commands]
    places = [text.index(f"\n  {name} ") for name in listed]
    assert places == sorted(places)
    assert set(listed) == set(main.commands), "a command without a place"
    assert "Others:" not in text
    assert all(len(line) <= 80 for line in text.splitlines())


def document(*words: object, status: int = 0) -> Any:
    done = call_here(*words, "--json")
    assert done.returncode == status, done.stderr
    return json.loads(done.stdout)


@pytest.mark.slow
def test_documents_of_a_run(finished: Path, tmp_path: Path) -> None:
    other = finished / "run"
    sections = {"cutouts": str(other / "cutouts.zarr"), "catalogue": None, "ingest": None, **weights_of(other)}
    job = write_job(tmp_path / "job.yaml", finished / "survey", **sections)
    run = tmp_path / "run"
    done = document("run", job, "--output", run, "--workers", 0, status=3)
    assert done["run"] == str(run)
    assert done["summary"] == json.loads((run / "summary.json").read_text())
    paths = [*done["files"].pop("candidates").values(), *done["files"].values()]
    assert all(Path(path).exists() for path in paths)

    tables = document("tables", run)
    assert set(tables["tables"]) | set(tables["missing"]) >= {"table-1", "table-2", "high-but-negative"}
    assert tables["simulated"]
    table = tables["tables"]["table-2"]
    assert {len(row) for row in table["rows"]} == {len(table["columns"])}
    assert all(Path(path).is_file() for path in table["files"])
    assert document("tables", run, "table-1", status=1)["tables"] == {}

    figures = document("figures", run, "redshift-histogram")
    assert all(Path(path).is_file() for path in figures["figures"]["redshift-histogram"]["files"])
    assert "stretch" in document("figures", "--list")["figures"]

    report = document("report", run)
    assert Path(report["page"]).is_file()
    assert report["n_shown"] == report["n_candidates"] > 0

    assert document("verify", run) == {"damaged": [], "unexpected": [], "others": [], "unfinished": []}
    selected = document("select", run / "scores.zarr", "--output", tmp_path / "again", status=3)
    assert selected["summary"]["thresholds"] == done["summary"]["thresholds"]

    assert {row["stage"] for row in document("status", run)["stages"]} >= {"score", "select"}
    assert document("plan", job, "--output", run)


def test_a_failure_leaves_stdout_empty(tmp_path: Path) -> None:
    for words in (["run", "absent.yaml", "--output", tmp_path], ["tables", tmp_path], ["report", tmp_path]):
        done = call_here(*words, "--json")
        assert (done.returncode, done.stdout) == (1, "")
        assert done.stderr.startswith("swimmy-scale: ")


@pytest.mark.slow
def test_a_reader_that_has_read_enough_ends_it_quietly() -> None:
    """As in ``swimmy-scale schema job | head -1``, with a pipe that is closed before anything is written."""
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(command("schema", "job"), stdout=writer, stderr=subprocess.PIPE, check=False, timeout=100)
    os.close(writer)
    assert (done.returncode, done.stderr) == (141, b"")
