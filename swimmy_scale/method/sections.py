"""The sections of a job file."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ValidatorFunctionWrapHandler,
    WrapValidator,
    model_validator,
)

from swimmy_scale.errors import SwimmyError
from swimmy_scale.method.bit_rounding import FEWEST_BITS, MOST_BITS
from swimmy_scale.method.candidates import ANY_BAND, LEVELS, level_suffix
from swimmy_scale.method.ensemble import Rule
from swimmy_scale.method.network import Schedule
from swimmy_scale.method.noise import FLOOR
from swimmy_scale.method.score_kind import ScoreKind
from swimmy_scale.method.weight_sets import too_few

ScorerName = Literal["keras", "numba"]


def _located(value: Any, check: ValidatorFunctionWrapHandler) -> Any:
    """Pass on what a value's own class refuses in a form that keeps its place in the file."""
    try:
        return check(value)
    except SwimmyError as error:
        raise ValueError(str(error)) from error


class Section(BaseModel):
    """A part of a job: unknown keys are errors, values cannot be changed."""

    model_config = ConfigDict(extra="forbid", frozen=True)


@dataclass(frozen=True)
class CatalogueSource:
    """Where the catalogue is and what its columns are called.

    Attributes
    ----------
    path : Path
        FITS (also .fits.gz), Parquet, CSV (also .csv.gz), VOTable or ECSV.
    columns : dict of str to str
        Renames, ours to theirs: ``{"ra": "RAJ2000"}``. Columns that are not named here are looked
        for under the names of HSC's database, in any case of letters.
    patch_qa : Path or None
        Table of the seeing and depth of each patch, in any of the same formats: ``tract`` and
        ``patch`` (or ``skymap_id``), ``{band}seeing`` in arcsec, ``{band}mag_psf_depth``.
    keep_columns : tuple of str
        Columns to hand on to the candidate catalogue.
    """

    # Pydantic reads this: a misspelt key in a job file is an error, not a silent default.
    __pydantic_config__ = {"extra": "forbid"}  # noqa: RUF012

    path: Path
    columns: dict[str, str] = field(default_factory=dict)
    patch_qa: Path | None = None
    keep_columns: tuple[str, ...] = ()


class IngestSection(Section):
    """Where the pixels are.

    Attributes
    ----------
    sources : tuple of Path
        Folders, tar files, coadd images or one cube.
    kind : str
        What the sources are; ``auto`` looks.
    coadd : dict of str to Path
        One coadd image a band, in place of ``sources``.
    name_pattern : str, optional
        Regular expression with the groups ``line``, ``object_id``, ``ra``, ``dec``, ``band`` for names
        of another form.
    match_radius_arcsec : float
        For names that carry a position.
    """

    sources: tuple[Path, ...] = ()
    kind: Literal["auto", "cutouts", "coadd", "cube"] = "auto"
    coadd: dict[str, Path] = Field(default_factory=dict)
    name_pattern: str | None = None
    match_radius_arcsec: float = Field(default=1.0, gt=0)

    @model_validator(mode="after")
    def _one_kind_of_source(self) -> Self:
        if bool(self.sources) == bool(self.coadd):
            raise ValueError("give either sources or coadd")
        return self


class MpaJhuSection(Section):
    """The MPA-JHU tables, three files of one release.

    Attributes
    ----------
    info, line, extra : Path
        galSpecInfo, galSpecLine and galSpecExtra.
    widths : str
        Whether the equivalent widths of galSpecLine are ``observed`` ones or those at ``rest``.
    """

    info: Path
    line: Path
    extra: Path
    widths: Literal["observed", "rest"] = "observed"


class SpectroscopySection(Section):
    """Tables of spectra, which give redshifts and classes in place of the catalogue (section 2.2).

    Attributes
    ----------
    sdss, gama, dr16q, milliquas : Path, optional
        specObj of SDSS, SpecObj of GAMA, the quasars of DR16Q, and Milliquas, with their published column names, in
        any format that a catalogue may have.
    mpa_jhu : MpaJhuSection, optional
    match_radius_arcsec : float
        A counterpart lies within it.
    """

    sdss: Path | None = None
    gama: Path | None = None
    mpa_jhu: MpaJhuSection | None = None
    dr16q: Path | None = None
    milliquas: Path | None = None
    match_radius_arcsec: float = Field(default=1.0, gt=0, le=3600)

    @model_validator(mode="after")
    def _some_table(self) -> Self:
        if not self.paths:
            raise ValueError("give one table at least: sdss, gama, mpa_jhu, dr16q or milliquas")
        return self

    @property
    def paths(self) -> tuple[Path, ...]:
        """All files that are named."""
        triple = (self.mpa_jhu.info, self.mpa_jhu.line, self.mpa_jhu.extra) if self.mpa_jhu else ()
        return tuple(path for path in (self.sdss, self.gama, *triple, self.dr16q, self.milliquas) if path is not None)


