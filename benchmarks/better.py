"""Other ways than the paper's to train, to score and to choose, at the same 5% a band; prints a table and writes JSON.

python benchmarks/better.py better --json benchmarks/results/better.json
python benchmarks/better.py --page docs/better.md
"""

from __future__ import annotations

import argparse
import subprocess
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

from measure import swimmy

TRAININGS = {"clean": "training", "blind": ""}


@dataclass(frozen=True)
class Sizes:
    """How large the measurement is.

    Attributes
    ----------
    n_common, n_rare : int
        Objects of the survey with the paper's shares of classes, and of the one of rare classes alone.
    n_seeds : int
        Training runs of each way to train.
    n_training : int
        Objects of one run, of which one in five validates.
    epochs, decay_after_epoch, keep_from_epoch, batch_size : int
        See `swimmy_scale.network.Schedule`.
    """

    n_common: int = 8000
    n_rare: int = 2000
    n_seeds: int = 10
    n_training: int = 1000
    epochs: int = 12
    decay_after_epoch: int = 8
    keep_from_epoch: int = 9
    batch_size: int = 16


def make_surveys(folder: Path, sizes: Sizes) -> None:
    """Simulate and ingest both surveys, where they are not there yet."""
    from swimmy_scale.simulate import paper_plan, simulate

    common = paper_plan(sizes.n_common, seed=1)
    rare = replace(
        paper_plan(sizes.n_rare, seed=2, faulty_fraction=0.0), cut_fraction=0.0,
        xelg_fraction=0.3, quasar_fraction=0.3, type1_agn_fraction=0.3, type2_agn_fraction=0.1,
        merger_fraction=0.0, artefact_zero_point_fraction=0.0, artefact_saturated_fraction=0.0,
    )  # fmt: skip
    for name, plan in (("common", common), ("rare", rare)):
        survey, cutouts = folder / name, folder / f"{name}.zarr"
        if not (survey / "simulation.json").is_file():
            simulate(str(survey), plan)
        if not (folder / f"{name}.done").is_file():
            run(swimmy("ingest", survey / "cutouts", "--catalog", survey / "catalogue.fits", "--patch-qa",
                       survey / "patch_qa.fits", "--output", cutouts, "--workers", 2))  # fmt: skip
            (folder / f"{name}.done").touch()


def settings(classes: str, sizes: Sizes) -> str:
    """The settings of a training."""
    names = ("epochs", "decay_after_epoch", "keep_from_epoch", "batch_size")
    schedule = ", ".join(f"{name}: {getattr(sizes, name)}" for name in names)
    return (
        "sample: {redshift: [0.05, 0.2], colours: []}\n"
        f"train: {{classes: [{classes}], schedule: {{{schedule}, seed: 1}}, n_runs: {sizes.n_seeds}, "
        f"max_objects: {sizes.n_training}, n_threads: 1}}\n"
    )


def train(folder: Path, sizes: Sizes) -> None:
    """Train by both ways, side by side; what is there is not trained again."""

    def one(name: str) -> None:
        path = folder / f"{name}.yaml"
        path.write_text(settings(TRAININGS[name], sizes))
        run(swimmy("train", folder / "common.zarr", "--output", folder / name, "--settings", path, "--workers", 0))

    with ThreadPoolExecutor(len(TRAININGS)) as pool:
        list(pool.map(one, TRAININGS))


def run(words: list[str]) -> None:
    """Run a command; exit status 3 says that objects are in quarantine, which the survey has on purpose."""
    done = subprocess.run(words, check=False)
    if done.returncode not in (0, 3):
        raise SystemExit(f"{' '.join(words)} ended with {done.returncode}")


def main() -> None:
    """Make, train, score, compare; print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    options = parser.parse_args()
    sizes = Sizes()
    options.folder.mkdir(exist_ok=True)
    make_surveys(options.folder, sizes)
    train(options.folder, sizes)


if __name__ == "__main__":
    main()
