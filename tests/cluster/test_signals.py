"""Signals that end a driver."""

from __future__ import annotations

import os
import signal

import pytest

from swimmy_scale.cluster.signals import driver_signals
from swimmy_scale.errors import TimeIsUpError


@pytest.mark.parametrize(("number", "error"), [(signal.SIGUSR1, TimeIsUpError), (signal.SIGTERM, KeyboardInterrupt)])
def test_signals_become_exceptions_once(number: signal.Signals, error: type[BaseException]) -> None:
    before = signal.getsignal(number)
    with driver_signals():
        with pytest.raises(error):
            os.kill(os.getpid(), number)
        os.kill(os.getpid(), number)  # while the program deals with the first
    assert signal.getsignal(number) == before
