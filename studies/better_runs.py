"""What `better.py` compares: simulated surveys, trainings of both ways, and scores of every weight set."""

from __future__ import annotations

import json
import subprocess
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from machine import swimmy

from swimmy_scale.method.survey import BoolArray, DoubleArray

TRAININGS = {"clean": "training", "blind": ""}
SURVEYS = ("common", "rare")


@dataclass(frozen=True)
class Sizes:
    """How large the measurement is.

    Attributes
    ----------
    n_common, n_rare : int
        Objects of the survey with the paper's shares of classes, and of the one of rare classes alone.
    n_seeds : int
        Trainings of each way to train, in batches of ``n_batch``.
    n_training : int
        Objects of one training, of which one in five validates.
    epochs, decay_after_epoch, keep_from_epoch, batch_size : int
        See `swimmy_scale.method.network.Schedule`.
    filters : tuple of int
        The encoder's, but for the last; the paper's by default.
    """

    n_common: int = 8000
    n_rare: int = 2000
    n_seeds: int = 10
    n_batch: int = 10
    n_training: int = 1000
    epochs: int = 12
    decay_after_epoch: int = 8
    keep_from_epoch: int = 9
    batch_size: int = 16
    filters: tuple[int, int] = (64, 32)


# ---------------------------------------------------------------- surveys and training


def make_surveys(folder: Path, sizes: Sizes) -> None:
    """Simulate and ingest both surveys, where they are not there yet."""
    from swimmy_scale.simulate import paper_plan, simulate

    common = paper_plan(sizes.n_common, seed=1)
    # Its few quasars have no dust before their nuclei; those that are counted, of the other survey, do.
    common = replace(common, population=replace(common.population, reddened_quasars=False))
    rare = replace(
        paper_plan(sizes.n_rare, seed=2, faulty_fraction=0.0), cut_fraction=0.0,
        xelg_fraction=0.3, quasar_fraction=0.3, type1_agn_fraction=0.3, type2_agn_fraction=0.1,
        merger_fraction=0.0, artefact_zero_point_fraction=0.0, artefact_saturated_fraction=0.0,
    )  # fmt: skip
    for name, plan in zip(SURVEYS, (common, rare), strict=True):
        survey, cutouts = folder / name, folder / f"{name}.zarr"
        if not (survey / "simulation.json").is_file():
            simulate(str(survey), plan)
        if not (folder / f"{name}.done").is_file():
            run(swimmy("ingest", survey / "cutouts", "--catalog", survey / "catalogue.fits", "--patch-qa",
                       survey / "patch_qa.fits", "--output", cutouts, "--workers", 2))  # fmt: skip
            (folder / f"{name}.done").touch()


def settings(classes: str, sizes: Sizes, batch: int) -> str:
    """The settings of one batch of trainings."""
    names = ("epochs", "decay_after_epoch", "keep_from_epoch", "batch_size")
    schedule = ", ".join(f"{name}: {getattr(sizes, name)}" for name in names)
    n_runs = min(sizes.n_batch, sizes.n_seeds - batch * sizes.n_batch)
    return (
        "sample: {redshift: [0.05, 0.2], colours: []}\n"
        f"train: {{classes: [{classes}], schedule: {{{schedule}, seed: {1 + batch * sizes.n_batch}}}, "
        f"network: {{encoder_filters: {list(sizes.filters)}}}, "
        f"n_runs: {n_runs}, max_objects: {sizes.n_training}, n_threads: 1}}\n"
    )


