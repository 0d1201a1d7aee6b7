"""The job: what a run does, validated, with errors that say where and what."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, WrapValidator, model_validator

from swimmy_scale.errors import SwimmyError
from swimmy_scale.method.given_weights import ModelSection, Weights, WeightsOfRun
from swimmy_scale.method.job_paths import absolute_paths, written_from
from swimmy_scale.method.named_surveys import with_base
from swimmy_scale.method.sample import SampleCuts, check_cuts
from swimmy_scale.method.sections import (
    AdditionSection,
    CatalogueSource,
    IngestSection,
    JobSection,
    NetworkSection,
    ScoreSection,
    SelectSection,
    SpectroscopySection,
    StorageSection,
    TrainSection,
    located,
)
from swimmy_scale.method.survey import HSC, Survey, SurveyName
from swimmy_scale.method.used_settings import IN_ORDER, USED_BY, USED_BY_EVALUATION, users_of, words_for_used
from swimmy_scale.method.words import alternatives, did_you_mean
from swimmy_scale.method.yaml_files import describe, parse, read_text

MAPPINGS = ("select.levels", "catalogue.columns", "catalogue.units", "catalogue.fwhm_arcsec", "ingest.coadd")
"""Keys whose values are mappings: they differ as a whole."""


class Settings(JobSection):
    """How things are done, but not to what: the sections that a single stage takes as well.

    Attributes
    ----------
    format_version : int
        Of the file.
    survey : Survey
        Bands, pixels and zero points; by default HSC-SSP wide. A name alone stands for that survey. Example:
        ``legacy-south``.
    sample : SampleCuts
        Which objects set the thresholds and can be candidates (section 2).
    train : TrainSection, optional
        Training, and the choice of weights (section 3.1). Example: ``{n_runs: 5}``.
    score : ScoreSection
        How cutouts are scored (section 3.2).
    select : SelectSection
        How candidates are selected (section 3.2).
    storage : StorageSection
        How the stores are written.
    """

    format_version: Literal[1] = 1
    # The last one acts first.
    survey: Annotated[
        Survey, WrapValidator(located), BeforeValidator(with_base, json_schema_input_type=Survey | SurveyName)
    ] = HSC
    sample: Annotated[SampleCuts, WrapValidator(located)] = SampleCuts()
    train: TrainSection | None = None
    score: ScoreSection = ScoreSection()
    select: SelectSection = SelectSection()
    storage: StorageSection = StorageSection()

    @model_validator(mode="after")
    def _enough_weight_sets(self) -> Self:
        if self.train is not None and (problem := self.train.too_few(self.score)):
            raise ValueError(problem)
        return self

    @model_validator(mode="after")
    def _level_to_judge_at(self) -> Self:
        level = self.train.judged_level if self.train is not None else None
        if level is not None and level not in self.select.levels:
            raise ValueError(
                f"train.judged_level {level!r} is none of select.levels: {', '.join(self.select.levels)}. "
                + (did_you_mean(level, self.select.levels) or "Name one")
            )
        return self


class Job(Settings):
    """A whole job. Relative paths are relative to the job file.

    Attributes
    ----------
    name : str
        For people: a report and the job scripts show it.
    catalogue : CatalogueSource, optional
        The objects; by default those of the object tables that ``ingest`` names. Example: ``{path: catalogue.fits}``.
    ingest : IngestSection, optional
        Their pixels. Example: ``{sources: [cutouts]}``.
    cutouts : Path, optional
        A store of cutouts that exists already, in place of ``ingest`` and ``catalogue``. Example: ``cutouts.zarr``.
    model : ModelSection or WeightsOfRun, optional
        Weights that exist already, in place of ``train``: one file, or those of a run.
        Example: ``{run: ../runs/paper}``.
    models : tuple of ModelSection
        Several weight sets of one network, in place of ``train`` and ``model``. Example: ``[{path: m.keras,
        sha256: 0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef}]``.
    spectroscopy : SpectroscopySection, optional
        Tables that give redshifts and classes in place of the catalogue. Example: ``{sdss: specObj-dr15.fits}``.
    additions : tuple of AdditionSection
        What is added to the job's own catalogue and pixels, in order. Training and evaluation leave it out. Example:
        ``[{name: night-2, catalogue: {path: night2.fits}, ingest: {sources: [night2]}}]``.
    """

    model_config = ConfigDict(
        # What a schema can say of the rules between the sections.
        json_schema_extra={
            "allOf": [
                {"anyOf": [{"required": ["cutouts"]}, {"required": ["ingest"]}]},
                {"anyOf": [{"required": ["train"]}, {"required": ["model"]}, {"required": ["models"]}]},
            ]
        }
    )

    name: str = "survey"
    catalogue: CatalogueSource | None = None
    ingest: IngestSection | None = None
    cutouts: Path | None = None
    model: Weights | None = None
    models: tuple[ModelSection, ...] = ()
    spectroscopy: SpectroscopySection | None = None
    additions: tuple[AdditionSection, ...] = ()

    @model_validator(mode="before")
    @classmethod
    def _additions_like_the_job(cls, content: Any) -> Any:
        return like_the_job(content) if isinstance(content, dict) else content

    @model_validator(mode="before")
    @classmethod
    def _catalogue_of_the_sources(cls, content: Any) -> Any:
        if isinstance(content, dict) and content.get("ingest") is not None and content.get("catalogue") is None:
            return {**content, "catalogue": {}}
        return content

    @model_validator(mode="after")
    def _additions_fit(self) -> Self:
        if self.additions and self.catalogue is None:
            raise ValueError("additions go to the run that ingests the cutouts; add them there, or leave them out")
        if self.additions and self.spectroscopy is not None:
            raise ValueError(
                "additions do not go with spectroscopy: they would not be matched. Give redshift and sample_class as "
                "columns of the catalogues (the command classify matches them), or ingest all anew"
            )
        names = [addition.name for addition in self.additions]
        if len(set(names)) < len(names):
            raise ValueError("additions has the same name twice. Give each its own")
        for addition in self.additions:
            kept = self.catalogue.keep_columns if self.catalogue else ()
            if addition.catalogue is not None and addition.catalogue.keep_columns != kept:
                raise ValueError(
                    f"addition {addition.name!r} keeps other columns than catalogue.keep_columns. Leave them out there"
                )
        return self

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if self.cutouts is None and self.ingest is None:
            raise ValueError("give ingest and catalogue, or cutouts for an existing store")
        if self.cutouts is not None and (self.ingest is not None or self.catalogue is not None):
            raise ValueError("cutouts names an existing store; leave out ingest and catalogue")
        if self.cutouts is not None and self.spectroscopy is not None:
            raise ValueError("cutouts brings the redshifts and classes of its ingest; leave out spectroscopy")
        if self.cutouts is not None and self.storage != StorageSection():
            raise ValueError("cutouts is stored already, and scores take its partitions; leave out storage")
        check_cuts(self.sample, self.survey)
        if self.train is not None:
            check_cuts(self.train.cuts(self.sample), self.survey)
        given = self.model is not None or self.models
        if self.train is None and not given:
            raise ValueError("give train, or model for existing weights")
        if self.train is not None and given:
            raise ValueError("give train, or model for existing weights, not both")
        return self

    @model_validator(mode="after")
    def _models_to_combine(self) -> Self:
        if not self.asks_run and self.n_models == 1 and self.select.combine != "mean":
            raise ValueError(
                f"select.combine {self.select.combine} is for several models, and one scores; leave it out"
            )
        return self

    @model_validator(mode="after")
    def _weights_of_one_network(self) -> Self:
        if self.model is not None and self.models:
            raise ValueError("give model for one weight set, or models for several, not both")
        if self.asks_run:
            return self
        if len({model.sha256 for model in self.models}) < len(self.models):
            raise ValueError("models has the same sha256 twice. List each weight set once")
        if len({model.network for model in self.models}) > 1:
            raise ValueError("models are of different networks. Give each the same network section")
        if self.weights and (self.score.one_a_run or self.score.n_models not in (1, len(self.weights))):
            name = "one_a_run" if self.score.one_a_run else f"n_models {self.score.n_models}"
            raise ValueError(
                f"score.{name} chooses among the weights that train makes, and "
                f"{len(self.weights)} are listed. Leave it out: all that are listed score"
            )
        return self

    @property
    def asks_run(self) -> bool:
        """Whether the weights are those of a run, which are still to be looked up (see `stages.weights_of_run`)."""
        return isinstance(self.model, WeightsOfRun)

    @property
    def weights(self) -> tuple[ModelSection, ...]:
        """The weight sets that exist already; none where the job trains."""
        if isinstance(self.model, WeightsOfRun):
            raise RuntimeError(f"the weights of {self.model.run} are not looked up")
        return self.models if self.model is None else (self.model,)

    @property
    def n_models(self) -> int:
        """Number of weight sets that score."""
        return len(self.weights) or self.score.n_models

    @property
    def networks(self) -> tuple[NetworkSection, ...]:
        """The free sizes of the networks that the job trains, or of the one that it loads."""
        return (self.weights[0].network,) if self.weights else (self.train or TrainSection()).networks


def like_the_job(content: dict[str, Any]) -> dict[str, Any]:
    """The content of a job whose additions have the keys of its own ``catalogue`` and ``ingest`` that they leave out.

    Paths and the number of a table are not taken over; what is no mapping stays, for the models to refuse.
    """
    additions = content.get("additions")
    own = {name: found for name in ("catalogue", "ingest") if isinstance(found := content.get(name), dict)}
    if not isinstance(additions, list | tuple) or not all(isinstance(addition, dict) for addition in additions):
        return content

    def completed(addition: dict[str, Any]) -> dict[str, Any]:
        new = dict(addition)
        for name, not_taken in (("catalogue", {"path", "hdu"}), ("ingest", {"sources", "coadd"})):
            given = new.get(name)
            if isinstance(given, dict):
                # Coadds by band are of no other kind, and have no names to read.
                left = not_taken | ({"kind", "name_pattern"} if given.get("coadd") else set())
                taken = {key: value for key, value in own.get(name, {}).items() if key not in left}
                new[name] = taken | given
        return new

    return {**content, "additions": [completed(addition) for addition in additions]}


def load_settings(path: Path, command: str, say: Callable[[str], None] = lambda line: None) -> Settings:
    """Read and validate the settings of one command.

    What it does not use, and only a later command does, is told to ``say``: one file may serve them all.

    Raises
    ------
    SwimmyError
        For every section or key that neither the command nor a later one uses, each with its line: if it should change
        anything, it comes too late.
    """
    text = read_text(path, "settings")
    settings = absolute_paths(parse(text, path, Settings, "settings"), path.parent.resolve(), path)
    evaluates = command == "train" and settings.train is not None and settings.train.evaluates
    used = {"format_version", *USED_BY[command], *(USED_BY_EVALUATION if evaluates else ())}
    unused: list[tuple[str, ...]] = []
    for section, content in yaml.safe_load(text).items():
        if section in used:
            continue
        keys = list(content) if isinstance(content, dict) else []
        of_section = any(name.startswith(f"{section}.") for name in used)
        unused += [(section, key) for key in keys if f"{section}.{key}" not in used] if of_section else [(section,)]
    refused = []
    for place in unused:
        others = users_of(place)
        by = f", {alternatives(others, 'and')} {'do' if len(others) > 1 else 'does'}" if others else ""
        message = f"{command} does not use it{by}"
        if any(IN_ORDER.index(other) > IN_ORDER.index(command.split()[0]) for other in others):
            say(describe(text, path, place, message))
        else:
            message += f"; {command} uses {words_for_used(command)}. Leave it out."
            refused.append(describe(text, path, place, message))
    if refused:
        raise SwimmyError("\n".join(refused))
    return settings


def parse_job[T: Settings](text: str, path: Path, kind: type[T]) -> T:
    """Validate the text of a job file.

    Parameters
    ----------
    path : Path
        Named in messages, and what relative paths start from; not read.
    kind : type
        `Job`, or `Settings` for a file that only says how.

    Raises
    ------
    SwimmyError
        For every fault at once, each with its line, key, value and what is allowed.
    """
    return absolute_paths(parse(text, path, kind, "job"), path.parent.resolve(), path)


def load_job[T: Settings](path: Path, kind: type[T]) -> T:
    """Read and validate a job file (see `parse_job`)."""
    return parse_job(read_text(path, "job"), path, kind)


def dump_job(job: Settings, folder: Path, sections: Collection[str] | None = None) -> str:
    """The job, or some of its sections, as YAML for a file in ``folder``, complete with defaults.

    Paths are absolute, but for those that were given as relative ones: these are relative to ``folder``.
    """
    chosen = None if sections is None else {"format_version", *sections}
    content = written_from(job, folder).model_dump(mode="json", include=chosen)
    text: str = yaml.safe_dump(content, sort_keys=False, allow_unicode=True)
    return text


def differences(old: Any, new: Any, name: str = "") -> Iterator[tuple[str, Any, Any]]:
    """Every key by which two jobs differ, as written by ``model_dump(mode="json")``: its name, and both values.

    A section that only one of them has is named as a whole.
    """
    if isinstance(old, dict) and isinstance(new, dict) and name not in MAPPINGS:
        for key in {**old, **new}:
            yield from differences(old.get(key), new.get(key), f"{name}.{key}".removeprefix("."))
    elif json.dumps(old) != json.dumps(new):  # as text, because a limit that is NaN does not equal itself
        yield name, old, new


def plain(section: Any, folder: Path) -> Any:
    """A section (model or dataclass) as JSON values, for digests; its paths as a file in ``folder`` has them."""
    section = written_from(section, folder)
    if isinstance(section, BaseModel):
        return section.model_dump(mode="json")
    return {key: str(value) if isinstance(value, Path) else value for key, value in asdict(section).items()}