class NetworkSection(Section):
    """The network's free sizes (section 3.1); bands and cutout size come from the survey."""

    encoder_filters: tuple[int, int] = (64, 32)
    latent_filters: int = 8
    noise: float = 0.02


class GridSection(Section):
    """Hyperparameters to try, every one with every other (table 5); what is left out is the network section's.

    Attributes
    ----------
    latent_filters : tuple of int
        d of the paper.
    noise : tuple of float
        r_gauss of the paper.
    """

    latent_filters: tuple[Annotated[int, Field(ge=1)], ...] = ()
    noise: tuple[Annotated[float, Field(ge=0, le=1)], ...] = ()

    @model_validator(mode="after")
    def _different_values(self) -> Self:
        if not self.latent_filters and not self.noise:
            raise ValueError("give values of latent_filters, of noise, or of both")
        for name, values in (("latent_filters", self.latent_filters), ("noise", self.noise)):
            if len(set(values)) < len(values):
                raise ValueError(f"{name} has a value twice. List each once")
        return self


class TrainSection(Section):
    """Training, and the choice of the weights that score.

    Attributes
    ----------
    network : NetworkSection
    schedule : Schedule
    n_runs : int
        Independent runs, of each network where there is a grid; run k of all has seed ``schedule.seed + k``.
    classes : tuple of str
        Classes of ``sample_class`` to train on; empty for the whole sample.
    max_objects : int, optional
        At most so many training objects, chosen at random by the seed.
    n_threads : int
        Threads of one run. They are part of the result: TensorFlow adds gradients up in another order
        with another number, so the last digits of the weights differ.
    grid : GridSection, optional
        More networks than one; the combinations follow each other, the noise changing fastest.
    choose : str
        ``validation_loss``: the weights of the lowest one score. ``known_classes``: those that select most of the
        known classes do (appendix 1).
    evaluate : bool
        Judge every weight set by the known classes although they do not choose.
    known_classes : tuple of str
        Classes of ``sample_class``; weights are judged by the sum of the fractions that they select of each.
    judged_level : str, optional
        The level of ``select.levels`` at which they are judged; by default the first one.
    threshold_objects : int, optional
        At most so many objects of the sample, chosen at random by the seed, set the thresholds that weights are judged
        at. By default all of it does, as in the paper.
    """

    network: NetworkSection = NetworkSection()
    schedule: Annotated[Schedule, WrapValidator(_located)] = Schedule()
    n_runs: int = Field(default=1, ge=1)
    classes: tuple[str, ...] = ("training",)
    max_objects: int | None = Field(default=None, ge=1)
    n_threads: int = Field(default=2, ge=1)
    grid: GridSection | None = None
    choose: Literal["validation_loss", "known_classes"] = "validation_loss"
    evaluate: bool = False
    known_classes: tuple[str, ...] = ("quasar", "xelg")
    judged_level: str | None = None
    threshold_objects: int | None = Field(default=None, ge=1)

    @model_validator(mode="after")
    def _classes_to_judge_by(self) -> Self:
        classes = set(self.known_classes)
        if not classes or len(classes) < len(self.known_classes) or classes & {"", ANY_BAND}:
            raise ValueError(
                f"known_classes are one or more classes of sample_class, each once, none called {ANY_BAND!r}"
            )
        return self

    @property
    def evaluates(self) -> bool:
        """Whether weight sets are judged by known classes."""
        return self.evaluate or self.choose == "known_classes"

    @property
    def n_kept_epochs(self) -> int:
        """Weight sets of one run that are kept."""
        return self.schedule.epochs - self.schedule.keep_from_epoch + 1

    def too_few(self, score: ScoreSection) -> str:
        """See `weight_sets.too_few`."""
        return too_few(score.n_models, self.n_runs, self.n_kept_epochs, score.one_a_run, self.grid is not None)

    @property
    def networks(self) -> tuple[NetworkSection, ...]:
        """The networks that are trained, `n_runs` times each."""
        grid = self.grid or GridSection.model_construct()
        values = product(grid.latent_filters or (self.network.latent_filters,), grid.noise or (self.network.noise,))
        return tuple(self.network.model_copy(update={"latent_filters": d, "noise": noise}) for d, noise in values)


