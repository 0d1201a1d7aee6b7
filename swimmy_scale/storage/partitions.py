"""The partitions of a ``cutouts.zarr``, by the receipts of its ingest: their digests, and waiting for other nodes."""

from __future__ import annotations

from pathlib import Path

from swimmy_scale.errors import SwimmyError
from swimmy_scale.storage.arrivals import once_there, several_nodes, wait_until
from swimmy_scale.storage.cutouts import Cutouts
from swimmy_scale.storage.files import ListDigest
from swimmy_scale.storage.kept_rows import spans_in
from swimmy_scale.storage.receipts import FINISHED, Receipt, task_name
from swimmy_scale.storage.run_directory import cutouts_ledger


def await_cutouts(cutouts: Path) -> None:
    """Wait for all that other nodes have written of a store (see `arrivals`)."""
    if several_nodes():
        wait_until(lambda: cutouts_ledger(cutouts).path(FINISHED).exists(), [cutouts.parent])
        cutouts_ledger(cutouts).await_all()


def await_partition(cutouts: Path, partition: int, data_digest: str, n_objects: int) -> None:
    """Wait for what other nodes have written of a store: a partition, and metadata of ``n_objects`` in all.

    Raises
    ------
    SwimmyError
        When it does not come in time, or is not of these data.
    """
    if not several_nodes():
        return
    wait_until(lambda: cutouts_ledger(cutouts).path(FINISHED).exists(), [cutouts.parent])
    ledger = cutouts_ledger(cutouts)
    ledger.awaited(FINISHED)
    wait_until(lambda: once_there(lambda: Cutouts(cutouts)).n_objects >= n_objects)
    receipt = ledger.awaited(task_name(partition), lambda receipt: receipt.data_digest == data_digest)
    if receipt is None or receipt.data_digest != data_digest:
        raise SwimmyError(
            f"{ledger.path(task_name(partition))}: this node sees no receipt of the data that were planned with. Check "
            "the file system, then run the same command again."
        )


def partition_digest(cutouts: Path, index: int) -> str:
    """Digest of a partition's values, from the receipt of its ingest.

    Raises
    ------
    SwimmyError
        When the partition has no receipt, and nothing vouches for its pixels.
    """
    return _partition_receipt(cutouts, index).data_digest


def _partition_receipt(cutouts: Path, index: int) -> Receipt:
    ledger = cutouts_ledger(cutouts)
    receipt = ledger.read(task_name(index))
    if receipt is None:
        raise SwimmyError(
            f"{cutouts}: partition {index} has no readable receipt in {ledger.folder}. "
            "Its ingest did not finish or was not copied along: ingest again, it resumes."
        )
    return receipt


def digest_without_additions(cutouts: Path) -> str:
    """`store_digest` as if nothing had been added to the store, the same before and after (see `Cutouts`)."""
    digest = ListDigest()
    for index, (lo, hi) in enumerate(Cutouts.without_additions(cutouts).partitions()):
        receipt = _partition_receipt(cutouts, index)
        # Only the last of its partitions may hold added rows as well.
        digest.add(receipt.data_digest if receipt.n_objects == hi - lo else spans_in(receipt)[0]["data_digest"])
    return digest.hexdigest()


def store_digest(cutouts: Path) -> str:
    """Digest over all partitions of a store."""
    digest = ListDigest()
    for index, _ in enumerate(Cutouts(cutouts).partitions()):
        digest.add(partition_digest(cutouts, index))
    return digest.hexdigest()
