"""Thresholds that a selection takes over from another run (section 3.2), and the copy of them that a run keeps."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from swimmy_scale.errors import SwimmyError, typed
from swimmy_scale.method.ensemble import Rule
from swimmy_scale.method.score_kind import EQUATION_6, ScoreKind
from swimmy_scale.storage.files import parse_checked, read_text, with_checksum, write_json
from swimmy_scale.storage.receipts import FINISHED
from swimmy_scale.storage.run_directory import SelectionFolder

SUMMARY_VERSION = 1
FORMAT_VERSION = 2


@dataclass(frozen=True)
class Carried:
    """Thresholds as ``summary.json`` holds them, and the scores that they cut.

    Attributes
    ----------
    thresholds_from : str
        The file that they come from.
    summary : mapping
        ``summary["thresholds"][level][band]`` is a number.
    n_models, combine, kind
        The number of models that gave the scores, how these became one (None for one model), and what they are.
    model_sha256, scorer
        The models' digests and the scorer that gave the scores; None where the summary does not say.
    levels : mapping of str to float
        The fraction of its own sample that each level selected.
    """

    thresholds_from: str
    summary: Mapping[str, Any]
    n_models: int = 1
    combine: str | None = None
    kind: ScoreKind = EQUATION_6
    model_sha256: Any = None
    scorer: str | None = None
    levels: Mapping[str, float] = field(default_factory=dict)

    def check_model(self, model_sha256: Any, scorer: str | None) -> None:
        """Check that they were made for scores of these models and this scorer.

        Raises
        ------
        SwimmyError
            When they were not: the scores of another model are other numbers, and its thresholds say nothing of them.
        """
        remedy = (
            "Select by this sample's own thresholds (leave thresholds_from out), or give the summary.json of a run "
            "with the same model. If you want it nevertheless, set select.thresholds_of_another_model: true (with "
            "`select`: --thresholds-of-another-model)."
        )
        if model_sha256 != self.model_sha256:
            raise SwimmyError(
                f"{self.thresholds_from}: its thresholds cut scores of the model {_digests(self.model_sha256)}, and "
                f"here they would cut those of {_digests(model_sha256)}. {remedy}"
            )
        if self.scorer is not None and scorer != self.scorer:
            raise SwimmyError(
                f"{self.thresholds_from}: its thresholds cut scores of the {self.scorer} scorer, and here they would "
                f"cut those of the {scorer} scorer, which differ in their last digits. {remedy}"
            )

    def check_levels(self, levels: Mapping[str, float]) -> None:
        """Check that levels of one name stand for one fraction there and here."""
        for name, fraction in levels.items():
            if name in self.levels and self.levels[name] != fraction:
                raise SwimmyError(
                    f"{self.thresholds_from}: its level {name} is the top {self.levels[name]:g} of its sample, and "
                    f"select.levels says {fraction:g}. Give the levels that its thresholds were made for."
                )

    def check(self, n_models: int, combine: Rule, kind: ScoreKind) -> None:
        """Check that they were made for such scores: of this kind, from as many models, combined by the same rule."""
        if kind != self.kind:
            raise SwimmyError(
                f"{self.thresholds_from}: its thresholds cut {self.kind}, and here they would cut {kind}. Give "
                "the summary.json of a run with the same score.kind and score.floor, or leave thresholds_from out."
            )
        here = n_models, combine if n_models > 1 else None
        if here != (self.n_models, self.combine):
            raise SwimmyError(
                f"{self.thresholds_from}: its thresholds cut {_described(self.n_models, self.combine)}, and here they "
                f"would cut {_described(*here)}. Give the summary.json of a run with as many models and the same "
                "select.combine, or leave thresholds_from out."
            )


def scores_made_of(n_models: int, combine: str | None, kind: ScoreKind) -> dict[str, Any]:
    """What scores are made of, for ``summary.json``: nothing for equation 6 and one model."""
    return ({"n_models": n_models, "combine": combine} if n_models > 1 else {}) | kind.described


def _digests(model_sha256: Any) -> str:
    """The beginnings of digests, for people."""
    digests = model_sha256 if isinstance(model_sha256, list) else [model_sha256]
    return ", ".join("(not said)" if one is None else f"{str(one)[:12]}..." for one in digests)


def _described(n_models: int, combine: str | None) -> str:
    return f"the {combine} of {n_models} models" if n_models > 1 else "scores of one model"


def _carried(thresholds_from: str, content: Mapping[str, Any]) -> Carried:
    thresholds = {"thresholds": content.get("thresholds")}
    return Carried(
        thresholds_from,
        thresholds,
        content.get("n_models", 1),
        content.get("combine"),
        ScoreKind.of(content),
        content.get("model_sha256"),
        content.get("scorer"),
        dict(content.get("levels", {})),
    )


def read_carried(path: Path) -> Carried:
    """Thresholds from the ``summary.json`` of another run.

    Raises
    ------
    SwimmyError
        When it cannot be read, is of another format version, holds no thresholds, or lies beside a receipt that says
        that other bytes were written.
    """
    try:
        data = path.read_bytes()
        content = json.loads(data)
    except (OSError, ValueError) as error:
        raise SwimmyError(f"{path}: not a readable summary ({error}). Give another run's summary.json.") from error
    _check_receipt(path, data)
    if not isinstance(content, dict) or content.get("format_version") != SUMMARY_VERSION:
        raise SwimmyError(f"{path}: not a summary.json of format_version {SUMMARY_VERSION}. Select that run again.")
    try:
        return _carried(str(path), content)
    except (KeyError, ValueError, TypeError) as error:
        raise SwimmyError(
            f"{path}: the description of its scores is damaged ({error}). Select that run again."
        ) from error


def _check_receipt(path: Path, data: bytes) -> None:
    """Refuse a summary whose bytes are not those of its selection's receipt: a digit may have become another."""
    folder = SelectionFolder(path.parent)
    done = folder.ledger.read(FINISHED)
    record = done.files.get(path.name) if done is not None else None
    if record is not None and hashlib.sha256(data).hexdigest() != record.sha256:
        raise SwimmyError(
            f"{path}: damaged or edited, for its receipt says other bytes. Run "
            f"`{typed('verify', folder.path, '--repair')}`; thresholds that were edited belong under another name."
        )


def _kept(copy: Path) -> Carried | None:
    try:
        content = parse_checked(read_text(copy), FORMAT_VERSION)
        return _carried(content["thresholds_from"], content)
    except (OSError, ValueError, KeyError, TypeError):
        return None


def carried_thresholds(original: Path, copy: Path) -> Carried:
    """Thresholds from the run's own copy, or from the other run's summary if there is none; writes nothing."""
    return _kept(copy) or read_carried(original)


def keep_carried(original: Path, copy: Path) -> Carried:
    """Thresholds from the run's own copy; if there is none or it is damaged, it is made from the other run's summary.

    So a run is finished and repaired from its own directory, even if the other run changes or goes away.
    """
    kept = _kept(copy)
    if kept is not None:
        return kept
    carried = read_carried(original)
    content = {
        "format_version": FORMAT_VERSION,
        "thresholds_from": carried.thresholds_from,
        **scores_made_of(carried.n_models, carried.combine, carried.kind),
        "model_sha256": carried.model_sha256,
        "scorer": carried.scorer,
        "levels": carried.levels,
        **carried.summary,
    }
    write_json(copy, with_checksum(content))
    return carried
