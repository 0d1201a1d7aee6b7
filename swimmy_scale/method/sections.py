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
from swimmy_scale.method.network import Network, Schedule
from swimmy_scale.method.noise import FLOOR
from swimmy_scale.method.sample import SampleCuts
from swimmy_scale.method.score_kind import ScoreKind
from swimmy_scale.method.survey import Survey
from swimmy_scale.method.weight_sets import too_few

ScorerChoice = Literal["auto", "keras", "numba"]
ScorerName = Literal["keras", "numba"]

THREADS_OF_ONE, THREADS_OF_EACH = 2, 1
"""Threads of the only training of a job, and of each of several. Two threads train less than twice as fast as one, so
several trainings use cores best side by side, each on one thread; a single one would leave all others idle."""


def located(value: Any, check: ValidatorFunctionWrapHandler) -> Any:
    """Turn the error of a value's own class into one that pydantic reports with its place in the file."""
    try:
        return check(value)
    except SwimmyError as error:
        # The place in the file says which section it is.
        raise ValueError(str(error).removeprefix("sample cuts: ").removeprefix("schedule: ")) from error


class JobSection(BaseModel):
    """A part of a job: unknown keys are errors, values cannot be changed."""

    model_config = ConfigDict(extra="forbid", frozen=True)


@dataclass(frozen=True)
class CatalogueSource:
    """Where the catalogue is and how its columns are named.

    Attributes
    ----------
    path : Path, optional
        FITS (also .fits.gz), Parquet, CSV (also .csv.gz), VOTable or ECSV; or object tables, or a folder of them. By
        default the catalogue inside of the sources, which object tables have. Example: ``catalogue.fits``.
    columns : dict of str to str
        Our names and theirs. Other columns have the names of HSC's database, in upper or lower case.
        Example: ``{ra: RAJ2000, dec: DEJ2000}``.
    patch_qa : Path, optional
        Table of the seeing and depth of each patch, in any of the same formats: ``tract`` and ``patch`` (or
        ``skymap_id``), ``{band}seeing`` in arcsec, ``{band}mag_psf_depth``. Example: ``patch_qa.fits``.
    keep_columns : tuple of str
        Columns to carry over into the candidate catalogue; more can be named once the ingest is done. Example:
        ``[i_cmodel_mag, redshift]``.
    units : dict of str to str
        Our names of columns and their units, in place of those that the file declares. Example: ``{ra: hourangle}``.
    hdu : int or str, optional
        Number or name of the table in a file that has several; by default the one that has the columns.
        Example: ``OBJECTS``.
    fwhm_arcsec : dict of str to float
        One FWHM of the PSF a band, for all objects whose FWHM nothing else gives. Example: ``{g: 0.8, r: 0.75}``.
    pair_radius_arcsec : float
        Objects closer than this to another one are told and counted; 0 for none.
    """

    # Pydantic reads this: a misspelt key in a job file is an error, not a silent default.
    __pydantic_config__ = {"extra": "forbid"}  # noqa: RUF012

    path: Path | None = None
    columns: dict[str, str] = field(default_factory=dict)
    patch_qa: Path | None = None
    keep_columns: tuple[str, ...] = ()
    units: dict[str, str] = field(default_factory=dict)
    hdu: int | str | None = None
    fwhm_arcsec: dict[str, Annotated[float, Field(gt=0, lt=50)]] = field(default_factory=dict)
    pair_radius_arcsec: Annotated[float, Field(ge=0, le=60)] = 0.5


