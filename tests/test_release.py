"""What is published: the wheel alone is enough to start from, and the sdist has what its tests need."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from pathlib import Path
from types import ModuleType

import pytest
from survey_runs import NETWORK

ROOT = Path(__file__).resolve().parent.parent


def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("release", ROOT / "docs" / "release.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    if not (ROOT / ".git").exists():
        pytest.skip("no git here, from whose files it is built")
    wheel, sdist = script().build(tmp_path_factory.mktemp("dist"), "https://example.org/x/y")
    return wheel, sdist


@pytest.mark.slow
def test_the_wheel_alone_goes_from_an_empty_folder_to_a_report(
    built: tuple[Path, Path], finished: Path, tmp_path: Path
) -> None:
    """The libraries are those of the tests; the program is the wheel's, and nothing of the checkout is there."""
    environment, place = tmp_path / "environment", tmp_path / "empty"
    place.mkdir()
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", environment], check=True)
    python = environment / "bin" / "python"
    own = Path(sysconfig.get_path("purelib", vars={"base": str(environment)}))
    with zipfile.ZipFile(built[0]) as packed:
        packed.extractall(own)  # noqa: S202
    (own / "libraries.pth").write_text(f"{sysconfig.get_path('purelib')}\n")

    def call(*words: object) -> subprocess.CompletedProcess[str]:
        command = [str(python), "-m", "swimmy_scale", *map(str, words)]
        environ = {"PATH": "/usr/bin:/bin", "HOME": str(tmp_path)}
        return subprocess.run(command, cwd=place, env=environ, capture_output=True, text=True, timeout=250)

    survey = finished / "survey"
    words = (
        "--catalog",
        survey / "catalogue.fits",
        "--patch-qa",
        survey / "patch_qa.fits",
        "--source",
        survey / "cutouts",
    )
    done = call("init", "first", *words, "--train-on", "training")
    assert done.returncode == 0, done.stderr
    job = place / "first/job.yaml"
    quick = "{epochs: 1, keep_from_epoch: 1, batch_size: 16, seed: 1}"
    text = job.read_text().replace("{epochs: 25, seed: 1}", f"{quick}\n  network: {NETWORK}".replace("'", ""))
    job.write_text(text)
    for again in (("plan", job), ("run", job, "--output", "first/run", "--workers", 0), ("report", "first/run")):
        done = call(*again)
        assert done.returncode in (0, 3), f"{again}: {done.stderr}"
    assert (place / "first/run/candidates.fits").is_file()
    assert (place / "first/run/report/index.html").is_file()


def test_the_sdist_has_what_its_tests_need(built: tuple[Path, Path]) -> None:
    listed = subprocess.run(["git", "ls-files", "tests", "jobs", "cluster", "benchmarks", "chaos", "studies", "docs"],
                            cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()  # fmt: skip
    with tarfile.open(built[1]) as packed:
        inside = {name.partition("/")[2] for name in packed.getnames()}
    assert sorted(set(listed) - inside) == []


def test_links_of_the_readme_lead_to_the_repository(built: tuple[Path, Path]) -> None:
    with zipfile.ZipFile(built[0]) as packed:
        about = next(name for name in packed.namelist() if name.endswith("METADATA"))
        text = packed.read(about).decode()
    assert "![Scores of a simulated survey" in text
    assert "](https://example.org/x/y/raw/main/docs/candidates.png)" in text
    assert "](https://example.org/x/y/blob/main/docs/second-day.md)" in text
    assert "](docs/" not in text
    assert "Project-URL: Repository, https://example.org/x/y" in text


def test_what_lacks_something_is_refused(built: tuple[Path, Path], tmp_path: Path) -> None:
    wheel, sdist = built
    poorer = tmp_path / wheel.name
    with zipfile.ZipFile(wheel) as packed, zipfile.ZipFile(poorer, "w") as left:
        for name in packed.namelist():
            if not name.endswith("slurm.yaml"):
                left.writestr(name, packed.read(name))
    assert script().problems(poorer, sdist) == [f"{wheel.name}: no template slurm.yaml"]
    assert script().problems(wheel, sdist) == []
