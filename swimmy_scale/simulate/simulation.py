"""A simulation from beginning to end: its parts, its tables, and its record, ``simulation.json``.

The record is written first without a summary, which marks the directory as a simulation's, and at the end with it.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from swimmy_scale.errors import SwimmyError
from swimmy_scale.simulate.archive import CUTOUT_FOLDER, PartReceipt, part_target, write_part
from swimmy_scale.simulate.fits_tables import Columns, write_table
from swimmy_scale.simulate.galaxies import draw_objects
from swimmy_scale.simulate.plan import SimulationPlan
from swimmy_scale.simulate.population import DEMONSTRATION
from swimmy_scale.simulate.spectroscopy import SPECTROSCOPY_FOLDER, TABLES, write_spectroscopy
from swimmy_scale.simulate.tables import catalogue_columns, patch_columns, patch_keys, truth_columns
from swimmy_scale.storage.files import write_atomically

FORMAT_VERSION = 1
CATALOGUE, PATCH_QA, TRUTH, RECORD = "catalogue.fits", "patch_qa.fits", "truth.fits", "simulation.json"

Map = Callable[[Callable[[int], PartReceipt], Iterable[int]], Iterable[PartReceipt]]


@dataclass(frozen=True)
class SimulationSummary:
    """A finished survey.

    Attributes
    ----------
    directory, cutouts, catalogue, patch_qa, truth : str
        Paths; all but the first relative to ``directory``.
    n_objects, n_files : int
        Rows of the catalogue, and cutout files.
    size_bytes : int
        Of all cutouts.
    n_by_kind : dict of str to int
        Objects of each of `KINDS`.
    n_by_fault : dict of str to int
        Objects by the code that ingest must report.
    n_by_cut : dict of str to int
        Objects by the first cut that they fail.
    n_by_overlap : dict of str to int
        Objects by what a second tract has of them.
    n_repeated : int
        Objects that were requested twice.
    """

    directory: str
    cutouts: str
    catalogue: str
    patch_qa: str
    truth: str
    n_objects: int
    n_files: int
    size_bytes: int
    n_by_kind: dict[str, int]
    n_by_fault: dict[str, int]
    n_by_cut: dict[str, int]
    n_by_overlap: dict[str, int]
    n_repeated: int


def simulate(directory: str, plan: SimulationPlan, map: Map = map) -> SimulationSummary:  # noqa: A002
    """Simulate a survey. Does nothing where the same survey is there, finished and whole.

    Parameters
    ----------
    directory : str
        Gets ``cutouts/``, ``catalogue.fits``, ``patch_qa.fits``, ``truth.fits``, ``spectroscopy/`` (tables of
        spectra as they are published) and ``simulation.json``.
    plan : SimulationPlan
    map : callable
        Applies a function to every index of a part, like the built-in, here or in other processes.

    Raises
    ------
    SwimmyError
        When the directory holds a survey of another plan, or files that no simulation made.
    """
    folder = Path(directory)
    done = _read_summary(folder, plan)
    if done is not None:
        return done
    _write_record(folder, plan, None)
    return finish(directory, plan, map(functools.partial(write_part, directory, plan), range(plan.n_parts)))


def finish(directory: str, plan: SimulationPlan, receipts: Iterable[PartReceipt]) -> SimulationSummary:
    """Write all tables of a survey whose parts are written, and last ``simulation.json``.

    ``receipts`` are those of all parts, in any order.

    Raises
    ------
    SwimmyError
        When a part is missing or given twice, or ``cutouts`` holds what is not of this survey.
    """
    folder, parts = Path(directory), list(receipts)
    _check_parts(folder, plan, parts)
    catalogues, truths, keys = [], [], set()
    for part_index in range(plan.n_parts):
        objects, _ = draw_objects(plan, part_index)
        catalogues.append(catalogue_columns(plan, part_index, objects))
        truths.append(truth_columns(plan, objects, catalogues[-1]))
        keys |= set(patch_keys(objects))
    catalogue, truth = _stacked(catalogues), _stacked(truths)
    write_table(folder / CATALOGUE, "CATALOGUE", catalogue)
    write_table(folder / PATCH_QA, "PATCH_QA", patch_columns(plan, sorted(keys)))
    write_table(folder / TRUTH, "TRUTH", truth)
    write_spectroscopy(folder, plan, catalogue, truth)
    summary = SimulationSummary(
        directory=directory,
        cutouts=CUTOUT_FOLDER,
        catalogue=CATALOGUE,
        patch_qa=PATCH_QA,
        truth=TRUTH,
        n_objects=plan.n_objects,
        n_files=sum(part.n_files for part in parts),
        size_bytes=sum(part.size_bytes for part in parts),
        n_by_kind=_counts(truth["kind"]),
        n_by_fault=_counts(truth["fault"]),
        n_by_cut=_counts(truth["cut"]),
        n_by_overlap=_counts(truth["overlap"]),
        n_repeated=int(truth["repeated"].sum()),
    )
    _write_record(folder, plan, summary)
    return summary


def _stacked(parts: list[Columns]) -> Columns:
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _counts(values: npt.NDArray[np.str_]) -> dict[str, int]:
    names, numbers = np.unique(values[values != ""], return_counts=True)
    return dict(zip(names.tolist(), numbers.tolist(), strict=True))


def _check_parts(folder: Path, plan: SimulationPlan, parts: list[PartReceipt]) -> None:
    if sorted(part.part_index for part in parts) != list(range(plan.n_parts)):
        raise SwimmyError(
            f"simulation in {folder}: {len(parts)} receipts do not stand for {plan.n_parts} parts, each once. "
            "Write every part, then finish."
        )
    expected = {Path(part_target(plan, index).path).name for index in range(plan.n_parts)}
    found = {entry.name for entry in (folder / CUTOUT_FOLDER).glob("*")}
    strange, missing = sorted(found - expected), sorted(expected - found)
    if strange:
        raise SwimmyError(
            f"{folder / CUTOUT_FOLDER} holds {len(strange)} entries that are not of this survey, the first is "
            f"{strange[0]!r}. Remove them, or simulate into an empty directory."
        )
    if missing:
        raise SwimmyError(f"{folder / CUTOUT_FOLDER} lacks {missing[0]!r}. Write this part again, then finish.")


def _plan_record(plan: SimulationPlan) -> dict[str, Any]:
    """The plan as JSON gives it back. A NaN, which JSON lacks, is text; the demonstration's population is left out."""
    record: dict[str, Any] = json.loads(json.dumps(asdict(plan)), parse_constant=str)
    if plan.population == DEMONSTRATION:
        del record["population"]
    return record