class IngestSection(JobSection):
    r"""Where the pixels are.

    Attributes
    ----------
    sources : tuple of Path
        Folders, tar files, coadd images, object tables or one cube; or ``coadd``. Example: ``[cutouts, more.tar]``.
    kind : str
        What the sources are; ``auto`` finds out.
    coadd : dict of str to Path
        One coadd image a band, in place of ``sources``. Example: ``{g: coadd-g.fits, r: coadd-r.fits}``.
    name_pattern : str, optional
        Regular expression for file names of another form, with the groups ``line``, ``object_id``, ``ra``, ``dec``,
        ``band``. Example: ``'(?P<object_id>\\d+)_(?P<band>[grizy])\\.fits'``.
    match_radius_arcsec : float
        Largest distance of a file's position from its object, where file names carry a position.
    psf_from_files : bool
        Measure the PSF that Rubin's cutouts hold (DP2, which needs lsst-images) where the catalogue has no FWHM.
    """

    sources: tuple[Path, ...] = ()
    kind: Literal["auto", "cutouts", "coadd", "cube", "table"] = "auto"
    coadd: dict[str, Path] = Field(default_factory=dict)
    name_pattern: str | None = None
    match_radius_arcsec: float = Field(default=1.0, gt=0)
    psf_from_files: bool = False

    @model_validator(mode="after")
    def _one_kind_of_source(self) -> Self:
        if bool(self.sources) == bool(self.coadd):
            raise ValueError("give either sources or coadd")
        if self.coadd and self.kind not in ("auto", "coadd"):
            raise ValueError(f"coadd gives images of coadds, and kind says {self.kind}. Leave one of them out")
        if self.name_pattern is not None and (self.coadd or self.kind in ("coadd", "cube", "table")):
            raise ValueError(
                "name_pattern is for names of cutout files, and coadds, cubes and tables are not found by name"
            )
        return self


class AdditionSection(JobSection):
    """Further objects, or files that came late, which become further partitions of a run.

    Keys of its ``catalogue`` and ``ingest`` that are left out, but paths, are those of the job's own sections.

    Attributes
    ----------
    name : str
        What the summary calls it. Example: ``night-2``.
    catalogue : CatalogueSource, optional
        By default the job's own, of which only the objects count that have no usable pixels yet, and have files in
        ``ingest.sources`` now. Example: ``{path: night2.fits}``.
    ingest : IngestSection
        Where the pixels are. Example: ``{sources: [night2]}``.
    """

    name: str = Field(min_length=1)
    catalogue: CatalogueSource | None = None
    ingest: IngestSection


class MpaJhuSection(JobSection):
    """The MPA-JHU tables, three files of one release.

    Attributes
    ----------
    info : Path
        galSpecInfo. Example: ``galSpecInfo-dr8.fits``.
    line : Path
        galSpecLine. Example: ``galSpecLine-dr8.fits``.
    extra : Path
        galSpecExtra. Example: ``galSpecExtra-dr8.fits``.
    widths : str
        Whether the equivalent widths of galSpecLine are ``observed`` or at ``rest``.
    """

    info: Path
    line: Path
    extra: Path
    widths: Literal["observed", "rest"] = "observed"


class SpectroscopySection(JobSection):
    """Tables of spectra, which give redshifts and classes in place of the catalogue (section 2.2).

    Attributes
    ----------
    sdss : Path, optional
        specObj of SDSS, with its published column names, in any format of a catalogue; so are the others.
        Example: ``specObj-dr15.fits``.
    gama : Path, optional
        SpecObj of GAMA. Example: ``SpecObj.fits``.
    mpa_jhu : MpaJhuSection, optional
        The MPA-JHU tables. Example: ``{info: i.fits, line: l.fits, extra: e.fits}``.
    dr16q : Path, optional
        The quasars of SDSS's DR16Q. Example: ``DR16Q_v4.fits``.
    milliquas : Path, optional
        Milliquas. Example: ``milliquas.fits``.
    match_radius_arcsec : float
        Largest distance of a counterpart.
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
        """All files that the section names."""
        triple = (self.mpa_jhu.info, self.mpa_jhu.line, self.mpa_jhu.extra) if self.mpa_jhu else ()
        return tuple(path for path in (self.sdss, self.gama, *triple, self.dr16q, self.milliquas) if path is not None)


class NetworkSection(JobSection):
    """The network's free sizes (section 3.1); bands and cutout size come from the survey.

    Attributes
    ----------
    encoder_filters : tuple of int
        Filters of the encoder's first two convolutions; the decoder mirrors them (figure 3).
    latent_filters : int
        Filters of the encoder's last convolution: d of the paper.
    noise : float
        Standard deviation of the Gaussian noise on the input, in training only: r_gauss of the paper.
    """

    encoder_filters: tuple[int, int] = (64, 32)
    latent_filters: int = 8
    noise: float = 0.02

    def for_survey(self, survey: Survey) -> Network:
        """The network of these sizes for a survey's bands and cutout size."""
        return Network(n_bands=survey.n_bands, cutout_size_px=survey.cutout_size_px, **self.model_dump())


