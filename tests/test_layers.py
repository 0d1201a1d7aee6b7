"""The house: ten wings, each of which imports only wings above it in the table, and uses only its own libraries."""

from __future__ import annotations

import ast
import graphlib
import re
import subprocess
import sys
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

from swimmy_scale.storage.run_directory import At, LogFolder, ModelsFolder, RunDirectory, SelectionFolder

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "swimmy_scale"


@dataclass(frozen=True)
class Wing:
    """Which wings one imports, and which libraries it uses: no others, and each of them."""

    imports: set[str]
    uses: set[str]


WINGS = {
    "method": Wing(set(), {"numpy", "pydantic", "speclite", "yaml"}),
    "storage": Wing({"method"}, {"astropy", "filelock", "numpy", "pyarrow", "xarray", "zarr"}),
    "simulate": Wing({"method", "storage"}, {"astropy", "galsim", "h5py", "numpy", "pyarrow", "scipy", "speclite"}),
    "ingest": Wing({"method", "storage"}, {"astropy", "h5py", "lsst", "numpy", "pyarrow", "scipy", "zarr"}),
    "model": Wing({"method", "storage"}, {"h5py", "jax", "keras", "llvmlite", "numba", "numpy", "tensorflow", "torch"}),
    "results": Wing(
        {"method", "storage", "model"}, {"PIL", "astropy", "jinja2", "matplotlib", "numpy", "scipy", "sklearn", "umap"}
    ),
    "stages": Wing({"method", "storage", "ingest", "model", "results"}, {"numpy"}),
    "cluster": Wing(
        {"method", "storage", "model", "stages"},
        {"astropy", "dask", "dask_jobqueue", "distributed", "packaging", "pydantic", "tensorflow", "yaml"},
    ),
    "library": Wing({"method", "storage", "model", "stages", "cluster"}, {"astropy", "numpy", "xarray"}),
    "cli": Wing({"method", "storage", "simulate", "results", "stages", "cluster", "library"}, {"click", "rich"}),
}
# Beside the wings: the front, the start of the program, and what ends it with a message, which all wings may raise.
FRONT, START, ERRORS = "__init__.py", "__main__.py", "errors.py"

NO_ARRAYS = {
    *("asyncio", "io", "logging", "mmap", "multiprocessing", "os", "pathlib", "random", "shutil", "socket"),
    *("subprocess", "tempfile", "threading", "time"),
}
FILE_CALLS = {
    *("open", "print", "input", "read_text", "write_text", "read_bytes", "write_bytes", "mkdir", "unlink"),
    *("fromfile", "tofile", "loadtxt", "savetxt", "genfromtxt", "memmap", "save", "savez", "load"),
}
JOB_LIBRARIES = {"pydantic", "yaml"}
UNSAFE = {"pickle", "cloudpickle", "dill", "marshal", "shelve", "importlib.import_module"}
ARRAYS = ("AnyArray", "BoolArray", "DoubleArray", "FloatArray", "IntArray")
LONGEST_MODULE, LONGEST_FUNCTION = 500, 95

MODULES = sorted(path for path in PACKAGE.rglob("*.py") if path.parent != PACKAGE)
EVERYWHERE = [*MODULES, *sorted(PACKAGE.glob("*.py"))]
each_module = pytest.mark.parametrize("path", MODULES, ids=lambda path: path.relative_to(PACKAGE).as_posix())


def wing(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0]


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


def wings_of(path: Path) -> set[str]:
    """The other wings that a module imports."""
    ours = {name.split(".")[1] for name in imports(path) if name.startswith("swimmy_scale.")}
    return ours - {wing(path), "errors", "__version__"}


def libraries_of(path: Path) -> set[str]:
    return {name.split(".")[0] for name in imports(path)} - sys.stdlib_module_names - {"swimmy_scale"}


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


# ---------------------------------------------------------------- the wings


