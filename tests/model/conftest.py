"""Fixtures for the tests of the model."""

from __future__ import annotations

import pytest


@pytest.fixture(scope="session")
def one_thread() -> None:
    """Keras computes with one thread. Only tests that load Keras anyway ask for this."""
    from swimmy_scale.model.devices import configure_threads

    configure_threads(1)
