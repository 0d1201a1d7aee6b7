"""Signals that end a driver."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

from swimmy_scale.cluster.signals import driver_signals, interrupts_held, interrupts_kept, interrupts_not_lost
from swimmy_scale.errors import TimeIsUpError


@pytest.mark.parametrize(
    ("number", "error"),
    [(signal.SIGUSR1, TimeIsUpError), (signal.SIGTERM, KeyboardInterrupt), (signal.SIGINT, KeyboardInterrupt)],
)
def test_signals_become_exceptions_once(number: signal.Signals, error: type[BaseException]) -> None:
    before = signal.getsignal(number)
    with driver_signals():
        with pytest.raises(error):
            os.kill(os.getpid(), number)
        os.kill(os.getpid(), number)  # while the program deals with the first
    assert signal.getsignal(number) == before


@pytest.mark.parametrize(("number", "error"), [(signal.SIGUSR1, TimeIsUpError), (signal.SIGINT, KeyboardInterrupt)])
def test_a_signal_that_python_ignores_comes_again(number: signal.Signals, error: type[BaseException]) -> None:
    came = []

    class Removed:
        def __del__(self) -> None:
            came.append("once")
            os.kill(os.getpid(), number)
            came.append("never")

    def work() -> None:
        removed = Removed()
        del removed
        assert came == ["once"], "Python ignored it"
        for _ in range(1000):
            time.sleep(0.01)

    hook = sys.unraisablehook
    with driver_signals(), pytest.raises(error):
        work()
    assert sys.unraisablehook is hook


@pytest.mark.usefixtures("usual_ctrl_c")
def test_what_else_python_ignores_is_told_as_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[type[BaseException]] = []
    monkeypatch.setattr(sys, "unraisablehook", lambda ignored: told.append(ignored.exc_type))

    class Removed:
        def __del__(self) -> None:
            raise ValueError

    with interrupts_not_lost():
        removed = Removed()
        del removed
    assert told == [ValueError]


@pytest.fixture
def usual_ctrl_c() -> Iterator[None]:
    """Python's own handling, whatever other tests have imported."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("usual_ctrl_c")
def test_a_library_that_takes_ctrl_c_gives_it_back() -> None:
    before = signal.getsignal(signal.SIGINT)
    with interrupts_kept():
        signal.signal(signal.SIGINT, lambda *_: None)
    assert signal.getsignal(signal.SIGINT) is before
    done = []

    def within() -> None:
        with interrupts_held():
            os.kill(os.getpid(), signal.SIGINT)
            done.append("the block")

    with pytest.raises(KeyboardInterrupt):
        within()
    assert done == ["the block"], "it comes at the end"
    assert signal.getsignal(signal.SIGINT) is before


@pytest.mark.slow
def test_importing_the_cluster_keeps_the_handling_of_ctrl_c() -> None:
    """A notebook that imports the package keeps its own handler."""
    code = """
import signal
own = lambda *_: None
signal.signal(signal.SIGINT, own)
import swimmy_scale.cluster.driver, swimmy_scale.cluster.fleet, swimmy_scale.cluster.local, swimmy_scale.cluster.scripts
from swimmy_scale.cluster.signals import interrupts_kept
assert signal.getsignal(signal.SIGINT) is own
with interrupts_kept():
    import dask_jobqueue
assert signal.getsignal(signal.SIGINT) is own
import dask_jobqueue.runner, importlib
importlib.reload(dask_jobqueue.runner)
assert signal.getsignal(signal.SIGINT) is not own, "dask_jobqueue does it no more: interrupts_kept has no use"
"""
    subprocess.run([sys.executable, "-c", code], check=True)
