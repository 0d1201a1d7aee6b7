"""The house: which floor a module is on, and that none imports from above."""

from __future__ import annotations

import ast
import graphlib
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parent.parent / "swimmy_scale"
# A room is a module of the package, or a folder of modules.
FLOORS = {
    "errors": 0,
    "quiet": 0,
    "survey": 1,
    "bit_rounding": 1,
    "yaml_text": 1,
    "quarantine": 1,
    "network": 1,
    "preprocess": 1,
    "memory": 1,
    "anomaly": 1,
    "noise": 1,
    "artefact_hints": 1,
    "marks": 1,
    "winograd": 1,
    "numba_scorer": 1,
    "radix": 1,
    "cuts": 1,
    "ensemble": 1,
    "weight_sets": 1,
    "sample": 1,
    "crossmatch": 1,
    "emission_lines": 1,
    "classes": 1,
    "profiles": 1,
    "statistics": 1,
    "selection_rates": 1,
    "stacking": 1,
    "tables": 1,
    "paper_numbers": 1,
    "job": 1,
    "site": 1,
    "receipts": 2,
    "weights": 2,
    "store": 2,
    "cutouts": 2,
    "scores": 2,
    "ingest": 2,
    "counterparts": 2,
    "spectroscopy": 2,
    "catalog": 2,
    "weight_set_table": 2,
    "dataset": 2,
    "devices": 3,
    "device_preprocess": 3,
    "autoencoder": 3,
    "scorer": 3,
    "figures": 3,
    "report": 3,
    "stages": 4,
    "characterise": 4,
    "cluster": 5,
    "progress": 5,
    "simulate": 5,
    "console": 5,
    "doctor": 5,
    "cli": 6,
    "__main__": 6,
}
# Rooms of one floor that may import each other, in this direction only.
NEIGHBOURS = {
    "preprocess": {"survey"},
    "memory": {"survey", "network"},
    "bit_rounding": {"survey"},
    "anomaly": {"survey"},
    "noise": {"survey", "preprocess", "anomaly"},
    "artefact_hints": {"survey"},
    "winograd": {"survey"},
    "numba_scorer": {"survey", "network", "preprocess", "anomaly", "winograd"},
    "radix": {"survey"},
    "cuts": {"survey", "radix"},
    "ensemble": {"survey"},
    "weight_sets": {"survey", "network", "cuts"},
    "sample": {"survey"},
    "emission_lines": {"survey"},
    "classes": {"survey"},
    "profiles": {"survey"},
    "selection_rates": {"survey"},
    "tables": {"survey", "cuts"},
    "job": {"survey", "bit_rounding", "network", "noise", "cuts", "ensemble", "sample", "weight_sets", "yaml_text"},
    "site": {"yaml_text", "memory"},
    "store": {"receipts"},
    "cutouts": {"receipts", "store"},
    "scores": {"receipts", "store", "cutouts"},
    "ingest": {"receipts", "store", "cutouts"},
    "counterparts": {"receipts"},
    "spectroscopy": {"ingest", "counterparts"},
    "catalog": {"receipts"},
    "weight_set_table": {"receipts"},
    "dataset": {"cutouts", "scores"},
    "doctor": {"cluster"},
    "autoencoder": {"devices"},
    "device_preprocess": {"devices"},
    "scorer": {"autoencoder", "device_preprocess", "devices"},
    "characterise": {"stages"},
    "__main__": {"cli"},
}
# What each room may use that neither Python nor this package brings.
THIRD_PARTY = {
    "errors": set(),
    "quiet": set(),
    "quarantine": set(),
    "network": set(),
    "memory": set(),
    "marks": set(),
    "job": {"pydantic", "yaml"},
    "site": {"pydantic"},
    "yaml_text": {"pydantic", "yaml"},
    "sample": {"numpy", "astropy"},
    "crossmatch": {"numpy", "scipy"},
    "emission_lines": {"numpy", "speclite"},
    "statistics": {"numpy", "scipy"},
    "paper_numbers": {"astropy"},
    "winograd": {"numpy", "numba"},
    "weights": {"numpy", "h5py"},
    "receipts": {"filelock"},
    "store": {"numpy", "zarr", "xarray"},
    "cutouts": {"numpy", "zarr", "xarray"},
    "scores": {"numpy", "zarr", "xarray"},
    "ingest": {"numpy", "astropy", "scipy", "pyarrow", "h5py", "zarr"},
    "counterparts": {"numpy", "astropy"},
    "catalog": {"numpy", "astropy", "pyarrow"},
    "weight_set_table": {"numpy", "astropy"},
    "dataset": {"numpy", "xarray", "zarr"},
    "doctor": {"astropy", "distributed", "packaging", "tensorflow"},
    "devices": {"numpy", "keras", "tensorflow", "jax", "torch"},
    "device_preprocess": {"numpy"},
    "autoencoder": {"numpy", "keras", "tensorflow"},
    "scorer": {"numpy", "keras", "tensorflow"},
    "figures": {"numpy", "matplotlib"},
    "report": {"numpy", "matplotlib", "PIL", "jinja2"},
    "stages": {"numpy"},
    "characterise": {"numpy", "astropy", "matplotlib"},
    "cluster": {"dask", "distributed", "dask_jobqueue", "yaml"},
    "progress": {"rich"},
    "console": {"click", "rich"},
    "simulate": {"numpy", "scipy", "astropy", "galsim", "speclite"},
    "cli": {"click", "rich"},
    "__main__": set(),
}
PURE_THIRD_PARTY = {"numpy"}
# Pure rooms take arrays and return arrays. The job description alone reads a file: its own.
PURE = sorted(
    name for name, floor in FLOORS.items() if floor <= 1 and name not in {"job", "site", "yaml_text", "quiet"}
)
NOT_PURE = {
    *("asyncio", "io", "logging", "mmap", "multiprocessing", "os", "pathlib", "random", "shutil", "socket"),
    *("subprocess", "tempfile", "threading", "time"),
}
FILE_CALLS = {
    *("open", "print", "input", "read_text", "write_text", "read_bytes", "write_bytes", "mkdir", "unlink"),
    *("fromfile", "tofile", "loadtxt", "savetxt", "genfromtxt", "memmap", "save", "savez", "load"),
}
UNSAFE = {"pickle", "cloudpickle", "dill", "marshal", "shelve", "importlib.import_module"}
VERSION = {"swimmy_scale", "swimmy_scale.__version__"}  # the package itself holds nothing else but a lazy open_run
MODULES = sorted(path for path in PACKAGE.rglob("*.py") if path != PACKAGE / "__init__.py")
each_module = pytest.mark.parametrize("path", MODULES, ids=lambda path: path.relative_to(PACKAGE).as_posix())


