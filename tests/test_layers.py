"""The house: which floor a module is on, and that none imports from above."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parent.parent / "swimmy_scale"
FLOORS = {
    "errors": 0,
    "quiet": 0,
    **dict.fromkeys(
        ("survey", "quarantine", "network", "preprocess", "anomaly", "radix", "cuts", "sample", "job"),
        1,
    ),
    **dict.fromkeys(("receipts", "store", "cutouts", "scores", "ingest", "catalog"), 2),
    **dict.fromkeys(("autoencoder", "scorer", "figures"), 3),
    "stages": 4,
    **dict.fromkeys(("cluster", "progress", "simulate"), 5),
    **dict.fromkeys(("cli", "__main__"), 6),
}
# Third-party packages that only these rooms may import.
ONLY = {
    "keras": {"autoencoder", "scorer"},
    "tensorflow": {"autoencoder", "scorer"},
    "distributed": {"cluster"},
    "dask": {"cluster"},
    "dask_jobqueue": {"cluster"},
    "galsim": {"simulate"},
    "matplotlib": {"figures"},
    "click": {"cli"},
    "rich": {"cli", "progress"},
    "pydantic": {"job"},
    "yaml": {"job"},
    "zarr": {"store", "cutouts", "scores", "ingest"},
    "h5py": {"ingest"},
    "pyarrow": {"ingest", "catalog"},
    "filelock": {"receipts"},
}
PURE_MAY_IMPORT = {"numpy", "astropy", "pydantic", "yaml"}
MODULES = sorted(path for path in PACKAGE.rglob("*.py") if path != PACKAGE / "__init__.py")


def room(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports(path: Path) -> set[str]:
    """Dotted names of everything that a module imports, inside functions too."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            module = node.module or ""
            names |= {f"{module}.{alias.name}" for alias in node.names} if module == "swimmy_scale" else {module}
    return names


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_module_keeps_to_its_floor(path: Path) -> None:
    here = room(path)
    assert here in FLOORS, f"{here} has no floor: add it to the table"
    for name in imports(path):
        top, _, rest = name.partition(".")
        if top == "swimmy_scale":
            there = rest.split(".")[0]
            if there in FLOORS and there != here:
                same = FLOORS[there] == FLOORS[here]
                assert FLOORS[there] <= FLOORS[here], f"{here} imports {there}, which is above it"
                assert not (same and there == "stages"), f"{here} imports {there}"
        assert here in ONLY.get(top, {here}), f"{here} imports {top}, which is for {ONLY[top]}"


@pytest.mark.parametrize("path", [path for path in MODULES if FLOORS[room(path)] == 1], ids=lambda path: path.stem)
def test_pure_modules_import_little_and_open_nothing(path: Path) -> None:
    third_party = {name.split(".")[0] for name in imports(path)} & set(ONLY)
    assert third_party <= PURE_MAY_IMPORT
    calls = {
        node.func.id
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
    }
    assert "open" not in calls


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_module_is_short_and_well_named(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= 500
    assert path.stem not in {"utils", "core", "helpers", "common"}


def test_importing_the_command_line_loads_no_tensorflow() -> None:
    import subprocess
    import sys

    code = "import sys, swimmy_scale.cli; sys.exit('tensorflow' in sys.modules or 'keras' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
