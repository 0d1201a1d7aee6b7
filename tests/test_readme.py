"""What the README shows works as it stands there."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from click.testing import CliRunner

from swimmy_scale.cli import main
from swimmy_scale.cluster.site import JobSpec, SiteSection
from swimmy_scale.method.job import Job, Settings, load_job, parse_job
from swimmy_scale.method.sections import StorageSection

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


def test_the_storage_page_names_what_there_is() -> None:
    page = (ROOT / "docs" / "storage.md").read_text()
    (text,) = re.findall(r"```yaml\n(.*?)```", page, flags=re.DOTALL)
    assert parse_job(text, ROOT / "settings.yaml", Settings).storage.keep_mantissa_bits == 12
    keys = re.findall(r"^\| `([a-z_]+)` \| ([^|]+) \|", page, re.MULTILINE)
    defaults = {name: str(value) for name, value in StorageSection().model_dump().items()}
    assert dict(keys) == defaults | {"keep_mantissa_bits": "all"}


def test_the_storage_page_has_the_numbers_that_were_measured() -> None:
    page = (ROOT / "docs" / "storage.md").read_text()
    rows = {
        row["what"]: row for row in json.loads((ROOT / "benchmarks" / "results" / "storage.json").read_text())["rows"]
    }
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in page.splitlines() if line[:1] == "|"]
    shown = {cell[0]: cell[1:] for cell in cells}
    measured = {}
    for what, row in rows.items():
        kind, _, way = what.partition(": ")
        if kind == "write":
            measured[way] = [row["compression"], row["ratio"], rows[f"read: {way}"]["ratio"]]
        elif kind == "relative change of scores":
            changes = [row[key] for key in ("compression", "median", "percentile_99", "max")]
            measured[way.replace(" mantissa", "")] = changes
    assert len(measured) >= 10
    for way, wanted in measured.items():
        assert [float(cell) for cell in shown[way][: len(wanted)]] == pytest.approx(wanted, rel=0.05), way


def test_python_example_compiles() -> None:
    (text,) = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)
    compile(text, "README.md", "exec")