def test_the_package_is_its_wings() -> None:
    entries = {path.name for path in PACKAGE.iterdir() if path.name != "__pycache__"}
    assert entries == {*WINGS, FRONT, START, ERRORS}


def test_a_wing_imports_only_those_above_it() -> None:
    for place, (name, row) in enumerate(WINGS.items()):
        assert row.imports <= set(list(WINGS)[:place]), f"{name} stands above what it imports"


@each_module
def test_a_module_keeps_to_its_wings_row(path: Path) -> None:
    row = WINGS[wing(path)]
    assert wings_of(path) <= row.imports
    assert libraries_of(path) <= row.uses


@pytest.mark.parametrize("path", EVERYWHERE, ids=lambda path: path.relative_to(PACKAGE).as_posix())
def test_a_module_executes_no_data(path: Path) -> None:
    assert not ({name.split(".")[0] for name in imports(path)} | imports(path)) & UNSAFE
    assert not calls(path) & {"eval", "exec", "__import__"}


@pytest.mark.parametrize("name", WINGS)
def test_a_row_allows_nothing_that_is_not_used(name: str) -> None:
    modules = [path for path in MODULES if wing(path) == name]
    assert set().union(*map(wings_of, modules)) == WINGS[name].imports
    assert set().union(*map(libraries_of, modules)) == WINGS[name].uses


def test_the_table_of_contributing_is_this_one() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text()
    rows = re.findall(r"^\| `(\w+)` \| [^|]+ \| ([^|]*) \| ([^|]*) \|$", text, re.MULTILINE)
    assert [name for name, _, _ in rows] == list(WINGS)
    for name, above, libraries in rows:
        assert set(re.findall(r"`(\w+)`", above)) == WINGS[name].imports, name
        assert set(re.findall(r"`(\w+)`", libraries)) == WINGS[name].uses, name


def test_no_modules_import_each_other_in_a_circle() -> None:
    graph: dict[Path, set[Path]] = {}
    for path in MODULES:
        names = [name for name in imports(path) if name.startswith("swimmy_scale.")]
        graph[path] = {module for name in names if (module := module_of(name)) is not None} - {path}
        graph[path] -= {path.parent / "__init__.py"}  # a folder's front names its own modules
    assert len(list(graphlib.TopologicalSorter(graph).static_order())) >= len(MODULES)


# ---------------------------------------------------------------- inside of wings

METHOD = [path for path in MODULES if wing(path) == "method"]


@pytest.mark.parametrize(
    "path", [path for path in METHOD if not libraries_of(path) & JOB_LIBRARIES], ids=lambda path: path.stem
)
def test_the_method_takes_arrays_and_returns_arrays(path: Path) -> None:
    """All of it but the job that sets it, which is described by pydantic and read from YAML."""
    assert not {name.split(".")[0] for name in imports(path)} & NO_ARRAYS
    assert not calls(path) & FILE_CALLS


@pytest.mark.parametrize("path", [path for path in MODULES if wing(path) == "results"], ids=lambda path: path.stem)
def test_results_write_no_store(path: Path) -> None:
    written = {name for name in imports(path) if name.startswith("swimmy_scale.storage.")}
    assert not {name for name in written if re.search(r"\.(store|scores|cutouts)\.(write|create)", name)}


def _file_names() -> set[str]:
    """What lies in a run directory, by the room that knows it."""
    folders = (RunDirectory(Path("r")), ModelsFolder(Path("r")), SelectionFolder(Path("r")), LogFolder(Path("r")))
    found = set()
    for folder in folders:
        for name, attribute in vars(type(folder)).items():
            if isinstance(attribute, At):
                found |= set(attribute.name.split("/"))
            elif isinstance(attribute, property) and name != "ledger":
                found.add(getattr(folder, name).path.name)
    found.add(ModelsFolder(Path("r")).evaluation(0).parent.name)
    return found - {"r"}


