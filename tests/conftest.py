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