class GridSection(JobSection):
    """Hyperparameters to try, in all combinations (table 5); what is left out comes from the network section.

    Attributes
    ----------
    latent_filters : tuple of int
        d of the paper. Example: ``[4, 8, 16, 32]``.
    noise : tuple of float
        r_gauss of the paper. Example: ``[0, 0.01, 0.02]``.
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


class TrainSection(JobSection):
    """Training, and the choice of the weights that score.

    Attributes
    ----------
    sample : SampleCuts, optional
        Cuts of the objects to train on; by default those of the section ``sample``. With cuts of its own, training is
        not done again when those change. Example: ``{redshift: [0.05, 0.2]}``.
    network : NetworkSection
        The network to train.
    schedule : Schedule
        How it is trained.
    n_runs : int
        Independent trainings of each network. Training k of all has seed ``schedule.seed + k``.
    classes : tuple of str
        Classes of ``sample_class`` to train on; empty for the whole sample.
    max_objects : int, optional
        Most training objects; where there are more, the seed chooses among them at random. Example: ``5000``.
    n_threads : int
        Threads of one training. They are part of the result: with another number TensorFlow adds up gradients in
        another order, and the last digits of the weights differ. So the job says the number, not the machine, and the
        frozen job keeps it: by default 2 for one training, 1 for each of several.
    grid : GridSection, optional
        Several networks in place of one, in order of their combinations, with the noise changing fastest (table 5).
        Example: ``{latent_filters: [4, 8], noise: [0.01, 0.02]}``.
    choose : str
        Which weights score. ``validation_loss``: those of the lowest one. ``known_classes``: those that select most
        of the known classes (appendix 1).
    evaluate : bool
        Judge every weight set by the known classes even where they do not choose.
    known_classes : tuple of str
        Classes of ``sample_class``; weights are judged by the sum of the fractions that they select of each.
    judged_level : str, optional
        Level of ``select.levels`` at which they are judged; by default the first. Example: ``2sigma``.
    threshold_objects : int, optional
        Most objects of the sample, chosen at random by the seed, that set the thresholds at which weights are judged.
        By default the whole sample sets them, as in the paper. Example: ``10000``.
    """

    sample: Annotated[SampleCuts, WrapValidator(located)] | None = None
    network: NetworkSection = NetworkSection()
    schedule: Annotated[Schedule, WrapValidator(located)] = Schedule()
    n_runs: int = Field(default=1, ge=1)
    classes: tuple[str, ...] = ("training",)
    max_objects: int | None = Field(default=None, ge=1)
    n_threads: int = Field(default=THREADS_OF_ONE, ge=1)
    grid: GridSection | None = None
    choose: Literal["validation_loss", "known_classes"] = "validation_loss"
    evaluate: bool = False
    known_classes: tuple[str, ...] = ("quasar", "xelg")
    judged_level: str | None = None
    threshold_objects: int | None = Field(default=None, ge=1)

    @model_validator(mode="before")
    @classmethod
    def _threads_by_number_of_trainings(cls, content: Any) -> Any:
        if not isinstance(content, dict) or "n_threads" in content:
            return content
        several = content.get("n_runs", 1) != 1 or content.get("grid") is not None
        return {**content, "n_threads": THREADS_OF_EACH if several else THREADS_OF_ONE}

    @model_validator(mode="after")
    def _classes_to_judge_by(self) -> Self:
        classes = set(self.known_classes)
        if not classes or len(classes) < len(self.known_classes) or classes & {"", ANY_BAND}:
            raise ValueError(
                f"known_classes are one or more classes of sample_class, each once, none called {ANY_BAND!r}"
            )
        return self

    @model_validator(mode="after")
    def _something_to_judge(self) -> Self:
        if not self.evaluates:
            fields = type(self).model_fields
            names = ("known_classes", "judged_level", "threshold_objects")
            given = [name for name in names if getattr(self, name) != fields[name].default]
            if given:
                raise ValueError(
                    f"{', '.join(given)} say how weights are judged, and nothing judges them. Set evaluate: true or "
                    "choose: known_classes, or leave them out"
                )
        return self

    @property
    def evaluates(self) -> bool:
        """Whether weight sets are judged by known classes."""
        return self.evaluate or self.choose == "known_classes"

    def cuts(self, sample: SampleCuts) -> SampleCuts:
        """The cuts of the objects to train on, where those of the sample are ``sample``."""
        return sample if self.sample is None else self.sample

    @property
    def n_kept_epochs(self) -> int:
        """Number of weight sets that one training keeps."""
        return self.schedule.epochs - self.schedule.keep_from_epoch + 1

    def too_few(self, score: ScoreSection) -> str:
        return too_few(score.n_models, self.n_runs, self.n_kept_epochs, score.one_a_run, self.grid is not None)

    @property
    def networks(self) -> tuple[NetworkSection, ...]:
        """The networks to train, each ``n_runs`` times."""
        grid = self.grid or GridSection.model_construct()
        values = product(grid.latent_filters or (self.network.latent_filters,), grid.noise or (self.network.noise,))
        return tuple(self.network.model_copy(update={"latent_filters": d, "noise": noise}) for d, noise in values)


class ScoreSection(JobSection):
    """Scoring (section 3.2).

    Attributes
    ----------
    batch_size : int
        Objects of one model call; changes the speed, not the scores. By default 256, on a GPU 2048. Example: ``512``.
    n_models : int
        Weight sets of ``train`` that score, in one pass over the pixels: the best of all trainings and kept epochs, as
        ``train.choose`` says.
    one_a_run : bool
        Take only the best weight set of each training; else several of one training may score.
    kind : str
        ``paper``: equation 6. ``noise``: the residual in units of its expected noise (see `swimmy_scale.method.noise`).
    floor : float, optional
        For the kind ``noise``: the error of a reconstruction that is not noise, as a fraction of it; by default
        `FLOOR` of `swimmy_scale.method.noise`. Example: ``0.05``.
    descriptors : bool
        Also write ``descriptor``, the residuals of each band in three rings of the aperture, 30 bytes an object: `rank`
        and `like` compare objects by them, and do with the scores alone where they are missing.
    """

    batch_size: int | None = Field(default=None, ge=1)
    n_models: int = Field(default=1, ge=1)
    one_a_run: bool = False
    kind: Literal["paper", "noise"] = "paper"
    floor: float | None = Field(default=None, gt=0, le=1)
    descriptors: bool = False

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


class SelectSection(JobSection):
    """Selection (section 3.2).

    Attributes
    ----------
    levels : dict of str to float
        Name and top fraction of the sample, largest fraction first.
    thresholds_from : Path, optional
        ``summary.json`` of another run whose thresholds are carried over; by default this sample sets them. They must
        have been made for scores of the same model and scorer. Example: ``../runs/paper/summary.json``.
    thresholds_of_another_model : bool
        Carry thresholds over that were made for the scores of another model or scorer.
    formats : tuple of str
        File formats of the candidate catalogue.
    combine : str
        How the scores of several models become one (see `swimmy_scale.method.ensemble`). No effect with one model.
    """

    levels: dict[str, float] = Field(default_factory=lambda: dict(LEVELS))
    thresholds_from: Path | None = None
    thresholds_of_another_model: bool = False
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
        if self.thresholds_of_another_model and self.thresholds_from is None:
            raise ValueError("thresholds_of_another_model goes with thresholds_from. Give that, or leave it out")
        return self


class StorageSection(JobSection):
    """How the stores are written.

    Attributes
    ----------
    partition_objects : int
        Rows of one task.
    chunk_objects : int
        Rows of one read; divides ``partition_objects``.
    keep_mantissa_bits : int, optional
        Of the 23 mantissa bits of a pixel; fewer make smaller files. By default all are kept. Example: ``12``.
    """

    partition_objects: int = Field(default=2048, ge=1)
    chunk_objects: int = Field(default=256, ge=1)
    keep_mantissa_bits: int | None = Field(default=None, ge=FEWEST_BITS, le=MOST_BITS)

    @model_validator(mode="after")
    def _whole_chunks(self) -> Self:
        if self.partition_objects % self.chunk_objects:
            raise ValueError(f"partition_objects must be a multiple of chunk_objects ({self.chunk_objects})")
        return self