def room(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


@cache
def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text(), str(path))


@cache
def imports(path: Path) -> frozenset[str]:
    """Dotted names of all that a module imports, inside functions and for the type checker as well."""
    names: set[str] = set()
    for node in ast.walk(parsed(path)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return frozenset(names)


def calls(path: Path) -> set[str]:
    """Last names of all that a module calls."""
    functions = [node.func for node in ast.walk(parsed(path)) if isinstance(node, ast.Call)]
    return {f.id for f in functions if isinstance(f, ast.Name)} | {
        f.attr for f in functions if isinstance(f, ast.Attribute)
    }


def module_of(name: str) -> Path | None:
    """The file of this package that a dotted name stands for or lies in."""
    place = PACKAGE.joinpath(*name.split(".")[1:])
    for candidate in (place.with_suffix(".py"), place / "__init__.py", place.parent.with_suffix(".py")):
        if candidate.is_file() and candidate != PACKAGE / "__init__.py":
            return candidate
    return place.parent / "__init__.py" if place.parent != PACKAGE else None


def test_the_table_is_complete() -> None:
    rooms = {room(path) for path in MODULES}
    assert rooms - set(FLOORS) == set(), "new rooms: give each a floor in the table"
    assert set(FLOORS) - rooms == set(), "rooms in the table that are not there any more"
    for here, others in NEIGHBOURS.items():
        assert all(FLOORS[there] == FLOORS[here] for there in others)


@each_module
def test_module_imports_nothing_from_above(path: Path) -> None:
    here = room(path)
    for name in imports(path):
        if name.split(".")[0] != "swimmy_scale" or name in VERSION:
            continue
        there = name.split(".")[1]
        allowed = there == here or FLOORS[there] < FLOORS[here] or there in NEIGHBOURS.get(here, set())
        assert allowed, f"{here} (floor {FLOORS[here]}) imports {there} (floor {FLOORS[there]})"


@each_module
def test_module_uses_the_libraries_of_its_room(path: Path) -> None:
    tops = {name.split(".")[0] for name in imports(path)}
    third_party = tops - sys.stdlib_module_names - {"swimmy_scale"}
    assert third_party <= THIRD_PARTY.get(room(path), PURE_THIRD_PARTY)
    assert not (tops | imports(path)) & UNSAFE
    assert not calls(path) & {"eval", "exec", "__import__"}


@pytest.mark.parametrize("name", PURE)
def test_pure_room_touches_no_file(name: str) -> None:
    path = PACKAGE / f"{name}.py"
    assert not {item.split(".")[0] for item in imports(path)} & NOT_PURE
    assert not calls(path) & FILE_CALLS


@each_module
def test_module_is_short_and_well_named(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= 500
    assert not set(path.relative_to(PACKAGE).with_suffix("").parts) & {"utils", "core", "helpers", "common"}


def test_no_modules_import_each_other_in_a_circle() -> None:
    graph: dict[Path, set[Path]] = {}
    for path in MODULES:
        names = [name for name in imports(path) if name.startswith("swimmy_scale.")]
        graph[path] = {module for name in names if (module := module_of(name)) is not None} - {path}
        graph[path] -= {path.parent / "__init__.py"}  # a folder's front names its own modules
    assert len(list(graphlib.TopologicalSorter(graph).static_order())) >= len(MODULES)


def test_help_and_completion_load_nothing_that_computes() -> None:
    """They answer at once: of libraries only click is there, for every command's help."""
    code = (
        "import sys, click; from swimmy_scale.cli import main; before = len(main.commands);"
        "[command.get_help(click.Context(command)) for command in (main, *main.commands.values())];"
        "print(before, *sorted({name.partition('.')[0] for name in sys.modules}))"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    n_commands, *loaded = done.stdout.split()
    assert int(n_commands) >= 15
    libraries = set().union(*THIRD_PARTY.values()) - {"click"}
    assert set(loaded) & libraries == set()


@pytest.mark.parametrize(
    ("module", "libraries"),
    [("stages.run", {"matplotlib", "scipy.spatial", "scipy.interpolate", "keras"}), ("scorer", {"matplotlib"})],
)
def test_workers_start_without_what_they_seldom_use(module: str, libraries: set[str]) -> None:
    code = f"import sys, swimmy_scale.{module}; print(*sys.modules); import matplotlib.pyplot"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert f"swimmy_scale.{module}" in done.stdout.split()
    assert libraries & set(done.stdout.split()) == set()
