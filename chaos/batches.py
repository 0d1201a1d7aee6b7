"""Many small inputs in one fork, which may die or hang on any of them."""

from __future__ import annotations

import json
import os
import resource
import select
import signal
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

from chaos.records import Outcome

MOST_MEMORY_BYTES = 6 << 30
SECONDS_FOR_ONE = 2.0
PATIENCE, SHOWN = 10, 600

type Check = Callable[[int], tuple[list[str], str]]
"""Tries input number n; gives what is wrong, and what came of it for the counts."""


def in_a_fork(n_inputs: int, check: Check, seconds: float = SECONDS_FOR_ONE) -> Outcome:
    """Try inputs 0 to n - 1 in a fork with limited memory; goes on behind one that ends the fork or hangs.

    One that takes more than ``seconds`` of the processor fails, and one that takes ten times as long is ended.
    """
    outcome, first = Outcome(tried=n_inputs), 0
    while first < n_inputs:
        first = _go_on(first, n_inputs, check, outcome, seconds)
    return outcome


def _go_on(first: int, n_inputs: int, check: Check, outcome: Outcome, seconds: float) -> int:
    """One fork; returns the first input that it did not come to."""
    reading, writing = os.pipe()
    process_id = os.fork()
    if not process_id:
        os.close(reading)
        _child(writing, range(first, n_inputs), check, seconds)
    os.close(writing)
    answers, since, hangs = b"", time.monotonic(), False
    while True:
        if select.select([reading], [], [], 0.5)[0]:
            piece = os.read(reading, 1 << 16)
            if not piece:
                break
            answers, since = answers + piece, time.monotonic()
        elif time.monotonic() - since > PATIENCE * seconds:
            hangs = True
            os.kill(process_id, signal.SIGKILL)
    os.close(reading)
    status = os.waitstatus_to_exitcode(os.waitpid(process_id, 0)[1])
    lines = answers.split(b"\n")[:-1]
    for line in lines:
        found: dict[str, Any] = json.loads(line)
        outcome.counts += Counter([found["came"]])
        outcome.failures += [{"what": what, "input": found["input"]} for what in found["wrong"][:1]]
    ended_at = first + len(lines)
    if ended_at < n_inputs:
        what = "it hangs" if hangs else f"the process ends with {status}"
        outcome.failures.append({"what": what, "input": ended_at})
        outcome.counts[what] += 1
        ended_at += 1
    return ended_at


def _child(writing: int, inputs: range, check: Check, seconds: float) -> None:
    """Try inputs, and write a line for each."""
    try:
        resource.setrlimit(resource.RLIMIT_AS, (MOST_MEMORY_BYTES, MOST_MEMORY_BYTES))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
        for number in inputs:
            # Of the processor: other work on the machine takes time too. What only waits is ended from outside.
            began = time.process_time()
            try:
                wrong, came = check(number)
            except BaseException as error:
                wrong, came = [f"{type(error).__name__}: {str(error)[:SHOWN]}"], "an exception that nothing expects"
            if (took := time.process_time() - began) > seconds:
                wrong = [*wrong, f"it takes {took:.1f} s"]
            line = json.dumps({"input": number, "wrong": wrong, "came": came}, default=str)
            os.write(writing, line.encode() + b"\n")
    finally:
        os._exit(0)
