"""``scores.zarr``: score and residual of every object. It is scoring's alone, and never changes after its end."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import zarr

from swimmy_scale.errors import SwimmyError
from swimmy_scale.method.descriptor import DESCRIPTOR, DESCRIPTOR_VERSION, feature_names
from swimmy_scale.method.score_kind import EQUATION_6, ScoreKind
from swimmy_scale.method.survey import AnyArray, Survey
from swimmy_scale.storage.cutouts import CLASS_VARIABLE, CODE_VARIABLE, OBJECT_VARIABLES, survey_from_attrs
from swimmy_scale.storage.layout import Layout, Variable
from swimmy_scale.storage.store import n_rows, open_group, read_rows

FORMAT_VERSION = 1
# Rows that are read or written at once, so that memory does not grow with the survey.
BLOCK_OBJECTS = 1 << 18
RESIDUAL = "source minus reconstruction, summed over the aperture"


def scores_layout(
    n_objects: int,
    survey_attrs: Mapping[str, Any],
    survey: Survey,
    kept: Mapping[str, str],
    partition_objects: int,
    chunk_objects: int,
    notes: Mapping[str, Any],
    models: tuple[str, ...] = (),
    kind: ScoreKind = EQUATION_6,
    descriptors: bool = False,
) -> Layout:
    """Layout of ``scores.zarr``; partitions are those of ``cutouts.zarr``, and ``notes`` are more attributes.

    If there are several ``models``, ``score`` and ``residual`` have a dimension ``model`` with their names. With
    ``descriptors`` there is a variable ``descriptor`` (object, feature), see `method.descriptor`.
    """
    by_band = ("object", "model", "band") if models else ("object", "band")
    names = feature_names(survey) if descriptors else ()
    described = {"units": "1", "long_name": DESCRIPTOR, "version": DESCRIPTOR_VERSION}
    return Layout(
        n_objects=n_objects,
        partition_objects=partition_objects,
        chunk_objects=chunk_objects,
        sizes={
            "band": survey.n_bands,
            **({"model": len(models)} if models else {}),
            **({"feature": len(names)} if names else {}),
        },
        variables=(
            Variable("score", by_band, "float32", {"units": "1", "long_name": kind.long_name}),
            Variable("residual", by_band, "float32", {"units": "1", "long_name": RESIDUAL}),
            *([Variable("descriptor", ("object", "feature"), "float16", described)] if names else []),
            *OBJECT_VARIABLES,
            CLASS_VARIABLE,
            CODE_VARIABLE,
            *(Variable(name, ("object",), dtype, {"long_name": "from the catalogue"}) for name, dtype in kept.items()),
        ),
        labels={
            "band": survey.bands,
            **({"model": models} if models else {}),
            **({"feature": names} if names else {}),
        },
        attrs={
            "format_version": FORMAT_VERSION,
            "title": "anomaly scores",
            "survey": survey_attrs,
            "kept_columns": dict(kept),
        },
        notes=notes,
    )


class Scores:
    """An existing ``scores.zarr``, opened for reading.

    Parameters
    ----------
    add : callable, optional
        Told of the rows of each block of `blocks` once the caller asks for the next one.

    Attributes
    ----------
    path : Path
    survey : Survey
    n_objects, n_models : int
    partition_objects : int
        Rows of a partition.
    kept : dict of str to str
        Catalogue columns that travel along, with their types.
    kind : ScoreKind
        What the score is.
    has_descriptors : bool
        Whether there is a variable ``descriptor``.
    """

    def __init__(self, path: Path, add: Callable[[int], None] = lambda n_rows: None) -> None:
        self.path = path
        self._add = add
        self.group: zarr.Group = open_group(path, FORMAT_VERSION)
        self.attrs: dict[str, Any] = dict(self.group.attrs)
        self.survey = survey_from_attrs(self.attrs, path)
        try:
            self.partition_objects = int(self.attrs["partition_objects"])
            self.kept: dict[str, str] = dict(self.attrs["kept_columns"])
            self.kind = ScoreKind.of(self.attrs)
        except (KeyError, ValueError, TypeError) as error:
            raise SwimmyError(f"{path}: its attributes are damaged ({error}). Score again.") from error
        self.n_objects = n_rows(self.group, "score")
        self.has_descriptors = "descriptor" in self.group
        if self.has_descriptors and (version := self.group["descriptor"].attrs.get("version")) != DESCRIPTOR_VERSION:
            raise SwimmyError(
                f"{path}: its descriptor has version {version}, this program reads {DESCRIPTOR_VERSION}. Use the "
                "program that wrote it, or score again."
            )
        shape: tuple[int, ...] = self.group["score"].shape  # type: ignore[union-attr]
        self.n_models = shape[1] if len(shape) == 3 else 1

    def read(self, name: str, lo: int = 0, hi: int | None = None) -> AnyArray:
        """Rows of one variable, all of them by default (see `store.read_rows`)."""
        return read_rows(self.group, name, lo, hi)

    def blocks(self, *names: str, block_objects: int | None = None) -> Iterator[tuple[int, tuple[AnyArray, ...]]]:
        """The named variables block by block, by default of ``BLOCK_OBJECTS`` rows: (first row, arrays)."""
        return read_blocks(self.read, names, self.n_objects, block_objects or BLOCK_OBJECTS, self._add)


def read_blocks(
    read: Callable[[str, int, int], AnyArray],
    names: Sequence[str],
    n_objects: int,
    block_objects: int,
    add: Callable[[int], None],
) -> Iterator[tuple[int, tuple[AnyArray, ...]]]:
    """What ``read`` gives of the named variables, block by block: (first row, arrays).

    ``add`` is told of the rows of each block once the caller asks for the next one.
    """
    for lo in range(0, n_objects, block_objects):
        hi = min(lo + block_objects, n_objects)
        yield lo, tuple(read(name, lo, hi) for name in names)
        add(hi - lo)
