"""Weights that score cutouts which a user holds."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, get_args

import numpy as np
import xarray

from swimmy_scale.errors import SwimmyError
from swimmy_scale.library.by_object import by_object, usable
from swimmy_scale.library.given import named_survey
from swimmy_scale.method.descriptor import DESCRIPTOR, DESCRIPTOR_VERSION, descriptor, feature_names
from swimmy_scale.method.job import Settings, parse_job
from swimmy_scale.method.noise import noise_score, source_and_noise
from swimmy_scale.method.preprocess import preprocess as preprocess_arrays
from swimmy_scale.method.score_kind import EQUATION_6
from swimmy_scale.method.sections import ScorerName, ScoreSection, TrainSection
from swimmy_scale.method.survey import HSC, FloatArray, Survey
from swimmy_scale.method.weight_sets import WeightSet, by_validation_loss
from swimmy_scale.model.scoring import Model, Scoring, reconstructor, scorer_for
from swimmy_scale.stages.choice import Choice, trusted
from swimmy_scale.stages.scorer_choice import kept_by_run
from swimmy_scale.stages.weights_of_run import weights_of_run
from swimmy_scale.storage.cutouts import Cutouts
from swimmy_scale.storage.run_directory import ModelsFolder, RunDirectory, ledger_beside
from swimmy_scale.storage.scores import RESIDUAL


class Scored(NamedTuple):
    """What `Weights.score` gives for arrays.

    Attributes
    ----------
    score : array of float32, shape (n, band), or (n, model, band) for several models
        Equation 6, or what the job's ``score.kind`` says; NaN for an object that cannot be scored.
    residual : array of float32, of the same shape
        Sum over the aperture of source - reconstruction; NaN where the score is.
    """

    score: Any
    residual: Any


@dataclass(frozen=True)
class Weights:
    """Trained weights, loaded to score; `load_model` and `train` give them.

    They are small and know where their files are: Dask sends them to its workers, which read the files themselves. So
    on a cluster of several machines the files must lie where all of them find them.

    Attributes
    ----------
    scoring : Scoring
        The model files with their digests, the network, and what the score is.
    survey : Survey
        What cutouts it takes: bands and their order, pixels, zero point, target FWHM.
    """

    scoring: Scoring
    survey: Survey = HSC

    def score(self, image: Any, fwhm_arcsec: Any) -> Any:
        """Anomaly score and residual of cutouts (sections 2.3, 3.1 and 3.2), with the bits of a run's scores.

        An object's numbers depend on its own pixels and seeing alone, however the objects are chunked.

        Parameters
        ----------
        image : NumPy array, Dask array or xarray DataArray, shape (n, band, y, x)
            Counts of the survey's zero point (27.0 mag for HSC), in the order of the survey's bands. Any real numbers;
            masked ones are NaN. A DataArray may call its axes as it likes.
        fwhm_arcsec : the same kinds, shape (n, band) or (band,)
            FWHM of the PSF in arcsec, of each object or of all. Two DataArrays that name their objects have the same
            ones.

        Returns
        -------
        Scored or xarray.Dataset
            For arrays `Scored`, lazy for Dask arrays; for a DataArray a Dataset of ``score`` and ``residual``, lazy if
            it was, with its coordinates. An object with a pixel that is NaN or infinite, or a FWHM that is NaN, not
            positive or above the survey's target, is NaN.

        Raises
        ------
        SwimmyError
            When what is given is no numbers, or has a unit of another kind; when shapes, or bands by the name of their
            coordinate, do not fit the survey, or the seeing has other objects by their coordinate. When a model file
            is missing or another one than was recorded; for lazy objects when they are computed.
        """
        n_models = len(self.scoring.models)
        axes = ("band",) if n_models == 1 else (f"model:{n_models}", "band")
        lazy = hasattr(image, "dask") or getattr(image, "chunks", None) is not None
        scoring = self._on_threads(1 if lazy else len(os.sched_getaffinity(0)))
        score, residual = by_object(partial(_score, scoring, self.survey), image, fwhm_arcsec, self.survey, axes, axes)
        if not isinstance(score, xarray.DataArray):
            return Scored(score, residual)
        kind = {name: json.dumps(value) for name, value in self.scoring.kind.described.items()}
        attrs = {"model_sha256": json.dumps(scoring.sha256).strip('"'), "scorer": scoring.scorer, **kind}
        score.attrs = {"units": "1", "long_name": self.scoring.kind.long_name}
        residual.attrs = {"units": "1", "long_name": RESIDUAL}
        return xarray.Dataset({"score": score, "residual": residual}, attrs=attrs)

    def reconstruct(self, image: Any, fwhm_arcsec: Any) -> Any:
        """What the network makes of cutouts: to be compared with `preprocess` of the same.

        Parameters
        ----------
        image, fwhm_arcsec
            As `score` takes them.

        Returns
        -------
        array or DataArray of float32, like ``image``
            In [0, 1], on the scale of the network's input; of several models the mean. NaN for an object that cannot
            be scored.

        Raises
        ------
        SwimmyError
            As `score`.
        """
        compute = partial(_reconstruct, self._on_threads(1), self.survey)
        return by_object(compute, image, fwhm_arcsec, self.survey, ("band", "y", "x"))[0]

    def describe(self, image: Any, fwhm_arcsec: Any) -> Any:
        """What cutouts look like, in numbers: residuals by band and ring, with the bits of a run's ``descriptor``.

        Parameters
        ----------
        image, fwhm_arcsec
            As `score` takes them.

        Returns
        -------
        array or DataArray of float16, shape (n, feature)
            In the order of `descriptor.feature_names`, which a DataArray has as its coordinate ``feature``; of several
            models the mean. NaN for an object that cannot be scored.

        Raises
        ------
        SwimmyError
            As `score`.
        """
        names = feature_names(self.survey)
        compute = partial(_describe, replace(self._on_threads(1), descriptors=True), self.survey)
        # Values of float16 pass through float32, as which arrays come back, without a change.
        found = by_object(compute, image, fwhm_arcsec, self.survey, (f"feature:{len(names)}",))[0].astype(np.float16)
        if not isinstance(found, xarray.DataArray):
            return found
        found.attrs = {"units": "1", "long_name": DESCRIPTOR, "version": DESCRIPTOR_VERSION}
        return found.assign_coords(feature=list(names))

    def _on_threads(self, n_threads: int) -> Scoring:
        return replace(self.scoring, n_threads=n_threads)


def _score(
    scoring: Scoring, survey: Survey, image: FloatArray, fwhm_arcsec: FloatArray
) -> tuple[FloatArray, FloatArray]:
    good = usable(image, fwhm_arcsec, survey)
    score = np.full((len(image), len(scoring.models), survey.n_bands), np.nan, np.float32)
    residual = score.copy()
    if good.any():
        image, fwhm_arcsec = image[good], fwhm_arcsec[good]
        found, left = scorer_for(scoring, survey).score_counts(image, fwhm_arcsec)
        floor = scoring.kind.noise_floor
        score[good] = (
            found if floor is None else noise_score(left, *source_and_noise(image, fwhm_arcsec, survey), floor)
        )
        residual[good] = left
    if len(scoring.models) == 1:
        return score[:, 0], residual[:, 0]
    return score, residual


def _describe(scoring: Scoring, survey: Survey, image: FloatArray, fwhm_arcsec: FloatArray) -> tuple[FloatArray]:
    found = np.full((len(image), len(feature_names(survey))), np.nan, np.float32)
    good = usable(image, fwhm_arcsec, survey)
    if good.any():
        found[good] = descriptor(scorer_for(scoring, survey).score_counts(image[good], fwhm_arcsec[good])[2])
    return (found,)


def _reconstruct(scoring: Scoring, survey: Survey, image: FloatArray, fwhm_arcsec: FloatArray) -> tuple[FloatArray]:
    found = np.full(image.shape, np.nan, np.float32)
    good = usable(image, fwhm_arcsec, survey)
    if good.any():
        found[good] = reconstructor(scoring)(preprocess_arrays(image[good], fwhm_arcsec[good], survey))
    return (found,)


def preprocess(image: Any, fwhm_arcsec: Any, survey: Survey | str = HSC) -> Any:
    """From counts to the network's input: PSF match, flux scale and stretch (section 2.3).

    Parameters
    ----------
    image, fwhm_arcsec
        As `Weights.score` takes them.
    survey : Survey or str
        Itself, or its name as a job has it, such as ``legacy-south``.

    Returns
    -------
    array or DataArray of float32, like ``image``, in [0, 1]
        NaN for an object that cannot be scored.

    Raises
    ------
    SwimmyError
        When arrays are not as `Weights.score` takes them, or no survey has the name.
    """
    survey = named_survey(survey)
    return by_object(partial(_preprocess, survey), image, fwhm_arcsec, survey, ("band", "y", "x"))[0]


def _preprocess(survey: Survey, image: FloatArray, fwhm_arcsec: FloatArray) -> tuple[FloatArray]:
    found = np.full(image.shape, np.nan, np.float32)
    good = usable(image, fwhm_arcsec, survey)
    found[good] = preprocess_arrays(image[good], fwhm_arcsec[good], survey)
    return (found,)


def load_model(
    path: Path | str,
    sha256: str | None = None,
    survey: Survey | str | None = None,
    scorer: ScorerName | None = None,
    network: Mapping[str, Any] | None = None,
) -> Weights:
    """Weights that were trained before.

    Parameters
    ----------
    path : Path or str
        A run directory, with the weights that it chose; a folder that `train` made; or one ``.keras`` file.
    sha256 : str, optional
        Digest of the file, which is trusted by it alone. By default the one that the ``manifest.json`` beside it
        records.
    survey : Survey or str, optional
        Itself or its name; by default that of the run, else HSC.
    scorer : str, optional
        ``numba`` or ``keras``; by default the one that the run keeps to, else ``numba``. Their scores differ in the
        last digits.
    network : mapping, optional
        As `train` takes it: of a file that no ``manifest.json`` records. What is left out is the paper's.

    Raises
    ------
    SwimmyError
        When the path is none of these, training is not finished, the digest is another or is not known, or network
        and survey do not fit; when no survey or scorer has the name.
    """
    place = Path(path)
    if not place.exists():
        raise SwimmyError(f"{place}: no such file or folder, so that no weights are read. Check the path.")
    if scorer not in (None, *get_args(ScorerName)):
        raise SwimmyError(f"no scorer is called {scorer!r}. Choose among {', '.join(get_args(ScorerName))}.")
    run, kind = RunDirectory(place), EQUATION_6
    if run.exists():
        job = run.load_job()
        cutouts = run.cutouts(job)
        survey = survey or (Cutouts(cutouts).survey if cutouts.is_dir() else job.survey)
        kind, scorer = job.score.score_kind, scorer or kept_by_run(run)
    survey = named_survey(survey or HSC)
    if place.is_dir() and (run.exists() or ledger_beside(place, "train").folder.is_dir()):
        chosen = weights_of_run(place)
        models = tuple(Model(model.path, model.sha256) for model in chosen)
        sizes = chosen[0].network.for_survey(survey)
    else:
        file = ModelsFolder(place).selected if place.is_dir() else place
        if place.is_dir() and not file.exists():
            raise SwimmyError(f"{place}: neither a run directory nor a folder of trained weights. Check the path.")
        section = _training("load_model", network).network
        sizes, digest = trusted(file, sha256, "sha256", partial(section.for_survey, survey))
        models = (Model(file, digest),)
    sizes.check_survey(survey)
    scoring = Scoring(models, sizes, None, 1, scorer or "numba", kind)
    scorer_for(scoring, survey)  # refuses a file that is not what was recorded
    return Weights(scoring, survey)


def _training(
    function: str, network: Mapping[str, Any] | None, schedule: Mapping[str, Any] | None = None
) -> TrainSection:
    # JSON is YAML: what is wrong is said in the words of a job.
    text = json.dumps({"train": {"network": dict(network or {}), "schedule": dict(schedule or {})}})
    return parse_job(text, Path(f"arguments of {function}"), Settings).train or TrainSection()


def train(
    image: Any,
    fwhm_arcsec: Any,
    output: Path | str,
    *,
    survey: Survey | str = HSC,
    network: Mapping[str, Any] | None = None,
    schedule: Mapping[str, Any] | None = None,
    n_threads: int = 1,
) -> Weights:
    """Train the autoencoder on normal galaxies (section 3.1), and load the weights of the lowest validation loss.

    Called again with the same it goes on after the last epoch that is on disk, or returns what is there.

    Parameters
    ----------
    image, fwhm_arcsec
        The training class, as `Weights.score` takes it. It must fit in memory; objects that cannot be scored are left
        out.
    output : Path or str
        The folder of the weights, which `load_model` takes: ``selected.keras``, ``manifest.json``, and every training
        epoch that is kept.
    survey : Survey or str
        Itself or its name.
    network, schedule : mapping, optional
        As ``train.network`` and ``train.schedule`` of a job: ``{"latent_filters": 4}``, ``{"epochs": 10, "seed": 1}``.
        What is left out is the paper's.
    n_threads : int
        Of TensorFlow. Another number gives slightly other weights.

    Raises
    ------
    SwimmyError
        When too few objects are left, shapes do not fit the survey, the folder holds another training, or the loss is
        not finite.
    """
    from swimmy_scale.model.training import train as train_network

    survey = named_survey(survey)
    sources = np.asarray(preprocess(image, fwhm_arcsec, survey))
    sources = sources[np.isfinite(sources[:, 0, 0, 0])]
    section = _training("train", network, schedule)
    sizes = section.network.for_survey(survey)
    folder = ModelsFolder(Path(output))
    result = train_network(sources, sizes, section.schedule, folder.training(0), n_threads)
    kept = [
        WeightSet(0, one.epoch, f"{folder.training(0).name}/{one.file}", one.sha256, one.loss, one.val_loss, sizes)
        for one in result.epochs
        if one.file
    ]
    Choice(folder, ScoreSection(), False).write(kept, by_validation_loss(kept), {"rule": "lowest validation loss"})
    return load_model(folder.path, survey=survey)
