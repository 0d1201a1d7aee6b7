"""A job and a site file to start from."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest

from swimmy_scale.cli.setup import init_command
from swimmy_scale.cluster.site import load_site
from swimmy_scale.errors import SwimmyError
from swimmy_scale.library.data_forms import DATA_FORMS
from swimmy_scale.library.start import DATA, init
from swimmy_scale.method.job import Job, load_job
from swimmy_scale.method.named_surveys import read_survey
from swimmy_scale.method.sample import check_cuts

ROOT = Path(__file__).resolve().parents[2]


def test_relative_paths_stay_relative_to_the_job(tmp_path: Path) -> None:
    with contextlib.chdir(tmp_path):
        files = init(
            Path("my survey"), catalogue=Path("cat #1.fits"), patch_qa=Path("data/qa.fits"),
            sources=[Path("data/cutouts"), Path("/archive/more: tars")], classes=["normal", "it's"],
        )  # fmt: skip
    job = load_job(tmp_path / files["job"], Job)
    assert job.name == "my survey"
    assert job.catalogue is not None
    assert job.ingest is not None
    assert job.train is not None
    assert job.catalogue.path == tmp_path / "cat #1.fits"
    assert job.catalogue.patch_qa == tmp_path / "data/qa.fits"
    assert job.ingest.sources == (tmp_path / "data/cutouts", Path("/archive/more: tars"))
    assert job.train.classes == ("normal", "it's")
    text = (tmp_path / files["job"]).read_text()
    assert "'my survey/job.yaml'" in text
    assert str(tmp_path) not in text


@pytest.mark.parametrize("data", ["hsc-archive", "coadds", "cube"])
def test_what_is_not_given_has_a_name_to_be_filled_in(tmp_path: Path, data: str) -> None:
    job = load_job(init(tmp_path / "new", data)["job"], Job)  # type: ignore[arg-type]
    assert job.catalogue is not None
    assert job.ingest is not None
    assert job.catalogue.path == tmp_path / "new/catalogue.fits"
    assert job.ingest.kind == ("cube" if data == "cube" else "auto")
    assert set(job.ingest.coadd) == (set("grizy") if data == "coadds" else set())
    assert job.train is not None
    assert job.train.classes == ()


@pytest.mark.parametrize("data", DATA_FORMS)
def test_public_data(tmp_path: Path, data: str) -> None:
    """A survey by name, and cuts that are for its bands; a catalogue only where there is none inside."""
    form = DATA_FORMS[data]
    job = load_job(init(tmp_path, data, sources=[Path("/data/it")])["job"], Job)
    assert job.survey.name == read_survey(form.survey)["survey"]["name"]
    check_cuts(job.sample, job.survey)
    assert job.ingest is not None
    assert job.ingest.sources == (Path("/data/it"),)
    has_own = job.catalogue is not None and job.catalogue.path is not None
    assert has_own == (not form.catalogue)
    path = init(tmp_path / "own", data, catalogue=Path("/data/cat.fits"))["job"]
    path.write_text(path.read_text().replace("  # fwhm_arcsec: {", "  fwhm_arcsec: {"))
    given = load_job(path, Job)
    assert given.catalogue is not None
    assert given.catalogue.path == Path("/data/cat.fits")
    assert tuple(given.catalogue.fwhm_arcsec) == given.survey.bands
    assert [path.name for path in given.ingest.sources] == [form.source]


def test_the_command_knows_all_data() -> None:
    option = next(option for option in init_command.params if option.name == "data")
    assert tuple(option.type.choices) == DATA  # type: ignore[attr-defined]


def test_coadds_of_other_bands(tmp_path: Path) -> None:
    job = load_job(init(tmp_path, "coadds", coadd={"g": Path("/a/g.fits"), "r": Path("/a/r.fits")})["job"], Job)
    assert job.ingest is not None
    assert job.ingest.coadd == {"g": Path("/a/g.fits"), "r": Path("/a/r.fits")}


@pytest.mark.parametrize(
    ("site", "original"),
    [("local", "local.yaml"), ("slurm", "slurm-cpu.yaml"), ("slurm-gpu", "slurm-gpu.yaml")],
)
def test_sites_are_those_of_the_checkout(tmp_path: Path, site: str, original: str) -> None:
    path = init(tmp_path, site=site)["site"]  # type: ignore[arg-type]
    assert path.read_bytes() == (ROOT / "cluster" / original).read_bytes()
    assert load_site(path).is_slurm == (site != "local")


def test_comments_name_keys_that_there_are(tmp_path: Path) -> None:
    """Each commented line is right when its mark is taken away."""
    path = init(tmp_path, patch_qa=Path("/a/qa.fits"))["job"]
    lines = [line for line in path.read_text().splitlines() if not line.startswith(("# A job", "#   .", "#   swimmy"))]
    for k, line in enumerate(lines):
        key = line.lstrip().removeprefix("# ").split(":")[0]
        if line.lstrip().startswith("# ") and key in ("columns", "keep_columns", "name_pattern"):
            changed = [*lines[:k], line.replace("# ", "", 1), *lines[k + 1 :]]
            path.write_text("\n".join(changed))
            load_job(path, Job)
    for section in ("survey", "sample", "select"):
        changed, inside = [], False
        for line in lines:
            inside = line.startswith(f"# {section}:") or (inside and line.startswith("#   "))
            changed.append(line.removeprefix("# ") if inside else line)
        path.write_text("\n".join(changed))
        assert section in load_job(path, Job).model_fields_set


def test_nothing_is_replaced_or_mixed_up(tmp_path: Path) -> None:
    init(tmp_path)
    before = (tmp_path / "job.yaml").read_bytes()
    with pytest.raises(SwimmyError, match=r"job\.yaml, .*site\.yaml: there already, and not replaced"):
        init(tmp_path)
    assert (tmp_path / "job.yaml").read_bytes() == before
    with pytest.raises(SwimmyError, match="--coadd goes with --data coadds"):
        init(tmp_path / "a", coadd={"g": Path("g.fits")})
    with pytest.raises(SwimmyError, match="given one a band, by --coadd"):
        init(tmp_path / "a", "coadds", sources=[Path("g.fits")])
    with pytest.raises(SwimmyError, match="templates of data hsc-archive, coadds, cube"):
        init(tmp_path / "a", "tars")  # type: ignore[arg-type]
    assert not (tmp_path / "a").exists()
