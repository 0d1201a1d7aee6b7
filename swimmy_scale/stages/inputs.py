"""What stages read from ``cutouts.zarr``: identities of partitions, and the columns that cuts look at."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from swimmy_scale.cutouts import Cutouts
from swimmy_scale.errors import SwimmyError
from swimmy_scale.job import NetworkSection
from swimmy_scale.network import Network
from swimmy_scale.receipts import Ledger, ListDigest, task_name
from swimmy_scale.sample import CutCount, Cuts, SampleColumns, apply_cuts, depth_percentile

# What a run directory calls the store that it makes.
CUTOUTS_NAME = "cutouts.zarr"


def ledger_beside(output: Path, stage: str) -> Ledger:
    """Receipts of a stage that was run alone: ``NAME.receipts`` beside its output ``NAME``."""
    return Ledger(output.parent / f"{output.name}.receipts", output.parent, stage)


def cutouts_ledger(cutouts: Path) -> Ledger:
    """The receipts of the ingest that made a store: beside it, or in the run directory that it belongs to."""
    beside = ledger_beside(cutouts, "ingest")
    run = cutouts.parent / "receipts"
    if cutouts.name == CUTOUTS_NAME and (run / "ingest").is_dir() and not beside.folder.is_dir():
        return Ledger(run, cutouts.parent, "ingest")
    return beside


def partition_digest(cutouts: Path, index: int) -> str:
    """Digest of a partition's values, from the receipt of its ingest.

    Raises
    ------
    SwimmyError
        When the partition has no receipt, so that nothing vouches for its pixels.
    """
    ledger = cutouts_ledger(cutouts)
    receipt = ledger.read(task_name(index))
    if receipt is None:
        raise SwimmyError(
            f"{cutouts}: partition {index} has no readable receipt in {ledger.folder}. "
            "Its ingest did not finish or was not copied along: ingest again, it resumes."
        )
    return receipt.data_digest


def store_digest(cutouts: Path) -> str:
    """Digest over all partitions of a store."""
    n_partitions = -(-(store := Cutouts(cutouts)).n_objects // store.partition_objects)
    digest = ListDigest()
    for index in range(n_partitions):
        digest.add(partition_digest(cutouts, index))
    return digest.hexdigest()


def network_for(cutouts: Path, section: NetworkSection) -> Network:
    """The network for a store's bands and cutout size."""
    survey = Cutouts(cutouts).survey
    return Network(n_bands=survey.n_bands, cutout_size_px=survey.cutout_size_px, **section.model_dump())


@dataclass(frozen=True)
class SampleRule:
    """What decides which objects are in the sample, for every partition alike.

    Attributes
    ----------
    cuts : Cuts
    available : tuple of str
        Columns that the catalogue has, as `sample.column_names` names them.
    min_depth_mag : tuple of float, optional
        Depth limits, one a band, in place of the survey's.
    """

    cuts: Cuts
    available: tuple[str, ...]
    min_depth_mag: tuple[float, ...] | None = None

    @classmethod
    def of(cls, store: Cutouts, cuts: Cuts) -> SampleRule:
        """The rule for a store; reads all depths where the limits are a percentile of them.

        Patches are told apart by their depths, so each counts once however many objects it holds.
        """
        available = store.attrs["available_columns"]
        limits = None
        if cuts.depth_percentile is not None:
            patches = np.zeros((0, store.survey.n_bands), np.float32)
            for lo in range(0, store.n_objects, store.partition_objects):
                depth = store.read("depth_mag", lo, min(lo + store.partition_objects, store.n_objects))
                known = depth[np.isfinite(depth).all(axis=1)]
                patches = np.unique(np.concatenate([patches, known]), axis=0)
            limits = tuple(depth_percentile(patches, cuts.depth_percentile).tolist())
        return cls(cuts, tuple(str(name) for name in available), limits)

    def apply(
        self, store: Cutouts, lo: int, hi: int, usable: npt.NDArray[np.bool_]
    ) -> tuple[npt.NDArray[np.bool_], list[CutCount]]:
        """Which of rows ``lo`` to ``hi`` are in the sample (see `sample.apply_cuts`)."""
        names = ("mag", "psf_mag", "fwhm_arcsec", "depth_mag", "flags", "redshift")
        columns = SampleColumns(usable=usable, **{name: store.read(name, lo, hi) for name in names})
        return apply_cuts(columns, self.cuts, store.survey, self.available, self.min_depth_mag)
