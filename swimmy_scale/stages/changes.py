"""What another job does to a run directory: which stages are done again, and which remain.

Every stage has an identity of its own, and is done again where that differs; nothing here decides over results. It
tells people beforehand, keeps a finished ingest from being replaced, and removes what the other job would not make.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from itertools import takewhile
from typing import Any

from swimmy_scale.errors import SwimmyError
from swimmy_scale.method.faults import shown
from swimmy_scale.method.job import Job, differences
from swimmy_scale.method.sections import AdditionSection
from swimmy_scale.stages.earlier import to_keep
from swimmy_scale.storage.cutouts import Cutouts
from swimmy_scale.storage.files import remove
from swimmy_scale.storage.receipts import FINISHED
from swimmy_scale.storage.run_directory import STAGES, RunDirectory

READ_BY = {
    "ingest": (),
    "train": ("ingest",),
    "evaluate": ("ingest", "train"),
    "score": ("ingest", "train", "evaluate"),
    "select": ("ingest", "score"),
    "picture": ("score", "select"),
}
"""The stages whose output each stage reads."""

GROWING = ("score", "select", "picture")
"""The stages that an addition changes; of the scores, and of the cutouts, only further partitions are made."""


def stage_settings(job: Job) -> dict[str, Any]:
    """What of a job each of its stages depends on, beside the stages that it reads; stages that it lacks are left out.

    ``tests/stages/test_changes.py`` holds it against the identities of the stages.
    """
    content = job.model_dump(mode="json")
    train, score, select = job.train, job.score, job.select
    kind = score.score_kind.described
    choice = [score.n_models, score.one_a_run and score.n_models > 1]
    settings: dict[str, Any] = {"ingest": content["cutouts"]}
    if job.cutouts is None:
        settings["ingest"] = [content[name] for name in ("survey", "catalogue", "ingest", "spectroscopy", "storage")]
        # What an ingest has not kept a selection reads from the catalogue.
        kept = content["catalogue"].pop("keep_columns")
    if train is not None:
        networks = [network.model_dump(mode="json") for network in train.networks]
        schedule, cuts = asdict(train.schedule), asdict(train.cuts(job.sample))
        trained = [networks, schedule, train.n_runs, cuts, train.classes, train.max_objects, train.n_threads]
        settings["train"] = [trained, "chosen later" if train.evaluates else choice]
        if train.evaluates:
            level = train.judged_level or next(iter(select.levels))
            judged = [train.known_classes, level, select.levels[level], train.threshold_objects, train.schedule.seed]
            settings["evaluate"] = [judged, content["sample"], kind, train.choose, choice]
    weights = [(model.sha256, model.network.model_dump(mode="json")) for model in job.weights]
    settings["score"] = [weights, kind, job.n_models, score.descriptors]
    settings["select"] = [
        content["sample"],
        list(select.levels.items()),
        select.formats,
        content["select"]["thresholds_from"],
        select.thresholds_of_another_model,
        select.combine if job.n_models > 1 else None,
        *([kept] if job.catalogue is not None else []),
    ]
    settings["picture"] = None
    # As text, because a limit that is NaN does not equal itself.
    return {stage: json.dumps(settings[stage]) for stage in STAGES if stage in settings}


def _named(additions: tuple[AdditionSection, ...]) -> list[dict[str, Any]]:
    """Additions without what the selection alone depends on."""
    content = [addition.model_dump(mode="json") for addition in additions]
    for addition in content:
        (addition["catalogue"] or {}).pop("keep_columns", None)
    return content


def _in_words(name: str, value: Any) -> str:
    """A setting's value for people; additions by their names alone."""
    if name == "additions":
        return ", ".join(addition["name"] for addition in value) or "none"
    return shown(value)


