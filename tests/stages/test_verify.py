"""Verification of what single stages made, and of a store that a job names."""

from __future__ import annotations

import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from survey_runs import make_survey, mark, run_serially, verification, verify, weights_of, write_job

from swimmy_scale.cli import main
from swimmy_scale.errors import SwimmyError
from swimmy_scale.storage.cutouts import Cutouts
from swimmy_scale.storage.files import driver_lock
from swimmy_scale.storage.receipts import task_name
from swimmy_scale.storage.run_directory import cutouts_ledger, ledger_beside
from swimmy_scale.storage.store import digest_columns

SETTINGS = "storage: {partition_objects: 32, chunk_objects: 16}\n"
ROUNDED = "storage: {partition_objects: 32, chunk_objects: 16, keep_mantissa_bits: 10}\n"


@pytest.fixture(scope="module")
def survey(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_survey(tmp_path_factory.mktemp("verify") / "survey", n_objects=80, faulty_fraction=0.0)


def ingest(survey: Path, output: Path, storage: str = SETTINGS) -> str:
    """Ingest in this process; what it wrote to stderr."""
    settings = output.parent / "settings.yaml"
    settings.write_text(storage)
    result = CliRunner().invoke(
        main,
        [
            "ingest", str(survey / "cutouts"), "--catalog", str(survey / "catalogue.fits"),
            "--patch-qa", str(survey / "patch_qa.fits"), "--output", str(output),
            "--settings", str(settings), "--workers", "0",
        ],
    )  # fmt: skip
    assert result.exit_code in (0, 3), result.output  # 3: objects are in quarantine
    return result.stderr


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


@pytest.mark.slow
def test_names_that_start_alike_do_not_share_receipts(survey: Path, tmp_path: Path) -> None:
    for name in ("cut.a", "cut.b", "cut"):
        ingest(survey, tmp_path / name)
        assert (tmp_path / name / "image").is_dir()
        assert (tmp_path / f"{name}.quarantine.csv").is_file()
        assert verify(tmp_path / name) == []


def test_a_store_made_alone_is_verified_and_repaired(survey: Path, tmp_path: Path) -> None:
    store = tmp_path / "cutouts.zarr"
    ingest(survey, store)
    damaged = store / "image/c/1/0/0/0"
    whole = damaged.read_bytes()
    flip(damaged)
    for _ in range(2):
        assert [item.path for item in verify(store)] == ["cutouts.zarr/image/c/1/0/0/0"]
    damaged.chmod(0o000)
    mark(store)
    assert damaged.stat().st_mode & 0o777 == 0o600, "whoever does it again may need to read it"
    ingest(survey, store)
    assert damaged.read_bytes() == whole
    assert verify(store) == []
    said = ingest(survey, store)
    assert "sources were not looked at again; for new files: swimmy-scale add, or remove" in said
    assert str(ledger_beside(store, "ingest").path("finished")) in said.replace("\n", "")


@pytest.mark.slow
def test_rounded_pixels_are_what_receipts_stand_for(tmp_path: Path) -> None:
    survey = make_survey(tmp_path / "survey", n_objects=80, faulty_fraction=0.05)
    exact, rounded = tmp_path / "exact.zarr", tmp_path / "rounded.zarr"
    ingest(survey, exact)
    ingest(survey, rounded, ROUNDED)
    whole, few_bits = Cutouts(exact), Cutouts(rounded)
    mantissa, exponent = np.frexp(whole.images(0, 80).astype(np.float64))
    wanted = np.ldexp(np.rint(mantissa * 2**11) / 2**11, exponent).astype(np.float32)
    assert np.array_equal(few_bits.images(0, 80), wanted, equal_nan=True)
    assert 0 < np.isnan(wanted).all(axis=(1, 2, 3)).sum() < 80
    assert not np.array_equal(wanted, whole.images(0, 80), equal_nan=True)
    names = [name for name, _ in few_bits.group.arrays() if name != "band"]
    for name in set(names) - {"image"}:
        assert few_bits.read(name, 0, 80).tobytes() == whole.read(name, 0, 80).tobytes(), name

    assert verify(rounded) == []
    ledger = cutouts_ledger(rounded)
    for partition, (lo, hi) in enumerate([(0, 32), (32, 64), (64, 80)]):
        receipt = ledger.read(task_name(partition))
        assert receipt is not None
        assert ledger.intact(receipt)
        assert receipt.data_digest == digest_columns({name: few_bits.read(name, lo, hi) for name in names})
    damaged = rounded / "image/c/1/0/0/0"
    before = damaged.read_bytes()
    flip(damaged)
    ingest(survey, rounded, ROUNDED)
    assert damaged.read_bytes() == before


def test_a_receipt_must_say_which_objects_its_partition_holds(survey: Path, tmp_path: Path) -> None:
    store = tmp_path / "cutouts.zarr"
    ingest(survey, store)
    ledger = cutouts_ledger(store)
    receipt = ledger.read(task_name(1))
    assert receipt is not None
    first, last = Cutouts(store).read("object_id", 32, 64)[[0, -1]].tolist()
    assert (receipt.first_object_id, receipt.last_object_id) == (first, last)
    for change in ({"first_object_id": last}, {"last_object_id": first}, {"n_objects": 31}):
        wrong = replace(receipt, **change)
        ledger.commit(wrong)
        found = next(item for item in verify(store) if item.name == "000001")
        assert found.path == "cutouts.zarr/object_id/c/1"
        assert re.fullmatch(r"object_id \d+ to \d+, its receipt says \d+ to \d+", found.reason)
        assert found.reason.endswith(f"its receipt says {wrong.first_object_id} to {wrong.last_object_id}")
    mark(store)
    ingest(survey, store)
    assert verify(store) == []


def test_damaged_metadata_are_no_fault_of_the_partitions(survey: Path, tmp_path: Path) -> None:
    store = tmp_path / "cutouts.zarr"
    ingest(survey, store)
    metadata = store / "zarr.json"
    whole = metadata.read_text()
    assert whole.count('"partition_objects": 32') == 1
    metadata.write_text(whole.replace('"partition_objects": 32', '"partition_objects": 16'))
    assert [(item.name, item.path) for item in verify(store)] == [("finished", "cutouts.zarr/zarr.json")]


@pytest.mark.slow
def test_the_store_that_a_job_names_is_verified_with_the_run(survey: Path, finished: Path, tmp_path: Path) -> None:
    store = tmp_path / "elsewhere" / "cutouts.zarr"
    store.parent.mkdir()
    ingest(survey, store)
    weights = weights_of(finished / "run")
    job = write_job(tmp_path / "job.yaml", survey, catalogue=None, ingest=None, cutouts=str(store), **weights)
    run_serially(job, tmp_path / "run")
    assert verify(tmp_path / "run") == []
    flip(store / "ra/c/0")
    assert [item.path for item in verify(tmp_path / "run")] == [str(store / "ra/c/0")]
    mark(tmp_path / "run")
    ingest(survey, store)
    assert verify(tmp_path / "run") == []
    with (
        driver_lock(cutouts_ledger(store).folder),
        pytest.raises(SwimmyError, match=r"cutouts.zarr is in use by process"),
    ):
        verify(tmp_path / "run")


def test_receipts_beside_a_store_go_before_those_of_a_run_around_it(tmp_path: Path) -> None:
    (tmp_path / "receipts/ingest").mkdir(parents=True)
    assert cutouts_ledger(tmp_path / "cutouts.zarr").folder == tmp_path / "receipts"
    assert cutouts_ledger(tmp_path / "other.zarr").folder == tmp_path / "other.zarr.receipts"
    (tmp_path / "cutouts.zarr.receipts").mkdir()
    assert cutouts_ledger(tmp_path / "cutouts.zarr").folder == tmp_path / "cutouts.zarr.receipts"


def test_a_report_without_its_receipt_is_not_finished(finished: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(finished / "run", run)
    assert verification(run).is_sound
    (run / "report").mkdir()
    (run / "report/index.html").write_text("half a page")
    found = verification(run)
    assert (found.damage, found.unfinished, found.shown) == ([], ["report"], [("report", run)])
    done = CliRunner().invoke(main, ["verify", str(run), "--workers", "0"])
    assert done.exit_code == 1
    assert "report: not finished" in done.stdout
    said = done.stderr.replace("\n", "")
    assert "1 not finished. Reports, figures and tables are made again by their own commands" in said
    assert f"`swimmy-scale report {run}`." in said