def _spelt(path: Path) -> set[str]:
    """File names that a module joins to a path, and all its texts that look like the name of a file."""
    found = set()
    for node in ast.walk(parsed(path)):
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Div) and isinstance(node.right, ast.Constant):
            found |= set(str(node.right.value).split("/"))
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and re.fullmatch(r"[\w./-]+", node.value):
            found |= {part for part in node.value.split("/") if "." in part}
    return found


def test_names_in_paths_are_seen() -> None:
    assert _file_names() >= {"job.yaml", "scores.zarr", "models", "selected.keras", "summary.json", "log", "report"}
    assert _spelt(PACKAGE / "storage/run_directory.py") >= {"job.yaml", "models", "selected.keras", "log"}


@each_module
def test_one_room_alone_spells_the_names_of_a_run_directory(path: Path) -> None:
    if path != PACKAGE / "storage/run_directory.py":
        assert not _spelt(path) & _file_names()


# Keys, whose folder others may not list and which end with their driver, and marks of attempts, which need not
# outlive a power cut. A simulated survey is an input.
MAKES_FOLDERS = {"storage/files.py", "cluster/tls.py", "stages/lost_workers.py"}


@each_module
def test_one_function_makes_folders_and_flushes_their_names(path: Path) -> None:
    if wing(path) != "simulate" and path.relative_to(PACKAGE).as_posix() not in MAKES_FOLDERS:
        assert not calls(path) & {"mkdir", "makedirs"}


@each_module
def test_one_function_removes_folders_and_names_what_it_cannot_remove(path: Path) -> None:
    if path.relative_to(PACKAGE).as_posix() not in {"storage/files.py", "cluster/tls.py"}:
        assert "rmtree" not in calls(path)


@each_module
def test_arrays_are_named_once(path: Path) -> None:
    if path != PACKAGE / "method/survey.py":
        targets = [
            target.id
            for node in ast.walk(parsed(path))
            if isinstance(node, ast.Assign)
            for target in node.targets
            if isinstance(target, ast.Name)
        ]
        assert not set(targets) & set(ARRAYS)


@pytest.mark.parametrize("path", EVERYWHERE, ids=lambda path: path.relative_to(PACKAGE).as_posix())
def test_module_and_functions_are_short_and_well_named(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= LONGEST_MODULE
    assert not set(path.relative_to(PACKAGE).with_suffix("").parts) & {"utils", "core", "helpers", "common"}
    for node in ast.walk(parsed(path)):
        if isinstance(node, ast.FunctionDef):
            assert (node.end_lineno or 0) - node.lineno < LONGEST_FUNCTION, node.name


def test_a_rooms_tests_stand_where_the_room_stands() -> None:
    folders = {path.relative_to(PACKAGE).parent for path in MODULES}
    for path in (ROOT / "tests").rglob("test_*.py"):
        place = path.relative_to(ROOT / "tests").parent
        assert place in {*folders, Path(), Path("studies")}, f"{path}: no folder of the package is called {place}"


# ---------------------------------------------------------------- what is loaded


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
    libraries = set().union(*(row.uses for row in WINGS.values())) - {"click"}
    assert set(loaded) & libraries == set()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("module", "libraries"),
    [
        ("stages.run", {"matplotlib", "scipy.spatial", "scipy.interpolate", "keras"}),
        ("stages.run", {"pyarrow", "pandas", "astropy.table", "astropy.coordinates"}),
        ("model.keras_scorer", {"matplotlib", "pandas", "jax"}),
        ("cluster.executors", {"dask", "distributed", "numba", "keras"}),
    ],
)
def test_workers_start_without_what_they_seldom_use(module: str, libraries: set[str]) -> None:
    code = f"import sys, swimmy_scale.{module}; print(*sys.modules); import matplotlib.pyplot"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert f"swimmy_scale.{module}" in done.stdout.split()
    assert libraries & set(done.stdout.split()) == set()
