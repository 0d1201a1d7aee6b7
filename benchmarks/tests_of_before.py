"""A plugin of pytest: only tests whose functions another version has, too, whatever their files are called.

``TESTS_OF_BEFORE`` is a file with the names of the functions, one a line (see ``checks.py``).
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest


def function_of(test: str) -> str:
    """The name of the function in the id of a test."""
    return test.partition("[")[0].rpartition("::")[2]


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out all others."""
    wanted = set(Path(os.environ["TESTS_OF_BEFORE"]).read_text().split())
    others = [item for item in items if function_of(item.nodeid) not in wanted]
    config.hook.pytest_deselected(items=others)
    items[:] = [item for item in items if function_of(item.nodeid) in wanted]
