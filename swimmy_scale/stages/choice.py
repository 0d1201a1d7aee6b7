"""Which weight sets score: the best of all that training kept, as ``selected.keras`` and in ``manifest.json``."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from swimmy_scale.errors import SwimmyError
from swimmy_scale.method.network import Network
from swimmy_scale.method.sections import ScoreSection
from swimmy_scale.method.weight_sets import Judgement, WeightSet, first_of_one_network
from swimmy_scale.storage.files import digest_file, read_bytes, read_text, write_atomically, write_json
from swimmy_scale.storage.receipts import Receipt
from swimmy_scale.storage.run_directory import ModelsFolder
from swimmy_scale.storage.weight_set_table import weight_set_table, write_table

MANIFEST_VERSION = 1


def kept_weight_sets(models: ModelsFolder, receipts: Iterable[Receipt], networks: Sequence[Network]) -> list[WeightSet]:
    """Every weight set that trainings kept, in order of training and epoch, given their receipts and networks."""
    return [
        WeightSet(
            run=training,
            epoch=int(epoch["epoch"]),
            file=f"{models.training(training).name}/{epoch['file']}",
            sha256=epoch["sha256"],
            loss=float(epoch["loss"]),
            val_loss=float(epoch["val_loss"]),
            network=networks[training],
        )
        for training, receipt in ((int(receipt.name), receipt) for receipt in receipts)
        for epoch in receipt.details["epochs"]
        if epoch["file"]
    ]


@dataclass(frozen=True)
class Choice:
    """How many weight sets score, and where their files go; with ``is_grid`` several networks were trained."""

    models: ModelsFolder
    score: ScoreSection
    is_grid: bool

    def write(
        self, weight_sets: Sequence[WeightSet], order: Sequence[int], rule: Mapping[str, Any]
    ) -> tuple[list[Path], dict[str, Any]]:
        """Copy the best weights to ``selected.keras``; write the manifest.

        Parameters
        ----------
        order : sequence of int
            Positions in ``weight_sets``, best first.
        rule : mapping
            ``rule`` in words, and the values by which the best one is the best.

        Returns
        -------
        list of Path
            The files written.
        dict
            ``selected`` and ``model_sha256``; ``ensemble`` if several score, ``network`` if there is a grid.

        Raises
        ------
        SwimmyError
            When fewer weight sets were kept than are to score.
        """
        n_models, one_a_run, folder = self.score.n_models, self.score.one_a_run, self.models.path
        first = first_of_one_network(weight_sets, order, n_models, one_a_run) if order else []
        chosen = [weight_sets[k] for k in first]
        if len(chosen) < n_models:
            kept = "weight sets of different runs" if one_a_run else "weight sets"
            more_epochs = "" if one_a_run else "lower train.schedule.keep_from_epoch, or "
            raise SwimmyError(
                f"{folder}: {len(chosen)} {kept} were kept, and score.n_models asks for {n_models}. "
                f"Lower score.n_models, or {more_epochs}raise train.n_runs."
            )
        best, selected = chosen[0], self.models.selected
        write_atomically(selected, read_bytes(folder / best.file))
        sha256 = digest_file(selected)
        choice = {"run": best.run, "epoch": best.epoch, "val_loss": best.val_loss, **rule}
        ensemble = {"ensemble": [_listed(item) for item in chosen]} if n_models > 1 else {}
        networks = {self.models.training(item.run).name: asdict(item.network) for item in weight_sets}
        manifest = {
            "format_version": MANIFEST_VERSION,
            "network": asdict(best.network),
            "selected": {**choice, "sha256": sha256},
            **ensemble,
            **({"networks": networks} if self.is_grid else {}),
            "files": {selected.name: sha256, **{item.file: item.sha256 for item in weight_sets}},
        }
        write_json(self.models.manifest, manifest)
        network = {"network": asdict(best.network)} if self.is_grid else {}
        details = {"selected": choice, "model_sha256": sha256, **ensemble, **network}
        return [selected, self.models.manifest], details

    def write_table(
        self,
        weight_sets: Sequence[WeightSet],
        judgements: Sequence[Judgement],
        known_classes: Sequence[str],
        meta: Mapping[str, Any],
    ) -> Path:
        """Write ``weight_sets.ecsv`` (see `weight_set_table`)."""
        path, score = self.models.table, self.score
        table = weight_set_table(weight_sets, judgements, known_classes, score.n_models, meta, score.one_a_run)
        write_table(path, table)
        return path


def _listed(weight_set: WeightSet) -> dict[str, Any]:
    return {name: getattr(weight_set, name) for name in ("file", "sha256", "run", "epoch", "val_loss")}


def trusted(model: Path, sha256: str | None, option: str, otherwise: Callable[[], Network]) -> tuple[Network, str]:
    """Network and digest of a weight file: as recorded (see `recorded`), but a given digest counts in its place.

    Where nothing is recorded and the digest is given, the network is that of ``otherwise``.

    Raises
    ------
    SwimmyError
        When nothing is recorded and no digest is given; ``option`` says how to.
    """
    known = recorded(model)
    if known is not None:
        return known[0], sha256 or known[1]
    if sha256 is None:
        raise SwimmyError(
            f"{model}: no manifest.json beside it records this file, and a model file is trusted by its digest alone. "
            f"Give {option} if you trust it."
        )
    return otherwise(), sha256


def recorded(model: Path) -> tuple[Network, str] | None:
    """Network and digest of a weight file, from the ``manifest.json`` of its training; None if none records it.

    The manifest lies in the folder of the file or in the one above.
    """
    for folder in ModelsFolder.holding(model):
        try:
            manifest = json.loads(read_text(folder.manifest))
            if manifest["format_version"] != MANIFEST_VERSION:
                continue
            sha256: str = manifest["files"][model.relative_to(folder.path).as_posix()]
            # With a grid the network is that of the file's training; ``selected.keras`` is of the chosen one.
            network = manifest.get("networks", {}).get(model.parent.name, manifest["network"])
            return Network.from_json(network), sha256
        except (OSError, ValueError, KeyError, TypeError):
            continue
    return None
