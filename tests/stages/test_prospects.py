"""Jobs of which nothing would come out are refused by the catalogue and the listing, before a pixel is read."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from astropy.table import Table
from survey_runs import call_here, run_serially

from swimmy_scale.errors import SwimmyError
from swimmy_scale.ingest.catalogue.catalogue import read_catalogue
from swimmy_scale.method.job import Job, load_job
from swimmy_scale.method.sample import SampleCuts
from swimmy_scale.method.sections import CatalogueSource, TrainSection
from swimmy_scale.method.survey import HSC
from swimmy_scale.stages import ingest_partition
from swimmy_scale.stages.prospects import prospects_of_catalogue, prospects_of_store
from swimmy_scale.stages.run import Run
from swimmy_scale.storage.cutouts import Cutouts
from swimmy_scale.storage.run_directory import RunDirectory

N = 12


def table() -> Table:
    found = Table({"object_id": np.arange(N) + 7, "ra": 150 + 0.01 * np.arange(N), "dec": np.full(N, 2.0)})
    for band in "grizy":
        found[f"{band}_cmodel_mag"] = np.full(N, 18.0)
        found[f"fwhm_arcsec_{band}"] = np.full(N, 0.7)
    found["sample_class"] = ["training"] * 3 + ["quasar"] * 2 + [""] * 7
    return found


def without_seeing(found: Table) -> None:
    found.remove_columns([f"fwhm_arcsec_{band}" for band in "grizy"])


def without_class(found: Table) -> None:
    found.remove_column("sample_class")


def far_west(found: Table) -> None:
    found["ra"] = np.where(np.arange(N) < N, found["ra"] + 720, 0)


def rounded_ids(found: Table) -> None:
    found["object_id"] = (2.0**60 + np.arange(N)).astype(np.float64)


def faint(found: Table) -> None:
    found["i_cmodel_mag"] = np.full(N, 25.0)


HOPELESS: list[tuple[Callable[[Table], None], dict[str, Any], str]] = [
    (without_seeing, {}, r"all 12 objects would be in quarantine: 12 fwhm_missing \(no PSF FWHM in g, r"),
    (far_west, {}, r"all 12 objects would be in quarantine: 12 position_missing \(position is ra 870"),
    (rounded_ids, {}, r"all 12 objects would be in quarantine: .*object_id_lost"),
    (without_class, {}, r"no object of class training passes .*\(classes: no class 12\). Set train.classes"),
    (lambda found: None, {"classes": ["star"]}, r"no object of class star .*no class 7, training 3, quasar 2"),
    (lambda found: None, {"evaluate": True, "known_classes": ["xelg"]}, r"no object of the known classes xelg"),
    (lambda found: None, {}, r"3 training objects leave 2 to train on; at least two batches of 32"),
    (faint, {}, r"none of 12 usable objects passed the sample cuts: of 12 that were left, none passed 'i cmodel"),
]


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    """Writes a catalogue, a cube and their job."""

    def write(change: Callable[[Table], None], train: dict[str, Any]) -> Path:
        found = table()
        change(found)
        found.write(tmp_path / "cat.fits")
        np.save(tmp_path / "cube.npy", np.ones((N, 5, 64, 64), np.float32))
        content = {"catalogue": {"path": "cat.fits"}, "ingest": {"sources": ["cube.npy"]}, "train": train}
        (tmp_path / "job.yaml").write_text(yaml.safe_dump(content))
        return tmp_path / "job.yaml"

    return write


@pytest.mark.parametrize(("change", "train", "message"), HOPELESS)
def test_a_hopeless_job_reads_no_pixel(
    tmp_path: Path, write: Any, change: Any, train: dict[str, Any], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*words: object) -> None:
        raise AssertionError("pixels are read")

    monkeypatch.setattr(ingest_partition, "read_rows", never)
    job = write(change, train)
    planned = call_here("plan", job)
    assert planned.returncode == 2, planned.stderr
    with pytest.raises(SwimmyError, match=message):
        run_serially(job, tmp_path / "run")
    assert not (tmp_path / "run/cutouts.zarr").exists()
    run = Run(RunDirectory(tmp_path / "submitted"), load_job(job, Job), 1)
    assert run.ingest is not None
    with pytest.raises(SwimmyError, match=message):
        run.ingest.check_catalogue()


def test_ingest_alone_refuses_what_would_all_be_in_quarantine(tmp_path: Path, write: Any) -> None:
    write(without_seeing, {})
    words = ("--catalog", tmp_path / "cat.fits", "--output", tmp_path / "c.zarr", "--workers", 0)
    done = call_here("ingest", tmp_path / "cube.npy", *words)
    assert done.returncode == 1
    assert "all 12 objects would be in quarantine: 12 fwhm_missing" in done.stderr


def test_numbers_of_a_catalogue(tmp_path: Path) -> None:
    """Against NumPy on the table itself."""
    found = table()
    found["i_cmodel_mag"][:4] = 21.0
    found["fwhm_arcsec_g"][5] = np.nan
    found.write(tmp_path / "cat.fits")
    objects = read_catalogue(CatalogueSource(tmp_path / "cat.fits"), HSC)
    train = TrainSection(evaluate=True)
    prospects = prospects_of_catalogue(tmp_path / "cat.fits", objects, HSC, SampleCuts(), train)
    assert (prospects.n_objects, prospects.n_usable) == (12, 11)
    assert prospects.quarantined["fwhm_missing"][0] == 1
    assert prospects.seeing["g"] == (11, pytest.approx(0.7))
    assert prospects.seeing["y"] == (12, pytest.approx(0.7))
    assert prospects.classes == {"": 7, "training": 3, "quasar": 2}
    assert [(cut.before, cut.after) for cut in prospects.cuts if cut.name == "magnitude"] == [(11, 7)]
    assert prospects.n_training == 0, "the training class is fainter than the cut"
    own = TrainSection(sample=SampleCuts(max_magnitude=22.0), max_objects=2)
    assert prospects_of_catalogue(tmp_path, objects, HSC, SampleCuts(), own).members[""] == 3
    assert prospects_of_catalogue(tmp_path, objects, HSC, SampleCuts(), own).n_training == 2


@pytest.mark.slow
def test_store_and_catalogue_agree(finished: Path) -> None:
    """What a finished run counted, its catalogue and listing told before; files that cannot be read are no part."""
    job = load_job(finished / "job.yaml", Job)
    stage = Run(RunDirectory(finished / "nowhere"), job, 1).ingest
    assert stage is not None
    before, _, _ = stage.look_ahead()
    after = prospects_of_store(Cutouts(finished / "run/cutouts.zarr"), job.sample, job.train)
    assert before.n_objects == after.n_objects == 240
    unseen = {"unreadable_file", "no_image_hdu", "wrong_shape", "not_finite_pixels"}
    told = {code: number for code, (number, _) in before.quarantined.items()}
    counted = {code: number for code, (number, _) in after.quarantined.items() if code not in unseen}
    assert told == counted
    assert before.n_usable - after.n_usable == sum(after.quarantined[c][0] for c in unseen & set(after.quarantined))
    assert before.classes == after.classes
    assert before.in_band is not None
    assert all(number >= before.n_usable for number in before.in_band.values())


@pytest.mark.slow
@pytest.mark.parametrize(
    "cuts", [SampleCuts(), SampleCuts(depth_percentile=20.0), SampleCuts(redshift=(0.05, 0.2), colours=())], ids=str
)
def test_cuts_are_those_of_the_store(finished: Path, cuts: SampleCuts) -> None:
    """Of a store, and of a catalogue all of whose objects are usable but those of its faults."""
    job = load_job(finished / "job.yaml", Job)
    assert job.catalogue is not None
    store = Cutouts(finished / "run/cutouts.zarr")
    objects = read_catalogue(job.catalogue, HSC)
    before = prospects_of_catalogue(job.catalogue.path, objects, HSC, cuts).cuts
    after = prospects_of_store(store, cuts, None).cuts
    assert [(cut.name, cut.rule, cut.note) for cut in before] == [(cut.name, cut.rule, cut.note) for cut in after]
    unseen = before[0].after - after[0].after
    assert all(0 <= one.after - other.after <= unseen for one, other in zip(before, after, strict=True))
