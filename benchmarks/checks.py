"""What a change waits for: all tests, the fast ones, and the demonstration, each as ``make`` runs it.

    python benchmarks/checks.py --json benchmarks/results/checks.json
    python benchmarks/checks.py --before ../older --only test same-tests   # also a checkout of an older version
    python benchmarks/checks.py --before ../older --before-only demo   # all here, and one of them there

``same-tests`` are those tests of this version whose functions the other one has, too, and those that took the place of
some, by ``renamed_tests.json``, beside all tests of that.

A machine that others share is faster now and then. So the same work is done every ten seconds beside each command, and
the command's processor time is given in it, too: that ratio holds where the others drift.

A test of the other checkout may fail: it is told, and the time counts. Both checkouts must be set up (``make setup``)
and have no folder ``demo``, which is made and removed in every turn. The checkouts take turns. Processor time counts
all that a command starts. It takes half an hour, and an idle machine.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from measure import commit_of, counted, of_checkout, processor_seconds, report, row
from tests_of_before import function_of

ROOT = Path(__file__).resolve().parent.parent
# Names of test functions of version 32fb1b1, and of those that test the same since they were renamed or merged.
RENAMED = ROOT / "benchmarks/renamed_tests.json"
# A tenth of a second of plain Python.
FIXED_WORK = """
import time

while True:
    began = time.process_time()
    sum(number * number % 7 for number in range(1_000_000))
    print(time.process_time() - began, flush=True)
    time.sleep(10)
"""
WHAT = {
    "test": "make test: lint, types and all tests",
    "same-tests": "make test, only the tests that there were before",
    "check-fast": "make check-fast: lint, types and all tests that take no second",
    "demo": "make demo: a simulated survey to candidates and report",
}


@dataclass(frozen=True)
class Taken:
    """What a command took: seconds, those of processors, and processor seconds that the fixed work took beside it."""

    seconds: float
    processor_seconds: float
    work_seconds: float

    @property
    def works(self) -> float:
        """How often the fixed work would have been done in its processor time."""
        return self.processor_seconds / self.work_seconds


# Of `Taken`: what each line says of it, and its unit.
COLUMNS = (
    ("seconds", "", "s"),
    ("processor_seconds", ", processor time", "s"),
    ("works", ", in the time of a fixed work", "works"),
)


def has(checkout: Path, target: str) -> bool:
    """Whether a checkout's Makefile has a target."""
    return any(line.startswith(f"{target}:") for line in (checkout / "Makefile").read_text().splitlines())


def tests_of(checkout: Path) -> list[str]:
    """The names of a checkout's test functions."""
    python, variables = of_checkout(checkout)
    words = [python, "-m", "pytest", "--collect-only", "-q"]
    found = subprocess.run(words, cwd=checkout, env=variables, capture_output=True, text=True, check=True).stdout
    return sorted({function_of(line.strip()) for line in found.splitlines() if "::" in line})


def same_tests(before: Path) -> list[str]:
    """The names of an older checkout's test functions, and of those here that took the place of some."""
    names = tests_of(before)
    renamed: dict[str, list[str]] = json.loads(RENAMED.read_text())
    return sorted({*names, *(new for name in names for new in renamed.get(name, []))})


@contextlib.contextmanager
def fixed_work() -> Iterator[list[float]]:
    """Processor seconds that the same work takes again and again meanwhile; filled at the end."""
    taken = list[float]()
    with subprocess.Popen([sys.executable, "-c", FIXED_WORK], stdout=subprocess.PIPE, text=True) as process:
        try:
            yield taken
        finally:
            process.kill()
            taken += [float(line) for line in process.stdout or () if line.endswith("\n")]


def forget(checkout: Path) -> None:
    """Take away what earlier checks have left, so that all is checked and compiled from nothing, as in a new clone."""
    for folder in (".mypy_cache", ".ruff_cache", ".pytest_cache"):
        shutil.rmtree(checkout / folder, ignore_errors=True)
    for compiled in [*checkout.glob("[!.]*/**/__pycache__")]:
        shutil.rmtree(compiled)


