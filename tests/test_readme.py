"""What the README shows works as it stands there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from click.testing import CliRunner

from swimmy_scale.cli import main
from swimmy_scale.job import Job, load_job, parse_job
from swimmy_scale.site import JobSpec, SiteSection

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text()


def test_job_example_is_a_job() -> None:
    (text,) = re.findall(r"```yaml\n(.*?)```", README, flags=re.DOTALL)
    job = parse_job(text, ROOT / "job.yaml", Job)
    assert job.catalogue is not None
    assert job.catalogue.path == ROOT / "catalogue.fits"


@pytest.mark.parametrize("path", sorted((ROOT / "jobs").glob("*.yaml")), ids=lambda path: path.name)
def test_job_files_are_jobs(path: Path) -> None:
    load_job(path, Job)


def test_make_targets_exist() -> None:
    targets = set(re.findall(r"^    make (\w+)", README, flags=re.MULTILINE))
    assert targets == {"demo", "test"}
    makefile = (ROOT / "Makefile").read_text()
    assert all(re.search(rf"^{target}:", makefile, flags=re.MULTILINE) for target in targets)


def test_commands_exist() -> None:
    for command in set(re.findall(r"swimmy-scale (\w+)", README)):
        assert CliRunner().invoke(main, [command, "--help"]).exit_code == 0, command


def test_links_and_pictures_exist() -> None:
    for target in re.findall(r"\]\(([^)]+)\)", README):
        assert (ROOT / target).exists(), target


def test_the_cluster_page_names_what_there_is() -> None:
    page = (ROOT / "docs" / "cluster.md").read_text()
    _, jobqueue, own = page.split("| key in `")
    keys = {name.replace("_", "-") for name in JobSpec.model_fields}
    assert set(re.findall(r"`([a-z-]+)`", "".join(re.findall(r"^\|([^|]+)\|", jobqueue, re.MULTILINE)))) <= keys
    site_keys = {name.replace("_", "-") for name in SiteSection.model_fields}
    assert set(re.findall(r"^\| `([a-z-]+)` \|", own.split("\n\n")[0], re.MULTILINE)) <= site_keys
    for command, text in re.findall(r"^\$ swimmy-scale (\w+)(.*)$", page, re.MULTILINE):
        described = CliRunner().invoke(main, [command, "--help"])
        assert described.exit_code == 0
        for option in re.findall(r" (--[a-z-]+)", text.split("#")[0]):
            assert option in described.output
    for name in re.findall(r"(?:cluster|jobs)/[a-z-]+\.yaml", page):
        assert (ROOT / name).exists()


def test_python_example_compiles() -> None:
    (text,) = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)
    compile(text, "README.md", "exec")
