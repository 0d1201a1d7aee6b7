"""The command line: exit statuses, what goes where, and the stages one by one."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import xarray
import yaml
from click.testing import CliRunner
from survey_runs import NETWORK, call, call_here, make_survey, write_job

from swimmy_scale.cli import main

COMMANDS = (
    *(
        "init",
        "simulate",
        "request",
        "ingest",
        "classify",
        "train",
        "weight-sets",
        "score",
        "select",
        "run",
        "submit",
        "report",
        "status",
        "add",
    ),
    *(
        "plan",
        "verify",
        "doctor",
        "figures",
        "tables",
        "fidelity",
        "completion",
        "show",
        "rank",
        "like",
        "cutouts",
        "compare",
        "schema",
    ),
)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help_with_an_example(name: str) -> None:
    result = CliRunner().invoke(main, [name, "--help"])
    assert result.exit_code == 0
    assert f"swimmy-scale {name}" in result.output.split("Example:")[1]


def test_program_lists_its_commands() -> None:
    assert set(COMMANDS) == set(main.commands)
    result = CliRunner().invoke(main, ["--help"])
    assert all(name in result.output for name in COMMANDS)


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["run"], 2, "Missing argument 'JOB'"),
        (["run", "absent.yaml", "--output", "run"], 1, "absent.yaml: cannot read the job file"),
        (["ingest", "x", "--catalog", "c", "--output", "o.zarr", "--column", "ra"], 2, "not of the form OURS=THEIRS"),
        (["ingest", "x", "--catalog", "c.fits", "--output", "o.zarr"], 1, "c.fits"),
        (["simulate", "x"], 2, "Missing option '--n-objects'"),
        (["train", "absent.zarr", "--output", "models"], 1, "absent.zarr: no readable Zarr store"),
        (["score", "absent.zarr", "--model", "m", "--model-sha256", "0" * 64, "--output", "s"], 1, "absent.zarr:"),
        (["score", "absent.zarr", "--model", "m.keras", "--output", "s.zarr"], 1, "no manifest.json beside it"),
        (["select", "absent.zarr", "--output", "out"], 1, "absent.zarr: no readable Zarr store"),
        (["status", "."], 1, "not a run directory"),
        (["report", "."], 1, "not a run directory"),
        (["verify", "."], 1, "neither a run directory"),
        (["run", "job.yaml", "--output", "job.yaml/run"], 1, "Not a directory. What is done is kept"),
        (["nonsense"], 2, "No such command 'nonsense'"),
    ],
)  # fmt: skip
def test_failures_are_one_line_with_a_status(
    arguments: list[str], status: int, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("job.yaml").write_text("{catalogue: {path: c.fits}, ingest: {sources: [c]}, train: {}}")
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == status
    assert message in result.stderr
    assert "Traceback" not in result.stderr
    assert result.stdout == ""


@pytest.mark.slow
def test_stages_one_by_one(finished: Path, tmp_path: Path) -> None:
    survey = finished / "survey"
    settings = tmp_path / "settings.yaml"
    schedule = {"epochs": 2, "keep_from_epoch": 1, "batch_size": 16}
    settings.write_text(yaml.safe_dump({"train": {"network": NETWORK, "schedule": schedule, "n_threads": 1}}))
    (tmp_path / "network.yaml").write_text(yaml.safe_dump({"train": {"network": NETWORK}}))
    (tmp_path / "storage.yaml").write_text("storage: {partition_objects: 64, chunk_objects: 32}")
    cutouts, models, scores = (tmp_path / name for name in ("cutouts.zarr", "models", "scores.zarr"))
    ingested = call(
        "ingest", survey / "cutouts", "--catalog", survey / "catalogue.fits",
        "--patch-qa", survey / "patch_qa.fits", "--output", cutouts, "--keep-column", "i_cmodel_mag",
        "--settings", tmp_path / "storage.yaml", "--workers", 2,
    )  # fmt: skip
    assert ingested.returncode == 3, ingested.stderr
    assert ingested.stdout.startswith("240 given = 228 ingested + 12 quarantined")
    assert len((tmp_path / "cutouts.quarantine.csv").read_text().splitlines()) == 1 + 12
    trained = call_here("train", cutouts, "--output", models, "--settings", settings, "--workers", 0)
    assert trained.returncode == 0, trained.stderr
    assert "selected.keras: epoch" in trained.stdout
    scored = call_here("score", cutouts, "--model", models / "selected.keras", "--output", scores, "--workers", 0)
    assert scored.returncode == 3, scored.stderr
    assert scored.stdout.startswith("240 given = 228 scored + 12 quarantined")
    selected = call_here("select", scores, "--output", tmp_path / "selection")
    assert selected.returncode == 3, selected.stderr
    assert "240 given = 228 scored + 12 quarantined" in selected.stdout
    assert "SIMULATED" in selected.stdout
    summary = json.loads((tmp_path / "selection" / "summary.json").read_text())
    with xarray.open_zarr(tmp_path / "selection" / "selection.zarr") as ds:
        n_selected = int(ds.candidate.values[:, 0].any(axis=1).sum())
        assert summary["selected"]["2sigma"]["rows"]["any"]["sample"]["n_selected"] == n_selected
    with xarray.open_zarr(scores) as ds:
        assert np.isfinite(ds.i_cmodel_mag.values).all()

    for output in (cutouts, models, scores, tmp_path / "selection"):
        assert CliRunner().invoke(main, ["verify", str(output)]).stdout == "every file is as its receipt says\n"
    # Without a manifest the digest has to be given, and the network comes from the settings.
    other = tmp_path / "other.keras"
    shutil.copy(models / "selected.keras", other)
    digest = hashlib.sha256(other.read_bytes()).hexdigest()
    arguments = ("score", cutouts, "--model", other, "--model-sha256", digest, "--output", tmp_path / "s3.zarr")
    again = call(*arguments, "--settings", tmp_path / "network.yaml", "--workers", 2)
    assert again.returncode == 3, again.stderr
    with xarray.open_zarr(scores) as one, xarray.open_zarr(tmp_path / "s3.zarr") as two:
        assert one.score.values.tobytes() == two.score.values.tobytes()

    (models / "selected.keras").write_bytes(b"not a model")
    refused = call_here(
        "score", cutouts, "--model", models / "selected.keras", "--output", tmp_path / "s2.zarr", "--workers", 0
    )
    assert refused.returncode == 1
    assert "sha256 is" in refused.stderr


@pytest.mark.slow
def test_verify_and_status(tmp_path: Path) -> None:
    survey = make_survey(tmp_path / "survey", n_objects=120, faulty_fraction=0.0)
    job = write_job(tmp_path / "job.yaml", survey)
    run = tmp_path / "run"
    done = call("run", job, "--output", run, "--workers", 0)
    assert done.returncode == 0, done.stderr
    assert "swimmy_scale.open_run(" in done.stdout
    assert not re.search("Traceback|Exception|TensorFlow|absl", done.stderr), done.stderr
    assert call_here("verify", run).returncode == 0
    rows = json.loads(CliRunner().invoke(main, ["status", str(run), "--json"]).stdout)["stages"]
    assert [row["stage"] for row in rows] == ["ingest", "train", "score", "select", "picture"]
    assert all(row["finished"] for row in rows)
    local = Path(__file__).resolve().parents[2] / "cluster" / "local.yaml"
    again = call_here("run", job, "--output", run, "--site", local)
    assert again.returncode == 0, again.stderr
    assert "ingest: done" in again.stderr
    assert call_here("run", job, "--output", run, "--site", local, "--workers", 1).returncode == 2
    assert (
        CliRunner().invoke(main, ["status", str(run)]).stdout.splitlines()[-1].startswith("driver: finished, process")
    )
    (run / "candidates.fits").unlink()
    found = call_here("verify", run)
    assert found.returncode == 1
    assert found.stdout == "candidates.fits: missing (select finished)\n"
    assert "1 damaged, missing or unreadable. `swimmy-scale verify" in found.stderr