class ModelSection(Section):
    """Weights trained before: the file and the SHA-256 that it must have."""

    path: Path
    sha256: str = Field(pattern="^[0-9a-f]{64}$")
    network: NetworkSection = NetworkSection()


class ScoreSection(Section):
    """Scoring.

    Attributes
    ----------
    batch_size : int
        Objects of one model call; changes the speed, not the scores. By default 256, on a GPU 2048.
    n_models : int
        Weight sets of ``train`` that score, in one pass over the pixels: the best ones, as ``train.choose`` says, over
        all runs and kept epochs.
    one_a_run : bool
        Whether these are of different runs, the best one of each; else several of one run may be among them.
    kind : str
        ``paper``: equation 6. ``noise``: the residual in units of its expected noise (see `swimmy_scale.method.noise`).
    floor : float, optional
        Of the kind ``noise``: the error of a reconstruction that is not noise, as a fraction of it; by default
        `swimmy_scale.method.noise.FLOOR`.
    """

    batch_size: int | None = Field(default=None, ge=1)
    n_models: int = Field(default=1, ge=1)
    one_a_run: bool = False
    kind: Literal["paper", "noise"] = "paper"
    floor: float | None = Field(default=None, gt=0, le=1)

    @model_validator(mode="after")
    def _floor_of_noise(self) -> Self:
        if self.floor is not None and self.kind == "paper":
            raise ValueError("floor belongs to kind: noise. Set the kind, or leave the floor out")
        return self

    @property
    def score_kind(self) -> ScoreKind:
        """The kind, with its floor."""
        if self.kind == "paper":
            return ScoreKind()
        return ScoreKind(FLOOR if self.floor is None else self.floor)


class SelectSection(Section):
    """Selection.

    Attributes
    ----------
    levels : dict of str to float
        Name to fraction of the sample, most common first.
    thresholds_from : Path, optional
        ``summary.json`` of another run whose thresholds are carried over; else from this sample.
    formats : tuple of str
        Files of the candidate catalogue.
    combine : str
        How the scores of several models become the one that is cut: ``mean``, ``median`` or ``rank`` (see
        `swimmy_scale.method.ensemble`). Without effect where there is one model.
    """

    levels: dict[str, float] = Field(default_factory=lambda: dict(LEVELS))
    thresholds_from: Path | None = None
    formats: tuple[Literal["fits", "ecsv", "vot", "parquet"], ...] = ("fits", "ecsv", "vot", "parquet")
    combine: Rule = "mean"

    @model_validator(mode="after")
    def _fractions(self) -> Self:
        fractions = list(self.levels.values())
        if not fractions or not all(0 < fraction < 1 for fraction in fractions):
            raise ValueError("every level needs a fraction between 0 and 1")
        if fractions != sorted(fractions, reverse=True):
            raise ValueError("levels go from the largest fraction to the smallest")
        columns: dict[str, str] = {}
        for level in self.levels:
            other = columns.setdefault(level_suffix(level), level)
            if other != level:
                raise ValueError(f"levels {other!r} and {level!r} would share the column bands_{level_suffix(level)}")
        if not self.formats or len(set(self.formats)) != len(self.formats):
            raise ValueError("formats are one or more of fits, ecsv, vot, parquet, each once")
        return self


class StorageSection(Section):
    """How the stores are written.

    Attributes
    ----------
    partition_objects : int
        One task's rows.
    chunk_objects : int
        Rows that one read touches; divides ``partition_objects``.
    keep_mantissa_bits : int, optional
        Pixels are rounded to so many of their 23 mantissa bits, for smaller files; by default none is dropped.
    """

    partition_objects: int = Field(default=2048, ge=1)
    chunk_objects: int = Field(default=256, ge=1)
    keep_mantissa_bits: int | None = Field(default=None, ge=FEWEST_BITS, le=MOST_BITS)

    @model_validator(mode="after")
    def _whole_chunks(self) -> Self:
        if self.partition_objects % self.chunk_objects:
            raise ValueError(f"partition_objects must be a multiple of chunk_objects ({self.chunk_objects})")
        return self