def batches(sizes: Sizes) -> range:
    """Batches of trainings."""
    return range(-(-sizes.n_seeds // sizes.n_batch))


def models_folder(folder: Path, training: str, batch: int) -> Path:
    """Where a batch's weights lie."""
    return folder / (training if batch == 0 else f"{training}-{batch}")


def train(folder: Path, sizes: Sizes) -> None:
    """Train by both ways, side by side; what is there is not trained again."""

    def one(name: str) -> None:
        for batch in batches(sizes):
            output = models_folder(folder, name, batch)
            path = output.with_suffix(".yaml")
            path.write_text(settings(TRAININGS[name], sizes, batch))
            run(swimmy("train", folder / "common.zarr", "--output", output, "--settings", path, "--workers", 0))

    with ThreadPoolExecutor(len(TRAININGS)) as pool:
        list(pool.map(one, TRAININGS))


def run(words: list[str]) -> None:
    """Run a command; exit status 3 says that objects are in quarantine, which the survey has on purpose."""
    done = subprocess.run(words, check=False)
    if done.returncode not in (0, 3):
        raise SystemExit(f"{' '.join(words)} ended with {done.returncode}")


# ---------------------------------------------------------------- scores of every weight set


@dataclass(frozen=True)
class Survey:
    """What is known of a survey's objects, those in the sample alone.

    Attributes
    ----------
    kind : ndarray of str, shape (n,)
        From the truth.
    source_sum, noise : ndarray of float64, shape (n, band)
        See `swimmy_scale.method.noise`; selecting bands alone.
    training : ndarray of bool, shape (n,)
        Of the class that a clean training may use: ordinary galaxies of the bright main sample.
    """

    kind: npt.NDArray[np.str_]
    source_sum: DoubleArray
    noise: DoubleArray
    training: BoolArray


def sample_rows(folder: Path, name: str) -> BoolArray:
    """Which rows of a survey's store are in the sample."""
    from swimmy_scale.method.sample import SampleCuts
    from swimmy_scale.storage.cutouts import Cutouts, SampleRule

    store = Cutouts(folder / f"{name}.zarr")
    rule = SampleRule.of(store, SampleCuts(redshift=(0.05, 0.2), colours=()))
    usable = store.read("quarantine_code", 0, store.n_objects) == 0
    return rule.apply(store, 0, store.n_objects, usable)[0]


def look(folder: Path, name: str) -> Survey:
    """Kinds and expected noise of a survey's sample; kept in a file."""
    from astropy.table import Table

    from swimmy_scale.method.noise import source_and_noise
    from swimmy_scale.storage.cutouts import Cutouts

    path = folder / f"noise-{name}.npz"
    store, rows = Cutouts(folder / f"{name}.zarr"), sample_rows(folder, name)
    training = store.read("sample_class", 0, store.n_objects)[rows].astype(str) == "training"
    if not path.is_file():
        bands = store.survey.band_index(store.survey.selecting_bands)
        truth = Table.read(folder / name / "truth.fits")
        kind_of = dict(zip(truth["object_id"].tolist(), np.asarray(truth["kind"]).astype(str), strict=True))
        parts = []
        for lo in range(0, store.n_objects, store.chunk_objects):
            hi = min(lo + store.chunk_objects, store.n_objects)
            found = source_and_noise(store.images(lo, hi)[rows[lo:hi]],
                                     store.read("fwhm_arcsec", lo, hi)[rows[lo:hi]], store.survey)  # fmt: skip
            parts.append([values[:, bands] for values in found])
        source_sum, noise = (np.concatenate(values) for values in zip(*parts, strict=True))
        kind = np.array([kind_of[number].strip() for number in store.read("object_id", 0, store.n_objects)[rows]])
        _save(path, kind=kind, source_sum=source_sum, noise=noise)
    with np.load(path) as content:
        return Survey(**{key: content[key] for key in content.files}, training=training)


def _save(path: Path, **arrays: npt.NDArray[Any]) -> None:
    partial = path.with_suffix(".partial.npz")
    np.savez(partial, allow_pickle=False, **arrays)
    partial.replace(path)


def scored(folder: Path, training: str, seed: int, sizes: Sizes) -> dict[str, npt.NDArray[Any]]:
    """Score (equation 6) and residual by all kept epochs of one training, float32 (n, epoch, band), kept in a file.

    ``score-common`` and so on, and ``val_loss`` of the epochs; objects of the samples and selecting bands alone.
    """
    path = folder / "scores" / f"{training}-{seed:02d}.npz"
    if not path.is_file():
        path.parent.mkdir(exist_ok=True)
        _save(path, **_score(folder, training, seed, sizes))
    with np.load(path) as content:
        return {key: content[key] for key in content.files}


def _score(folder: Path, training: str, seed: int, sizes: Sizes) -> dict[str, npt.NDArray[Any]]:
    from astropy.table import Table

    from swimmy_scale.method.network import Network
    from swimmy_scale.model.scoring import Model, Scoring, score_rows
    from swimmy_scale.storage.cutouts import Cutouts

    batch, number = divmod(seed, sizes.n_batch)
    models = models_folder(folder, training, batch)
    manifest = json.loads((models / "manifest.json").read_text())["files"]
    files = sorted(name for name in manifest if name.startswith(f"run-{number:02d}/"))
    history = Table.read(models / f"run-{number:02d}" / "history.csv", format="ascii.csv")
    network = Network(encoder_filters=sizes.filters)
    how = Scoring(tuple(Model(models / name, manifest[name]) for name in files), network, None, 2, "numba")
    found: dict[str, npt.NDArray[Any]] = {"val_loss": np.asarray(history["val_loss"])[sizes.keep_from_epoch - 1 :]}
    for name in SURVEYS:
        store, rows = Cutouts(folder / f"{name}.zarr"), sample_rows(folder, name)
        bands = store.survey.band_index(store.survey.selecting_bands)
        score, residual = score_rows(store, how, 0, store.n_objects, rows)
        found |= {f"score-{name}": score[rows][:, :, bands], f"residual-{name}": residual[rows][:, :, bands]}
    return found
