"""Fixtures that several test files use, the order of the files, and what the tests took."""

from __future__ import annotations

import gc
import os
import re
import sys
from collections.abc import Generator
from pathlib import Path

import pytest
from hypothesis import settings
from survey_runs import built_once, make_survey, run_serially, write_job

# How long an example takes tells of the machine and of what else it does.
settings.register_profile("without-deadlines", deadline=None)
settings.load_profile("without-deadlines")

# Tests start many short-lived workers; TensorFlow's start-up chatter would drown their output.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of real survey data beside the checkout; it is not part of the project."""
    folder = ROOT.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"real survey data are not at {folder}")
    return folder


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with ``survey``, ``job.yaml`` and ``run``, the job's run in one process. All processes share it.

    Whoever changes the run takes a copy.
    """

    def build(folder: Path) -> None:
        survey = make_survey(folder / "survey")
        run_serially(write_job(folder / "job.yaml", survey), folder / "run")

    return built_once(tmp_path_factory, "finished", build)


@pytest.fixture(autouse=True)
def no_default_client() -> Generator[None]:
    """A test that left Dask with a default client would let later tests of its process fail."""
    yield
    if "dask" in sys.modules:
        assert sys.modules["dask"].config.get("scheduler", None) is None


# Two processes share the files. These take longest, so they start first: the last ones end nearly at the same time.
LONGEST = (
    *("test_slurm_run.py", "test_run.py", "test_throwaway_slurm.py", "test_simulate.py", "test_growth.py"),
    *("test_changes.py", "test_fidelity.py", "test_chaos.py", "test_docs.py", "test_second_day.py", "test_combine.py"),
    *("test_browser.py", "test_release.py", "test_notebook.py", "test_benchmarks.py", "test_layers.py"),
)


WHOLLY_SLOW = re.compile(r"^pytestmark = \[?\s*pytest\.mark\.slow\b", re.MULTILINE)


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Where slow tests are left out, files that have no others need not be imported: some load Keras."""
    if config.option.markexpr != "not slow" or collection_path.suffix != ".py":
        return None
    return True if WHOLLY_SLOW.search(collection_path.read_text()) else None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Order the files; tests inside of a file keep their order."""
    items.sort(key=lambda item: LONGEST.index(item.path.name) if item.path.name in LONGEST else len(LONGEST))


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_collection() -> Generator[None, object, object]:
    """What is loaded until all tests are found stays: Python need not look through it for garbage again and again."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.collect()
        gc.freeze()
        gc.set_threshold(50_000, 20, 20)
        gc.enable()


# ---------------------------------------------------------------- what the tests took

TOOK = "took"
"""Name of a report's property: seconds of the clock and of the processors, with child processes that have ended."""
SLOW_SECONDS = 1.0
N_SHOWN = 10

_began = pytest.StashKey[tuple[float, float]]()
_took: dict[str, tuple[float, float]] = {}
_slow: set[str] = set()


def _now() -> tuple[float, float]:
    times = os.times()
    return times.elapsed, sum(times[:4])


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    item.stash[_began] = _now()
    return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if report.when == "teardown":
        wall, cpu = (now - began for now, began in zip(_now(), item.stash[_began], strict=True))
        report.user_properties.append((TOOK, (wall, cpu, item.get_closest_marker("slow") is not None)))
    return report


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Gather from all processes what each test took, its fixtures included."""
    for name, value in report.user_properties:
        if name == TOOK:
            wall, cpu, is_slow = value
            _took[report.nodeid] = wall, cpu
            if is_slow:
                _slow.add(report.nodeid)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """The ten files that took most, and the tests that should be marked as slow, of a run of many files."""
    files: dict[str, list[tuple[float, float]]] = {}
    for test, took in _took.items():
        files.setdefault(test.split("::")[0], []).append(took)
    if len(files) <= N_SHOWN:
        return
    sums = {file: tuple(sum(column) for column in zip(*each, strict=True)) for file, each in files.items()}
    terminalreporter.section(f"the {N_SHOWN} longest files: seconds of processors, seconds in all")
    for file, (wall, cpu) in sorted(sums.items(), key=lambda pair: -pair[1][1])[:N_SHOWN]:
        terminalreporter.line(f"{cpu:7.1f} {wall:7.1f}  {file}")
    for test, (wall, _) in sorted(_took.items()):
        if wall > SLOW_SECONDS and test not in _slow:
            terminalreporter.line(f"over {SLOW_SECONDS:.0f} s and not marked as slow: {wall:.1f} s  {test}")
