"""What a job would do and need: objects, cuts, partitions, disk, files, memory and time, before a pixel is read."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from typing import Any

from swimmy_scale.errors import SwimmyError
from swimmy_scale.method.job import Job
from swimmy_scale.method.sample import NO_DATA
from swimmy_scale.method.words import counted
from swimmy_scale.model.scoring import NUMBA_SECONDS
from swimmy_scale.stages.memory import MIB, ScoringNeeds, cutout_bytes, ingest_memory_bytes, train_memory_bytes
from swimmy_scale.stages.place import Place
from swimmy_scale.stages.prospects import Prospects, prospects_of_store
from swimmy_scale.stages.run import Run, check_inputs
from swimmy_scale.storage.cutouts import Cutouts
from swimmy_scale.storage.layout import Layout
from swimmy_scale.storage.scores import scores_layout

PLAN_VERSION = 1

INGEST_SECONDS = 1 / 1_570
"""What the ingest of an object from tars takes a core."""

TRAIN_SECONDS = {1: 1 / 159, 2: 1 / 260}
"""What an epoch takes for an object of training by threads of one training, with the paper's network; more threads
hardly help."""

KERAS_SECONDS = 1 / 1_068
"""What the Keras scorer takes for an object, a model and a process, on a CPU."""

RATES_FROM = (
    "rates of 2 cores with AVX-512 (docs/performance.md), in objects a second: "
    f"ingest from tars {1 / INGEST_SECONDS:,.0f} a core, "
    f"training {1 / TRAIN_SECONDS[1]:.0f} (1 thread) or {1 / TRAIN_SECONDS[2]:.0f} (2 threads), "
    f"scoring {1 / NUMBA_SECONDS:,.0f} a core by numba and {1 / KERAS_SECONDS:,.0f} a process by Keras"
)

STORED_FRACTION = {None: 0.87, 16: 0.65, 14: 0.59, 12: 0.53, 10: 0.47, 7: 0.37}
"""Bytes on disk by bytes of pixels, by the mantissa bits that are kept, of simulated cutouts (docs/storage.md)."""


@dataclass(frozen=True)
class Need:
    """What a stage takes; ``seconds`` and ``memory_bytes`` (a process) are None where nothing is known of them."""

    stage: str
    n_tasks: int
    seconds: float | None
    memory_bytes: int | None


@dataclass(frozen=True)
class Plan:
    """What a job would do and need.

    Attributes
    ----------
    n_files, n_unmatched : int, optional
        Files that hold pixels of the survey's bands, and those of no object; None where a store is read.
    disk_bytes, n_files_written : int
        What the run would write, about.
    needs : tuple of Need
        By stage.
    refusals : tuple of str
        Why the job would be refused before it starts, beside the problems of its prospects.
    additions : tuple of (str, str)
        Name of each addition that is not ingested yet, and what it brings; all else is said without them.
    """

    job: Job
    place: Place
    prospects: Prospects
    n_partitions: int
    n_files: int | None
    n_unmatched: int | None
    disk_bytes: int
    n_files_written: int
    needs: tuple[Need, ...]
    refusals: tuple[str, ...]
    additions: tuple[tuple[str, str], ...] = ()

    @property
    def problems(self) -> list[str]:
        """Why nothing would come out; empty if something would."""
        return [*self.prospects.problems(), *self.refusals]

    def to_json(self) -> dict[str, Any]:
        """The plan for programs."""
        prospects = self.prospects
        return {
            "format_version": PLAN_VERSION,
            "job": self.job.name,
            "given": prospects.n_objects,
            "usable": prospects.n_usable,
            "quarantined_by_code": {code: number for code, (number, _) in prospects.quarantined.items()},
            "with_pixels": prospects.in_band,
            "files": self.n_files,
            "unmatched_files": self.n_unmatched,
            "seeing_arcsec": {
                band: {"known": number, "median": median if number else None}
                for band, (number, median) in prospects.seeing.items()
            },
            "classes": prospects.classes,
            "training_objects": prospects.n_training if prospects.train else None,
            "cuts": [asdict(cut) for cut in prospects.cuts],
            "partitions": self.n_partitions,
            "disk_bytes": self.disk_bytes,
            "files_written": self.n_files_written,
            "place": asdict(self.place),
            "stages": [asdict(need) for need in self.needs],
            "additions": [{"name": name, "brings": words} for name, words in self.additions],
            "rates_from": RATES_FROM,
            "problems": self.problems,
        }


def plan_job(run: Run, place: Place) -> Plan:
    """Look at the catalogue and the listing of files of a job, or at its store, and compute what it would take.

    Raises
    ------
    SwimmyError
        When an input is missing or cannot be read, as `run` would.
    """
    job, refusals, unpacked_bytes = run.job, list[str](), 0
    try:
        check_inputs(run)
    except SwimmyError as error:
        # Whatever would end the run at once; if that is a missing file, reading it says so again.
        refusals.append(str(error))
    stage, n_files, n_unmatched = run.ingest, None, None
    if stage is not None and not run.is_finished("ingest"):
        prospects, index, layout = stage.look_ahead()
        unpacked_bytes = index.unpacked_bytes
        try:
            stage.check_memory(index)
        except SwimmyError as error:
            refusals += [str(error)] if str(error) not in refusals else []
        if index.cube is None:
            n_files, n_unmatched = len(index.files), index.n_unmatched
        n_partitions, survey, chunk, written = layout.n_partitions, job.survey, job.storage.chunk_objects, layout
    else:
        store = Cutouts(run.cutouts)
        prospects = prospects_of_store(store, job.sample, job.train)
        n_partitions, survey, chunk, written = len(list(store.partitions())), store.survey, store.chunk_objects, None
    disk_bytes, n_written = _disk(job, prospects.n_objects, n_partitions, written)
    needs = tuple(_needs(run, place, prospects, n_partitions, survey, chunk, unpacked_bytes))
    return Plan(
        job,
        place,
        prospects,
        n_partitions,
        n_files,
        n_unmatched,
        disk_bytes,
        n_written,
        needs,
        tuple(refusals),
        tuple(_additions(run)),
    )


def _additions(run: Run) -> Iterator[tuple[str, str]]:
    """Additions that are not ingested yet: name, and what they bring as far as it is known."""
    stage, pending = run.ingest, run.job.additions[run.n_added :]
    for k, addition in enumerate(pending):
        if stage is None or k > 0 or not run.is_finished("ingest"):
            yield addition.name, "looked at once all before it is ingested"
        else:
            first = replace(stage, additions=run.job.additions[: run.n_added + 1])
            yield addition.name, first.growth().taken(run.n_added + 1).words


def _disk(job: Job, n_objects: int, n_partitions: int, cutouts: Layout | None) -> tuple[int, int]:
    """Bytes and files of the stores that a run would write."""
    survey, n_bytes, n_files = job.survey, 0, 0
    if cutouts is not None:
        bits = job.storage.keep_mantissa_bits
        # Of other numbers of bits the next larger that was measured.
        measured = sorted((known for known in STORED_FRACTION if known is not None), reverse=True)
        larger = [known for known in measured if bits is not None and known >= bits]
        fraction = STORED_FRACTION[larger[-1] if larger else None]
        n_bytes += int(n_objects * cutout_bytes(survey) * fraction)
        n_files += n_partitions * (len(cutouts.variables) + 1)
    models = tuple(str(k) for k in range(job.n_models)) if job.n_models > 1 else ()
    layout = scores_layout(n_objects, {}, survey, {}, 1, 1, {}, models, descriptors=job.score.descriptors)
    n_bytes += n_objects * 2 * layout.sizes.get("feature", 0)
    n_bytes += n_objects * 4 * survey.n_bands * 2 * (job.n_models + (job.n_models > 1))
    n_files += n_partitions * (len(layout.variables) + 1)
    if job.train is not None:
        n_files += len(job.networks) * job.train.n_runs * (job.train.n_kept_epochs + 5)
    return n_bytes, n_files


def _needs(
    run: Run,
    place: Place,
    prospects: Prospects,
    n_partitions: int,
    survey: Any,
    chunk_objects: int,
    unpacked_bytes: int,
) -> Iterator[Need]:
    job, n_usable = run.job, prospects.n_usable
    if job.ingest is not None and not run.is_finished("ingest"):
        seconds = prospects.n_objects * INGEST_SECONDS / min(place.readers, max(n_partitions, 1))
        memory = ingest_memory_bytes(survey, job.storage.partition_objects, unpacked_bytes)
        yield Need("ingest", n_partitions, seconds, memory)
    train = job.train
    networks = [section.for_survey(survey) for section in job.networks]
    if train is not None:
        n_trainings, schedule = len(networks) * train.n_runs, train.schedule
        rate = TRAIN_SECONDS[min(train.n_threads, 2)]
        at_once = min(place.network, n_trainings)
        seconds = prospects.n_training * schedule.epochs * rate * -(-n_trainings // max(at_once, 1))
        memory = max(
            train_memory_bytes(survey, network, prospects.n_training, schedule.batch_size) for network in networks
        )
        yield Need("train", n_trainings, None if place.on_gpu else seconds, memory)
    keras = run.scorer == "keras"
    per_object = KERAS_SECONDS / place.network if keras else NUMBA_SECONDS / (place.readers * place.threads)
    unknown = keras and place.on_gpu

    def scoring(n_objects: int, n_models: int) -> float | None:
        return None if unknown else n_objects * n_models * per_object

    needs = [
        ScoringNeeds(survey, net, job.score.batch_size, chunk_objects, run.scorer, run.n_threads) for net in networks
    ]
    scored = max(need.memory_bytes(run.limits, job.n_models) for need in needs) if run.limits else None
    if train is not None and train.evaluates:
        n_sets = len(networks) * train.n_runs * train.n_kept_epochs
        n_judged = prospects.cuts[-1].after if prospects.cuts else 0
        yield Need("evaluate", len(networks) * train.n_runs, scoring(n_judged, n_sets), scored)
    yield Need("score", n_partitions, scoring(n_usable, job.n_models), scored)


def lines(plan: Plan, words_for_seconds: Any) -> Iterator[str]:
    """A plan in lines that people can read."""
    found = plan.prospects
    yield f"objects      {found.n_objects:,} given, {found.n_usable:,} usable by catalogue and files"
    for code, (number, reason) in found.quarantined.items():
        yield f"             {number:,} {code}: {reason}"
    if found.in_band is not None:
        yield "pixels       " + ", ".join(f"{band} {number:,}" for band, number in found.in_band.items())
    if plan.n_files is not None:
        yield f"files        {plan.n_files:,} with pixels, {plan.n_unmatched:,} of no object or band"
    seeing = (
        f"{band} {number:,}" + (f" (median {median:.2f} arcsec)" if number else "")
        for band, (number, median) in found.seeing.items()
    )
    yield "seeing       " + ", ".join(seeing)
    yield f"classes      {found.words_for_classes()}"
    made = [cut for cut in found.cuts if cut.note != NO_DATA]
    for k, cut in enumerate(made):
        note = f" ({cut.note})" if cut.note else ""
        yield f"{'cuts' if k == 0 else '':12} {cut.rule}: {cut.after:,} of {cut.before:,}{note}"
    if len(made) < len(found.cuts):
        yield f"             skipped, {NO_DATA}: {', '.join(cut.name for cut in found.cuts if cut.note == NO_DATA)}"
    if found.train is not None:
        yield f"training     {counted(found.n_training, 'objects')} of class {', '.join(found.train.classes) or 'any'}"
    for name, words in plan.additions:
        yield f"addition     {name}: {words}; not in what follows"
    yield f"partitions   {plan.n_partitions:,}"
    yield f"disk         about {plan.disk_bytes / 1e9:,.2f} GB in about {counted(plan.n_files_written, 'files')}"
    place = plan.place
    yield (
        f"where        {place.name}: {place.readers} processes that read, {place.network} for the network"
        + (", on GPUs" if place.on_gpu else f", {place.threads} threads each")
    )
    total = 0.0
    for need in plan.needs:
        time = "time not known (no measured rate for this GPU)" if need.seconds is None else ""
        if need.seconds is not None:
            total += need.seconds
            time = f"about {words_for_seconds(need.seconds)}"
        memory = "" if need.memory_bytes is None else f", up to {need.memory_bytes / MIB:,.0f} MiB a process"
        yield f"{need.stage:12} {counted(need.n_tasks, 'tasks')}, {time}{memory}"
    known = "" if all(need.seconds is not None for need in plan.needs) else ", without what is not known"
    yield f"time         about {words_for_seconds(total)} in all{known}: an estimate, where disks are no slower, by"
    yield f"             {RATES_FROM}"
