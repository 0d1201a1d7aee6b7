"""A survey of any size straight into ``cutouts.zarr``: galaxies of a bank, each with fresh noise, turn and seeing.

Drawing a galaxy from its profiles takes milliseconds, so a small simulated survey is drawn once without noise. Every
object of the large survey is then one of its galaxies, turned or mirrored, blurred a little more and given noise of its
own: no two objects are alike, and pixels compress as badly as real ones. Stores are written by the program's own commit
protocol, so the survey can be scored, verified and resumed like one that came from files.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from swimmy_scale.method.preprocess import SIGMA_PER_FWHM, smoothing_matrix
from swimmy_scale.method.sections import CatalogueSource, IngestSection, StorageSection
from swimmy_scale.method.survey import HSC
from swimmy_scale.simulate import SimulationPlan
from swimmy_scale.simulate.galaxies import draw_objects
from swimmy_scale.simulate.images import draw_noiseless, variance
from swimmy_scale.simulate.sky import patch_conditions
from swimmy_scale.stages.engine import Task, Tasks
from swimmy_scale.stages.ingest import IngestStage
from swimmy_scale.storage.creation import create
from swimmy_scale.storage.cutouts import Cutouts, cutouts_layout
from swimmy_scale.storage.files import digest_file, digest_json, driver_lock, write_json
from swimmy_scale.storage.layout import Layout
from swimmy_scale.storage.receipts import Receipt
from swimmy_scale.storage.run_directory import ledger_beside
from swimmy_scale.storage.store import digest_columns, write_partition

COLUMNS = ("fwhm_arcsec", "mag", "psf_mag", "depth_mag", "flags", "redshift", "sample_class", "quarantine_code")
BLUR = 0.15  # at most so much of the seeing is added in quadrature


def make_bank(folder: Path, n_objects: int, seed: int = 1) -> None:
    """``survey/`` as an archive delivers it, ``bank.zarr`` ingested from it, and its galaxies without noise."""
    folder.mkdir(parents=True, exist_ok=True)
    survey, swimmy = folder / "survey", [sys.executable, "-m", "swimmy_scale"]
    settings = folder / "bank.yaml"
    settings.write_text("storage: {partition_objects: 512, chunk_objects: 256}\n")
    for words in (
        ["simulate", survey, "--n-objects", n_objects, "--seed", seed, "--faulty-fraction", 0],
        ["ingest", survey / "cutouts", "--catalog", survey / "catalogue.fits", "--patch-qa", survey / "patch_qa.fits",
         "--output", folder / "bank.zarr", "--settings", settings],
    ):  # fmt: skip
        subprocess.run([*swimmy, *(str(word) for word in words)], check=True, capture_output=True)
    plan = SimulationPlan(n_objects=n_objects, seed=seed, faulty_fraction=0.0)
    np.savez(folder / "bank.npz", **_noiseless(plan))


def _noiseless(plan: SimulationPlan) -> dict[str, Any]:
    """Galaxies (object, band, y, x) in counts and the variance of their noise, in the order of the catalogue."""
    size = HSC.cutout_size_px
    light = np.empty((plan.n_objects, HSC.n_bands, size, size), np.float32)
    noise = np.empty_like(light)
    for part in range(plan.n_parts):
        objects, neighbours = draw_objects(plan, part)
        for index, row in enumerate(objects.row.tolist()):
            patch = patch_conditions(plan, int(objects.tract[index]), int(objects.patch_index[index]))
            canvas = draw_noiseless(plan, patch, objects, index, neighbours)
            light[row] = canvas.image[:, 1:-1, 1:-1]
            noise[row] = variance(plan, patch, light[row])
    return {"light": light, "noise": noise}


@dataclass(frozen=True)
class BankTask(Task):
    """One partition of the large survey."""

    cutouts: Path
    layout: Layout
    bank: Path
    seed: int


def write_bank_partition(task: BankTask) -> Receipt:
    """Draw one partition, write it, commit its receipt. The same task gives the same bytes."""
    rows = task.layout.rows(task.index)
    rng = np.random.default_rng([task.seed, task.index])
    bank, store = _bank(task.bank), Cutouts(task.bank / "bank.zarr")
    pick = rng.integers(0, store.n_objects, len(rows))
    columns = {name: store.read(name, 0, store.n_objects)[pick] for name in COLUMNS}
    blur = rng.uniform(0.0, BLUR, len(rows)).astype(np.float32)
    fwhm = columns["fwhm_arcsec"]
    # Gaussian seeing adds in quadrature; what would exceed the target stays as it is.
    wider = np.where(fwhm * np.hypot(1, blur[:, None]) <= HSC.target_fwhm_arcsec, blur[:, None], 0.0)
    sigma = fwhm * wider * (SIGMA_PER_FWHM / HSC.pixel_scale_arcsec)
    columns["fwhm_arcsec"] = (fwhm * np.hypot(1, wider)).astype(np.float32)
    image = np.empty((len(rows), *bank["light"].shape[1:]), np.float32)
    for k, turn in enumerate(rng.integers(0, 8, len(rows)).tolist()):
        matrix = smoothing_matrix(sigma[k], image.shape[-1])
        light = np.matmul(np.matmul(matrix, bank["light"][pick[k]]), matrix.transpose(0, 2, 1))
        light += rng.standard_normal(light.shape, np.float32) * np.sqrt(bank["noise"][pick[k]])
        image[k] = np.rot90(light if turn < 4 else light[..., ::-1], turn, (1, 2))
    object_id = np.arange(rows.start, rows.stop, dtype=np.int64) + 1
    values = {
        "image": image,
        "object_id": object_id,
        "ra": rng.uniform(30.0, 39.0, len(rows)),
        "dec": rng.uniform(-7.0, -1.0, len(rows)),
        **columns,
    }
    files = write_partition(task.cutouts, task.layout, task.index, values)
    details = {"n_ingested": len(rows), "n_quarantined": 0, "warnings": {}, "quarantined": []}
    return task.commit(files, digest_columns(values), details, object_id)


_loaded: dict[Path, dict[str, Any]] = {}


def _bank(folder: Path) -> dict[str, Any]:
    """The bank of this process."""
    if folder not in _loaded:
        with np.load(folder / "bank.npz") as content:
            _loaded[folder] = dict(content)
    return _loaded[folder]


@dataclass(frozen=True)
class BankStage(IngestStage):
    """The large survey in place of an ingest from files."""

    bank: Path = Path()
    n_objects: int = 0
    seed: int = 1

    perform = staticmethod(write_bank_partition)  # type: ignore[assignment]
    probe = None  # type: ignore[assignment]  # nothing in it ends workers

    @property
    def identity(self) -> str:
        """Digest of the bank and what is made of it."""
        store = self.storage.model_dump(mode="json")
        return digest_json(["bank", digest_file(self.bank / "bank.npz"), self.n_objects, self.seed, store])

    def plan(self) -> Sequence[BankTask]:  # type: ignore[override]
        """One task a partition."""
        attrs = Cutouts(self.bank / "bank.zarr").attrs
        more = {"simulated": True, "available_columns": attrs["available_columns"]}
        storage, identity = self.storage, self.identity
        layout = cutouts_layout(self.n_objects, HSC, {}, storage.partition_objects, storage.chunk_objects, more)
        create(self.cutouts, layout)
        write_json(self._notes, {"warnings": [], "n_unmatched": 0, "unmatched": []})

        def task(index: int) -> BankTask:
            of_task = digest_json([identity, index])
            rows = layout.rows(index)
            return BankTask(
                self.ledger, index, of_task, len(rows), self.cutouts, layout, bank=self.bank, seed=self.seed
            )

        return Tasks(range(layout.n_partitions), task)


def bank_stage(bank: Path, cutouts: Path, n_objects: int, storage: StorageSection | None = None) -> BankStage:
    """The stage that makes ``cutouts`` from a bank."""
    return BankStage(
        ledger=ledger_beside(cutouts, "ingest"),
        cutouts=cutouts,
        survey=HSC,
        catalogue=CatalogueSource(bank / "survey" / "catalogue.fits"),
        sources=IngestSection(sources=(bank,)),
        storage=storage or StorageSection(),
        bank=bank,
        n_objects=n_objects,
    )


def make_survey(
    bank: Path, cutouts: Path, n_objects: int, n_workers: int, storage: StorageSection | None = None
) -> None:
    """Make ``cutouts``, resuming where an earlier call stopped."""
    from swimmy_scale.cli.progress import Watch
    from swimmy_scale.cluster.executors import LocalExecutor
    from swimmy_scale.stages.engine import run_stage

    stage = bank_stage(bank, cutouts, n_objects, storage)
    with driver_lock(stage.ledger.folder, cutouts), Watch() as watch:
        run_stage(stage, LocalExecutor(n_workers), watch)


if __name__ == "__main__":  # one survey, as other benchmarks start it
    where, to, number, workers = sys.argv[1:]
    if not (Path(where) / "bank.npz").exists():
        make_bank(Path(where), 2048)
    # Workers know the module by its name, not as the program that was started.
    import bank

    bank.make_survey(Path(where), Path(to), int(number), int(workers))
