"""A plugin of pytest: only tests whose functions another version has, too, whatever their files are called.

``TESTS_OF_BEFORE`` is a file with the names of the functions, one a line (see ``checks.py``).
"""

from __future__ import annotations

import functools
import os
import re
from pathlib import Path

import pytest

DEFINED = re.compile(r"^\s*def (test_\w+)", re.MULTILINE)


@functools.cache
def wanted() -> frozenset[str]:
    """The names of the functions."""
    return frozenset(Path(os.environ["TESTS_OF_BEFORE"]).read_text().split())


def function_of(test: str) -> str:
    """The name of the function in the id of a test."""
    return test.partition("[")[0].rpartition("::")[2]


def pytest_ignore_collect(collection_path: Path) -> bool | None:
    """Files that have none of them need not be imported."""
    if collection_path.is_dir() or not collection_path.name.startswith("test_"):
        return None
    return True if wanted().isdisjoint(DEFINED.findall(collection_path.read_text())) else None


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out all others."""
    others = [item for item in items if function_of(item.nodeid) not in wanted()]
    config.hook.pytest_deselected(items=others)
    items[:] = [item for item in items if function_of(item.nodeid) in wanted()]