def timed_tests(names: list[str]) -> Taken:
    """What ``make test`` takes here, with the tests of these names alone."""
    forget(ROOT)
    with tempfile.TemporaryDirectory() as folder:
        listed = Path(folder, "names")
        listed.write_text("\n".join(names))
        tests = "-n 2 --dist loadfile --no-loadscope-reorder -p benchmarks.tests_of_before"
        words = ["sh", "-ec", f"make check; TESTS_OF_BEFORE={listed} .venv/bin/python -m pytest {tests}"]
        return measured(words, ROOT)


def timed(checkout: Path, target: str, may_fail: bool = False) -> Taken:
    """What ``make TARGET`` takes."""
    demo = checkout / "demo"
    if target == "demo" and demo.exists():
        raise SystemExit(f"{demo} is there already, and the run would only be read again. Move it away first.")
    if target == "test":
        forget(checkout)
    try:
        return measured(["make", target], checkout, may_fail)
    finally:
        if target == "demo":
            shutil.rmtree(demo, ignore_errors=True)


def measured(words: list[str], checkout: Path, may_fail: bool = False) -> Taken:
    """What a command takes in a checkout."""
    started = time.perf_counter()
    with fixed_work() as taken, processor_seconds() as used:
        done = subprocess.run(counted(words), cwd=checkout, capture_output=True, text=True, check=False)
        seconds = time.perf_counter() - started
    said = f"{words} in {checkout} failed:\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
    if done.returncode and not (may_fail and " passed" in done.stdout):
        raise SystemExit(said)
    if done.returncode:
        print(said, file=sys.stderr)
    return Taken(seconds, used[0], statistics.mean(taken))


def lines(target: str, found: dict[str, list[Taken]]) -> list[dict[str, Any]]:
    """The lines of one command; ratios are to this version, of medians."""
    made = []
    for name, what, unit in COLUMNS:
        here = statistics.median(getattr(took, name) for took in found[""])
        for way, each in found.items():
            values = [getattr(took, name) for took in each]
            ratio = statistics.median(values) / here if way else None
            made.append(row(f"{WHAT[target]}{way}{what}", unit, values, ratio=ratio))
    return made


def main() -> None:
    """Take turns, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=[*WHAT], default=[*WHAT])
    parser.add_argument("--repeat", type=int, default=1)
    parser.add_argument("--before", type=Path, help="a checkout of another version")
    parser.add_argument("--before-only", nargs="+", choices=[*WHAT], default=[*WHAT])
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    checkouts = {"": ROOT} | ({", before": options.before.absolute()} if options.before else {})
    rows, all_before = [], None
    for target in options.only:
        found: dict[str, list[Taken]] = {}
        for _ in range(options.repeat):
            for way, checkout in checkouts.items():
                if has(checkout, target) and (not way or target in options.before_only):
                    found.setdefault(way, []).append(timed(checkout, target, may_fail=bool(way)))
                    print(f"make {target} in {checkout}: {found[way][-1]}", file=sys.stderr)
        if target == "same-tests" and options.before:
            names, found = same_tests(options.before), {"": [], ", before": all_before or []}
            for _ in range(options.repeat):
                found[""].append(timed_tests(names))
                if all_before is None:
                    found[", before"].append(timed(options.before.absolute(), "test", may_fail=True))
                print(f"{target}: {found['']}, before: {found[', before']}", file=sys.stderr)
        all_before = found.get(", before") if target == "test" else all_before
        rows += lines(target, found) if found else []
    notes = [
        "Each version runs its own tests, of which this one has more; `make test` begins without caches.",
        "A fixed work is the same million steps of plain Python, done every ten seconds beside the command: its ratio "
        "holds where the machine's speed changes.",
    ]
    if options.before:
        notes.append(f"before: commit {commit_of(options.before)}")
    report("checks", rows, options.json, notes, repeat=options.repeat)


if __name__ == "__main__":
    main()