def _write_record(folder: Path, plan: SimulationPlan, summary: SimulationSummary | None) -> None:
    content: dict[str, Any] = {"format_version": FORMAT_VERSION, "simulated": True, "plan": _plan_record(plan)}
    if summary is not None:
        content["summary"] = asdict(summary)
        del content["summary"]["directory"]  # a survey can be moved
    write_atomically(folder / RECORD, json.dumps(content, indent=1).encode())


def _read_summary(folder: Path, plan: SimulationPlan) -> SimulationSummary | None:
    """The summary of a survey of this plan that is finished and whole, or None; refuses everything else."""
    path = folder / RECORD
    if not path.exists():
        _check_free(folder)
        return None
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        same = content["format_version"] == FORMAT_VERSION and content["plan"] == _plan_record(plan)
        finished = "summary" in content
        summary = SimulationSummary(directory=str(folder), **content["summary"]) if finished else None
    except (ValueError, KeyError, TypeError) as error:
        raise SwimmyError(f"{path} is not the record of a simulation ({error}). Remove the directory.") from error
    if not same:
        raise SwimmyError(
            f"{folder} holds a simulated survey of another plan (see {path}). Simulate into another directory, or "
            "remove this one."
        )
    return summary if summary is not None and _is_whole(folder, summary) else None


def _is_whole(folder: Path, summary: SimulationSummary) -> bool:
    """Whether all tables are there, and as many bytes of cutouts as were written."""
    spectra = (f"{SPECTROSCOPY_FOLDER}/{name}.fits" for name in TABLES)
    tables = (summary.catalogue, summary.patch_qa, summary.truth, *spectra)
    cutouts = (path for path in (folder / summary.cutouts).rglob("*") if path.is_file())
    return (
        all((folder / name).exists() for name in tables)
        and sum(path.stat().st_size for path in cutouts) == summary.size_bytes
    )


def _check_free(folder: Path) -> None:
    """Refuse a directory where a simulation would replace what it has not made."""
    names = (CUTOUT_FOLDER, CATALOGUE, PATCH_QA, TRUTH, SPECTROSCOPY_FOLDER)
    taken = [name for name in names if (folder / name).exists()]
    if taken:
        raise SwimmyError(
            f"{folder} holds {', '.join(taken)}, but no {RECORD} that says they are simulated. Simulate into an empty "
            "directory."
        )
