"""Small surveys from the command to its end: stored cutouts and a given model become scores, or a catalogue.

    python benchmarks/startup.py --json benchmarks/results/startup.json
    python benchmarks/startup.py --before ../older-checkout

Every command is a process of its own, timed from its start to its end, with the processor time of all its processes.
The ways take turns. ``--before`` adds the program of another checkout, by the environment in its .venv; it must read
this version's stores. Before the clock starts every way has run once: numba keeps its machine code on disk, so only an
installation's first run compiles. `make bench` leaves out the Keras scorer, which takes most of the time.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bank import make_bank, make_survey
from measure import commit_of, counted, of_checkout, processor_seconds, report, row

BANK_OBJECTS = 512
# The most seconds that ``run`` may take, by number of objects.
LIMITS = {10: 6.0, 3469: 8.0}
SAMPLE = "sample: {use_depth: false, flags: [], colours: []}\n"


@dataclass(frozen=True)
class Way:
    """One program and scorer."""

    name: str
    program: Sequence[str]
    run_options: Sequence[str] = ()
    score_options: Sequence[str] = ()
    environment: Mapping[str, str] = field(default_factory=lambda: dict(os.environ))


def ways(folder: Path, with_keras: bool, before: Path | None) -> dict[str, Way]:
    """The default scorer of this program, its Keras scorer, and the default of the program before."""
    site = folder / "keras.yaml"
    site.write_text("swimmy-scale: {kind: local, scorer: keras}\n")
    here = (sys.executable, "-m", "swimmy_scale")
    found = {"auto": Way("", here)}
    if with_keras:
        found["keras"] = Way(", scorer: keras", here, ("--site", str(site)), ("--scorer", "keras"))
    if before is not None:
        python, environment = of_checkout(before)
        # -P: else Python would take the package that lies in the current folder.
        found["before"] = Way(", before", (python, "-P", "-m", "swimmy_scale"), environment=environment)
    return found


def prepare(folder: Path, n_objects: int, sha256: str) -> None:
    """A store and the job that scores and selects it."""
    cutouts = folder / f"{n_objects}.zarr"
    make_survey(folder / "bank", cutouts, n_objects, 0)
    (folder / f"{n_objects}.yaml").write_text(
        f"name: startup\ncutouts: {cutouts}\nmodel: {{path: {folder}/model.keras, sha256: {sha256}}}\n{SAMPLE}"
    )


def words(folder: Path, command: str, way: Way, n_objects: int, sha256: str) -> list[str]:
    """A command line whose output is ``output`` in the folder."""
    if command == "run":
        return [*way.program, "run", f"{folder}/{n_objects}.yaml", "--output", f"{folder}/output", *way.run_options]
    return [*way.program, "score", f"{folder}/{n_objects}.zarr", "--model", f"{folder}/model.keras", "--model-sha256",
            sha256, "--output", f"{folder}/output", "--settings", f"{folder}/sample.yaml",
            *way.score_options]  # fmt: skip


def timed(folder: Path, line: Sequence[str], environment: Mapping[str, str]) -> tuple[float, float]:
    """Wall and processor seconds of a command and all that it started."""
    for name in ("output", "output.receipts"):
        shutil.rmtree(folder / name, ignore_errors=True)
    started = time.perf_counter()
    with processor_seconds() as used:
        done = subprocess.run(counted(line), env=environment, capture_output=True, text=True, check=False)
        seconds = time.perf_counter() - started
    if done.returncode not in (0, 3):
        raise SystemExit(f"{' '.join(line)}\n{done.stderr}")
    return seconds, used[0]


def main() -> None:
    """Make the stores, take turns, print and write."""
    from swimmy_scale.method.network import Network
    from swimmy_scale.model.autoencoder import build
    from swimmy_scale.model.files import save

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--before", type=Path, help="a checkout of another version, with its own .venv")
    parser.add_argument("--without-keras", action="store_true")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make_bank(folder / "bank", BANK_OBJECTS)
        save(build(Network(), seed=1), folder / "model.keras")
        sha256 = hashlib.sha256((folder / "model.keras").read_bytes()).hexdigest()
        (folder / "sample.yaml").write_text(SAMPLE)
        chosen = ways(folder, not options.without_keras, options.before)
        for n_objects in LIMITS:
            prepare(folder, n_objects, sha256)
        for way in chosen.values():
            timed(folder, words(folder, "run", way, min(LIMITS), sha256), way.environment)
        for command in ("run", "score"):
            for n_objects in LIMITS:
                found: dict[str, list[tuple[float, float]]] = {way: [] for way in chosen}
                for _ in range(options.repeat):
                    for key, way in chosen.items():
                        line = words(folder, command, way, n_objects, sha256)
                        found[key].append(timed(folder, line, way.environment))
                rows += lines(command, n_objects, chosen, found)
    notes = [f"{command}: {what}" for command, what in
             (("run", "from the command to candidates, summary and picture"), ("score", "to scores.zarr"))]  # fmt: skip
    if options.before is not None:
        notes.append(
            f"before: commit {commit_of(options.before)}, whose default was the Keras scorer on a worker for each core"
        )
    report("startup", rows, options.json, notes, repeat=options.repeat)


def lines(
    command: str, n_objects: int, chosen: Mapping[str, Way], found: Mapping[str, list[tuple[float, float]]]
) -> list[dict[str, Any]]:
    """The lines of one command and size; ratios are to the default way, of medians."""
    limit = LIMITS[n_objects] if command == "run" else None
    made = []
    for key, way in chosen.items():
        for place, what in enumerate(("", ", processor time")):
            values = [took[place] for took in found[key]]
            median = statistics.median(values)
            more: dict[str, Any] = {}
            if key != "auto":
                more["ratio"] = median / statistics.median(took[place] for took in found["auto"])
            elif limit is not None and not place:
                more = {"target": limit, "met": median <= limit}
            made.append(row(f"{command}, {n_objects:,} stored objects{way.name}{what}", "s", values, **more))
    return made


if __name__ == "__main__":
    main()
