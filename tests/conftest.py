"""Fixtures that several test files use."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

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


# Two processes share the files. These take longest, mostly by waiting, so they start first.
LONGEST = ("test_slurm_run.py", "test_run.py", "test_throwaway_slurm.py", "test_simulate.py")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Order the files; tests inside of a file keep their order."""
    items.sort(key=lambda item: LONGEST.index(item.path.name) if item.path.name in LONGEST else len(LONGEST))
