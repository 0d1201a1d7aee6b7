"""Build the wheel and the sdist that a person can publish, and check both: ``make dist``.

It builds from what git has, in a folder of its own. An index's page shows the README without the files beside it: with
``--repository ADDRESS`` its links and pictures lead to that address, which becomes the project's.
"""

from __future__ import annotations

import argparse
import email
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TEMPLATES = ("job.yaml", "local.yaml", "slurm.yaml", "slurm-gpu.yaml")
OF_THE_SDIST = ("tests/conftest.py", "jobs/demo.yaml", "cluster/slurm-cpu.yaml", "Makefile", "requirements.lock")


def with_addresses(readme: str, repository: str) -> str:
    """The README with its relative links and pictures as addresses of a repository's files."""

    def absolute(found: re.Match[str]) -> str:
        bang, text, target = found.groups()
        if re.match(r"[a-z]+:|#", target):
            return found[0]
        return f"{bang}[{text}]({repository}/{'raw' if bang else 'blob'}/main/{target})"

    return re.sub(r"(!?)\[([^\]]*)\]\(([^)\s]+)\)", absolute, readme)


def source(folder: Path, repository: str | None) -> Path:
    """A copy of what git has, with the address of its repository."""
    tree = folder / "source"
    tree.mkdir()
    packed = subprocess.run(["git", "archive", "HEAD"], cwd=ROOT, capture_output=True, check=True).stdout  # noqa: S607
    subprocess.run(["tar", "-x", "-C", str(tree)], input=packed, check=True)  # noqa: S603, S607
    if repository is not None:
        readme, settings = tree / "README.md", tree / "pyproject.toml"
        readme.write_text(with_addresses(readme.read_text(), repository))
        urls = f'[project.urls]\nRepository = "{repository}"\nChangelog = "{repository}/blob/main/CHANGELOG.md"\n\n'
        settings.write_text(settings.read_text().replace("[project.scripts]", f"{urls}[project.scripts]"))
    return tree


def problems(wheel: Path, sdist: Path) -> list[str]:
    """What the two files lack."""
    with zipfile.ZipFile(wheel) as packed:
        names = packed.namelist()
        templates = {name.rpartition("/")[2] for name in names if name.startswith("swimmy_scale/library/templates/")}
        about = next(name for name in names if name.endswith(".dist-info/METADATA"))
        metadata = email.message_from_bytes(packed.read(about))
        empty = [name for name in names if name.endswith(".yaml") and not packed.read(name).strip()]
    found = [f"{wheel.name}: no template {name}" for name in TEMPLATES if name not in templates]
    found += [f"{wheel.name}: {name} is empty" for name in empty]
    found += [f"{wheel.name}: {name} is no part of the program" for name in names if name.startswith("tests/")]
    if not metadata.get_payload() or not metadata.get_all("Classifier"):
        found.append(f"{wheel.name}: no description or no classifiers")
    with tarfile.open(sdist) as packed_source:
        inside = {name.partition("/")[2] for name in packed_source.getnames()}
    return found + [f"{sdist.name}: no {name}" for name in OF_THE_SDIST if name not in inside]


def build(output: Path, repository: str | None = None) -> list[Path]:
    """Build both files into ``output`` and check them; returns them.

    Raises
    ------
    SystemExit
        When one lacks something.
    """
    output.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        tree, made = source(Path(folder), repository), Path(folder) / "made"
        command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(made), str(tree)]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)  # noqa: S603
        wheel, sdist = next(made.glob("*.whl")), next(made.glob("*.tar.gz"))
        if lacking := problems(wheel, sdist):
            raise SystemExit("\n".join(lacking))
        return [Path(shutil.copy2(path, output / path.name)) for path in (wheel, sdist)]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, default=ROOT / "dist")
    parser.add_argument("--repository", help="such as https://example.org/you/swimmy_scale")
    given = parser.parse_args()
    for path in build(given.output, given.repository):
        print(path)  # noqa: T201