@dataclass(frozen=True)
class Change:
    """What another job changes in a run directory.

    Attributes
    ----------
    settings : tuple of str
        Those that differ, as ``section.key``.
    said : tuple of str
        The same with both values, for people.
    again : tuple of str
        Stages of the new job that are done again, as far as what they read differs then.
    remaining : tuple of str
        Stages that remain as they are, if they are finished.
    dropped : tuple of str
        Stages that only the old job has.
    changed : tuple of str
        Stages whose own settings differ.
    added : tuple of str
        Names of additions that come at the end of those before.
    lost : tuple of str
        Names of additions of the old job that the new one lacks, or has otherwise or in another place.
    """

    settings: tuple[str, ...]
    said: tuple[str, ...]
    again: tuple[str, ...]
    remaining: tuple[str, ...]
    dropped: tuple[str, ...]
    changed: tuple[str, ...]
    added: tuple[str, ...] = ()
    lost: tuple[str, ...] = ()

    @classmethod
    def between(cls, old: Job, new: Job) -> Change:
        """The change from one job to another."""
        before, after = stage_settings(old), stage_settings(new)
        changed = tuple(stage for stage in after if before.get(stage) != after[stage])
        dropped = tuple(stage for stage in before if stage not in after)
        pairs = zip(_named(old.additions), _named(new.additions), strict=False)
        n_same = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))
        added = tuple(addition.name for addition in new.additions[n_same:])
        lost = tuple(addition.name for addition in old.additions[n_same:])
        again: list[str] = []
        for stage in after:
            if (
                ((added or lost) and stage in GROWING)
                or stage in changed
                or any(other in again or other in dropped for other in READ_BY[stage])
            ):
                again.append(stage)
        remaining = tuple(stage for stage in after if stage not in again)
        found = list(differences(old.model_dump(mode="json"), new.model_dump(mode="json")))
        said = (f"{name} from {_in_words(name, before)} to {_in_words(name, after)}" for name, before, after in found)
        return cls(
            tuple(name for name, _, _ in found), tuple(said), tuple(again), remaining, dropped, changed, added, lost
        )

    def __bool__(self) -> bool:
        return bool(self.settings)

    def check(self, run: RunDirectory, old: Job) -> None:
        """Refuse to replace cutouts that are finished: they take longest, and other runs may read them.

        Raises
        ------
        SwimmyError
            When the run has finished an ingest that the new job would do again.
        """
        done = run.ledger("ingest")
        ingested = [addition.name for addition in Cutouts(run.own_cutouts).additions] if self._may_lose(run) else []
        if kept := [name for name in self.lost if name in ingested]:
            raise SwimmyError(
                f"{run.path} has ingested the additions {', '.join(kept)}, which the job leaves out or gives "
                f"otherwise. Give them as they were, in their order, as {run.job_file} has them, and further ones "
                "after them; or choose another --output."
            )
        if "ingest" in self.changed and old.cutouts is None and done.read(FINISHED) is not None:
            reading = ("survey", "catalogue", "ingest", "spectroscopy", "storage", "cutouts")
            names = [
                said
                for name, said in zip(self.settings, self.said, strict=True)
                if name.partition(".")[0] in reading and name != "catalogue.keep_columns"
            ]
            raise SwimmyError(
                f"{run.path} holds the cutouts of another ingest than the job asks for ({', '.join(names)}). "
                f"Choose another --output; or remove {done.path(FINISHED)}, and all is done again here. A change of "
                "any other section needs neither: only what it changes is done again."
            )

    def _may_lose(self, run: RunDirectory) -> bool:
        return bool(self.lost) and run.own_cutouts.is_dir()

    def lines(self, run: RunDirectory) -> Iterator[str]:
        """What is done again and what remains, for people."""
        begun = [stage for stage in STAGES if any(run.ledger(stage).every_name())]
        again = list(self.again) if begun else []
        followers = [stage for stage in again if stage not in self.changed]
        remaining = [stage for stage in begun if stage in self.remaining]
        dropped = [stage for stage in begun if stage in self.dropped]
        parts = [f"Done again: {', '.join(self.changed)}."] if again and self.changed else []
        parts += [f"Then, where what they read differs: {', '.join(followers)}."] if followers else []
        if begun and self.added and "ingest" not in self.changed:
            parts = [f"Added: {', '.join(self.added)}, as further partitions. The sample's thresholds are made anew."]
        parts += [f"Remains: {', '.join(remaining)}."] if remaining else []
        parts += [f"Removed: {', '.join(dropped)}."] if dropped else []
        what = " ".join(parts) or "Nothing had been done."
        yield f"{run.path}: another job than before ({', '.join(self.said)}). {what}"
        if "select" in again and (kept := to_keep(run)) is not None:
            yield f"{kept.path}: the selection of the earlier job is kept there."
        if "train" in again and "train" in self.changed and any(name.startswith("sample.") for name in self.settings):
            yield "To keep the weights under other cuts, give the cuts that they were trained with as train.sample."
        own = run.selection
        old = [path for path in (own.report, own.figures, own.tables, own.fidelity_page, own.ranked) if path.exists()]
        if again and old:
            yield f"{', '.join(str(path) for path in old)}: made of the earlier job; make them again."

    def clear(self, run: RunDirectory, job: Job) -> None:
        """Remove what the earlier job made and must not be taken for what ``job`` makes.

        The stages themselves replace all else. It can be called again after an end at any instant.
        """
        # Weights that the job names may be those that this run has trained.
        weights = [model.path for model in job.weights]
        for stage in reversed(STAGES):
            started_anew = stage == "ingest" and stage in self.changed
            if started_anew or stage in self.dropped or (stage in ("select", "picture") and stage in self.again):
                run.discard(stage, weights)
        if "select.thresholds_from" in self.settings:
            remove(run.selection.carried_thresholds)
